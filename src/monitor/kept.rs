//! What the edge keeps of the answers of all apps, as everybody sees it who shows it. The edge tells; nothing is kept here.

use serde::{Deserialize, Serialize};

/// What is kept, in memory and on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheView {
    /// Sites that keep answers.
    pub sites: u64,
    /// Requests since the start that were answered without the app.
    pub hits: u64,
    /// Requests since the start for which the app was asked.
    pub misses: u64,
    /// What is in memory.
    pub memory: MemoryView,
    /// What is on disk; absent while nothing is to be kept there.
    pub disk: Option<DiskView>,
}

/// Answers in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryView {
    /// Answers.
    pub answers: u64,
    /// Bytes they take, with those that are being fetched or still read.
    pub bytes: u64,
    /// Bytes they may take (`edge.cache_memory`).
    pub limit_bytes: u64,
}

/// Answers on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// Answers.
    pub answers: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Bytes that those may take (`edge.cache_disk`).
    pub limit_bytes: u64,
    /// Requests since the start that were answered without the app, and for which the disk was read.
    pub hits: u64,
    /// Answers since the start that were not stored, since the disk was too slow, too full, or refused.
    pub passed: u64,
    /// How the disk stands.
    pub state: DiskState,
    /// Why it refuses.
    pub error: Option<String>,
}

/// How the disk for kept answers stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskState {
    /// What is to be kept there is.
    Ready,
    /// A start still looks through the files.
    Starting,
    /// It refused what was last to be stored: it is full, or fails. That is tried again.
    Refusing,
}

impl DiskState {
    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Refusing => "refusing",
        }
    }
}
