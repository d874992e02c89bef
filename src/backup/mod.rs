//! Snapshots of everything, encrypted and deduplicated.
//!
//! A [`Repository`] at a [`Target`] (a folder, a bucket of any S3) holds snapshots; a snapshot lists entries; the bytes of
//! files are cut into chunks by content, and a chunk the repository has is not stored again. Start at [`repository`].
//!
//! Everything here blocks and runs on threads of its own.

#![expect(dead_code, clippy::needless_pass_by_value, reason = "signatures first, bodies follow")]

pub mod config;
mod drill;
mod error;
pub mod format;
pub mod own;
mod progress;
pub mod prune;
mod records;
pub mod repository;
pub mod restore;
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
pub use prune::{PrunePlan, PruneReport, Retention};
pub use repository::{Repository, Unlock};
pub use restore::RestoreReport;
pub use snapshot::{Fault, FaultKind, Filter, Head, HostFacts, NewSnapshot, SnapshotInfo, SnapshotName};
pub use target::{S3Access, Target, TargetAddress, TargetError};
pub use verify::{VerifyLevel, VerifyReport};
pub use walk::{Excludes, add_folder};
pub use writer::{Finished, SnapshotWriter};

#[cfg(test)]
pub(crate) mod server_tests;
