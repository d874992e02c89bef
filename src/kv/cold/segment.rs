//! One file of records: how a record is sealed, and read back. The layout is told in [`super`].
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ColdError, LARGEST, Spot};
use crate::base::disk::{DiskFile, read_exact_at};
use crate::crypto::Aead;
use crate::crypto::aead::{NONCE, TAG};

/// Bytes in front of a body: its length and its index.
const PREFIX: usize = 12;

/// Bytes of a body in front of the key.
const BODY: usize = 5;

/// Bytes of a record.
pub const fn record_bytes(key: usize, dump: usize) -> usize {
    PREFIX.saturating_add(BODY).saturating_add(key).saturating_add(dump).saturating_add(TAG)
}

/// Appends the record of a value to `batch`.
pub fn seal(aead: &Aead, index: u64, spot: Spot, store: u8, key: &[u8], dump: &[u8], batch: &mut Vec<u8>) {
    let start = batch.len();
    let length = BODY.saturating_add(key.len()).saturating_add(dump.len());
    batch.reserve(record_bytes(key.len(), dump.len()));
    batch.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    batch.extend_from_slice(&index.to_le_bytes());
    batch.push(store);
    batch.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    batch.extend_from_slice(key);
    batch.extend_from_slice(dump);
    let Some((prefix, body)) = batch.get_mut(start..).and_then(|record| record.split_first_chunk_mut::<PREFIX>())
    else {
        return;
    };
    let tag = aead.seal(&nonce(index), &associated(spot.segment, spot.offset, prefix), body);
    batch.extend_from_slice(&tag);
}

/// A record that was read back.
#[derive(Debug)]
pub struct Record {
    /// The store its key is in.
    pub store: u8,
    bytes: Vec<u8>,
    key: std::ops::Range<usize>,
}

impl Record {
    /// The key.
    pub fn key(&self) -> &[u8] {
        self.bytes.get(self.key.clone()).unwrap_or_default()
    }

    /// The dumped value.
    pub fn dump(&self) -> &[u8] {
        self.bytes.get(self.key.end..).unwrap_or_default()
    }
}

/// A segment that can be read. It stays readable while anybody holds it, its name gone or not.
#[derive(Debug)]
pub struct SegmentFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    number: u32,
    aead: Arc<Aead>,
}

impl SegmentFile {
    pub(super) const fn new(file: Box<dyn DiskFile>, path: PathBuf, number: u32, aead: Arc<Aead>) -> Self {
        Self { file, path, number, aead }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ColdError> {
        self.file.write_at(offset, bytes).map_err(ColdError::disk("write", &self.path))
    }

    /// Reads the value of `key` in `store`. Blocks.
    ///
    /// # Errors
    /// The disk refuses, or what is there is not this key's value.
    pub fn read(&self, spot: Spot, store: u8, key: &[u8]) -> Result<Record, ColdError> {
        let mut bytes = vec![0; record_bytes(key.len(), spot.len as usize)];
        let at = u64::from(spot.offset);
        read_exact_at(self.file.as_ref(), at, &mut bytes).map_err(ColdError::disk("read", &self.path))?;
        self.open(spot.offset, bytes)
            .filter(|record| record.store == store && record.key() == key)
            .ok_or_else(|| self.damaged(at))
    }

    /// Reads the record at `offset`, whatever it holds, and says where the next begins; `None` at `end`. Blocks.
    ///
    /// # Errors
    /// The disk refuses, or there is no record.
    pub fn read_next(&self, offset: u32, end: u64) -> Result<Option<(Record, u32)>, ColdError> {
        let at = u64::from(offset);
        if at >= end {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX];
        read_exact_at(self.file.as_ref(), at, &mut prefix).map_err(ColdError::disk("read", &self.path))?;
        let length = prefix.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let whole = PREFIX.saturating_add(length).saturating_add(TAG);
        let next = at.saturating_add(whole as u64);
        // Keys are at most as long as one frame of the journal; what claims more is no record.
        if next > end || length > LARGEST.saturating_add(u32::MAX as usize >> 2) {
            return Err(self.damaged(at));
        }
        let mut bytes = vec![0; whole];
        read_exact_at(self.file.as_ref(), at, &mut bytes).map_err(ColdError::disk("read", &self.path))?;
        let record = self.open(offset, bytes).ok_or_else(|| self.damaged(at))?;
        Ok(Some((record, u32::try_from(next).unwrap_or(u32::MAX))))
    }

    fn open(&self, offset: u32, mut bytes: Vec<u8>) -> Option<Record> {
        let (prefix, rest) = bytes.split_first_chunk_mut::<PREFIX>()?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG>()?;
        let length = u32::from_le_bytes(*prefix.first_chunk()?) as usize;
        let index = u64::from_le_bytes(*prefix.last_chunk()?);
        if length != body.len() {
            return None;
        }
        self.aead.open(&nonce(index), &associated(self.number, offset, prefix), body, tag).ok()?;
        let store = *body.first()?;
        let key_bytes = u32::from_le_bytes(*body.get(1..)?.first_chunk()?) as usize;
        let key_at = const { PREFIX + BODY };
        let key = key_at..key_at.saturating_add(key_bytes);
        let end = PREFIX.saturating_add(length);
        if key.end > end {
            return None;
        }
        bytes.truncate(end);
        Some(Record { store, bytes, key })
    }

    fn damaged(&self, offset: u64) -> ColdError {
        ColdError::Damaged { path: self.path.clone(), offset }
    }
}

fn nonce(index: u64) -> [u8; NONCE] {
    let mut out = [0; NONCE];
    for (place, byte) in out.iter_mut().zip(index.to_le_bytes()) {
        *place = byte;
    }
    out
}

fn associated(segment: u32, offset: u32, prefix: &[u8; PREFIX]) -> [u8; 20] {
    let mut out = [0; 20];
    let bytes = segment.to_le_bytes().into_iter().chain(offset.to_le_bytes()).chain(*prefix);
    for (place, byte) in out.iter_mut().zip(bytes) {
        *place = byte;
    }
    out
}
