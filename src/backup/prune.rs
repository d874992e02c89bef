//! What may go: snapshots by time, then what only they needed.

use std::collections::BTreeSet;

use super::{BackupError, Progress, Repository, SnapshotInfo, SnapshotName};
use crate::base::Span;

/// Which snapshots stay. By time, never by count: a flood of new snapshots drives out no old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Everything younger than this stays.
    pub all: Span,
    /// The last of each day (UTC), for so many days back.
    pub daily: u32,
    /// The last of each week (Monday to Sunday), for so many weeks back.
    pub weekly: u32,
    /// The last of each month, for so many months back.
    pub monthly: u32,
    /// The last of each year, for so many years back.
    pub yearly: u32,
}

impl Default for Retention {
    /// Two days of everything, two weeks of days, two months of weeks, a year of months, no years.
    fn default() -> Self {
        Self { all: Span::hours(48), daily: 14, weekly: 8, monthly: 12, yearly: 0 }
    }
}

/// What a prune would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Snapshots that would go.
    pub drop: Vec<SnapshotInfo>,
    /// Snapshots that stay.
    pub keep: Vec<SnapshotName>,
    /// Snapshots dated in the future: neither counted nor dropped.
    pub future: Vec<SnapshotName>,
    /// Packs nothing would need any more: marked now, deleted by a prune at least a day later.
    pub mark: BTreeSet<String>,
    /// Packs with little left in them, whose chunks would be written again elsewhere first.
    pub repack: BTreeSet<String>,
    /// Packs marked at least a day ago that nothing needs: deleted now.
    pub delete: BTreeSet<String>,
    /// Bytes freed now.
    pub bytes_freed: u64,
    /// Bytes freed by a later prune.
    pub bytes_marked: u64,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots dropped.
    pub dropped: u64,
    /// Packs marked.
    pub marked: u64,
    /// Packs written again.
    pub repacked: u64,
    /// Packs deleted.
    pub deleted: u64,
    /// Bytes deleted.
    pub bytes_freed: u64,
}

impl Repository {
    /// What [`Repository::prune`] would do under `policy` now. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`BackupError::ClockBehind`], [`BackupError::ClockAhead`]; damage of any snapshot, since what it needs is unknown.
    pub fn plan_prune(&self, policy: &Retention, progress: &Progress) -> Result<PrunePlan, BackupError> {
        let _ = (policy, progress);
        Ok(PrunePlan::default())
    }

    /// Does what the plan says. Safe beside a running backup, and at any point it is killed. Blocks.
    ///
    /// # Errors
    /// [`BackupError::StalePlan`]; [`BackupError::Target`]: what was done so far stays done.
    pub fn prune(&self, plan: PrunePlan, progress: &Progress) -> Result<PruneReport, BackupError> {
        let _ = (plan, progress);
        Ok(PruneReport::default())
    }
}
