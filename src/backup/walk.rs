//! Folders as a source.
//!
//! Every folder is opened from the one above it and no symbolic link is ever followed, so a folder swapped for a link while
//! the walk is in it leads nowhere else. Folders are listed whole and sorted, one at each level at a time.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, openat, readlinkat, statx};
use rustix::io::Errno;

use super::format::entry::LONGEST_LINK;
use super::snapshot::{Fault, FaultKind};
use super::{BackupError, EntryPath, Kind, Meta, Moment, Progress, SnapshotWriter};
use crate::base::stars;

/// Folders in folders at most; each level holds one file descriptor.
const DEEPEST: usize = 200;

/// Files with several names remembered at most; of more, each name is kept as a file of its own.
const MOST_LINKED: usize = 1_000_000;

/// A file changed so shortly before it was looked at may change again without its times showing it.
const RACY: Duration = Duration::from_secs(2);

/// What a walk leaves out.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    /// Paths below the root and names: `cache` leaves out every file or folder of that name, `var/cache` that one, `*` in
    /// a part stands for any bytes.
    pub patterns: Vec<String>,
}

impl Excludes {
    fn leaves_out(&self, path: &EntryPath) -> bool {
        self.patterns.iter().any(|pattern| {
            let pattern = pattern.trim_matches('/').as_bytes();
            if pattern.contains(&b'/') {
                let mut parts = path.parts();
                pattern.split(|b| *b == b'/').all(|part| parts.next().is_some_and(|name| stars::fits(part, name)))
                    && parts.next().is_none()
            } else {
                path.parts().last().is_some_and(|name| stars::fits(pattern, name))
            }
        })
    }
}

/// Adds everything below the folder `root` to the snapshot. Symbolic links are kept and never followed; files that
/// cannot be read, or change while they are read, are noted as faults and do not end the walk. Blocks.
///
/// # Errors
/// `root` is no folder that can be read; whatever [`SnapshotWriter::add`] fails with but [`BackupError::Source`].
pub fn add_folder(
    writer: &mut SnapshotWriter,
    root: &Path,
    excludes: &Excludes,
    progress: &Progress,
) -> Result<(), BackupError> {
    let failed = |error: Errno| BackupError::Source { path: root.display().to_string(), source: error.into() };
    let folder =
        openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let names = names_in(&folder).map_err(failed)?;
    let mut walk = Walk { writer, first_names: HashMap::new() };
    let mut levels = vec![Level { folder, path: None, names }];
    while let Some(level) = levels.last_mut() {
        progress.go_on()?;
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = match &level.path {
            Some(above) => above.join(&name),
            None => EntryPath::new(name.clone()),
        };
        let path = match path {
            Ok(path) => path,
            Err(error) => {
                let path = String::from_utf8_lossy(&name).into_owned();
                walk.writer.fault(Fault { path, kind: FaultKind::Skipped, reason: error.to_string() });
                continue;
            }
        };
        if excludes.leaves_out(&path) {
            continue;
        }
        if let Some(folder) = walk.entry(level.folder.as_fd(), &name, &path)? {
            if levels.len() >= DEEPEST {
                walk.fault(&path, FaultKind::Skipped, format!("more than {DEEPEST} folders in each other"));
                continue;
            }
            match names_in(&folder) {
                Ok(names) => levels.push(Level { folder, path: Some(path), names }),
                Err(error) => walk.fault(&path, FaultKind::Unreadable, error.to_string()),
            }
        }
    }
    Ok(())
}

/// A folder under way.
struct Level {
    folder: OwnedFd,
    /// `None` for the root.
    path: Option<EntryPath>,
    /// Names still to do, the next one last.
    names: Vec<Vec<u8>>,
}

/// The names in a folder, in falling order.
fn names_in(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

struct Walk<'a> {
    writer: &'a mut SnapshotWriter,
    /// The first name of each file that has several.
    first_names: HashMap<(u32, u32, u64), EntryPath>,
}

