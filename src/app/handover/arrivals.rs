//! Requests for own doors that come to a process that was replaced, served here: the other end of
//! [`edge::elsewhere`](crate::edge::elsewhere).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;

use tokio::net::UnixListener;

use super::predecessor::BACK_DOOR;
use crate::app::accepting::accept;
use crate::app::inherited::Kept;
use crate::app::start::Plan;
use crate::base::ByteSize;
use crate::base::supervise::Role;
use crate::edge::Door;
use crate::edge::elsewhere::Arrivals;
use crate::http::{Peer, ServeConfig, Server};

/// The door's name in metrics and logs.
const NAME: &str = "predecessor";

/// Answers with `doors` what comes to `listener`, and keeps it for the process after this one. Must run inside a runtime.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(listener: StdListener, doors: Vec<Door>, plan: &Plan, kept: &Kept) -> io::Result<()> {
    kept.keep(BACK_DOOR, true, Some(String::new()), &listener)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    // The process before has held each head against the edge's own limits already.
    let config = ServeConfig { max_head: ByteSize::mib(1), max_headers: 1_000, ..ServeConfig::default() };
    let supervisor = plan.supervisor.clone();
    let server = Server::new(Arrivals::new(doors), config, supervisor.clone(), &plan.metrics, NAME);
    // Who really asks is said with each request.
    let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), secure: false, door: NAME };
    let (most, shutdown) = (server.config().max_connections as usize, supervisor.shutdown().clone());
    let begin = move |stream, place| {
        supervisor.task("predecessor request", Role::Ordinary, Arc::clone(&server).connection(stream, peer, place));
    };
    plan.supervisor.task(
        NAME,
        Role::Ordinary,
        accept(listener, most, shutdown, "what a process before passes on", begin),
    );
    Ok(())
}
