//! Kept answers on disk: what no longer fits into memory, and what is too large for it.
//!
//! Promises: an answer comes back as it was, for the requests it was kept for, or not at all ([`format`]); storing never
//! holds up a client, what the disk does not take in time is not stored from there ([`Spill`]); a large answer is in memory piece by
//! piece only, on its way in ([`store`]) and out ([`body`]); a disk that is nearly full makes the folder smaller, never the
//! other way round; what is purged is gone from the disk when the purge returns.
//!
//! The folder is `edge/cache` of the data folder, a file each answer. It outlives a restart: each file tells by itself what
//! it is, and a start looks through them in the background ([`store::Scan`]). Nothing waits for the disk to have
//! written: after a power cut files may be torn or gone, and old ones may be back, which a cache may have as long as they
//! have not outlived their time; what is torn does not open and is removed. Small answers are verified as a whole before
//! their first byte leaves; large ones are synced before their head is written, and piece by piece verified on their way, so
//! that decay breaks an answer off and is never served.
//!
//! [`index`] knows what there is; start reading at [`Tier::look`] and [`Tier::begin`].

mod body;
mod format;
mod index;
mod saved;
mod spill;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Semaphore;

pub use self::body::Opened;
pub use self::index::Spot;
pub use self::spill::Spill;

use self::format::{Form, LONGEST_HEAD, PRELUDE};
use self::index::{Index, memory};
use self::saved::{Saved, came_at};
use self::store::Job;
use super::content::Content;
use super::entry::{Head, Stored};
use super::key::Key;
use super::shelves::{Kept, Shelves};
use super::vary::Selecting;
use crate::base::disk::read_exact_at;
use crate::base::supervise::{Priority, Role};
use crate::base::{Clock, Disk, DiskFile, Id128, OpenMode, Random, Supervisor, Timestamp};
use crate::crypto::Key as Secret;
use crate::edge::error::EdgeError;
use crate::edge::reading::Source as _;
use crate::monitor::{DiskState, DiskView, WhichKept};
use crate::telemetry::{Counter, Metrics};

/// Largest body that is read and verified as a whole before it is sent.
const WHOLE: u64 = 1 << 20;
/// Bytes on their way to the disk: a part of the memory for kept answers, within bounds.
const QUEUE: (u64, u64, u64) = (8, 128 << 10, 4 << 20);
/// The part of the memory for kept answers that may be used up to know what is on disk: a quarter.
const INDEX_PART: u64 = 4;
/// An answer that has less time left than this, and nothing to be validated by, is not moved to disk.
const WORTH: Duration = Duration::from_mins(1);
/// For how long nothing is stored after the disk refused.
const PAUSE: Duration = Duration::from_secs(10);
/// Reads after which an answer comes back to memory.
const HOT: u32 = 2;
/// Longest wait of a purge for a start that still looks through the files.
const START: Duration = Duration::from_mins(1);

/// Where the files are, and what the tier takes of the world.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The folder.
    pub folder: PathBuf,
    /// What the files' keys are derived from.
    pub key: Secret,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Starts the thread that writes.
    pub supervisor: Supervisor,
    /// Free bytes below which nothing is stored, and the same in percent of the disk; the larger counts.
    pub reserve: (u64, u64),
}

/// All answers on disk, for all workers.
#[derive(Debug)]
pub struct Tier {
    place: Place,
    shelves: Arc<Shelves>,
    index: Arc<Index>,
    /// Bytes that files may take; 0 while the tier is off.
    capacity: AtomicU64,
    /// The sites whose answers are kept.
    sites: Mutex<Vec<Arc<str>>>,
    queue: Arc<Semaphore>,
    queue_bytes: u32,
    /// The way to the thread that writes, while there is one.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Until when nothing is stored, in milliseconds on the monotonic clock.
    paused_until: AtomicU64,
    is_failing: AtomicBool,
    /// Why it last refused.
    refused: Mutex<String>,
    /// Whether a start still looks through the files.
    starting: Mutex<bool>,
    started: Condvar,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    written: Counter,
    evicted: Counter,
    passed: Counter,
    damaged: Counter,
}

