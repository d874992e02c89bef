//! The thread that writes: answers into files, one job after the other, and the look through the files at a start.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::super::content::Content;
use super::super::entry::{Head, Stored};
use super::super::flights::{Lead, Outcome};
use super::format::{Form, LONGEST_HEAD};
use super::index::{Ticket, memory};
use super::saved::{self, came_at};
use super::{INDEX_PART, Place, Spot, Tier, WHOLE};
use crate::base::shutdown::Phase;
use crate::base::{DiskFile, Entry, EntryKind, Id128, OpenMode};
use crate::crypto::stream::{SEGMENT, sealed_len};

/// How often the room on the disk is looked at, when nothing is written.
const IDLE: Duration = Duration::from_secs(10);
/// How long the disk's word on its room counts.
const FRESH: Duration = Duration::from_secs(1);
/// Files that a start looks at in one go.
const AT_ONCE: usize = 64;
/// Longest time in which a stop moves what is in memory to disk.
const LAST: Duration = Duration::from_secs(3);

/// What the thread is asked for.
#[derive(Debug)]
pub enum Job {
    /// An answer comes, piece by piece, with a head of at most `head` bytes.
    Begin {
        /// The right to write it.
        ticket: Arc<Ticket>,
        /// Bytes.
        head: usize,
    },
    /// The next bytes of it.
    Piece {
        /// Of the ticket.
        number: u64,
        /// The bytes.
        data: Bytes,
        /// Given back when they are written.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// It is whole.
    End {
        /// Of the ticket.
        number: u64,
        /// Its head.
        head: Box<Head>,
        /// Who waits for it.
        lead: Option<Lead>,
    },
    /// It will not be whole.
    Abort {
        /// Of the ticket.
        number: u64,
    },
    /// An answer that left memory.
    Keep {
        /// The right to write it.
        ticket: Arc<Ticket>,
        /// The answer.
        stored: Arc<Stored>,
        /// Given back when it is written.
        permit: OwnedSemaphorePermit,
    },
    /// A file is to go.
    Remove(Arc<Spot>),
    /// The server stops, or will.
    Look,
}

/// Does jobs of `tier` until the server stops.
pub fn run(tier: &Arc<Tier>, jobs: &mpsc::Receiver<Job>) {
    let mut desk = Desk { tier, open: HashMap::new(), free: 0, asked: None };
    let mut scan = Scan::begin(tier);
    while scan.step() {
        while let Ok(job) = jobs.try_recv() {
            desk.work(job);
        }
        if desk.is_over() {
            break;
        }
    }
    tier.index.end_start();
    *tier.starting.lock().unwrap_or_else(PoisonError::into_inner) = false;
    tier.started.notify_all();
    while !desk.is_over() {
        match jobs.recv_timeout(IDLE) {
            Ok(job) => desk.work(job),
            Err(mpsc::RecvTimeoutError::Timeout) => desk.give_way(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
    while let Ok(job) = jobs.try_recv() {
        desk.work(job);
    }
    desk.close();
}

struct Desk<'a> {
    tier: &'a Arc<Tier>,
    open: HashMap<u64, File>,
    /// Bytes there were to write when the disk was asked, without what was written since.
    free: u64,
    asked: Option<Duration>,
}

/// A file being written.
struct File {
    ticket: Arc<Ticket>,
    id: Id128,
    file: Box<dyn DiskFile>,
    form: Form,
    /// The segment being filled.
    buffer: Vec<u8>,
    segment: u32,
    at: u64,
    size: u64,
}

impl Desk<'_> {
    fn work(&mut self, job: Job) {
        match job {
            Job::Begin { ticket, head } => match self.create(&ticket, head) {
                Ok(file) => {
                    self.open.insert(ticket.number, file);
                }
                Err(error) => self.give_up(&ticket, None, &error),
            },
            Job::Piece { number, data, permit } => {
                if let Some(mut file) = self.open.remove(&number) {
                    match self.write(&mut file, &data) {
                        Ok(()) => {
                            self.open.insert(number, file);
                        }
                        Err(error) => self.give_up(&file.ticket, Some(file.id), &error),
                    }
                }
                drop(permit);
            }
            Job::End { number, head, lead } => {
                let stored = self.open.remove(&number).is_some_and(|file| self.finished(file, *head));
                if let Some(lead) = lead {
                    lead.land(if stored { Outcome::Stored } else { Outcome::Apart });
                }
            }
            Job::Abort { number } => {
                if let Some(file) = self.open.remove(&number) {
                    self.tier.unlink(file.id);
                }
            }
            Job::Keep { ticket, stored, permit } => {
                self.keep(&ticket, &stored);
                drop((stored, permit));
            }
            Job::Remove(spot) => self.tier.unlink(spot.id),
            Job::Look => {}
        }
    }

    fn is_over(&self) -> bool {
        self.tier.place.supervisor.shutdown().phase() == Phase::Forced
    }

    /// Writes an answer that is in memory.
    fn keep(&mut self, ticket: &Arc<Ticket>, stored: &Stored) {
        let Content::Memory(body) = &stored.body else { return };
        if ticket.is_void() {
            return;
        }
        let now = self.tier.place.clock.monotonic();
        let head = stored.head();
        let longest = saved::write(&ticket.key, &head, came_at(&head.life, self.tier.place.clock.now(), now), u64::MAX);
        let Some(longest) = longest.filter(|head| head.len() <= LONGEST_HEAD) else { return };
        let mut file = match self.create(ticket, longest.len()) {
            Ok(file) => file,
            Err(error) => return self.give_up(ticket, None, &error),
        };
        match self.write(&mut file, body) {
            Ok(()) => {
                self.finished(file, head);
            }
            Err(error) => self.give_up(&file.ticket, Some(file.id), &error),
        }
    }

    fn create(&mut self, ticket: &Arc<Ticket>, head: usize) -> io::Result<File> {
        let Place { disk, key, random, .. } = &self.tier.place;
        let id = Id128::random(random.as_ref());
        let form = Form::new(key, id, head, random.as_ref())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its head is too large"))?;
        self.admit(ticket, form.body_at())?;
        let file = disk.open(&self.tier.path(id), OpenMode::CreateNew)?;
        let at = form.body_at();
        Ok(File { ticket: Arc::clone(ticket), id, file, form, buffer: Vec::new(), segment: 0, at, size: 0 })
    }

    fn write(&mut self, file: &mut File, mut data: &[u8]) -> io::Result<()> {
        self.admit(&file.ticket, data.len() as u64)?;
        file.size = file.size.saturating_add(data.len() as u64);
        while !data.is_empty() {
            // The last one is marked: a full one is kept until there is more.
            if file.buffer.len() == SEGMENT {
                file.flush(false)?;
            }
            let (taken, rest) = data.split_at(data.len().min(SEGMENT.saturating_sub(file.buffer.len())));
            file.buffer.extend_from_slice(taken);
            data = rest;
        }
        Ok(())
    }

    /// Whether a whole answer is kept.
    fn finished(&mut self, file: File, head: Head) -> bool {
        let (ticket, id) = (Arc::clone(&file.ticket), file.id);
        match self.finish(file, head) {
            Ok(true) => {
                if self.tier.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("answers are kept on disk again");
                }
                true
            }
            Ok(false) => {
                self.tier.unlink(id);
                false
            }
            Err(error) => {
                self.give_up(&ticket, Some(id), &error);
                false
            }
        }
    }

    fn finish(&mut self, mut file: File, head: Head) -> io::Result<bool> {
        let tier = self.tier;
        let Place { clock, random, .. } = &tier.place;
        file.flush(true)?;
        if file.size > WHOLE {
            // Its pieces are verified when the answer has begun: none should be missing for want of power.
            file.file.sync_data()?;
        }
        let at = came_at(&head.life, clock.now(), clock.monotonic());
        let record = saved::write(&file.ticket.key, &head, at, file.size);
        let Some(region) = record.and_then(|record| file.form.seal_head(&record, random.as_ref())) else {
            return Ok(false);
        };
        file.file.write_at(0, &[file.form.prelude().as_slice(), &region].concat())?;
        let bytes = file.form.body_at().saturating_add(sealed_len(file.size));
        let Some(room) = tier.shelves.room(memory(&file.ticket.key, &head.selecting)) else { return Ok(false) };
        let spot = Arc::new(Spot {
            id: file.id,
            key: Arc::clone(&file.ticket.key),
            selecting: head.selecting,
            life: head.life,
            at,
            size: file.size,
            bytes,
            lock: Arc::new(RwLock::new(())),
            reads: AtomicU32::new(0),
            room,
        });
        let Some(gone) = tier.index.insert(&spot, &file.ticket) else { return Ok(false) };
        tier.counts.written.add(bytes);
        for gone in gone {
            tier.unlink(gone.id);
        }
        self.shrink();
        // After it is in: what is stored in memory later takes it out again.
        if !tier.shelves.makes_way(&spot.key, &spot.selecting, spot.life.received()) {
            tier.index.remove(&spot);
            return Ok(false);
        }
        Ok(tier.index.has(&spot))
    }

    /// Counts `bytes` more for an answer, for which others go.
    fn admit(&mut self, ticket: &Ticket, bytes: u64) -> io::Result<()> {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        if ticket.is_void() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let now = self.tier.place.clock.monotonic();
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= FRESH) {
            let (available, reserve) = self.space()?;
            (self.free, self.asked) = (available.saturating_sub(reserve), Some(now));
        }
        ticket.grow(bytes);
        self.shrink();
        if self.tier.index.totals().1 > self.tier.capacity.load(Ordering::Relaxed) {
            return Err(full());
        }
        self.free = self.free.checked_sub(bytes).ok_or_else(full)?;
        Ok(())
    }

