//! Blobs as files: `blobs/ab/<id>`, `ab` being the first two digits of the id.
//!
//! A blob grows under `blobs/ab/<id>.tmp`. When it is whole, the file is synced, then its folder, and only then it gets
//! its final name: so a file under a final name is whole, always. That last renaming is not synced. A power cut may take
//! it back, and then the blob lies, whole, under the name that was synced: whoever opens or removes a blob looks for both
//! ([`BlobFolder::open_file`]), and a sweep gives it its final name again. Syncing the folder before the renaming costs
//! next to nothing, since the file's own sync has just written the folder's change with it (ext4, XFS, btrfs); after it, it
//! would be a second commit of the file system's journal.
//!
//! A sync that failed is not made again: what it left unwritten, the system may have forgotten, and the next one would
//! answer that all is well. The upload fails, and so does every later one until a restart. All functions block.

use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::open::{Opened, footer_len};
use super::rewrap::prove;
use super::seal::{Batch, Sealer};
use super::source::Source;
use super::{BATCH_SEGMENTS, BucketKey, Fault, Footer, HEADER, RECORD_MAX, Record};
use crate::base::{Disk, DiskFile, Entry, EntryKind, Id128, OpenMode, Random, Timestamp, disk};
use crate::crypto::aead::TAG;
use crate::crypto::stream::{SEALED_SEGMENT, SEGMENT};
use crate::objects::backends::{BackendError, Trouble};
use crate::objects::types::Checksum;

/// Ending of a blob that is not whole yet.
const TEMPORARY: &str = "tmp";

/// The folder of blobs. Clones are the same folder.
#[derive(Clone, Debug)]
pub(in crate::objects) struct BlobFolder {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Which sync failed, and how.
    broken: Arc<OnceLock<String>>,
}

/// What a name below the folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::objects) enum Named {
    /// A whole blob.
    Blob(Id128),
    /// One in the making, or the leftover of one.
    Temporary(Id128),
    /// Nothing of ours.
    Foreign,
}

impl BlobFolder {
    /// The folder `root`, with its 256 inner folders made durable.
    pub fn open(disk: Arc<dyn Disk>, root: PathBuf) -> io::Result<Self> {
        let folder = Self { disk, root, broken: Arc::default() };
        for inner in folder.inner() {
            folder.disk.create_dir(&inner)?;
        }
        folder.disk.sync_dir(&folder.root)?;
        Ok(folder)
    }

    /// The inner folders.
    pub fn inner(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (0..=u8::MAX).map(|first| self.root.join(format!("{first:02x}")))
    }

    /// What `entry` of an inner folder is.
    pub fn identify(entry: &Entry) -> Named {
        let name = entry.path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let ending = entry.path.extension().map(|ending| ending.to_str());
        match (entry.kind, name, ending) {
            (EntryKind::File, Some(id), None) => Named::Blob(id),
            (EntryKind::File, Some(id), Some(Some(TEMPORARY))) => Named::Temporary(id),
            _ => Named::Foreign,
        }
    }

    /// Where the blob `id` lies.
    pub fn path(&self, id: Id128) -> PathBuf {
        let name = id.to_string();
        self.root.join(name.get(..2).unwrap_or_default()).join(name)
    }

    /// Where the blob `id` grows, and where a power cut may have left it.
    pub fn temporary(&self, id: Id128) -> PathBuf {
        self.path(id).with_extension(TEMPORARY)
    }

    /// The disk underneath.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether blobs can be made.
    ///
    /// # Errors
    /// A sync has failed since the start.
    pub fn usable(&self) -> io::Result<()> {
        match self.broken.get() {
            Some(reason) => Err(io::Error::other(format!("{reason}, so no upload is taken until a restart"))),
            None => Ok(()),
        }
    }

