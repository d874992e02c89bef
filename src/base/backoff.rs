//! Growing waits between attempts.

use std::time::Duration;

use super::random::{self, Random};

/// Exponential back-off with jitter: `first`, `first * 2`, … up to `most`, each drawn from [half, whole] of its step so
/// that many waiters do not come back at once.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    /// Waits start at `first` and never exceed `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// How long to wait before the next attempt.
    pub fn next(&mut self, random: &dyn Random) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(30)).min(self.most);
        self.attempts = self.attempts.saturating_add(1);
        let half = u64::try_from(step.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half) + Duration::from_micros(random::below(random, half + 1))
    }

    /// Starts over after a success.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(&SystemRandom)).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(1)));
        assert!(waits[39] >= Duration::from_millis(500));
        backoff.reset();
        assert!(backoff.next(&SystemRandom) <= Duration::from_millis(100));
    }
}