    /// Bytes that may be written, and those of them that are left free.
    fn space(&self) -> io::Result<(u64, u64)> {
        let Place { disk, folder, reserve, .. } = &self.tier.place;
        let space = disk.space(folder)?;
        // Twice what uploads leave free: a cache gives way before anybody is refused.
        let reserve = reserve.0.max((space.total / 100).saturating_mul(reserve.1)).saturating_mul(2);
        Ok((space.available, reserve))
    }

    /// Makes the folder smaller when others need the disk.
    fn give_way(&mut self) {
        let Ok((available, reserve)) = self.space() else { return };
        let missing = reserve.saturating_sub(available);
        let (answers, bytes) = self.tier.index.totals();
        if missing == 0 || answers == 0 {
            return;
        }
        let gone = self.tier.index.shrink(bytes.saturating_sub(missing), u64::MAX);
        tracing::info!(answers = gone.len(), "kept answers made way: the disk is nearly full");
        self.tier.counts.evicted.add(gone.len() as u64);
        for spot in gone {
            self.tier.unlink(spot.id);
        }
        self.asked = None;
    }

    fn shrink(&self) {
        for spot in self.tier.shrunk() {
            self.tier.unlink(spot.id);
        }
    }

    /// Nothing comes of an answer.
    fn give_up(&mut self, ticket: &Ticket, id: Option<Id128>, error: &io::Error) {
        let was_void = ticket.is_void();
        ticket.give_up();
        if let Some(id) = id {
            self.tier.unlink(id);
        }
        if !was_void {
            self.asked = None;
            self.tier.failed(error);
        }
    }

