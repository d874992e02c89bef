//! Small files in memory, shared by all workers: sharded, bounded by bytes, the least recently asked for goes first.
//!
//! An entry is good for [`FRESH`] without a look at the disk. After that the first request looks whether the file is
//! still the one it was (time and size), on a blocking thread; a changed file is thus seen within a second.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Found;

/// Parts with a lock each.
const SHARDS: usize = 16;
/// Most entries of a part; each costs some hundred bytes beside its content.
const ENTRIES: usize = 1024;
/// How long an entry is taken for true.
const FRESH: Duration = Duration::from_secs(1);

/// What was found by path.
#[derive(Debug)]
pub struct FileCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Most bytes of a part.
    most: usize,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<String, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    found: Arc<Found>,
    checked: Duration,
    used: Duration,
}

impl FileCache {
    /// Room for `bytes` of content.
    pub fn new(bytes: u64) -> Self {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX) / SHARDS;
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new(), most }
    }

    /// What `path` is, if it was looked at within the last second of `now`.
    pub fn fresh(&self, path: &str, now: Duration) -> Option<Arc<Found>> {
        let mut shard = self.shard(path)?.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = shard.entries.get_mut(path)?;
        entry.used = now;
        (now.saturating_sub(entry.checked) < FRESH).then(|| Arc::clone(&entry.found))
    }

    /// What `path` was when it was last looked at.
    pub fn known(&self, path: &str) -> Option<Arc<Found>> {
        let shard = self.shard(path)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.entries.get(path).map(|entry| Arc::clone(&entry.found))
    }

    /// Takes note that `path` is `found` at `now`.
    pub fn put(&self, path: &str, found: &Arc<Found>, now: Duration) {
        let size = found.bytes();
        let Some(shard) = self.shard(path).filter(|_| size <= self.most) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.remove(path);
        while shard.entries.len() >= ENTRIES || shard.bytes.saturating_add(size) > self.most {
            let oldest = shard.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
            let Some(oldest) = oldest else { break };
            shard.remove(&oldest);
        }
        shard.bytes = shard.bytes.saturating_add(size);
        shard.entries.insert(path.to_owned(), Entry { found: Arc::clone(found), checked: now, used: now });
    }

    /// Forgets `path`.
    pub fn forget(&self, path: &str) {
        if let Some(shard) = self.shard(path) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        }
    }

    fn shard(&self, path: &str) -> Option<&Mutex<Shard>> {
        self.shards.get(self.hasher.hash_one(path) as usize % SHARDS)
    }
}

impl Shard {
    fn remove(&mut self, path: &str) {
        if let Some(entry) = self.entries.remove(path) {
            self.bytes = self.bytes.saturating_sub(entry.found.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_bounded_and_what_is_asked_for_stays() {
        let cache = FileCache::new(16 * 3000);
        let found = Arc::new(Found::for_test(1000));
        cache.put("/hot", &found, Duration::ZERO);
        for number in 1..1000 {
            let now = Duration::from_millis(number);
            cache.put(&format!("/{number}"), &found, now);
            assert!(cache.fresh("/hot", now).is_some(), "{number}");
        }
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.bytes <= 3000 && shard.entries.len() * 1000 == shard.bytes);
        }
    }

    #[test]
    fn an_entry_is_looked_at_again_after_a_second() {
        let cache = FileCache::new(1 << 20);
        cache.put("/a", &Arc::new(Found::for_test(1)), Duration::ZERO);
        assert!(cache.fresh("/a", Duration::from_millis(999)).is_some());
        assert!(cache.fresh("/a", Duration::from_secs(1)).is_none());
        assert!(cache.known("/a").is_some());
        cache.forget("/a");
        assert!(cache.known("/a").is_none());
    }
}
