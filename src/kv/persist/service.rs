//! Persistence as the loop holds it: journal, syncs and checkpoints, with the threads that do what would block.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::{Block, Summary};
use super::error::{PersistError, Refusal};
use super::export::{Kept, Live};
use super::format::Marker;
use super::journal::Journal;
use super::recover::{Place, Report, Restored, recover};
use super::threads::{Checkpointer, Syncer};
use super::value::{apply_all, load_all, put_item};
use crate::base::{Clock, Supervisor};
use crate::kv::config::DATABASES;
use crate::kv::keyspace::Keyspace;
use crate::kv::walk::Walk;

/// Time between two syncs in mode [`SyncMode::EverySec`].
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Time between two tries to write what did not fit.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Time after a failed checkpoint before the next is begun.
const CHECKPOINT_PAUSE: Duration = Duration::from_mins(1);
/// Longest time one slice of a checkpoint takes the loop, a large value apart.
const SLICE_TIME: Duration = Duration::from_micros(500);
/// Bytes after which a slice ends.
const SLICE_BYTES: usize = 256 << 10;
/// Bytes of keys looked at between two looks at the clock.
const SLICE_STEP: usize = 16 << 10;

/// When the journal is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// Before replies leave.
    Always,
    /// Once a second.
    #[default]
    EverySec,
    /// When the operating system likes.
    No,
}

impl SyncMode {
    /// The word Redis uses for `appendfsync`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySec => "everysec",
            Self::No => "no",
        }
    }
}

/// What `INFO persistence` shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Bytes of journal since the base.
    pub journal_bytes: u64,
    /// The last finished checkpoint of this process.
    pub checkpoint: Option<Summary>,
    /// Whether one is under way.
    pub checkpointing: bool,
    /// Checkpoints finished by this process.
    pub checkpoints: u64,
    /// Whether the last checkpoint failed.
    pub checkpoint_failed: bool,
}

/// Journal and checkpoints of one keyspace. Lives on the keyspace's thread.
#[derive(Debug)]
pub struct Persistence {
    journal: Journal,
    clock: Arc<dyn Clock>,
    mode: SyncMode,
    checkpoint_after: u64,
    syncer: Syncer,
    checkpointer: Checkpointer,
    live: Live,
    running: Option<Running>,
    asked: bool,
    next_sync: Duration,
    next_retry: Duration,
    next_checkpoint: Duration,
    base_bytes: u64,
    status: Status,
}

/// A checkpoint under way, seen from the loop.
#[derive(Debug)]
struct Running {
    number: u64,
    walk: Walk,
    walked: bool,
    blocks: u32,
    keys: u64,
    superfluous_bytes: u64,
}

/// How often things happen.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the journal is synced.
    pub sync: SyncMode,
    /// Bytes of journal after which a checkpoint is begun, or the size of the last one if that is more.
    pub checkpoint_after: u64,
}

impl Persistence {
    /// Brings `keyspace` back to what was kept, and opens the journal. Blocks.
    ///
    /// # Errors
    /// [`PersistError`]; the server must not start then.
    pub fn open(
        place: &Place,
        pace: Pace,
        keyspace: &mut Keyspace,
        clock: Arc<dyn Clock>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Report), PersistError> {
        let start = clock.monotonic();
        keyspace.set_now(clock.now(), start);
        let (journal, mut report) = recover(place, &mut |restored| match restored {
            Restored::Expect(keys) => {
                keyspace.expect(keys);
                Ok(())
            }
            Restored::Effects(bytes) => apply_all(keyspace, bytes),
            Restored::Values(bytes) => load_all(keyspace, bytes),
        })?;
        report.keys = (0..DATABASES).map(|db| keyspace.database_info(db).keys as u64).sum();
        report.took = clock.monotonic().saturating_sub(start);
        tracing::info!(
            keys = report.keys,
            checkpoint_bytes = report.checkpoint_bytes,
            journal_bytes = report.journal_bytes,
            took_ms = report.took.as_millis() as u64,
            "the keyspace is in memory"
        );
        let thread = |error| PersistError::disk("start a thread for", &place.folder)(error);
        let syncer = Syncer::start(supervisor).map_err(thread)?;
        let thread = |error| PersistError::disk("start a thread for", &place.folder)(error);
        let kept = Arc::new(Kept::default());
        let checkpointer = Checkpointer::start(place.clone(), Arc::clone(&kept), supervisor).map_err(thread)?;
        let live = Live { place: place.clone(), written: Arc::clone(journal.written()), kept };
        let now = clock.monotonic();
        let persistence = Self {
            journal,
            clock,
            mode: pace.sync,
            checkpoint_after: pace.checkpoint_after,
            syncer,
            checkpointer,
            live,
            running: None,
            asked: false,
            next_sync: now + SYNC_EVERY,
            next_retry: now,
            next_checkpoint: now,
            base_bytes: report.checkpoint_bytes,
            status: Status::default(),
        };
        Ok((persistence, report))
    }

