//! The keyspace as one stream of bytes, for backups: read from its files while the server serves, and written into
//! files again.
//!
//! No second copy of the keyspace is made and nobody waits. [`Live::hold`] keeps every file from being removed, the
//! newest checkpoint and all segments since among them; [`Held::cut`] notes how far the journal is *written*. Replies
//! leave behind the write, so whatever was acknowledged before the cut is in the files before that position, and what
//! comes later is behind it. The frames up to there are read back like after a crash, through the kernel's cache: they
//! need not be synced for that.
//!
//! The stream holds what recovery takes ([`Restored`](super::Restored)), in its order and in the clear; whoever keeps it
//! seals it. Numbers are big-endian. It begins with `MSTYKEYS` and a format number (4 bytes, 2), then:
//!
//! ```text
//! 1  number (8)          about so many keys will come: only, and at once, when there is a checkpoint
//! 2  length (8), bytes   effects of a loop turn
//! 3  length (8), bytes   values of a block of the checkpoint
//! 4  number (8)          the end: entries of kind 2 and 3 in all; without it the stream was cut
//! 5  number (8)          the piece that begins here, from 0 (not in format 1)
//! ```
//!
//! It comes in pieces of whole entries, the last with nothing but the end; see [`salvage`](super::salvage) for what they
//! are good for.
//!
//! Put back, every entry becomes a frame or a block of files with salts of their own, hence under new keys: no nonce of
//! the old files can be met again, whatever the restored keyspace does next.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkpoint::{Block, CheckpointWriter, remove_before};
use super::error::PersistError;
use super::format::{Kind, Marker, Position};
use super::journal::{Journal, Older, Written, numbers};
use super::recover::{Piece, Place, Replay, Restored, Step};
use crate::base::disk::{Disk, parent};

pub(super) const MAGIC: &[u8; 8] = b"MSTYKEYS";
pub(super) const VERSION: u32 = 2;
pub(super) const EXPECT: u8 = 1;
pub(super) const EFFECTS: u8 = 2;
pub(super) const VALUES: u8 = 3;
pub(super) const END: u8 = 4;
pub(super) const PIECE: u8 = 5;

/// A piece ends with the entry that takes it past this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Whether files that a new checkpoint has replaced may be removed.
#[derive(Debug, Default)]
pub struct Kept(Mutex<KeptState>);

#[derive(Debug, Default)]
struct KeptState {
    holders: u32,
    /// Files below this number can go when nobody reads them any more.
    base: Option<u64>,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, KeptState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files that checkpoint `base` has replaced, now or when the last reader is done.
    pub(super) fn remove_before(&self, disk: &dyn Disk, folder: &Path, base: u64) -> Result<(), PersistError> {
        let mut state = self.state();
        if state.holders > 0 {
            state.base = Some(base);
            return Ok(());
        }
        // Inside the lock, so that a reader begins before the first removal or after the last.
        remove_before(disk, folder, base)
    }
}

/// The files of a keyspace that is being served. Clones are the same.
#[derive(Clone, Debug)]
pub struct Live {
    pub(super) place: Place,
    pub(super) written: Arc<Written>,
    pub(super) kept: Arc<Kept>,
}

impl Live {
    /// Keeps every file that is there until the guard, or what comes of it, is dropped. Blocks.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn hold(&self) -> Result<Held, PersistError> {
        let mut state = self.kept.state();
        state.holders = state.holders.saturating_add(1);
        drop(state);
        let mut held = Held { live: self.clone(), checkpoint: None };
        // Finished by now, so all its markers are before any later cut.
        held.checkpoint = numbers(self.place.disk.as_ref(), &self.place.folder, Kind::Checkpoint)?.last().copied();
        Ok(held)
    }
}

/// Files held for a backup.
#[derive(Debug)]
pub struct Held {
    live: Live,
    checkpoint: Option<u64>,
}