impl Tier {
    /// One that is off; what does not fit into `shelves`, which have room for `memory` bytes, moves here.
    pub fn new(place: Place, shelves: &Arc<Shelves>, memory: u64, metrics: &Metrics) -> Arc<Self> {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let (part, least, most) = QUEUE;
        let queue_bytes = u32::try_from((memory / part).clamp(least, most)).unwrap_or(u32::MAX);
        let index = Arc::<Index>::default();
        let (answers, bytes) = (Arc::clone(&index), Arc::clone(&index));
        let help = "Stored answers on disk.";
        metrics.computed("mainstay_edge_cache_disk_answers", help, &[], move || answers.totals().0 as f64);
        let help = "Bytes of the files of stored answers.";
        metrics.computed("mainstay_edge_cache_disk_bytes", help, &[], move || bytes.totals().1 as f64);
        let tier = Arc::new(Self {
            place,
            shelves: Arc::clone(shelves),
            index,
            capacity: AtomicU64::new(0),
            sites: Mutex::default(),
            queue: Arc::new(Semaphore::new(queue_bytes as usize)),
            queue_bytes,
            jobs: Mutex::default(),
            paused_until: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            refused: Mutex::default(),
            starting: Mutex::default(),
            started: Condvar::new(),
            counts: Counts {
                written: counter(
                    "mainstay_edge_cache_disk_written_bytes_total",
                    "Bytes of stored answers that were written to disk.",
                ),
                evicted: counter(
                    "mainstay_edge_cache_disk_evictions_total",
                    "Stored answers on disk that had to make room.",
                ),
                passed: counter(
                    "mainstay_edge_cache_disk_passed_total",
                    "Answers that were not moved to disk, since it was too slow, too full, or refused.",
                ),
                damaged: counter(
                    "mainstay_edge_cache_disk_damaged_total",
                    "Files of stored answers that were not what had been written.",
                ),
            },
        });
        shelves.overflow_to(&tier);
        tier
    }

