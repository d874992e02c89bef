//! Writes one snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::time::Duration;

use super::chunker::LARGEST_CHUNK;
use super::fetch::{ContentBuilder, Fetcher, Ids, NextId};
use super::format::document;
use super::format::entry::{Entry, EntryPath, Kind, LONGEST_IDENTITY, LONGEST_LINK, Meta};
use super::format::index::{Indexed, MOST_INDEXED, MOST_PACKS, PENDING, Table};
use super::format::keys::Sealed;
use super::format::pack::pack_hash;
use super::format::{ChunkId, Content};
use super::listing::{ListingReader, ListingWriter};
use super::load::{Purpose, add, snapshot_names, too_many};
use super::pipeline::{Lane, Pipeline};
use super::prune::GRACE;
use super::repository::{Inner, Repository};
use super::snapshot::{Fault, Head, MOST_FAULTS, NewSnapshot, SnapshotInfo, SnapshotName};
use super::{BackupError, Counts, Progress, pieces};
use crate::base::ids::hex;
use crate::base::random;

/// Bytes of a file looked at at once: the largest chunk must fit, several of the mean do.
const BUFFER: usize = LARGEST_CHUNK;

/// A prune's grace less this is how long a snapshot may take beside it.
const SAFETY: Duration = Duration::from_hours(1);

/// A snapshot being written. Dropped without [`SnapshotWriter::finish`], it leaves no snapshot; the packs it wrote are
/// adopted by the next run.
#[derive(Debug)]
pub struct SnapshotWriter {
    repository: Repository,
    new: NewSnapshot,
    sink: Sink,
    listing: ListingWriter,
    last: Option<EntryPath>,
    previous: Option<Previous>,
    faults: Vec<Fault>,
    fault_count: u64,
    adopted: usize,
    missing: Vec<String>,
    buffer: Vec<u8>,
}

/// What [`SnapshotWriter::finish`] gives.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Its name and hash, to be remembered outside the repository.
    pub head: Head,
    /// Packs a killed run had left, whose chunks this one did not write again.
    pub adopted_packs: usize,
    /// Packs the index names that were gone or cut when the run began: damage. Chunks of files read anew were written
    /// again.
    pub missing_packs: Vec<String>,
}

/// Where chunks go.
struct Sink {
    table: Table,
    pipeline: Pipeline,
    keys: std::sync::Arc<super::format::keys::RepositoryKeys>,
    progress: Progress,
    counts: Counts,
    /// Packs stored that no index names yet.
    unindexed: Vec<Indexed>,
    /// Packs of earlier runs this snapshot relies on, by number.
    used: BTreeSet<u32>,
}

impl Sink {
    /// The chunk's id; it is sent on its way when it is new.
    fn store(&mut self, lane: Lane, bytes: &[u8]) -> Result<ChunkId, BackupError> {
        let id = self.keys.chunk_id(bytes);
        if self.table.claim(&id).map_err(|_full| too_many(&self.table))? {
            if lane == Lane::Data {
                self.counts.bytes_new += bytes.len() as u64;
                self.progress.new_bytes(bytes.len() as u64);
            }
            self.pipeline.send(id, lane, bytes)?;
            let stored: Vec<Indexed> = self.pipeline.stored().collect();
            self.take_in(stored)?;
        } else {
            self.uses(&id);
        }
        Ok(id)
    }

    /// Stores the next chunk of a file's content.
    fn chunk(&mut self, chunk: &[u8], ids: &mut ContentBuilder) -> Result<(), BackupError> {
        self.progress.go_on()?;
        let id = self.store(Lane::Data, chunk)?;
        self.counts.bytes += chunk.len() as u64;
        self.progress.read(chunk.len() as u64);
        ids.push(id, &mut |bytes| self.store(Lane::List, &bytes))
    }

    fn uses(&mut self, id: &ChunkId) {
        if let Some(place) = self.table.find(id).filter(|place| place.pack != PENDING) {
            self.used.insert(place.pack);
        }
    }

    fn take_in(&mut self, stored: Vec<Indexed>) -> Result<(), BackupError> {
        for (info, entries) in stored {
            self.counts.bytes_stored += info.size;
            add(&mut self.table, info.clone(), &entries, false)?;
            self.unindexed.push((info, entries));
        }
        Ok(())
    }