impl Held {
    /// The keyspace as it is now: with everything acknowledged before this call. Waits for nothing.
    pub fn cut(self) -> Cut {
        let until = Some(self.live.written.position());
        Cut { place: self.live.place.clone(), checkpoint: self.checkpoint, until, _held: Some(self) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.live.kept.state();
        state.holders = state.holders.saturating_sub(1);
        if state.holders == 0
            && let Some(base) = state.base.take()
        {
            let Place { disk, folder, .. } = &self.live.place;
            if let Err(error) = remove_before(disk.as_ref(), folder, base) {
                tracing::warn!(%error, "old files of the keyspace stay until the next checkpoint");
            }
        }
    }
}

/// The keyspace at one moment, in files.
#[derive(Debug)]
pub struct Cut {
    place: Place,
    checkpoint: Option<u64>,
    /// Where it ends; `None` for the end of the journal.
    until: Option<Position>,
    /// Dropped last: the files may go then.
    _held: Option<Held>,
}

impl Cut {
    /// The keyspace in `place`, which no server has open; `None` when there is none. Blocks.
    ///
    /// # Errors
    /// The folder cannot be looked into.
    pub fn at_rest(place: Place) -> Result<Option<Self>, PersistError> {
        let folder = &place.folder;
        if place.disk.entry(folder).map_err(PersistError::disk("look at", folder))?.is_none() {
            return Ok(None);
        }
        let checkpoint = numbers(place.disk.as_ref(), folder, Kind::Checkpoint)?.last().copied();
        Ok(Some(Self { place, checkpoint, until: None, _held: None }))
    }

    /// Its stream; every one of the same cut is the same. Blocks, and so does reading it; the cut must outlive that.
    ///
    /// # Errors
    /// [`PersistError`]; damage further on comes as the error of a read.
    pub fn stream(&self) -> Result<Export, PersistError> {
        let Self { place, checkpoint, until, .. } = self;
        let first = checkpoint.unwrap_or(1);
        let last = until.map_or(u64::MAX, |until| until.segment);
        let mut segments = numbers(place.disk.as_ref(), &place.folder, Kind::Journal)?;
        segments.retain(|number| (first..=last).contains(number));
        if let Some(until) = until
            && segments.last() != Some(&until.segment)
        {
            return Err(PersistError::Missing { path: Kind::Journal.path(&place.folder, until.segment) });
        }
        let replay = Replay::new(place.clone(), *checkpoint, segments, *until)?;
        let mut ahead = VecDeque::new();
        if let Some(summary) = replay.checkpoint() {
            let mut expect = Vec::new();
            entry(&mut expect, EXPECT, summary.keys);
            ahead.push_back(expect);
        }
        Ok(Export {
            replay,
            until: *until,
            ahead,
            buffer: Vec::new(),
            at: 0,
            pieces: 0,
            entries: 0,
            over: false,
            ended: false,
        })
    }

    /// Where it is.
    pub const fn place(&self) -> &Place {
        &self.place
    }
}

/// The stream of a [`Cut`].
#[derive(Debug)]
pub struct Export {
    replay: Replay,
    until: Option<Position>,
    /// Entries that are read and in no piece yet.
    ahead: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    pieces: u64,
    entries: u64,
    /// Whether all entries are read, and whether the last piece is given.
    over: bool,
    ended: bool,
}

impl Export {
    /// The next piece of the stream, for readers that take it in pieces; `None` behind the last.
    ///
    /// # Errors
    /// [`PersistError`].
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, PersistError> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = Vec::new();
        if self.pieces == 0 {
            piece.extend_from_slice(MAGIC);
            piece.extend_from_slice(&VERSION.to_be_bytes());
        }
        entry(&mut piece, PIECE, self.pieces);
        self.pieces = self.pieces.saturating_add(1);
        let lead = piece.len();
        while piece.len() < PIECE_BYTES {
            if let Some(next) = self.ahead.pop_front() {
                piece.extend_from_slice(&next);
            } else if self.over {
                break;
            } else {
                self.read_on()?;
            }
        }
        if piece.len() == lead {
            entry(&mut piece, END, self.entries);
            self.ended = true;
        }
        Ok(Some(piece))
    }

    fn read_on(&mut self) -> Result<(), PersistError> {
        let torn = match self.replay.step()? {
            Step::Piece(piece) => {
                self.put(&piece);
                return Ok(());
            }
            Step::End => None,
            // Before a cut everything was written by a process that still lives.
            Step::Bad(bad) if self.until.is_some() => return Err(self.replay.damaged(bad)),
            Step::Bad(bad) => Some(bad),
        };
        self.replay.finish(torn)?;
        self.over = true;
        Ok(())
    }

    fn put(&mut self, piece: &Piece) {
        for restored in piece.entries() {
            let (kind, bytes) = match restored {
                Restored::Expect(_) => continue,
                Restored::Effects(bytes) => (EFFECTS, bytes),
                Restored::Values(bytes) => (VALUES, bytes),
            };
            let mut next = Vec::with_capacity(bytes.len().saturating_add(9));
            entry(&mut next, kind, bytes.len() as u64);
            next.extend_from_slice(bytes);
            self.ahead.push_back(next);
            self.entries = self.entries.saturating_add(1);
        }
    }
}

