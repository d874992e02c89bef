//! Doubles for the outside world: a clock that moves when told, a generator that repeats itself, a disk that fails.
//!
//! Compiled for unit tests and, behind the feature `testing`, for the integration tests.

mod faulty_disk;
mod stores;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use self::faulty_disk::{Act, Fault, FaultyDisk, SECTOR};
pub use self::stores::{TwiceStore, memory_store, plain_memory_store, store_on, store_with_clock};
use crate::base::{Clock, Random, Timestamp};

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct TestClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl TestClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { wall_ms: AtomicU64::new(start.millis()), monotonic_ms: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(millis, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn jump_to(&self, wall: Timestamp) {
        self.wall_ms.store(wall.millis(), Ordering::SeqCst);
    }
}

impl Default for TestClock {
    /// 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(Timestamp::from_seconds(1_767_225_600))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// A generator that gives the same bytes for the same seed (`SplitMix64`). Never outside tests.
#[derive(Debug)]
pub struct TestRandom(Mutex<u64>);

impl TestRandom {
    /// A generator from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Random for TestRandom {
    fn fill(&self, target: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in target.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = *state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
    }
}
