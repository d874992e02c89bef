//! HTTP/3: connections of QUIC at the port of HTTPS, and how clients learn of them.
//!
//! One worker has the socket. Datagrams of one connection must come to one process and one thread, and what sockets share the
//! kernel deals out by addresses alone. So a process that takes over from another waits until that one has closed it; what the
//! other serves over HTTP/3 has [`FAREWELL`] to end.
//!
//! A connection belongs to the address that opened it: migration (RFC 9000 section 9) is off. Who may ask is decided by address,
//! and a packet's sender is only proven to be where it says by what is sent back there.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::ALT_SVC;
use http::{HeaderValue, Response, StatusCode};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::listen::{Datagrams, bind_datagrams};
use super::metrics::EdgeMetrics;
use super::proxy::Proxy;
use super::worker::{DOOR, Places, Serving};
use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::http::h3::code::Code;
use crate::http::h3::connection;
use crate::http::{Body, Peer};

/// How often a port that is taken is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How long connections go on when another process takes over the port.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long clients are told of the end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Handshakes under way beyond which a client must first prove where it is (RFC 9000 section 8.1.2): before that, its address may
/// be made up.
const UNPROVEN: usize = 32;
/// Most handshakes under way.
const MOST: usize = 512;
/// Datagrams kept of clients that nobody has looked at yet: how many clients, bytes of one, bytes of all.
const WAITING: (usize, u64, u64) = (256, 32 << 10, 2 << 20);
/// How long browsers remember that HTTP/3 is answered.
const REMEMBERED: Duration = Duration::from_hours(24);

/// What answers HTTP/3.
pub struct Http3 {
    /// What TLS is spoken with.
    pub tls: Arc<QuicServerConfig>,
    /// How new connections are served.
    pub serving: Arc<ArcSwap<Serving>>,
    /// Answers requests.
    pub proxy: Arc<Proxy>,
    /// Places for connections, shared with those over TCP.
    pub places: Arc<Places>,
    /// Starts the connections' tasks.
    pub supervisor: Supervisor,
    /// What is counted.
    pub metrics: EdgeMetrics,
}

