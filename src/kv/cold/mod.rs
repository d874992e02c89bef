//! Values that are on disk only, so that the keyspace may be larger than memory.
//!
//! # Promises
//! - `kv.max_memory` is the size of a cache, not a limit to what can be kept: beyond it, values that were not used for
//!   the longest time leave memory for files of this room, and come back when a command wants them.
//! - Key, type, expiry and time of use stay in memory: `EXISTS`, `TTL`, `TYPE`, `SCAN` and expiry never read a file.
//! - A value that is read back is exactly the one that was written for exactly this key, or an error; never another.
//! - No other client waits for the disk: the one whose command wants a cold value is set aside, a thread of its own
//!   reads ([`loader`]), and then the command runs. Only keys a command does not name as its keys are read at once.
//!
//! # Why these files hold no truth
//! Journal and checkpoints ([`persist`](super::persist)) have every change before its reply leaves, whether the value is
//! in memory or not; a start reads them and moves to disk again what does not fit. So these files are never synced, need
//! no repair, and are removed at a start. Their key is drawn by each process and never written down: what a crash leaves
//! behind is noise.
//!
//! # Files
//! `<data>/kv/cold/segment-<n>`, `n` ten or more decimal digits. A segment holds records one behind the other; numbers
//! little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of the body |
//! | 8 | index of the record, never the same twice in a process |
//! | length | body, sealed with AES-256-GCM: nonce index (8) and four zero bytes, associated data `n` (4), offset (4) and the 12 bytes before |
//! | 16 | tag |
//!
//! A body is store (1), length of the key (4), key, and the value in the layout of [`dump`](super::dump).
//!
//! # What is garbage, and where it goes
//! A value's record is garbage once the value changed or went. Each database counts what it still has in each segment
//! ([`Sums`]); a segment nobody has anything in is removed, and one that is mostly garbage is read from its start, what is
//! still used is written anew, and then it is removed ([`compact`]): files take about twice what is in them at most.
//!
//! # A full or failing disk
//! What cannot be written stays in memory. Reads go on (a value that was read back and not changed since can be dropped
//! without writing it), and writes that would add to a keyspace over `kv.max_memory` are refused with Redis' `OOM`
//! error until there is room again. A record that cannot be read is an error of the command that wants it; a restart
//! brings the value back from checkpoint and journal.

pub mod compact;
mod keyspace;
pub mod loader;
mod segment;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use segment::{Record, SegmentFile};

use super::entry::Entry;
use crate::base::disk::{Disk, OpenMode};
use crate::base::{Random, random};
use crate::crypto::{Aead, Key};

/// Bytes after which a segment is followed by the next.
pub const SEGMENT: u64 = 64 << 20;

/// Largest value that leaves memory, in bytes of its dump: writing and reading one takes the loop's time.
pub const LARGEST: usize = 16 << 20;

/// Time after a failed write before the next is tried.
const RETRY: Duration = Duration::from_secs(1);

/// What went wrong with a file of this room.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The disk refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Disk {
        /// What was tried, as a verb.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The bytes are not those that were written.
    #[error("`{}` is damaged at byte {offset}: a value does not verify; a restart brings it back from the journal", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the record begins.
        offset: u64,
    },
}

impl ColdError {
    fn disk(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { action, path, source }
    }
}

/// Where a value's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The segment.
    pub segment: u32,
    /// Where in it the record begins.
    pub offset: u32,
    /// Bytes of the dumped value.
    pub len: u32,
}

impl Spot {
    /// Bytes it takes in an entry.
    pub const BYTES: usize = 12;

    /// The bytes of no spot.
    pub const NONE: [u8; Self::BYTES] = [0xff; Self::BYTES];

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, number) in bytes.chunks_exact_mut(4).zip([self.segment, self.offset, self.len]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From bytes; `None` for those of no spot.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(4).filter_map(|chunk| Some(u32::from_le_bytes(chunk.try_into().ok()?)));
        let spot = Self { segment: numbers.next()?, offset: numbers.next()?, len: numbers.next()? };
        (bytes != Self::NONE).then_some(spot)
    }
}

