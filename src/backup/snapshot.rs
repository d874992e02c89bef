//! What a snapshot says of itself, and the memory that notices a repository going back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Counts;
use super::format::Content;
use super::format::entry::EntryPath;
use crate::base::Timestamp;

/// Most faults a snapshot names; more are only counted.
pub const MOST_FAULTS: usize = 1000;

/// A snapshot's name: its number (16 hex digits), `-`, 16 hex digits drawn at random. Later ones sort later.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotName(pub(super) String);

impl SnapshotName {
    /// The name in `text`, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, random) = text.split_once('-')?;
        let hex =
            |part: &str| part.len() == 16 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex(number) && hex(random)).then(|| Self(text.to_owned()))
    }

    /// The snapshot's number: 1 for a repository's first, one more than the latest it saw for every other.
    pub fn sequence(&self) -> u64 {
        self.0.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The newest snapshot a server has seen. Kept outside the repository, it shows when the repository was put back to an
/// earlier state, which no key can prevent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The snapshot's name.
    pub name: SnapshotName,
    /// BLAKE3 of its file.
    pub hash: [u8; 32],
}

/// The machine a snapshot was made on, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// Its name.
    pub name: String,
    /// Operating system and version.
    pub system: String,
    /// Version of Mainstay.
    pub version: String,
}

/// What a snapshot starts with.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// What is backed up, such as `mainstay` or `folder:/srv/app`. Snapshots of one source follow each other: unchanged
    /// files are found in, and retention counts within, the same source.
    pub source: String,
    /// Where.
    pub host: HostFacts,
    /// When it was begun, by the caller's clock.
    pub started: Timestamp,
}

/// Something a snapshot could not hold as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The path in the snapshot, made printable.
    pub path: String,
    /// What is wrong.
    pub kind: FaultKind,
    /// What the operating system said, or the like.
    pub reason: String,
}

/// What a [`Fault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Could not be read and is not in the snapshot.
    Unreadable,
    /// Changed while it was read; what is in the snapshot may be of two moments.
    Changed,
    /// Neither file, folder nor link (socket, device, pipe); left out.
    Skipped,
}

/// A finished snapshot. Also the JSON sealed in the repository (`format/document.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// What was backed up.
    pub source: String,
    /// Where.
    pub host: HostFacts,
    /// When it was begun.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
    /// Entries, bytes, bytes that were new, bytes those took.
    pub counts: Counts,
    /// Faults in all.
    pub fault_count: u64,
    /// The first [`MOST_FAULTS`] of them.
    pub faults: Vec<Fault>,
    /// The list of entries.
    pub(super) listing: Content,
    /// The newest snapshots that were there when it was made, usually one, with the BLAKE3 of their files.
    pub(super) previous: Vec<Head>,
}

impl SnapshotInfo {
    /// Whether everything asked for is in it.
    pub const fn is_complete(&self) -> bool {
        self.fault_count == 0
    }
}

/// Which entries a restore takes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// These and what is below them; all when empty.
    pub only: Vec<EntryPath>,
}

impl Filter {
    /// Whether `path` is taken.
    pub fn takes(&self, path: &EntryPath) -> bool {
        self.only.is_empty() || self.only.iter().any(|folder| path.is_in(folder))
    }
}
