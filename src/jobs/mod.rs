//! Durable background work, on the store.
//!
//! A job is a row: a kind, a small payload, and when it is due. It is [enqueued](Jobs::enqueue) inside the caller's own
//! transaction, so the work and its cause become durable together or not at all, and it stays until its [`Job`] says
//! that it is done. What that promises:
//! - **At least once.** A crash, a full disk, or a power cut after the work and before the row is gone means the job
//!   runs again. Every job is therefore idempotent: running it twice does no more than running it once.
//! - **Retries** with growing waits (5 s to 1 h), [`ATTEMPTS_MAX`](rows) times, then it is a dead letter: kept (the
//!   newest thousand), counted and shown. A job whose run kills the process counts as attempted too.
//! - **Dedupe.** With a dedupe key a second one is not put in while the first *waits*; once the first runs it may
//!   already have looked, so then a second is put in.
//! - **Schedules** ([`Jobs::every`]): a job of a kind is put in once per span, however often the server starts.
//!
//! One [`Jobs`] serves one store; the store belongs to one process. Start reading here, then `rows.rs` (the bytes and
//! the transactions).

mod error;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Notify;

pub use self::error::JobsError;
pub use self::rows::DeadLetter;
use self::rows::{ATTEMPTS_MAX, Claimed, Claims, Ending};
use crate::base::supervise::Role;
use crate::base::{Backoff, Clock, Random, Span, Supervisor, Timestamp};
use crate::store::{Store, WriteTx};
use crate::telemetry::{Counter, Gauge, Metrics};

/// Most bytes in a job's payload.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// Jobs running at once.
const WORKERS: usize = 4;

/// How long the loop sleeps at most; a job enqueued without [`Jobs::wake`] waits that long.
const POLL: Duration = Duration::from_secs(1);

/// Rows looked at in one transaction when leases are given back at the start.
const RELEASE_PAGE: usize = 500;

/// What a run of a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Done; the row goes.
    Done,
    /// Not now, for the reason given; it runs again after a wait.
    Retry(String),
    /// Never, for the reason given; it becomes a dead letter at once.
    Failed(String),
}

/// The work of one kind of job.
pub trait Job: Send + Sync {
    /// Does the work `payload` asks for. It must be idempotent: it runs again after a crash. A panic counts as
    /// [`JobOutcome::Retry`].
    ///
    /// # Cancel safety
    /// Implementations must bear being dropped at any point: that is how a forced stop ends them.
    fn run<'a>(&'a self, payload: &'a [u8]) -> BoxFuture<'a, JobOutcome>;
}

/// The jobs of one store. Clones are the same.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    supervisor: Supervisor,
    registered: Mutex<BTreeMap<String, Arc<dyn Job>>>,
    schedules: Mutex<Vec<Schedule>>,
    running: Mutex<BTreeSet<u64>>,
    wake: Notify,
    counts: Counts,
}

/// A kind that comes around. `next` is when to ask the store again; only the store knows when it last was.
#[derive(Clone, Copy)]
struct Schedule {
    kind: &'static str,
    every: Duration,
    next: Timestamp,
}

struct Counts {
    done: Counter,
    retried: Counter,
    dead: Counter,
    waiting: Gauge,
}

