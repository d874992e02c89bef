//! How much memory keys and values take, and how room is made.
//!
//! What is counted is what the allocator gives out for entries, values and tables ([`allocated`]). `kv.max_memory` says
//! what the process will hold, give or take a fifth: a small limit also has to hold what the program needs for itself
//! ([`room_within`]). Beyond it, room is made from where the memory is: a database is
//! drawn with the odds of what it could give, a stretch of its buckets is looked at, and the eighth of the keys found
//! there that its policy would miss least goes: deleted, or, where nothing may be lost, moved to disk
//! ([`cold`](super::cold)). Neighbours in a bucket have nothing in common, so a stretch is a fair sample, and one of some
//! hundred keys finds older ones than Redis' samples of five.
//!
//! Room is made before a command that may add to memory runs, and at the end of each turn of the loop. What is deleted is
//! recorded as an effect like any deletion.

use std::time::Duration;

use super::clock;
use super::cold::LARGEST;
use super::config::{DATABASES, KvConfig};
use super::dump;
use super::entry::Entry;
use super::error::Fault;
use super::eviction::Policy;
use super::keyspace::Keyspace;
use super::notify::Class;
use super::table::Place;
use crate::base::{Random, random};

/// Bytes freed at a time.
const BATCH: usize = 64 << 10;

/// Buckets looked at for one batch.
const BUCKETS: usize = 1024;

/// Keys found there of which the eighth goes.
const SAMPLE: usize = 1024;

/// Batches one command makes room for, while memory is not beyond an eighth over the limit.
const ROUNDS: usize = 4;

/// After room could not be made: how long nobody tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// What the program itself takes, with clients and a busy keyspace: its code, the allocator's own pages, buffers. Measured
/// as the resident set less the values, with four times as many values as fit (2026-11).
const OWN: usize = 22 << 20;

/// Bytes that keys and values may take so that the process holds no more than a fifth over `limit`. Half of that fifth is
/// what lies idle between values of different sizes; the other half is for the program, and what does not fit there is
/// taken from a limit that is too small for it, but never more than a quarter.
const fn room_within(limit: usize) -> usize {
    let (lacking, most) = (OWN.saturating_sub(limit / 10), limit / 4);
    limit - if lacking < most { lacking } else { most }
}

/// Bytes the allocator gives out for a request of `bytes`: the size classes of jemalloc, four to each doubling
/// (jemalloc(3), "Size classes").
pub const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => {
            let step = 1_usize << (usize::BITS - (bytes - 1).leading_zeros() - 3);
            bytes.next_multiple_of(step)
        }
    }
}

/// The limit, and what making room remembers.
#[derive(Debug)]
pub(super) struct Memory {
    /// `kv.max_memory`; 0 for no limit.
    limit: usize,
    /// Bytes keys and values may take of it.
    room: usize,
    /// Room could not be made then.
    stuck: Option<Duration>,
    draws: u64,
    /// Kept for the next value on its way to disk.
    scratch: Vec<u8>,
}

impl Memory {
    pub fn new(config: &KvConfig, random: &dyn Random) -> Self {
        let limit = config.max_memory.fixed().unwrap_or(0);
        Self {
            limit,
            room: room_within(limit),
            stuck: None,
            draws: u64::from_le_bytes(random::bytes(random)) | 1,
            scratch: Vec::new(),
        }
    }

    /// A number nobody needs to be unable to guess (xorshift64*, Vigna 2014): which buckets are looked at, and whether
    /// a count of uses rises.
    pub const fn draw(&mut self) -> u64 {
        self.draws ^= self.draws >> 12;
        self.draws ^= self.draws << 25;
        self.draws ^= self.draws >> 27;
        self.draws.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }
}

/// What making room has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Memory is within its limit.
    Within,
    /// Some, and more could be had.
    Some,
    /// Nothing more can be moved or deleted.
    None,
}

/// What may be done for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Values may move to disk.
    Move,
    /// Keys may be deleted, too, where the policy of their database says so.
    Evict,
}

impl Keyspace {
    /// The limit that was set, in bytes; 0 for none.
    pub const fn memory_limit(&self) -> usize {
        self.memory.limit
    }

    /// What the program itself takes of the limit, in bytes.
    pub const fn memory_of_program(&self) -> usize {
        self.memory.limit - self.memory.room
    }