impl Walk<'_> {
    fn fault(&mut self, path: &EntryPath, kind: FaultKind, reason: String) {
        self.writer.fault(Fault { path: path.to_string(), kind, reason });
    }

    /// Adds the entry `name` of `folder`; a folder is given back to be walked.
    fn entry(
        &mut self,
        folder: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
        path: &EntryPath,
    ) -> Result<Option<OwnedFd>, BackupError> {
        let seen = match look(folder, name) {
            Ok(seen) => seen,
            // Removed between the listing and the look: not there.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => {
                self.fault(path, FaultKind::Unreadable, error.to_string());
                return Ok(None);
            }
        };
        match FileType::from_raw_mode(u32::from(seen.stx_mode)) {
            FileType::RegularFile => self.file(folder, name, path, &seen).map(|()| None),
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(folder, name, flags, Mode::empty()) {
                    Ok(inner) => {
                        self.writer.add(path, &self.meta(Kind::Folder, &seen), &mut std::io::empty())?;
                        Ok(Some(inner))
                    }
                    Err(Errno::NOENT) => Ok(None),
                    Err(error) => {
                        self.fault(path, FaultKind::Unreadable, error.to_string());
                        Ok(None)
                    }
                }
            }
            FileType::Symlink => {
                match readlinkat(folder, name, Vec::new()) {
                    Ok(target) if target.as_bytes().len() <= LONGEST_LINK => {
                        let target = target.into_bytes();
                        self.writer.add(path, &self.meta(Kind::Symlink { target }, &seen), &mut std::io::empty())?;
                    }
                    Ok(_) => self.fault(path, FaultKind::Skipped, "the link's target is too long".to_owned()),
                    Err(Errno::NOENT) => {}
                    Err(error) => self.fault(path, FaultKind::Unreadable, error.to_string()),
                }
                Ok(None)
            }
            _ => {
                self.fault(path, FaultKind::Skipped, "neither file, folder nor link".to_owned());
                Ok(None)
            }
        }
    }

    fn file(
        &mut self,
        folder: std::os::fd::BorrowedFd<'_>,
        name: &[u8],
        path: &EntryPath,
        seen: &Statx,
    ) -> Result<(), BackupError> {
        let inode = (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino);
        let linked = seen.stx_nlink > 1;
        if let Some(first) = self.first_names.get(&inode).filter(|_| linked) {
            let kind = Kind::HardLink { first: first.clone() };
            let meta = Meta { size: 0, ..self.meta(kind, seen) };
            self.writer.add(path, &meta, &mut std::io::empty())?;
            return Ok(());
        }
        let meta = self.meta(Kind::File, seen);
        if !self.writer.reuse(path, &meta)? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(folder, name, flags, Mode::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => {
                    self.fault(path, FaultKind::Unreadable, error.to_string());
                    return Ok(());
                }
            };
            // What was opened may be another file than was looked at: its own facts count.
            let opened = look(file.as_fd(), b"");
            let is_file = |seen: &Statx| FileType::from_raw_mode(u32::from(seen.stx_mode)) == FileType::RegularFile;
            let opened = match opened {
                Ok(opened) if is_file(&opened) => opened,
                _ => {
                    self.fault(path, FaultKind::Changed, "it was replaced while it was looked at".to_owned());
                    return Ok(());
                }
            };
            let meta = self.meta(Kind::File, &opened);
            let mut changed = false;
            let mut has_changed = || {
                let after = look(file.as_fd(), b"");
                changed = !after.is_ok_and(|after| same(&after, &opened));
                changed
            };
            match self.writer.add_watched(path, &meta, &mut &file, &mut has_changed) {
                Ok(_) => {}
                Err(BackupError::Source { source, .. }) => {
                    self.fault(path, FaultKind::Unreadable, source.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if changed {
                self.fault(path, FaultKind::Changed, "it changed while it was read".to_owned());
            }
        }
        if linked && self.first_names.len() < MOST_LINKED {
            self.first_names.insert(inode, path.clone());
        }
        Ok(())
    }

    fn meta(&self, kind: Kind, seen: &Statx) -> Meta {
        let changed = seen.stx_ctime;
        let mut identity = Vec::new();
        if kind == Kind::File && !self.writer.is_recent(changed.tv_sec, RACY) {
            identity.extend_from_slice(&seen.stx_ino.to_le_bytes());
            identity.extend_from_slice(&changed.tv_sec.to_le_bytes());
            identity.extend_from_slice(&changed.tv_nsec.to_le_bytes());
        }
        Meta {
            sparse: kind == Kind::File && seen.stx_blocks.saturating_mul(512) < seen.stx_size,
            mode: u32::from(seen.stx_mode) & 0o7777,
            uid: seen.stx_uid,
            gid: seen.stx_gid,
            modified: Moment { seconds: seen.stx_mtime.tv_sec, nanos: seen.stx_mtime.tv_nsec },
            size: if kind == Kind::File { seen.stx_size } else { 0 },
            identity,
            kind,
        }
    }
}

fn same(one: &Statx, other: &Statx) -> bool {
    let times = |seen: &Statx| {
        (seen.stx_mtime.tv_sec, seen.stx_mtime.tv_nsec, seen.stx_ctime.tv_sec, seen.stx_ctime.tv_nsec, seen.stx_size)
    };
    times(one) == times(other)
}

/// The facts of `name` in `folder`, or of `folder` itself when `name` is empty; a link's own.
fn look(folder: std::os::fd::BorrowedFd<'_>, name: &[u8]) -> Result<Statx, Errno> {
    let mut flags = AtFlags::SYMLINK_NOFOLLOW;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    statx(folder, name, flags, StatxFlags::BASIC_STATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_leave_out_names_and_paths() {
        let excludes = |patterns: &[&str]| Excludes { patterns: patterns.iter().map(|p| (*p).to_owned()).collect() };
        let path = |text: &str| EntryPath::new(text).unwrap();
        for (pattern, out, stays) in [
            ("cache", "a/cache", "a/cached"),
            ("var/cache", "var/cache", "a/var/cache"),
            ("*.log", "x/a.log", "x/a.log.txt"),
            ("tmp*", "tmp", "a/mtmp"),
            ("a*b*c", "xx/a1b2c", "a1c2b"),
            ("/srv/*/old/", "srv/x/old", "srv/x/y/old"),
        ] {
            assert!(excludes(&[pattern]).leaves_out(&path(out)), "{pattern} {out}");
            assert!(!excludes(&[pattern]).leaves_out(&path(stays)), "{pattern} {stays}");
        }
    }
}