    /// The server stops: what is half written goes, and what is in memory comes to disk, as far as there is time.
    fn close(&mut self) {
        for (_, file) in self.open.drain() {
            self.tier.unlink(file.id);
        }
        let until = self.tier.place.clock.monotonic().saturating_add(LAST);
        for (key, stored) in self.tier.shelves.all() {
            if !self.tier.takes() || self.tier.place.clock.monotonic() >= until {
                break;
            }
            if self.tier.is_worth(&stored)
                && let Some(ticket) = self.tier.index.begin(&key, false)
            {
                self.keep(&Arc::new(ticket), &stored);
            }
        }
        *self.tier.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl File {
    fn flush(&mut self, last: bool) -> io::Result<()> {
        self.form.stream.seal_segment(self.segment, last, &mut self.buffer);
        self.file.write_at(self.at, &self.buffer)?;
        self.at = self.at.saturating_add(self.buffer.len() as u64);
        self.segment = self.segment.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        self.buffer.clear();
        Ok(())
    }
}

/// A start's look through the files, those changed last first.
pub struct Scan<'a> {
    tier: &'a Arc<Tier>,
    files: std::vec::IntoIter<Entry>,
    rank: u64,
    removed: u64,
}

impl<'a> Scan<'a> {
    fn begin(tier: &'a Arc<Tier>) -> Self {
        let Place { disk, folder, .. } = &tier.place;
        let listed = disk.create_dir(folder).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        });
        let mut files = match listed.and_then(|()| disk.list(folder)) {
            Ok(files) => files,
            Err(error) => {
                tier.failed(&error);
                Vec::new()
            }
        };
        files.retain(|entry| entry.kind == EntryKind::File);
        files.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        Self { tier, files: files.into_iter(), rank: 0, removed: 0 }
    }

    /// Looks at some of them. False: there are no more.
    fn step(&mut self) -> bool {
        for _ in 0..AT_ONCE {
            let Some(entry) = self.files.next() else {
                let (answers, bytes) = self.tier.index.totals();
                if answers > 0 || self.removed > 0 {
                    tracing::info!(answers, bytes, removed = self.removed, "kept answers on disk are back");
                }
                return false;
            };
            let name = entry.path.file_name().and_then(|name| name.to_str());
            let id: Option<Id128> = name.and_then(|name| name.parse().ok());
            let spot = id.and_then(|id| self.spot(id, &entry));
            self.rank = self.rank.saturating_add(1);
            let (bytes, memory) =
                (self.tier.capacity.load(Ordering::Relaxed), self.tier.shelves.budget().most() / INDEX_PART);
            if !spot.is_some_and(|spot| self.tier.index.found(&spot, self.rank, bytes, memory)) {
                self.removed = self.removed.saturating_add(1);
                self.remove(&entry.path);
            }
        }
        true
    }

    /// What the file `id` is; `None` when it is nothing that can be used.
    fn spot(&self, id: Id128, entry: &Entry) -> Option<Arc<Spot>> {
        let Place { disk, clock, .. } = &self.tier.place;
        let file = disk.open(&entry.path, OpenMode::Read).ok()?;
        let (form, saved) = self.tier.head_of(file.as_ref(), id).ok()??;
        let bytes = form.body_at().saturating_add(sealed_len(saved.size));
        if bytes != entry.len {
            return None;
        }
        let site = {
            let sites = self.tier.sites.lock().unwrap_or_else(PoisonError::into_inner);
            sites.iter().find(|site| ***site == *saved.site).map(Arc::clone)?
        };
        let key = Arc::new(saved.key(&site));
        let room = self.tier.shelves.room(memory(&key, &saved.selecting))?;
        let life = saved.life(clock.now(), clock.monotonic());
        let (at, size) = (saved.at, saved.size);
        let selecting = saved.head(life).selecting;
        let lock = Arc::new(RwLock::new(()));
        Some(Arc::new(Spot { id, key, selecting, life, at, size, bytes, lock, reads: AtomicU32::new(0), room }))
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.tier.place.disk.remove_file(path) {
            tracing::warn!(%error, path = %path.display(), "a leftover of kept answers stays");
        }
    }
}
