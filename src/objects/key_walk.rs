//! The walk of a change of a bucket's key: every data key that is still wrapped by the key before is wrapped anew. See
//! `key_change.rs`.

use std::collections::HashMap;
use std::ops::Bound;
use std::time::Duration;

use super::blob::{BlobFile, BlobFolder, BucketKey, Named, Rewrap, Wrapped, fits, put_wrapped, rewrap};
use super::error::ObjectError;
use super::index::{BLOBS, BlobRow, INLINE, REWRAPS, ROTATIONS, decode, malformed_key};
use super::key_change::{FOLDERS, RotationRow, Stage};
use super::service::Objects;
use crate::base::{Entry, EntryKind, Id128};
use crate::store::{Direction, ReadTx, Row, StoreError, WriteTx, record};

/// Headers written between two commits.
const BATCH: usize = 256;

/// Folders without a blob of the bucket, until the place is noted all the same.
const NOTED: u16 = 64;

/// Bodies in the index read at once: half a megabyte.
const BODIES: usize = 64;

/// Pages of bodies of which none was of the bucket, until the place is noted all the same.
const IDLE_PAGES: u32 = 64;

/// The longest rest between two batches: as long as the last one took, so that half of the disk's time is others'.
const REST: Duration = Duration::from_secs(2);

/// A walk under way.
pub(super) struct Walk<'a> {
    pub id: Id128,
    pub key: &'a BucketKey,
    pub row: RotationRow,
    /// Blobs whose header is written and whose row is to go.
    pub settled: Vec<Id128>,
    pub go_on: &'a dyn Fn() -> bool,
}

impl Objects {
    /// Wraps what is in blob files anew, from this folder on; false when it was stopped.
    pub(super) fn rewrap_files(&self, walk: &mut Walk<'_>, from: u16) -> Result<bool, ObjectError> {
        for folder in from..=FOLDERS {
            for page in self.blobs_in(folder)?.chunks(BATCH) {
                if !(walk.go_on)() {
                    return Ok(false);
                }
                let began = self.0.clock.monotonic();
                self.rewrap_batch(walk, page)?;
                self.rest(self.0.clock.monotonic().saturating_sub(began));
            }
            walk.row.stage = if folder == FOLDERS { Stage::Bodies(Vec::new()) } else { Stage::Files(folder + 1) };
            if !walk.settled.is_empty() || folder % NOTED == 0 {
                self.advance(walk, Vec::new())?;
            }
        }
        Ok(true)
    }

    /// The ids of files in a folder of blobs, or in quarantine.
    fn blobs_in(&self, folder: u16) -> Result<Vec<Id128>, ObjectError> {
        let disk = self.0.blobs.disk();
        let Some(inner) = self.0.blobs.inner().nth(usize::from(folder)) else {
            let names = disk.list(&self.0.quarantine)?;
            let id = |entry: &Entry| entry.path.file_name()?.to_str()?.parse().ok();
            return Ok(names.iter().filter(|entry| entry.kind == EntryKind::File).filter_map(id).collect());
        };
        let found = disk.list(&inner)?;
        let id = |entry: &Entry| match BlobFolder::identify(entry) {
            Named::Blob(id) | Named::Temporary(id) => Some(id),
            Named::Foreign => None,
        };
        Ok(found.iter().filter_map(id).collect())
    }

