//! One client's connection: which requests it may make, for how long, and how it ends.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use quinn::{Connection, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::time::{sleep, timeout};

use super::code::Code;
use super::control::{self, Seen};
use super::exchange::Shared;
use crate::base::Clock;
use crate::base::supervise::Role;
use crate::http::load::Load;
use crate::http::{Peer, ServeConfig, Server};

/// What one stream, and one connection, may make us hold unread; as for HTTP/2.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What one connection may make us hold that was sent and is not acknowledged.
const SEND_WINDOW: u64 = 1 << 20;
/// How long nothing may come from a client at least. Who is there and asks for nothing is sent away sooner.
const SILENCE: Duration = Duration::from_secs(30);
/// Streams of a client that carry no request: three that it needs, and some that are unknown.
const OTHER_STREAMS: u32 = 8;
/// How often it is asked whether the last request is over.
const TICK: Duration = Duration::from_millis(50);
/// How long a client may take to learn of the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What QUIC allows a client under `config`: streams, memory, silence.
pub fn transport(config: &ServeConfig) -> TransportConfig {
    let silence = config.head_timeout.duration().max(SILENCE);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(OTHER_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(silence).ok())
        // While an answer is long in coming, nothing else says that the client is still there.
        .keep_alive_interval(Some(silence / 3));
    transport
}

/// Serves `connection` until it ends: by the client, by a limit, or because the server stops or gives its place to another
/// process. `place` is given back then.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub async fn serve<P: Send>(server: Arc<Server>, connection: Connection, peer: Peer, place: P, clock: Arc<dyn Clock>) {
    let config = server.config();
    let rest = config.head_timeout.duration();
    let supervisor = server.supervisor.clone();
    let load = Arc::new(Load::new());
    let shared = Arc::new(Shared {
        server: Arc::clone(&server),
        connection: connection.clone(),
        peer,
        load: Arc::clone(&load),
        clock,
        asked: AtomicU32::new(0),
        taken_back: AtomicU32::new(0),
    });
    // Closed however this ends; a connection that is closed stays as it is.
    let closing = Closing(connection.clone());
    let greeted = async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_chunk(control::greeting(shared.limits().bytes)).await.ok()?;
        Some(stream)
    };
    let Ok(Some(mut control)) = timeout(rest, greeted).await else { return };
    let seen = Arc::new(Seen::default());
    let mut next: u64 = 0;
    {
        let shutdown = supervisor.shutdown();
        let mut end = pin!(async {
            tokio::select! {
                () = shutdown.leaving() => {}
                () = load.idle(rest) => {}
            }
        });
        loop {
            tokio::select! {
                biased;
                _ = connection.closed() => return,
                stream = connection.accept_bi() => {
                    let Ok((send, receive)) = stream else { return };
                    next = next.max(u64::from(VarInt::from(send.id())).saturating_add(4));
                    let flight = load.begin();
                    supervisor.task("http stream", Role::Ordinary, Arc::clone(&shared).serve(send, receive, flight));
                }
                stream = connection.accept_uni() => {
                    let Ok(stream) = stream else { return };
                    let read = control::read(connection.clone(), stream, Arc::clone(&seen));
                    supervisor.task("http control stream", Role::Ordinary, read);
                }
                () = end.as_mut() => break,
            }
        }
    }
    // From here on requests go to another connection, and the client knows which were not looked at (section 5.2).
    let told = timeout(FAREWELL, control.write_chunk(control::goaway(next))).await;
    if !matches!(told, Ok(Ok(()))) {
        return;
    }
    let mut over = pin!(async {
        // A moment, so that it is not the end itself that tells.
        sleep(TICK).await;
        load.idle(TICK).await;
    });
    loop {
        tokio::select! {
            biased;
            _ = connection.closed() => return,
            stream = connection.accept_bi() => {
                let Ok((send, receive)) = stream else { return };
                reject(send, receive);
            }
            () = over.as_mut() => break,
            () = supervisor.shutdown().forced() => break,
        }
    }
    drop((closing, place));
}

/// A request that nobody has looked at, so that it may be made again.
fn reject(mut send: SendStream, mut receive: RecvStream) {
    let _ = send.reset(Code::REQUEST_REJECTED.number());
    let _ = receive.stop(Code::REQUEST_REJECTED.number());
}

/// Closes its connection when dropped.
struct Closing(Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(Code::NO_ERROR.number(), b"");
    }
}
