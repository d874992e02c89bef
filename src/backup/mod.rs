//! Snapshots of everything, encrypted and deduplicated.
//!
//! A [`Repository`] at a [`Target`] (a folder, a bucket of any S3) holds snapshots; a snapshot lists entries; the bytes of
//! files are cut into chunks by content, and a chunk the repository has is not stored again. Everything here blocks and
//! runs on threads of its own.
//!
//! What it promises:
//! - **Written once, in order.** Packs, then the index, then the snapshot; nothing is ever changed. Killed anywhere, a
//!   repository is valid, and the next run adopts the packs that are there.
//! - **Read back before it counts.** What was compressed and sealed is opened and compared before its pack is stored.
//! - **Damage is named and costs what it hit.** One bad chunk costs the files that use it; an index only saves reading.
//! - **Nobody without the key reads or forges anything,** and who knows the last [`Head`] notices a repository going back.
//! - **No locks.** Two writers do not harm each other; a prune deletes what was marked a day before.
//! - **Bounded memory:** about 100 MiB at work, and 40 to 70 bytes for each chunk of the repository.
//!
//! Reading on: [`repository`], then `writer` -> `pipeline` -> `format/pack` for the way in, `load` -> `fetch` -> [`restore`]
//! for the way back, [`prune`] for why nothing needed is deleted. `format/` says every byte, and so does `FORMAT.txt` in
//! every repository, beside a script that reads it without Mainstay.

mod chunker;
pub mod config;
mod drill;
mod error;
mod fetch;
pub mod format;
mod listing;
mod load;
pub mod own;
mod pieces;
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
