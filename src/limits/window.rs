//! The exact sliding window: when the last attempts were let through.

use super::Verdict;

/// Most attempts a window counts: it remembers each. What needs more takes GCRA.
pub const LIMIT_MAX: u32 = 100;

/// `limit` attempts in any stretch of `length_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Most attempts, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// Milliseconds.
    pub length_ms: u64,
}

impl Window {
    /// Decides about `cost` attempts at once at `now_ms`. `times` is the state: when attempts were let through, in
    /// order, in milliseconds; those that have left the window are removed, those let through now are added.
    ///
    /// A time ahead of `now_ms` (the clock was set back) counts as now.
    pub fn decide(&self, times: &mut Vec<u64>, now_ms: u64, cost: u32) -> Verdict {
        for time in times.iter_mut() {
            *time = (*time).min(now_ms);
        }
        times.retain(|time| time.saturating_add(self.length_ms) > now_ms);
        let limit = self.limit.max(1) as usize;
        let wanted = times.len().saturating_add(cost as usize);
        let allowed = wanted <= limit;
        let leaves = |time: &u64| time.saturating_add(self.length_ms).saturating_sub(now_ms);
        // So many of the oldest must have left.
        let retry_ms = if allowed { 0 } else { times.get(wanted - limit - 1).map_or(self.length_ms, leaves) };
        if allowed {
            times.resize(wanted, now_ms);
        }
        let remaining = u32::try_from(limit.saturating_sub(times.len())).unwrap_or(0);
        Verdict { allowed, remaining, retry_ms, reset_ms: times.last().map_or(0, leaves) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { limit: 3, length_ms: 1000 };

    #[test]
    fn the_oldest_makes_room() {
        let mut times = Vec::new();
        for (now, left) in [(5000, 2), (5400, 1), (5800, 0)] {
            assert_eq!(WINDOW.decide(&mut times, now, 1).remaining, left);
        }
        let refused = WINDOW.decide(&mut times, 5900, 1);
        assert_eq!(refused, Verdict { allowed: false, remaining: 0, retry_ms: 100, reset_ms: 900 });
        assert!(!WINDOW.decide(&mut times, 5999, 1).allowed);
        assert!(WINDOW.decide(&mut times, 6000, 1).allowed);
        assert_eq!(times, [5400, 5800, 6000]);
    }

    #[test]
    fn several_at_once_count_together_or_not_at_all() {
        let mut times = vec![5000];
        assert_eq!(WINDOW.decide(&mut times, 5100, 3).retry_ms, 900);
        assert_eq!(times, [5000]);
        assert!(WINDOW.decide(&mut times, 5100, 2).allowed);
        assert_eq!(WINDOW.decide(&mut times, 5100, 4).retry_ms, 1000, "never, so as long as it gets");
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer() {
        let mut times = vec![90_000, 90_001, 90_002];
        assert_eq!(WINDOW.decide(&mut times, 5000, 1).retry_ms, 1000);
        assert!(WINDOW.decide(&mut times, 6000, 1).allowed);
    }

    proptest::proptest! {
        #[test]
        fn no_window_has_more_than_its_limit(gaps in proptest::collection::vec(0..700_u64, 1..100)) {
            let (mut times, mut now, mut let_through) = (Vec::new(), 10_000, Vec::new());
            for gap in gaps {
                now += gap;
                let verdict = WINDOW.decide(&mut times, now, 1);
                if verdict.allowed {
                    let_through.push(now);
                } else {
                    let mut later = times.clone();
                    proptest::prop_assert!(!WINDOW.decide(&mut later, now + verdict.retry_ms - 1, 1).allowed);
                    proptest::prop_assert!(WINDOW.decide(&mut later, now + verdict.retry_ms, 1).allowed);
                }
            }
            for four in let_through.windows(4) {
                proptest::prop_assert!(four[3] - four[0] >= 1000);
            }
        }
    }
}
