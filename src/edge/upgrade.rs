//! WebSockets: after the 101, bytes in both directions until somebody ends it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::base::Supervisor;
use crate::base::supervise::Role;
use crate::telemetry::Gauge;

/// Bytes held in each direction.
const BUFFER: usize = 16 << 10;
/// How long either side may take to hand over its connection after the 101.
const HANDOVER: Duration = Duration::from_secs(10);

/// What a tunnel needs beside its two ends.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// Where tunnels run.
    pub supervisor: Supervisor,
    /// The worker's account, so that it waits for them.
    pub tracker: TaskTracker,
    /// Open tunnels.
    pub open: Gauge,
}

impl Tunnels {
    /// Connects `client` and `upstream` once both have switched. Ends with either side, after `idle` of silence in both
    /// directions (checked in quarters, so it may last a quarter longer), or when a stopping server's time is over.
    pub fn start(&self, client: OnUpgrade, upstream: OnUpgrade, idle: Duration) {
        let this = self.clone();
        let tunnel = self.tracker.track_future(async move {
            let both = async { tokio::try_join!(client, upstream) };
            let (client, upstream) = match timeout(HANDOVER, both).await {
                Ok(Ok(both)) => both,
                Ok(Err(error)) => return tracing::debug!(%error, "a WebSocket did not come about"),
                Err(_) => return tracing::debug!("a WebSocket did not come about in time"),
            };
            this.open.add(1);
            let _open = Open(this.open.clone());
            let moved = Arc::new(AtomicU64::new(0));
            let mut client = Watched { inner: TokioIo::new(client), moved: Arc::clone(&moved) };
            let mut upstream = TokioIo::new(upstream);
            tokio::select! {
                outcome = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "a WebSocket broke");
                    }
                }
                () = silence(&moved, idle) => {}
                () = this.supervisor.shutdown().forced() => {}
            }
        });
        self.supervisor.task("edge websocket", Role::Ordinary, tunnel);
    }
}

/// Returns once `moved` has stood still for `limit`.
async fn silence(moved: &AtomicU64, limit: Duration) {
    let mut seen = moved.load(Ordering::Relaxed);
    let mut quarters = 0;
    while quarters < 4 {
        sleep(limit / 4).await;
        let now = moved.load(Ordering::Relaxed);
        quarters = if now == seen { quarters + 1 } else { 0 };
        seen = now;
    }
}

struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// A stream that counts what goes through it, either way.
struct Watched<I> {
    inner: I,
    moved: Arc<AtomicU64>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        let read = buffer.filled().len().saturating_sub(before);
        self.moved.fetch_add(read as u64, Ordering::Relaxed);
        outcome
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &outcome {
            self.moved.fetch_add(*written as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_byte() {
        let moved = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let talker = Arc::clone(&moved);
        let ((), ()) = tokio::join!(silence(&moved, Duration::from_secs(40)), async move {
            sleep(Duration::from_secs(25)).await;
            talker.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(start.elapsed(), Duration::from_secs(70));
    }
}
