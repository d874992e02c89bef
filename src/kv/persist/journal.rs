//! The journal being written: one frame a loop turn, segments, and what happens when the disk refuses.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::error::{PersistError, Refusal};
use super::format::{FrameHead, Kind, Marker, Position};
use super::segment::{SegmentWriter, fresh};
use crate::base::Random;
use crate::base::disk::{Disk, DiskFile};
use crate::crypto::Key;

/// A frame buffer that once grew beyond this is given back.
const KEEP_BUFFER: usize = 1 << 20;

/// Most bytes of effects in one frame; its length field has 32 bits.
const MAX_EFFECTS: usize = (4 << 30) - 1024;

/// How far the journal is durable, shared between who writes it and who syncs it.
#[derive(Debug, Default)]
pub struct Durable {
    state: Mutex<DurableState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DurableState {
    position: Position,
    /// Why a sync failed. Never cleared: a second sync proves nothing.
    broken: Option<String>,
}

impl Durable {
    /// Everything before this survives a power cut.
    pub fn position(&self) -> Position {
        self.state().position
    }

    /// Why nothing more becomes durable, if that is so.
    pub fn broken(&self) -> Option<String> {
        self.state().broken.clone()
    }

    /// Waits until everything before `position` is durable; `false` when that will never be.
    pub fn reached(&self, position: Position) -> bool {
        let mut state = self.state();
        while state.position < position && state.broken.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.position >= position
    }

    fn advance(&self, position: Position) {
        let mut state = self.state();
        state.position = state.position.max(position);
        self.changed.notify_all();
    }

    pub(super) fn fail(&self, reason: String) {
        self.state().broken.get_or_insert(reason);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, DurableState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the journal is written: everything before is in its files, synced or not. Shared with backups.
#[derive(Debug)]
pub struct Written(Mutex<Position>);

impl Written {
    /// Replies to what was written before this have not been held back.
    pub fn position(&self) -> Position {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, position: Position) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

/// What has to be synced, in this order, for the journal to be durable up to a position. Runs on any thread; only one
/// at a time.
#[derive(Debug)]
pub struct SyncWork {
    disk: Arc<dyn Disk>,
    files: Vec<(PathBuf, Arc<dyn DiskFile>)>,
    /// The folder, when a segment's name in it is not durable yet.
    folder: Option<PathBuf>,
    position: Position,
    durable: Arc<Durable>,
}

impl SyncWork {
    /// Syncs, and records the outcome in the shared [`Durable`].
    pub fn run(self) {
        match self.sync() {
            Ok(()) => self.durable.advance(self.position),
            Err(error) => self.durable.fail(error.to_string()),
        }
    }

    fn sync(&self) -> Result<(), PersistError> {
        // Names first: a segment whose bytes are durable but whose name is not would be a hole in the journal.
        if let Some(folder) = &self.folder {
            self.disk.sync_dir(folder).map_err(PersistError::disk("sync", folder))?;
        }
        for (path, file) in &self.files {
            file.sync_data().map_err(PersistError::disk("sync", path))?;
        }
        Ok(())
    }
}

/// The segments since the last checkpoint that a start has found.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes of the last.
    pub last: u64,
    /// The files; nobody knows whether they were synced.
    pub files: Vec<(PathBuf, Arc<dyn DiskFile>)>,
}

/// Whether writes are accepted.
#[derive(Debug)]
enum State {
    Healthy,
    /// The disk is full. The sealed frame waits, unchanged, to be written again (sealing other bytes with its index
    /// would repeat a nonce); later effects wait unsealed.
    Full {
        frame: Vec<u8>,
        later: Vec<u8>,
    },
    Broken(String),
}

/// The journal, open for writing at its end.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    folder: PathBuf,
    key: Key,
    /// A segment that has grown to this many bytes is followed by the next.
    segment_bytes: u64,
    current: SegmentWriter,
    /// Bytes in segments since the last checkpoint, the current one not counted.
    older_bytes: u64,
    /// The size at which the current segment is followed by the next.
    rotate_at: u64,
    /// Segments that were left before they were synced.
    unsynced: Vec<(PathBuf, Arc<dyn DiskFile>)>,
    /// Whether a segment was created whose name is not durable yet.
    new_name: bool,
    /// The end of the journal when a sync was last asked for.
    sync_asked: Position,
    durable: Arc<Durable>,
    written: Arc<Written>,
    buffer: Vec<u8>,
    state: State,
}

impl Journal {
    /// Begins segment `number` in `folder`, behind the `older` ones.
    ///
    /// # Errors
    /// The disk refuses the new segment.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        folder: &Path,
        key: Key,
        segment_bytes: u64,
        number: u64,
        older: Older,
    ) -> Result<Self, PersistError> {
        let current = SegmentWriter::create(disk.as_ref(), folder, number, older.last, &key, random.as_ref())?;
        let written = Arc::new(Written(Mutex::new(current.end())));
        Ok(Self {
            disk,
            random,
            folder: folder.to_owned(),
            key,
            segment_bytes,
            current,
            older_bytes: older.bytes,
            rotate_at: segment_bytes,
            unsynced: older.files,
            new_name: true,
            sync_asked: Position::default(),
            durable: Arc::new(Durable::default()),
            written,
            buffer: Vec::new(),
            state: State::Healthy,
        })
    }