    /// Takes `capacity` bytes of disk from now on, for answers of `sites`; 0 ends it, and removes all files.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn reload(self: &Arc<Self>, capacity: u64, sites: &[Arc<str>]) -> Result<(), EdgeError> {
        sites.clone_into(&mut *self.sites.lock().unwrap_or_else(PoisonError::into_inner));
        self.capacity.store(capacity, Ordering::Relaxed);
        let failed = |source| EdgeError::System { what: "cannot use the folder of kept answers", source };
        // Files that are left from before it was turned off go, too.
        let left = || self.place.disk.entry(&self.place.folder).map_err(failed).map(|entry| entry.is_some());
        if capacity > 0 || left()? {
            self.start().map_err(failed)?;
        }
        let gone = self.index.keep_only(sites).into_iter().chain(self.shrunk());
        gone.for_each(|spot| self.send(Job::Remove(spot)));
        Ok(())
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.is_some() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel();
        self.index.begin_start();
        *self.starting.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let tier = Arc::clone(self);
        self.place.supervisor.thread("edge-cache", Role::Ordinary, Priority::Normal, move || {
            store::run(&tier, &receiver);
        })?;
        let bell = sender.clone();
        self.place.supervisor.shutdown().on_change(move || {
            let _ended = bell.send(Job::Look);
        });
        *jobs = Some(sender);
        Ok(())
    }

    /// Whether answers are stored.
    pub fn takes(&self) -> bool {
        let now = u64::try_from(self.place.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.capacity.load(Ordering::Relaxed) > 0 && self.paused_until.load(Ordering::Relaxed) <= now
    }

    /// How many sites keep answers.
    pub fn sites(&self) -> u64 {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// How it stands, with so many `answers` that were read `hits` times; `None` while it is off.
    pub fn view(&self, answers: u64, hits: u64) -> Option<DiskView> {
        let limit_bytes = self.capacity.load(Ordering::Relaxed);
        let is_failing = self.is_failing.load(Ordering::Relaxed);
        let state = if *self.starting.lock().unwrap_or_else(PoisonError::into_inner) {
            DiskState::Starting
        } else if is_failing {
            DiskState::Refusing
        } else {
            DiskState::Ready
        };
        (limit_bytes > 0).then(|| DiskView {
            answers,
            bytes: self.index.totals().1,
            limit_bytes,
            hits,
            passed: self.counts.passed.value(),
            state,
            error: is_failing.then(|| self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        })
    }

    /// What is kept, by the name of the site.
    pub fn kept(&self) -> HashMap<Arc<str>, Kept> {
        self.index.kept()
    }

    /// The newest answer at `key` to a request with the headers `request`, and whether there are answers to others only. With
    /// `whole` a small one is read as a whole.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn look(
        self: &Arc<Self>,
        key: &Arc<Key>,
        request: &HeaderMap,
        whole: bool,
    ) -> (Option<Arc<Stored>>, bool) {
        if self.capacity.load(Ordering::Relaxed) == 0 {
            return (None, false);
        }
        let began = self.shelves.tick();
        let (spot, others) = self.index.find(key, request);
        let Some(spot) = spot else { return (None, others) };
        let tier = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || tier.read(&spot, whole, began)).await;
        (read.ok().flatten(), false)
    }

    /// Whether something else than `known` answers a request with the headers `request`.
    pub fn is_news(&self, key: &Key, request: &HeaderMap, known: Option<&Arc<Spot>>) -> bool {
        if self.capacity.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let found = self.index.find(key, request).0;
        found.is_some_and(|found| known.is_none_or(|known| !Arc::ptr_eq(&found, known)))
    }

    fn read(self: &Arc<Self>, spot: &Arc<Spot>, whole: bool, began: u64) -> Option<Arc<Stored>> {
        match self.open(spot, whole) {
            Ok(stored) => {
                let stored = Arc::new(stored?);
                let reads = spot.reads.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if reads >= HOT && matches!(stored.body, Content::Memory(_)) {
                    self.shelves.put(&spot.key, &stored, began);
                }
                Some(stored)
            }
            Err(error) => {
                self.damaged(spot, &error);
                None
            }
        }
    }

    /// The answer of `spot`; `None` when there is no memory for it.
    fn open(self: &Arc<Self>, spot: &Arc<Spot>, whole: bool) -> io::Result<Option<Stored>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "its head does not verify");
        let file = self.place.disk.open(&self.path(spot.id), OpenMode::Read)?;
        let (form, saved) = {
            let _reading = spot.lock.read().unwrap_or_else(PoisonError::into_inner);
            self.head_of(file.as_ref(), spot.id)?.ok_or_else(damaged)?
        };
        if saved.size != spot.size {
            return Err(damaged());
        }
        let head = saved.head(spot.life);
        let Some(room) = self.shelves.room(head.bytes()) else { return Ok(None) };
        let opened = Opened::new(Arc::downgrade(self), Arc::clone(spot), file, form);
        let size = spot.size;
        let body = match size {
            0 => Content::Memory(Bytes::new()),
            _ if whole && size <= WHOLE => match self.shelves.room(size) {
                Some(room) => {
                    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
                    while (bytes.len() as u64) < size {
                        bytes.extend_from_slice(&opened.read(bytes.len() as u64, size)?);
                    }
                    Content::Memory(room.hold(bytes))
                }
                None => Content::Disk(opened),
            },
            _ => {
                // A file that is not there in earnest should not begin an answer.
                opened.read(0, 1)?;
                Content::Disk(opened)
            }
        };
        let mut stored = head.with(body, room);
        stored.on_disk = Some(Arc::clone(spot));
        Ok(Some(stored))
    }

    /// Layout and head of `file`; `None` when it is none of ours, or not whole.
    fn head_of(&self, file: &dyn DiskFile, id: Id128) -> io::Result<Option<(Form, Saved)>> {
        let mut prelude = [0; PRELUDE];
        read_exact_at(file, 0, &mut prelude)?;
        let Some(form) = Form::read(prelude, &self.place.key, id) else { return Ok(None) };
        let mut region = vec![0; form.region()];
        read_exact_at(file, PRELUDE as u64, &mut region)?;
        Ok(form.open_head(&region).and_then(|head| Saved::read(&head)).map(|saved| (form, saved)))
    }

    /// Begins to store an answer with this `head`, whose fetch began at `began`. `None`: it cannot be, now.
    pub fn begin(self: &Arc<Self>, key: &Arc<Key>, head: &Head, began: u64) -> Option<Spill> {
        if !self.takes() {
            return None;
        }
        let ticket = Arc::new(self.index.begin(key, true)?);
        // In this order: what changes the place after this look finds the ticket.
        if !self.shelves.is_current(key, began) {
            return None;
        }
        let longest = saved::write(key, head, Timestamp(u64::MAX), u64::MAX)?;
        if longest.len() > LONGEST_HEAD {
            return None;
        }
        self.send(Job::Begin { ticket: Arc::clone(&ticket), head: longest.len() });
        Some(Spill::new(Arc::clone(self), ticket))
    }

    /// Moves what left memory, beginning at `began`, to disk, as far as that is worth it and the disk keeps up. Tells how many
    /// bytes of memory are still in use until then.
    pub fn take_over(&self, key: &Arc<Key>, variants: Vec<Arc<Stored>>, began: u64) -> u64 {
        variants.into_iter().map(|stored| self.take_over_one(key, stored, began)).sum()
    }

    fn take_over_one(&self, key: &Arc<Key>, stored: Arc<Stored>, began: u64) -> u64 {
        if !self.takes() || !self.is_worth(&stored) {
            return 0;
        }
        let bytes = stored.bytes;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.queue_bytes);
        let permit = Arc::clone(&self.queue).try_acquire_many_owned(permits).ok();
        let Some((permit, ticket)) = permit.and_then(|permit| Some((permit, self.index.begin(key, false)?))) else {
            self.counts.passed.inc();
            return 0;
        };
        if !self.shelves.is_current(key, began) {
            return 0;
        }
        self.send(Job::Keep { ticket: Arc::new(ticket), stored, permit });
        bytes
    }

    /// Whether an answer is worth its file.
    fn is_worth(&self, stored: &Stored) -> bool {
        let validated = [http::header::ETAG, http::header::LAST_MODIFIED];
        let left = stored.life.lifetime().saturating_sub(stored.life.age(self.place.clock.monotonic()));
        let there = stored.on_disk.as_ref().is_some_and(|spot| self.index.has(spot));
        !there && (left >= WORTH || validated.iter().any(|name| stored.headers.contains_key(name)))
    }

    /// Gives the answer in `opened` another `head`: the app said that it is good for longer. False: it is not kept.
    ///
    /// # Cancel safety
    /// It happens or not, as a whole.
    pub async fn renew(self: &Arc<Self>, opened: &Opened, head: &Head, began: u64) -> bool {
        let (tier, opened, head) = (Arc::clone(self), opened.clone(), head.clone());
        let renewed = tokio::task::spawn_blocking(move || tier.renew_now(opened.spot(), &head, began)).await;
        renewed.unwrap_or(false)
    }

    fn renew_now(&self, spot: &Arc<Spot>, head: &Head, began: u64) -> bool {
        let written = self.written_anew(spot, head, began);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::NotFound
        {
            self.failed(error);
        }
        let renewed = matches!(written, Ok(true));
        if !renewed {
            self.remove(spot);
        }
        renewed
    }

    fn written_anew(&self, spot: &Arc<Spot>, head: &Head, began: u64) -> io::Result<bool> {
        if head.selecting != spot.selecting || !self.shelves.is_current(&spot.key, began) {
            return Ok(false);
        }
        let Place { disk, clock, random, .. } = &self.place;
        let at = came_at(&head.life, clock.now(), clock.monotonic());
        let Some(room) = self.shelves.room(memory(&spot.key, &head.selecting)) else { return Ok(false) };
        let new = Arc::new(Spot {
            id: spot.id,
            key: Arc::clone(&spot.key),
            selecting: head.selecting.clone(),
            life: head.life,
            at,
            size: spot.size,
            bytes: spot.bytes,
            lock: Arc::clone(&spot.lock),
            reads: AtomicU32::new(spot.reads.load(Ordering::Relaxed)),
            room,
        });
        let _writing = spot.lock.write().unwrap_or_else(PoisonError::into_inner);
        let file = disk.open(&self.path(spot.id), OpenMode::ReadWrite)?;
        let Some((form, _)) = self.head_of(file.as_ref(), spot.id)? else { return Ok(false) };
        let record = saved::write(&spot.key, head, at, spot.size);
        let Some(region) = record.and_then(|record| form.seal_head(&record, random.as_ref())) else {
            return Ok(false);
        };
        file.write_at(PRELUDE as u64, &region)?;
        Ok(self.index.replace(spot, &new))
    }

    /// Takes away what is stored at `key` for requests like those.
    pub fn forget(&self, key: &Key, selecting: &Selecting) {
        self.index.forget(key, selecting).into_iter().for_each(|spot| self.send(Job::Remove(spot)));
    }

    /// Takes one answer away.
    pub fn remove(&self, spot: &Spot) {
        if let Some(spot) = self.index.remove(spot) {
            self.send(Job::Remove(spot));
        }
    }

    /// What is at `key` has changed: nothing of it, and nothing that is on its way, is used any more.
    pub fn void(&self, key: &Arc<Key>) {
        self.index.void(key).into_iter().for_each(|spot| self.send(Job::Remove(spot)));
    }

    /// Takes all of `which` away, and tells how many those were; their files are gone when it returns. Blocks.
    pub fn purge(&self, which: &WhichKept) -> u64 {
        let gone = self.index.purge(which);
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let had_to_wait = *starting;
        if *starting {
            // What a start has not looked at yet it removes when it comes to it.
            let waited = self.started.wait_timeout_while(starting, START, |starting| *starting);
            starting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(starting);
        for spot in &gone {
            self.unlink(spot.id);
        }
        if (!gone.is_empty() || had_to_wait)
            && let Err(error) = self.place.disk.sync_dir(&self.place.folder)
        {
            tracing::warn!(%error, "purged answers might be back after a power cut");
        }
        gone.len() as u64
    }

    /// A file is not what was written, or cannot be read: its answer goes.
    fn damaged(&self, spot: &Spot, error: &io::Error) {
        if let Some(gone) = self.index.remove(spot) {
            self.counts.damaged.inc();
            tracing::warn!(%error, file = %spot.id, "a kept answer on disk cannot be used and is removed");
            self.send(Job::Remove(gone));
        }
    }

    /// The disk refused: nothing is stored for a while.
    fn failed(&self, error: &io::Error) {
        self.counts.passed.inc();
        let until = self.place.clock.monotonic().saturating_add(PAUSE);
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        self.paused_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "answers are not kept on disk for now");
        }
    }

    fn shrunk(&self) -> Vec<Arc<Spot>> {
        let gone = self.index.shrink(self.capacity.load(Ordering::Relaxed), self.shelves.budget().most() / INDEX_PART);
        self.counts.evicted.add(gone.len() as u64);
        gone
    }

    fn path(&self, id: Id128) -> PathBuf {
        self.place.folder.join(id.to_string())
    }

    fn unlink(&self, id: Id128) {
        if let Err(error) = self.place.disk.remove_file(&self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %id, "the file of a kept answer stays");
        }
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        // Without the thread the server is stopping.
        let _sent = jobs.as_ref().map(|jobs| jobs.send(job));
    }
}
