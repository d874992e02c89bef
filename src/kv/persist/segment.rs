//! One segment of the journal: written frame by frame, read back batch by batch.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::PersistError;
use super::format::{BODY, FrameHead, HEADER, Kind, Marker, PREFIX, Position, Seals};
use crate::base::Random;
use crate::base::disk::{Disk, DiskFile, OpenMode};
use crate::crypto::Key;

/// Bytes asked from the disk at a time when reading back.
const CHUNK: usize = 1 << 20;

/// A segment being written.
#[derive(Debug)]
pub struct SegmentWriter {
    /// Shared with whoever syncs.
    pub file: Arc<dyn DiskFile>,
    path: PathBuf,
    seals: Seals,
    /// Where the next frame goes.
    offset: u64,
    /// Index of the next frame.
    index: u64,
}

impl SegmentWriter {
    /// Creates segment `number` in `folder`, behind one of `previous` bytes (0 for none). Its name and header are not durable yet.
    ///
    /// # Errors
    /// The disk refuses; then there is no such segment, unless removing the failed one failed as well.
    pub fn create(
        disk: &dyn Disk,
        folder: &Path,
        number: u64,
        previous: u64,
        key: &Key,
        random: &dyn Random,
    ) -> Result<Self, PersistError> {
        let path = Kind::Journal.path(folder, number);
        let (seals, header) = Seals::create(Kind::Journal, number, previous, key, random);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(PersistError::disk("create", &path))?;
        if let Err(error) = file.write_at(0, &header) {
            let _ = disk.remove_file(&path);
            return Err(PersistError::disk("write", &path)(error));
        }
        Ok(Self { file: Arc::from(file), path, seals, offset: HEADER as u64, index: 0 })
    }

    /// Where the segment is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's end.
    pub const fn end(&self) -> Position {
        Position { segment: self.seals.number(), offset: self.offset }
    }

    /// Turns `buffer` (room for the prefix, then a frame's body) into the next frame. The frame must then be written, or
    /// written again: its index is used up.
    pub fn seal(&mut self, buffer: &mut Vec<u8>) {
        self.seals.seal(self.index, buffer);
        self.index = self.index.saturating_add(1);
    }

    /// Writes a sealed frame at the end.
    ///
    /// # Errors
    /// What the disk says; part of the frame may then lie behind the end, which [`SegmentWriter::trim`] cuts off.
    pub fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_at(self.offset, frame)?;
        self.offset = self.offset.saturating_add(frame.len() as u64);
        Ok(())
    }

    /// Cuts off what a failed write has left.
    ///
    /// # Errors
    /// What the disk says.
    pub fn trim(&self) -> io::Result<()> {
        self.file.set_len(self.offset)
    }
}

/// Frames read and verified together, so that one allocation and one message serve many.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames as they lie in the file, bodies in the clear.
    pub bytes: Vec<u8>,
    /// The frames in order.
    pub frames: Vec<Frame>,
}

/// A frame in a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where its effects lie in the batch.
    pub effects: Range<usize>,
    /// The block of a checkpoint taken right behind them.
    pub marker: Option<Marker>,
    /// Where in the journal the frame begins.
    pub at: Position,
}

/// What [`SegmentReader::next_frames`] found.
#[derive(Debug)]
pub enum Read {
    /// Verified frames.
    Frames(Batch),
    /// The segment ends right behind a frame.
    End,
    /// At this offset, what follows is no frame: torn, or damaged.
    Bad(u64),
}

/// A segment being read back.
#[derive(Debug)]
pub struct SegmentReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    /// `None` when the header was torn.
    seals: Option<Seals>,
    offset: u64,
    index: u64,
}

