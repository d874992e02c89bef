//! Backups of a running server: when, what of, where to, and how the last went.
//!
//! One thread of low priority does all of it, one thing after the other. [`Backups`] is the handle that doors and commands
//! hold; nothing of it waits for a run but the receivers that say so.

use std::fmt;
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::config::BackupConfig;
use super::own::OwnData;
use super::records::Records;
use super::run;
use super::status::{BackupStatus, Drill, FailedRun, RunProgress, RunReport, SnapshotLine};
use super::{BackupError, HostFacts, Progress, Repository, S3Access, Target, TargetAddress, Unlock};
use crate::base::supervise::{Priority, Role};
use crate::base::{Clock, Disk, Random, Secret, Supervisor, Timestamp};
use crate::crypto::Keyring;
use crate::objects::backends::secret_in;
use crate::store::{Store, StoreError};
use crate::telemetry::{Counter, Gauge, Metrics};

/// Most runs and additions that wait for the thread.
const WAITING: usize = 8;

/// How often the thread looks whether something is due, or the server stops.
const LOOK: Duration = Duration::from_millis(500);

/// How long after a failed run the next is tried, at most; never later than it would be due anyway.
const RETRY: Duration = Duration::from_mins(15);

/// Why backups do not do what they were asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No target is set and none was named.
    #[error("there is nowhere to put backups: set `backup.target`, or name a target with --target")]
    NoTarget,
    /// A run is under way already, or too many wait.
    #[error("a backup is under way already; wait until it is done")]
    Busy,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The text is no target.
    #[error("{0}")]
    Address(String),
    /// The secret for an S3 target does not read.
    #[error("backup.s3_secret_access_key_file: {0}")]
    Secret(String),
    /// The name given for a stream is none.
    #[error("`{name}` is no name for a backup: 1 to 200 letters, digits, `.`, `_` and `-`")]
    Name {
        /// The name.
        name: String,
    },
    /// Nothing came, or not all of it: it is no backup.
    #[error("{name}: {what}; no snapshot was made, the former ones are as they were")]
    Stream {
        /// The name given for it.
        name: String,
        /// What is missing.
        what: String,
    },
    /// The server's own data could not be read.
    #[error("the server's own data: {0}")]
    Own(String),
    /// The repository.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What backups know about themselves.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What backups are made from and need of the world.
#[derive(Debug)]
pub struct World {
    /// The server's own data.
    pub own: OwnData,
    /// `state.redb`, which remembers heads and outcomes.
    pub state: Store,
    /// Opens repositories.
    pub keyring: Arc<Keyring>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Carries the network for S3.
    pub runtime: Handle,
    /// The machine, for the snapshots.
    pub host: HostFacts,
    /// Starts the thread; tells when the server stops.
    pub supervisor: Supervisor,
}

/// Backups. Clones are the same.
#[derive(Clone)]
pub struct Backups(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub world: World,
    pub config: BackupConfig,
    pub records: Records,
    now: Mutex<Now>,
    work: SyncSender<Work>,
    /// Taken by the thread.
    queue: Mutex<Option<Receiver<Work>>>,
    counts: Counts,
}

struct Counts {
    succeeded: Counter,
    failed: Counter,
    last_success: Gauge,
    last_bytes: Gauge,
    last_seconds: Gauge,
}

/// How things stand.
#[derive(Default)]
struct Now {
    running: Option<Running>,
    last: Option<RunReport>,
    failed: Option<FailedRun>,
    proven: Option<Drill>,
}

struct Running {
    target: String,
    started: Timestamp,
    doing: String,
    progress: Progress,
}

type Reply<T> = oneshot::Sender<Result<T, ServiceError>>;

/// What the thread is asked to do.
enum Work {
    Run(Option<String>, Option<Reply<RunReport>>),
    Add(String, Option<String>, Box<dyn Read + Send>, Reply<SnapshotLine>),
}

impl Backups {
    /// Backups of `world`. Reads what former ones came to; nothing is made before [`Backups::start`]. Blocks.
    ///
    /// # Errors
    /// The store.
    pub fn new(world: World, config: BackupConfig, metrics: &Metrics) -> Result<Self, ServiceError> {
        let runs = |outcome| {
            metrics.counter("mainstay_backup_runs_total", "Backups, by how they ended.", &[("outcome", outcome)])
        };
        let counts = Counts {
            succeeded: runs("success"),
            failed: runs("failure"),
            last_success: metrics.gauge(
                "mainstay_backup_last_success_timestamp_seconds",
                "When the last backup that made its snapshots ended, in seconds since the Unix epoch; 0 for never.",
                &[],
            ),
            last_bytes: metrics.gauge("mainstay_backup_last_bytes", "Bytes of content in the last backup.", &[]),
            last_seconds: metrics.gauge("mainstay_backup_last_seconds", "Seconds the last backup took.", &[]),
        };
        let records = Records::new(world.state.clone());
        let now = Now { running: None, last: records.last()?, failed: records.failed()?, proven: records.proven()? };
        let (work, queue) = sync_channel(WAITING);
        let backups = Self(Arc::new(Inner {
            world,
            config,
            records,
            now: Mutex::new(now),
            work,
            queue: Mutex::new(Some(queue)),
            counts,
        }));
        if let Some(last) = &backups.now().last {
            backups.count(last);
        }
        Ok(backups)
    }

