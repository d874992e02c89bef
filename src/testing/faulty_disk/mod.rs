//! A file system in memory that forgets, tears, refuses and fills up on command.
//!
//! What it models, and every crash test rests on exactly this:
//! - **Contents.** A write, cut or extension is visible at once and durable after a successful
//!   [`DiskFile::sync_data`]. After a [power cut](FaultyDisk::crash) each 512-byte sector holds any one of the versions
//!   it had since the last sync (so writes are lost, torn and reordered), and the file has any one of the lengths it
//!   had since then.
//! - **Names.** Creating, renaming and removing are visible at once and durable after a successful
//!   [`Disk::sync_dir`] of the folder (a rename between folders: of both). After a power cut each pending operation has
//!   or has not happened, on its own; a rename as a whole. What lies in a folder whose own name was lost is lost too.
//!   Syncing a file does not make its name durable.
//! - **A failed sync** leaves the unsynced sectors in doubt for good: they read as written, yet after a power cut
//!   either version may be there, even when a later sync succeeded; only writing them again ends the doubt.
//! - **A killed process** ([`FaultyDisk::kill`]) loses nothing it has written, and what was unsynced stays unsynced.
//! - **Room** ([`FaultyDisk::limit_space`]): apparent file lengths are counted, also of removed files still open.
//!
//! Not modelled: failing reads (but see [`FaultyDisk::flip`]), links, permissions, modification times lost in a crash.
//!
//! The usual test: run the scenario once and ask [`FaultyDisk::operations`] how many steps it has; then for every step
//! run it on a fresh disk with [`FaultyDisk::cut_power_at`], and open each of a few [`FaultyDisk::crash`] outcomes.
//! Start reading at `state.rs` (what is kept), then `crash.rs` (what a power cut may leave).

mod crash;
mod state;

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::state::Act;
use self::state::{On, State, Verdict};
use super::TestClock;
use crate::base::disk::parent;
use crate::base::{Clock, Disk, DiskFile, Entry, OpenMode, Space};

/// Bytes that reach the disk together or not at all.
pub const SECTOR: usize = 512;

/// What goes wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `ENOSPC`, nothing done. Strikes what needs room: write, extension, creation, rename.
    NoSpace,
    /// `ENOSPC` after the first half of a write. Strikes writes.
    ShortWrite,
    /// `EIO`, nothing done (a sync leaves doubt behind). Strikes every operation that changes or syncs something.
    Io,
    /// `EIO` from a sync of a file or folder; its unsynced sectors are in doubt from then on. Strikes syncs.
    SyncError,
    /// `ENOSPC` from a sync, as a file system that places bytes late tells of it: in doubt as after [`Fault::SyncError`].
    /// Strikes syncs.
    NoSpaceAtSync,
    /// A write that is acknowledged and never happens. Strikes writes.
    LostWrite,
    /// A write that is acknowledged, of which only the first half (in whole sectors) happens. Strikes writes.
    TornWrite,
}

/// The file system. Clones and open files share one state; [`FaultyDisk::crash`] and [`FaultyDisk::kill`] make a new
/// one and leave the old one as it is, so several outcomes can be tried from one point.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
}