impl SegmentReader {
    /// Opens segment `number`.
    ///
    /// # Errors
    /// [`PersistError::Disk`], [`PersistError::WrongKey`], [`PersistError::Newer`].
    pub fn open(disk: &dyn Disk, folder: &Path, number: u64, key: &Key) -> Result<Self, PersistError> {
        let path = Kind::Journal.path(folder, number);
        let file = disk.open(&path, OpenMode::Read).map_err(PersistError::disk("open", &path))?;
        let length = file.len().map_err(PersistError::disk("read", &path))?;
        let mut header = vec![0; HEADER];
        let count = file.read_at(0, &mut header).map_err(PersistError::disk("read", &path))?;
        header.truncate(count);
        let seals = Seals::open(Kind::Journal, &path, &header, key)?.filter(|seals| seals.number() == number);
        Ok(Self { file, path, length, seals, offset: HEADER as u64, index: 0 })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segment before this one ended; `None` when the header was torn.
    pub fn previous(&self) -> Option<u64> {
        self.seals.as_ref().map(Seals::previous)
    }

    /// Bytes read so far.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads on only up to `offset`; `false` when the file ends before.
    pub const fn end_at(&mut self, offset: u64) -> bool {
        let there = offset <= self.length;
        if there {
            self.length = offset;
        }
        there
    }

    /// Goes on at `offset`, to look for proof behind a bad frame.
    pub const fn skip_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next frames.
    ///
    /// # Errors
    /// [`PersistError::Disk`] when reading fails. Bytes that do not verify are no error here: see [`Read::Bad`].
    pub fn next_frames(&mut self) -> Result<Read, PersistError> {
        let Some(seals) = &self.seals else { return Ok(Read::Bad(0)) };
        if self.offset >= self.length {
            return Ok(if self.offset == self.length { Read::End } else { Read::Bad(self.length) });
        }
        let mut batch = Batch { bytes: self.read(self.offset, CHUNK)?, frames: Vec::new() };
        if let Some(first) = seals.frame_length(&batch.bytes, self.index)
            && first > batch.bytes.len() as u64
            && first <= self.length.saturating_sub(self.offset)
        {
            batch.bytes = self.read(self.offset, usize::try_from(first).unwrap_or(usize::MAX))?;
        }
        let mut start = 0;
        while let Some(rest) = batch.bytes.get_mut(start..) {
            let Some(whole) = seals.frame_length(rest, self.index).and_then(|whole| usize::try_from(whole).ok()) else {
                break;
            };
            let Some(frame) = rest.get_mut(..whole) else { break };
            if !seals.open_frame(self.index, frame) {
                break;
            }
            let body = frame.get(PREFIX..whole.saturating_sub(crate::crypto::aead::TAG)).unwrap_or_default();
            let Some((head, skip)) = FrameHead::read(body) else { break };
            let from = start.saturating_add(PREFIX).saturating_add(skip);
            let to = start.saturating_add(PREFIX).saturating_add(body.len());
            let at = Position { segment: seals.number(), offset: self.offset.saturating_add(start as u64) };
            batch.frames.push(Frame { effects: from..to, marker: head.marker, at });
            self.index = self.index.saturating_add(1);
            start = start.saturating_add(whole);
        }
        let bad = self.offset;
        self.offset = self.offset.saturating_add(start as u64);
        Ok(if batch.frames.is_empty() { Read::Bad(bad) } else { Read::Frames(batch) })
    }

    /// Whether a frame behind the bad one says that the journal was durable beyond `bad`. Such a frame proves that the
    /// bytes there were once whole: they are damaged, not torn.
    ///
    /// # Errors
    /// [`PersistError::Disk`] when reading fails.
    pub fn proves_durable(&self, bad: Position) -> Result<bool, PersistError> {
        let Some(seals) = &self.seals else { return Ok(false) };
        let mut rest = self.read(self.offset, usize::try_from(self.length).unwrap_or(usize::MAX))?;
        let finder = memchr::memmem::Finder::new(seals.mark()).into_owned();
        let mut start = 0;
        while let Some(found) = rest.get(start..).and_then(|bytes| finder.find(bytes)) {
            start = start.saturating_add(found);
            let Some(bytes) = rest.get_mut(start..) else { break };
            if open_any(seals, bytes).is_some_and(|head| head.durable > bad) {
                return Ok(true);
            }
            start = start.saturating_add(1);
        }
        Ok(false)
    }

    /// Up to `count` bytes from `offset`; fewer at the end of the file.
    fn read(&self, offset: u64, count: usize) -> Result<Vec<u8>, PersistError> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count.min(left)];
        let count = self.file.read_at(offset, &mut bytes).map_err(PersistError::disk("read", &self.path))?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// The head of the frame at the start of `bytes`, whatever its index, if it verifies.
fn open_any(seals: &Seals, bytes: &mut [u8]) -> Option<FrameHead> {
    let index = Seals::frame_index(bytes)?;
    let whole = usize::try_from(seals.frame_length(bytes, index)?).ok()?;
    let mut frame = bytes.get(..whole)?.to_vec();
    if !seals.open_frame(index, &mut frame) {
        return None;
    }
    FrameHead::read(frame.get(PREFIX..)?).map(|(head, _)| head)
}

/// An empty buffer with room for the prefix, ready for a frame's body.
pub fn fresh(buffer: &mut Vec<u8>, head: &FrameHead) {
    buffer.clear();
    buffer.reserve(const { PREFIX + BODY });
    buffer.resize(PREFIX, 0);
    head.write(buffer);
}
