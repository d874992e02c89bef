//! A checkpoint's file: written block by block while the server serves, read back block by block.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::PersistError;
use super::export::Kept;
use super::format::{HEADER, Kind, PREFIX, Position, Seals, take, take_u32, take_u64};
use super::journal::{Durable, numbers};
use crate::base::Random;
use crate::base::disk::{Disk, DiskFile, OpenMode, read_exact_at};
use crate::crypto::Key;
use crate::crypto::aead::TAG;
use crate::kv::cold::ColdError;
use crate::kv::cold::loader::Wanted;

const BLOCK: u8 = 0;
const TRAILER: u8 = 1;
/// Bytes of the trailer's frame.
const TRAILER_FRAME: usize = PREFIX + TRAILER_BODY + TAG;
const TRAILER_BODY: usize = 1 + 4 + 8 + 8;

/// What a finished checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blocks.
    pub blocks: u32,
    /// Keys, some perhaps twice.
    pub keys: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// One slice of the keyspace on its way into the file.
#[derive(Debug)]
pub struct Block {
    buffer: Vec<u8>,
    /// Values that are on disk only, each with its place in the buffer.
    later: Vec<(usize, Wanted)>,
}

impl Block {
    /// An empty block.
    pub fn new() -> Self {
        let mut buffer = vec![0; PREFIX];
        buffer.push(BLOCK);
        Self { buffer, later: Vec::new() }
    }

    /// Where the slice's values go, appended to what is there.
    pub const fn values(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Notes that the bytes from `at` on are those of a value that has yet to be read.
    pub fn later(&mut self, at: usize, wanted: Wanted) {
        self.later.push((at, wanted));
    }

    /// Reads the values that are on disk only. Blocks.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn complete(&mut self) -> Result<(), ColdError> {
        for (at, wanted) in std::mem::take(&mut self.later) {
            let record = wanted.read()?;
            let dump = record.dump();
            if let Some(place) = self.buffer.get_mut(at..at.saturating_add(dump.len())) {
                place.copy_from_slice(dump);
            }
        }
        Ok(())
    }

    /// Bytes of values so far.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(const { PREFIX + 1 })
    }

    /// The values, whole once [`Block::complete`] was called.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(const { PREFIX + 1 }..).unwrap_or_default()
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::new()
    }
}

/// A checkpoint being written, under a temporary name.
#[derive(Debug)]
pub struct CheckpointWriter {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    temporary: PathBuf,
    file: Box<dyn DiskFile>,
    seals: Seals,
    offset: u64,
    blocks: u32,
}

impl CheckpointWriter {
    /// Begins checkpoint `number`, which starts at the journal segment of that number.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn create(
        disk: Arc<dyn Disk>,
        folder: &Path,
        number: u64,
        key: &Key,
        random: &dyn Random,
    ) -> Result<Self, PersistError> {
        let temporary = Kind::Checkpoint.path(folder, number).with_extension("tmp");
        let (seals, header) = Seals::create(Kind::Checkpoint, number, 0, key, random);
        let file = disk.open(&temporary, OpenMode::OpenOrCreate).map_err(PersistError::disk("create", &temporary))?;
        file.set_len(0).and_then(|()| file.write_at(0, &header)).map_err(PersistError::disk("write", &temporary))?;
        Ok(Self { disk, folder: folder.to_owned(), temporary, file, seals, offset: HEADER as u64, blocks: 0 })
    }

    /// Appends the next block.
    ///
    /// # Errors
    /// The disk refuses, or a value cannot be read; the checkpoint cannot be finished.
    pub fn write(&mut self, mut block: Block) -> Result<(), PersistError> {
        block.complete()?;
        self.frame(block.buffer)?;
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    /// Makes the checkpoint the base, once the journal is durable up to `last_marker`, and removes what it replaces, or
    /// leaves that to whoever still reads it.
    ///
    /// # Errors
    /// The disk refuses, or the journal is broken; the former base stays, unless only the removal of old files or the
    /// last sync of the folder failed: then either is good.
    pub fn finish(
        mut self,
        keys: u64,
        last_marker: Position,
        durable: &Durable,
        kept: &Kept,
    ) -> Result<Summary, PersistError> {
        let summary = Summary { blocks: self.blocks, keys, bytes: self.offset.saturating_add(TRAILER_FRAME as u64) };
        let mut trailer = vec![0; PREFIX];
        trailer.push(TRAILER);
        trailer.extend_from_slice(&summary.blocks.to_le_bytes());
        trailer.extend_from_slice(&summary.keys.to_le_bytes());
        trailer.extend_from_slice(&summary.bytes.to_le_bytes());
        self.frame(trailer)?;
        self.file.sync_data().map_err(PersistError::disk("sync", &self.temporary))?;
        // A base whose markers could still be lost would be a base with holes.
        if !durable.reached(last_marker) {
            let _ = self.disk.remove_file(&self.temporary);
            return Err(PersistError::Disk {
                action: "sync the journal in",
                path: self.folder,
                source: std::io::Error::other("an earlier sync failed"),
            });
        }
        let path = Kind::Checkpoint.path(&self.folder, self.seals.number());
        self.disk.rename(&self.temporary, &path).map_err(PersistError::disk("rename", &self.temporary))?;
        self.disk.sync_dir(&self.folder).map_err(PersistError::disk("sync", &self.folder))?;
        kept.remove_before(self.disk.as_ref(), &self.folder, self.seals.number())?;
        Ok(summary)
    }

    /// Gives the checkpoint up and removes its file.
    pub fn abandon(self) {
        // A leftover is removed at the next start.
        let _ = self.disk.remove_file(&self.temporary);
    }

    fn frame(&mut self, mut buffer: Vec<u8>) -> Result<(), PersistError> {
        self.seals.seal(u64::from(self.blocks), &mut buffer);
        self.file.write_at(self.offset, &buffer).map_err(PersistError::disk("write", &self.temporary))?;
        self.offset = self.offset.saturating_add(buffer.len() as u64);
        Ok(())
    }
}