impl FaultyDisk {
    /// An empty disk without limit or faults; the folders `/` and `.` are there. Its clock stands still.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(TestClock::default()))
    }

    /// As [`FaultyDisk::new`], with `clock` for the modification times of files.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::new(Mutex::new(State::default())), clock }
    }

    /// Operations asked for so far, reads not counted: creation, write, change of length, sync, rename, removal.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs of files and folders that succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Notes every operation from now on for [`FaultyDisk::steps`].
    pub fn trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The operations since [`FaultyDisk::trace`] in their order, each with what it was on: of a rename the new name, of
    /// a removed file still open nothing. The first of them is the one that `cut_power_at(1)` would have refused.
    pub fn steps(&self) -> Vec<(Act, PathBuf)> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Lets `fault` strike once: at the `nth` operation from now (1 is the next) or the first after it that it suits.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.operations + nth;
        state.plan.push(state::Planned { at, fault, again: false });
    }

    /// Lets `fault` strike every operation it suits from the `nth` from now on, until [`FaultyDisk::heal`].
    pub fn fail_from(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.operations + nth;
        state.plan.push(state::Planned { at, fault, again: true });
    }

    /// Refuses everything, reads too, from the `nth` operation from now on: the moment of a power cut.
    pub fn cut_power_at(&self, nth: u64) {
        let mut state = self.state();
        state.cut = Some(state.operations + nth);
    }

    /// Calls off every planned fault and power cut. Doubt left by failed syncs stays.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plan.clear();
        state.cut = None;
    }

    /// Lets at most `bytes` be stored from now on; `None` for no limit. What is there already stays.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.state().limit = bytes;
    }

    /// Turns the bits of `mask` over in the byte at `offset` of `path`, durably: decay, or someone with a disk editor.
    ///
    /// # Errors
    /// No such file, or it is shorter.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        self.state().flip(&normal(path), offset, mask)
    }

    /// The disk after a power cut now: one of the states that could be left, picked by `seed`. Faults, limit and cut
    /// are gone; everything left is durable.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = crash::after_power_cut(&self.state(), seed);
        Self { state: Arc::new(Mutex::new(state)), clock: Arc::clone(&self.clock) }
    }

    /// The disk after the process was killed now: what was written is there, what was unsynced is still unsynced.
    /// Files open on the old disk no longer reach this one. Faults, limit and cut are gone.
    #[must_use]
    pub fn kill(&self) -> Self {
        let state = self.state().after_kill();
        Self { state: Arc::new(Mutex::new(state)), clock: Arc::clone(&self.clock) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FaultyDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let path = normal(path);
        let mut state = self.state();
        state.powered()?;
        if state.is_folder(&path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let inode = match (state.names.get(&path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::OpenOrCreate | OpenMode::CreateNew) => {
                state.need_folder(parent(&path))?;
                state.begin(Act::Create, On::Path(&path))?;
                state.create(&path, self.clock.now())
            }
        };
        state.opened(inode);
        Ok(Box::new(FaultyFile {
            state: Arc::clone(&self.state),
            clock: Arc::clone(&self.clock),
            inode,
            writes: mode != OpenMode::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut state = self.state();
        state.powered()?;
        state.need_folder(parent(&to))?;
        if !state.names.contains_key(&from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.begin(Act::Rename, On::Path(&to))?;
        state.rename(&from, &to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut state = self.state();
        state.powered()?;
        if !state.names.contains_key(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.begin(Act::Remove, On::Path(&path))?;
        state.remove(&path);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut state = self.state();
        state.powered()?;
        if state.names.contains_key(&path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let missing: Vec<&Path> = path.ancestors().filter(|folder| !state.is_folder(folder)).collect();
        for folder in missing.into_iter().rev() {
            state.begin(Act::Create, On::Path(folder))?;
            state.create_folder(folder);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut state = self.state();
        state.powered()?;
        state.need_folder(&path)?;
        state.begin(Act::Sync, On::Path(&path))?;
        state.sync_folder(&path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let path = normal(path);
        let state = self.state();
        state.powered()?;
        state.need_folder(&path)?;
        Ok(state.list(&path))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        let state = self.state();
        state.powered()?;
        Ok(state.entry(&normal(path)))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state();
        state.powered()?;
        let total = state.limit.unwrap_or(1 << 40);
        Ok(Space { available: total.saturating_sub(state.used()), total })
    }
}

/// An open file of a [`FaultyDisk`].
struct FaultyFile {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    inode: u64,
    writes: bool,
}

impl FaultyFile {
    fn writable(&self) -> io::Result<()> {
        if self.writes { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("inode", &self.inode).finish_non_exhaustive()
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        lock(&self.state).closed(self.inode);
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        state.powered()?;
        Ok(state.inode(self.inode)?.len())
    }

    fn read_at(&self, offset: u64, target: &mut [u8]) -> io::Result<usize> {
        let state = lock(&self.state);
        state.powered()?;
        Ok(state.inode(self.inode)?.read(offset, target))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
        let mut state = lock(&self.state);
        state.powered()?;
        let verdict = state.begin(Act::Write, On::File(self.inode))?;
        let half = bytes.len() / 2;
        let (written, result) = match verdict {
            Verdict::Whole => (bytes, Ok(())),
            Verdict::Half => (&bytes[..half], Err(io::ErrorKind::StorageFull.into())),
            Verdict::Torn => (&bytes[..half / SECTOR * SECTOR], Ok(())),
            Verdict::Nothing => (&bytes[..0], Ok(())),
        };
        if written.is_empty() {
            return result;
        }
        state.room_for(self.inode, offset.saturating_add(written.len() as u64))?;
        state.write(self.inode, offset, written, self.clock.now())?;
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = lock(&self.state);
        state.powered()?;
        let grows = len > state.inode(self.inode)?.len();
        state.begin(if grows { Act::Extend } else { Act::Cut }, On::File(self.inode))?;
        state.room_for(self.inode, len)?;
        state.set_len(self.inode, len, self.clock.now())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.powered()?;
        let outcome = state.begin(Act::Sync, On::File(self.inode)).map(|_| ());
        let powered = state.powered().is_ok();
        if outcome.is_ok() {
            state.inode_mut(self.inode)?.synced();
        } else if powered {
            state.inode_mut(self.inode)?.sync_failed();
        }
        outcome
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `path` without `.` and doubled or trailing slashes, so that one file has one name here.
fn normal(path: &Path) -> PathBuf {
    let out: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

#[cfg(test)]
mod tests;