    /// Syncs the file of one blob. That the disk is full is told to whoever wrote the file, and to nobody else: a file
    /// system that places bytes late (ext4, xfs) loses those of this file then. The file is never synced again, it is given
    /// up, and what has been synced stays so. Any other failure is remembered.
    fn sync_file(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.sync_data().inspect_err(|error| {
            if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                self.give_up(&format!("syncing a blob failed: {error}"));
            }
        })
    }

    /// Syncs the folder of a blob. Every failure is remembered, a full disk too: the names of other uploads may be among what
    /// was lost, and their own sync, right after this one, would not be told.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let synced = self.disk.sync_dir(folder);
        synced.inspect_err(|error| self.give_up(&format!("syncing a folder of blobs failed: {error}")))
    }

    fn give_up(&self, reason: &str) {
        tracing::error!(reason, "no upload is taken until a restart");
        // The first failure stays the reason.
        let _ = self.broken.set(reason.to_owned());
    }

    /// Makes `file` durable under its first name, which has all bytes of the blob `id`; only then it may get its final name.
    pub fn sync(&self, id: Id128, file: &dyn DiskFile) -> io::Result<()> {
        self.sync_file(file)?;
        // The order is the argument: under its first name the file is durable when the second one is given.
        self.sync_folder(disk::parent(&self.path(id)))?;
        // If another upload was told of a failure of this folder, this one was not.
        self.usable()
    }

    /// Opens the blob `id` for reading, under whichever of its names it has.
    pub fn open_file(&self, id: Id128) -> io::Result<Box<dyn DiskFile>> {
        for path in self.names(id) {
            match self.disk.open(&path, OpenMode::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Gives the blob `id` its final name, not durably; fine when it has it, or is gone.
    pub fn give_name(&self, id: Id128) -> io::Result<()> {
        match self.disk.rename(&self.temporary(id), &self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the blob `id` and tells how many bytes that freed; 0 when it is not there. Not durable by itself: a blob
    /// that comes back after a power cut is found by the sweep.
    pub fn remove(&self, id: Id128) -> io::Result<u64> {
        for path in self.names(id) {
            let Some(entry) = self.disk.entry(&path)? else { continue };
            match self.disk.remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => return removed.map(|()| entry.len),
            }
        }
        Ok(0)
    }

    /// Where the blob `id` may lie, in the order to look there: the final name twice, for a sweep may give it in between.
    pub(super) fn names(&self, id: Id128) -> [PathBuf; 3] {
        let path = self.path(id);
        [path.clone(), self.temporary(id), path]
    }
}

/// Removes the file at `path`; fine when there is none.
pub(in crate::objects) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A blob with all its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::objects) struct Written {
    /// Plaintext bytes.
    pub size: u64,
    /// MD5 of the plaintext.
    pub md5: [u8; 16],
    /// Bytes of the file.
    pub stored: u64,
}

/// A blob file in the making. Dropped before [`BlobWriter::finish`], it removes its file.
pub(in crate::objects) struct BlobWriter {
    folder: BlobFolder,
    id: Id128,
    file: Option<Box<dyn DiskFile>>,
    sealer: Sealer,
    offset: u64,
    /// How far the system was asked to write out.
    begun: u64,
}

/// Bytes a file has at least when the system is asked to write them out, and at most until it is asked again.
const WRITE_OUT: RangeInclusive<u64> = 256 << 10..=1 << 20;

/// What a file system keeps in one piece in memory; writing out half of one would write it twice.
const PAGE: u64 = 4096;

impl BlobWriter {
    /// Creates the temporary file of `id` and writes the blob's head.
    pub fn create(
        folder: BlobFolder,
        id: Id128,
        key: &BucketKey,
        record: &Record,
        random: &dyn Random,
    ) -> io::Result<Self> {
        folder.usable()?;
        let sealer = Sealer::new(id, key, record, random);
        let file = folder.disk.open(&folder.temporary(id), OpenMode::CreateNew)?;
        let mut writer = Self { folder, id, file: Some(file), sealer, offset: 0, begun: 0 };
        let head = writer.sealer.head().to_vec();
        writer.append(&head)?;
        Ok(writer)
    }

    /// Hashes, seals and writes the batch and empties it. `last`: the body ends with it.
    pub fn write(&mut self, batch: &mut Batch, last: bool) -> io::Result<()> {
        let segments = batch.segments();
        let count = segments.len();
        for (index, segment) in segments.iter_mut().enumerate() {
            self.sealer.segment(last && index + 1 == count, segment);
            self.append(segment)?;
        }
        batch.clear();
        if !last {
            self.begin_write_out();
        }
        Ok(())
    }

    /// Has what is written so far on its way to disk while the rest comes in, so that the sync at the end is short. A large
    /// file asks less often.
    fn begin_write_out(&mut self) {
        let end = self.offset - self.offset % PAGE;
        let step = (self.offset / 8).clamp(*WRITE_OUT.start(), *WRITE_OUT.end());
        if let Some(file) = self.file.as_ref().filter(|_| end >= self.begun + step) {
            file.begin_write_out(self.begun, end - self.begun);
            self.begun = end;
        }
    }

    /// MD5 of the plaintext so far.
    pub fn md5(&self) -> [u8; 16] {
        self.sealer.md5()
    }

    /// Writes the footer: all bytes are there then, none of them for certain.
    pub fn end(&mut self, finished: Timestamp, checksum: Option<Checksum>) -> io::Result<Written> {
        let (footer, md5) = self.sealer.footer(finished, checksum);
        self.append(&footer)?;
        Ok(Written { size: self.sealer.size(), md5, stored: self.offset })
    }

    /// Makes the blob durable and gives it its name.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            self.folder.sync(self.id, file.as_ref())?;
        }
        // A sweep may have named it already.
        self.folder.give_name(self.id)?;
        self.file = None;
        Ok(())
    }

    /// Writes the footer of a blob that goes to a backend: its file is read once more, and never gets a name.
    pub fn stage(mut self, finished: Timestamp, checksum: Option<Checksum>) -> io::Result<(Staged, Written)> {
        let (footer, md5) = self.sealer.footer(finished, checksum);
        self.append(&footer)?;
        let file = self.folder.disk.open(&self.folder.temporary(self.id), OpenMode::Read)?;
        let written = Written { size: self.sealer.size(), md5, stored: self.offset };
        Ok((Staged { source: Source::File(file), _writer: self }, written))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_at(self.offset, bytes)?;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A blob that is whole but for a name, neither synced. Dropped, it removes its file.
pub(in crate::objects) struct Staged {
    /// Its bytes.
    pub source: Source,
    _writer: BlobWriter,
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.file.take().is_none() {
            return;
        }
        let (disk, path) = (Arc::clone(&self.folder.disk), self.folder.temporary(self.id));
        // A failure is no harm: the sweep at the next start removes what is left.
        let remove = move || drop(disk.remove_file(&path));
        // A request that is cancelled drops this on an async thread, and unlinking a large file takes milliseconds.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_outside) => remove(),
        }
    }
}

