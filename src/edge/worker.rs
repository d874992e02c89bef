//! A worker: one thread, one runtime, its own sockets, connections and upstream pools. Workers share nothing that a
//! request touches but atomic counters.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use tokio_util::task::TaskTracker;

use super::acme::Keeper;
use super::acme::challenges::ACME_TLS;
use super::client::Network;
use super::http3::Http3;
use super::listen::{Datagrams, WorkerListeners};
use super::metrics::EdgeMetrics;
use super::mutual::Secured;
use super::proxy::Proxy;
use super::proxy_protocol;
use super::tls::Certificates;
use crate::base::Supervisor;
use crate::base::network::counted_as;
use crate::base::supervise::Role;
use crate::http::{Peer, Server};

/// Wait after an accept that failed for want of descriptors or memory: the connection stays in the queue, and the loop
/// would spin.
const BREATH: Duration = Duration::from_millis(100);
/// How often upstream connections past their time are closed.
const PURGE: Duration = Duration::from_secs(1);
/// The door's name in metrics and for handlers.
pub const DOOR: &str = "edge";

/// What the accept loop of one worker needs.
pub struct Worker {
    /// Its sockets.
    pub listeners: WorkerListeners,
    /// What TLS is spoken with.
    pub tls: Tls,
    /// What is spoken over QUIC, by the worker that has its socket.
    pub http3: Option<(Http3, Datagrams)>,
    /// How new connections are served.
    pub serving: Arc<ArcSwap<Serving>>,
    /// Answers requests; also the server's handler.
    pub proxy: Arc<Proxy>,
    /// Places for connections, shared by all workers.
    pub places: Arc<Places>,
    /// Connections and tunnels of this worker.
    pub tracker: TaskTracker,
    /// Starts the connections' tasks.
    pub supervisor: Supervisor,
    /// What is counted.
    pub metrics: EdgeMetrics,
}

/// What TLS is spoken with.
#[derive(Clone)]
pub struct Tls {
    /// With most.
    pub plain: Arc<ServerConfig>,
    /// With who is asked for a certificate.
    pub asking: Arc<ServerConfig>,
    /// Gets certificates for names that nobody wrote down.
    pub keeper: Arc<Keeper>,
    /// The certificates of both.
    pub certificates: Arc<Certificates>,
}

impl Tls {
    /// The handshake within `limit`, and what is to be known of it where `proxy` asks for certificates. A certificate that is
    /// ordered meanwhile has its own time.
    async fn accept(
        &self,
        stream: TcpStream,
        proxy: &Proxy,
        limit: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Secured>>)> {
        let (strangers, asks) = (self.keeper.takes_strangers(), proxy.asks_clients());
        if !asks && !strangers && !self.certificates.makes_some() {
            let stream = timeout(limit, TlsAcceptor::from(Arc::clone(&self.plain)).accept(stream)).await??;
            return Ok((stream, None));
        }
        let begun = timeout(limit, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        let hello = begun.client_hello();
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let validating = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS));
        if strangers && !validating && proxy.serves(&name) {
            self.keeper.welcome(&name).await;
        }
        timeout(limit, self.certificates.prepare(&name)).await?;
        if !asks {
            return Ok((timeout(limit, begun.into_stream(Arc::clone(&self.plain))).await??, None));
        }
        let asked = proxy.asks_clients_of(&name);
        let config = Arc::clone(if asked { &self.asking } else { &self.plain });
        let stream = timeout(limit, begun.into_stream(config)).await??;
        let secured = Secured::of(stream.get_ref().1, asked);
        Ok((stream, Some(Arc::new(secured))))
    }
}

/// How connections are served. A connection stays with what it began with.
pub struct Serving {
    /// Longest handshake.
    pub tls_timeout: Duration,
    /// Serves connections.
    pub server: Arc<Server>,
}

/// Room for connections: in all, and for each address.
#[derive(Debug)]
pub struct Places {
    open: AtomicUsize,
    room: ArcSwap<Room>,
    /// Open connections by address; has at most as many entries as there are places. Empty without a limit.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// How much room there is.
#[derive(Debug)]
struct Room {
    all: usize,
    /// 0 sets no limit.
    per_address: usize,
    /// Proxies in front: they bring many clients each.
    exempt: Vec<Network>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

impl Places {
    /// Room for `all` connections, of which `per_address` from one address outside `exempt`; 0 sets no such limit.
    pub fn new(all: u32, per_address: u32, exempt: Vec<Network>) -> Arc<Self> {
        let room = Room { all: all as usize, per_address: per_address as usize, exempt };
        Arc::new(Self {
            open: AtomicUsize::new(0),
            room: ArcSwap::from_pointee(room),
            addresses: Mutex::new(HashMap::new()),
        })
    }

