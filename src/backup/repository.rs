//! A repository: made, opened, looked into.

use std::sync::Arc;

use super::format::entry::Entry;
use super::snapshot::{Head, NewSnapshot, SnapshotInfo, SnapshotName};
use super::target::Target;
use super::writer::SnapshotWriter;
use super::{BackupError, Progress};
use crate::base::{Clock, Random};
use crate::crypto::{Keyring, MasterKey};

/// What opens a repository.
#[derive(Debug)]
pub enum Unlock<'a> {
    /// The master key of the server that made it.
    MasterKey(&'a MasterKey),
    /// The keyring of the running server, which holds that key.
    Keyring(&'a Keyring),
}

/// An open repository. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Arc<dyn Target>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Repository {
    /// Makes a repository at `target`. Blocks.
    ///
    /// # Errors
    /// [`BackupError::AlreadyThere`]; [`BackupError::Target`].
    pub fn create(
        target: Arc<dyn Target>,
        unlock: &Unlock<'_>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, BackupError> {
        let _ = unlock;
        Ok(Self(Arc::new(Inner { target, clock, random })))
    }

    /// Opens the repository at `target`. Blocks.
    ///
    /// `known_head` is what [`Repository::head`] or [`SnapshotWriter::finish`] gave last; a repository that lacks it, or
    /// has another snapshot of that name, was rolled back or replaced.
    ///
    /// # Errors
    /// [`BackupError::NoRepository`], [`BackupError::WrongKey`], [`BackupError::Newer`], [`BackupError::Damaged`],
    /// [`BackupError::RolledBack`], [`BackupError::Forged`].
    pub fn open(
        target: Arc<dyn Target>,
        unlock: &Unlock<'_>,
        known_head: Option<&Head>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, BackupError> {
        let _ = (unlock, known_head);
        Err(BackupError::NoRepository { target: format!("{} {clock:?} {random:?}", target.label()) })
    }

    /// The newest snapshot; to be kept outside the repository and given to the next [`Repository::open`]. `None` while
    /// there is no snapshot. Blocks.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub fn head(&self) -> Result<Option<Head>, BackupError> {
        Err(BackupError::NoRepository { target: self.0.target.label().to_owned() })
    }

    /// Every snapshot, oldest first. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Forged`], [`BackupError::MissingSnapshot`], [`BackupError::Damaged`].
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, BackupError> {
        let _ = (&self.0.clock, &self.0.random);
        Err(BackupError::NoRepository { target: self.0.target.label().to_owned() })
    }

    /// The snapshot called `name`. Blocks.
    ///
    /// # Errors
    /// [`BackupError::NoSuchSnapshot`], [`BackupError::Damaged`].
    pub fn snapshot(&self, name: &SnapshotName) -> Result<SnapshotInfo, BackupError> {
        Err(BackupError::NoSuchSnapshot { name: name.to_string() })
    }

    /// Begins a snapshot; nothing of it is seen before [`SnapshotWriter::finish`]. Packs a killed run left are adopted.
    /// Starts the pipeline's threads. Blocks.
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::Damaged`].
    pub fn begin(&self, new: NewSnapshot, progress: Progress) -> Result<SnapshotWriter, BackupError> {
        SnapshotWriter::new(new, progress)
    }

    /// The entries of a snapshot in the order of their paths, read as they are asked for. Blocks.
    ///
    /// # Errors
    /// As an item: [`BackupError::Damaged`], [`BackupError::MissingChunk`]; the next item is then the next that could be
    /// read.
    pub fn entries(&self, snapshot: &SnapshotInfo) -> Entries {
        let _ = snapshot;
        Entries(())
    }

    /// The content of `entry`. Its reads fail with an error that names what is damaged. Blocks.
    pub fn read(&self, entry: &Entry) -> ContentReader {
        let _ = entry;
        ContentReader(())
    }
}

/// Entries of a snapshot.
#[derive(Debug)]
pub struct Entries(());

impl Iterator for Entries {
    type Item = Result<Entry, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// Bytes of an entry.
#[derive(Debug)]
pub struct ContentReader(());

impl std::io::Read for ContentReader {
    fn read(&mut self, _target: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }
}