/// What one database has in cold files.
#[derive(Debug, Default)]
pub struct Sums {
    /// Keys whose value is on disk only.
    pub keys: usize,
    /// Bytes of records in each segment, those of values that are in memory too included.
    pub segments: BTreeMap<u32, u64>,
    /// Bytes of memory that moving values to disk could save.
    pub savings: usize,
}

/// What an entry adds to the sums of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    cold: bool,
    /// Segment, and bytes of the record in it.
    record: Option<(u32, u64)>,
    savings: usize,
}

impl Share {
    pub fn of(entry: &Entry) -> Self {
        let bytes = |spot: Spot| segment::record_bytes(entry.key().len(), spot.len as usize) as u64;
        let record = entry.spot().map(|spot| (spot.segment, bytes(spot)));
        Self { cold: entry.is_cold(), record, savings: entry.savings() }
    }
}

impl Sums {
    pub(super) fn add(&mut self, share: Share) {
        self.keys += usize::from(share.cold);
        self.savings += share.savings;
        if let Some((segment, bytes)) = share.record {
            *self.segments.entry(segment).or_default() += bytes;
        }
    }

    pub(super) fn remove(&mut self, share: Share) {
        self.keys = self.keys.saturating_sub(usize::from(share.cold));
        self.savings = self.savings.saturating_sub(share.savings);
        if let Some((segment, gone)) = share.record
            && let Some(bytes) = self.segments.get_mut(&segment)
        {
            *bytes = bytes.saturating_sub(gone);
            if *bytes == 0 {
                self.segments.remove(&segment);
            }
        }
    }
}

/// What `INFO` and the metrics show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdCounts {
    /// Values written to disk.
    pub written: u64,
    /// Values dropped from memory whose copy on disk was still good.
    pub dropped: u64,
    /// Values read back.
    pub read: u64,
    /// Values that could not be read.
    pub failed: u64,
    /// Segments written anew because they were mostly garbage.
    pub compacted: u64,
}

/// The cold files of one process.
#[derive(Debug)]
pub struct Cold {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
    aead: Arc<Aead>,
    next_index: u64,
    next_segment: u32,
    /// By number; the last may be the one being written.
    segments: BTreeMap<u32, Segment>,
    /// The one being written.
    current: Option<u32>,
    /// Records on their way into a file; empty between two calls.
    batch: Vec<u8>,
    /// After a failed write: when to try again.
    retry_at: Option<Duration>,
    pub(super) counts: ColdCounts,
    pub(super) compaction: compact::State,
}

#[derive(Debug)]
struct Segment {
    file: Arc<SegmentFile>,
    bytes: u64,
}

