//! How long a commit waits for writers that are on their way.
//!
//! Clients that ask again as soon as they are answered fall into two groups by themselves: one is in the commit, the
//! other collects behind it, and every commit carries half of them (measured 2026-11: 16 clients, 8 in a commit). So a
//! commit that has run all that waited gives those the last one answered a moment to come back. It expects as many as
//! were answered or waiting when the last commit ended: a lone client fulfils that by itself and never waits.
//!
//! The moment is at most half of what a commit takes here, and it must pay: when fewer came than the time was worth, the
//! following commits go ahead at once, more of them each time it turns out so.

use std::time::Duration;

/// Longest wait, however slow the disk.
const LONGEST: Duration = Duration::from_millis(5);

/// Most commits that go ahead at once, after waits that did not pay: 2 to the power of this.
const MOST_MISSES: u32 = 6;

/// How a commit went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Closures in it.
    pub(super) ran: usize,
    /// How many of these there were when it began to wait.
    pub(super) before: usize,
    /// How long it waited.
    pub(super) waited: Duration,
    /// How long writing it took.
    pub(super) took: Duration,
    /// Closures that wait for the next one.
    pub(super) behind: usize,
}

/// What the writer has learned about those who write.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// What a commit takes, lately.
    took: Duration,
    /// How many closures the next commit may expect.
    expected: usize,
    /// Waits in a row that did not pay.
    misses: u32,
    /// Commits still to go ahead at once.
    at_once: u32,
}

impl Pace {
    /// How long a commit with `ran` closures may wait for more, now that nobody else is there; `None` for not at all.
    pub(super) fn patience(&self, ran: usize) -> Option<Duration> {
        let moment = (self.took / 2).min(LONGEST);
        (ran < self.expected && self.at_once == 0 && !moment.is_zero()).then_some(moment)
    }

    /// Learns from a commit.
    pub(super) fn learn(&mut self, round: Round) {
        self.took = if self.took.is_zero() { round.took } else { (self.took * 3 + round.took) / 4 };
        self.expected = round.ran.saturating_add(round.behind);
        if round.waited.is_zero() {
            self.at_once = self.at_once.saturating_sub(1);
        } else if pays(round) {
            self.misses = 0;
        } else {
            self.misses = (self.misses + 1).min(MOST_MISSES);
            self.at_once = 1 << self.misses;
        }
    }

    /// Forgets everything: a commit failed, and nobody knows how the next ones go.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Whether clearly more closures a second were committed than without the wait. Clearly: those who came would have been in
/// the next commit, and clients that are the narrow place gain nothing by waiting for them. With this factor, of 13
/// simulated loads (1 to 64 clients, commits of 0.5 to 7 ms) none lost more than 1 %, and five gained 21 to 78 %.
fn pays(round: Round) -> bool {
    let came = round.ran.saturating_sub(round.before) as u128;
    came * round.took.as_nanos() >= 3 * round.before as u128 * round.waited.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(6);

    fn round(ran: usize, behind: usize) -> Round {
        Round { ran, before: ran, waited: Duration::ZERO, took: COMMIT, behind }
    }

    #[test]
    fn a_lone_writer_never_waits() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(1), None);
        for _ in 0..10 {
            pace.learn(round(1, 0));
            assert_eq!(pace.patience(1), None);
        }
    }

    #[test]
    fn a_commit_with_half_of_the_writers_waits_for_the_other_half_and_no_longer() {
        let mut pace = Pace::default();
        pace.learn(round(8, 8));
        assert_eq!(pace.patience(8), Some(COMMIT / 2));
        assert_eq!(pace.patience(15), Some(COMMIT / 2));
        assert_eq!(pace.patience(16), None);
        pace.learn(Round { before: 8, waited: COMMIT / 3, ..round(16, 0) });
        assert_eq!(pace.patience(3), Some(COMMIT / 2));
    }

    #[test]
    fn a_slow_disk_makes_nobody_wait_long_and_a_disk_without_delay_nobody_at_all() {
        let mut pace = Pace::default();
        pace.learn(Round { took: Duration::from_secs(3), ..round(8, 8) });
        assert_eq!(pace.patience(8), Some(LONGEST));
        let mut pace = Pace::default();
        pace.learn(Round { took: Duration::ZERO, ..round(8, 8) });
        assert_eq!(pace.patience(8), None);
    }

    #[test]
    fn waits_that_bring_nobody_become_rare_and_one_that_pays_brings_them_back() {
        let mut pace = Pace::default();
        let mut waits = 0;
        for _ in 0..1000 {
            if let Some(moment) = pace.patience(4) {
                waits += 1;
                pace.learn(Round { waited: moment, ..round(4, 4) });
            } else {
                pace.learn(round(4, 4));
            }
        }
        assert!((10..25).contains(&waits), "{waits}");
        while pace.patience(4).is_none() {
            pace.learn(round(4, 4));
        }
        pace.learn(Round { before: 4, waited: COMMIT / 4, ..round(8, 0) });
        assert!(pace.patience(4).is_some());
    }

    #[test]
    fn after_a_failure_nothing_is_expected() {
        let mut pace = Pace::default();
        pace.learn(round(8, 8));
        pace.forget();
        assert_eq!(pace.patience(1), None);
    }
}
