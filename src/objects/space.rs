//! The disk's reserve: uploads stop while there is still room for the index, deletions and everything else.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::config::ObjectsConfig;
use super::error::ObjectError;
use crate::base::{Clock, Disk};

/// How long an answer of the file system counts.
const FRESH: Duration = Duration::from_secs(1);

/// Watches the room on the disk.
#[derive(Debug)]
pub(super) struct Room {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    reserve: u64,
    reserve_percent: u64,
    available: AtomicU64,
    kept: AtomicU64,
    asked: Mutex<Option<Duration>>,
}

impl Room {
    /// Watches the file system of `folder`.
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf, clock: Arc<dyn Clock>, config: &ObjectsConfig) -> Self {
        Self {
            disk,
            folder,
            clock,
            reserve: config.reserve.bytes(),
            reserve_percent: u64::from(config.reserve_percent.min(100)),
            available: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            asked: Mutex::new(None),
        }
    }

    /// Whether the last answer of the file system still counts; if not, [`Room::ask`] off the async threads.
    pub fn is_fresh(&self) -> bool {
        let now = self.clock.monotonic();
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| now.saturating_sub(asked) < FRESH)
    }

    /// Asks the file system. Blocks.
    pub fn ask(&self) -> io::Result<()> {
        let space = self.disk.space(&self.folder)?;
        let kept = self.reserve.max(space.total / 100 * self.reserve_percent);
        self.available.store(space.available, Ordering::Relaxed);
        self.kept.store(kept, Ordering::Relaxed);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.monotonic());
        Ok(())
    }

    /// Whether `bytes` more fit above the reserve, by the last answer of the file system.
    ///
    /// # Errors
    /// [`ObjectError::Full`].
    pub fn admit(&self, bytes: u64) -> Result<(), ObjectError> {
        let (available, reserve) = (self.available.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        if available.saturating_sub(bytes) < reserve { Err(ObjectError::Full { available, reserve }) } else { Ok(()) }
    }

    /// [`Room::ask`] when needed, then [`Room::admit`]. Blocks.
    ///
    /// # Errors
    /// [`ObjectError::Full`], or what the file system says.
    pub fn admit_now(&self, bytes: u64) -> Result<(), ObjectError> {
        if !self.is_fresh() {
            self.ask()?;
        }
        self.admit(bytes)
    }

    /// An error of the disk in this room's words: no space is [`ObjectError::Full`], and the last answer of the file system
    /// counts no more.
    pub fn explain(&self, error: io::Error) -> ObjectError {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let (available, reserve) = (self.available.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
            return ObjectError::Full { available, reserve };
        }
        ObjectError::Disk(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LocalDisk, Timestamp};
    use crate::testing::TestClock;

    #[test]
    fn a_disk_that_turned_out_full_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at(Timestamp::from_seconds(0)));
        let config = ObjectsConfig::default();
        let room = Room::new(Arc::new(LocalDisk), folder.path().to_owned(), clock, &config);
        room.ask().unwrap();
        assert!(room.is_fresh());
        assert!(matches!(room.explain(io::ErrorKind::NotFound.into()), ObjectError::Disk(_)) && room.is_fresh());
        assert!(matches!(room.explain(io::ErrorKind::StorageFull.into()), ObjectError::Full { .. }));
        assert!(!room.is_fresh());
    }
}