impl Http3 {
    /// Accepts at `socket` until the server drains or another process takes over, then waits for the connections, but not for
    /// long.
    pub async fn run(self, socket: Datagrams) {
        let shutdown = self.supervisor.shutdown().clone();
        let socket = tokio::select! {
            socket = bound(socket) => socket,
            () = shutdown.leaving() => return,
        };
        let mut offered = ServerConfig::with_crypto(Arc::clone(&self.tls) as _);
        let (clients, of_one, of_all) = WAITING;
        offered.migration(false).max_incoming(clients).incoming_buffer_size(of_one).incoming_buffer_size_total(of_all);
        let endpoint = socket.and_then(|socket| {
            Endpoint::new(EndpointConfig::default(), Some(offered.clone()), socket, Arc::new(TokioRuntime))
        });
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::error!(%error, "HTTP/3 cannot be answered"),
        };
        let connections = TaskTracker::new();
        let handshakes = Arc::new(AtomicUsize::new(0));
        self.proxy.http3.store(true, Ordering::Relaxed);
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.welcome(incoming, &offered, &handshakes, &connections),
                    None => break,
                },
                () = shutdown.leaving() => break,
            }
        }
        self.proxy.http3.store(false, Ordering::Relaxed);
        connections.close();
        let goes_on = async {
            tokio::select! {
                () = connections.wait() => {}
                () = shutdown.forced() => {}
                () = sleep(FAREWELL) => {}
            }
        };
        let mut goes_on = std::pin::pin!(goes_on);
        loop {
            tokio::select! {
                () = goes_on.as_mut() => break,
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => incoming.refuse(),
                    None => break,
                },
            }
        }
        endpoint.close(Code::NO_ERROR.number(), b"");
        let _ = timeout(LAST_WORDS, endpoint.wait_idle()).await;
    }

    fn welcome(
        &self,
        incoming: Incoming,
        offered: &ServerConfig,
        handshakes: &Arc<AtomicUsize>,
        connections: &TaskTracker,
    ) {
        let address = incoming.remote_address();
        if self.proxy.shuts_out(address.ip()) {
            self.metrics.banned.inc();
            return incoming.ignore();
        }
        if self.proxy.is_announced_by(address.ip()) {
            // Nobody says for whom it speaks here, and as itself it is not to speak.
            self.metrics.unannounced.inc();
            return incoming.refuse();
        }
        let under_way = handshakes.load(Ordering::Relaxed);
        if under_way >= MOST || self.places.take(address.ip()).is_none() {
            self.metrics.connections_refused.inc();
            return incoming.refuse();
        }
        if under_way >= UNPROVEN && incoming.may_retry() {
            // The client comes back with a token. It is no error of ours if the answer cannot be sent.
            let _ = incoming.retry();
            return;
        }
        let serving = self.serving.load_full();
        let mut offered = offered.clone();
        offered.transport_config(Arc::new(connection::transport(serving.server.config())));
        let Ok(connecting) = incoming.accept_with(Arc::new(offered)) else {
            self.metrics.tls_errors.inc();
            return;
        };
        let (places, metrics) = (Arc::clone(&self.places), self.metrics.clone());
        let clock = Arc::clone(&self.proxy.clock);
        let handshake = Handshake::begin(handshakes);
        let connection = async move {
            let outcome = timeout(serving.tls_timeout, connecting).await;
            drop(handshake);
            let Ok(Ok(connection)) = outcome else {
                metrics.tls_errors.inc();
                return;
            };
            metrics.tls_handshakes.inc();
            metrics.http3_handshakes.inc();
            // Taken only now: an address is proven by the handshake, and nobody is to lose places to who makes up his own.
            let Some(place) = places.take(address.ip()) else {
                metrics.connections_refused.inc();
                return connection.close(Code::EXCESSIVE_LOAD.number(), b"");
            };
            let peer = Peer { address, secure: true, door: DOOR };
            connection::serve(Arc::clone(&serving.server), connection, peer, place, clock).await;
        };
        self.supervisor.task("edge http3 connection", Role::Ordinary, connections.track_future(connection));
    }
}

/// The socket, once it can be had.
async fn bound(socket: Datagrams) -> io::Result<UdpSocket> {
    let address = match socket {
        Datagrams::Bound(socket) => return Ok(socket),
        Datagrams::Taken(address) => address,
    };
    tracing::info!(%address, "HTTP/3 begins when whoever has the port for UDP lets go of it");
    loop {
        match bind_datagrams(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(RETRY).await,
            bound => return bound,
        }
    }
}

/// A handshake under way.
struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    fn begin(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says in `response` that the same host answers HTTP/3 at `port` (RFC 7838), unless it says something about that already or
/// the request should not have come here.
pub fn announce(port: u16, response: &mut Response<Body>) {
    let headers = response.headers();
    if response.status() == StatusCode::MISDIRECTED_REQUEST || headers.contains_key(ALT_SVC) {
        return;
    }
    let value = match port {
        443 => Ok(HeaderValue::from_static("h3=\":443\"; ma=86400")),
        port => HeaderValue::from_str(&format!("h3=\":{port}\"; ma={}", REMEMBERED.as_secs())),
    };
    if let Ok(value) = value {
        response.headers_mut().insert(ALT_SVC, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_3_is_announced_at_the_port_the_client_knows() {
        let told = |port, status, before: Option<&'static str>| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            if let Some(before) = before {
                response.headers_mut().insert(ALT_SVC, HeaderValue::from_static(before));
            }
            announce(port, &mut response);
            response.headers().get(ALT_SVC).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(told(443, StatusCode::OK, None).unwrap(), "h3=\":443\"; ma=86400");
        assert_eq!(told(8443, StatusCode::NOT_FOUND, None).unwrap(), "h3=\":8443\"; ma=86400");
        assert_eq!(told(443, StatusCode::OK, Some("clear")).unwrap(), "clear", "the app's own words stay");
        assert_eq!(told(443, StatusCode::MISDIRECTED_REQUEST, None), None);
    }
}
