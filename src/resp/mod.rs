//! The Redis door: RESP2 and RESP3 over TCP and a Unix socket, and the event loop that owns the keyspace.
//!
//! What it promises:
//! - a reply that tells of a change leaves after the change is in the journal ([`kv::persist`](crate::kv::persist));
//! - before authentication a client can only introduce itself, and send little;
//! - whatever a client sends or leaves unread, its memory has a named bound in [`RedisConfig`], and the others go on;
//! - errors have Redis' own words, since libraries match on them; what does not exist is an unknown command.
//!
//! Start reading at [`server`] (a turn of the loop), then [`dispatch`] (one request) and [`commands`] (those the door
//! runs itself; the others are in [`kv::commands`](crate::kv::commands)). [`busy`] is what happens while a script takes
//! long. [`protocol`] and [`encoder`] are the wire, [`handshake`] and [`tls`] what TLS puts around it.

pub mod busy;
pub mod clients;
pub mod commands;
pub mod config;
pub mod connection;
mod desk;
pub mod dispatch;
pub mod encoder;
pub mod error;
mod figures;
pub mod handshake;
pub mod inline;
pub mod listen;
mod monitor;
pub mod protocol;
pub mod server;
pub mod stats;
mod timing;
pub mod tls;

#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use mio::{Poll, Waker};

pub use commands::acl::load as load_users;
pub use config::RedisConfig;
pub use error::RespError;
pub use handshake::TlsGate;
pub use server::Parts;

use crate::base::Supervisor;
use crate::base::supervise::{Priority, Role};
use crate::kv::Handle;
use crate::kv::cold::loader::Loader;
use crate::kv::handle::mailbox;
use crate::telemetry::metrics::Metrics;
use listen::Listener;
use server::{Server, WAKER};
use stats::Stats;

/// Where the door listens.
#[derive(Debug, Default)]
pub struct Doors {
    /// Bound TCP listeners.
    pub tcp: Vec<std::net::TcpListener>,
    /// The Unix socket.
    pub unix: Option<UnixDoor>,
    /// The bound listener for TLS, which answers once its [`TlsGate`] is opened.
    pub tls: Option<std::net::TcpListener>,
}

/// A door that is open.
#[derive(Debug)]
pub struct Opened {
    /// Reaches the keyspace from elsewhere.
    pub handle: Handle,
    /// Its listener for TLS, to be opened when there are certificates.
    pub tls: Option<TlsGate>,
    /// Another descriptor of the Unix socket that was made here.
    pub made: Option<std::os::unix::net::UnixListener>,
}

/// The Unix socket: ours to make, or made by a service manager or a process before. Its file stays when the door closes, as
/// the socket may outlive the process.
#[derive(Debug)]
pub enum UnixDoor {
    /// To be made at this path, with the mode of the settings.
    Make(PathBuf),
    /// Made outside, permissions and all, and reached at this path.
    Adopt(std::os::unix::net::UnixListener, PathBuf),
}

/// Opens the door: starts the thread `keyspace`, which ends when the supervisor's stop signal comes.
///
/// # Errors
/// [`RespError`]; nothing runs then.
pub fn start(doors: Doors, parts: Parts, supervisor: &Supervisor, metrics: &Metrics) -> Result<Opened, RespError> {
    let mut listeners = Vec::new();
    for listener in doors.tcp {
        refuse_open("redis.listen", &listener, &parts)?;
        listeners.push(Listener::tcp(listener).map_err(RespError::Loop)?);
    }
    if let Some(listener) = &doors.tls {
        refuse_open("redis.tls_listen", listener, &parts)?;
    }
    let mut made = None;
    match doors.unix {
        Some(UnixDoor::Make(path)) => {
            let listener = Listener::unix(&parts.disk, &path, &parts.config.socket_mode)?;
            made = listener.same_unix().map_err(RespError::Loop)?;
            listeners.push(listener);
        }
        Some(UnixDoor::Adopt(listener, path)) => {
            listeners.push(Listener::adopted(listener, path).map_err(RespError::Loop)?);
        }
        None => {}
    }
    let poll = Poll::new().map_err(RespError::Loop)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(RespError::Loop)?);
    let wake = {
        let waker = Arc::clone(&waker);
        // A failed wake-up costs at most one tick: the loop looks by itself.
        move || drop(waker.wake())
    };
    parts.shutdown.on_change(wake.clone());
    let (limit, bans) = (parts.config.tls_handshake.duration(), parts.bans.clone());
    let loader = Loader::start(supervisor, wake.clone()).map_err(RespError::Loop)?;
    let (handle, mailbox) = mailbox(wake.clone());
    let stats = Stats::new(metrics, parts.clock.monotonic(), parts.clock.now().seconds());
    for listener in &listeners {
        tracing::info!(address = %listener, "the Redis door is open");
    }
    let server = Server::new(parts, poll, waker, mailbox, loader, listeners, stats).map_err(RespError::Loop)?;
    let arrivals = server.arrivals();
    let tls = doors.tls.map(|listener| TlsGate { listener, arrivals, wake: Arc::new(wake), limit, bans });
    supervisor.thread("keyspace", Role::Critical, Priority::Normal, move || server.run()).map_err(RespError::Loop)?;
    Ok(Opened { handle, tls, made })
}

/// Refuses a listener that others reach while nobody is asked for a password.
fn refuse_open(setting: &'static str, listener: &std::net::TcpListener, parts: &Parts) -> Result<(), RespError> {
    let address = listener.local_addr().map_err(RespError::Loop)?;
    if parts.password.is_none() && !address.ip().is_loopback() {
        return Err(RespError::Open { setting, address });
    }
    Ok(())
}
