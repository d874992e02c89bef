//! Where a blob's bytes are read from: a file, or a backend through a window that reads ahead.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;

use super::Fault;
use super::file::{BlobFolder, OpenFault};
use crate::base::{DiskFile, Id128, disk};
use crate::crypto::stream::SEALED_SEGMENT;
use crate::objects::backends::{Backend, Pieces, WINDOW_FREE, WINDOW_MAX};
use crate::objects::error::ObjectError;
use crate::objects::guards::Hold;

/// The bytes of one blob. Reading blocks.
#[derive(Debug)]
pub(in crate::objects) enum Source {
    /// A file; removing its name does not disturb it.
    File(Box<dyn DiskFile>),
    /// At a backend.
    There(RemoteFile),
}

impl Source {
    /// The file of the blob `id`.
    pub fn file(folder: &BlobFolder, id: Id128) -> Result<Self, OpenFault> {
        Ok(Self::File(folder.open_file(id)?))
    }

    /// Whether it waits for a backend.
    pub const fn is_there(&self) -> bool {
        matches!(self, Self::There(_))
    }

    /// Fills all of `target` from `offset`.
    pub fn read_exact_at(&self, offset: u64, target: &mut [u8]) -> Result<(), OpenFault> {
        match self {
            Self::File(file) => Ok(disk::read_exact_at(file.as_ref(), offset, target)?),
            Self::There(file) => file.read_exact_at(offset, target),
        }
    }

    /// The `len` bytes from `offset` on.
    pub fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>, OpenFault> {
        match self {
            Self::File(file) => Ok(file.read_vec(offset, len)?),
            Self::There(file) => {
                let mut out = vec![0; len];
                file.read_exact_at(offset, &mut out)?;
                Ok(out)
            }
        }
    }

    /// All bytes of the blob.
    pub fn len(&self) -> Result<u64, OpenFault> {
        match self {
            Self::File(file) => Ok(file.len()?),
            Self::There(file) => Ok(file.stored),
        }
    }

    /// Says that nothing from `end` on will be wanted, but for single looks.
    pub fn will_end_at(&mut self, end: u64) {
        if let Self::There(file) = self {
            file.window.get_mut().unwrap_or_else(PoisonError::into_inner).until = end.min(file.stored);
        }
    }
}

impl Pieces for Source {
    fn piece(&self, offset: u64, len: usize) -> Result<Vec<u8>, ObjectError> {
        let mut out = vec![0; len];
        let cut = || ObjectError::Disk(io::ErrorKind::UnexpectedEof.into());
        match self.read_exact_at(offset, &mut out) {
            Ok(()) => Ok(out),
            Err(OpenFault::Disk(error)) => Err(error.into()),
            Err(OpenFault::Backend(error)) => Err(error.into()),
            Err(OpenFault::Missing | OpenFault::Corrupt(_)) => Err(cut()),
        }
    }
}

/// Bytes asked for with a header: enough for a small body.
const FRONT: u64 = WINDOW_FREE;

/// Bytes asked for with a header when the body is not wanted: as a rule the record is in them.
const HEAD: u64 = 4096;

/// A blob at a backend. As long as it lives the blob stays there.
pub(in crate::objects) struct RemoteFile {
    backend: Arc<Backend>,
    path: Path,
    stored: u64,
    window: Mutex<Window>,
    _shared: Hold,
}

/// Bytes at hand.
#[derive(Debug)]
struct Window {
    start: u64,
    bytes: Bytes,
    /// How many bytes to ask for when the next ones follow at once.
    ahead: u64,
    /// Where reading is going to end.
    until: u64,
    /// Room that the backend has lent for it.
    lent: u64,
}

impl RemoteFile {
    /// The `stored` bytes at `path`; nothing is asked for yet. `shared` keeps them from being deleted.
    pub fn new(backend: Arc<Backend>, path: Path, stored: u64, shared: Hold) -> Self {
        let window = Window { start: 0, bytes: Bytes::new(), ahead: 4 * SEALED_SEGMENT as u64, until: stored, lent: 0 };
        Self { backend, path, stored, window: Mutex::new(window), _shared: shared }
    }

    fn read_exact_at(&self, offset: u64, target: &mut [u8]) -> Result<(), OpenFault> {
        if offset.saturating_add(target.len() as u64) > self.stored {
            return Err(Fault::CUT.into());
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.part(offset, target.len()).is_none() {
            let mut len = window.wanted(offset, target.len() as u64, self.stored);
            window.bytes = Bytes::new();
            self.backend.take_back(std::mem::take(&mut window.lent));
            if len > WINDOW_FREE {
                if self.backend.lend(len) {
                    window.lent = len;
                } else {
                    len = WINDOW_FREE.max(target.len() as u64);
                }
            }
            window.bytes = self.backend.read(&self.path, offset, len, self.stored)?;
            window.start = offset;
        }
        let bytes = window.part(offset, target.len()).ok_or(Fault::CUT)?;
        target.copy_from_slice(bytes);
        Ok(())
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.backend.take_back(self.window.get_mut().unwrap_or_else(PoisonError::into_inner).lent);
    }
}

impl Window {
    fn part(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// How many bytes to ask for from `offset` on, where `len` are needed of a blob of `stored`.
    fn wanted(&mut self, offset: u64, len: u64, stored: u64) -> u64 {
        if offset == 0 {
            // Read for a range that begins far behind, or for its ends, a header comes alone.
            return if self.until < stored { HEAD } else { FRONT }.max(len).min(stored);
        }
        let ahead = self.ahead;
        let end = self.start + self.bytes.len() as u64;
        if (self.start..=end).contains(&offset) {
            self.ahead = (ahead * 2).min(WINDOW_MAX);
        }
        // Further than it is going to be read only where it is needed at once.
        ahead.min(self.until.saturating_sub(offset)).max(len).min(stored - offset)
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile")
            .field("path", &self.path.as_ref())
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}
