//! Sealed exports of the index: what a lost `objects.redb` is made anew from, together with the blobs.
//!
//! An export has every row of the index at one moment (that of its snapshot) that cannot be told from blobs: objects with
//! their versions and metadata, the small ones with their bytes, delete markers, lists of parts, uploads in progress, what
//! waits to be removed. It leaves out jobs, what is counted anew, what scrubs have found, how far changes of keys are, and **the keys of buckets**: these are
//! beside the blobs, so that destroying one makes the small objects of its bucket unreadable in exports too.
//!
//! `index/export-<number in 16 hex digits>`; each new one has the next number, and the two newest stay, so that one that
//! the disk has damaged costs a little time and nothing else. One is written under a temporary name, synced, read back whole,
//! then named; only then the one before the last goes. Format version 1, integers big endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic `MSTYINDX` |
//! | 8..10 | format version, 1 |
//! | 10..16 | 0 |
//! | 16..24 | number of the export |
//! | 24..32 | the moment before its snapshot, milliseconds since the Unix epoch |
//! | 32..64 | salt, random |
//! | 64..71 | nonce prefix, random |
//! | 71 | 0 |
//! | 72..104 | key commitment |
//! | 104..164 | data key of this export alone, wrapped by the keyring for the context `objects/export` |
//! | then | frames: bytes of what follows (4), sealed piece |
//!
//! A piece is one of [`store::dump`](crate::store::dump), compressed: bytes before (4), zstd. Each is one segment of
//! [`crate::crypto::stream`], the last marked as such, with bytes 0..72 as context: a piece that is changed, moved, or left
//! out is noticed, and costs its own rows alone when there is nothing better.
//!
//! **Keys.** What opens an export is the master key and nothing else, whatever the keyring's file has been through. The
//! wrapped key stands in the head, so that a new master key means new heads and nothing else (`rewrap.rs`).
//!
//! **What it costs.** An export is made every `objects.export_every`; one that takes longer than some seconds never before a
//! hundred times as long has passed, so that exports take a hundredth of a disk at most. Memory: a piece.
//!
//! Start reading at `write.rs`, then `read.rs`; `keep.rs` says when.

#[cfg(any(test, feature = "testing"))]
pub(super) mod fuzz;
mod keep;
mod read;
mod rewrap;
mod rows;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::blob::remove_if_there;
use crate::base::{Disk, EntryKind, Random, Timestamp, disk};
use crate::crypto::stream::PREFIX;
use crate::crypto::{Key, Keyring, StreamKey, keyring};
use crate::store::VALUE_MAX;

pub(super) use keep::Kept;
pub(super) use read::ExportReader;

const MAGIC: &[u8; 8] = b"MSTYINDX";
const VERSION: u16 = 1;
/// Bytes of the head that the stream is bound to.
const BOUND: usize = 72;
/// Bytes of the head.
const HEAD: usize = BOUND + 32 + keyring::WRAPPED;
/// What the keyring wraps data keys for.
const CONTEXT: &[u8] = b"objects/export";
/// Most bytes of a piece: the dump ends one soon after 1 MiB, and one value may be the last.
const PIECE_MAX: usize = VALUE_MAX + (2 << 20);
/// Most bytes of a sealed piece; zstd makes what it cannot compress a little longer.
const FRAME_MAX: usize = PIECE_MAX + (64 << 10);
/// How many exports stay.
pub(super) const GENERATIONS: usize = 2;
const NAME: &str = "export-";
const TEMPORARY: &str = "tmp";

/// The folder of exports. All functions block.
#[derive(Debug)]
pub(super) struct Exports {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keyring: Arc<Keyring>,
    random: Arc<dyn Random>,
    /// Held while an export is written or heads are; the numbers of those that are known to be wrapped by the master key in
    /// use.
    writing: Mutex<HashSet<u64>>,
}

/// An export that is there, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Exports {
    /// Exports in `folder`, which is made.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        keyring: Arc<Keyring>,
        random: Arc<dyn Random>,
    ) -> std::io::Result<Self> {
        disk::make_folder(disk.as_ref(), &folder)?;
        Ok(Self { disk, folder, keyring, random, writing: Mutex::default() })
    }

    /// What is there, newest first.
    pub fn list(&self) -> std::io::Result<Vec<Export>> {
        let mut out = Vec::new();
        for entry in self.disk.list(&self.folder)? {
            let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digits = name.strip_prefix(NAME).filter(|digits| digits.len() == 16);
            let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            if let Some(number) = number.filter(|_| entry.kind == EntryKind::File) {
                out.push(Export { number, path: entry.path, bytes: entry.len });
            }
        }
        out.sort_unstable_by_key(|export| std::cmp::Reverse(export.number));
        Ok(out)
    }

    /// Opens an export for reading.
    pub fn read(&self, export: &Export) -> Result<ExportReader, super::blob::OpenFault> {
        ExportReader::open(self.disk.as_ref(), &export.path, &self.keyring)
    }

    /// Removes exports beyond the newest ones, and halves of one.
    fn prune(&self) -> std::io::Result<()> {
        for old in self.list()?.into_iter().skip(GENERATIONS) {
            remove_if_there(self.disk.as_ref(), &old.path)?;
        }
        for entry in self.disk.list(&self.folder)? {
            if entry.path.extension().is_some_and(|ending| ending == TEMPORARY) {
                remove_if_there(self.disk.as_ref(), &entry.path)?;
            }
        }
        self.disk.sync_dir(&self.folder)
    }

    /// Taken around the snapshot and the writing of it, so that exports follow each other as their snapshots do.
    pub fn writing(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{NAME}{number:016x}"))
    }
}

/// The head of an export, and the key of its pieces.
struct Head {
    number: u64,
    taken: Timestamp,
    stream: StreamKey,
}

impl Head {
    fn stream(data_key: &Key, bound: &[u8; BOUND]) -> StreamKey {
        let (mut salt, mut prefix) = ([0; 32], [0; PREFIX]);
        salt.copy_from_slice(&bound[32..64]);
        prefix.copy_from_slice(&bound[64..71]);
        StreamKey::new(data_key, &salt, prefix, bound)
    }
}
