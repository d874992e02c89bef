//! The last requests, for whoever looks at them in the console: noted only while somebody does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::Clock;
use crate::monitor::Passed;

/// Requests kept.
const KEPT: usize = 100;
/// How long they are noted after a look.
const WATCH: Duration = Duration::from_mins(1);

/// The last requests. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tail(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lines: Mutex<VecDeque<Passed>>,
    /// Until when they are noted, in milliseconds of the monotonic clock.
    until: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Tail {
    /// Nothing is noted yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { lines: Mutex::default(), until: AtomicU64::new(0), clock }))
    }

    /// Whether somebody looks; one load of a number while nobody does.
    pub fn is_watched(&self) -> bool {
        let until = self.0.until.load(Ordering::Relaxed);
        until > 0 && millis(self.0.clock.monotonic()) < until
    }

    /// Notes a request.
    pub fn note(&self, passed: Passed) {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.truncate(KEPT - 1);
        lines.push_front(passed);
    }

    /// The last requests, the newest first. From now on, and for a minute, they are noted.
    pub fn look(&self) -> Vec<Passed> {
        let was_watched = self.is_watched();
        self.0.until.store(millis(self.0.clock.monotonic().saturating_add(WATCH)), Ordering::Relaxed);
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if !was_watched {
            // There is a gap between these and what comes.
            lines.clear();
        }
        lines.iter().cloned().collect()
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    fn passed(path: &str) -> Passed {
        Passed {
            at: crate::base::Timestamp(1),
            client: None,
            method: "GET".into(),
            host: String::new(),
            path: path.into(),
            status: 200,
            bytes: 0,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn requests_are_noted_while_somebody_looks_and_are_bounded() {
        let clock = Arc::new(TestClock::default());
        let tail = Tail::new(clock.clone());
        assert!(!tail.is_watched() && tail.look().is_empty() && tail.is_watched());
        for number in 0..250 {
            tail.note(passed(&format!("/{number}")));
        }
        let seen = tail.look();
        assert_eq!((seen.len(), seen[0].path.as_str()), (KEPT, "/249"));
        clock.advance(Duration::from_secs(61));
        assert!(!tail.is_watched() && tail.look().is_empty());
    }
}
