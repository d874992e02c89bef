//! What a connection's requests are doing: none under way, or one that waits for its client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The requests of one connection.
#[derive(Debug)]
pub struct Load {
    start: Instant,
    flights: AtomicUsize,
    /// Milliseconds after `start` of the last request's end.
    rested_ms: AtomicU64,
    next: AtomicU64,
    /// Told of the first request.
    asked: Notify,
    /// Responses whose next piece nobody has asked for, by request, and since when. As many as streams at most.
    waiting: Mutex<HashMap<u64, Instant>>,
}

impl Load {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            flights: AtomicUsize::new(0),
            rested_ms: AtomicU64::new(0),
            next: AtomicU64::new(0),
            asked: Notify::new(),
            waiting: Mutex::default(),
        }
    }

    pub fn begin(self: &Arc<Self>) -> Flight {
        self.flights.fetch_add(1, Ordering::SeqCst);
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            self.asked.notify_one();
        }
        Flight { load: Arc::clone(self), number, waiting: false, rested: None }
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

    /// Returns once a response has waited for its client for `limit`; looks twice in that time.
    ///
    /// The socket's own wait (see [`super::patience`]) does not see this: in HTTP/2 a client may read the socket and
    /// still never open the stream's window (RFC 9113 section 5.2).
    pub async fn stalled(&self, limit: Duration) {
        loop {
            sleep(limit / 2).await;
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.values().any(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Flight {
    load: Arc<Load>,
    number: u64,
    waiting: bool,
    /// When it ended, if that is known.
    rested: Option<Instant>,
}

impl Flight {
    /// The response has been given a piece; until the next is asked for, the client is to take it.
    pub fn waits_for_client(&mut self) {
        self.waiting = true;
        self.load.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number, Instant::now());
    }

    /// It ends `now`, and is about to be dropped.
    pub const fn rests(&mut self, now: Instant) {
        self.rested = Some(now);
    }

    /// The next piece is asked for.
    pub fn waits_for_us(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.load.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.waits_for_us();
        let now = self.rested.unwrap_or_else(Instant::now);
        let rested = u64::try_from(now.saturating_duration_since(self.load.start).as_millis()).unwrap_or(u64::MAX);
        self.load.rested_ms.store(rested, Ordering::SeqCst);
        self.load.flights.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_response_nobody_takes_is_stalled() {
        let load = Arc::new(Load::new());
        let mut flight = load.begin();
        flight.waits_for_client();
        let start = Instant::now();
        load.stalled(LIMIT).await;
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_waits_for_us_is_not_stalled() {
        let load = Arc::new(Load::new());
        let mut flight = load.begin();
        flight.waits_for_client();
        flight.waits_for_us();
        assert!(tokio::time::timeout(LIMIT * 9, load.stalled(LIMIT)).await.is_err());
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
