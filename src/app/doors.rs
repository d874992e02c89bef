//! The doors: bound first of all, opened once what is behind them stands.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::StartError;
use super::connect::Connect;
use super::inherited::{Inherited, Kept};
use super::sockets::Sockets;
use super::start::{Ground, Plan};
use super::status::DoorStatus;
use crate::analytics::Analytics;
use crate::bans::Bans;
use crate::base::Listen;
use crate::base::supervise::Role;
use crate::config::Config;
use crate::edge::{self, Edge, OnPlainHttp};
use crate::http::{self, Handler, ServeConfig};
use crate::resp::{self, UnixDoor};

/// A door with one listener.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    /// The setting that says where it listens.
    pub key: &'static str,
    /// Its name in metrics and logs.
    pub name: &'static str,
}

/// Health, metrics, the app's HTTP interface.
pub const CONSOLE: Door = Door { key: "console.listen", name: "console" };

/// The S3 protocol.
pub const S3: Door = Door { key: "s3.listen", name: "s3" };

/// The Redis protocol.
pub const REDIS: Door = Door { key: "redis.listen", name: "redis" };

/// The Redis protocol over TLS.
pub const REDIS_TLS: Door = Door { key: "redis.tls_listen", name: "redis-tls" };

/// Message submission.
pub const SMTP: Door = Door { key: "smtp.listen", name: "smtp" };

/// Services that see every request of the edge.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who is banned.
    pub bans: Bans,
    /// Who visits pages.
    pub analytics: Analytics,
}
/// The edge's listeners and the Redis door's Unix socket, by their settings.
const EDGE_HTTP: &str = "edge.http";
const EDGE_HTTPS: &str = "edge.https";
/// See [`EDGE_HTTP`].
pub const REDIS_SOCKET: &str = "redis.socket";

/// The bound listeners of all doors.
#[derive(Debug)]
pub struct Doors {
    sockets: Sockets,
    edge: Option<edge::Listeners>,
    redis_socket: Option<UnixDoor>,
    /// For the process after this one.
    kept: Kept,
    connect: Connect,
}

impl Doors {
    /// Binds every door that is on, or takes it over from the service manager or the process before.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub fn bind(config: &Config, folder: &Path, inherited: &mut Inherited) -> Result<Self, StartError> {
        let given = inherited.is_given(EDGE_HTTP) || inherited.is_given(EDGE_HTTPS);
        let http = inherited.tcp(EDGE_HTTP, &config.edge.http.to_string());
        let https = inherited.tcp(EDGE_HTTPS, &config.edge.https.to_string());
        let edge = if given {
            edge::Listeners::adopt(&config.edge, http, https)?
        } else {
            edge::Listeners::complete(&config.edge, http, https)?
        };
        let kept = Kept::default();
        let keep = |key: &'static str, listen: Listen, given: bool, sockets: &[TcpListener]| {
            let bound = (!given).then(|| listen.to_string());
            let kept = sockets.iter().try_for_each(|socket| kept.keep(key, false, bound.clone(), socket));
            kept.map_err(|source| StartError::Thread { what: key, source })
        };
        keep(EDGE_HTTP, config.edge.http, given, edge.sockets().0)?;
        keep(EDGE_HTTPS, config.edge.https, given, edge.sockets().1)?;
        let wanted = [
            (CONSOLE.key, config.console.listen),
            (S3.key, config.s3.listen),
            (REDIS.key, config.redis.listen),
            (REDIS_TLS.key, config.redis.tls_listen),
            (SMTP.key, config.smtp.listen),
        ];
        let given: Vec<&str> = wanted.iter().map(|(key, _)| *key).filter(|key| inherited.is_given(key)).collect();
        let sockets = Sockets::bind(&wanted, inherited)?;
        for (key, listener) in sockets.all() {
            let listen = wanted.iter().find(|(other, _)| *other == key).map_or(Listen::OFF, |(_, listen)| *listen);
            keep(key, listen, given.contains(&key), std::slice::from_ref(listener))?;
        }
        let mut connect = Connect::unbound(config, folder);
        let redis_socket = redis_socket(config, &mut connect, inherited, &kept)
            .map_err(|source| StartError::Thread { what: "redis", source })?;
        for name in inherited.left_over() {
            tracing::warn!(name, "a socket was passed on for a door that does not exist");
        }
        let connect = Connect {
            edge_http: edge.http(),
            edge_https: edge.https(),
            edge_http3: edge.http3(),
            console: sockets.address(CONSOLE.key),
            s3: sockets.address(S3.key),
            redis: sockets.address(REDIS.key),
            redis_tls: sockets.address(REDIS_TLS.key),
            smtp: sockets.address(SMTP.key),
            ..connect
        };
        Ok(Self { sockets, edge: Some(edge), redis_socket, kept, connect })
    }

    /// The sockets, for the process after this one.
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// Where the doors listen.
    pub fn connect(&self) -> Connect {
        self.connect.clone()
    }

    /// Hands over the listener of `door`; `None` when it is off.
    pub fn take(&mut self, door: Door) -> Option<TcpListener> {
        self.sockets.take(door.key)
    }

    /// Hands over the listeners of the Redis door.
    pub fn take_redis(&mut self) -> resp::Doors {
        let (tcp, tls) = (self.take(REDIS).into_iter().collect(), self.take(REDIS_TLS));
        resp::Doors { tcp, unix: self.redis_socket.take(), tls }
    }

    /// Lets `handler` answer at `door`, if it is on, all but those whom `bans` shuts out.
    ///
    /// # Errors
    /// The listener cannot be polled.
    pub fn serve(
        &mut self,
        plan: &Plan,
        door: Door,
        handler: &Arc<dyn Handler>,
        limits: ServeConfig,
        bans: &Bans,
    ) -> Result<(), StartError> {
        let Some(listener) = self.take(door) else { return Ok(()) };
        let listener = http::adopt(listener).map_err(|source| StartError::Thread { what: door.name, source })?;
        let tasks = (plan.supervisor.clone(), Some(plan.connections.clone()));
        let (metrics, bans) = (plan.metrics.clone(), bans.clone());
        let shut_out: Option<http::ShutOut> = Some(Arc::new(move |address| bans.shuts_out(address)));
        let serving = http::serve(listener, Arc::clone(handler), limits, tasks, metrics, door.name, shut_out);
        plan.supervisor.task(door.name, Role::Critical, serving);
        Ok(())
    }

    /// Starts the edge with `doors` on it, unless both its listeners are off. Blocks.
    ///
    /// # Errors
    /// [`StartError::Edge`], [`StartError::Keyring`].
    pub fn start_edge(
        &mut self,
        plan: &Plan,
        ground: &Ground,
        doors: Vec<edge::Door>,
        seen: Seen,
        runtime: &Handle,
    ) -> Result<Option<Arc<Edge>>, StartError> {
        let Some(listeners) = self.edge.take().filter(|edge| edge.http().or(edge.https()).is_some()) else {
            return Ok(None);
        };
        let world = edge_world(plan, ground, seen, runtime)?;
        let edge = runtime.block_on(Edge::start(&plan.config.edge, listeners, doors, world))?;
        Ok(Some(Arc::new(edge)))
    }
}