/// Why a blob file cannot be read.
#[derive(Debug)]
pub(in crate::objects) enum OpenFault {
    /// There is no such file.
    Missing,
    /// It is not what was written.
    Corrupt(Fault),
    /// The disk failed.
    Disk(io::Error),
    /// The backend it is at cannot be read from.
    Backend(BackendError),
}

impl From<BackendError> for OpenFault {
    fn from(error: BackendError) -> Self {
        match error.trouble {
            Trouble::Missing => Self::Missing,
            Trouble::Length => Self::Corrupt(Fault::CUT),
            Trouble::Down | Trouble::Refused => Self::Backend(error),
        }
    }
}

impl From<io::Error> for OpenFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::UnexpectedEof => Self::Corrupt(Fault::CUT),
            _ => Self::Disk(error),
        }
    }
}

impl From<Fault> for OpenFault {
    fn from(fault: Fault) -> Self {
        Self::Corrupt(fault)
    }
}

/// A blob open for reading, its header proven. Removing a file's name does not disturb it.
#[derive(Debug)]
pub(in crate::objects) struct BlobFile {
    file: Source,
    opened: Opened,
}

impl BlobFile {
    /// Opens the blob `id`, which has `size` plaintext bytes, of which those up to `end` are going to be read.
    pub fn open(mut file: Source, id: Id128, key: &BucketKey, size: u64, end: u64) -> Result<Self, OpenFault> {
        if file.is_there() && end < size {
            file.will_end_at(0);
        }
        let mut header = [0; HEADER];
        file.read_exact_at(0, &mut header)?;
        let (_, opened) = prove(header, |again| file.read_exact_at(0, again), id, key, size)?;
        if file.len()? < opened.body_end() {
            return Err(Fault::CUT.into());
        }
        if file.is_there() {
            let last = u32::try_from(end.saturating_sub(1) / SEGMENT as u64).unwrap_or(u32::MAX);
            file.will_end_at(opened.segment_offset(last) + opened.segment_len(last) as u64);
        }
        Ok(Self { file, opened })
    }