/// Removes journal segments and checkpoints with numbers below `base`.
///
/// # Errors
/// The disk refuses.
pub fn remove_before(disk: &dyn Disk, folder: &Path, base: u64) -> Result<(), PersistError> {
    for kind in [Kind::Journal, Kind::Checkpoint] {
        for number in numbers(disk, folder, kind)?.into_iter().filter(|number| *number < base) {
            let path = kind.path(folder, number);
            disk.remove_file(&path).map_err(PersistError::disk("remove", &path))?;
        }
    }
    Ok(())
}

/// A finished checkpoint being read.
#[derive(Debug)]
pub struct CheckpointReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    seals: Seals,
    summary: Summary,
    offset: u64,
    next: u32,
}

impl CheckpointReader {
    /// Opens checkpoint `number` and verifies its trailer.
    ///
    /// # Errors
    /// [`PersistError`]: a finished checkpoint was synced before it got its name, so whatever is wrong is damage.
    pub fn open(disk: &dyn Disk, folder: &Path, number: u64, key: &Key) -> Result<Self, PersistError> {
        let path = Kind::Checkpoint.path(folder, number);
        let file = disk.open(&path, OpenMode::Read).map_err(PersistError::disk("open", &path))?;
        let length = file.len().map_err(PersistError::disk("read", &path))?;
        let damaged = |offset, what| PersistError::DamagedCheckpoint { path: path.clone(), offset, what };
        let mut header = vec![0; HEADER];
        let count = file.read_at(0, &mut header).map_err(PersistError::disk("read", &path))?;
        header.truncate(count);
        let seals = Seals::open(Kind::Checkpoint, &path, &header, key)?
            .filter(|seals| seals.number() == number)
            .ok_or_else(|| damaged(0, "the header is not that of a checkpoint"))?;
        let at = length.saturating_sub(TRAILER_FRAME as u64);
        let mut frame = vec![0; TRAILER_FRAME];
        if at >= HEADER as u64 {
            read_exact_at(file.as_ref(), at, &mut frame).map_err(PersistError::disk("read", &path))?;
        }
        let summary = open_trailer(&seals, &mut frame)
            .filter(|summary| summary.bytes == length)
            .ok_or_else(|| damaged(at, "the end is not that of a checkpoint"))?;
        Ok(Self { file, path, seals, summary, offset: HEADER as u64, next: 0 })
    }

    /// What the checkpoint holds.
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Index of the block that [`CheckpointReader::next_block`] will return.
    pub const fn position(&self) -> u32 {
        self.next
    }

    /// Whether every block was read.
    pub const fn is_done(&self) -> bool {
        self.next >= self.summary.blocks
    }

    /// The values of the next block; the range says where in the bytes they lie.
    ///
    /// # Errors
    /// [`PersistError::DamagedCheckpoint`], [`PersistError::Disk`].
    pub fn next_block(&mut self) -> Result<(Vec<u8>, std::ops::Range<usize>), PersistError> {
        let at = self.offset;
        let damaged = |what| PersistError::DamagedCheckpoint { path: self.path.clone(), offset: at, what };
        let index = u64::from(self.next);
        let mut prefix = [0; PREFIX];
        read_exact_at(self.file.as_ref(), at, &mut prefix).map_err(PersistError::disk("read", &self.path))?;
        let whole = self
            .seals
            .frame_length(&prefix, index)
            .filter(|whole| *whole <= self.summary.bytes.saturating_sub(at))
            .ok_or_else(|| damaged("no block starts here"))?;
        let mut frame = vec![0; usize::try_from(whole).unwrap_or(usize::MAX)];
        read_exact_at(self.file.as_ref(), at, &mut frame).map_err(PersistError::disk("read", &self.path))?;
        let is_block = self.seals.open_frame(index, &mut frame) && frame.get(PREFIX) == Some(&BLOCK);
        if !is_block {
            return Err(damaged("a block does not verify"));
        }
        self.offset = at.saturating_add(whole);
        self.next = self.next.saturating_add(1);
        let values = const { PREFIX + 1 }..frame.len().saturating_sub(TAG);
        Ok((frame, values))
    }
}

fn open_trailer(seals: &Seals, frame: &mut [u8]) -> Option<Summary> {
    let index = Seals::frame_index(frame)?;
    (seals.frame_length(frame, index)? == frame.len() as u64).then_some(())?;
    if !seals.open_frame(index, frame) {
        return None;
    }
    let mut rest = frame.get(PREFIX..)?;
    let [kind] = take::<1>(&mut rest)?;
    let summary = Summary { blocks: take_u32(&mut rest)?, keys: take_u64(&mut rest)?, bytes: take_u64(&mut rest)? };
    (kind == TRAILER && index == u64::from(summary.blocks)).then_some(summary)
}