    /// Starts the thread, which makes backups when they are due.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn start(&self) -> std::io::Result<()> {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else { return Ok(()) };
        let this = self.clone();
        self.0.world.supervisor.thread("backup", Role::Ordinary, Priority::Low, move || this.serve(&queue))
    }

    /// How backups stand.
    pub fn status(&self) -> BackupStatus {
        let target = self.scheduled();
        let now = self.now();
        let at = self.0.world.clock.now();
        let every = self.0.config.every.duration();
        let succeeded = now.last.as_ref().map(|last| last.finished);
        let overdue = target.is_some() && succeeded.is_some_and(|then| at.since(then) > every * 2);
        BackupStatus {
            next: target.as_ref().map(|_| next_due(&now, every).max(at)),
            target,
            every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
            running: now.running.as_ref().map(Running::shown),
            last: now.last.clone(),
            overdue: overdue || (now.failed.is_some() && succeeded.is_none()),
            failed: now.failed.clone(),
            proven: now.proven.clone(),
        }
    }

    /// The run under way.
    pub fn progress(&self) -> Option<RunProgress> {
        self.now().running.as_ref().map(Running::shown)
    }

    /// The snapshots at the scheduled target, the newest first; none before the first backup.
    ///
    /// # Errors
    /// [`ServiceError::NoTarget`]; the repository cannot be read.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn list(&self) -> Result<Vec<SnapshotLine>, ServiceError> {
        let this = self.clone();
        let listed = tokio::task::spawn_blocking(move || this.list_blocking());
        listed.await.map_err(|_ended| ServiceError::Stopping)?
    }

    fn list_blocking(&self) -> Result<Vec<SnapshotLine>, ServiceError> {
        let target = self.scheduled().ok_or(ServiceError::NoTarget)?;
        let repository = match self.repository(&target) {
            Err(ServiceError::Backup(BackupError::NoRepository { .. })) => return Ok(Vec::new()),
            opened => opened?,
        };
        Ok(repository.snapshots()?.iter().rev().map(run::line).collect())
    }

    /// Begins a backup to the scheduled target, soon.
    ///
    /// # Errors
    /// [`ServiceError::NoTarget`], [`ServiceError::Busy`].
    pub fn start_now(&self) -> Result<(), ServiceError> {
        if self.now().running.is_some() {
            return Err(ServiceError::Busy);
        }
        self.scheduled().ok_or(ServiceError::NoTarget)?;
        self.ask(Work::Run(None, None))
    }

    /// Has a backup made, to `target` or the scheduled one; the receiver tells how it ended.
    ///
    /// # Errors
    /// [`ServiceError::NoTarget`], [`ServiceError::Busy`].
    pub fn run(
        &self,
        target: Option<String>,
    ) -> Result<oneshot::Receiver<Result<RunReport, ServiceError>>, ServiceError> {
        if target.is_none() && self.scheduled().is_none() {
            return Err(ServiceError::NoTarget);
        }
        let (reply, outcome) = oneshot::channel();
        self.ask(Work::Run(target, Some(reply)))?;
        Ok(outcome)
    }

    /// Makes a snapshot of what `stream` gives, such as a database's dump, as the source `stdin:<name>`. An error of the
    /// stream, or an empty one, makes none.
    ///
    /// # Errors
    /// [`ServiceError::Name`], [`ServiceError::NoTarget`], [`ServiceError::Busy`].
    pub fn add(
        &self,
        name: &str,
        target: Option<String>,
        stream: Box<dyn Read + Send>,
    ) -> Result<oneshot::Receiver<Result<SnapshotLine, ServiceError>>, ServiceError> {
        check_name(name)?;
        if target.is_none() && self.scheduled().is_none() {
            return Err(ServiceError::NoTarget);
        }
        let (reply, outcome) = oneshot::channel();
        self.ask(Work::Add(name.to_owned(), target, stream, reply))?;
        Ok(outcome)
    }

    /// Makes a backup on this thread, for commands without a server. Blocks.
    ///
    /// # Errors
    /// No snapshot was made, or the server's own is missing.
    pub fn run_here(&self, target: Option<&str>) -> Result<RunReport, ServiceError> {
        let target = target.map(str::to_owned).or_else(|| self.scheduled()).ok_or(ServiceError::NoTarget)?;
        let made = run::run(self, &target);
        self.end(&target, &made);
        made
    }

    /// Makes a snapshot of a stream on this thread. Blocks.
    ///
    /// # Errors
    /// As [`Backups::add`]; no snapshot was made.
    pub fn add_here(
        &self,
        name: &str,
        target: Option<&str>,
        stream: &mut dyn Read,
    ) -> Result<SnapshotLine, ServiceError> {
        check_name(name)?;
        let target = target.map(str::to_owned).or_else(|| self.scheduled()).ok_or(ServiceError::NoTarget)?;
        let added = run::add(self, name, &target, stream);
        self.now().running = None;
        // Nobody but a stop calls a stream off.
        added.map_err(|error| match error {
            ServiceError::Backup(BackupError::Cancelled) => ServiceError::Stopping,
            error => error,
        })
    }

    fn ask(&self, work: Work) -> Result<(), ServiceError> {
        self.0.work.try_send(work).map_err(|refused| match refused {
            TrySendError::Full(_) => ServiceError::Busy,
            TrySendError::Disconnected(_) => ServiceError::Stopping,
        })
    }

    /// Waits until the server stops.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn stopping(&self) {
        self.0.world.supervisor.shutdown().draining().await;
    }

    /// The thread.
    fn serve(&self, queue: &Receiver<Work>) {
        let shutdown = self.0.world.supervisor.shutdown();
        // A run under way ends with the server.
        let this = Arc::downgrade(&self.0);
        shutdown.on_change(move || {
            let Some(this) = this.upgrade().map(Self) else { return };
            if this.0.world.supervisor.shutdown().is_draining()
                && let Some(running) = &this.now().running
            {
                running.progress.cancel();
            }
        });
        while !shutdown.is_draining() {
            match queue.recv_timeout(LOOK) {
                Ok(Work::Run(target, reply)) => {
                    let made = self.run_here(target.as_deref());
                    if let Some(reply) = reply {
                        // Whoever asked may have gone; the backup is made all the same.
                        let _ = reply.send(made);
                    }
                }
                Ok(Work::Add(name, target, mut stream, reply)) => {
                    let added = self.add_here(&name, target.as_deref(), &mut stream);
                    let _ = reply.send(added);
                }
                Err(RecvTimeoutError::Timeout) if self.is_due() => {
                    // Logged and kept by `end`.
                    let _ = self.run_here(None);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_due(&self) -> bool {
        let every = self.0.config.every.duration();
        self.scheduled().is_some() && self.0.world.clock.now() >= next_due(&self.now(), every)
    }

    fn scheduled(&self) -> Option<String> {
        (!self.0.config.target.is_empty()).then(|| self.0.config.target.clone())
    }

    /// Says what is being done from now on; a fresh account of its figures, called off when the server stops.
    pub(super) fn doing(&self, target: &str, what: impl Into<String>) -> Progress {
        let mut now = self.now();
        let started = now.running.as_ref().map_or_else(|| self.0.world.clock.now(), |running| running.started);
        let progress = Progress::new();
        if self.0.world.supervisor.shutdown().is_draining() {
            progress.cancel();
        }
        now.running =
            Some(Running { target: target.to_owned(), started, doing: what.into(), progress: progress.clone() });
        progress
    }

    fn end(&self, target: &str, made: &Result<RunReport, ServiceError>) {
        let mut now = self.now();
        now.running = None;
        match made {
            Ok(report) => {
                self.count(report);
                self.0.counts.succeeded.inc();
                tracing::info!(
                    target_address = target,
                    snapshots = report.snapshots.len(),
                    size_bytes = report.snapshots.iter().map(|snapshot| snapshot.counts.bytes).sum::<u64>(),
                    stored_bytes = report.snapshots.iter().map(|snapshot| snapshot.counts.bytes_stored).sum::<u64>(),
                    took_ms = report.finished.since(report.started).as_millis() as u64,
                    pause_ms = report.pause_ms,
                    "a backup is made"
                );
                for problem in &report.problems {
                    tracing::warn!(problem, "the backup is not complete");
                }
                if let Some(drill) = report.drill.as_ref().filter(|drill| drill.failures.is_empty()) {
                    now.proven = Some(drill.clone());
                }
                now.last = Some(report.clone());
                now.failed = None;
            }
            Err(error) => {
                self.0.counts.failed.inc();
                tracing::error!(target_address = target, %error, "a backup failed; the former ones are as they were");
                let at = self.0.world.clock.now();
                now.failed = Some(FailedRun { at, target: target.to_owned(), reason: error.to_string() });
            }
        }
        let kept = self.0.records.outcome(now.last.as_ref(), now.failed.as_ref(), now.proven.as_ref());
        if let Err(error) = kept {
            tracing::warn!(%error, "how the backup ended is not remembered beyond a restart");
        }
    }

    fn count(&self, report: &RunReport) {
        let counts = &self.0.counts;
        let bytes: u64 = report.snapshots.iter().map(|snapshot| snapshot.counts.bytes).sum();
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        counts.last_success.set(signed(report.finished.seconds()));
        counts.last_bytes.set(signed(bytes));
        counts.last_seconds.set(signed(report.finished.since(report.started).as_secs()));
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The repository at `target`, which must not have gone back since this server last saw it. Blocks.
    pub(super) fn repository(&self, target: &str) -> Result<Repository, ServiceError> {
        let world = &self.0.world;
        let known = self.0.records.head(target)?;
        let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
        let unlock = Unlock::Keyring(&world.keyring);
        Ok(Repository::open(self.target(target)?, &unlock, known.as_ref(), clock, random)?)
    }

    /// As [`Backups::repository`], made when there is none and never was. Blocks.
    pub(super) fn repository_or_new(&self, target: &str) -> Result<Repository, ServiceError> {
        match self.repository(target) {
            Err(ServiceError::Backup(BackupError::NoRepository { .. })) if self.0.records.head(target)?.is_none() => {
                let world = &self.0.world;
                let (clock, random) = (Arc::clone(&world.clock), Arc::clone(&world.random));
                let unlock = Unlock::Keyring(&world.keyring);
                Ok(Repository::create(self.target(target)?, &unlock, clock, random)?)
            }
            // Whatever is put into it from now on opens with the master key in use.
            Ok(opened) if self.0.world.keyring.is_changing() => self.let_into(target).map(|()| opened),
            opened => opened,
        }
    }

    /// Has the repository at the scheduled target, if there is one, open with the master key in use. Blocks.
    ///
    /// # Errors
    /// The target: it opens with the master key before, or with neither.
    pub fn let_in(&self) -> Result<(), ServiceError> {
        let Some(target) = self.scheduled() else { return Ok(()) };
        match self.let_into(&target) {
            Err(ServiceError::Backup(BackupError::NoRepository { .. })) => Ok(()),
            done => done,
        }
    }

    fn let_into(&self, target: &str) -> Result<(), ServiceError> {
        let world = &self.0.world;
        Ok(Repository::let_in(self.target(target)?.as_ref(), &world.keyring, world.random.as_ref())?)
    }

    fn target(&self, target: &str) -> Result<Arc<dyn Target>, ServiceError> {
        let Inner { world, config, .. } = &*self.0;
        open_target(target, config, &world.disk, &world.runtime)
    }
}

/// The target called `text`, reached as `config` says; nothing is asked of it yet. Blocks.
///
/// # Errors
/// The text is no target, or the secret for it does not read.
pub fn open_target(
    text: &str,
    config: &BackupConfig,
    disk: &Arc<dyn Disk>,
    runtime: &Handle,
) -> Result<Arc<dyn Target>, ServiceError> {
    let parsed = text.parse::<TargetAddress>();
    let address = parsed.map_err(|error| ServiceError::Address(error.to_string()))?;
    let secret = match &address {
        TargetAddress::S3 { .. } => secret(config, disk.as_ref())?,
        TargetAddress::Folder(_) => Secret::new(String::new()),
    };
    let access = S3Access {
        endpoint: config.s3_endpoint.clone(),
        region: config.s3_region.clone(),
        access_key_id: config.s3_access_key_id.clone(),
        secret_access_key: secret,
    };
    Ok(address.open(Arc::clone(disk), &access, runtime).map_err(BackupError::from)?)
}

fn secret(config: &BackupConfig, from: &dyn Disk) -> Result<Secret<String>, ServiceError> {
    let file = &config.s3_secret_access_key_file;
    if file.is_empty() {
        return Err(ServiceError::Secret("it is not set; an s3:// target needs it".to_owned()));
    }
    secret_in(from, file).map_err(ServiceError::Secret)
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=200).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
    if fits { Ok(()) } else { Err(ServiceError::Name { name: name.escape_debug().take(200).collect() }) }
}

/// When the next backup is due: at once when there is none, a span after the last, and after a failed one a little later.
fn next_due(now: &Now, every: Duration) -> Timestamp {
    let regular = now.last.as_ref().map_or_else(Timestamp::default, |last| last.started.after(every));
    match &now.failed {
        Some(failed) => regular.max(failed.at.after(every.min(RETRY))),
        None => regular,
    }
}

impl Running {
    fn shown(&self) -> RunProgress {
        RunProgress {
            target: self.target.clone(),
            started: self.started,
            doing: self.doing.clone(),
            counts: self.progress.counts(),
        }
    }
}

impl fmt::Debug for Backups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backups").field("target", &self.0.config.target).finish_non_exhaustive()
    }
}
