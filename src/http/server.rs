//! The accept loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::handler::Guarded;
use super::{Handler, Peer, ServeConfig, Server, ShutOut};
use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::telemetry::Metrics;

/// Said to a client that comes when the house is full; then its connection is closed.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Wait after an accept that failed for want of descriptors or memory. Without it the loop would spin: the connection
/// that could not be accepted stays in the queue.
const BREATH: Duration = Duration::from_millis(100);

/// Binds a listener at `address`. Must run inside a runtime.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two listeners here, whatever the host's default.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    adopt(socket.into())
}

/// Takes over a listener bound elsewhere (systemd's `LISTEN_FDS`). Must run inside a runtime.
///
/// # Errors
/// The descriptor cannot be polled.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts connections and answers their requests with `handler` until the server drains; then returns at once while
/// the connections finish as tasks of the first of `tasks`. Answers that are [`Lasting`](super::Lasting) may go on as tasks of
/// the second until that one's stop. Connections of those whom `shut_out` names are closed at once. Works on any runtime, also
/// several at once.
///
/// # Cancel safety
/// Dropping it stops accepting; connections go on.
pub async fn serve(
    listener: TcpListener,
    handler: Arc<dyn Handler>,
    config: ServeConfig,
    tasks: (Supervisor, Option<Supervisor>),
    metrics: Metrics,
    door: &'static str,
    shut_out: Option<ShutOut>,
) {
    let places = Arc::new(Semaphore::new(config.max_connections as usize));
    let handler = match &shut_out {
        Some(shut_out) => Arc::new(Guarded::new(handler, Arc::clone(shut_out))),
        None => handler,
    };
    let (supervisor, lasting) = tasks;
    let server = Arc::new(Server::made(handler, config, supervisor, lasting, &metrics, door));
    let shutdown = server.supervisor.shutdown().clone();
    let mut draining = std::pin::pin!(shutdown.draining());
    loop {
        let accepted = tokio::select! {
            () = draining.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Closed without a word, and before it counts for anything.
            Ok((_, address)) if shut_out.as_ref().is_some_and(|shut_out| shut_out(address.ip())) => {}
            Ok((stream, address)) => welcome(&server, &places, stream, Peer { address, secure: false, door }),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(door, %error, "cannot accept connections");
                sleep(BREATH).await;
            }
        }
    }
}

fn welcome(server: &Arc<Server>, places: &Arc<Semaphore>, stream: TcpStream, peer: Peer) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        server.counts.refused.inc();
        // One attempt, no wait: a fresh socket has room for it, and a client that does not listen is none of ours.
        let _ = stream.try_write(FULL);
        return;
    };
    // Without it a small response on a kept-alive connection waits 40 ms for the client's delayed ACK (measured on
    // another server: 149 of 150 requests).
    let _ = stream.set_nodelay(true);
    let server = Arc::clone(server);
    let hold = server.lasting.as_ref().map(|_| server.supervisor.hold());
    let supervisor = server.lasting.as_ref().unwrap_or(&server.supervisor).clone();
    supervisor.task("http connection", Role::Ordinary, async move {
        server.counts.connections.add(1);
        let connections = server.counts.connections.clone();
        let _open = Open(connections);
        server.lasting_connection(stream, peer, place, hold).await;
    });
}

/// Errors of `accept` that belong to the connection that was to come, not to the listener (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

/// A connection counted as open.
struct Open(crate::telemetry::Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
