//! Where stored answers are: parts with a lock each, shared by all workers, the least recently used going first when room
//! is wanted, to disk where there is one for them.
//!
//! A place also remembers that what is fetched for it now must not be kept any more (it was changed or purged meanwhile),
//! and that nobody should wait for another's fetch there, since nothing came of that.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use http::HeaderMap;

use super::disk::Tier;
use super::entry::Stored;
use super::key::Key;
use super::room::{Budget, Room};
use super::vary::Selecting;
use crate::telemetry::Counter;

/// Parts with a lock each.
const SHARDS: usize = 16;
/// Most places in a part.
const PLACES: usize = 8192;
/// Most answers in one place, which differ by the headers that `Vary` names.
const MOST_VARIANTS: usize = 16;
/// What a place takes beside its key's bytes.
const OVERHEAD: u64 = 320;
/// How much more than what is wanted is thrown out before it is given up: it is still being read.
const SPARE: u64 = 256 << 10;

/// All stored answers.
#[derive(Debug)]
pub struct Shelves {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    budget: Arc<Budget>,
    /// Counts uses and beginnings of fetches, so that the order of both is known.
    ticks: AtomicU64,
    /// What began before this is not kept any more.
    purged: AtomicU64,
    evicted: Counter,
    /// Where what has to make room goes.
    disk: OnceLock<Weak<Tier>>,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<Arc<Key>, Place>,
    /// By last use.
    order: BTreeMap<u64, Arc<Key>>,
}

#[derive(Debug)]
struct Place {
    variants: Vec<Arc<Stored>>,
    used: u64,
    /// Until when nobody waits for another's fetch, on the monotonic clock.
    alone_until: Duration,
    /// What began before this is not kept here.
    void_before: u64,
    _room: Room,
}

/// What is in a place.
#[derive(Debug, Default)]
pub struct Found {
    /// The answer to a request.
    pub stored: Option<Arc<Stored>>,
    /// Whether there are answers to others only.
    pub others: bool,
    /// Whether nobody should wait for another's fetch.
    pub alone: bool,
}

/// What came of taking a place away.
struct Evicted {
    /// Its bytes.
    bytes: u64,
    /// Those of them that are in use until they are on disk.
    moving: u64,
}

