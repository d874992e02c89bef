//! The blocking half of reading: an object's parts, opened one after the other, a batch of verified segments at a time.

use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::blob::{BATCH_SEGMENTS, BlobFile, Fault, OpenFault};
use super::error::ObjectError;
use super::guards::Hold;
use super::index::{MANIFESTS, ManifestRow, PartRef, decode, manifest_key, number_after_id};
use super::keys::OpenBucket;
use super::place::Placed;
use super::service::Objects;
use crate::base::Id128;
use crate::crypto::stream::SEGMENT;
use crate::store::{Direction, after_prefix};

/// Why reading ended early.
pub(super) enum ReadFault {
    /// A blob's file cannot be read.
    Blob(Id128, OpenFault),
    /// Something else.
    Other(ObjectError),
}

impl<E: Into<ObjectError>> From<E> for ReadFault {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// On which threads a blob is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    /// On those for the disk.
    Disk,
    /// On those that may wait for a backend.
    Backends,
}

/// How often the place of a blob is looked up again when it turned out to be gone from there.
const TRIES: u32 = 4;

/// Reads a range of an object, front to back.
pub(super) struct Reader {
    objects: Objects,
    /// Where the next batch must be read.
    threads: Threads,
    bucket: Arc<OpenBucket>,
    /// Parts not opened yet.
    parts: VecDeque<PartRef>,
    /// Where further parts are listed.
    manifest: Option<Manifest>,
    /// Bytes of `parts` to pass over before the first wanted one.
    skip: u64,
    /// Bytes still to give.
    left: u64,
    /// Whether a part was opened: an empty object still has a segment to verify.
    started: bool,
    open: Option<OpenPart>,
}

/// Rows of a multipart object's manifest, read as they are needed.
struct Manifest {
    content: Id128,
    /// The last row read.
    last: Vec<u8>,
    /// Keeps the parts from being removed.
    _hold: Hold,
}

struct OpenPart {
    blob: Id128,
    file: BlobFile,
    wanted: Range<u64>,
}

impl Reader {
    /// Reads `range` of the one blob `part`.
    pub fn of_blob(
        objects: &Objects,
        bucket: &Arc<OpenBucket>,
        part: PartRef,
        range: &Range<u64>,
        threads: Threads,
    ) -> Self {
        Self {
            objects: objects.clone(),
            threads,
            bucket: Arc::clone(bucket),
            parts: VecDeque::from([part]),
            manifest: None,
            skip: range.start,
            left: range.end - range.start,
            started: false,
            open: None,
        }
    }

    /// Reads `range` of the multipart content that `hold` holds. Blocks.
    pub fn of_parts(
        objects: &Objects,
        bucket: &Arc<OpenBucket>,
        content: Id128,
        range: &Range<u64>,
        hold: Hold,
        threads: Threads,
    ) -> Result<Self, ReadFault> {
        let upto = manifest_key(content, range.start);
        let rows = objects.0.store.read_blocking(|tx| {
            let (from, to) = (Bound::Included(content.as_bytes().as_slice()), Bound::Included(upto.as_slice()));
            Ok::<_, ObjectError>(tx.scan(MANIFESTS, from, to, Direction::Backward, 1)?)
        })?;
        let Some((key, value)) = rows.into_iter().next() else {
            return Err(ReadFault::Blob(content, Fault("its list of parts is missing").into()));
        };
        Ok(Self {
            objects: objects.clone(),
            threads,
            bucket: Arc::clone(bucket),
            parts: decode::<ManifestRow>(MANIFESTS, &value)?.parts.into(),
            skip: range.start.saturating_sub(number_after_id(MANIFESTS, &key)?),
            manifest: Some(Manifest { content, last: key, _hold: hold }),
            left: range.end - range.start,
            started: false,
            open: None,
        })
    }

    /// Whether everything was given.
    pub fn is_done(&self) -> bool {
        self.started && self.left == 0
    }

    /// Whether there are parts to read that are not known yet, or may be at a backend: where they are the index knows, and
    /// that they are in use whoever deletes there.
    pub fn needs_index(&self) -> bool {
        let may_be_there = self.threads == Threads::Backends || !self.parts.is_empty();
        if may_be_there && !self.objects.0.backends.is_empty() {
            return !self.is_done();
        }
        let known: u64 = self.parts.iter().map(|part| part.size).sum();
        let open = self.open.as_ref().map_or(0, |part| part.wanted.end.saturating_sub(part.wanted.start));
        known.saturating_sub(self.skip).saturating_add(open) < self.left
    }

    /// The next verified bytes, at most [`BATCH_SEGMENTS`] chunks; none at the end, or when the next ones must be read on
    /// other threads. Blocks.
    pub fn next_batch(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        let mut out = Vec::with_capacity(BATCH_SEGMENTS);
        let mut room = BATCH_SEGMENTS;
        while room > 0 && !self.is_done() {
            let mut part = match self.open.take() {
                Some(part) => part,
                None => match self.open_next()? {
                    Some(part) => part,
                    None => break,
                },
            };
            let (chunks, read) = part.next_chunks(room).map_err(|fault| ReadFault::Blob(part.blob, fault))?;
            room = room.saturating_sub(read);
            if !part.wanted.is_empty() {
                self.open = Some(part);
            }
            for chunk in chunks.into_iter().filter(|chunk| !chunk.is_empty()) {
                self.left -= chunk.len() as u64;
                out.push(chunk);
            }
        }
        Ok(out)
    }