impl Jobs {
    /// The jobs of `store`; nothing runs before [`Jobs::start`].
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        supervisor: Supervisor,
        metrics: &Metrics,
    ) -> Self {
        let file = store.file();
        let ran = |outcome| {
            let labels: &[(&str, &str)] = &[("file", file), ("outcome", outcome)];
            metrics.counter("mainstay_jobs_runs_total", "Runs of background jobs.", labels)
        };
        let counts = Counts {
            done: ran("done"),
            retried: ran("retry"),
            dead: ran("dead"),
            waiting: metrics.gauge("mainstay_jobs_waiting", "Background jobs waiting or running.", &[("file", file)]),
        };
        Self(Arc::new(Inner {
            store,
            clock,
            random,
            supervisor,
            registered: Mutex::default(),
            schedules: Mutex::default(),
            running: Mutex::default(),
            wake: Notify::new(),
            counts,
        }))
    }

    /// Lets `job` do the work of `kind`. Jobs of a kind nobody registered stay and wait.
    pub fn register(&self, kind: &'static str, job: Arc<dyn Job>) {
        lock(&self.0.registered).insert(kind.to_owned(), job);
    }

    /// Runs the job `kind` (with an empty payload) once per `span`, the first time as soon as jobs start.
    pub fn every(&self, kind: &'static str, span: Span) {
        lock(&self.0.schedules).push(Schedule { kind, every: span.duration(), next: Timestamp(0) });
    }

    /// Puts a job in, as part of the caller's transaction: it becomes due at `run_at` once that is committed. Says
    /// whether it was put in; `false` means that one with this `kind` and `dedupe` key waits already.
    ///
    /// # Errors
    /// [`JobsError::PayloadTooLarge`] over [`PAYLOAD_MAX`], [`JobsError::TooMany`], [`JobsError::Name`], or what the
    /// store says. Nothing was put in.
    pub fn enqueue(
        &self,
        tx: &mut dyn WriteTx,
        kind: &str,
        payload: &[u8],
        run_at: Timestamp,
        dedupe: Option<&str>,
    ) -> Result<bool, JobsError> {
        rows::enqueue(tx, kind, payload, run_at, dedupe)
    }

    /// Looks for due jobs now instead of within a second; worth calling after a commit that enqueued one.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// The newest `limit` dead letters, newest first.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, JobsError> {
        self.0.store.read(move |tx| rows::dead_letters(tx, limit)).await
    }

    /// Starts running due jobs, in a critical task on the current runtime, until the server stops. Jobs an earlier
    /// process had begun are due at once.
    pub fn start(&self) {
        let jobs = self.clone();
        self.0.supervisor.task("jobs", Role::Critical, async move {
            let shutdown = jobs.0.supervisor.shutdown().clone();
            tokio::select! {
                () = jobs.work() => {}
                () = shutdown.draining() => {}
            }
        });
    }

    /// Gives back the jobs an earlier process had begun. [`Jobs::start`] does it first; tests that step by hand call it.
    ///
    /// # Errors
    /// What the store says; then some may have been given back.
    ///
    /// # Cancel safety
    /// Dropped before its end, some may have been given back.
    pub async fn recover(&self) -> Result<(), JobsError> {
        let mut from = Some(0);
        while let Some(start) = from {
            let now = self.0.clock.now();
            from = self.0.store.write(move |tx| rows::release(tx, start, RELEASE_PAGE, now)).await?;
        }
        Ok(())
    }

    /// Runs every job that is due now, and those that become due by it, to its end; returns how many runs that were.
    ///
    /// # Errors
    /// What the store says; jobs under way have ended.
    ///
    /// # Cancel safety
    /// Jobs under way are dropped, and run again after their lease.
    pub async fn run_due(&self) -> Result<usize, JobsError> {
        let mut runs = 0;
        loop {
            let claims = self.claim(WORKERS).await?;
            if claims.is_empty() {
                return Ok(runs);
            }
            runs += claims.len();
            join_all(claims.into_iter().map(|job| self.run(job))).await;
        }
    }

    /// The loop: takes due jobs while there are free workers, and sleeps until something is due.
    async fn work(&self) {
        let mut trouble = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        while let Err(error) = self.recover().await {
            tracing::error!(%error, "jobs of the last run could not be given back");
            tokio::time::sleep(trouble.next(self.0.random.as_ref())).await;
        }
        loop {
            let free = WORKERS.saturating_sub(lock(&self.0.running).len());
            let claimed = if free == 0 { Ok(Vec::new()) } else { self.claim(free).await };
            let wait = match claimed {
                Ok(claims) => {
                    trouble.reset();
                    for job in claims {
                        self.spawn(job);
                    }
                    self.until_due().await
                }
                Err(error) => {
                    tracing::error!(%error, "due jobs could not be looked up");
                    trouble.next(self.0.random.as_ref())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.wake.notified() => {}
            }
        }
    }

    /// Runs `job` in a task of its own, which a forced stop ends.
    fn spawn(&self, job: Claimed) {
        let jobs = self.clone();
        self.0.supervisor.task("job", Role::Ordinary, async move {
            let shutdown = jobs.0.supervisor.shutdown().clone();
            tokio::select! {
                () = jobs.run(job) => jobs.wake(),
                () = shutdown.forced() => {}
            }
        });
    }

    /// How long nothing is due, at most [`POLL`].
    async fn until_due(&self) -> Duration {
        let busy = lock(&self.0.running).len() >= WORKERS;
        let next = self.0.store.read(rows::next_due).await.ok().flatten();
        match next {
            Some(due) if !busy => due.since(self.0.clock.now()).min(POLL),
            _ => POLL,
        }
    }

    /// Takes up to `limit` due jobs, scheduled ones put in before.
    async fn claim(&self, limit: usize) -> Result<Vec<Claimed>, JobsError> {
        self.put_in_scheduled().await?;
        let now = self.0.clock.now();
        if self.0.store.read(rows::next_due).await?.is_none_or(|due| due > now) {
            return Ok(Vec::new());
        }
        let known: BTreeSet<String> = lock(&self.0.registered).keys().cloned().collect();
        let running = lock(&self.0.running).clone();
        let Claims { jobs, dead, waiting } =
            self.0.store.write(move |tx| rows::claim(tx, now, limit, &known, &running)).await?;
        self.0.counts.dead.add(dead);
        self.0.counts.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        lock(&self.0.running).extend(jobs.iter().map(|job| job.id));
        Ok(jobs)
    }

    async fn put_in_scheduled(&self) -> Result<(), JobsError> {
        let now = self.0.clock.now();
        let due: Vec<Schedule> = lock(&self.0.schedules).iter().copied().filter(|s| s.next <= now).collect();
        for Schedule { kind, every, .. } in due {
            let next = self.0.store.write(move |tx| rows::schedule(tx, kind, every, now)).await?;
            for schedule in lock(&self.0.schedules).iter_mut().filter(|schedule| schedule.kind == kind) {
                schedule.next = next;
            }
        }
        Ok(())
    }

    /// Runs `claimed` and records how it ended.
    async fn run(&self, claimed: Claimed) {
        let Claimed { id, kind, payload, attempts } = claimed;
        let _running = Running { jobs: self, id };
        let Some(job) = lock(&self.0.registered).get(&kind).cloned() else { return };
        let outcome = AssertUnwindSafe(async { job.run(&payload).await }).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_panic| JobOutcome::Retry("the job panicked".to_owned()));
        let now = self.0.clock.now();
        let ending = match outcome {
            JobOutcome::Done => Ending::Done,
            JobOutcome::Failed(reason) => Ending::Dead(reason),
            JobOutcome::Retry(reason) if attempts >= ATTEMPTS_MAX => Ending::Dead(reason),
            JobOutcome::Retry(reason) => {
                tracing::warn!(kind, id, attempts, reason, "a job will run again");
                Ending::Again(now.after(self.pause(attempts)))
            }
        };
        match &ending {
            Ending::Done => self.0.counts.done.inc(),
            Ending::Again(_) => self.0.counts.retried.inc(),
            Ending::Dead(reason) => {
                tracing::error!(kind, id, attempts, reason, "a job was given up");
                self.0.counts.dead.inc();
            }
        }
        let recorded = self.0.store.write(move |tx| rows::finish(tx, id, now, &ending)).await;
        if let Err(error) = recorded {
            tracing::error!(kind, id, %error, "the end of a job could not be recorded; it runs again after its lease");
        }
    }

    /// The wait after the `attempts`th attempt.
    fn pause(&self, attempts: u32) -> Duration {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_hours(1));
        let waits = (0..attempts.max(1)).map(|_| backoff.next(self.0.random.as_ref()));
        waits.last().unwrap_or(POLL)
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("store", &self.0.store).finish_non_exhaustive()
    }
}

/// Keeps a job from being taken again by this process, until dropped.
struct Running<'a> {
    jobs: &'a Jobs,
    id: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.jobs.0.running).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
