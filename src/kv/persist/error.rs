//! What keeps the keyspace from being kept, or from being found again.

use std::io;
use std::path::PathBuf;

use crate::kv::cold::ColdError;

/// Why journal or checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The disk refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file was sealed with another key.
    #[error("`{}` does not open with this key: put back the master key the data folder was made with", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// A newer Mainstay has written the file.
    #[error(
        "`{}` has format {version}, this version of Mainstay knows formats up to {known}: start the newer version again",
        path.display(),
        known = super::format::VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it names.
        version: u32,
    },
    /// Bytes that had been synced are no longer what was written.
    #[error(
        "`{}` is damaged at byte {offset}: {what}; nothing was changed. Restore the folder `{}` from a backup, or set \
         `kv.on_damage = \"cut\"` for one start to keep what was written before that byte and drop the rest",
        path.display(),
        super::folder_of(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it the first bad byte may be.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A checkpoint is not what was written.
    #[error(
        "`{}` is damaged at byte {offset}: {what}; nothing was changed. Restore the folder `{}` from a backup",
        path.display(),
        super::folder_of(path).display()
    )]
    DamagedCheckpoint {
        /// The file.
        path: PathBuf,
        /// Where in it the bad bytes begin.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// A file that must be there is not.
    #[error("`{}` is missing; nothing was changed. Restore the folder `{}` from a backup", path.display(), super::folder_of(path).display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A value that is on disk only cannot be read or moved.
    #[error(transparent)]
    Cold(#[from] ColdError),
    /// What was sealed is no change or value of the keyspace.
    #[error("`{}` holds what this version of Mainstay cannot read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the keyspace said.
        reason: String,
    },
}

impl PersistError {
    /// For `map_err`: the disk refused `action` on `path`.
    pub(super) fn disk(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source }
    }
}

/// Why a change was not written. Its clients must not be told it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no room. The change is kept in memory and written as soon as there is.
    #[error("no space left on the device")]
    Full,
    /// The disk failed; what it holds of the last changes is unknown, so no write is accepted until a restart.
    #[error("{0}")]
    Broken(String),
}

impl Refusal {
    /// The error clients get while the journal takes nothing, in the words of Redis.
    pub fn told(&self) -> String {
        format!("MISCONF Errors writing to the AOF file: {self}")
    }
}
