//! A folder as target, through [`Disk`], so that crash tests can cut the power under it.
//!
//! A file is written as `<name>.<random>.tmp` beside its final name, synced, renamed, and the folder synced. Leftovers
//! of a killed run end in `.tmp`, and are never listed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Listed, Target, TargetError, Trouble};
use crate::base::disk::{parent, read_exact_at, read_file};
use crate::base::{Disk, EntryKind, Id128, OpenMode, SystemRandom};

/// How deep [`Target::list`] looks; a repository needs two.
const DEEPEST: usize = 4;

/// Bytes given to one write, so that a fault in the middle is a fault of one piece.
const PIECE: usize = 4 << 20;

/// A folder of a file system.
#[derive(Debug)]
pub struct FolderTarget {
    root: PathBuf,
    label: String,
    disk: Arc<dyn Disk>,
}

impl FolderTarget {
    /// The folder `root`, made when the first file is written.
    pub fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        let label = root.display().to_string();
        Self { root, label, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn error(&self, doing: &'static str, name: &str, source: io::Error) -> TargetError {
        let trouble = match source.kind() {
            io::ErrorKind::NotFound => Trouble::Missing,
            io::ErrorKind::AlreadyExists => Trouble::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
            io::ErrorKind::FileTooLarge => Trouble::TooLarge,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Trouble::Refused,
            _ => Trouble::Other,
        };
        TargetError { target: self.label.clone(), doing, name: name.to_owned(), trouble, source: source.into() }
    }

    /// Makes the folder of `path` with every name on the way durable.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut folder = parent(path);
        while self.disk.entry(folder)?.is_none() {
            missing.push(folder);
            let above = parent(folder);
            if above == folder {
                break;
            }
            folder = above;
        }
        for folder in missing.iter().rev() {
            self.disk.create_dir(folder)?;
        }
        // A folder that is there may be one whose name a killed run never synced; syncing again is cheap beside a pack.
        let mut folder = parent(path);
        loop {
            self.disk.sync_dir(parent(folder))?;
            if folder == self.root || !folder.starts_with(&self.root) {
                return Ok(());
            }
            folder = parent(folder);
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.disk.entry(path)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.make_folder(path)?;
        let mut temporary = path.as_os_str().to_owned();
        // A name nobody else has is not a secret and decides nothing: the machine's generator will do.
        temporary.push(format!(".{}.tmp", Id128::random(&SystemRandom)));
        let temporary = PathBuf::from(temporary);
        let file = self.disk.open(&temporary, OpenMode::CreateNew)?;
        let written = Self::fill(file.as_ref(), bytes);
        drop(file);
        let renamed = written.and_then(|()| self.disk.rename(&temporary, path));
        if let Err(error) = renamed {
            // What is left is a name nobody reads; the disk may refuse this too.
            let _ = self.disk.remove_file(&temporary);
            return Err(error);
        }
        self.disk.sync_dir(parent(path))
    }

    fn fill(file: &dyn crate::base::DiskFile, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        for piece in bytes.chunks(PIECE) {
            file.write_at(at, piece)?;
            at += piece.len() as u64;
        }
        file.sync_data()
    }

    fn collect(&self, folder: &Path, name: &str, depth: usize, out: &mut Vec<Listed>) -> io::Result<()> {
        let entries = match self.disk.list(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let Some(last) = entry.path.file_name().and_then(|last| last.to_str()) else { continue };
            let name = if name.is_empty() { last.to_owned() } else { format!("{name}/{last}") };
            match entry.kind {
                EntryKind::File if !is_temporary(&entry.path) => out.push(Listed { name, size: entry.len }),
                EntryKind::Folder if depth < DEEPEST => self.collect(&entry.path, &name, depth + 1, out)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether the name is one of a write under way, or cut off.
fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

impl Target for FolderTarget {
    fn label(&self) -> &str {
        &self.label
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
        self.write(&self.path(name), bytes).map_err(|error| self.error("writing", name, error))
    }

    fn get(&self, name: &str, limit: u64) -> Result<Vec<u8>, TargetError> {
        match read_file(self.disk.as_ref(), &self.path(name), limit) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(self.error("reading", name, io::ErrorKind::NotFound.into())),
            Err(error) => Err(self.error("reading", name, error)),
        }
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, TargetError> {
        let read = || {
            let file = self.disk.open(&self.path(name), OpenMode::Read)?;
            let there = file.len()?.saturating_sub(offset);
            let mut out = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
            read_exact_at(file.as_ref(), offset, &mut out)?;
            Ok(out)
        };
        read().map_err(|error| self.error("reading", name, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, TargetError> {
        let mut out = Vec::new();
        let folder = if prefix.is_empty() { self.root.clone() } else { self.path(prefix) };
        self.collect(&folder, prefix, 0, &mut out).map_err(|error| self.error("listing", prefix, error))?;
        Ok(out)
    }

    fn delete(&self, name: &str) -> Result<(), TargetError> {
        let path = self.path(name);
        let removed = match self.disk.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other,
        };
        removed.and_then(|()| self.disk.sync_dir(parent(&path))).map_err(|error| self.error("deleting", name, error))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, TargetError> {
        let entry = self.disk.entry(&self.path(name)).map_err(|error| self.error("looking for", name, error))?;
        Ok(entry.map(|entry| entry.len))
    }
}