    /// Ends a loop turn: what it changed is written as one frame, synced in mode [`SyncMode::Always`], and a slice of
    /// the checkpoint under way is taken. Afterwards replies may leave.
    ///
    /// # Errors
    /// The changes of this turn are not kept, or not yet: their clients must not get their replies.
    pub fn turn(&mut self, keyspace: &mut Keyspace) -> Result<(), Refusal> {
        let slice = self.slice(keyspace);
        let effects = keyspace.effects();
        if effects.is_empty() && slice.is_none() {
            return Ok(());
        }
        let marker = slice.as_ref().map(|(marker, _)| *marker);
        let written = self.journal.append(effects.bytes(), marker);
        let synced = self.mode == SyncMode::Always || effects.are_urgent();
        effects.clear();
        let outcome = match written {
            Ok(()) if synced => self.journal.sync(),
            written => written,
        };
        match (slice, &outcome) {
            (Some((_, block)), Ok(())) => self.checkpointer.write(block),
            (Some(_), Err(refusal)) => self.abandon(&refusal.to_string()),
            (None, _) => {}
        }
        self.finish_walk();
        outcome
    }

    /// Its files, for backups.
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Why writes must be refused now, if so.
    pub fn refusal(&mut self) -> Option<Refusal> {
        self.journal.refusal()
    }

    /// What is due by time. Call it every 100 ms or so.
    pub fn tick(&mut self) {
        let now = self.clock.monotonic();
        if self.mode != SyncMode::Always && now >= self.next_sync {
            let wanted = self.mode == SyncMode::EverySec || self.running.as_ref().is_some_and(|run| run.walked);
            if wanted && self.sync_soon() {
                self.next_sync = now + SYNC_EVERY;
            }
        }
        if now >= self.next_retry && self.journal.refusal() == Some(Refusal::Full) {
            self.next_retry = now + RETRY_EVERY;
            self.journal.retry();
        }
        self.take_outcome(now);
        let due = self.asked || self.journal.bytes() > self.checkpoint_after.max(self.base_bytes);
        if due && self.running.is_none() && now >= self.next_checkpoint && self.journal.refusal().is_none() {
            self.begin(now);
        }
    }

    /// Asks for a checkpoint as soon as possible.
    pub const fn checkpoint(&mut self) {
        self.asked = true;
    }

    /// Whether the loop should turn again at once, or soon, though no client has said anything: a slice is wanted.
    pub fn wants_turn(&self) -> Option<Duration> {
        let running = self.running.as_ref().filter(|running| !running.walked)?;
        let busy = self.checkpointer.is_busy();
        // A first slice must not wait; behind it, the disk sets the pace.
        Some(if busy && running.blocks > 0 { Duration::from_millis(1) } else { Duration::ZERO })
    }

    /// Makes everything written so far durable. Blocks: for `SAVE` and for the end.
    ///
    /// # Errors
    /// [`Refusal`] when something is not kept.
    pub fn sync_now(&mut self) -> Result<(), Refusal> {
        let end = self.journal.end();
        if let Some(work) = self.journal.sync_work() {
            self.syncer.send(work);
        }
        let durable = Arc::clone(self.journal.durable());
        if !durable.reached(end) {
            return Err(Refusal::Broken(durable.broken().unwrap_or_default()));
        }
        self.journal.refusal().map_or(Ok(()), Err)
    }

    /// Numbers for `INFO`.
    pub fn status(&self) -> Status {
        Status { journal_bytes: self.journal.bytes(), checkpointing: self.running.is_some(), ..self.status }
    }