/// What is kept of one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Answers.
    pub answers: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Shelves {
    /// Room for `bytes`; `evicted` counts what had to make room.
    pub fn new(bytes: u64, evicted: Counter) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            budget: Budget::new(bytes),
            ticks: AtomicU64::new(1),
            purged: AtomicU64::new(0),
            evicted,
            disk: OnceLock::new(),
        }
    }

    /// From now on what has to make room goes to `tier`.
    pub fn overflow_to(&self, tier: &Arc<Tier>) {
        let _first_stays = self.disk.set(Arc::downgrade(tier));
    }

    /// The memory of all.
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The moment a fetch begins, for [`Self::put`].
    pub fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// The newest answer at `key` to a request with the headers `request`; `now` is monotonic.
    pub fn find(&self, key: &Key, request: &HeaderMap, now: Duration) -> Found {
        let used = self.tick();
        let mut shard = self.shard(key);
        let Some(place) = shard.touch(key, used) else { return Found::default() };
        let fitting = place.variants.iter().filter(|stored| stored.selecting.fits(request));
        let stored = fitting.max_by_key(|stored| stored.life.received()).map(Arc::clone);
        Found { others: stored.is_none() && !place.variants.is_empty(), stored, alone: now < place.alone_until }
    }

    /// Keeps what was fetched from `began` on, in place of what has the same headers. False: it is not kept, since the place
    /// was changed meanwhile or there is no room.
    pub fn put(&self, key: &Arc<Key>, stored: &Arc<Stored>, began: u64) -> bool {
        if began < self.purged.load(Ordering::Relaxed) {
            return false;
        }
        let kept = self.with_place(key, |place| {
            if began < place.void_before {
                return false;
            }
            place.variants.retain(|other| other.selecting != stored.selecting);
            if place.variants.len() >= MOST_VARIANTS
                && let Some(oldest) = (0..place.variants.len())
                    .min_by_key(|at| place.variants.get(*at).map(|stored| stored.life.received()))
            {
                place.variants.swap_remove(oldest);
            }
            place.variants.push(Arc::clone(stored));
            place.alone_until = Duration::ZERO;
            true
        });
        kept == Some(true)
    }

    /// Whether what was fetched for `key` from `began` on may be kept.
    pub fn is_current(&self, key: &Key, began: u64) -> bool {
        began >= self.purged.load(Ordering::Relaxed)
            && self.shard(key).places.get(key).is_none_or(|place| began >= place.void_before)
    }

    /// Takes away what stands in the way of an answer that came at `received` and is somewhere else: an older one for the same
    /// requests. False: it is the other way round.
    pub fn makes_way(&self, key: &Key, selecting: &Selecting, received: Duration) -> bool {
        let mut shard = self.shard(key);
        let Some(place) = shard.places.get_mut(key) else { return true };
        let newer = |other: &Arc<Stored>| other.selecting == *selecting && other.life.received() > received;
        if place.variants.iter().any(newer) {
            return false;
        }
        place.variants.retain(|other| other.selecting != *selecting);
        place.alone_until = Duration::ZERO;
        true
    }

    /// All answers, those used last first.
    pub fn all(&self) -> Vec<(Arc<Key>, Arc<Stored>)> {
        let mut all: Vec<(u64, Arc<Key>, Arc<Stored>)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, place) in &shard.places {
                all.extend(place.variants.iter().map(|stored| (place.used, Arc::clone(key), Arc::clone(stored))));
            }
        }
        all.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        all.into_iter().map(|(_, key, stored)| (key, stored)).collect()
    }

    /// Nobody waits for another's fetch at `key` until then.
    pub fn leave_alone(&self, key: &Arc<Key>, until: Duration) {
        self.with_place(key, |place| place.alone_until = until);
    }

    /// Takes `stored` away from `key`.
    pub fn forget(&self, key: &Key, stored: &Arc<Stored>) {
        if let Some(place) = self.shard(key).places.get_mut(key) {
            place.variants.retain(|other| !Arc::ptr_eq(other, stored));
        }
    }

    /// What is at `key` has changed: nothing of it, and nothing that is on its way, is used any more.
    pub fn void(&self, key: &Arc<Key>) {
        let now = self.tick();
        let voided = self.with_place(key, |place| {
            place.variants.clear();
            place.void_before = now;
        });
        if voided.is_none() {
            // No room to remember it: then nothing that is on its way anywhere is kept.
            self.purged.fetch_max(now, Ordering::Relaxed);
            self.shard(key).remove(key);
        }
    }

    /// Takes away every place for which `goes` is true, and keeps nothing that is on its way. Tells how many answers that
    /// were, without those that are on disk as well.
    pub fn purge(&self, goes: impl Fn(&Key) -> bool) -> u64 {
        self.purged.fetch_max(self.tick(), Ordering::Relaxed);
        let mut gone = 0u64;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let keys: Vec<Arc<Key>> = shard.places.keys().filter(|key| goes(key)).map(Arc::clone).collect();
            for key in keys {
                let variants = shard.remove(&key).map(|place| place.variants).unwrap_or_default();
                gone = gone.saturating_add(variants.iter().filter(|stored| stored.on_disk.is_none()).count() as u64);
            }
        }
        gone
    }

    /// What is kept, by site.
    pub fn kept(&self) -> HashMap<Arc<str>, Kept> {
        let mut all: HashMap<Arc<str>, Kept> = HashMap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, place) in &shard.places {
                let kept = all.entry(Arc::clone(&key.site)).or_default();
                for stored in &place.variants {
                    kept.answers = kept.answers.saturating_add(1);
                    kept.bytes = kept.bytes.saturating_add(stored.bytes);
                }
            }
        }
        all
    }

    /// Sets how many bytes there may be from now on.
    pub fn resize(&self, bytes: u64) {
        self.budget.resize(bytes);
        let mut moving = 0u64;
        while self.budget.excess() > moving {
            let Some(evicted) = self.evict() else { break };
            moving = moving.saturating_add(evicted.moving);
        }
    }

    /// Room for `bytes`, for which the answers used least recently go.
    pub fn room(&self, bytes: u64) -> Option<Room> {
        let mut freed = 0u64;
        loop {
            if let Some(room) = self.budget.take(bytes) {
                return Some(room);
            }
            if freed > bytes.saturating_add(SPARE) {
                return None;
            }
            let evicted = self.evict()?;
            // What is on its way to disk takes its room until then: more goes, of which the disk takes only so much.
            freed = freed.saturating_add(evicted.bytes.saturating_sub(evicted.moving));
        }
    }

    /// Takes the place used least recently away.
    fn evict(&self) -> Option<Evicted> {
        let began = self.tick();
        let oldest = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.order.keys().next().copied()
        };
        let (_, shard) =
            self.shards.iter().filter_map(|shard| Some((oldest(shard)?, shard))).min_by_key(|(used, _)| *used)?;
        let (key, place) = shard.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        // What it was to remember outlives it.
        self.purged.fetch_max(place.void_before, Ordering::Relaxed);
        self.evicted.add(place.variants.len() as u64);
        let bytes = place.variants.iter().map(|stored| stored.bytes).sum::<u64>();
        let tier = self.disk.get().and_then(Weak::upgrade);
        let moving = tier.map_or(0, |tier| tier.take_over(&key, place.variants, began));
        Some(Evicted { bytes: bytes.saturating_add(key.bytes() + OVERHEAD), moving })
    }

    /// Works on the place of `key`, which is made if it is not there; `None` when there is no room for one.
    fn with_place<T>(&self, key: &Arc<Key>, work: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let used = self.tick();
        if let Some(place) = self.shard(key).touch(key, used) {
            return Some(work(place));
        }
        // Outside the lock: making room locks the parts.
        let room = self.room(key.bytes().saturating_add(OVERHEAD))?;
        let mut shard = self.shard(key);
        if shard.places.len() >= PLACES
            && let Some((_, place)) = shard.pop()
        {
            self.evicted.add(place.variants.len() as u64);
        }
        if !shard.places.contains_key(key) {
            let place = Place { variants: Vec::new(), used, alone_until: Duration::ZERO, void_before: 0, _room: room };
            shard.places.insert(Arc::clone(key), place);
            shard.order.insert(used, Arc::clone(key));
        }
        shard.places.get_mut(key).map(work)
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "there are as many")]
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// The place of `key`, used now.
    fn touch(&mut self, key: &Key, used: u64) -> Option<&mut Place> {
        let place = self.places.get_mut(key)?;
        if let Some(key) = self.order.remove(&place.used) {
            self.order.insert(used, key);
        }
        place.used = used;
        Some(place)
    }

    fn remove(&mut self, key: &Key) -> Option<Place> {
        let place = self.places.remove(key)?;
        self.order.remove(&place.used);
        Some(place)
    }

    fn pop(&mut self) -> Option<(Arc<Key>, Place)> {
        let (_, key) = self.order.pop_first()?;
        self.places.remove(&key).map(|place| (key, place))
    }
}

#[cfg(test)]
#[path = "shelves_tests.rs"]
mod tests;
