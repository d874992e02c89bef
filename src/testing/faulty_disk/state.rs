//! What a [`FaultyDisk`](super::FaultyDisk) keeps: files with their unsynced changes, names with theirs, planned faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, SECTOR};
use crate::base::disk::parent;
use crate::base::{Entry, EntryKind, Timestamp};

/// Kinds of operations: which fault suits depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// A file or folder is made.
    Create,
    /// Bytes are written into a file.
    Write,
    /// A file gets longer by a change of its length.
    Extend,
    /// A file gets shorter, or keeps its length.
    Cut,
    /// A file or folder is synced.
    Sync,
    /// A file is renamed.
    Rename,
    /// A file is removed.
    Remove,
}

/// What an operation is on.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    Path(&'a Path),
    File(u64),
}

/// How much of a write happens.
pub(super) enum Verdict {
    Whole,
    Half,
    Torn,
    Nothing,
}

/// A fault waiting for its operation.
#[derive(Clone)]
pub(super) struct Planned {
    pub at: u64,
    pub fault: Fault,
    pub again: bool,
}

/// A change of content that no sync has confirmed.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(len) => content.resize(*len, 0),
        }
    }

    /// The sectors whose bytes this change may alter in `content`, as it is before the change.
    fn sectors(&self, content: &[u8]) -> std::ops::Range<usize> {
        let (start, end) = match self {
            Self::Write { offset, bytes } => ((*offset).min(content.len()), offset + bytes.len()),
            Self::Length(len) => ((*len).min(content.len()), (*len).max(content.len())),
        };
        start / SECTOR..end.div_ceil(SECTOR)
    }
}

/// A file, whatever its names.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What a read sees.
    pub live: Vec<u8>,
    /// What the last successful sync confirmed, and what a failed one may have written.
    pub durable: Vec<u8>,
    /// Changes since the last sync, in order.
    pub changes: Vec<Change>,
    /// Sectors a failed sync left in doubt, with what they held before it.
    pub doubt: BTreeMap<usize, Vec<u8>>,
    /// The length before a failed sync that was to change it.
    pub doubtful_len: Option<usize>,
    pub modified: Timestamp,
    pub handles: u64,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub(super) fn read(&self, offset: u64, target: &mut [u8]) -> usize {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.live.get(offset..)).unwrap_or_default();
        let count = rest.len().min(target.len());
        target[..count].copy_from_slice(&rest[..count]);
        count
    }

    fn change(&mut self, change: Change, now: Timestamp) {
        change.apply(&mut self.live);
        self.changes.push(change);
        self.modified = now;
    }

    /// A sync succeeded: what is seen is durable, but sectors in doubt that were not written again stay so.
    pub(super) fn synced(&mut self) {
        for sector in self.settle() {
            self.doubt.remove(&sector);
        }
    }

    /// A sync failed: what it was to write may or may not be on the disk, and the kernel will not write it again.
    pub(super) fn sync_failed(&mut self) {
        let (before, length) = (self.durable.clone(), self.durable.len());
        for sector in self.settle() {
            let start = (sector * SECTOR).min(before.len());
            let end = (start + SECTOR).min(before.len());
            self.doubt.entry(sector).or_insert_with(|| before[start..end].to_vec());
        }
        if self.durable.len() != length {
            self.doubtful_len.get_or_insert(length);
        }
    }

    /// Takes what is seen as durable and names the sectors that changed.
    fn settle(&mut self) -> BTreeSet<usize> {
        let mut touched = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            touched.extend(change.sectors(&self.durable));
            if matches!(change, Change::Length(_)) {
                self.doubtful_len = None;
            }
            change.apply(&mut self.durable);
        }
        touched
    }
}

/// A change of names that no folder sync has confirmed.
#[derive(Clone)]
pub(super) struct NameChange {
    pub unlink: Option<(PathBuf, u64)>,
    pub link: Option<(PathBuf, Link)>,
    /// Folders still to be synced before the change is durable.
    pub waits_for: BTreeSet<PathBuf>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    File(u64),
    Folder,
}