impl Read for Export {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() {
            self.at = 0;
            let Some(piece) = self.next_piece().map_err(io::Error::other)? else {
                self.buffer = Vec::new();
                return Ok(0);
            };
            self.buffer = piece;
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let count = left.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

fn entry(out: &mut Vec<u8>, kind: u8, number: u64) {
    out.push(kind);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Writes the keyspace in `stream` into the folder of `place`, which must not hold one, and makes it durable; returns
/// the entries. Blocks.
///
/// # Errors
/// [`PersistError::Unreadable`] when the stream is none, or cut; [`PersistError::Disk`]. The folder must not be used.
pub fn restore(place: &Place, stream: &mut dyn Read) -> Result<u64, PersistError> {
    let Place { disk, folder, random, key, .. } = place;
    disk.create_dir(folder).map_err(PersistError::disk("create", folder))?;
    disk.sync_dir(parent(folder)).map_err(PersistError::disk("sync", parent(folder)))?;
    let mut source = Source { folder, stream: io::BufReader::with_capacity(256 << 10, stream) };
    if &source.take::<8>()? != MAGIC {
        return Err(source.malformed("it does not begin as a keyspace"));
    }
    if u32::from_be_bytes(source.take()?) > VERSION {
        return Err(source.malformed("a newer Mainstay wrote it"));
    }
    let (disk, random) = (Arc::clone(disk), Arc::clone(random));
    let segment_bytes = place.segment_bytes;
    let mut journal = Journal::begin(
        Arc::clone(&disk),
        Arc::clone(&random),
        folder,
        key.clone(),
        segment_bytes,
        1,
        Older::default(),
    )?;
    let refused =
        |refusal: super::Refusal| PersistError::disk("write the journal in", folder)(io::Error::other(refusal));
    let mut checkpoint: Option<(CheckpointWriter, u64)> = None;
    let (mut entries, mut blocks): (u64, u32) = (0, 0);
    loop {
        let [kind] = source.take()?;
        let number = u64::from_be_bytes(source.take()?);
        match kind {
            EXPECT if checkpoint.is_none() && entries == 0 => {
                let writer = CheckpointWriter::create(Arc::clone(&disk), folder, 1, key, random.as_ref())?;
                checkpoint = Some((writer, number));
            }
            EFFECTS => journal.append(&source.bytes(number)?, None).map_err(refused)?,
            VALUES => {
                let Some((writer, _)) = &mut checkpoint else {
                    return Err(source.malformed("a block of no checkpoint"));
                };
                let mut block = Block::new();
                block.values().append(&mut source.bytes(number)?);
                writer.write(block)?;
                journal.append(&[], Some(Marker { checkpoint: 1, block: blocks })).map_err(refused)?;
                blocks = blocks.saturating_add(1);
            }
            PIECE => continue,
            END if number == entries => break,
            END => return Err(source.malformed("entries are missing")),
            _ => return Err(source.malformed("an entry is of no known kind")),
        }
        if kind != EXPECT {
            entries = entries.saturating_add(1);
        }
    }
    journal.sync().map_err(refused)?;
    if let Some((writer, keys)) = checkpoint {
        writer.finish(keys, journal.end(), journal.durable(), &Kept::default())?;
    }
    Ok(entries)
}

struct Source<'a> {
    folder: &'a Path,
    stream: io::BufReader<&'a mut dyn Read>,
}

impl Source<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PersistError> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).map_err(|error| self.failed(error))?;
        Ok(bytes)
    }

    /// Memory grows with what comes, not with what is announced.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, PersistError> {
        let mut bytes = Vec::new();
        let read = (&mut self.stream).take(count).read_to_end(&mut bytes).map_err(|error| self.failed(error))?;
        if read as u64 == count { Ok(bytes) } else { Err(self.malformed("it is cut off")) }
    }

    fn failed(&self, error: io::Error) -> PersistError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.malformed("it is cut off");
        }
        PersistError::disk("read the backup of", self.folder)(error)
    }

    fn malformed(&self, what: &str) -> PersistError {
        PersistError::Unreadable { path: self.folder.to_owned(), reason: format!("the backup of it: {what}") }
    }
}