    /// The plaintext of segment `index`, verified.
    pub fn segment(&self, index: u32) -> Result<Vec<u8>, OpenFault> {
        let mut buffer = self.file.read_vec(self.opened.segment_offset(index), self.opened.segment_len(index))?;
        self.opened.segment(index, &mut buffer)?;
        Ok(buffer)
    }

    /// The plaintext of the segments `wanted`, each verified, with one read. They share their memory.
    pub fn read_segments(&self, wanted: Range<u32>) -> Result<Vec<Bytes>, OpenFault> {
        let len = wanted.clone().map(|index| self.opened.segment_len(index)).sum();
        let mut bytes = self.file.read_vec(self.opened.segment_offset(wanted.start), len)?;
        let plain = self.opened.segments(wanted.start, &mut bytes)?;
        let bytes = Bytes::from(bytes);
        Ok(plain.into_iter().map(|range| bytes.slice(range)).collect())
    }
}

/// What the blob `id` says about itself, verified; for whoever finds it without an index. `key` gives the key of the bucket
/// the header names.
pub(in crate::objects) fn describe(
    file: Source,
    id: Id128,
    key: impl FnOnce(Id128) -> Option<BucketKey>,
) -> Result<(Record, Footer), OpenFault> {
    let mut bucket = [0; 16];
    file.read_exact_at(BUCKET_AT, &mut bucket)?;
    let key = key(Id128::from_bytes(bucket)).ok_or(Fault("its bucket's key is gone"))?;
    let blob = BlobFile::open(file, id, &key, 0, 0)?;
    let record = blob.read(HEADER as u64, blob.opened.segment_offset(0))?;
    let end = blob.file.len()?;
    let tail = blob.read(end.saturating_sub(TAIL), end)?;
    Ok((blob.opened.record(&record)?, blob.opened.footer(&tail)?))
}

/// What the head of the blob `id` says, verified, whatever has become of its body. `key` as for [`describe`].
pub(in crate::objects) fn describe_head(
    file: Source,
    id: Id128,
    key: impl FnOnce(Id128) -> Option<BucketKey>,
) -> Result<Record, OpenFault> {
    let mut header = [0; HEADER];
    file.read_exact_at(0, &mut header)?;
    let key = BlobFile::bucket_in(&header).and_then(key).ok_or(Fault("its bucket's key is gone"))?;
    let (_, opened) = prove(header, |again| file.read_exact_at(0, again), id, &key, 0)?;
    let blob = BlobFile { file, opened };
    let record = blob.read(HEADER as u64, blob.opened.segment_offset(0))?;
    Ok(blob.opened.record(&record)?)
}

/// Where a header tells the bytes of its record.
const RECORD_AT: u64 = 12;

/// Where a header names its bucket.
const BUCKET_AT: u64 = 32;

/// Bytes read from a blob's end to find its footer in.
const TAIL: u64 = 4 << 10;

impl BlobFile {
    /// Most bytes of a blob's head.
    pub const HEAD_MAX: usize = HEADER + RECORD_MAX;