    /// Sets how much room there is from now on. Who is in stays in; connections made while no limit for addresses was set
    /// are not counted by address.
    pub fn resize(&self, all: u32, per_address: u32, exempt: Vec<Network>) {
        self.room.store(Arc::new(Room { all: all as usize, per_address: per_address as usize, exempt }));
    }

    /// A place for a connection from `address`; `None` when there is none.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        self.enter()?.of(address)
    }

    /// A place of nobody in particular.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let all = self.room.load().all;
        let more = |open: usize| (open < all).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place { places: Arc::clone(self), address: None })
    }
}

impl Place {
    /// The place, as one of `address`; `None` when that has as many as it may.
    fn of(mut self, address: IpAddr) -> Option<Self> {
        let room = self.places.room.load();
        if room.per_address > 0 && !room.exempt.iter().any(|network| network.contains(address)) {
            let address = counted_as(address);
            let mut addresses = self.places.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let open = addresses.entry(address).or_insert(0);
            if *open >= room.per_address {
                drop(addresses);
                return None;
            }
            *open += 1;
            drop(addresses);
            self.address = Some(address);
        }
        drop(room);
        Some(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address.take() else { return };
        let mut addresses = self.places.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&address) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                addresses.remove(&address);
            }
        }
    }
}

impl Worker {
    /// Accepts until the server drains or another process has taken over, then waits for the connections, which end by
    /// themselves or by force.
    pub async fn run(mut self) {
        let (http, https) = (std::mem::take(&mut self.listeners.http), std::mem::take(&mut self.listeners.https));
        let (http, https) = match (adopt(http), adopt(https)) {
            (Ok(http), Ok(https)) => (http, https),
            (Err(error), _) | (_, Err(error)) => {
                return tracing::error!(%error, "an edge worker cannot use its sockets");
            }
        };
        if let Some((http3, socket)) = self.http3.take() {
            self.supervisor.task("edge http3", Role::Ordinary, self.tracker.track_future(http3.run(socket)));
        }
        let shutdown = self.supervisor.shutdown().clone();
        let mut purge = interval(PURGE);
        purge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        {
            let mut leaving = std::pin::pin!(shutdown.leaving());
            loop {
                tokio::select! {
                    () = leaving.as_mut() => break,
                    accepted = accept(&http) => self.welcome(accepted, false).await,
                    accepted = accept(&https) => self.welcome(accepted, true).await,
                    _ = purge.tick() => self.proxy.purge(),
                }
            }
        }
        drop((http, https));
        self.tracker.close();
        let (mut ended, mut forced) = (std::pin::pin!(self.tracker.wait()), std::pin::pin!(shutdown.forced()));
        loop {
            tokio::select! {
                () = ended.as_mut() => return,
                () = forced.as_mut() => return,
                _ = purge.tick() => self.proxy.purge(),
            }
        }
    }

    async fn welcome(&self, accepted: io::Result<(TcpStream, SocketAddr)>, secure: bool) {
        match accepted {
            Ok((stream, address)) => self.open(stream, address, secure),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the edge cannot accept connections");
                sleep(BREATH).await;
            }
        }
    }

    fn open(&self, stream: TcpStream, address: SocketAddr, secure: bool) {
        // Small answers must not wait for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        if self.proxy.is_announced_by(address.ip()) {
            let Some(place) = self.places.enter() else {
                self.metrics.connections_refused.inc();
                return;
            };
            let connection = Box::pin(self.opening(address, secure).announced(stream, place));
            self.supervisor.task("edge connection", Role::Ordinary, self.tracker.track_future(connection));
            return;
        }
        if secure && self.proxy.shuts_out(address.ip()) {
            self.metrics.banned.inc();
            return;
        }
        let Some(place) = self.places.take(address.ip()) else {
            self.metrics.connections_refused.inc();
            return;
        };
        let connection = self.opening(address, secure).serve(stream, place);
        self.supervisor.task("edge connection", Role::Ordinary, self.tracker.track_future(connection));
    }

    fn opening(&self, address: SocketAddr, secure: bool) -> Opening {
        let serving = self.serving.load();
        Opening {
            peer: Peer { address, secure, door: DOOR },
            server: Arc::clone(&serving.server),
            limit: serving.tls_timeout,
            tls: self.tls.clone(),
            metrics: self.metrics.clone(),
            proxy: Arc::clone(&self.proxy),
        }
    }
}