/// The Redis door's Unix socket: passed on, or to be made, unless it is off.
fn redis_socket(
    config: &Config,
    connect: &mut Connect,
    inherited: &mut Inherited,
    kept: &Kept,
) -> io::Result<Option<UnixDoor>> {
    let setting = connect.redis_socket.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let given = inherited.is_given(REDIS_SOCKET);
    let Some(listener) = inherited.unix(REDIS_SOCKET, &setting) else {
        return Ok(connect.redis_socket.clone().map(UnixDoor::Make));
    };
    if given {
        connect.redis_socket = listener.local_addr()?.as_pathname().map(Path::to_owned);
    } else if let Some((path, mode)) =
        connect.redis_socket.as_deref().zip(u32::from_str_radix(&config.redis.socket_mode, 8).ok())
    {
        // The setting of the mode may be another by now.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    kept.keep(REDIS_SOCKET, true, (!given).then_some(setting), &listener)?;
    Ok(Some(UnixDoor::Adopt(listener, connect.redis_socket.clone().unwrap_or_default())))
}

/// Keeps certificates while the edge is off. Blocks.
///
/// # Errors
/// [`StartError::Edge`], [`StartError::Keyring`].
pub fn keep_certificates(
    plan: &Plan,
    ground: &Ground,
    seen: Seen,
    runtime: &Handle,
) -> Result<Arc<edge::Keeper>, StartError> {
    let world = edge_world(plan, ground, seen, runtime)?;
    Ok(runtime.block_on(edge::keep_certificates(&plan.config.edge, world))?)
}

fn edge_world(plan: &Plan, ground: &Ground, seen: Seen, runtime: &Handle) -> Result<edge::World, StartError> {
    let objects = &plan.config.objects;
    Ok(edge::World {
        clock: Arc::clone(&plan.clock),
        random: Arc::clone(&plan.random),
        disk: Arc::clone(&plan.disk),
        data_dir: ground.folder.path().to_owned(),
        store: ground.state.clone(),
        cache_key: ground.keyring.key("edge/cache")?,
        reserve: (objects.reserve.bytes(), u64::from(objects.reserve_percent.min(100))),
        bans: seen.bans,
        analytics: seen.analytics,
        metrics: plan.metrics.clone(),
        supervisor: plan.supervisor.clone(),
        connections: plan.connections.clone(),
        runtime: runtime.clone(),
    })
}

/// The console as `console.<domain>` on the edge.
pub fn console_on_edge(handler: Arc<dyn Handler>) -> edge::Door {
    edge::Door { label: "console", below: false, plain: OnPlainHttp::Redirect, handler }
}

/// The S3 door as `s3.<domain>` and `<bucket>.s3.<domain>` on the edge. Programs sign for the address they were given
/// and follow no redirect, so it answers without TLS too.
pub fn s3_on_edge(handler: Arc<dyn Handler>) -> edge::Door {
    edge::Door { label: "s3", below: true, plain: OnPlainHttp::Serve, handler }
}

/// What listens where, for people.
pub fn table(connect: &Connect) -> Vec<DoorStatus> {
    let tcp = [
        ("edge.http", connect.edge_http, "HTTP, to your app"),
        ("edge.https", connect.edge_https, "HTTPS, to your app"),
        ("edge.http3", connect.edge_http3, "HTTP/3 (UDP), to your app"),
        ("console.listen", connect.console, "HTTP: console, API, SES, errors"),
        ("smtp.listen", connect.smtp, "SMTP submission"),
        ("s3.listen", connect.s3, "S3"),
        ("redis.listen", connect.redis, "Redis"),
        ("redis.tls_listen", connect.redis_tls, "Redis over TLS"),
    ];
    let unix = connect.redis_socket.as_ref().map(|path| DoorStatus::new("redis.socket", path.display(), "Redis"));
    let tcp = tcp.into_iter().filter_map(|(key, address, speaks)| Some(DoorStatus::new(key, address?, speaks)));
    tcp.chain(unix).collect()
}