    /// Opens the whole of the blob `id`, whatever its size, for copying it: with its head and what is behind its body.
    /// `key` gives the key of the bucket the header names.
    pub fn open_whole(
        file: Source,
        id: Id128,
        key: impl FnOnce(Id128) -> Option<BucketKey>,
    ) -> Result<(Self, Vec<u8>, Vec<u8>), OpenFault> {
        let mut header = [0; HEADER];
        file.read_exact_at(0, &mut header)?;
        let bucket = Self::bucket_in(&header).ok_or(Fault::CUT)?;
        let key = key(bucket).ok_or(Fault("its bucket's key is gone"))?;
        let (header, opened) = prove(header, |again| file.read_exact_at(0, again), id, &key, 0)?;
        let blob = Self { file, opened };
        let record = blob.read(HEADER as u64, blob.opened.segment_offset(0))?;
        blob.opened.record(&record)?;
        let end = blob.file.len()?;
        let tail = blob.read(end.saturating_sub(TAIL), end)?;
        let footer = blob.opened.footer(&tail)?;
        let start = footer_len(&tail).and_then(|len| tail.len().checked_sub(len)).ok_or(Fault::CUT)?;
        let tail = tail.get(start..).unwrap_or_default().to_vec();
        let blob = Self { file: blob.file, opened: blob.opened.sized(footer.size) };
        if end != blob.opened.body_end() + tail.len() as u64 {
            return Err(Fault("its body has another length than its footer says").into());
        }
        Ok((blob, [&header[..], &record].concat(), tail))
    }

    /// Whether every byte of the blob `id` is there and verifies; false also when there is no such file. Reads all of it.
    pub fn is_whole(folder: &BlobFolder, id: Id128, key: impl FnOnce(Id128) -> Option<BucketKey>) -> io::Result<bool> {
        let look = || {
            let (blob, _, _) = Self::open_whole(Source::file(folder, id)?, id, key)?;
            let mut next = 0;
            while next < blob.segments() {
                let behind = next.saturating_add(BATCH_SEGMENTS as u32).min(blob.segments());
                blob.read_segments(next..behind)?;
                next = behind;
            }
            Ok(())
        };
        match look() {
            Ok(()) => Ok(true),
            Err(OpenFault::Missing | OpenFault::Corrupt(_)) => Ok(false),
            Err(OpenFault::Disk(error)) => Err(error),
            Err(OpenFault::Backend(error)) => Err(io::Error::other(error)),
        }
    }

    /// Bytes of head, plaintext body and tail of the blob `id`, told from the two lengths in its file and the file's own.
    pub fn plain_len(folder: &BlobFolder, id: Id128) -> Result<(u64, u64, u64), OpenFault> {
        let file = folder.open_file(id)?;
        let (mut record, mut footer) = ([0; 4], [0; 4]);
        let end = file.len()?;
        disk::read_exact_at(file.as_ref(), RECORD_AT, &mut record)?;
        disk::read_exact_at(file.as_ref(), end.saturating_sub(4), &mut footer)?;
        let head = HEADER as u64 + u64::from(u32::from_be_bytes(record));
        let tail = u64::from(u32::from_be_bytes(footer)) + 4;
        let sealed = end.checked_sub(head).and_then(|rest| rest.checked_sub(tail)).ok_or(Fault::CUT)?;
        let tags = sealed.div_ceil(SEALED_SEGMENT as u64) * TAG as u64;
        Ok((head, sealed.checked_sub(tags).ok_or(Fault::CUT)?, tail))
    }

    /// The bucket that the header at the start of `head` names.
    pub fn bucket_in(head: &[u8]) -> Option<Id128> {
        let bytes = head.get(BUCKET_AT as usize..)?.first_chunk::<16>()?;
        Some(Id128::from_bytes(*bytes))
    }

    /// Plaintext bytes.
    pub fn size(&self) -> u64 {
        self.opened.size()
    }

    /// Segments of the body.
    pub fn segments(&self) -> u32 {
        u32::try_from(crate::crypto::stream::segments(self.opened.size())).unwrap_or(u32::MAX)
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<u8>, OpenFault> {
        let len = usize::try_from(to.saturating_sub(from)).ok().filter(|len| *len <= RECORD_MAX);
        let mut bytes = vec![0; len.ok_or(Fault("its record or footer is too long"))?];
        self.file.read_exact_at(from, &mut bytes)?;
        Ok(bytes)
    }
}
