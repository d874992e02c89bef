//! New connections to apps: TCP or a Unix socket, TLS around it where the address says so, HTTP/1.1 or HTTP/2 on top.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::{Either, poll_fn};
use http::header::{HOST, TE};
use http::uri::{Parts, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::body::RequestBody;
use super::line::Line;
use super::peer::Peer;
use super::pool::Failure;
use super::upstream::Place;
use crate::base::Supervisor;
use crate::base::supervise::Role;

/// Largest response head taken from an app.
const MAX_RESPONSE_HEAD: usize = 256 << 10;
/// Most header lines in an app's response.
const MAX_RESPONSE_HEADERS: usize = 200;
/// What an app may send on one HTTP/2 stream before it was passed on.
const STREAM_WINDOW: u32 = 1 << 20;
/// And on all of one connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How often an HTTP/2 connection with streams on it is asked whether it lives.
const PING: Duration = Duration::from_secs(20);
/// Longest wait for the answer to that.
const PONG: Duration = Duration::from_secs(10);

/// A connection to send requests on.
#[derive(Debug)]
pub enum Sender {
    /// HTTP/1.1: one request after the other.
    One(Line),
    /// HTTP/2: many at once, moved on by a task. Clones are the same connection.
    Many(http2::SendRequest<RequestBody>),
}

impl Sender {
    /// Hands over `request`, in the form its version of HTTP wants. What comes of it is to be polled by [`Self::poll`].
    ///
    /// # Errors
    /// hyper's, with the request when none of it was sent.
    pub fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        match self {
            Self::One(line) => {
                shape_for_one(&mut request);
                Either::Left(line.send(request))
            }
            Self::Many(sender) => {
                shape_for_many(&mut request);
                Either::Right(sender.try_send_request(request))
            }
        }
    }

    /// Moves the connection on as far as that is ours to do, then polls `wanted`, which waits for what comes from it.
    pub fn poll<T>(&mut self, context: &mut Context<'_>, wanted: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        match self {
            Self::One(line) => line.poll(context, wanted),
            Self::Many(_) => wanted(context),
        }
    }

    /// As [`Self::poll`], for what may have come already.
    pub fn poll_next<T>(
        &mut self,
        context: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::One(line) => line.poll_next(context, wanted),
            Self::Many(_) => wanted(context),
        }
    }

    /// The waker for what else is waited for together with the connection; `None` for the task's own.
    pub fn waker(&self) -> Option<&Waker> {
        match self {
            Self::One(line) => line.waker(),
            Self::Many(_) => None,
        }
    }

    /// Sends `request` and waits for the response's head.
    ///
    /// # Errors
    /// As [`Self::send`].
    ///
    /// # Cancel safety
    /// The request may have reached the app. The connection is then no longer of use.
    pub async fn ask(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answer = pin!(self.send(request));
        poll_fn(|context| self.poll(context, |context| answer.as_mut().poll(context))).await
    }
}

/// HTTP/2 has `:authority` in place of `Host`, and the only `TE` it knows is `trailers`, which gRPC insists on (RFC 9113
/// sections 8.2.2 and 8.3.1).
fn shape_for_many(request: &mut Request<RequestBody>) {
    if let Some(host) = request.headers_mut().remove(HOST)
        && let Ok(authority) = host.as_bytes().try_into()
    {
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    *request.version_mut() = Version::HTTP_2;
}

/// Undoes [`shape_for_many`] for a request that comes back unsent and goes to a copy that speaks HTTP/1.1.
fn shape_for_one(request: &mut Request<RequestBody>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    let mut parts = Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(TE);
    *request.version_mut() = Version::HTTP_11;
}

/// Makes a connection to `peer` within its time.
///
/// # Errors
/// [`Failure`]: nothing was sent.
///
/// # Cancel safety
/// Dropped, there is no connection.
pub async fn open(peer: &Peer, supervisor: &Supervisor) -> Result<Sender, Failure> {
    match timeout(peer.rules.times.connect, reach(peer, supervisor)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

async fn reach(peer: &Peer, supervisor: &Supervisor) -> Result<Sender, Failure> {
    let many = peer.rules.upstream.protocol.is_multiplexed();
    match &peer.rules.upstream.place {
        Place::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(Failure::Connect)?;
            // Heads and first chunks must not wait for the other side's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
            let Some(tls) = &peer.tls else { return speak(stream, many, supervisor).await };
            let stream = tls.connector.connect(tls.name.clone(), stream).await.map_err(Failure::Connect)?;
            if many && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                let text = "the app does not speak HTTP/2 here: write https:// in place of h2://";
                return Err(Failure::Connect(io::Error::new(io::ErrorKind::Unsupported, text)));
            }
            speak(stream, many, supervisor).await
        }
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Connect)?;
            speak(stream, many, supervisor).await
        }
    }
}

/// Begins HTTP on a connection.
async fn speak<S>(stream: S, many: bool, supervisor: &Supervisor) -> Result<Sender, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let ended = |error: hyper::Error| tracing::debug!(%error, "a connection to an app ended early");
    if many {
        let (sender, connection) = http2::Builder::new(Tasks(supervisor.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_RESPONSE_HEAD as u32)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::Broken)?;
        supervisor.task("edge upstream", Role::Ordinary, async move {
            connection.await.unwrap_or_else(ended);
        });
        return Ok(Sender::Many(sender));
    }
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_RESPONSE_HEAD)
        .max_headers(MAX_RESPONSE_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Broken)?;
    let connection = async move { connection.with_upgrades().await.unwrap_or_else(ended) };
    Ok(Sender::One(Line::new(sender, connection)))
}

/// Runs what hyper wants run beside an HTTP/2 connection.
#[derive(Clone, Debug)]
struct Tasks(Supervisor);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.task("edge upstream stream", Role::Ordinary, async move {
            future.await;
        });
    }
}
