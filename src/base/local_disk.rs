//! The machine's file system.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, pread};

use super::Timestamp;
use super::disk::{Disk, DiskFile, Entry, EntryKind, OpenMode, Space};

/// The machine's file system, through plain system calls.
#[derive(Debug, Default, Clone, Copy)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::OpenOrCreate => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Box::new(LocalFile(options.open(path)?)))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut out = Vec::new();
        for item in std::fs::read_dir(path)? {
            let item = item?;
            match item.metadata() {
                Ok(metadata) => out.push(entry(&item.path(), &metadata)),
                // Removed between the listing and the look: not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(entry(path, &metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

fn entry(path: &Path, metadata: &std::fs::Metadata) -> Entry {
    let kind = if metadata.is_file() {
        EntryKind::File
    } else if metadata.is_dir() {
        EntryKind::Folder
    } else {
        EntryKind::Other
    };
    let millis = metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    Entry {
        path: path.to_owned(),
        kind,
        len: if kind == EntryKind::File { metadata.len() } else { 0 },
        modified: Timestamp(u64::try_from(millis).unwrap_or(0)),
    }
}

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < target.len() {
            match self.0.read_at(&mut target[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Into memory that nobody has to fill with zeros before.
    fn read_vec(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            // The allocator may give more than was asked for.
            let at = offset.saturating_add(out.len() as u64);
            match pread(&self.0, spare_capacity(&mut out), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        out.truncate(len);
        Ok(out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    /// `sync_file_range` has no safe wrapper; this advice starts the same writing, and drops no page that is not on disk
    /// (seen with `fincore`, Linux 6.18, 2026-11-26: all pages of a file just written stay).
    fn begin_write_out(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            // A hint that is not taken costs time only.
            let _ = fadvise(&self.0, offset, Some(len), Advice::DontNeed);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk;

    #[test]
    fn a_replaced_file_holds_the_new_bytes_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        disk::replace_file(&LocalDisk, &path, b"one, longer").unwrap();
        disk::replace_file(&LocalDisk, &path, b"two").unwrap();
        assert_eq!(disk::read_file(&LocalDisk, &path, 100).unwrap().unwrap(), b"two");
        assert_eq!(LocalDisk.list(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn an_absent_file_reads_as_none_and_a_large_one_as_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(disk::read_file(&LocalDisk, &path, 1).unwrap().is_none());
        disk::replace_file(&LocalDisk, &path, b"four").unwrap();
        assert_eq!(disk::read_file(&LocalDisk, &path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn bytes_read_into_fresh_memory_are_those_of_the_file_and_never_fewer() {
        let folder = tempfile::tempdir().unwrap();
        let file = LocalDisk.open(&folder.path().join("a"), OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        file.write_at(0, &bytes).unwrap();
        file.begin_write_out(0, 65_536);
        file.begin_write_out(0, 0);
        assert_eq!(file.read_vec(7, 90_000).unwrap(), bytes[7..90_007]);
        assert_eq!(file.read_vec(99_999, 1).unwrap(), bytes[99_999..]);
        assert!(file.read_vec(5, 0).unwrap().is_empty());
        assert_eq!(file.read_vec(99_999, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn new_files_and_folders_belong_to_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("x/y");
        LocalDisk.create_dir(&inner).unwrap();
        LocalDisk.open(&inner.join("f"), OpenMode::CreateNew).unwrap();
        assert_eq!(std::fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(inner.join("f")).unwrap().mode() & 0o777, 0o600);
        let again = LocalDisk.open(&inner.join("f"), OpenMode::CreateNew).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