    /// Sets the limit (`kv.max_memory` or `CONFIG SET maxmemory`); 0 for none.
    pub const fn limit_memory(&mut self, bytes: usize) {
        self.memory.limit = bytes;
        self.memory.room = room_within(bytes);
        self.memory.stuck = None;
    }

    /// The policy of a database.
    pub fn policy(&self, db: u8) -> Policy {
        self.policies.get(usize::from(db)).copied().unwrap_or_default()
    }

    /// Changes the policy of a database (`CONFIG SET maxmemory-policy`).
    pub fn set_policy(&mut self, db: u8, policy: Policy) {
        if let Some(place) = self.policies.get_mut(usize::from(db)) {
            *place = policy;
        }
        self.memory.stuck = None;
    }

    /// Brings memory within its limit, as far as it goes at once. The loop calls it once a turn.
    pub fn keep_within(&mut self, means: Means) {
        self.make_room(means);
        self.announce("", &[]);
    }

    /// Makes room for a command that may add to memory.
    ///
    /// # Errors
    /// [`Fault::Full`] when there is none to be had.
    pub(super) fn make_room_for_more(&mut self, means: Means) -> Result<(), Fault> {
        match self.make_room(means) {
            Room::None => Err(Fault::Full),
            Room::Within | Room::Some => Ok(()),
        }
    }

    fn make_room(&mut self, means: Means) -> Room {
        let limit = self.memory.room;
        if limit == 0 {
            return Room::Within;
        }
        let (slack, most) = (BATCH.min(limit / 32), limit + limit / 8);
        let mut rounds = 0;
        loop {
            let used = self.used();
            if used <= limit {
                return Room::Within;
            }
            if self.memory.stuck.is_some_and(|then| self.clock.monotonic < then + PAUSE) {
                return Room::None;
            }
            if rounds >= ROUNDS && used < most {
                return Room::Some;
            }
            rounds += 1;
            if self.free_some((used - limit + slack).min(BATCH), means) == 0 {
                self.memory.stuck = Some(self.clock.monotonic);
                return Room::None;
            }
            self.memory.stuck = None;
        }
    }

    /// Frees about `goal` bytes; how many.
    fn free_some(&mut self, goal: usize, means: Means) -> usize {
        let gains: [usize; DATABASES as usize] = std::array::from_fn(|db| self.gain(db as u8, means));
        let total: usize = gains.iter().sum();
        if total == 0 {
            return 0;
        }
        let mut drawn = (self.memory.draw() % total as u64) as usize;
        let first = gains.iter().position(|gain| {
            let here = drawn < *gain;
            drawn = drawn.saturating_sub(*gain);
            here
        });
        let first = first.unwrap_or(0) as u8;
        let mut freed = 0;
        for step in 0..DATABASES {
            let db = (first + step) % DATABASES;
            if gains[usize::from(db)] > 0 {
                freed = self.free_in(db, goal, means);
            }
            if freed > 0 {
                break;
            }
        }
        freed
    }

    /// Bytes a database could give.
    fn gain(&self, db: u8, means: Means) -> usize {
        let (database, policy) = (self.database(db), self.policy(db));
        let evicts = means == Means::Evict && policy.evicts();
        let savings = if self.may_move() { database.cold.savings } else { 0 };
        match evicts {
            true if !policy.volatile() => database.used,
            true if database.expiring > 0 => {
                (database.used / database.entries.len().max(1) * database.expiring).max(savings)
            }
            _ => savings,
        }
    }

    /// Whether values can be moved to disk now. Those whose copy there is good can be dropped even when it is full.
    const fn may_move(&self) -> bool {
        self.cold.is_some()
    }

    fn free_in(&mut self, db: u8, goal: usize, means: Means) -> usize {
        let policy = self.policy(db);
        if means == Means::Evict && policy.evicts() {
            let freed = self.evict_from(db, policy, goal);
            if freed > 0 || !policy.volatile() {
                return freed;
            }
        }
        self.move_from(db, goal)
    }