    fn index_is_due(&self) -> bool {
        self.unindexed.len() >= MOST_PACKS || self.unindexed.iter().map(|(_, e)| e.len()).sum::<usize>() >= MOST_INDEXED
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The newest snapshot of the same source, read along.
#[derive(Debug)]
struct Previous {
    listing: ListingReader,
    fetcher: Fetcher,
    next: Option<Entry>,
}

impl Previous {
    /// The entry at `path`; entries before it are passed over.
    fn at(&mut self, path: &EntryPath, table: &Table) -> Option<&Entry> {
        loop {
            if self.next.as_ref().is_some_and(|entry| entry.path >= *path) {
                return self.next.as_ref().filter(|entry| entry.path == *path);
            }
            self.next = match self.listing.next(table, &mut self.fetcher) {
                Some(Ok(entry)) => Some(entry),
                // What cannot be read is read anew from the source.
                Some(Err(_)) => continue,
                None => return None,
            };
        }
    }
}

impl SnapshotWriter {
    pub(super) fn new(repository: &Repository, new: NewSnapshot, progress: Progress) -> Result<Self, BackupError> {
        let inner = &repository.0;
        repository.forget_table();
        let loaded = inner.load(Purpose::Write, &progress)?;
        let previous = newest_of(inner, &new.source)?.map(|snapshot| Previous {
            listing: ListingReader::new(&snapshot.listing),
            fetcher: repository.fetcher(),
            next: None,
        });
        let pipeline = Pipeline::start(&inner.keys, &inner.target, &inner.random, &progress)?;
        let sink = Sink {
            table: loaded.table,
            pipeline,
            keys: std::sync::Arc::clone(&inner.keys),
            progress,
            counts: Counts::default(),
            unindexed: Vec::new(),
            used: BTreeSet::new(),
        };
        let mut missing = loaded.missing;
        missing.extend(loaded.cut);
        let mut adopted = loaded.adopted;
        let count = adopted.len();
        inner.put_index(&mut adopted)?;
        Ok(Self {
            repository: repository.clone(),
            new,
            sink,
            listing: ListingWriter::default(),
            last: None,
            previous,
            faults: Vec::new(),
            fault_count: 0,
            adopted: count,
            missing,
            buffer: Vec::new(),
        })
    }

    /// Adds an entry. `content` is read to its end for a [`Kind::File`] and not at all for the others. Returns the bytes
    /// read.
    ///
    /// Entries come in the order of their paths; a folder's own entry may be left out. Blocks while the pipeline is full.
    ///
    /// # Errors
    /// [`BackupError::Source`] when `content` fails, [`BackupError::Unordered`]: the entry is not in the snapshot and the
    /// next may be added. After any other error the snapshot cannot be finished.
    pub fn add(&mut self, path: &EntryPath, meta: &Meta, content: &mut dyn Read) -> Result<u64, BackupError> {
        self.add_watched(path, meta, content, &mut || false)
    }

    /// As [`SnapshotWriter::add`]; `changed` is asked once the content was read.
    pub(super) fn add_watched(
        &mut self,
        path: &EntryPath,
        meta: &Meta,
        content: &mut dyn Read,
        changed: &mut dyn FnMut() -> bool,
    ) -> Result<u64, BackupError> {
        self.check(path, meta)?;
        let (content, size) = match meta.kind {
            Kind::File => self.store(path, content)?,
            Kind::Folder | Kind::Symlink { .. } | Kind::HardLink { .. } => (Content::default(), 0),
        };
        let changed = meta.kind == Kind::File && changed();
        let mut meta = Meta { size, ..meta.clone() };
        if changed {
            meta.identity.clear();
        }
        self.push(Entry { path: path.clone(), meta, changed, content })?;
        Ok(size)
    }

    /// Takes the content of `path` over from the newest snapshot of the same source, unread, if it has a file there with
    /// the same size, time of change and (non-empty) identity, all of whose chunks are still in the repository. Says
    /// whether it did; when not, [`SnapshotWriter::add`] the file.
    ///
    /// # Errors
    /// As [`SnapshotWriter::add`].
    pub fn reuse(&mut self, path: &EntryPath, meta: &Meta) -> Result<bool, BackupError> {
        self.check(path, meta)?;
        let Some(previous) = self.previous.as_mut() else { return Ok(false) };
        let Some(entry) = previous.at(path, &self.sink.table) else { return Ok(false) };
        let same = entry.meta.kind == Kind::File
            && meta.kind == Kind::File
            && !entry.changed
            && !meta.identity.is_empty()
            && entry.meta.identity == meta.identity
            && entry.meta.size == meta.size
            && entry.meta.modified == meta.modified;
        if !same {
            return Ok(false);
        }
        let content = entry.content.clone();
        let Some(chunks) = all_there(&content, &self.sink.table, &mut previous.fetcher) else { return Ok(false) };
        self.sink.used.extend(chunks);
        self.sink.counts.bytes += meta.size;
        self.sink.progress.read(meta.size);
        self.push(Entry { path: path.clone(), meta: meta.clone(), changed: false, content })?;
        Ok(true)
    }

    /// Notes something the snapshot does not hold as it should.
    pub fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Completes the snapshot: the last packs, then the index, then the snapshot itself. Once it returns, the snapshot
    /// survives power loss.
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::Overtaken`], [`BackupError::Cancelled`]: there is no snapshot (but after a
    /// [`BackupError::Target`] in the very last step it may be there, whole).
    pub fn finish(mut self) -> Result<Finished, BackupError> {
        self.sink.progress.go_on()?;
        let sink = &mut self.sink;
        let listing = std::mem::take(&mut self.listing).finish(&mut |bytes| sink.store(Lane::List, &bytes))?;
        let stored = sink.pipeline.finish()?;
        sink.take_in(stored)?;
        let inner = &self.repository.0;
        inner.put_index(&mut sink.unindexed)?;
        self.still_there()?;
        let names = snapshot_names(inner.target.as_ref())?;
        let newest = names.last().map_or(0, SnapshotName::sequence);
        let mut previous = Vec::new();
        for name in names.into_iter().filter(|name| name.sequence() == newest) {
            // A damaged or forged newest one must not stop new backups; the survey is loud about it.
            if let Ok((_, hash)) = inner.read_snapshot(&name) {
                previous.push(Head { name, hash });
            }
        }
        let number = newest.checked_add(1).ok_or(BackupError::TooMany {
            what: "snapshot numbers",
            found: newest,
            limit: u64::MAX - 1,
        })?;
        let suffix = hex(&random::bytes::<8>(inner.random.as_ref()));
        let name = SnapshotName(format!("{number:016x}-{suffix}"));
        let info = SnapshotInfo {
            name: name.clone(),
            source: self.new.source.clone(),
            host: self.new.host.clone(),
            started: self.new.started,
            finished: inner.clock.now(),
            counts: self.sink.counts,
            fault_count: self.fault_count,
            faults: std::mem::take(&mut self.faults),
            listing,
            previous,
        };
        let plain =
            serde_json::to_vec(&info).map_err(|error| BackupError::damaged(name.as_str(), error.to_string()))?;
        let file = document::seal(&inner.keys, Sealed::Snapshot, name.as_str(), plain, inner.random.as_ref());
        let hash = *blake3::hash(&file).as_bytes();
        self.sink.progress.go_on()?;
        inner.target.put(&format!("snapshots/{name}"), &file)?;
        self.repository.forget_table();
        Ok(Finished {
            info,
            head: Head { name, hash },
            adopted_packs: self.adopted,
            missing_packs: std::mem::take(&mut self.missing),
        })
    }

    /// Whether a file changed at `seconds` since 1970 changed within `span` before now, or after it.
    pub(super) fn is_recent(&self, seconds: i64, span: Duration) -> bool {
        let now = i64::try_from(self.repository.0.clock.now().seconds()).unwrap_or(i64::MAX);
        now.saturating_sub(seconds) <= i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
    }

    fn check(&self, path: &EntryPath, meta: &Meta) -> Result<(), BackupError> {
        self.sink.progress.go_on()?;
        if let Some(last) = self.last.as_ref().filter(|last| *last >= path) {
            return Err(BackupError::Unordered { path: path.to_string(), last: last.to_string() });
        }
        let bound = |what, found: usize, limit: usize| {
            let (found, limit) = (found as u64, limit as u64);
            if found > limit { Err(BackupError::TooMany { what, found, limit }) } else { Ok(()) }
        };
        bound("bytes of an identity", meta.identity.len(), LONGEST_IDENTITY)?;
        if let Kind::Symlink { target } = &meta.kind {
            bound("bytes of a link's target", target.len(), LONGEST_LINK)?;
        }
        Ok(())
    }

    fn push(&mut self, mut entry: Entry) -> Result<(), BackupError> {
        entry.meta.mode &= 0o7777;
        entry.meta.modified.nanos = entry.meta.modified.nanos.min(999_999_999);
        let sink = &mut self.sink;
        self.listing.push(&entry, &mut |bytes| sink.store(Lane::List, &bytes))?;
        sink.counts.files += 1;
        sink.progress.file();
        self.last = Some(entry.path);
        if self.sink.index_is_due() {
            self.repository.0.put_index(&mut self.sink.unindexed)?;
        }
        Ok(())
    }

    /// Cuts a file into chunks as it is read.
    fn store(&mut self, path: &EntryPath, content: &mut dyn Read) -> Result<(Content, u64), BackupError> {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        let mut ids = ContentBuilder::default();
        let mut total = 0u64;
        let (mut start, mut end, mut over) = (0, 0, false);
        loop {
            let bytes = self.buffer.get(start..end).unwrap_or_default();
            let cut = self.repository.0.chunker.cut(bytes);
            if cut == bytes.len() && cut < LARGEST_CHUNK && !over {
                // The cut is where the bytes end, not where the content says: it is looked for again with more of them.
                self.buffer.copy_within(start..end, 0);
                end -= start;
                start = 0;
                while end < BUFFER && !over {
                    let room = self.buffer.get_mut(end..).unwrap_or_default();
                    match content.read(room) {
                        Ok(0) => over = true,
                        Ok(count) => end = (end + count).min(BUFFER),
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(source) => return Err(BackupError::Source { path: path.to_string(), source }),
                    }
                }
                continue;
            }
            let Some(chunk) = bytes.get(..cut).filter(|chunk| !chunk.is_empty()) else { break };
            total += chunk.len() as u64;
            start += chunk.len();
            self.sink.chunk(chunk, &mut ids)?;
            if self.sink.index_is_due() {
                self.repository.0.put_index(&mut self.sink.unindexed)?;
            }
        }
        let sink = &mut self.sink;
        Ok((ids.finish(&mut |bytes| sink.store(Lane::List, &bytes))?, total))
    }

    /// Adds a file whose content comes in pieces, each in chunks of its own (see [`pieces`]): a
    /// damaged chunk costs the one piece it is of. Otherwise as [`SnapshotWriter::add`].
    ///
    /// # Errors
    /// As [`SnapshotWriter::add`].
    pub(super) fn add_pieces(
        &mut self,
        path: &EntryPath,
        meta: &Meta,
        next: &mut dyn FnMut() -> std::io::Result<Option<Vec<u8>>>,
    ) -> Result<u64, BackupError> {
        self.check(path, meta)?;
        let mut ids = ContentBuilder::default();
        let mut total = 0u64;
        let failed = |source| BackupError::Source { path: path.to_string(), source };
        let mut chunk = Vec::new();
        while let Some(piece) = next().map_err(failed)? {
            let mut left = piece.as_slice();
            chunk.clear();
            chunk.push(pieces::BEGINS);
            chunk.extend_from_slice(&(piece.len() as u64).to_le_bytes());
            loop {
                let (now, later) = left.split_at(left.len().min(LARGEST_CHUNK.saturating_sub(chunk.len())));
                chunk.extend_from_slice(now);
                left = later;
                total += chunk.len() as u64;
                self.sink.chunk(&chunk, &mut ids)?;
                if left.is_empty() {
                    break;
                }
                chunk.clear();
                chunk.push(pieces::CONTINUES);
            }
            if self.sink.index_is_due() {
                self.repository.0.put_index(&mut self.sink.unindexed)?;
            }
        }
        let sink = &mut self.sink;
        let content = ids.finish(&mut |bytes| sink.store(Lane::List, &bytes))?;
        let meta = Meta { size: total, identity: pieces::IDENTITY.to_vec(), ..meta.clone() };
        self.push(Entry { path: path.clone(), meta, changed: false, content })?;
        Ok(total)
    }

    /// Packs of earlier runs this snapshot relies on must not have been pruned while it was written.
    fn still_there(&self) -> Result<(), BackupError> {
        let inner = &self.repository.0;
        let mut used = BTreeSet::new();
        used.extend(self.sink.used.iter().filter_map(|pack| Some(self.sink.table.pack(*pack)?.hash)));
        if used.is_empty() {
            return Ok(());
        }
        let long = inner.clock.now().since(self.new.started) > GRACE.saturating_sub(SAFETY);
        if long && inner.marked()?.keys().any(|hash| used.contains(hash)) {
            return Err(BackupError::Overtaken);
        }
        for listed in inner.target.list("packs")? {
            if let Some(hash) = pack_hash(&listed.name) {
                used.remove(&hash);
            }
        }
        if used.is_empty() { Ok(()) } else { Err(BackupError::Overtaken) }
    }
}

/// The newest readable snapshot of `source`.
fn newest_of(inner: &Inner, source: &str) -> Result<Option<SnapshotInfo>, BackupError> {
    for name in snapshot_names(inner.target.as_ref())?.into_iter().rev() {
        match inner.read_snapshot(&name) {
            Ok((snapshot, _)) if snapshot.source == source => return Ok(Some(snapshot)),
            Ok(_) | Err(BackupError::Damaged { .. } | BackupError::NoSuchSnapshot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The packs that hold `content`, if all of it is there.
fn all_there(content: &Content, table: &Table, fetcher: &mut Fetcher) -> Option<VecDeque<u32>> {
    let mut ids = Ids::new(content);
    let mut packs = VecDeque::new();
    while let Some(next) = ids.step() {
        let (NextId::Bytes(id) | NextId::List(id, _)) = next;
        let pack = table.find(&id)?.pack;
        if pack != PENDING && packs.back() != Some(&pack) {
            packs.push_back(pack);
        }
        if let NextId::List(id, depth) = next {
            ids.enter(depth, &fetcher.chunk(table, &id).ok()?)?;
        }
    }
    Some(packs)
}
