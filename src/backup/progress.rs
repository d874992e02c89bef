//! How far an operation is, and the wish to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::BackupError;

/// Shared between an operation and whoever watches it. Clones are the same account.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: AtomicU64,
    bytes: AtomicU64,
    bytes_new: AtomicU64,
    bytes_stored: AtomicU64,
    cancelled: AtomicBool,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Entries done.
    pub files: u64,
    /// Bytes of content done: read by a backup or taken over unread, written by a restore, checked by a verify.
    pub bytes: u64,
    /// Bytes of content the repository did not hold yet.
    pub bytes_new: u64,
    /// Bytes those took in the repository, compressed and sealed.
    pub bytes_stored: u64,
}

impl Progress {
    /// A fresh account.
    pub fn new() -> Self {
        Self::default()
    }

    /// The figures now.
    pub fn counts(&self) -> Counts {
        Counts {
            files: self.0.files.load(Ordering::Relaxed),
            bytes: self.0.bytes.load(Ordering::Relaxed),
            bytes_new: self.0.bytes_new.load(Ordering::Relaxed),
            bytes_stored: self.0.bytes_stored.load(Ordering::Relaxed),
        }
    }

    /// Asks the operation to stop; it ends with [`BackupError::Cancelled`] at its next step.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// `Err` once it was asked to stop.
    pub(super) fn go_on(&self) -> Result<(), BackupError> {
        if self.is_cancelled() { Err(BackupError::Cancelled) } else { Ok(()) }
    }

    pub(super) fn file(&self) {
        self.0.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn new_bytes(&self, bytes: u64) {
        self.0.bytes_new.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn stored(&self, bytes: u64) {
        self.0.bytes_stored.fetch_add(bytes, Ordering::Relaxed);
    }
}
