//! When a delivery that did not work is tried again.

use std::time::Duration;

use crate::base::{Random, Timestamp, random};

/// Waits after the first, second, … failed attempt, in seconds; the last one repeats.
const WAITS: [u64; 7] = [60, 5 * 60, 15 * 60, 3600, 3 * 3600, 6 * 3600, 12 * 3600];

/// When to try again after `attempts` failed ones: the step's wait ±20 %, so that many deferred messages do not come
/// back at once. `None` once `give_up` has passed by then.
pub fn next_attempt(attempts: u32, now: Timestamp, give_up: Timestamp, random: &dyn Random) -> Option<Timestamp> {
    let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    let wait_ms = WAITS[step] * 1000;
    let jittered = wait_ms * 4 / 5 + random::below(random, wait_ms * 2 / 5);
    let next = now.after(Duration::from_millis(jittered));
    (next <= give_up).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRandom;

    #[test]
    fn waits_grow_with_jitter_until_the_message_is_given_up() {
        let random = TestRandom::new(1);
        let give_up = Timestamp::from_seconds(48 * 3600);
        for (attempts, seconds) in [(1, 60), (2, 300), (7, 43_200), (99, 43_200)] {
            let next = next_attempt(attempts, Timestamp(0), give_up, &random).unwrap().seconds();
            assert!((seconds * 4 / 5..=seconds * 6 / 5).contains(&next), "{attempts}: {next}");
        }
        assert_eq!(next_attempt(7, Timestamp::from_seconds(47 * 3600), give_up, &random), None);
    }
}
