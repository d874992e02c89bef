//! The generic cell rate algorithm: a leaky bucket in one number.
//!
//! The state is the theoretical arrival time: the moment at which everything let through so far would have arrived had
//! it kept to the rate exactly. An attempt is let through if that moment is not further ahead than the burst allows.
//! Source: ITU-T I.371 (the virtual scheduling algorithm).

use super::Verdict;

/// A rate: `burst` at once, and `count` in each `period_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Most at once, at least 1.
    pub burst: u32,
    /// How many in `period_us`, at least 1.
    pub count: u32,
    /// Microseconds.
    pub period_us: u64,
}

impl Rate {
    /// Microseconds between two attempts that keep to the rate, at least 1.
    pub const fn interval_us(&self) -> u64 {
        let count = if self.count == 0 { 1 } else { self.count };
        let interval = self.period_us / count as u64;
        if interval == 0 { 1 } else { interval }
    }

    /// Decides about `cost` attempts at once at `now_us`, with `arrival` as the state (0 when there is none). The new
    /// state comes with the verdict; it is the old one when the attempt is refused, or when it costs nothing.
    pub fn decide(&self, arrival: u64, now_us: u64, cost: u32) -> (Verdict, u64) {
        let interval = self.interval_us();
        let tolerance = interval.saturating_mul(u64::from(self.burst.max(1)));
        // No state is further ahead than a full burst, unless the clock was set back.
        let ahead = arrival.saturating_sub(now_us).min(tolerance);
        let wanted = ahead.saturating_add(interval.saturating_mul(u64::from(cost)));
        let over = wanted.saturating_sub(tolerance);
        let allowed = over == 0;
        let ahead = if allowed { wanted } else { ahead };
        let remaining = (tolerance - ahead) / interval;
        let verdict = Verdict {
            allowed,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            retry_ms: over.div_ceil(1000),
            reset_ms: ahead.div_ceil(1000),
        };
        (verdict, now_us.saturating_add(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    /// Ten a second, five at once.
    const RATE: Rate = Rate { burst: 5, count: 10, period_us: SECOND };

    #[test]
    fn a_burst_goes_through_and_then_the_rate_holds() {
        let (mut state, now) = (0, 100 * SECOND);
        for left in (0..5).rev() {
            let (verdict, next) = RATE.decide(state, now, 1);
            assert!(verdict.allowed);
            assert_eq!(verdict.remaining, left);
            state = next;
        }
        let (verdict, next) = RATE.decide(state, now, 1);
        assert_eq!(verdict, Verdict { allowed: false, remaining: 0, retry_ms: 100, reset_ms: 500 });
        assert_eq!(next, state, "a refused attempt does not count");
        assert_eq!(RATE.decide(u64::MAX, now, 1).0.retry_ms, 100, "a clock that was set back costs one burst");
        assert!(RATE.decide(state, now + 100_000, 1).0.allowed);
        assert!(!RATE.decide(state, now + 99_999, 1).0.allowed);
    }

    #[test]
    fn looking_costs_nothing_and_too_much_at_once_never_goes() {
        let (verdict, state) = RATE.decide(0, SECOND, 0);
        assert!(verdict.allowed && verdict.remaining == 5 && state == SECOND);
        assert!(!RATE.decide(0, SECOND, 6).0.allowed);
        assert!(!RATE.decide(u64::MAX, u64::MAX, u32::MAX).0.allowed);
    }

    proptest::proptest! {
        /// In any stretch of time, no more than the burst and what the rate gives meanwhile.
        #[test]
        fn no_stretch_has_more_than_its_share(gaps in proptest::collection::vec(0..300_000_u64, 1..200)) {
            let (mut state, mut now, mut let_through) = (0, SECOND, Vec::new());
            for gap in gaps {
                now += gap;
                let (verdict, next) = RATE.decide(state, now, 1);
                state = next;
                if verdict.allowed {
                    let_through.push(now);
                }
            }
            for (at, first) in let_through.iter().enumerate() {
                for (count, last) in let_through.iter().enumerate().skip(at).map(|(to, last)| (to - at + 1, last)) {
                    proptest::prop_assert!(count as u64 <= 5 + (last - first) / RATE.interval_us());
                }
            }
        }
    }
}
