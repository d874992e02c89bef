//! Reading an export: everything is verified before a row comes out.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::path::Path;

use super::{BOUND, CONTEXT, FRAME_MAX, HEAD, Head, MAGIC, PIECE_MAX, VERSION};
use crate::base::{Disk, DiskFile, OpenMode, Timestamp, disk};
use crate::crypto::{Keyring, mac};
use crate::objects::blob::{Fault, OpenFault};

/// An export open for reading, its head proven.
pub(in crate::objects) struct ExportReader {
    file: Box<dyn DiskFile>,
    head: Head,
    /// Bytes of the file.
    end: u64,
    at: u64,
    index: u32,
}

impl std::fmt::Debug for ExportReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportReader").field("number", &self.head.number).finish_non_exhaustive()
    }
}

impl ExportReader {
    /// Opens the export at `path`.
    pub fn open(disk: &dyn Disk, path: &Path, keyring: &Keyring) -> Result<Self, OpenFault> {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = [0; HEAD];
        disk::read_exact_at(file.as_ref(), 0, &mut bytes)?;
        let head = prove(&bytes, keyring)?;
        let end = file.len()?;
        Ok(Self { file, head, end, at: HEAD as u64, index: 0 })
    }

    /// Its number.
    pub const fn number(&self) -> u64 {
        self.head.number
    }

    /// The moment before its snapshot.
    pub const fn taken(&self) -> Timestamp {
        self.head.taken
    }

    /// The next piece of the index, `Some(None)` for one that is damaged; `None` behind the last.
    #[expect(clippy::option_option, reason = "as `store::recover` takes pieces")]
    pub fn next_piece(&mut self) -> Option<Option<Vec<u8>>> {
        if self.at >= self.end {
            return None;
        }
        let mut len = [0; 4];
        let start = self.at.saturating_add(4);
        let read = disk::read_exact_at(self.file.as_ref(), self.at, &mut len);
        let len = u32::from_be_bytes(len);
        let behind = start.saturating_add(u64::from(len));
        if read.is_err() || len as usize > FRAME_MAX || behind > self.end {
            // Where the next one begins is not known.
            self.at = self.end;
            return Some(None);
        }
        self.at = behind;
        let index = self.index;
        self.index = self.index.wrapping_add(1);
        let mut sealed = vec![0; len as usize];
        if disk::read_exact_at(self.file.as_ref(), start, &mut sealed).is_err() {
            return Some(None);
        }
        Some(open_piece(&self.head, index, behind == self.end, sealed))
    }

    /// Whether all of it is there. Reads it to its end.
    pub fn reads_whole(mut self) -> bool {
        let mut any = false;
        while let Some(piece) = self.next_piece() {
            if piece.is_none() {
                return false;
            }
            any = true;
        }
        any
    }
}

fn prove(bytes: &[u8; HEAD], keyring: &Keyring) -> Result<Head, Fault> {
    let cut = Fault("its head is malformed");
    let (bound, rest) = bytes.split_first_chunk::<BOUND>().ok_or(cut)?;
    let (commitment, wrapped) = rest.split_first_chunk::<32>().ok_or(cut)?;
    let (magic, fields) = bound.split_first_chunk::<8>().ok_or(cut)?;
    let (version, fields) = fields.split_first_chunk::<2>().ok_or(cut)?;
    let (_zeros, fields) = fields.split_first_chunk::<6>().ok_or(cut)?;
    let (number, fields) = fields.split_first_chunk::<8>().ok_or(cut)?;
    let taken = fields.first_chunk::<8>().ok_or(cut)?;
    if magic != MAGIC {
        return Err(Fault("it does not begin as an export of the index"));
    }
    if u16::from_be_bytes(*version) != VERSION {
        return Err(Fault("its format is of a later release, or its head was changed"));
    }
    let unwrapped = keyring.unwrap(CONTEXT, wrapped);
    let data_key = unwrapped.map_err(|_tampered| Fault("its key does not open with the master key"))?;
    let stream = Head::stream(&data_key, bound);
    if !mac::equal(stream.commitment(), commitment) {
        return Err(Fault("its key commitment does not hold"));
    }
    Ok(Head { number: u64::from_be_bytes(*number), taken: Timestamp(u64::from_be_bytes(*taken)), stream })
}

fn open_piece(head: &Head, index: u32, last: bool, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
    head.stream.open_segment(index, last, &mut sealed).ok()?;
    let (len, packed) = sealed.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    let piece = zstd::bulk::decompress(packed, len.min(PIECE_MAX)).ok()?;
    (piece.len() == len).then_some(piece)
}
