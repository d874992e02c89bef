//! What redb stands on: a [`DiskFile`], so that tests can make every read, write and sync fail.
//!
//! redb keeps the first I/O error to itself and refuses everything after it. Whether the file may be used again depends
//! on what failed, so that is noted here, below redb: see [`Trouble`].

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::prerequisite::Prerequisites;
use crate::base::DiskFile;
use crate::base::disk::read_exact_at;

/// The worst that happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A read failed. Nothing is lost; opening the file again starts over.
    Read(String),
    /// The disk is full (or the user's share of it). What was not committed was not; opening the file again starts over.
    Full,
    /// A sync, or a write for another reason than room, failed. What reached the disk is unknown and no second sync can
    /// tell ("fsyncgate"), so nothing may be written until a restart has read the file afresh.
    Broken(String),
}

/// Where the backend notes a failure and the engine looks for it. The worst one counts.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Failure>>);

impl Trouble {
    /// Takes the note; that the file is [`Failure::Broken`] stays noted.
    pub(super) fn take(&self) -> Option<Failure> {
        let mut noted = self.lock();
        if matches!(*noted, Some(Failure::Broken(_))) { noted.clone() } else { noted.take() }
    }

    fn note(&self, failure: Failure) {
        let mut noted = self.lock();
        let rank = |failure: &Failure| match failure {
            Failure::Read(_) => 0,
            Failure::Full => 1,
            Failure::Broken(_) => 2,
        };
        if noted.as_ref().is_none_or(|before| rank(before) < rank(&failure)) {
            *noted = Some(failure);
        }
    }

    fn refuse_when_broken(&self) -> io::Result<()> {
        match &*self.lock() {
            Some(Failure::Broken(reason)) => Err(io::Error::other(reason.clone())),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file itself.
#[derive(Debug)]
pub(super) struct FileBackend {
    file: Box<dyn DiskFile>,
    trouble: Arc<Trouble>,
    prerequisites: Arc<Prerequisites>,
}

impl FileBackend {
    pub(super) fn new(file: Box<dyn DiskFile>, trouble: Arc<Trouble>, prerequisites: Arc<Prerequisites>) -> Self {
        Self { file, trouble, prerequisites }
    }

    fn writing(&self, what: &str, action: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.trouble.refuse_when_broken()?;
        action().inspect_err(|error| {
            self.trouble.note(if is_full(error) { Failure::Full } else { Failure::Broken(format!("{what}: {error}")) });
        })
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len().inspect_err(|error| self.trouble.note(Failure::Read(error.to_string())))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(self.file.as_ref(), offset, out)
            .inspect_err(|error| self.trouble.note(Failure::Read(error.to_string())))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writing("changing the file's length failed", || self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trouble.refuse_when_broken()?;
        // Even "no space" (a thin volume, NFS) leaves the unsynced bytes in doubt here.
        self.file
            .sync_data()
            .inspect_err(|error| self.trouble.note(Failure::Broken(format!("syncing the file failed: {error}"))))?;
        // No trouble of this file: what the commit wrote stays unused.
        self.prerequisites.pass()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writing("writing the file failed", || self.file.write_at(offset, data))
    }
}

/// Whether `error` says that the disk, or what this user may use of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Bytes of a page of [`ScratchBackend`]; redb writes in multiples of it.
const PAGE: usize = 4096;

/// The file as it is, with changes kept in memory: redb writes a little even when it only reads (its recovery flag, the
/// repair after a crash), and this lets it look at a file that must not or cannot be written.
#[derive(Debug)]
pub(super) struct ScratchBackend {
    file: Box<dyn DiskFile>,
    scratch: Mutex<Scratch>,
}

#[derive(Debug)]
struct Scratch {
    len: u64,
    /// Bytes of the file that still count; less than its length after a cut.
    from_file: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl ScratchBackend {
    pub(super) fn new(file: Box<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, scratch: Mutex::new(Scratch { len, from_file: len, pages: BTreeMap::new() }) })
    }

    fn scratch(&self) -> MutexGuard<'_, Scratch> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, scratch: &Scratch, number: u64) -> io::Result<Box<[u8; PAGE]>> {
        if let Some(page) = scratch.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = Box::new([0; PAGE]);
        let start = number * PAGE as u64;
        let there = scratch.from_file.saturating_sub(start).min(PAGE as u64) as usize;
        read_exact_at(self.file.as_ref(), start, &mut page[..there])?;
        Ok(page)
    }
}

/// Splits `offset..offset + len` at page borders: page number, start in the page, start in the span, bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let inside = (at % PAGE as u64) as usize;
        let count = (PAGE - inside).min(len - done);
        let piece = (at / PAGE as u64, inside, done, count);
        done += count;
        (count > 0).then_some(piece)
    })
}

