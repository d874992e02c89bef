//! The edge: HTTP and HTTPS towards the world, reverse proxy to the app, and the way in to Mainstay's own doors by host.
//!
//! One worker a core, each a thread with its own runtime, sockets (SO_REUSEPORT), connections and upstream pools.
//! Promises: an app never sees framing, forwarding or connection headers a client made up (`head.rs`); bodies are
//! streamed, never collected; every wait for a client or an app ends; a stopping server finishes the requests it has
//! (GOAWAY, `Connection: close`) and cuts WebSockets when its time is over; one whose place another process has taken
//! serves what is open on to its end.
//!
//! The path of a request is one function, `Proxy::answer` in `proxy.rs`: start reading there. Connections before it:
//! `worker.rs` (accept, places, TLS), `http3.rs` (the same over QUIC), `proxy_protocol.rs` (whom a load balancer speaks for) and [`crate::http::Server`] (heads, timeouts). Beside it: `sites.rs` (routing), `head.rs`
//! (rewriting), `guard/` (who may ask, how often), `jails/` (who is banned for what), `shape.rs` (what a site changes), `mutual.rs` (clients' certificates), `basic.rs` and `forward.rs` (log-ins), `target.rs` (what answers), `pool.rs` (apps: `balance.rs` chooses among copies,
//! `health.rs` knows which are well, `connect.rs` reaches them), `files/` (folders), `compress/` (answers made smaller), `cache/` (answers of apps kept for everybody), `audience.rs` (pages that are counted), `doors.rs`
//! (own doors), `elsewhere.rs` (the same while another process has the data folder), `upgrade.rs` (WebSockets), `reload.rs` (other settings while it runs). HTTP/2 has no WebSockets here:
//! extended CONNECT is not announced, browsers then open an HTTP/1.1 connection for them.

mod access;
mod acme;
mod audience;
mod balance;
mod basic;
mod body;
mod cache;
mod certificate;
mod client;
mod compress;
pub mod config;
mod connect;
mod doors;
pub mod elsewhere;
pub mod error;
mod explain;
mod files;
mod forward;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod guard;
mod head;
mod health;
mod host;
mod http3;
mod jails;
mod line;
mod listen;
mod metrics;
mod mutual;
pub mod nginx;
pub mod nginx_parse;
mod pages;
mod passage;
mod peer;
mod pool;
mod proxy;
mod proxy_protocol;
mod reading;
pub mod reload;
mod rules;
mod security;
mod shape;
mod site_config;
mod sites;
mod spare;
mod tail;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod upgrade;
mod upstream;
mod view;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::TaskTracker;

pub use self::acme::Keeper;
pub use self::acme::internal::exported_path as internal_ca_path;
pub use self::cache::{Cache, Changed, Changes};
pub use self::config::EdgeConfig;
pub use self::doors::{Door, OnPlainHttp};
pub use self::error::{ConfigError, EdgeError};
pub use self::explain::{Asking, explain};
pub use self::jails::rules as ban_rules;
pub use self::listen::Listeners;

use self::access::AccessLog;
use self::acme::Names;
use self::audience::Beacons;
use self::compress::Compressors;
use self::doors::Doors;
use self::health::{Checker, Watched};
use self::http3::Http3;
use self::jails::Jails;
use self::metrics::EdgeMetrics;
use self::proxy::Proxy;
use self::sites::Sites;
use self::tail::Tail;
use self::traffic::Traffic;
use self::upgrade::Tunnels;
use self::worker::{Places, Serving, Worker};
use crate::analytics::Analytics;
use crate::bans::Bans;
use crate::base::supervise::{Priority, Role};
use crate::base::{Clock, Disk, Random, Supervisor};
use crate::crypto::Key;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Threads a worker may add for name look-ups of upstreams and reads of files.
const BLOCKING_THREADS: usize = 4;
/// Threads' names; the kernel wants them short, the supervisor wants them static.
const NAMES: [&str; config::MAX_WORKERS] = [
    "edge-0", "edge-1", "edge-2", "edge-3", "edge-4", "edge-5", "edge-6", "edge-7", "edge-8", "edge-9", "edge-10",
    "edge-11", "edge-12", "edge-13", "edge-14", "edge-15", "edge-16", "edge-17", "edge-18", "edge-19", "edge-20",
    "edge-21", "edge-22", "edge-23", "edge-24", "edge-25", "edge-26", "edge-27", "edge-28", "edge-29", "edge-30",
    "edge-31",
];