    /// When the journal is synced.
    pub const fn mode(&self) -> SyncMode {
        self.mode
    }

    /// Changes when the journal is synced (`CONFIG SET appendfsync`).
    pub const fn set_mode(&mut self, mode: SyncMode) {
        self.mode = mode;
    }

    /// Takes the next slice of the checkpoint under way, if the disk keeps up.
    fn slice(&mut self, keyspace: &mut Keyspace) -> Option<(Marker, Block)> {
        let running = self.running.as_mut().filter(|running| !running.walked)?;
        if self.checkpointer.is_busy() {
            return None;
        }
        let start = self.clock.monotonic();
        let mut block = Block::new();
        loop {
            running.walked = keyspace.walk(&mut running.walk, SLICE_STEP, |item| {
                running.keys += 1;
                put_item(&item, &mut block);
            });
            let over = block.len() >= SLICE_BYTES || self.clock.monotonic().saturating_sub(start) >= SLICE_TIME;
            if running.walked || over {
                break;
            }
        }
        let marker = Marker { checkpoint: running.number, block: running.blocks };
        running.blocks += 1;
        Some((marker, block))
    }

    fn begin(&mut self, now: Duration) {
        self.asked = false;
        match self.journal.rotate() {
            Ok(number) => {
                self.checkpointer.begin(number);
                self.running = Some(Running {
                    number,
                    walk: Walk::default(),
                    walked: false,
                    blocks: 0,
                    keys: 0,
                    superfluous_bytes: self.journal.older_bytes(),
                });
            }
            Err(error) => {
                self.next_checkpoint = now + CHECKPOINT_PAUSE;
                self.status.checkpoint_failed = true;
                tracing::warn!(%error, "cannot begin a checkpoint of the keyspace; the journal goes on");
            }
        }
    }

    /// After the last slice: the rest is the checkpoint thread's.
    fn finish_walk(&mut self) {
        let Some(running) = self.running.as_ref().filter(|running| running.walked) else { return };
        if self.checkpointer.finishing {
            return;
        }
        let (keys, end) = (running.keys, self.journal.end());
        self.checkpointer.finish(keys, end, Arc::clone(self.journal.durable()));
        // The checkpoint waits for it, whatever the mode.
        self.next_sync = Duration::ZERO;
    }

    fn take_outcome(&mut self, now: Duration) {
        let Some(outcome) = self.checkpointer.outcome() else { return };
        let Some(running) = self.running.take() else { return };
        match outcome {
            Ok(summary) => {
                self.journal.forget(running.superfluous_bytes);
                self.base_bytes = summary.bytes;
                self.status.checkpoint = Some(summary);
                self.status.checkpoints += 1;
                self.status.checkpoint_failed = false;
                tracing::info!(
                    checkpoint = running.number,
                    keys = summary.keys,
                    size_bytes = summary.bytes,
                    "the keyspace has a new checkpoint"
                );
            }
            Err(error) => {
                self.next_checkpoint = now + CHECKPOINT_PAUSE;
                self.status.checkpoint_failed = true;
                tracing::warn!(%error, "a checkpoint of the keyspace failed; the journal goes on");
            }
        }
    }

    fn abandon(&mut self, reason: &str) {
        self.running = None;
        self.checkpointer.abandon();
        self.status.checkpoint_failed = true;
        self.next_checkpoint = self.clock.monotonic() + CHECKPOINT_PAUSE;
        tracing::warn!(reason, "a checkpoint of the keyspace was given up");
    }

    /// Hands what is unsynced to the sync thread; `false` when it is still busy with the last.
    fn sync_soon(&mut self) -> bool {
        if self.syncer.is_busy() {
            return false;
        }
        if let Some(work) = self.journal.sync_work() {
            self.syncer.send(work);
        }
        true
    }
}

impl Drop for Persistence {
    /// Nobody writes or syncs any more: a checkpoint that waits for it must not wait for ever.
    fn drop(&mut self) {
        self.journal.durable().fail("the journal is closed".to_owned());
    }
}

/// The folder of the keyspace's files in the data folder.
pub fn folder(data: &Path) -> std::path::PathBuf {
    data.join("kv")
}