impl StorageBackend for ScratchBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.scratch().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let scratch = self.scratch();
        if offset.saturating_add(out.len() as u64) > scratch.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, inside, start, count) in pieces(offset, out.len()) {
            let page = self.page(&scratch, number)?;
            out[start..start + count].copy_from_slice(&page[inside..inside + count]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut scratch = self.scratch();
        if len < scratch.len {
            scratch.from_file = scratch.from_file.min(len);
            let cut = len / PAGE as u64;
            drop(scratch.pages.split_off(&(cut + 1)));
            if let Some(page) = scratch.pages.get_mut(&cut) {
                page[(len % PAGE as u64) as usize..].fill(0);
            }
        }
        scratch.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut scratch = self.scratch();
        for (number, inside, start, count) in pieces(offset, data.len()) {
            let mut page = self.page(&scratch, number)?;
            page[inside..inside + count].copy_from_slice(&data[start..start + count]);
            scratch.pages.insert(number, page);
        }
        scratch.len = scratch.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::disk::replace_file;
    use crate::base::{Disk, OpenMode};
    use crate::testing::{Fault, FaultyDisk};

    fn file(content: &[u8]) -> (FaultyDisk, Box<dyn DiskFile>) {
        let (disk, path) = (FaultyDisk::new(), Path::new("/a"));
        replace_file(&disk, path, content).unwrap();
        let file = disk.open(path, OpenMode::ReadWrite).unwrap();
        (disk, file)
    }

    fn all(backend: &ScratchBackend) -> Vec<u8> {
        let mut out = vec![0; backend.len().unwrap() as usize];
        backend.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn scratch_changes_are_seen_and_leave_the_file_alone() {
        let (disk, open) = file(&[1; 6000]);
        let scratch = ScratchBackend::new(open).unwrap();
        scratch.write(4000, &[2; 200]).unwrap();
        scratch.set_len(9000).unwrap();
        let mut expected = [[1; 4000].as_slice(), &[2; 200], &[1; 1800], &[0; 3000]].concat();
        assert_eq!(all(&scratch), expected);
        scratch.set_len(4100).unwrap();
        scratch.set_len(5000).unwrap();
        expected.truncate(4100);
        expected.resize(5000, 0);
        assert_eq!(all(&scratch), expected);
        assert!(scratch.read(4999, &mut [0; 2]).is_err());
        assert_eq!(crate::base::disk::read_file(&disk, Path::new("/a"), 10_000).unwrap().unwrap(), [1; 6000]);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written_any_more() {
        let (disk, open) = file(b"");
        let trouble = Arc::new(Trouble::default());
        let backend = FileBackend::new(open, Arc::clone(&trouble), Arc::default());
        disk.fail_at(1, Fault::SyncError);
        assert!(backend.sync_data().is_err());
        let before = disk.operations();
        assert!(backend.write(0, b"x").is_err() && backend.sync_data().is_err() && backend.set_len(1).is_err());
        assert_eq!(disk.operations(), before);
        assert!(matches!(trouble.take(), Some(Failure::Broken(_))));
        assert!(matches!(trouble.take(), Some(Failure::Broken(_))));
    }

    #[test]
    fn a_full_disk_is_noted_as_such_and_forgiven() {
        let (disk, open) = file(b"");
        let trouble = Arc::new(Trouble::default());
        let backend = FileBackend::new(open, Arc::clone(&trouble), Arc::default());
        disk.fail_at(1, Fault::NoSpace);
        assert!(backend.write(0, b"x").is_err());
        assert_eq!(trouble.take(), Some(Failure::Full));
        backend.write(0, b"x").unwrap();
        assert_eq!(trouble.take(), None);
    }
}