/// Names, of files and folders apart.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub files: BTreeMap<PathBuf, u64>,
    pub folders: BTreeSet<PathBuf>,
}

impl Names {
    pub(super) fn apply(&mut self, change: &NameChange) {
        // Changes that wait for different folders settle out of order: the name may stand for a newer file by now.
        if let Some((path, inode)) = &change.unlink
            && self.files.get(path) == Some(inode)
        {
            self.files.remove(path);
        }
        match &change.link {
            Some((path, Link::File(inode))) => {
                self.files.insert(path.clone(), *inode);
            }
            Some((path, Link::Folder)) => {
                self.folders.insert(path.clone());
            }
            None => {}
        }
    }
}

/// Everything a disk is.
#[derive(Clone, Default)]
pub(super) struct State {
    pub inodes: BTreeMap<u64, Inode>,
    pub next_inode: u64,
    pub names: BTreeMap<PathBuf, u64>,
    pub folders: BTreeSet<PathBuf>,
    pub durable: Names,
    pub name_changes: Vec<NameChange>,
    pub operations: u64,
    pub syncs: u64,
    pub plan: Vec<Planned>,
    pub cut: Option<u64>,
    pub limit: Option<u64>,
    pub trace: Option<Vec<(Act, PathBuf)>>,
}

