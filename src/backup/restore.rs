//! Snapshots back into folders.
//!
//! Nothing is written outside the folder restored to: every folder is opened from the one above it without following
//! links, and files, links and folders are made there under their plain names, never over something that is there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod, fchown, ftruncate,
    futimens, linkat, mkdirat, openat, symlinkat, syncfs, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::fetch::{Fetcher, Ids};
use super::format::index::Table;
use super::{BackupError, Entry, EntryPath, Filter, Kind, Meta, Moment, Progress, Repository, SnapshotInfo};

/// Damaged entries named in a report; more are counted.
const MOST_NAMED: usize = 10_000;

/// Zeros of this many bytes, aligned to as many, become a hole in a file that had holes.
const HOLE: usize = 4096;

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Folders made.
    pub folders: u64,
    /// Links made, hard and symbolic.
    pub links: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What could not be restored as it was, by path, and why; everything else was. Not empty: the restore is not whole.
    pub damaged: Vec<(String, String)>,
    /// Entries beyond those named in `damaged` (bounded).
    pub damaged_more: u64,
    /// Small losses that keep no byte back, such as an owner that could not be set.
    pub notes: Vec<String>,
}

impl RestoreReport {
    /// Whether everything asked for is there as it was.
    pub const fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    fn damage(&mut self, path: &str, reason: &dyn std::fmt::Display) {
        if self.damaged.len() < MOST_NAMED {
            self.damaged.push((path.to_owned(), reason.to_string()));
        } else {
            self.damaged_more += 1;
        }
    }
}

impl Repository {
    /// Writes the entries of `snapshot` that `filter` takes below the folder `into`, which is made if need be. Names
    /// already there are never followed out of it and never overwritten: they are reported as damaged. Blocks.
    ///
    /// # Errors
    /// `into` cannot be made or written, or is full; [`BackupError::Cancelled`]. Damage in the repository is no error but in
    /// the report.
    pub fn restore_tree(
        &self,
        snapshot: &SnapshotInfo,
        filter: &Filter,
        into: &Path,
        progress: &Progress,
    ) -> Result<RestoreReport, BackupError> {
        let table = self.table()?;
        let root = open_root(into).map_err(|error| failed(&into.display().to_string(), error))?;
        let mut restore = Restore {
            table,
            fetcher: self.fetcher(),
            levels: vec![Level { name: Vec::new(), folder: root, meta: None }],
            report: RestoreReport::default(),
            orphans: HashMap::new(),
            progress,
        };
        for entry in self.entries(snapshot) {
            progress.go_on()?;
            match entry {
                Ok(entry) if filter.takes(&entry.path) => restore.entry(&entry)?,
                Ok(_) => {}
                Err(error) => restore.report.damage("(a part of the list of entries)", &error),
            }
        }
        restore.leave_to(1);
        if !restore.orphans.is_empty() {
            let orphans = std::mem::take(&mut restore.orphans);
            restore.adopt(self, snapshot, orphans)?;
        }
        let Restore { levels, mut report, .. } = restore;
        if let Some(root) = levels.first()
            && let Err(error) = syncfs(&root.folder)
        {
            report.damage(&into.display().to_string(), &format!("could not be synced: {error}"));
        }
        Ok(report)
    }
}

