//! The writer thread of a file and its group commit.
//!
//! A commit costs two syncs, some milliseconds, however much is in it. So the thread takes every closure that waits,
//! runs them one after the other in one redb transaction, commits once, and only then answers any of them: also a
//! closure that failed by itself, for what it saw may be the work of one that did not make it to the disk. Before it
//! commits it may wait a moment for writers that are on their way, see `pace.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::block_on::block_on_for;
use super::overlay::Overlay;
use super::pace::{Pace, Round};
use super::redb_file::{Committed, RedbFile};
use super::redb_tx::Batch;
use super::{Decision, Pause, Prerequisite, StoreError, WriteOp};
use crate::telemetry::metrics::LATENCY_SECONDS;
use crate::telemetry::{Counter, Gauge, Histogram, Metrics};

/// Most closures waiting for their turn; who comes then waits for a place.
pub(super) const QUEUE: usize = 1024;

/// Most closures in one transaction.
const BATCH_OPERATIONS: usize = 256;

/// Bytes of changes after which a transaction takes no further closure.
const BATCH_BYTES: usize = 4 << 20;

const BATCH_SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A closure and who waits for its end.
pub(super) struct Waiting {
    pub(super) op: WriteOp,
    /// What must have happened before it counts.
    pub(super) first: Option<Prerequisite>,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// What the thread is asked to do.
pub(super) enum Request {
    /// Run a closure.
    Write(Waiting),
    /// Close the file, after all that was asked before.
    Close(oneshot::Sender<()>),
    /// Commit nothing for a while, after all that was asked before.
    Pause(Standstill),
}

/// A pause, from the writer's side.
pub(super) struct Standstill {
    /// Told that the pause has begun.
    pub(super) begun: oneshot::Sender<()>,
    /// Disconnected at the end of the pause.
    pub(super) ended: std::sync::mpsc::Receiver<()>,
    /// Set when the writer has waited long enough.
    pub(super) over: Arc<AtomicBool>,
}

impl Standstill {
    /// Waits for the end of the pause.
    fn keep(self) {
        if self.begun.send(()).is_err() {
            return;
        }
        if self.ended.recv_timeout(Pause::LONGEST) == Err(RecvTimeoutError::Timeout) {
            self.over.store(true, Ordering::Release);
        }
    }
}

/// What the thread counts.
pub(super) struct WriterMetrics {
    commits: Counter,
    batch: Histogram,
    seconds: Histogram,
    queue: Gauge,
    errors: Counter,
}

impl WriterMetrics {
    pub(super) fn new(metrics: &Metrics, file: &str) -> Self {
        let labels: &[(&str, &str)] = &[("file", file)];
        Self {
            commits: metrics.counter("mainstay_store_commits_total", "Durable commits.", labels),
            batch: metrics.histogram(
                "mainstay_store_batch_operations",
                "Closures in a transaction.",
                labels,
                BATCH_SIZES,
            ),
            seconds: metrics.histogram(
                "mainstay_store_commit_seconds",
                "Time a commit takes.",
                labels,
                LATENCY_SECONDS,
            ),
            queue: metrics.gauge("mainstay_store_queue_operations", "Closures waiting for the writer.", labels),
            errors: metrics.counter("mainstay_store_errors_total", "Transactions that failed.", labels),
        }
    }
}

/// The thread: works until it is told to close or everyone who could ask is gone, then closes the file.
pub(super) fn run(file: &Arc<RedbFile>, mut queue: mpsc::Receiver<Request>, metrics: &WriterMetrics) {
    let mut closers = Vec::new();
    let mut next = None;
    let mut pace = Pace::default();
    while closers.is_empty() {
        match next.take().or_else(|| queue.blocking_recv()) {
            Some(Request::Write(first)) => next = batch(file, first, &mut queue, &mut pace, metrics),
            Some(Request::Close(closer)) => closers.push(closer),
            Some(Request::Pause(standstill)) => standstill.keep(),
            None => break,
        }
    }
    queue.close();
    file.close();
    while let Some(request) = queue.blocking_recv() {
        match request {
            Request::Write(waiting) => answer(waiting.done, Err(StoreError::Closed { file: file.name() })),
            Request::Close(closer) => closers.push(closer),
            // Dropped: whoever asked is told that the file is closed.
            Request::Pause(_) => {}
        }
    }
    for closer in closers {
        // Whoever asked may have stopped waiting.
        let _ = closer.send(());
    }
}

/// Commits `first` and what waits behind it; another request ends the batch and is handed back.
fn batch(
    file: &RedbFile,
    first: Waiting,
    queue: &mut mpsc::Receiver<Request>,
    pace: &mut Pace,
    metrics: &WriterMetrics,
) -> Option<Request> {
    let mut ran = Vec::new();
    let mut other = None;
    let mut next = Some(first);
    let mut wait = Wait::default();
    let committed = file.commit(|batch| {
        let (mut bytes, mut prerequisites) = (0, Vec::new());
        while let Some(waiting) = next.take() {
            let mut result = run_one(file, batch, &waiting.op);
            let changed = result.as_ref().ok().copied().flatten();
            match (changed, waiting.first) {
                // No change that could wait for it in the commit.
                (Some(0), Some(first)) => {
                    result = first.fulfilled_blocking().then_some(changed).ok_or_else(|| unfulfilled(file));
                }
                (Some(_), Some(first)) => prerequisites.push(first),
                _ => {}
            }
            bytes += changed.unwrap_or(0);
            ran.push((waiting.done, result.map(drop)));
            if ran.len() == BATCH_OPERATIONS || bytes >= BATCH_BYTES || batch.failure().is_some() {
                break;
            }
            match queue.try_recv().ok().or_else(|| wait.for_more(file, queue, pace, ran.len())) {
                Some(Request::Write(waiting)) => next = Some(waiting),
                asked => other = asked,
            }
        }
        wait.end(file);
        prerequisites
    });
    // The file let nobody in.
    ran.extend(next.map(|waiting| (waiting.done, Ok(()))));

    metrics.queue.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
    metrics.batch.observe(ran.len() as f64);
    match &committed {
        Ok(Committed::Durable(took)) => {
            metrics.commits.inc();
            metrics.seconds.observe(took.as_secs_f64());
            let before = wait.before.unwrap_or(ran.len());
            pace.learn(Round { ran: ran.len(), before, waited: wait.waited, took: *took, behind: queue.len() });
        }
        Ok(Committed::Nothing) => {}
        Err(error) => {
            pace.forget();
            tracing::error!(file = file.name(), operations = ran.len(), %error, "a commit failed");
        }
    }
    for (done, result) in ran {
        let result = committed.as_ref().map_err(Clone::clone).and(result);
        if result.is_err() {
            metrics.errors.inc();
        }
        answer(done, result);
    }
    other
}

/// A batch's wait for writers on their way.
#[derive(Default)]
struct Wait {
    /// Closures that had run when it began.
    before: Option<usize>,
    /// When it began and when it ends at the latest, on the monotonic clock.
    span: Option<(Duration, Duration)>,
    /// How long it was.
    waited: Duration,
}

impl Wait {
    /// The next request that comes while a batch with `ran` closures may still wait.
    fn for_more(
        &mut self,
        file: &RedbFile,
        queue: &mut mpsc::Receiver<Request>,
        pace: &Pace,
        ran: usize,
    ) -> Option<Request> {
        let patience = pace.patience(ran)?;
        let now = file.now();
        let (_, end) = *self.span.get_or_insert((now, now.saturating_add(patience)));
        self.before.get_or_insert(ran);
        let left = end.checked_sub(now).filter(|left| !left.is_zero())?;
        block_on_for(queue.recv(), left)?
    }

    fn end(&mut self, file: &RedbFile) {
        if let Some((began, _)) = self.span {
            self.waited = file.now().saturating_sub(began);
        }
    }
}

/// Runs one closure and, if it wants that, writes its changes to `batch`; returns their bytes then.
fn run_one(file: &RedbFile, batch: &Batch<'_, '_>, op: &WriteOp) -> Result<Option<usize>, StoreError> {
    let mut overlay = Overlay::new(batch);
    let decision = catch_unwind(AssertUnwindSafe(|| op(&mut overlay))).map_err(|_panic| StoreError::Engine {
        file: file.name(),
        reason: "the transaction's closure panicked".to_owned(),
    })?;
    match decision {
        Decision::Keep => batch.apply(overlay.into_changes()).map(Some),
        Decision::Discard => Ok(None),
    }
}

fn unfulfilled(file: &RedbFile) -> StoreError {
    StoreError::Engine { file: file.name(), reason: "what a transaction waited for has failed".to_owned() }
}

fn answer(done: oneshot::Sender<Result<(), StoreError>>, result: Result<(), StoreError>) {
    // Whoever asked may have stopped waiting; the transaction happened all the same.
    let _ = done.send(result);
}
