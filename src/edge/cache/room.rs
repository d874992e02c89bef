//! The memory of all stored answers together. What somebody still reads counts, also when nobody finds it any more: a
//! crowd of slow readers takes places away, never memory beyond the cap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// How many bytes there may be, and are.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    most: AtomicU64,
}

/// Some of them, given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

/// Bytes that take room for as long as anybody holds them.
struct Held {
    data: Box<[u8]>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Budget {
    /// Room for `most` bytes.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), most: AtomicU64::new(most) })
    }

    /// Sets how many bytes there may be from now on.
    pub fn resize(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many bytes there may be.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes are taken beyond what there may be.
    pub fn excess(&self) -> u64 {
        self.used().saturating_sub(self.most.load(Ordering::Relaxed))
    }

    /// Takes `bytes`, if there are so many.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let most = self.most.load(Ordering::Relaxed);
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { budget: Arc::clone(self), bytes })
    }
}

impl Room {
    /// How many it takes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `data`, which must not be larger, keeping this room for as long as any of it is held.
    pub fn hold(self, data: Vec<u8>) -> Bytes {
        Bytes::from_owner(Held { data: data.into_boxed_slice(), _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_counts_until_the_last_reader_is_done() {
        let budget = Budget::new(10);
        let bytes = budget.take(6).unwrap().hold(b"abcdef".to_vec());
        assert!(budget.take(5).is_none());
        let part = bytes.slice(2..3);
        drop(bytes);
        assert_eq!(budget.used(), 6);
        assert_eq!(part, "c");
        drop(part);
        let all = budget.take(10).unwrap();
        budget.resize(4);
        assert_eq!(budget.excess(), 6);
        drop(all);
        assert!(budget.used() == 0 && budget.take(5).is_none());
    }
}
