//! The threads beside the loop: one syncs the journal, one writes checkpoints.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::checkpoint::{Block, CheckpointWriter, Summary};
use super::error::PersistError;
use super::export::Kept;
use super::format::Position;
use super::journal::{Durable, SyncWork};
use super::recover::Place;
use crate::base::Supervisor;
use crate::base::supervise::{Priority, Role};

/// Blocks on their way to the disk at once.
const BLOCKS_AHEAD: usize = 4;

/// The thread that syncs the journal.
#[derive(Debug)]
pub(super) struct Syncer {
    work: SyncSender<SyncWork>,
    busy: Arc<AtomicUsize>,
}

impl Syncer {
    pub fn start(supervisor: &Supervisor) -> std::io::Result<Self> {
        // Two: one under way and one of `SAVE` or the end behind it.
        let (work, received) = sync_channel::<SyncWork>(2);
        let busy = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&busy);
        supervisor.thread("kv-sync", Role::Critical, Priority::Normal, move || {
            for work in received {
                work.run();
                done.fetch_sub(1, Ordering::AcqRel);
            }
        })?;
        Ok(Self { work, busy })
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Waits when two are under way already.
    pub fn send(&self, work: SyncWork) {
        self.busy.fetch_add(1, Ordering::AcqRel);
        // The thread ends only by a panic, which ends the server.
        let _ = self.work.send(work);
    }
}

/// What the checkpoint thread is told.
enum Step {
    Begin(u64),
    Block(Block),
    Finish(u64, Position, Arc<Durable>),
    Abandon,
}

/// What became of a checkpoint.
pub(super) type Outcome = Result<Summary, PersistError>;

/// The thread that writes checkpoints.
#[derive(Debug)]
pub(super) struct Checkpointer {
    steps: SyncSender<Step>,
    ahead: Arc<AtomicUsize>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    ready: Arc<AtomicBool>,
    /// Whether the last block of the checkpoint under way was handed over.
    pub finishing: bool,
}

impl Checkpointer {
    pub fn start(place: Place, kept: Arc<Kept>, supervisor: &Supervisor) -> std::io::Result<Self> {
        let (steps, received) = sync_channel(BLOCKS_AHEAD + 4);
        let ahead = Arc::new(AtomicUsize::new(0));
        let outcome = Arc::new(Mutex::new(None));
        let ready = Arc::new(AtomicBool::new(false));
        let writing = Writing {
            place,
            kept,
            writer: None,
            ahead: Arc::clone(&ahead),
            outcome: Arc::clone(&outcome),
            ready: Arc::clone(&ready),
        };
        supervisor.thread("kv-checkpoint", Role::Critical, Priority::Low, move || writing.run(&received))?;
        Ok(Self { steps, ahead, outcome, ready, finishing: false })
    }

    /// Whether as many blocks are on their way as may be.
    pub fn is_busy(&self) -> bool {
        self.ahead.load(Ordering::Acquire) >= BLOCKS_AHEAD
    }

    pub fn begin(&mut self, number: u64) {
        self.finishing = false;
        self.tell(Step::Begin(number));
    }

    pub fn write(&self, block: Block) {
        self.ahead.fetch_add(1, Ordering::AcqRel);
        self.tell(Step::Block(block));
    }

    pub fn finish(&mut self, keys: u64, end: Position, durable: Arc<Durable>) {
        self.finishing = true;
        self.tell(Step::Finish(keys, end, durable));
    }

    pub fn abandon(&mut self) {
        self.finishing = false;
        self.tell(Step::Abandon);
    }

    pub fn outcome(&self) -> Option<Outcome> {
        if !self.ready.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn tell(&self, step: Step) {
        // The thread ends only by a panic, which ends the server.
        let _ = self.steps.send(step);
    }
}

/// The checkpoint thread's own state.
struct Writing {
    place: Place,
    kept: Arc<Kept>,
    writer: Option<CheckpointWriter>,
    ahead: Arc<AtomicUsize>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    ready: Arc<AtomicBool>,
}

impl Writing {
    fn run(mut self, steps: &Receiver<Step>) {
        for step in steps {
            match step {
                Step::Begin(number) => {
                    let Place { disk, folder, key, random, .. } = &self.place;
                    match CheckpointWriter::create(Arc::clone(disk), folder, number, key, random.as_ref()) {
                        Ok(writer) => self.writer = Some(writer),
                        Err(error) => self.report(Err(error)),
                    }
                }
                Step::Block(block) => {
                    if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.write(block)) {
                        if let Some(writer) = self.writer.take() {
                            writer.abandon();
                        }
                        self.report(Err(error));
                    }
                    self.ahead.fetch_sub(1, Ordering::AcqRel);
                }
                Step::Finish(keys, end, durable) => {
                    if let Some(writer) = self.writer.take() {
                        let outcome = writer.finish(keys, end, &durable, &self.kept);
                        self.report(outcome);
                    }
                }
                Step::Abandon => {
                    if let Some(writer) = self.writer.take() {
                        writer.abandon();
                    }
                    self.ready.store(false, Ordering::Release);
                }
            }
        }
    }

    fn report(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ready.store(true, Ordering::Release);
    }
}