    /// Writes the effects of one loop turn as one frame, and notes `marker` behind them.
    ///
    /// `Ok`: they survive the end of this process; they survive a power cut once [`Journal::durable`] has passed
    /// [`Journal::end`].
    ///
    /// # Errors
    /// [`Refusal::Full`]: the effects are kept and written by [`Journal::retry`]; do not hand them in again.
    /// [`Refusal::Broken`]: they are lost. Either way nobody may be told that they are kept, and markers are lost.
    pub fn append(&mut self, effects: &[u8], marker: Option<Marker>) -> Result<(), Refusal> {
        self.check_syncs();
        match &mut self.state {
            State::Healthy => {}
            State::Full { later, .. } => {
                later.extend_from_slice(effects);
                return Err(Refusal::Full);
            }
            State::Broken(reason) => return Err(Refusal::Broken(reason.clone())),
        }
        if self.current.end().offset >= self.rotate_at {
            self.rotate_or_put_off();
        }
        self.write(effects, marker)
    }

    /// After [`Refusal::Full`]: tries to write what waits. Whether writes are accepted again.
    pub fn retry(&mut self) -> bool {
        self.check_syncs();
        match std::mem::replace(&mut self.state, State::Healthy) {
            State::Healthy => true,
            State::Full { frame, later } => {
                if let Err(refusal) = self.put(frame) {
                    if let State::Full { later: waiting, .. } = &mut self.state {
                        *waiting = later;
                    }
                    tracing::debug!(%refusal, "the keyspace journal still cannot be written");
                    return false;
                }
                let written = later.is_empty() || self.write(&later, None).is_ok();
                if written {
                    tracing::info!("the keyspace journal is written again; writes are accepted");
                }
                written
            }
            broken @ State::Broken(_) => {
                self.state = broken;
                false
            }
        }
    }

    /// Why writes are not accepted now, if so.
    pub fn refusal(&mut self) -> Option<Refusal> {
        self.check_syncs();
        match &self.state {
            State::Healthy => None,
            State::Full { .. } => Some(Refusal::Full),
            State::Broken(reason) => Some(Refusal::Broken(reason.clone())),
        }
    }

    /// What has to be synced for everything written so far to be durable; `None` when that has been asked for already.
    pub fn sync_work(&mut self) -> Option<SyncWork> {
        let position = self.current.end();
        if position == self.sync_asked {
            return None;
        }
        self.sync_asked = position;
        let mut files = std::mem::take(&mut self.unsynced);
        files.push((self.current.path().to_owned(), Arc::clone(&self.current.file)));
        let folder = std::mem::take(&mut self.new_name).then(|| self.folder.clone());
        Some(SyncWork { disk: Arc::clone(&self.disk), files, folder, position, durable: Arc::clone(&self.durable) })
    }

    /// Makes everything written so far durable, on this thread, after the [`SyncWork`] that was handed out before.
    ///
    /// # Errors
    /// [`Refusal::Broken`] when that failed, now or before.
    pub fn sync(&mut self) -> Result<(), Refusal> {
        if self.durable.reached(self.sync_asked)
            && let Some(work) = self.sync_work()
        {
            work.run();
        }
        match self.durable.broken() {
            None => Ok(()),
            Some(reason) => Err(Refusal::Broken(reason)),
        }
    }