impl State {
    /// Refuses when the power is off.
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.cut.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }

    /// Counts an operation and lets a planned fault strike it.
    pub(super) fn begin(&mut self, act: Act, on: On<'_>) -> io::Result<Verdict> {
        self.operations += 1;
        if let Some(trace) = &mut self.trace {
            let path = match on {
                On::Path(path) => Some(path),
                On::File(inode) => {
                    self.names.iter().find(|(_, named)| **named == inode).map(|(path, _)| path.as_path())
                }
            };
            trace.push((act, path.unwrap_or(Path::new("")).to_owned()));
        }
        self.powered()?;
        let now = self.operations;
        let struck = self.plan.iter().position(|planned| planned.at <= now && suits(planned.fault, act));
        let Some(index) = struck else {
            self.syncs += u64::from(act == Act::Sync);
            return Ok(Verdict::Whole);
        };
        let fault = self.plan[index].fault;
        if !self.plan[index].again {
            self.plan.remove(index);
        }
        match fault {
            Fault::NoSpace | Fault::NoSpaceAtSync => Err(io::ErrorKind::StorageFull.into()),
            // EIO has no `ErrorKind` of its own.
            Fault::Io | Fault::SyncError => Err(io::Error::from_raw_os_error(5)),
            Fault::ShortWrite => Ok(Verdict::Half),
            Fault::LostWrite => Ok(Verdict::Nothing),
            Fault::TornWrite => Ok(Verdict::Torn),
        }
    }

    pub(super) fn inode(&self, inode: u64) -> io::Result<&Inode> {
        self.inodes.get(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn is_folder(&self, path: &Path) -> bool {
        matches!(path.to_str(), Some("" | "." | "/")) || self.folders.contains(path)
    }

    pub(super) fn need_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_folder(path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    pub(super) fn create(&mut self, path: &Path, now: Timestamp) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode { modified: now, ..Inode::default() });
        self.names.insert(path.to_owned(), inode);
        self.pending(None, Some((path.to_owned(), Link::File(inode))));
        inode
    }

    pub(super) fn create_folder(&mut self, path: &Path) {
        self.folders.insert(path.to_owned());
        self.pending(None, Some((path.to_owned(), Link::Folder)));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(inode) = self.names.remove(from) {
            self.names.insert(to.to_owned(), inode);
            self.pending(Some((from.to_owned(), inode)), Some((to.to_owned(), Link::File(inode))));
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(inode) = self.names.remove(path) {
            self.pending(Some((path.to_owned(), inode)), None);
        }
    }

    fn pending(&mut self, unlink: Option<(PathBuf, u64)>, link: Option<(PathBuf, Link)>) {
        let paths = unlink.iter().map(|(path, _)| path).chain(link.iter().map(|(path, _)| path));
        let waits_for = paths.map(|path| super::normal(parent(path))).collect();
        self.name_changes.push(NameChange { unlink, link, waits_for });
    }

    pub(super) fn sync_folder(&mut self, folder: &Path) {
        for change in &mut self.name_changes {
            change.waits_for.remove(folder);
        }
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.name_changes).into_iter().partition(|change| change.waits_for.is_empty());
        for change in &done {
            self.durable.apply(change);
        }
        self.name_changes = waiting;
        self.drop_unreachable();
    }

    pub(super) fn opened(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
    }

    pub(super) fn closed(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles = inode.handles.saturating_sub(1);
        }
        self.drop_unreachable();
    }

    /// Forgets files that have no name, no handle, and could not come back by a power cut.
    fn drop_unreachable(&mut self) {
        let mut kept: BTreeSet<u64> = self.names.values().chain(self.durable.files.values()).copied().collect();
        kept.extend(self.name_changes.iter().filter_map(|change| match change.link {
            Some((_, Link::File(inode))) => Some(inode),
            _ => None,
        }));
        self.inodes.retain(|number, inode| inode.handles > 0 || kept.contains(number));
    }

    /// Bytes taken: files with a name, and removed ones still open.
    pub(super) fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let taken = self.inodes.iter().filter(|(number, inode)| inode.handles > 0 || named.contains(number));
        taken.map(|(_, inode)| inode.len()).sum()
    }

    pub(super) fn room_for(&self, inode: u64, end: u64) -> io::Result<()> {
        let more = end.saturating_sub(self.inode(inode)?.len());
        match self.limit {
            Some(limit) if more > 0 && self.used().saturating_add(more) > limit => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let offset = memory(offset)?;
        self.inode_mut(inode)?.change(Change::Write { offset, bytes: bytes.to_vec() }, now);
        Ok(())
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64, now: Timestamp) -> io::Result<()> {
        let len = memory(len)?;
        self.inode_mut(inode)?.change(Change::Length(len), now);
        Ok(())
    }

    pub(super) fn flip(&mut self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let number = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let inode = self.inode_mut(number)?;
        let offset = memory(offset)?;
        *inode.live.get_mut(offset).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        if let Some(byte) = inode.durable.get_mut(offset) {
            *byte ^= mask;
        }
        Ok(())
    }

    pub(super) fn entry(&self, path: &Path) -> Option<Entry> {
        if let Some(inode) = self.names.get(path).and_then(|number| self.inodes.get(number)) {
            let (kind, len, modified) = (EntryKind::File, inode.len(), inode.modified);
            return Some(Entry { path: path.to_owned(), kind, len, modified });
        }
        let folder = || Entry { path: path.to_owned(), kind: EntryKind::Folder, len: 0, modified: Timestamp(0) };
        self.is_folder(path).then(folder)
    }

    pub(super) fn list(&self, folder: &Path) -> Vec<Entry> {
        let inside = |path: &&PathBuf| parent(path) == folder;
        let paths = self.names.keys().chain(&self.folders).filter(inside);
        paths.filter_map(|path| self.entry(path)).collect()
    }

    /// The state a new process finds: all that was written, and none of the old process's handles, faults and limits.
    pub(super) fn after_kill(&self) -> Self {
        let mut state =
            Self { plan: Vec::new(), cut: None, limit: None, operations: 0, syncs: 0, trace: None, ..self.clone() };
        state.inodes.values_mut().for_each(|inode| inode.handles = 0);
        state.drop_unreachable();
        state
    }
}

fn suits(fault: Fault, act: Act) -> bool {
    match fault {
        Fault::NoSpace => matches!(act, Act::Create | Act::Write | Act::Extend | Act::Rename),
        Fault::ShortWrite | Fault::LostWrite | Fault::TornWrite => act == Act::Write,
        Fault::Io => true,
        Fault::SyncError | Fault::NoSpaceAtSync => act == Act::Sync,
    }
}

/// A position as an index. A test that stores more than 4 GiB in memory has a bug.
fn memory(position: u64) -> io::Result<usize> {
    usize::try_from(position).ok().filter(|at| *at < 1 << 32).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
}