    fn rewrap_batch(&self, walk: &mut Walk<'_>, blobs: &[Id128]) -> Result<(), ObjectError> {
        let keys: Vec<&[u8]> = blobs.iter().map(|id| id.as_bytes().as_slice()).collect();
        let rows = self.0.store.read_blocking(|tx| tx.get_many(BLOBS, &keys)).map_err(ObjectError::Store)?;
        let mut planned: Vec<(Id128, Wrapped)> = Vec::new();
        for (blob, row) in blobs.iter().zip(rows) {
            let named = row.map(|row| decode::<BlobRow>(BLOBS, &row)).transpose()?;
            if named.as_ref().is_some_and(|named| named.bucket != walk.id) {
                continue;
            }
            let Some(header) = self.0.blobs.header(*blob, &self.aside(*blob))? else { continue };
            match rewrap(&header, *blob, walk.key) {
                Ok(Rewrap::To(wrapped)) => planned.push((*blob, wrapped)),
                Ok(Rewrap::Current | Rewrap::Elsewhere) => {}
                // What no row names may be a beginning.
                Err(_fault) => walk.row.damaged += u64::from(named.is_some()),
            }
        }
        if planned.is_empty() {
            return Ok(());
        }
        let (settled, rows) = (std::mem::take(&mut walk.settled), planned.clone());
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            settled.iter().try_for_each(|blob| tx.delete(REWRAPS, blob.as_bytes()).map(drop))?;
            rows.iter().try_for_each(|(blob, wrapped)| tx.put(REWRAPS, blob.as_bytes(), wrapped))?;
            Ok::<_, ObjectError>(())
        })?;
        for (blob, wrapped) in planned {
            self.0.blobs.write_wrapped(blob, &self.aside(blob), &wrapped)?;
            walk.settled.push(blob);
            walk.row.rewrapped += 1;
        }
        Ok(())
    }

    /// Wraps what is in the index anew, behind `after`; false when it was stopped.
    pub(super) fn rewrap_bodies(&self, walk: &mut Walk<'_>, mut after: Vec<u8>) -> Result<bool, ObjectError> {
        let mut idle = 0;
        loop {
            if !(walk.go_on)() {
                return Ok(false);
            }
            let began = self.0.clock.monotonic();
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(INLINE, Bound::Excluded(after.as_slice()), Bound::Unbounded, Direction::Forward, BODIES)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            let mut planned = Vec::new();
            for (at, bytes) in rows {
                let id = <[u8; 16]>::try_from(at.as_slice()).map_err(|_other_length| malformed_key(INLINE))?;
                match rewrap(&bytes, Id128::from_bytes(id), walk.key) {
                    Ok(Rewrap::To(wrapped)) => planned.push((at, bytes, wrapped)),
                    Ok(Rewrap::Current | Rewrap::Elsewhere) => {}
                    Err(_fault) => {
                        walk.row.damaged += u64::from(BlobFile::bucket_in(&bytes) == Some(walk.id));
                    }
                }
            }
            idle += 1;
            walk.row.rewrapped += planned.len() as u64;
            walk.row.stage = Stage::Bodies(after.clone());
            if !planned.is_empty() || idle >= IDLE_PAGES {
                idle = 0;
                self.advance(walk, planned)?;
            }
            self.rest(self.0.clock.monotonic().saturating_sub(began));
        }
        walk.row.stage = Stage::Exports;
        self.advance(walk, Vec::new())?;
        Ok(true)
    }

    /// Notes how far the walk is, and puts the wrapped keys of `bodies` into those that are still as they were read.
    pub(super) fn advance(
        &self,
        walk: &mut Walk<'_>,
        bodies: Vec<(Vec<u8>, Vec<u8>, Wrapped)>,
    ) -> Result<(), ObjectError> {
        let (id, row, settled) = (walk.id, record::encode(&walk.row), std::mem::take(&mut walk.settled));
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            settled.iter().try_for_each(|blob| tx.delete(REWRAPS, blob.as_bytes()).map(drop))?;
            for (at, bytes, wrapped) in &bodies {
                if tx.get(INLINE, at)?.as_ref() == Some(bytes) {
                    let mut again = bytes.clone();
                    put_wrapped(&mut again, wrapped);
                    tx.put(INLINE, at, &again)?;
                }
            }
            tx.put(ROTATIONS, id.as_bytes(), &row)?;
            Ok::<_, ObjectError>(())
        })
    }

    /// Has no export hold anything of before; false when it was stopped.
    pub(super) fn export_twice(&self, go_on: &dyn Fn() -> bool) -> Result<bool, ObjectError> {
        if self.0.exports.list()?.is_empty() {
            return Ok(true);
        }
        for _ in 0..super::export::GENERATIONS {
            if self.export_now(go_on)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the headers that `objects.rewraps` names, which a crash or an error may have torn. Blocks.
    pub(super) fn redo_rewraps(&self) -> Result<(), ObjectError> {
        let rows: Result<Vec<Row>, StoreError> = self.0.store.read_blocking(|tx: &dyn ReadTx| {
            // Two batches at most.
            tx.scan(REWRAPS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)
        });
        let rows = rows.map_err(ObjectError::Store)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut keys = HashMap::new();
        for (_, bucket) in self.changing()? {
            keys.insert(bucket.id, self.0.keys.adopt(bucket.id, &bucket.wrapped_key)?);
        }
        for (at, wrapped) in &rows {
            let id = <[u8; 16]>::try_from(at.as_slice()).map_err(|_other_length| malformed_key(REWRAPS))?;
            let (id, wrapped) = (Id128::from_bytes(id), Wrapped::try_from(wrapped.as_slice()));
            let wrapped = wrapped.map_err(|_other_length| malformed_key(REWRAPS))?;
            let Some(header) = self.0.blobs.header(id, &self.aside(id))? else { continue };
            let key = BlobFile::bucket_in(&header).and_then(|bucket| keys.get(&bucket));
            if key.is_some_and(|key| fits(&header, key, &wrapped)) {
                self.0.blobs.write_wrapped(id, &self.aside(id), &wrapped)?;
            }
        }
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            rows.iter().try_for_each(|(at, _)| tx.delete(REWRAPS, at).map(drop)).map_err(ObjectError::Store)
        })
    }

    /// Where the blob `id` is when a sweep has put it aside.
    fn aside(&self, id: Id128) -> std::path::PathBuf {
        self.0.quarantine.join(id.to_string())
    }

    fn rest(&self, took: Duration) {
        if !took.is_zero() {
            self.0.key_changes.rest.wait(took.min(REST));
        }
    }
}
