//! Writes one snapshot.

use std::io::Read;

use super::format::entry::{EntryPath, Meta};
use super::snapshot::{Fault, Head, NewSnapshot, SnapshotInfo};
use super::{BackupError, Progress};

/// A snapshot being written. Dropped without [`SnapshotWriter::finish`], it leaves no snapshot; the packs it wrote are
/// adopted by the next run.
#[derive(Debug)]
pub struct SnapshotWriter(());

/// What [`SnapshotWriter::finish`] gives.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Its name and hash, to be remembered outside the repository.
    pub head: Head,
    /// Packs a killed run had left, whose chunks this one did not write again.
    pub adopted_packs: usize,
    /// Packs the index names that were gone when the run began: damage. Chunks of files read anew were written again.
    pub missing_packs: Vec<String>,
}

impl SnapshotWriter {
    pub(super) fn new(new: NewSnapshot, progress: Progress) -> Result<Self, BackupError> {
        let _ = (new, progress);
        Err(BackupError::Cancelled)
    }

    /// Adds an entry. `content` is read to its end for a [`Kind::File`](super::Kind::File) and not at all for the others.
    /// Returns the bytes read.
    ///
    /// Entries come in the order of their paths; a folder's own entry may be left out. Blocks while the pipeline is full.
    ///
    /// # Errors
    /// [`BackupError::Source`] when `content` fails: the entry is not in the snapshot and the next may be added. After
    /// any other error the snapshot cannot be finished.
    pub fn add(&mut self, path: &EntryPath, meta: &Meta, content: &mut dyn Read) -> Result<u64, BackupError> {
        let _ = (path, meta, content);
        Err(BackupError::Cancelled)
    }

    /// Takes the content of `path` over from the newest snapshot of the same source, unread, if it has a file there with
    /// the same size, time of change and (non-empty) identity, all of whose chunks are still in the repository. Says
    /// whether it did; when not, [`SnapshotWriter::add`] the file.
    ///
    /// # Errors
    /// As [`SnapshotWriter::add`].
    pub fn reuse(&mut self, path: &EntryPath, meta: &Meta) -> Result<bool, BackupError> {
        let _ = (path, meta);
        Err(BackupError::Cancelled)
    }

    /// Notes something the snapshot does not hold as it should.
    pub fn fault(&mut self, fault: Fault) {
        let _ = fault;
    }

    /// Completes the snapshot: the last packs, then the index, then the snapshot itself. Once it returns, the snapshot
    /// survives power loss.
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::Overtaken`], [`BackupError::Cancelled`]: there is no snapshot.
    pub fn finish(self) -> Result<Finished, BackupError> {
        Err(BackupError::Cancelled)
    }
}
