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
//! long. [`protocol`] and [`encoder`] are the wire.

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
pub mod inline;
pub mod listen;
mod monitor;
pub mod protocol;
pub mod server;
pub mod stats;
mod timing;

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
}

/// The Unix socket: ours to make, or made by a service manager.
#[derive(Debug)]
pub enum UnixDoor {
    /// To be made at this path, with the mode of the settings; its file goes when the door closes.
    Make(PathBuf),
    /// Made outside, permissions and all; its file stays, as the socket outlives the process.
    Adopt(std::os::unix::net::UnixListener),
}

/// Opens the door: starts the thread `keyspace`, which ends when the supervisor's stop signal comes. The handle reaches
/// the keyspace from elsewhere.
///
/// # Errors
/// [`RespError`]; nothing runs then.
pub fn start(doors: Doors, parts: Parts, supervisor: &Supervisor, metrics: &Metrics) -> Result<Handle, RespError> {
    let mut listeners = Vec::new();
    for listener in doors.tcp {
        let address = listener.local_addr().map_err(RespError::Loop)?;
        if parts.password.is_none() && !address.ip().is_loopback() {
            return Err(RespError::Open(address));
        }
        listeners.push(Listener::tcp(listener).map_err(RespError::Loop)?);
    }
    match doors.unix {
        Some(UnixDoor::Make(path)) => listeners.push(Listener::unix(&parts.disk, &path, &parts.config.socket_mode)?),
        Some(UnixDoor::Adopt(listener)) => listeners.push(Listener::adopted(listener).map_err(RespError::Loop)?),
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
    let loader = Loader::start(supervisor, wake.clone()).map_err(RespError::Loop)?;
    let (handle, mailbox) = mailbox(wake);
    let stats = Stats::new(metrics, parts.clock.monotonic(), parts.clock.now().seconds());
    for listener in &listeners {
        tracing::info!(address = %listener, "the Redis door is open");
    }
    let server = Server::new(parts, poll, waker, mailbox, loader, listeners, stats).map_err(RespError::Loop)?;
    supervisor.thread("keyspace", Role::Critical, Priority::Normal, move || server.run()).map_err(RespError::Loop)?;
    Ok(handle)
}
