//! How often each address has failed of late: exact times, bounded in all.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Parts with a lock each.
const SHARDS: usize = 32;
/// Most addresses in one part, over all jails.
const MOST: usize = 1_024;

/// Times of failures, in milliseconds since the start, by jail and address.
#[derive(Debug)]
pub struct Counts {
    shards: [Mutex<HashMap<Key, Vec<u64>>>; SHARDS],
    hasher: RandomState,
}

/// What tells the counts of the jail called `jail` from others'; the same for the same name.
pub fn number_of(jail: &str) -> u64 {
    blake3::hash(jail.as_bytes()).as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The jail's number, and who failed.
type Key = (u64, IpAddr);

impl Default for Counts {
    fn default() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new() }
    }
}

impl Counts {
    /// One more failure of `who` in the jail of `number`; whether that makes `most` within `length_ms`. If so they are
    /// forgotten, and counting begins anew.
    pub fn add(&self, number: u64, who: IpAddr, most: usize, length_ms: u64, now_ms: u64) -> bool {
        let key = (number, who);
        let [first, ..] = &self.shards;
        let shard = self.shards.get(self.hasher.hash_one(key) as usize % SHARDS).unwrap_or(first);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if !shard.contains_key(&key) && shard.len() >= MOST {
            make_room(&mut shard, now_ms, length_ms);
        }
        let times = shard.entry(key).or_default();
        times.retain(|time| time.saturating_add(length_ms) > now_ms);
        times.push(now_ms);
        let reached = times.len() >= most;
        if reached {
            shard.remove(&key);
        }
        reached
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

/// Drops who has not failed for a while, or else a tenth of those who have failed the fewest times: a flood of addresses
/// pushes out its own kind.
fn make_room(shard: &mut HashMap<Key, Vec<u64>>, now_ms: u64, length_ms: u64) {
    shard.retain(|_, times| times.last().is_some_and(|last| last.saturating_add(length_ms) > now_ms));
    if shard.len() < MOST {
        return;
    }
    let mut by_weight: Vec<(usize, u64, Key)> =
        shard.iter().map(|(key, times)| (times.len(), times.last().copied().unwrap_or(0), *key)).collect();
    by_weight.sort_unstable();
    for (.., key) in by_weight.into_iter().take(MOST / 10) {
        shard.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn failures_within_the_time_count_and_older_ones_do_not() {
        let counts = Counts::default();
        for (at, reached) in [(0, false), (400, false), (1_001, false), (1_300, true), (1_400, false)] {
            assert_eq!(counts.add(1, ip(1), 3, 1_000, at), reached, "{at}");
        }
        assert!(!counts.add(2, ip(1), 2, 1_000, 1_400), "jails count apart");
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded_and_hides_nobody() {
        let counts = Counts::default();
        assert!(!counts.add(1, ip(0), 3, 1_000_000, 1) && !counts.add(1, ip(0), 3, 1_000_000, 2));
        for number in 1..200_000 {
            counts.add(1, ip(number), 3, 1_000_000, 3);
        }
        assert!(counts.len() <= SHARDS * MOST);
        assert!(counts.add(1, ip(0), 3, 1_000_000, 4));
    }
}