    /// The rest as a stream that reads one batch ahead of what is asked for; `first` comes first.
    pub fn stream(self, first: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static {
        let ready = VecDeque::from(first);
        let ahead = (!self.is_done()).then(|| self.read_ahead());
        stream::try_unfold((ready, ahead), |(mut ready, mut ahead)| async move {
            loop {
                if let Some(chunk) = ready.pop_front() {
                    return Ok(Some((chunk, (ready, ahead))));
                }
                let Some(task) = ahead.take() else { return Ok(None) };
                let (reader, batch) = task.await?;
                ready = batch.into();
                ahead = (!reader.is_done()).then(|| reader.read_ahead());
            }
        })
    }

    /// Starts reading the next batch now.
    fn read_ahead(mut self) -> impl Future<Output = Result<(Self, Vec<Bytes>), ObjectError>> + Send + use<> {
        let (threads, objects) = (self.threads, self.objects.clone());
        let read = move || match self.next_batch() {
            Ok(batch) => Ok((self, batch)),
            Err(ReadFault::Other(error)) => Err(error),
            Err(ReadFault::Blob(blob, fault)) => Err(self.objects.unreadable(blob, fault)),
        };
        objects.0.backends.start_on(threads, read)
    }

    /// The next part; `None` when it must be read on other threads.
    fn open_next(&mut self) -> Result<Option<OpenPart>, ReadFault> {
        loop {
            let Some(part) = self.parts.pop_front() else {
                self.next_row()?;
                continue;
            };
            if self.skip > 0 && self.skip >= part.size {
                self.skip -= part.size;
                continue;
            }
            let wanted = self.skip..part.size.min(self.skip.saturating_add(self.left));
            let Some(file) = self.open_part(part, wanted.end)? else {
                self.parts.push_front(part);
                return Ok(None);
            };
            self.skip = 0;
            self.started = true;
            return Ok(Some(OpenPart { blob: part.blob, file, wanted }));
        }
    }

    /// Opens `part` wherever it is; `None` when it must be read on other threads.
    fn open_part(&mut self, part: PartRef, end: u64) -> Result<Option<BlobFile>, ReadFault> {
        let mut placed = self.objects.placed(part.blob)?;
        for _ in 1..TRIES {
            let threads = if placed == Placed::Here { Threads::Disk } else { Threads::Backends };
            // The disk may be read on any, a backend is waited for on its own.
            if std::mem::replace(&mut self.threads, threads) != threads && threads == Threads::Backends {
                return Ok(None);
            }
            let source = self.objects.source(part.blob, &placed);
            match source.and_then(|source| BlobFile::open(source, part.blob, &self.bucket.key, part.size, end)) {
                Err(OpenFault::Missing) => {
                    // It may have been moved in between.
                    let now = self.objects.placed(part.blob)?;
                    if now == placed {
                        return Err(ReadFault::Blob(part.blob, OpenFault::Missing));
                    }
                    placed = now;
                }
                opened => return opened.map(Some).map_err(|fault| ReadFault::Blob(part.blob, fault)),
            }
        }
        Err(ReadFault::Blob(part.blob, OpenFault::Missing))
    }

    fn next_row(&mut self) -> Result<(), ReadFault> {
        let end = |blob| ReadFault::Blob(blob, Fault("its list of parts ends early").into());
        let Some(manifest) = &mut self.manifest else { return Err(end(self.bucket.id)) };
        let to = after_prefix(manifest.content.as_bytes());
        let rows = self.objects.0.store.read_blocking(|tx| {
            let (from, to) = (Bound::Excluded(manifest.last.as_slice()), to.as_ref().map(Vec::as_slice));
            Ok::<_, ObjectError>(tx.scan(MANIFESTS, from, to, Direction::Forward, 1)?)
        })?;
        let (key, value) = rows.into_iter().next().ok_or_else(|| end(manifest.content))?;
        self.parts = decode::<ManifestRow>(MANIFESTS, &value)?.parts.into();
        manifest.last = key;
        Ok(())
    }
}

impl OpenPart {
    /// The wanted bytes of the next segments, at most `most`; and how many segments these are, at least one.
    fn next_chunks(&mut self, most: usize) -> Result<(Vec<Bytes>, usize), OpenFault> {
        let segment = SEGMENT as u64;
        let first = self.wanted.start / segment;
        // An empty body has a segment, too.
        let behind = self.wanted.end.div_ceil(segment).clamp(first + 1, first + most.max(1) as u64);
        let (from, to) = (u32::try_from(first).unwrap_or(u32::MAX), u32::try_from(behind).unwrap_or(u32::MAX));
        let mut chunks = self.file.read_segments(from..to)?;
        let read = chunks.len().max(1);
        let mut begin = first * segment;
        for chunk in &mut chunks {
            let skip = self.wanted.start.saturating_sub(begin).min(chunk.len() as u64) as usize;
            let end = self.wanted.end.saturating_sub(begin).min(chunk.len() as u64) as usize;
            *chunk = chunk.slice(skip.min(end)..end);
            self.wanted.start += chunk.len() as u64;
            begin += segment;
        }
        Ok((chunks, read))
    }
}