fn open_root(into: &Path) -> Result<OwnedFd, io::Error> {
    std::fs::create_dir_all(into)?;
    Ok(openat(CWD, into, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn failed(path: &str, source: impl Into<io::Error>) -> BackupError {
    BackupError::Restore { path: path.to_owned(), source: source.into() }
}

/// Whether there is no point in going on with other files.
fn ends_all(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    ) || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// A folder being restored into.
struct Level {
    name: Vec<u8>,
    folder: OwnedFd,
    /// Set when all in it is there: making files in it changes its time, and may need more rights than it ends with.
    meta: Option<Meta>,
}

struct Restore<'a> {
    table: Arc<Table>,
    fetcher: Fetcher,
    /// The folders down to the entry under way, the root first.
    levels: Vec<Level>,
    report: RestoreReport,
    /// Hard links whose first name was not restored, by that name.
    orphans: HashMap<EntryPath, Vec<Entry>>,
    progress: &'a Progress,
}

/// Why an entry was not restored.
enum Loss {
    Repository(BackupError),
    Place(io::Error),
}

impl From<Errno> for Loss {
    fn from(error: Errno) -> Self {
        Self::Place(error.into())
    }
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Place(error)
    }
}

impl Restore<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), BackupError> {
        let path = entry.path.to_string();
        let outcome = match &entry.meta.kind {
            Kind::Folder => self.folder(entry),
            Kind::File => self.file(entry, &entry.path),
            Kind::Symlink { target } => self.symlink(entry, target),
            Kind::HardLink { first } => self.hard_link(entry, first),
        };
        self.progress.file();
        match outcome {
            Ok(()) => Ok(()),
            Err(Loss::Place(error)) if ends_all(&error) => Err(failed(&path, error)),
            Err(Loss::Repository(BackupError::Cancelled)) => Err(BackupError::Cancelled),
            Err(Loss::Place(error)) => {
                self.report.damage(&path, &error);
                Ok(())
            }
            Err(Loss::Repository(error)) => {
                self.report.damage(&path, &error);
                Ok(())
            }
        }
    }

    /// Opens the folder of `path`, making it and those above it, and gives `path`'s last part.
    fn enter<'p>(&mut self, path: &'p EntryPath) -> Result<&'p [u8], Loss> {
        let mut parts: Vec<&[u8]> = path.parts().collect();
        let last = parts.pop().unwrap_or_default();
        let common = self.levels.iter().skip(1).zip(&parts).take_while(|(level, part)| level.name == **part).count();
        self.leave_to(common + 1);
        for part in parts.into_iter().skip(common) {
            let folder = open_folder(&self.here()?, part)?;
            self.levels.push(Level { name: part.to_vec(), folder, meta: None });
        }
        Ok(last)
    }

    fn here(&self) -> Result<std::os::fd::BorrowedFd<'_>, Loss> {
        let level = self.levels.last().ok_or(Errno::BADF)?;
        Ok(level.folder.as_fd())
    }

    /// Leaves folders until `count` are open, giving each what it is to have in the end.
    fn leave_to(&mut self, count: usize) {
        while self.levels.len() > count {
            let Some(Level { name, folder, meta }) = self.levels.pop() else { return };
            let Some(meta) = meta else { continue };
            if let Err(error) = self.finish(&folder, &meta) {
                let name = String::from_utf8_lossy(&name).into_owned();
                self.note(format!("mode and time of the folder {name} could not be set: {error}"));
            }
        }
    }

    fn folder(&mut self, entry: &Entry) -> Result<(), Loss> {
        let name = self.enter(&entry.path)?.to_vec();
        let folder = open_folder(&self.here()?, &name)?;
        self.levels.push(Level { name, folder, meta: Some(entry.meta.clone()) });
        self.report.folders += 1;
        Ok(())
    }

    /// Writes the content of `entry` as the file `path`.
    fn file(&mut self, entry: &Entry, path: &EntryPath) -> Result<(), Loss> {
        let name = self.enter(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(self.here()?, name, flags, Mode::RUSR | Mode::WUSR)?);
        let written = self.fill(&file, entry).and_then(|()| Ok(self.finish(&file, &entry.meta)?));
        if let Err(loss) = written {
            // Half a file under a whole file's name would be taken for it.
            let _ = unlinkat(self.here()?, name, AtFlags::empty());
            return Err(loss);
        }
        self.report.files += 1;
        Ok(())
    }

    fn fill(&mut self, file: &File, entry: &Entry) -> Result<(), Loss> {
        let mut ids = Ids::new(&entry.content);
        let mut at = 0u64;
        let (table, fetcher) = (&self.table, &mut self.fetcher);
        while let Some(id) = ids.next(|id| fetcher.chunk(table, id)) {
            self.progress.go_on().map_err(Loss::Repository)?;
            let bytes = id.and_then(|id| fetcher.chunk(table, &id)).map_err(Loss::Repository)?;
            if entry.meta.sparse {
                write_around_holes(file, at, &bytes)?;
            } else {
                file.write_all_at(&bytes, at)?;
            }
            at += bytes.len() as u64;
            self.report.bytes += bytes.len() as u64;
            self.progress.read(bytes.len() as u64);
        }
        if at != entry.meta.size {
            let reason = format!("its chunks have {at} bytes, it had {}", entry.meta.size);
            return Err(Loss::Repository(BackupError::damaged(entry.path.to_string(), reason)));
        }
        if entry.meta.sparse {
            ftruncate(file, at)?;
        }
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, target: &[u8]) -> Result<(), Loss> {
        let name = self.enter(&entry.path)?;
        symlinkat(target, self.here()?, name)?;
        let (owner, group) = owner(&entry.meta);
        let owned = chownat(self.here()?, name, owner, group, AtFlags::SYMLINK_NOFOLLOW);
        let times = times(entry.meta.modified);
        utimensat(self.here()?, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        if owned.is_err() {
            self.note_owner();
        }
        self.report.links += 1;
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, first: &EntryPath) -> Result<(), Loss> {
        let name = self.enter(&entry.path)?;
        match self.link(first, name) {
            Ok(()) => {
                self.report.links += 1;
                Ok(())
            }
            Err(Errno::NOENT) => {
                self.orphans.entry(first.clone()).or_default().push(entry.clone());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the restored file `first` the further name `name` in the folder under way.
    fn link(&self, first: &EntryPath, name: &[u8]) -> Result<(), Errno> {
        let root = self.levels.first().ok_or(Errno::BADF)?;
        let here = self.levels.last().ok_or(Errno::BADF)?;
        let mut parts: Vec<&[u8]> = first.parts().collect();
        let last = parts.pop().unwrap_or_default();
        let mut folder = rustix::io::fcntl_dupfd_cloexec(&root.folder, 0)?;
        for part in parts {
            folder = openat(&folder, part, FOLDER, Mode::empty())?;
        }
        linkat(&folder, last, &here.folder, name, AtFlags::empty())
    }

    /// Writes files whose first name was not asked for under the names that were.
    fn adopt(
        &mut self,
        repository: &Repository,
        snapshot: &SnapshotInfo,
        mut orphans: HashMap<EntryPath, Vec<Entry>>,
    ) -> Result<(), BackupError> {
        for first in repository.entries(snapshot).flatten() {
            for entry in orphans.remove(&first.path).unwrap_or_default() {
                let file = Entry { path: entry.path.clone(), ..first.clone() };
                self.entry(&file)?;
            }
        }
        for entry in orphans.into_values().flatten() {
            self.report.damage(&entry.path.to_string(), &"the file it is a further name of could not be restored");
        }
        self.leave_to(1);
        Ok(())
    }

    /// Owner, mode and time, in this order: a change of owner takes bits from the mode, and both change no time.
    fn finish(&mut self, file: &impl AsFd, meta: &Meta) -> Result<(), Errno> {
        let (owner, group) = owner(meta);
        if fchown(file, owner, group).is_err() {
            self.note_owner();
        }
        fchmod(file, Mode::from_raw_mode(meta.mode & 0o7777))?;
        futimens(file, &times(meta.modified))
    }

    fn note_owner(&mut self) {
        self.note("owners could not be set: only root may".to_owned());
    }

    fn note(&mut self, note: String) {
        if self.report.notes.len() < 100 && !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the folder `name`, made if it is not there; never through a link.
fn open_folder(above: &impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match mkdirat(above, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => openat(above, name, FOLDER, Mode::empty()),
        Err(error) => Err(error),
    }
}

fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    // All ones would mean "leave as it is".
    let uid = (meta.uid != u32::MAX).then(|| Uid::from_raw(meta.uid));
    (uid, (meta.gid != u32::MAX).then(|| Gid::from_raw(meta.gid)))
}

fn times(modified: Moment) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanos.into() },
    }
}

/// Writes what is not zero; the file's length is set at its end.
fn write_around_holes(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let lead = usize::try_from(at % HOLE as u64).map_or(0, |past| (HOLE - past) % HOLE).min(bytes.len());
    let (head, rest) = bytes.split_at(lead);
    file.write_all_at(head, at)?;
    let mut from = at + head.len() as u64;
    for block in rest.chunks(HOLE) {
        if block.len() < HOLE || block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, from)?;
        }
        from += block.len() as u64;
    }
    Ok(())
}