impl Cold {
    /// Opens `folder`, empty: what is there from before is removed. Blocks.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        segment_bytes: u64,
        random: &dyn Random,
    ) -> Result<Self, ColdError> {
        disk.create_dir(folder).map_err(ColdError::disk("create", folder))?;
        for entry in disk.list(folder).map_err(ColdError::disk("list", folder))? {
            disk.remove_file(&entry.path).map_err(ColdError::disk("remove", &entry.path))?;
        }
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            segment_bytes: segment_bytes.clamp(1, u64::from(u32::MAX >> 1)),
            aead: Arc::new(Aead::new(&Key::from_bytes(random::bytes(random)))),
            next_index: 0,
            next_segment: 1,
            segments: BTreeMap::new(),
            current: None,
            batch: Vec::new(),
            retry_at: None,
            counts: ColdCounts::default(),
            compaction: compact::State::default(),
        })
    }

    /// Whether writing is worth a try at `now`.
    pub fn takes(&self, now: Duration) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether the last write failed.
    pub const fn is_failing(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Counters since the start.
    pub const fn counts(&self) -> ColdCounts {
        self.counts
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// The file a spot is in.
    pub fn file(&self, spot: Spot) -> Option<&Arc<SegmentFile>> {
        self.segments.get(&spot.segment).map(|segment| &segment.file)
    }

    /// Puts a value into the batch: where it will be once [`Cold::flush`] has written it. `None` when it is too large.
    ///
    /// # Errors
    /// No segment could be begun.
    pub fn put(&mut self, store: u8, key: &[u8], dump: &[u8], now: Duration) -> Result<Option<Spot>, ColdError> {
        let bytes = segment::record_bytes(key.len(), dump.len());
        let Ok(len) = u32::try_from(dump.len()) else { return Ok(None) };
        if dump.len() > LARGEST {
            return Ok(None);
        }
        let (number, end) = self.current(now)?;
        let Ok(offset) = u32::try_from(end + self.batch.len() as u64) else { return Ok(None) };
        let spot = Spot { segment: number, offset, len };
        segment::seal(&self.aead, self.next_index, spot, store, key, dump, &mut self.batch);
        self.next_index += 1;
        debug_assert_eq!(self.batch.len() as u64 + end, u64::from(offset) + bytes as u64, "a record's length");
        Ok(Some(spot))
    }

    /// Bytes in the batch.
    pub const fn batched(&self) -> usize {
        self.batch.len()
    }

    /// Writes the batch. Afterwards the spots handed out since the last call can be read.
    ///
    /// # Errors
    /// The disk refuses: those spots are none.
    pub fn flush(&mut self, now: Duration) -> Result<(), ColdError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let Some(segment) = self.current.and_then(|number| self.segments.get_mut(&number)) else { return Ok(()) };
        let written = segment.file.write(segment.bytes, &self.batch);
        let bytes = self.batch.len() as u64;
        self.batch.clear();
        match written {
            Ok(()) => {
                segment.bytes += bytes;
                if self.retry_at.take().is_some() {
                    tracing::info!("values of the keyspace can be moved to disk again");
                }
                if segment.bytes >= self.segment_bytes {
                    self.current = None;
                }
                Ok(())
            }
            Err(error) => {
                self.failed(&error, now);
                Err(error)
            }
        }
    }

    /// Removes a segment nobody has anything in.
    pub(super) fn remove(&mut self, number: u32) {
        let Some(segment) = self.segments.remove(&number) else { return };
        if self.current == Some(number) {
            self.current = None;
        }
        if let Err(error) = self.disk.remove_file(segment.file.path()) {
            // Nothing refers to it any more; the next start removes it.
            tracing::warn!(%error, path = %segment.file.path().display(), "a cold file of the keyspace stays");
        }
    }

    /// Segments that are not being written, with their bytes.
    pub(super) fn finished(&self) -> impl Iterator<Item = (u32, u64)> {
        self.segments
            .iter()
            .filter(|(number, _)| self.current != Some(**number))
            .map(|(number, segment)| (*number, segment.bytes))
    }

    /// The segment being written and its end; begins one where there is none.
    fn current(&mut self, now: Duration) -> Result<(u32, u64), ColdError> {
        if let Some((number, segment)) = self.current.and_then(|number| Some((number, self.segments.get(&number)?))) {
            return Ok((number, segment.bytes));
        }
        let number = self.next_segment;
        let path = self.folder.join(format!("segment-{number:010}"));
        let file = match self.disk.open(&path, OpenMode::CreateNew) {
            Ok(file) => file,
            Err(error) => {
                let error = ColdError::disk("create", &path)(error);
                self.failed(&error, now);
                return Err(error);
            }
        };
        self.next_segment += 1;
        let file = Arc::new(SegmentFile::new(file, path, number, Arc::clone(&self.aead)));
        self.segments.insert(number, Segment { file, bytes: 0 });
        self.current = Some(number);
        Ok((number, 0))
    }

    fn failed(&mut self, error: &ColdError, now: Duration) {
        if self.retry_at.is_none() {
            tracing::warn!(%error, "values of the keyspace cannot be moved to disk; writes beyond kv.max_memory are refused");
        }
        self.retry_at = Some(now + RETRY);
    }
}