    /// Deletes the keys of a database that its policy misses least.
    fn evict_from(&mut self, db: u8, policy: Policy, goal: usize) -> usize {
        let (second, mut cursor) = (self.clock.monotonic.as_secs(), self.memory.draw());
        let table = &self.database(db).entries;
        let mut found: Vec<(u64, usize, Box<[u8]>)> = Vec::new();
        for _ in 0..BUCKETS.min(table.buckets()) {
            cursor = table.scan(cursor, |entry| {
                if policy.volatile() && entry.expires().is_none() {
                    return;
                }
                // The least goes first.
                let worth = match policy {
                    Policy::AllKeysLru | Policy::VolatileLru => {
                        u64::from(u32::MAX - clock::idle(entry.access(), second))
                    }
                    Policy::AllKeysLfu | Policy::VolatileLfu => {
                        u64::from(clock::frequency(entry.access(), second)) << 32
                            | u64::from(u32::MAX - clock::idle(entry.access(), second))
                    }
                    Policy::VolatileTtl => entry.expires().unwrap_or(u64::MAX),
                    _ => 0,
                };
                found.push((worth, entry.memory(), entry.key().into()));
            });
            if found.len() >= SAMPLE / 8 {
                break;
            }
        }
        found.sort_unstable_by_key(|(worth, ..)| *worth);
        let most = (found.len() / 8).max(1);
        let mut freed = 0;
        for (_, bytes, key) in found.into_iter().take(most) {
            // `find` deletes what has expired.
            if let Some(place) = self.find(db, &key)
                && self.drop_at(db, place, Class::Evicted)
            {
                self.counts.evicted += 1;
            }
            freed += bytes;
            if freed >= goal {
                break;
            }
        }
        freed
    }

    /// Moves values of a database that were not used for long to disk.
    fn move_from(&mut self, db: u8, goal: usize) -> usize {
        let (now, store) = (self.clock.monotonic, self.store(db));
        let mut cursor = self.memory.draw();
        let Self { databases, cold: Some(cold), memory, .. } = self else { return 0 };
        let database = &mut databases[usize::from(store)];
        let may_write = cold.takes(now);
        let mut found: Vec<(u32, usize, Place)> = Vec::new();
        let mut savings = 0;
        for _ in 0..BUCKETS.min(database.entries.buckets()) {
            cursor = database.entries.scan_places(cursor, |place, entry| {
                let saves = entry.savings();
                if (1..=LARGEST).contains(&saves) && (may_write || entry.spot().is_some()) {
                    savings += saves;
                    found.push((clock::idle(entry.access(), now.as_secs()), saves, place));
                }
            });
            if found.len() >= SAMPLE || savings >= 8 * goal {
                break;
            }
        }
        found.sort_unstable_by_key(|(idle, ..)| std::cmp::Reverse(*idle));
        let most = (found.len() / 8).max(1);
        let mut moved = Vec::new();
        let mut planned = 0;
        for (_, saves, place) in found.into_iter().take(most) {
            let Some(entry) = database.entries.get(place) else { continue };
            if let Some(spot) = entry.spot() {
                cold.counts.dropped += 1;
                moved.push((place, spot, true));
            } else {
                memory.scratch.clear();
                dump::dump(entry, &mut memory.scratch);
                match cold.put(store, entry.key(), &memory.scratch, now) {
                    Ok(Some(spot)) => moved.push((place, spot, false)),
                    Ok(None) => continue,
                    // Said in the log by then.
                    Err(_) => break,
                }
            }
            planned += saves;
            if planned >= goal {
                break;
            }
        }
        memory.scratch.shrink_to(BATCH);
        let written = cold.flush(now).is_ok();
        let before = database.used;
        for (place, spot, good) in moved {
            if good || written {
                cold.counts.written += u64::from(!good);
                database.change(place, |entry: &mut Entry| entry.chill(spot));
            }
        }
        before.saturating_sub(database.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_holds_the_program_too() {
        let mib = |bytes: usize| bytes >> 20;
        for (limit, room) in [(0, 0), (16, 12), (64, 48), (128, 118), (256, 256), (4096, 4096)] {
            assert_eq!(mib(room_within(limit << 20)), room, "{limit} MiB");
        }
    }

    #[test]
    fn sizes_are_rounded_as_the_allocator_does() {
        let classes = [(0, 0), (1, 8), (9, 16), (17, 32), (112, 112), (113, 128), (129, 160), (200, 224), (256, 256)];
        for (bytes, class) in classes.into_iter().chain([(257, 320), (1_024, 1_024), (1_025, 1_280), (5_000, 5_120)]) {
            assert_eq!(allocated(bytes), class, "{bytes}");
        }
    }
}
