//! Failures of the last day, counted by the hour.

use serde::{Deserialize, Serialize};

/// Hours that are remembered.
pub const HOURS: usize = 24;

const HOUR_MS: u64 = 3_600_000;

/// How often something failed in each of the last 24 hours. A failure is forgotten after 23 to 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The hour of the last count, since 1970.
    hour: u64,
    /// By hour, modulo 24.
    counts: [u16; HOURS],
}

impl Failures {
    /// Notes a failure at `now_ms`.
    pub fn add(&mut self, now_ms: u64) {
        self.forget(now_ms);
        if let Some(count) = self.counts.get_mut((self.hour % HOURS as u64) as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// How many there were in the day before `now_ms`.
    pub fn count(&mut self, now_ms: u64) -> u32 {
        self.forget(now_ms);
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// When the last one is forgotten, in milliseconds since 1970.
    pub const fn ends_ms(&self) -> u64 {
        self.hour.saturating_add(HOURS as u64).saturating_mul(HOUR_MS)
    }

    /// Empties the hours that have begun since the last count. A clock that was set back changes nothing.
    fn forget(&mut self, now_ms: u64) {
        let hour = now_ms / HOUR_MS;
        for passed in self.hour + 1..=hour.min(self.hour + HOURS as u64) {
            if let Some(count) = self.counts.get_mut((passed % HOURS as u64) as usize) {
                *count = 0;
            }
        }
        self.hour = self.hour.max(hour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_for_a_day() {
        let mut failures = Failures::default();
        let start = 500_000 * HOUR_MS + 1000;
        failures.add(start);
        failures.add(start + HOUR_MS);
        assert_eq!(failures.count(start + HOUR_MS), 2);
        assert_eq!(failures.count(start + 23 * HOUR_MS), 2);
        assert_eq!(failures.count(start + 24 * HOUR_MS), 1);
        assert_eq!(failures.count(start + 90 * HOUR_MS), 0);
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nothing() {
        let mut failures = Failures::default();
        failures.add(100 * HOUR_MS);
        failures.add(50 * HOUR_MS);
        assert_eq!(failures.count(100 * HOUR_MS), 2);
    }
}