/// The outside world, as the edge needs it.
#[derive(Clone, Debug)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Files: the exported certificate, the request log.
    pub disk: Arc<dyn Disk>,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where certificates, their keys and the accounts at authorities are kept, sealed.
    pub store: Store,
    /// Who is banned.
    pub bans: Bans,
    /// Who visits pages.
    pub analytics: Analytics,
    /// Where counts go.
    pub metrics: Metrics,
    /// What kept answers on disk are sealed with.
    pub cache_key: Key,
    /// Free bytes that uploads leave on the disk, and the same in percent of it; the larger counts. A cache leaves more.
    pub reserve: (u64, u64),
    /// Starts what uses the store, and tells it when to stop.
    pub supervisor: Supervisor,
    /// Starts what needs no store: workers, connections, WebSockets. They go on for a while when another process has taken
    /// over the data folder.
    pub connections: Supervisor,
    /// Where doors run.
    pub runtime: Handle,
}

/// A running edge. It stops with its supervisor's signal.
#[derive(Debug)]
pub struct Edge {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    http3: Option<SocketAddr>,
    certificate: PathBuf,
    keeper: Arc<Keeper>,
    /// What it was started with; some of it stays for as long as it runs.
    started: EdgeConfig,
    labels: Vec<&'static str>,
    doors: Arc<Doors>,
    places: Arc<Places>,
    crew: Vec<Hand>,
    counts: EdgeMetrics,
    bans: Bans,
    metrics: Metrics,
    supervisor: Supervisor,
    clock: Arc<dyn Clock>,
    /// What is looked after by now.
    watched: Arc<ArcSwap<Watched>>,
    /// What is counted of each site.
    traffic: Arc<ArcSwap<Traffic>>,
    /// Answers of apps.
    cache: Arc<Cache>,
    /// The last requests.
    tail: Tail,
    /// What counts pages.
    beacons: Arc<Beacons>,
}

/// What a reload replaces of one worker.
#[derive(Debug)]
struct Hand {
    proxy: Arc<Proxy>,
    serving: Arc<ArcSwap<Serving>>,
}

impl Edge {
    /// Starts the workers on `listeners`. Requests for hosts of `doors` go there, all others to the sites of `config`.
    /// Call it on the general runtime.
    ///
    /// # Errors
    /// [`EdgeError`]; no worker runs then.
    pub async fn start(
        config: &EdgeConfig,
        listeners: Listeners,
        doors: Vec<Door>,
        world: World,
    ) -> Result<Self, EdgeError> {
        config.validate()?;
        let started = config.clone();
        let config = &config.in_force();
        let World { clock, disk, data_dir, metrics, connections: supervisor, runtime, bans, analytics, .. } =
            world.clone();
        let services = world.supervisor.clone();
        bans.set_rules(jails::rules(config));
        let counts = EdgeMetrics::new(&metrics);
        let labels: Vec<&'static str> = doors.iter().map(|door| door.label).collect();
        let names = Names::of(config, &labels);
        let listening = (listeners.http().is_some(), listeners.https().is_some());
        let sites = Sites::new(config)?;
        let cache = Cache::open(config, &sites, &world)?;
        let keeper = Keeper::open(config, names, listening, world).await?;
        let tls = worker::Tls {
            plain: tls::server_config(keeper.certificates())?,
            asking: tls::asking_config(keeper.certificates())?,
            keeper: Arc::clone(&keeper),
            certificates: keeper.certificates(),
        };
        let quic = listeners.http3().map(|_| tls::http3_config(keeper.certificates())).transpose()?;
        let http3_answers: Arc<_> = Arc::default();
        let trusted = reload::trusted(config);
        let mut edge = Self {
            http: listeners.http(),
            https: listeners.https(),
            http3: listeners.http3(),
            certificate: certificate::exported_path(&data_dir),
            places: Places::new(config.limits.connections, config.limits.connections_per_ip, trusted),
            doors: Arc::new(Doors::new(doors, &config.domain, runtime, services.clone(), supervisor.clone())),
            keeper: Arc::clone(&keeper),
            started,
            labels,
            crew: Vec::new(),
            counts: counts.clone(),
            bans,
            metrics,
            supervisor: supervisor.clone(),
            clock: Arc::clone(&clock),
            watched: Arc::default(),
            traffic: Arc::default(),
            cache,
            tail: Tail::new(Arc::clone(&clock)),
            beacons: Arc::new(Beacons::new(analytics)),
        };
        edge.watched.store(Arc::new(sites.watched()));
        let jails = Jails::of(&config.bans, &edge.bans, &edge.metrics, None)?;
        let rules = edge.rules(config, sites, jails);
        edge.traffic.store(Arc::clone(&rules.traffic));
        let log = AccessLog::start(config, &disk, &clock, &supervisor, &counts.log_dropped, edge.tail.clone())?;

        let mut ready = Vec::new();
        for (mut listeners, name) in listeners.split().into_iter().zip(NAMES) {
            let tracker = TaskTracker::new();
            let tunnels =
                Tunnels { supervisor: supervisor.clone(), tracker: tracker.clone(), open: counts.upgraded.clone() };
            let proxy = Arc::new(Proxy {
                current: ArcSwap::from_pointee(edge.current(config, &rules, None)),
                tunnels,
                log: log.clone(),
                clock: Arc::clone(&clock),
                metrics: counts.clone(),
                compressors: Compressors::default(),
                http3: Arc::clone(&http3_answers),
            });
            let serving = Arc::new(ArcSwap::from_pointee(edge.serving(config, &proxy)));
            let http3 = listeners.http3.take().zip(quic.clone()).map(|(socket, tls)| {
                let http3 = Http3 {
                    tls,
                    serving: Arc::clone(&serving),
                    proxy: Arc::clone(&proxy),
                    places: Arc::clone(&edge.places),
                    supervisor: supervisor.clone(),
                    metrics: counts.clone(),
                };
                (http3, socket)
            });
            let worker = Worker {
                listeners,
                tls: tls.clone(),
                http3,
                serving: Arc::clone(&serving),
                proxy: Arc::clone(&proxy),
                places: Arc::clone(&edge.places),
                tracker,
                supervisor: supervisor.clone(),
                metrics: counts.clone(),
            };
            edge.crew.push(Hand { proxy, serving });
            ready.push((name, worker, worker_runtime()?));
        }
        for (name, worker, runtime) in ready {
            supervisor
                .thread(name, Role::Critical, Priority::Normal, move || runtime.block_on(worker.run()))
                .map_err(|source| EdgeError::System { what: "cannot start an edge thread", source })?;
        }
        services.task("edge certificates", Role::Critical, keeper.run());
        let checker = Checker {
            watched: Arc::clone(&edge.watched),
            supervisor: supervisor.clone(),
            clock,
            metrics: edge.metrics.clone(),
        };
        supervisor.task("edge health checks", Role::Critical, checker.run());
        supervisor.task("edge traffic", Role::Ordinary, traffic::follow(Arc::clone(&edge.traffic), supervisor.clone()));
        Ok(edge)
    }

