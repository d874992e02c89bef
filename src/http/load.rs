//! Whether a connection has requests under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The requests of one connection.
#[derive(Debug)]
pub struct Load {
    start: Instant,
    flights: AtomicUsize,
    /// Those of them that are lasting, and who waits to hear that all are.
    lasting: AtomicUsize,
    lasted: Notify,
    /// Milliseconds after `start` of the last request's end.
    rested_ms: AtomicU64,
    next: AtomicU64,
    /// Told of the first request.
    asked: Notify,
    /// Whether requests come as streams of HTTP/2, and who waits to hear of it.
    streams: AtomicBool,
    streamed: Notify,
}

impl Load {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            flights: AtomicUsize::new(0),
            lasting: AtomicUsize::new(0),
            lasted: Notify::new(),
            rested_ms: AtomicU64::new(0),
            next: AtomicU64::new(0),
            asked: Notify::new(),
            streams: AtomicBool::new(false),
            streamed: Notify::new(),
        }
    }

    pub fn begin(self: &Arc<Self>) -> Flight {
        self.flights.fetch_add(1, Ordering::SeqCst);
        if self.next.fetch_add(1, Ordering::SeqCst) == 0 {
            self.asked.notify_one();
        }
        Flight { load: Arc::clone(self), rested: None, lasts: false }
    }

    /// Returns once the connection has asked for anything, at the latest when it is `age` old.
    pub async fn asked(&self, age: Duration) {
        if self.next.load(Ordering::SeqCst) == 0 {
            tokio::select! {
                () = self.asked.notified() => {}
                () = sleep_until(self.start + age) => {}
            }
        }
    }

    /// Notes that a request came as a stream of HTTP/2.
    pub fn has_streams(&self) {
        if !self.streams.swap(true, Ordering::SeqCst) {
            self.streamed.notify_one();
        }
    }

    /// Returns once a request has come as a stream of HTTP/2; never on a connection that speaks HTTP/1.
    pub async fn streamed(&self) {
        if !self.streams.load(Ordering::SeqCst) {
            self.streamed.notified().await;
        }
    }

    /// Returns once every request under way is [`Flight::lasts`], and there are some.
    pub async fn lasting(&self) {
        loop {
            let lasting = self.lasting.load(Ordering::SeqCst);
            if lasting > 0 && lasting == self.flights.load(Ordering::SeqCst) {
                return;
            }
            self.lasted.notified().await;
        }
    }

    /// Returns once no request has been under way for `limit`.
    pub async fn idle(&self, limit: Duration) {
        loop {
            let rested = self.start + Duration::from_millis(self.rested_ms.load(Ordering::SeqCst));
            let busy = self.flights.load(Ordering::SeqCst) > 0;
            let due = if busy { Instant::now() + limit } else { rested + limit };
            if !busy && due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Flight {
    load: Arc<Load>,
    /// When it ended, if that is known.
    rested: Option<Instant>,
    lasts: bool,
}

impl Flight {
    /// It ends `now`, and is about to be dropped.
    pub const fn rests(&mut self, now: Instant) {
        self.rested = Some(now);
    }

    /// What is left of it may go on when the server has stopped but for that.
    pub fn lasts(&mut self) {
        if !std::mem::replace(&mut self.lasts, true) {
            self.load.lasting.fetch_add(1, Ordering::SeqCst);
            self.load.lasted.notify_one();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = self.rested.unwrap_or_else(Instant::now);
        let rested = u64::try_from(now.saturating_duration_since(self.load.start).as_millis()).unwrap_or(u64::MAX);
        self.load.rested_ms.store(rested, Ordering::SeqCst);
        if self.lasts {
            self.load.lasting.fetch_sub(1, Ordering::SeqCst);
        }
        self.load.flights.fetch_sub(1, Ordering::SeqCst);
        if self.load.lasting.load(Ordering::SeqCst) > 0 {
            self.load.lasted.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_lasts_when_all_that_is_under_way_does() {
        let load = Arc::new(Load::new());
        let (mut download, upload) = (load.begin(), load.begin());
        download.lasts();
        let lasting = async {
            load.lasting().await;
            Instant::now()
        };
        let start = Instant::now();
        let ended = async {
            tokio::time::sleep(LIMIT).await;
            drop(upload);
        };
        let (since, ()) = tokio::join!(lasting, ended);
        assert_eq!(since.saturating_duration_since(start), LIMIT);
        drop(download);
        assert!(tokio::time::timeout(LIMIT, load.lasting()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn rest_begins_with_the_end_of_the_last_request() {
        let load = Arc::new(Load::new());
        let flight = load.begin();
        assert!(tokio::time::timeout(LIMIT * 3, load.idle(LIMIT)).await.is_err());
        drop(flight);
        let start = Instant::now();
        load.idle(LIMIT).await;
        assert!(start.elapsed() >= LIMIT && start.elapsed() <= LIMIT + Duration::from_millis(2));
    }
}
