//! The TLS listener: connections are accepted and their handshakes made beside the loop, which gets them when both sides
//! know each other. A handshake costs a hundred times a command, and no command waits for one.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::error::RespError;
use super::listen::keep_alive;
use crate::bans::Bans;
use crate::base::supervise::Role;
use crate::base::{Shutdown, Supervisor};
use crate::telemetry::Counter;
use crate::telemetry::metrics::Metrics;

/// Makes ready what the certificates need, once a client has named a server or none.
pub type Prepare = Arc<dyn Fn(Option<&str>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How long accepting rests when the operating system has no descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// A client whose handshake is over.
pub struct Arrival {
    /// The connection.
    pub socket: mio::net::TcpStream,
    /// Its session.
    pub session: ServerConnection,
    /// The peer's address and ours.
    pub addresses: (String, String),
}

/// Clients on their way to the loop, and how many more it takes.
#[derive(Default)]
pub struct Arrivals {
    waiting: Mutex<Vec<Arrival>>,
    places: AtomicUsize,
    under_way: AtomicUsize,
}

impl Arrivals {
    /// Those that wait.
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loop has room for so many more clients.
    pub fn set_places(&self, places: usize) {
        self.places.store(places, Ordering::Relaxed);
    }

    fn push(&self, arrival: Arrival) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

/// A handshake counted as under way.
struct Place(Arc<Arrivals>);

impl Place {
    /// `None` when the loop has no room for all that are under way and one more.
    fn take(arrivals: &Arc<Arrivals>) -> Option<Self> {
        let place = Self(Arc::clone(arrivals));
        let before = arrivals.under_way.fetch_add(1, Ordering::Relaxed);
        (before < arrivals.places.load(Ordering::Relaxed)).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The TLS listener while it is not served: nothing answers there before there are certificates.
pub struct TlsGate {
    pub(super) listener: TcpListener,
    pub(super) arrivals: Arc<Arrivals>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    pub(super) limit: Duration,
    pub(super) bans: Bans,
}

impl fmt::Debug for TlsGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsGate").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl TlsGate {
    /// Lets clients in, with the certificates of `config` after `prepare`, until the stop signal. Call it on the general runtime.
    ///
    /// # Errors
    /// [`RespError::Loop`]: the listener cannot be polled.
    pub fn open(
        self,
        config: Arc<ServerConfig>,
        prepare: Prepare,
        supervisor: &Supervisor,
        metrics: &Metrics,
    ) -> Result<(), RespError> {
        self.listener.set_nonblocking(true).map_err(RespError::Loop)?;
        let address = self.listener.local_addr().map_err(RespError::Loop)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(RespError::Loop)?;
        let help = "Clients of the Redis door's TLS listener that were let go before they were served, by reason.";
        let counter = |reason| metrics.counter("mainstay_redis_tls_refused_total", help, &[("reason", reason)]);
        let door = Arc::new(Door {
            config,
            prepare,
            arrivals: self.arrivals,
            wake: self.wake,
            limit: self.limit,
            bans: self.bans,
            failed: counter("handshake"),
            full: counter("clients"),
            supervisor: supervisor.clone(),
        });
        tracing::info!(%address, "the Redis door is open, for TLS");
        supervisor.task("redis tls", Role::Critical, door.accept(listener));
        Ok(())
    }
}

struct Door {
    config: Arc<ServerConfig>,
    prepare: Prepare,
    arrivals: Arc<Arrivals>,
    wake: Arc<dyn Fn() + Send + Sync>,
    limit: Duration,
    bans: Bans,
    failed: Counter,
    full: Counter,
    supervisor: Supervisor,
}

impl Door {
    async fn accept(self: Arc<Self>, listener: tokio::net::TcpListener) {
        let shutdown = self.supervisor.shutdown().clone();
        let mut draining = std::pin::pin!(shutdown.draining());
        loop {
            let accepted = tokio::select! {
                () = draining.as_mut() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((_, peer)) if self.bans.shuts_out(peer.ip()) => {}
                Ok((stream, peer)) => match Place::take(&self.arrivals) {
                    Some(place) => {
                        let door = Arc::clone(&self);
                        self.supervisor.task("redis handshake", Role::Ordinary, door.welcome(stream, peer, place));
                    }
                    // Without a session there is nothing it could be told in.
                    None => self.full.inc(),
                },
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "the Redis door cannot accept connections for TLS");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let named = begun.client_hello().server_name().map(str::to_owned);
        (self.prepare)(named.as_deref()).await;
        begun.into_stream(Arc::clone(&self.config)).await
    }

    async fn welcome(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _place: Place) {
        // Refusals only cost speed; the connection itself is good.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        let shutdown: &Shutdown = self.supervisor.shutdown();
        let done = tokio::select! {
            () = shutdown.draining() => return,
            done = tokio::time::timeout(self.limit, self.shake_hands(stream)) => done,
        };
        let Ok(Ok(stream)) = done else {
            let why = done.map_or_else(
                |_elapsed| String::from("it took too long"),
                |failed| match failed {
                    Ok(_) => String::new(),
                    Err(error) => error.to_string(),
                },
            );
            tracing::debug!(%peer, why, "no TLS with a client of the Redis door");
            self.failed.inc();
            return;
        };
        let (stream, session) = stream.into_inner();
        let local = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let Ok(stream) = stream.into_std() else {
            self.failed.inc();
            return;
        };
        let socket = mio::net::TcpStream::from_std(stream);
        self.arrivals.push(Arrival { socket, session, addresses: (peer.to_string(), local) });
        (self.wake)();
    }
}