    /// Leaves the current segment and begins the next, whose number is returned: a checkpoint starts there.
    ///
    /// # Errors
    /// The disk refuses the new segment; the current one goes on.
    pub fn rotate(&mut self) -> Result<u64, PersistError> {
        let end = self.current.end();
        let number = end.segment + 1;
        let (disk, random) = (self.disk.as_ref(), self.random.as_ref());
        let next = SegmentWriter::create(disk, &self.folder, number, end.offset, &self.key, random)?;
        let left = std::mem::replace(&mut self.current, next);
        self.older_bytes += end.offset;
        if self.sync_asked != end {
            self.unsynced.push((left.path().to_owned(), left.file));
        }
        self.new_name = true;
        self.rotate_at = self.segment_bytes;
        Ok(number)
    }

    /// A checkpoint is the base now; the first `bytes` of [`Journal::older_bytes`] were before it and count no more.
    pub const fn forget(&mut self, bytes: u64) {
        self.older_bytes = self.older_bytes.saturating_sub(bytes);
    }

    /// Bytes that a start would have to read beside the checkpoint.
    pub fn bytes(&self) -> u64 {
        self.older_bytes + self.current.end().offset
    }

    /// Bytes in the segments before the current one, since the last checkpoint; right after [`Journal::rotate`], the
    /// bytes that a checkpoint beginning there makes superfluous.
    pub const fn older_bytes(&self) -> u64 {
        self.older_bytes
    }

    /// Where the next frame goes.
    pub const fn end(&self) -> Position {
        self.current.end()
    }

    /// How far the journal is durable.
    pub const fn durable(&self) -> &Arc<Durable> {
        &self.durable
    }

    /// How far the journal is written.
    pub const fn written(&self) -> &Arc<Written> {
        &self.written
    }

    /// The folder of the journal.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&mut self, effects: &[u8], marker: Option<Marker>) -> Result<(), Refusal> {
        if effects.len() > MAX_EFFECTS {
            return Err(self.break_down(format!("one turn changed {} bytes, most are {MAX_EFFECTS}", effects.len())));
        }
        let mut frame = std::mem::take(&mut self.buffer);
        fresh(&mut frame, &FrameHead { durable: self.durable.position(), marker });
        frame.extend_from_slice(effects);
        self.current.seal(&mut frame);
        self.put(frame)
    }

    /// Writes a sealed frame and keeps its buffer for the next.
    fn put(&mut self, frame: Vec<u8>) -> Result<(), Refusal> {
        match self.current.write(&frame) {
            Ok(()) => {
                self.written.set(self.current.end());
                self.buffer = frame;
                if self.buffer.capacity() > KEEP_BUFFER {
                    self.buffer = Vec::new();
                }
                Ok(())
            }
            Err(error) if is_full(&error) => {
                // Room given back at once helps whoever else needs it; a failure to do so does no harm, since the same
                // bytes will be written there.
                let _ = self.current.trim();
                self.state = State::Full { frame, later: Vec::new() };
                Err(Refusal::Full)
            }
            Err(error) => Err(self.break_down(format!("cannot write `{}`: {error}", self.current.path().display()))),
        }
    }

    fn break_down(&mut self, reason: String) -> Refusal {
        self.durable.fail(reason.clone());
        self.state = State::Broken(reason.clone());
        Refusal::Broken(reason)
    }

    /// Notices a sync that failed on another thread.
    fn check_syncs(&mut self) {
        if matches!(self.state, State::Broken(_)) {
            return;
        }
        if let Some(reason) = self.durable.broken() {
            self.state = State::Broken(reason);
        }
    }

    /// A segment may grow beyond its size: that is better than to refuse writes for want of a new file.
    fn rotate_or_put_off(&mut self) {
        if let Err(error) = self.rotate() {
            self.rotate_at = self.current.end().offset + self.segment_bytes / 8;
            tracing::warn!(%error, "cannot begin a new journal segment; the old one goes on");
        }
    }
}

/// Whether an error goes away when someone makes room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// The numbers of the files of `kind` in `folder`, ascending.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path, kind: Kind) -> Result<Vec<u64>, PersistError> {
    let entries = disk.list(folder).map_err(PersistError::disk("list", folder))?;
    let mut out: Vec<u64> = entries.iter().filter_map(|entry| kind.number(&entry.path)).collect();
    out.sort_unstable();
    Ok(out)
}
