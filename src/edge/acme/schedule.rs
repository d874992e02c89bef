//! When to renew, and when to try again.

use std::time::Duration;

use crate::base::random::{self, Random};
use crate::base::{Backoff, Timestamp};

/// Waits after failures. Let's Encrypt allows five failed validations an hour for a name, and these make at most four.
const FIRST_WAIT: Duration = Duration::from_mins(15);
const LONGEST_WAIT: Duration = Duration::from_hours(12);
/// The longest wait an authority can ask for.
const MOST_ASKED: Duration = Duration::from_hours(24 * 7);

/// A moment near the last third of a lifetime, so that certificates made together are not renewed together.
pub fn renewal(not_before_ms: u64, not_after_ms: u64, random: &dyn Random) -> u64 {
    let lifetime = not_after_ms.saturating_sub(not_before_ms);
    let early = random::below(random, (lifetime / 30).max(1));
    not_after_ms.saturating_sub(lifetime / 3).saturating_sub(early)
}

/// A moment of the window an authority suggests (RFC 9773 section 4.2).
pub fn within(start_ms: u64, end_ms: u64, random: &dyn Random) -> u64 {
    start_ms.saturating_add(random::below(random, end_ms.saturating_sub(start_ms)))
}

/// When to try again after `failures` of them in a row, the last of which came with `asked` (`Retry-After`).
pub fn next_attempt(now: Timestamp, failures: u32, asked: Option<Duration>, random: &dyn Random) -> Timestamp {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut wait = backoff.next(random);
    for _ in 1..failures.min(16) {
        wait = backoff.next(random);
    }
    now.after(wait.max(asked.unwrap_or_default().min(MOST_ASKED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;

    const DAY: u64 = 86_400_000;

    #[test]
    fn renewal_comes_when_a_third_is_left_whatever_the_lifetime() {
        for days in [6, 47, 90, 365] {
            let at = renewal(DAY, DAY + days * DAY, &SystemRandom);
            let left = DAY + days * DAY - at;
            assert!(left >= days * DAY / 3 && left <= days * DAY / 3 + days * DAY / 30 + 1, "{days}: {left}");
        }
    }

    #[test]
    fn an_empty_window_is_its_start() {
        assert_eq!(within(5, 5, &SystemRandom), 5);
        assert!((5..15).contains(&within(5, 15, &SystemRandom)));
    }

    #[test]
    fn waits_grow_and_never_undercut_what_the_authority_asks_for() {
        let now = Timestamp::from_seconds(1_000);
        let wait = |failures, asked| next_attempt(now, failures, asked, &SystemRandom).since(now);
        assert!(wait(1, None) <= FIRST_WAIT && wait(1, None) >= FIRST_WAIT / 2);
        assert!(wait(40, None) >= LONGEST_WAIT / 2 && wait(40, None) <= LONGEST_WAIT);
        assert_eq!(wait(1, Some(Duration::from_hours(30))), Duration::from_hours(30));
        assert_eq!(wait(1, Some(Duration::MAX)), MOST_ASKED);
    }
}
