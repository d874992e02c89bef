//! What can go wrong with a restore of the server's own data.

use std::io;
use std::path::PathBuf;

use super::FORMAT;
use super::losses::Losses;
use crate::backup::BackupError;
use crate::crypto::KeyringError;
use crate::objects::ObjectError;

/// Why a restore did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is no snapshot to restore.
    #[error("there is no snapshot of {what} at the target")]
    NoSnapshot {
        /// What was asked for.
        what: String,
    },
    /// A later release made it.
    #[error(
        "the backup has format {found}, this Mainstay knows up to {FORMAT}; restore it with the newer release ({release})"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The release that made it.
        release: String,
    },
    /// A part without which there is no server cannot be read.
    #[error("`{path}` of the backup cannot be restored: {reason}; the folder is not usable")]
    Part {
        /// Its path in the snapshot.
        path: String,
        /// Why.
        reason: String,
    },
    /// Parts of the backup are damaged, and nobody said that the rest will do.
    #[error(
        "the backup is damaged, and what is lost is more than the bytes of objects; the folder is not served as it is. \
         Try an older snapshot, or repeat the restore with --partial to keep all the rest. {}",
        losses.lines().join("; ")
    )]
    Losses {
        /// What is lost.
        losses: Box<Losses>,
    },
    /// The disk refuses.
    #[error("{path}: {source}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// An object.
    #[error("{name}: {source}")]
    Object {
        /// What was asked for.
        name: String,
        /// What is wrong.
        source: ObjectError,
    },
    /// Writing out what was asked for failed.
    #[error("writing {name}: {source}")]
    Output {
        /// What was asked for.
        name: String,
        /// What the operating system says.
        source: io::Error,
    },
}

impl RestoreError {
    #[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` hands errors over in")]
    pub(super) fn part(path: &str, error: impl ToString) -> Self {
        Self::Part { path: path.to_owned(), reason: error.to_string() }
    }
}
