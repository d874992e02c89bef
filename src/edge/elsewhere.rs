//! Mainstay's own doors while another process has the data folder.
//!
//! A process that has handed the data folder over goes on carrying the connections it has. Requests on them that are for a
//! door (`console.<domain>`, `s3.<domain>`) it passes on to the process that took over, over a Unix socket in the data folder
//! ([`ask`]); while that one still starts, they wait in the socket's queue. What arrives there ([`Arrivals`]) also says who
//! the client is, in two headers that only this socket's few users can set: its folder is the server's own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, RETRY_AFTER, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::doors::Door;
use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::http::connection::plain;
use crate::http::handler::Answer;
use crate::http::{Body, Handler, Peer};

/// Longest wait for the head of an answer: the other process may be reading a large journal.
const PATIENCE: Duration = Duration::from_mins(10);

/// Which door is meant.
const DOOR: HeaderName = HeaderName::from_static("x-mainstay-door");
/// Who asks: `https` or `http`, a space, and the address.
const CLIENT: HeaderName = HeaderName::from_static("x-mainstay-client");

/// What concerns one connection only (RFC 9110 section 7.6.1); each of the two has its own.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The answer of the process at `path` to `request`, which is for the door `peer` names. Its connection is a task of
/// `supervisor`.
///
/// # Cancel safety
/// Dropping it ends the connection to the other process.
pub async fn ask(path: &Path, request: Request<Body>, peer: Peer, supervisor: &Supervisor) -> Response<Body> {
    match timeout(PATIENCE, asked(path, request, peer, supervisor)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::warn!(%error, door = peer.door, "the process that took over does not answer");
            unavailable()
        }
        Err(_) => unavailable(),
    }
}

async fn asked(
    path: &Path,
    request: Request<Body>,
    peer: Peer,
    supervisor: &Supervisor,
) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(path).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    supervisor.task("edge door elsewhere", Role::Ordinary, async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the process that took over ended early");
        }
    });
    let (mut parts, body) = sender.send_request(question(request, peer)?).await?.into_parts();
    strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// `request` as it is sent: its head as the client wrote it, but for what concerns the connection.
fn question(request: Request<Body>, peer: Peer) -> Result<Request<Body>, http::Error> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    if !parts.headers.contains_key(HOST)
        && let Some(authority) = parts.uri.authority()
    {
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    let scheme = if peer.secure { "https" } else { "http" };
    parts.headers.insert(CLIENT, HeaderValue::from_str(&format!("{scheme} {}", peer.address))?);
    parts.headers.insert(DOOR, HeaderValue::from_static(peer.door));
    let mut target = http::uri::Parts::default();
    target.path_and_query = parts.uri.path_and_query().cloned();
    let mut out = Request::new(body);
    *out.method_mut() = parts.method;
    *out.uri_mut() = Uri::from_parts(target)?;
    *out.headers_mut() = parts.headers;
    Ok(out)
}

fn strip(headers: &mut HeaderMap) {
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
}

fn unavailable() -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "the server is being upgraded; try again\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

/// Answers what a process before passes on.
#[derive(Debug)]
pub struct Arrivals(Vec<Door>);

impl Arrivals {
    /// For `doors`.
    pub fn new(doors: Vec<Door>) -> Arc<Self> {
        Arc::new(Self(doors))
    }

    /// Which door `headers` mean, and who asks. Takes what says so out of them.
    fn told(&self, headers: &mut HeaderMap) -> Option<(&Door, Peer)> {
        let (door, client) = (headers.remove(DOOR)?, headers.remove(CLIENT)?);
        let door = self.0.iter().find(|known| door == known.label)?;
        let (scheme, address) = client.to_str().ok()?.split_once(' ')?;
        let address: SocketAddr = address.parse().ok()?;
        Some((door, Peer { address, secure: scheme == "https", door: door.label }))
    }
}

impl Handler for Arrivals {
    fn call(&self, mut request: Request<Body>, _peer: Peer) -> Answer<'_> {
        let told = self.told(request.headers_mut());
        Box::pin(async move {
            match told {
                Some((door, peer)) => {
                    // A router's handlers find the client among the extensions, where the connection's own peer stands.
                    request.extensions_mut().insert(peer);
                    door.handler.call(request, peer).await
                }
                None => plain(StatusCode::BAD_REQUEST, "this socket is for a server that is being replaced\n"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::base::Shutdown;
    use crate::edge::OnPlainHttp;
    use crate::http::{ServeConfig, Server, body};
    use crate::telemetry::Metrics;

    struct Echo;

    impl Handler for Echo {
        fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_> {
            Box::pin(async move {
                let host = request.headers().get(HOST).cloned();
                let head = format!("{} {} {} {host:?} ", peer.door, peer.secure, peer.address);
                let told = request.headers().contains_key(CLIENT);
                let place = request.uri().to_string();
                let sent = body::read(request.into_body(), 99).await.unwrap();
                Response::new(Body::from(format!("{head}{place} {told} {}", String::from_utf8_lossy(&sent))))
            })
        }
    }

    #[tokio::test]
    async fn a_request_waits_for_the_other_process_and_arrives_with_its_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let supervisor = Supervisor::new(Shutdown::new());
        let peer = Peer { address: "192.0.2.1:5".parse().unwrap(), secure: true, door: "s3" };
        let request = Request::put("https://b.s3.example.com/a%2fb?c")
            .header(CLIENT, "http 203.0.113.9:1")
            .header(CONNECTION, "keep-alive")
            .body(Body::from("bytes"))
            .unwrap();
        let answering = async {
            let door = Door { label: "s3", below: true, plain: OnPlainHttp::Serve, handler: Arc::new(Echo) };
            let (handler, metrics) = (Arrivals::new(vec![door]), Metrics::new());
            let server = Server::new(handler, ServeConfig::default(), supervisor.clone(), &metrics, "predecessor");
            let (stream, _) = listener.accept().await.unwrap();
            server.connection(stream, Peer { door: "predecessor", ..peer }, ()).await;
        };
        let asking = async {
            let response = ask(&path, request, peer, &supervisor).await;
            assert_eq!(response.status(), StatusCode::OK);
            body::read(response.into_body(), 999).await.unwrap()
        };
        let ((), answer) = tokio::join!(answering, asking);
        assert_eq!(answer, "s3 true 192.0.2.1:5 Some(\"b.s3.example.com\") /a%2fb?c false bytes");
    }

    #[tokio::test]
    async fn without_another_process_the_client_is_told_to_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new(Shutdown::new());
        let peer = Peer { address: "192.0.2.1:5".parse().unwrap(), secure: false, door: "console" };
        let request = Request::get("/").body(Body::empty()).unwrap();
        let response = ask(&folder.path().join("nobody.sock"), request, peer, &supervisor).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(RETRY_AFTER));
    }
}
