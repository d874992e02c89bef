//! Files as an argument: the fault seam.
//!
//! Every durable byte of Mainstay goes through [`Disk`], so that `testing::FaultyDisk` can lose, tear and refuse writes
//! at any step. Calls block: async code runs them on a blocking thread.
//!
//! What a caller may rely on, and nothing more (POSIX, and ext4/xfs/btrfs in practice):
//! - bytes written are durable after [`DiskFile::sync_data`] returned `Ok`, and only if the file's name is;
//! - a name (create, rename, remove) is durable after [`Disk::sync_dir`] of its folder returned `Ok`;
//! - `rename` replaces its target atomically;
//! - after a failed sync the state of the unsynced bytes is unknown, and a second sync proves nothing ("fsyncgate").

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing.
    ReadWrite,
    /// Reading and writing; the file is created with mode 0600 when absent.
    OpenOrCreate,
    /// Reading and writing; fails with `AlreadyExists` when the file is there. Mode 0600.
    CreateNew,
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An ordinary file.
    File,
    /// A folder.
    Folder,
    /// A link, socket, device: nothing Mainstay stores data in.
    Other,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name's full path.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes in the file; 0 for what is no file.
    pub len: u64,
    /// Milliseconds since the Unix epoch of the last change of content.
    pub modified: super::Timestamp,
}

/// Room on the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes an unprivileged process may still write.
    pub available: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An open file. Positioned reads and writes only, so it can be shared between threads.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Bytes in the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Reads up to `target.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the operating system says.
    fn read_at(&self, offset: u64, target: &mut [u8]) -> io::Result<usize>;

    /// The `len` bytes at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else what the operating system says.
    fn read_vec(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; len];
        if self.read_at(offset, &mut out)? == len { Ok(out) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    ///
    /// # Errors
    /// What the operating system says; then any part of `bytes` may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file to `len` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Has the system begin to write out these bytes, already written here, so that [`DiskFile::sync_data`] has less to
    /// wait for. Does not wait, and promises nothing.
    fn begin_write_out(&self, _offset: u64, _len: u64) {}

    /// Makes the file's bytes and length durable (`fdatasync`).
    ///
    /// # Errors
    /// What the operating system says; from then on this file's unsynced bytes are in an unknown state.
    fn sync_data(&self) -> io::Result<()>;
}

/// A file system. [`super::LocalDisk`] in a running server, `testing::FaultyDisk` in crash tests.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Gives the file at `from` the name `to`, replacing what had it. Durable after `sync_dir` of both folders.
    ///
    /// # Errors
    /// What the operating system says; then either name may hold, never half of one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the file at `path`.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Creates the folder `path` and its missing parents with mode 0700; fine when it is there.
    ///
    /// # Errors
    /// What the operating system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in folder `path` durable.
    ///
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in folder `path`, in no order.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// What `path` is; `None` when nothing has that name.
    ///
    /// # Errors
    /// What the operating system says.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;

    /// Room on the file system that holds `path`.
    ///
    /// # Errors
    /// What the operating system says.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Fills all of `target` from `offset`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; else what the operating system says.
pub fn read_exact_at(file: &dyn DiskFile, offset: u64, target: &mut [u8]) -> io::Result<()> {
    if file.read_at(offset, target)? == target.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the whole file at `path`; `None` when there is none.
///
/// # Errors
/// `FileTooLarge` when the file has more than `limit` bytes; else what the operating system says.
pub fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, allowed are {limit}")));
    }
    let mut out = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    read_exact_at(file.as_ref(), 0, &mut out)?;
    Ok(Some(out))
}

/// Puts `bytes` at `path` so that after any crash the file holds either its old content or all of the new one, and
/// after `Ok` the new one: temporary name, sync, rename, folder sync.
///
/// # Errors
/// What the operating system says; the old content is then still there, and a leftover `*.tmp` may be.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = disk.open(&temporary, OpenMode::OpenOrCreate)?;
    file.set_len(0)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}

/// Creates the folder `path` and makes its name durable, though not those of missing parents; fine when it is there.
///
/// # Errors
/// What the operating system says; then it may be there, and not for certain.
pub fn make_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.create_dir(path)?;
    disk.sync_dir(parent(path))
}

/// The folder that holds `path`'s name; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
