//! Finding the keyspace again: the newest checkpoint and the journal since its start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::checkpoint::{CheckpointReader, Summary, remove_before};
use super::error::PersistError;
use super::format::{Kind, Position};
use super::journal::{Journal, Older, numbers};
use super::segment::{Batch, Read, SegmentReader};
use crate::base::Random;
use crate::base::disk::{Disk, OpenMode, parent};
use crate::crypto::Key;

/// Batches read ahead of what is applied.
const AHEAD: usize = 4;

/// What to do about damage that cannot come from a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDamage {
    /// Refuse to start.
    #[default]
    Refuse,
    /// Keep what was written before the damage, drop what was written after it.
    Cut,
}

/// Where the keyspace's files are and how to read them.
#[derive(Clone, Debug)]
pub struct Place {
    /// The files' disk.
    pub disk: Arc<dyn Disk>,
    /// Salts.
    pub random: Arc<dyn Random>,
    /// Their folder.
    pub folder: PathBuf,
    /// The key named `kv/journal`.
    pub key: Key,
    /// Bytes after which a journal segment is followed by the next.
    pub segment_bytes: u64,
    /// What to do about damage.
    pub on_damage: OnDamage,
}

/// A piece of the keyspace on its way back, in the order in which it must be taken.
#[derive(Clone, Copy, Debug)]
pub enum Restored<'a> {
    /// About so many keys will come.
    Expect(u64),
    /// The effects of one loop turn.
    Effects(&'a [u8]),
    /// The values of one block of the checkpoint; each replaces whatever its key holds.
    Values(&'a [u8]),
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint's number, if there was one.
    pub checkpoint: Option<u64>,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// Journal frames replayed.
    pub frames: u64,
    /// Bytes of journal replayed.
    pub journal_bytes: u64,
    /// Bytes behind the last whole frame that were dropped: written, but not whole when the power failed.
    pub dropped_bytes: u64,
    /// Keys in the keyspace afterwards. Filled in by [`Persistence::open`](super::Persistence::open).
    pub keys: u64,
    /// How long it took. Filled in by the same.
    pub took: Duration,
}

/// Hands everything that was kept to `take`, tidies the folder, and opens the journal for writing.
///
/// # Errors
/// [`PersistError`]. Nothing was changed then, unless it is [`PersistError::Disk`]; and starting again is safe.
pub fn recover(
    place: &Place,
    take: &mut dyn FnMut(Restored<'_>) -> Result<(), String>,
) -> Result<(Journal, Report), PersistError> {
    let Place { disk, folder, .. } = place;
    disk.create_dir(folder).map_err(PersistError::disk("create", folder))?;
    disk.sync_dir(parent(folder)).map_err(PersistError::disk("sync", parent(folder)))?;
    let checkpoint = numbers(disk.as_ref(), folder, Kind::Checkpoint)?.last().copied();
    let first = checkpoint.unwrap_or(1);
    let segments: Vec<u64> =
        numbers(disk.as_ref(), folder, Kind::Journal)?.into_iter().filter(|number| *number >= first).collect();

    let mut report = Report { checkpoint, ..Report::default() };
    let reader = Replay::new(place.clone(), checkpoint, segments.clone(), None)?;
    if let Some(Summary { keys, bytes, .. }) = reader.checkpoint() {
        report.checkpoint_bytes = bytes;
        // The journal since then may hold as many keys to the byte, all of them new; room for more than a few times the
        // checkpoint's keys is not made on that guess.
        let journal = journal_bytes(place, &segments)?.min(bytes.saturating_mul(3));
        let more = u128::from(keys) * u128::from(journal) / u128::from(bytes.max(1));
        let expected = keys.saturating_add(u64::try_from(more).unwrap_or(0));
        take(Restored::Expect(expected)).map_err(unreadable(&Kind::Checkpoint.path(folder, first)))?;
    }
    let end = replay(place, reader, take, &mut report)?;
    let next = tidy(place, first, &segments, end, &mut report)?;
    let older = older(place, first, next)?;
    report.journal_bytes = older.bytes;
    let journal = Journal::begin(
        Arc::clone(disk),
        Arc::clone(&place.random),
        folder,
        place.key.clone(),
        place.segment_bytes,
        next,
        older,
    )?;
    Ok((journal, report))
}

/// Bytes of the journal's `segments`.
fn journal_bytes(place: &Place, segments: &[u64]) -> Result<u64, PersistError> {
    let mut total: u64 = 0;
    for number in segments {
        let path = Kind::Journal.path(&place.folder, *number);
        let entry = place.disk.entry(&path).map_err(PersistError::disk("look at", &path))?;
        total = total.saturating_add(entry.map_or(0, |entry| entry.len));
    }
    Ok(total)
}

/// Reads and verifies on one thread, takes on this one.
fn replay(
    place: &Place,
    reader: Replay,
    take: &mut dyn FnMut(Restored<'_>) -> Result<(), String>,
    report: &mut Report,
) -> Result<Option<Position>, PersistError> {
    let (sender, receiver) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        // A scoped thread ends before this function does: there is nothing to supervise.
        let reading = std::thread::Builder::new()
            .name("kv-recovery".to_owned())
            .spawn_scoped(scope, move || reader.run(&sender))
            .map_err(PersistError::disk("start a thread to read", &place.folder))?;
        let taken = take_all(&receiver, take, report);
        drop(receiver);
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(read)
    })
}

/// Verified frames, and the blocks that belong to their markers, in order.
#[derive(Debug)]
pub(super) struct Piece {
    path: PathBuf,
    batch: Batch,
    blocks: Vec<(Vec<u8>, std::ops::Range<usize>)>,
}

impl Piece {
    /// What is in it, in the order in which it must be taken.
    pub fn entries(&self) -> impl Iterator<Item = Restored<'_>> {
        let mut blocks = self.blocks.iter();
        self.batch.frames.iter().flat_map(move |frame| {
            let effects = self.batch.bytes.get(frame.effects.clone()).unwrap_or_default();
            // The reader keeps the marker only on frames it has loaded a block for.
            let block = frame.marker.and_then(|_| blocks.next());
            let values = block.map(|(bytes, values)| Restored::Values(bytes.get(values.clone()).unwrap_or_default()));
            (!effects.is_empty()).then_some(Restored::Effects(effects)).into_iter().chain(values)
        })
    }
}

