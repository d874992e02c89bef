//! What can go wrong with a backup, as facts.

use std::io;

use super::target::TargetError;

/// Why an operation on a repository failed.
///
/// Unless a variant says otherwise the repository is as valid as before: what was written is complete, named by its
/// content, and adopted by the next run or removed by a later prune.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder or the S3 service that holds the repository.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing at the target says it is a repository.
    #[error("{target} holds no backup repository; check the address, or let the first backup make one")]
    NoRepository {
        /// The target.
        target: String,
    },
    /// `create` where a repository already is.
    #[error("{target} already holds a backup repository")]
    AlreadyThere {
        /// The target.
        target: String,
    },
    /// Made by a later release.
    #[error("{name} has format version {found}, this Mainstay knows up to {known}; use the newer release")]
    Newer {
        /// The file in the repository.
        name: String,
        /// Its version.
        found: u32,
        /// Latest version known.
        known: u32,
    },
    /// No key slot opens with the key given.
    #[error(
        "the key does not open the repository at {target}: {slots} key slots, none for master key {given}; give the key that `mainstay key export` printed on the server that made the backups"
    )]
    WrongKey {
        /// The target.
        target: String,
        /// Key slots seen.
        slots: usize,
        /// Id of the key given.
        given: String,
    },
    /// A file of the repository is cut, altered, or not what its name says.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// The file in the repository.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A chunk no pack holds.
    #[error("chunk {chunk} is in no pack of the repository; `mainstay backup verify` lists the files that need it")]
    MissingChunk {
        /// The chunk's id in hex.
        chunk: String,
    },
    /// Packs the index names are gone.
    #[error("{count} packs are missing, such as {first}: someone or something deleted them")]
    MissingPacks {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// A snapshot that a later one was made after is gone, and no prune dropped it.
    #[error("snapshot {name} is missing and was not dropped by a prune: someone or something deleted it")]
    MissingSnapshot {
        /// Its name.
        name: String,
    },
    /// The repository is older than it was.
    #[error(
        "the repository at {target} went back: its newest snapshot has number {found}, this server has seen number {known}; the target was rolled back or replaced"
    )]
    RolledBack {
        /// The target.
        target: String,
        /// Number of the newest snapshot found; 0 for none.
        found: u64,
        /// Number known.
        known: u64,
    },
    /// A snapshot does not fit the one before it.
    #[error("snapshot {name} is not the one that was written under that name: the target was tampered with")]
    Forged {
        /// Its name.
        name: String,
    },
    /// No snapshot has the name.
    #[error("there is no snapshot {name}")]
    NoSuchSnapshot {
        /// The name asked for.
        name: String,
    },
    /// The source could not be read.
    #[error("reading {path}: {source}")]
    Source {
        /// The path in the snapshot.
        path: String,
        /// What the source said.
        source: io::Error,
    },
    /// The place restored to refused.
    #[error("restoring {path}: {source}")]
    Restore {
        /// The path below the place restored to.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// A path no snapshot may hold.
    #[error(
        "`{path}` is no path for a snapshot: parts divided by `/`, none empty, `.` or `..`, no zero byte, at most {limit} bytes"
    )]
    Path {
        /// The path, made printable.
        path: String,
        /// Most bytes.
        limit: usize,
    },
    /// Entries came out of order.
    #[error("`{path}` comes after `{last}` in a snapshot; entries are added in order, part by part")]
    Unordered {
        /// The path added.
        path: String,
        /// The one before.
        last: String,
    },
    /// A bound of the format or of memory.
    #[error("{what} are {found}, at most {limit} are possible")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many are possible.
        limit: u64,
    },
    /// The clock shows a time before what the repository already holds.
    #[error(
        "the clock shows {now}, the newest snapshot is of {newest}: nothing is pruned until the clock is past it; check the clock"
    )]
    ClockBehind {
        /// The clock.
        now: String,
        /// Time of the newest snapshot.
        newest: String,
    },
    /// The clock is far past everything in the repository.
    #[error(
        "the clock shows {now}, the newest snapshot is of {newest}: nothing is pruned before a new backup exists; check the clock"
    )]
    ClockAhead {
        /// The clock.
        now: String,
        /// Time of the newest snapshot.
        newest: String,
    },
    /// Something changed between the plan and the prune.
    #[error("the repository changed since the plan was made; plan again")]
    StalePlan,
    /// Packs this run relied on were pruned meanwhile.
    #[error("the backup ran for longer than the grace of a prune that went on beside it; run it again")]
    Overtaken,
    /// Asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A thread of the pipeline ended before its work.
    #[error("a backup thread ended early: {reason}")]
    Thread {
        /// What is known.
        reason: String,
    },
}

impl BackupError {
    /// A damaged file of the repository.
    pub(crate) fn damaged(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged { name: name.into(), reason: reason.into() }
    }
}
