//! Snapshots of everything, encrypted and deduplicated.
//!
//! A [`Repository`] at a [`Target`] (a folder, a bucket of any S3) holds snapshots; a snapshot lists entries; the bytes of
//! files are cut into chunks by content, and a chunk the repository has is not stored again. Start at [`repository`].
//!
//! Everything here blocks and runs on threads of its own.

mod chunker;
pub mod config;
mod drill;
mod error;
mod fetch;
pub mod format;
mod listing;
mod load;
pub mod own;
mod pipeline;
mod progress;
pub mod prune;
mod records;
pub mod repository;
pub mod restore;
mod retention;
pub mod run;
pub mod service;
pub mod snapshot;
pub mod status;
pub mod target;
pub mod verify;
pub mod walk;
pub mod writer;

pub use error::BackupError;
pub use format::ChunkId;
pub use format::entry::{Entry, EntryPath, Kind, Meta, Moment};
pub use progress::{Counts, Progress};
pub use prune::{PrunePlan, PruneReport};
pub use repository::{Repository, Unlock};
pub use restore::RestoreReport;
pub use retention::Retention;
pub use snapshot::{Fault, FaultKind, Filter, Head, HostFacts, NewSnapshot, SnapshotInfo, SnapshotName};
pub use target::{S3Access, Target, TargetAddress, TargetError};
pub use verify::{VerifyLevel, VerifyReport};
pub use walk::{Excludes, add_folder};
pub use writer::{Finished, SnapshotWriter};

#[cfg(test)]
pub(crate) mod server_tests;
#[cfg(test)]
mod tests;
