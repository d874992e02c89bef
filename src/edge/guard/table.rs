//! The counters of all rate zones: sharded, so that workers rarely meet, and bounded.
//!
//! One number a key (see [`crate::limits::gcra`]), under a keyed hash of what is counted; two keys fall together with a
//! chance of 2^-64 a pair, and nobody outside can aim at it. Counters are not kept over a restart.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::limits::Verdict;
use crate::limits::gcra::Rate;

/// Parts with a lock each.
const SHARDS: usize = 64;

/// Who is counted.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Subject<'a> {
    /// A client's address, IPv6 by its /64.
    Address(IpAddr),
    /// A header's value.
    Text(&'a [u8]),
}

/// Theoretical arrival times by key.
#[derive(Debug)]
pub struct RateTable {
    shards: Vec<Mutex<HashMap<u64, u64>>>,
    most: usize,
    hasher: RandomState,
}

impl RateTable {
    /// Room for `keys` counters, some 32 bytes each, taken as they come.
    pub fn new(keys: u32) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, most: Self::most(keys), hasher: RandomState::new() }
    }

    /// Whether it has room for `keys` counters.
    pub fn has_room_for(&self, keys: u32) -> bool {
        self.most == Self::most(keys)
    }

    fn most(keys: u32) -> usize {
        (keys as usize).div_ceil(SHARDS).max(1)
    }

    /// One attempt of `subject` in zone number `zone`.
    pub fn attempt(&self, zone: u64, subject: &Subject<'_>, rate: &Rate, now_us: u64) -> Verdict {
        let key = self.hasher.hash_one(Numbered { zone, subject });
        let Some(shard) = self.shards.get(key as usize % SHARDS) else {
            return rate.decide(0, now_us, 1).0;
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arrival) = shard.get_mut(&key) {
            let (verdict, next) = rate.decide(*arrival, now_us, 1);
            *arrival = next;
            return verdict;
        }
        if shard.len() >= self.most {
            make_room(&mut shard, now_us);
        }
        let (verdict, next) = rate.decide(0, now_us, 1);
        shard.insert(key, next);
        verdict
    }
}

#[derive(Hash)]
struct Numbered<'a> {
    zone: u64,
    subject: &'a Subject<'a>,
}

/// Drops what has run out, or else the counter closest to it: a flood of new keys pushes out its own kind, and whoever
/// is being held back stays so.
fn make_room(shard: &mut HashMap<u64, u64>, now_us: u64) {
    shard.retain(|_, arrival| *arrival > now_us);
    if let Some(key) = shard.iter().min_by_key(|(_, arrival)| **arrival).map(|(key, _)| *key) {
        shard.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, count: 1, period_us: 1_000_000 };

    #[test]
    fn a_flood_of_keys_stays_bounded_and_frees_nobody_who_is_held_back() {
        let table = RateTable::new(640);
        let held = Subject::Text(b"held");
        while table.attempt(0, &held, &RATE, 1_000).allowed {}
        for number in 0..50_000_u32 {
            table.attempt(0, &Subject::Text(&number.to_le_bytes()), &RATE, 1_000);
        }
        let kept: usize = table.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= 640, "{kept}");
        assert!(!table.attempt(0, &held, &RATE, 1_000).allowed);
    }

    #[test]
    fn zones_count_apart() {
        let table = RateTable::new(10);
        let who = Subject::Address("192.0.2.1".parse().unwrap());
        while table.attempt(0, &who, &RATE, 1_000).allowed {}
        assert!(table.attempt(1, &who, &RATE, 1_000).allowed);
    }
}
