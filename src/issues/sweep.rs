//! Retention, and counts on their way into the store.

use futures_util::future::BoxFuture;

use super::service::Issues;
use super::{IssuesError, rows};
use crate::jobs::{Job, JobOutcome};

/// Kinds of the jobs.
pub(super) const SWEEP: &str = "issues.sweep";
pub(super) const COUNTS: &str = "issues.counts";

/// Issues removed in one transaction.
const BATCH: usize = 8;

/// Removes issues not seen for as long as `issues.keep`.
pub(super) struct Sweep(pub Issues);

impl Sweep {
    async fn all(&self) -> Result<(), IssuesError> {
        let inner = &self.0.0;
        let keep = u64::try_from(inner.config.keep.duration().as_millis()).unwrap_or(u64::MAX);
        let oldest = inner.clock.now().millis().saturating_sub(keep);
        loop {
            let removed = inner.store.write(move |tx| {
                let mut totals = rows::totals(tx)?;
                let mut removed = 0;
                while removed < BATCH
                    && let Some((seen, id)) = rows::least_recent(tx, None)?
                    && seen < oldest
                {
                    rows::remove_issue(tx, id, &mut totals)?;
                    removed += 1;
                }
                rows::put_totals(tx, totals)?;
                Ok::<usize, IssuesError>(removed)
            });
            if removed.await? < BATCH {
                return Ok(());
            }
        }
    }
}

impl Job for Sweep {
    fn run<'a>(&'a self, _payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
        Box::pin(async move { outcome(self.all().await) })
    }
}

/// Moves the counts of received items into the store.
pub(super) struct FoldCounts(pub Issues);

impl Job for FoldCounts {
    fn run<'a>(&'a self, _payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
        Box::pin(async move { outcome(self.0.fold_counts().await) })
    }
}

fn outcome(result: Result<(), IssuesError>) -> JobOutcome {
    match result {
        Ok(()) => JobOutcome::Done,
        Err(error) => JobOutcome::Retry(error.to_string()),
    }
}
