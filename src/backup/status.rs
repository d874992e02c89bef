//! What backups tell about themselves, for the console, the API, the commands and monitoring.

use serde::{Deserialize, Serialize};

use super::Counts;
use crate::base::Timestamp;

/// A snapshot, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLine {
    /// Its name, which `restore --snapshot` takes.
    pub name: String,
    /// What was backed up: `mainstay` for the server's own data, `folder:…`, `stdin:…`.
    pub source: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
    /// Entries and bytes.
    pub counts: Counts,
    /// Things it does not hold as it should.
    pub fault_count: u64,
    /// The first of them, one sentence each.
    pub faults: Vec<String>,
}

/// What a run made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    /// Where it went.
    pub target: String,
    /// When it was begun.
    pub started: Timestamp,
    /// When it was finished.
    pub finished: Timestamp,
    /// The snapshots made.
    pub snapshots: Vec<SnapshotLine>,
    /// Milliseconds during which commits stood still, so that all data is of one moment.
    pub pause_ms: u64,
    /// What did not work though snapshots were made: a folder that could not be read, a prune that was put off.
    pub problems: Vec<String>,
    /// What reading a part of it back came to.
    pub drill: Option<Drill>,
}

impl RunReport {
    /// Whether everything asked for is in the snapshots.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.snapshots.iter().all(|snapshot| snapshot.fault_count == 0)
    }
}

/// A backup read back to prove that it can be: the newest state of the server as a whole, and some random files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// When.
    pub at: Timestamp,
    /// Files read back, whose hashes are those of what was backed up.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be read back, one sentence each; empty: all of it.
    pub failures: Vec<String>,
}

/// A run that made no snapshot, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// When.
    pub at: Timestamp,
    /// Where it should have gone.
    pub target: String,
    /// Why.
    pub reason: String,
}

/// A run under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunProgress {
    /// Where it goes.
    pub target: String,
    /// When it was begun.
    pub started: Timestamp,
    /// What is being done, for people.
    pub doing: String,
    /// The figures so far.
    pub counts: Counts,
}

/// Backups as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// Where they go by themselves; `None` when the setting `backup.target` is empty.
    pub target: Option<String>,
    /// Milliseconds between two of them.
    pub every_ms: u64,
    /// When the next is due.
    pub next: Option<Timestamp>,
    /// The run under way.
    pub running: Option<RunProgress>,
    /// The last run that made its snapshots.
    pub last: Option<RunReport>,
    /// The last run that did not, unless a later one did.
    pub failed: Option<FailedRun>,
    /// The last drill that read everything back: the last proven restore.
    pub proven: Option<Drill>,
    /// Whether there should be a newer backup than there is.
    pub overdue: bool,
}