    /// Where plain HTTP listens; `None` when it is off.
    pub const fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where HTTPS listens; `None` when it is off.
    pub const fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Where HTTP/3 is answered; `None` when it is off.
    pub const fn http3(&self) -> Option<SocketAddr> {
        self.http3
    }

    /// From now on requests for Mainstay's own doors go to the process that answers at the Unix socket `path`: this one is
    /// about to give up the data folder.
    pub fn leave_doors_to(&self, path: PathBuf) {
        self.doors.leave_to(path);
    }

    /// Answers of apps that are kept.
    pub const fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Every certificate and how it stands.
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// The public part of the self-signed certificate, in PEM, for clients to trust.
    pub fn certificate(&self) -> &std::path::Path {
        &self.certificate
    }
}

/// Keeps certificates for other doors while the edge itself is off: those in files, and the server's own. No authority is
/// asked, since none could reach this server. Call it on the general runtime.
///
/// # Errors
/// As [`Keeper::open`].
pub async fn keep_certificates(config: &EdgeConfig, world: World) -> Result<Arc<Keeper>, EdgeError> {
    config.validate()?;
    let supervisor = world.supervisor.clone();
    let keeper = Keeper::open(config, Names::default(), (false, false), world).await?;
    supervisor.task("edge certificates", Role::Critical, Arc::clone(&keeper).run());
    Ok(keeper)
}

/// TLS for a door that speaks another protocol than HTTP, with the certificates of `keeper`; who names no server is shown that
/// of `domain`. Before a handshake goes on, that door awaits [`prepare_elsewhere`].
///
/// # Errors
/// The kernel's generator gives no ticket key.
pub fn tls_elsewhere(keeper: &Keeper, domain: &str) -> Result<Arc<rustls::ServerConfig>, EdgeError> {
    Ok(tls::config_elsewhere(keeper.certificates(), domain)?)
}

/// Makes what a handshake needs for which a client names a server, or none.
pub fn prepare_elsewhere(
    keeper: &Keeper,
    domain: &str,
) -> impl Fn(Option<&str>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static {
    let (certificates, domain) = (keeper.certificates(), domain.to_owned());
    move |name: Option<&str>| {
        let (certificates, name) = (Arc::clone(&certificates), name.unwrap_or(&domain).to_owned());
        Box::pin(async move { certificates.prepare(&name).await })
    }
}

fn worker_runtime() -> Result<Runtime, EdgeError> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|source| EdgeError::System { what: "cannot build an edge runtime", source })
}