/// A connection that was accepted, before anything was read.
struct Opening {
    peer: Peer,
    server: Arc<Server>,
    /// Longest handshake, and as long for what a load balancer says before.
    limit: Duration,
    tls: Tls,
    metrics: EdgeMetrics,
    proxy: Arc<Proxy>,
}

impl Opening {
    /// Serves the connection of whom a load balancer announces.
    async fn announced(mut self, mut stream: TcpStream, place: Place) {
        match timeout(self.limit, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(client)) => self.peer.address = client.unwrap_or(self.peer.address),
            Ok(Err(error)) => {
                let balancer = self.peer.address.ip();
                tracing::debug!(%balancer, %error, "a connection from a load balancer is closed");
                return self.metrics.unannounced.inc();
            }
            Err(_) => return self.metrics.unannounced.inc(),
        }
        let client = self.peer.address.ip();
        if self.peer.secure && self.proxy.shuts_out(client) {
            return self.metrics.banned.inc();
        }
        match place.of(client) {
            Some(place) => self.serve(stream, place).await,
            None => self.metrics.connections_refused.inc(),
        }
    }

    // No `async fn`: it would have room for `self` beside what is taken out of it.
    fn serve(self, stream: TcpStream, place: Place) -> impl Future<Output = ()> + Send {
        let Self { peer, server, limit, tls, metrics, proxy } = self;
        async move {
            if !peer.secure {
                return server.connection(stream, peer, place).await;
            }
            // Boxed, as is the stream: what is only there for a moment, or is moved on, would have its place in every
            // connection for as long as that lasts.
            match Box::pin(tls.accept(stream, &proxy, limit)).await {
                Ok((stream, secured)) => {
                    metrics.tls_handshakes.inc();
                    if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
                        // An authority has seen what it wanted (RFC 8737 section 3); nothing is served on it.
                        return;
                    }
                    server.connection_of(Box::new(stream), peer, place, secured).await;
                }
                Err(error) => {
                    metrics.tls_errors.inc();
                    // Scanners do this all day; it is no news to the operator.
                    tracing::debug!(client = %peer.address, %error, "a TLS handshake failed");
                }
            }
        }
    }
}

fn adopt(sockets: Vec<std::net::TcpListener>) -> io::Result<Vec<TcpListener>> {
    let adopted = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    sockets.into_iter().map(adopted).collect()
}

/// The next connection of any of `listeners`; never without one. Cancel safe.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        let accepted = |listener: &TcpListener| match listener.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        };
        listeners.iter().find_map(accepted).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Errors of `accept` that belong to the connection that was to come, not to the listener (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let places = Places::new(3, 2, Vec::new());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (first, second) = (places.take(a).unwrap(), places.take(a));
        assert!(second.is_some());
        assert!(places.take(a).is_none());
        let other = places.take(b).unwrap();
        drop(first);
        assert!(places.take(a).is_some());
        drop((second, other));
        assert!(places.addresses.lock().unwrap().is_empty());
        assert_eq!(places.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn with_less_room_who_is_in_stays_and_nobody_else_comes() {
        let places = Places::new(3, 0, Vec::new());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (first, second) = (places.take(a).unwrap(), places.take(a).unwrap());
        places.resize(1, 1, Vec::new());
        assert!(places.take(b).is_none());
        drop((first, second));
        let again = places.take(b).unwrap();
        assert!(places.take(a).is_none());
        places.resize(3, 1, Vec::new());
        assert!(places.take(a).is_some() && places.take(b).is_none());
        drop(again);
    }

    #[test]
    fn a_trusted_proxy_brings_as_many_as_there_are_places() {
        let places = Places::new(3, 1, vec!["192.0.2.0/24".parse().unwrap()]);
        let proxy: IpAddr = "192.0.2.1".parse().unwrap();
        let taken: Vec<_> = (0..3).map(|_| places.take(proxy).unwrap()).collect();
        assert!(places.take(proxy).is_none());
        drop(taken);
    }
}