fn take_all(
    pieces: &Receiver<Piece>,
    take: &mut dyn FnMut(Restored<'_>) -> Result<(), String>,
    report: &mut Report,
) -> Result<(), PersistError> {
    for piece in pieces {
        for restored in piece.entries() {
            take(restored).map_err(unreadable(&piece.path))?;
        }
        report.frames += piece.batch.frames.len() as u64;
    }
    Ok(())
}

/// The reading side of a recovery, or of a backup.
#[derive(Debug)]
pub(super) struct Replay {
    place: Place,
    first: u64,
    segments: Vec<u64>,
    blocks: Option<CheckpointReader>,
    /// Where to stop; `None` for the end of the journal.
    until: Option<Position>,
    /// Index of the segment to open next.
    next: usize,
    current: Option<SegmentReader>,
    /// Where the segment before the current one ended.
    end: Option<u64>,
}

/// What [`Replay::step`] found.
#[derive(Debug)]
pub(super) enum Step {
    /// Frames.
    Piece(Piece),
    /// The journal ends behind a frame.
    End,
    /// What follows is no frame: torn, or damaged.
    Bad(Position),
}

impl Replay {
    /// Reads the checkpoint and the `segments` since, up to `until`.
    pub fn new(
        place: Place,
        checkpoint: Option<u64>,
        segments: Vec<u64>,
        until: Option<Position>,
    ) -> Result<Self, PersistError> {
        let open = |number| CheckpointReader::open(place.disk.as_ref(), &place.folder, number, &place.key);
        let blocks = checkpoint.map(open).transpose()?;
        let first = checkpoint.unwrap_or(1);
        Ok(Self { place, first, segments, blocks, until, next: 0, current: None, end: None })
    }

    /// What the checkpoint holds, if there is one.
    pub fn checkpoint(&self) -> Option<Summary> {
        self.blocks.as_ref().map(CheckpointReader::summary)
    }

    /// Sends everything up to the end of the journal; where it was torn, if it was.
    fn run(mut self, pieces: &SyncSender<Piece>) -> Result<Option<Position>, PersistError> {
        let bad = loop {
            match self.step()? {
                Step::Piece(piece) => {
                    if pieces.send(piece).is_err() {
                        // The taking side has failed and says why.
                        return Ok(None);
                    }
                }
                Step::End => break None,
                Step::Bad(bad) => break Some(bad),
            }
        };
        self.finish(bad)?;
        Ok(bad)
    }

    /// Whether the journal may end where it does: at `bad`, or behind its last frame.
    ///
    /// # Errors
    /// [`PersistError::Damaged`], [`PersistError::Missing`] when it may not.
    pub fn finish(&self, bad: Option<Position>) -> Result<(), PersistError> {
        if let Some(bad) = bad {
            self.judge(bad)?;
        }
        match &self.blocks {
            // The journal was durable up to the last marker before the checkpoint got its name.
            Some(blocks) if !blocks.is_done() => Err(PersistError::Damaged {
                path: Kind::Journal.path(&self.place.folder, bad.map_or(self.first, |bad| bad.segment)),
                offset: bad.map_or(0, |bad| bad.offset),
                what: "the journal ends before the checkpoint it belongs to",
            }),
            _ => Ok(()),
        }
    }

    /// The error for `bad`, where nothing can have been torn.
    pub fn damaged(&self, bad: Position) -> PersistError {
        let path = Kind::Journal.path(&self.place.folder, bad.segment);
        PersistError::Damaged { path, offset: bad.offset, what: "a frame does not verify" }
    }

    /// The next frames, one segment after the other, up to the first that does not verify.
    pub fn step(&mut self) -> Result<Step, PersistError> {
        loop {
            let Some(segment) = &mut self.current else {
                let Some(number) = self.segments.get(self.next).copied() else { return Ok(Step::End) };
                let expected = self.first + self.next as u64;
                if number != expected {
                    return Ok(Step::Bad(Position { segment: expected, offset: 0 }));
                }
                let mut segment = self.open(number)?;
                // A file may have lost its last frames and still end at a frame: the next one knows where it ended.
                if let (Some(previous), Some(end)) = (segment.previous(), self.end)
                    && previous != end
                {
                    return Ok(Step::Bad(Position { segment: number - 1, offset: end }));
                }
                if let Some(until) = self.until.filter(|until| until.segment == number)
                    && !segment.end_at(until.offset)
                {
                    return Ok(Step::Bad(until));
                }
                self.next += 1;
                self.current = Some(segment);
                continue;
            };
            match segment.next_frames()? {
                Read::End => {
                    self.end = Some(segment.offset());
                    self.current = None;
                }
                Read::Bad(offset) => {
                    return Ok(Step::Bad(Position { segment: self.first + self.next as u64 - 1, offset }));
                }
                Read::Frames(batch) => {
                    let path = segment.path().to_owned();
                    return Ok(Step::Piece(self.with_blocks(path, batch)?));
                }
            }
        }
    }

    /// Loads the blocks whose moment lies in `batch`.
    fn with_blocks(&mut self, path: PathBuf, mut batch: Batch) -> Result<Piece, PersistError> {
        let mut loaded = Vec::new();
        for frame in &mut batch.frames {
            let Some(marker) = frame.marker else { continue };
            match &mut self.blocks {
                Some(blocks) if marker.checkpoint == self.first && marker.block == blocks.position() => {
                    loaded.push(blocks.next_block()?);
                }
                // A checkpoint that was given up, or one that was not finished before the crash.
                _ => frame.marker = None,
            }
        }
        Ok(Piece { path, batch, blocks: loaded })
    }

    /// Torn or damaged? Damaged, when something behind says that those bytes had been durable.
    fn judge(&self, bad: Position) -> Result<(), PersistError> {
        let mut proof = false;
        for number in self.segments.iter().copied().filter(|number| *number >= bad.segment) {
            let mut segment = self.open(number)?;
            if number == bad.segment {
                segment.skip_to(bad.offset);
            }
            proof = proof || segment.proves_durable(bad)?;
        }
        if !proof {
            return Ok(());
        }
        let path = Kind::Journal.path(&self.place.folder, bad.segment);
        if self.place.on_damage == OnDamage::Cut {
            tracing::warn!(path = %path.display(), offset_bytes = bad.offset, "the keyspace journal is damaged; cut there as asked");
            return Ok(());
        }
        if self.segments.contains(&bad.segment) {
            Err(PersistError::Damaged { path, offset: bad.offset, what: "a frame does not verify" })
        } else {
            Err(PersistError::Missing { path })
        }
    }

    fn open(&self, number: u64) -> Result<SegmentReader, PersistError> {
        SegmentReader::open(self.place.disk.as_ref(), &self.place.folder, number, &self.place.key)
    }
}

/// Removes what is behind a torn frame, what the checkpoint has replaced, and unfinished checkpoints; the number of the
/// segment to go on with.
fn tidy(
    place: &Place,
    first: u64,
    segments: &[u64],
    bad: Option<Position>,
    report: &mut Report,
) -> Result<u64, PersistError> {
    let disk = place.disk.as_ref();
    let folder = &place.folder;
    let mut next = segments.last().map_or(first, |last| last + 1);
    if let Some(bad) = bad {
        next = bad.segment + u64::from(bad.offset > 0);
        // Newest first, so that a crash in between leaves a journal that ends at the same frame.
        for number in segments.iter().rev().copied().take_while(|number| *number >= next) {
            let path = Kind::Journal.path(folder, number);
            report.dropped_bytes += length(place, number)?;
            disk.remove_file(&path).map_err(PersistError::disk("remove", &path))?;
        }
        disk.sync_dir(folder).map_err(PersistError::disk("sync", folder))?;
        if bad.offset > 0 {
            report.dropped_bytes += length(place, bad.segment)?.saturating_sub(bad.offset);
            let path = Kind::Journal.path(folder, bad.segment);
            let file = disk.open(&path, OpenMode::ReadWrite).map_err(PersistError::disk("open", &path))?;
            // Durable before anything is written behind it: else the torn frame could come back in the middle.
            file.set_len(bad.offset)
                .and_then(|()| file.sync_data())
                .map_err(PersistError::disk("cut the torn end off", &path))?;
        }
        tracing::info!(
            segment = bad.segment,
            offset_bytes = bad.offset,
            dropped_bytes = report.dropped_bytes,
            "the keyspace journal ended in the middle of a write; what was not whole is dropped"
        );
    }
    if report.checkpoint.is_some() {
        remove_before(disk, folder, first)?;
    }
    for entry in disk.list(folder).map_err(PersistError::disk("list", folder))? {
        if entry.path.extension().is_some_and(|extension| extension == "tmp") {
            disk.remove_file(&entry.path).map_err(PersistError::disk("remove", &entry.path))?;
        }
    }
    Ok(next)
}

/// The segments a later start would read again.
fn older(place: &Place, first: u64, next: u64) -> Result<Older, PersistError> {
    let mut older = Older::default();
    for number in first..next {
        let path = Kind::Journal.path(&place.folder, number);
        let file = place.disk.open(&path, OpenMode::Read).map_err(PersistError::disk("open", &path))?;
        older.last = file.len().map_err(PersistError::disk("read", &path))?;
        older.bytes += older.last;
        older.files.push((path, Arc::from(file)));
    }
    Ok(older)
}

fn length(place: &Place, number: u64) -> Result<u64, PersistError> {
    let path = Kind::Journal.path(&place.folder, number);
    let entry = place.disk.entry(&path).map_err(PersistError::disk("look at", &path))?;
    Ok(entry.map_or(0, |entry| entry.len))
}

fn unreadable(path: &Path) -> impl Fn(String) -> PersistError {
    let path = path.to_owned();
    move |reason| PersistError::Unreadable { path: path.clone(), reason }
}
