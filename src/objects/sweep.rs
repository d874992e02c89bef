//! Leftovers: temporary files of interrupted uploads, blobs nothing refers to, uploads nobody finished.
//!
//! A temporary file that no upload of this process is writing is removed. A blob file is trusted more than the index: it
//! may be all that is left of an object whose row was lost. So a blob without a reference is first only noted; when a
//! later sweep, at least [`ORPHAN_AGE`] on, still finds it without one, it is moved to `quarantine/`, where the operator
//! decides. It is never deleted for the want of a row. A sweep that meets an error moves nothing.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::PoisonError;
use std::time::Duration;

use super::blob::{BlobFolder, Named, describe, remove_if_there};
use super::error::ObjectError;
use super::index::{BLOBS, ORPHANS, OrphanRow, decode, malformed_key};
use super::service::Objects;
use crate::base::{Id128, Timestamp, disk};
use crate::store::{Direction, StoreError, record};

/// How long a blob is known to be without a reference before it is put aside.
const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// Ids asked for in one transaction.
const PAGE: usize = 256;

/// Most orphans looked after in one sweep; more are counted and wait for the next.
const ORPHANS_MAX: usize = 100_000;

/// What a sweep found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Temporary files removed.
    pub temporaries: u64,
    /// Whole blob files seen.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, blobs nothing refers to.
    pub orphans: u64,
    /// Of these, moved to quarantine now.
    pub quarantined: u64,
    /// Uploads removed for their age.
    pub expired_uploads: u64,
}

/// A blob nothing refers to, and since when that is known.
struct Orphan {
    id: Id128,
    seen: Option<Timestamp>,
}

impl Objects {
    /// Removes old uploads and leftovers, and counts the blobs. Blocks, for as long as walking all blob files takes.
    ///
    /// # Errors
    /// The first error of disk or index; nothing was put aside then.
    pub fn sweep(&self) -> Result<Swept, ObjectError> {
        let _one_at_a_time = self.0.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.collect_garbage()?;
        let mut swept = Swept { expired_uploads: self.expire_uploads()?, ..Swept::default() };
        let mut orphans = Vec::new();
        for inner in self.0.blobs.inner() {
            let mut blobs = Vec::new();
            for entry in self.0.blobs.disk().list(&inner)? {
                match BlobFolder::identify(&entry) {
                    Named::Temporary(id) if !self.0.writing.holds(id) => {
                        remove_if_there(self.0.blobs.disk().as_ref(), &entry.path)?;
                        swept.temporaries += 1;
                    }
                    Named::Blob(id) => {
                        swept.blobs += 1;
                        swept.bytes = swept.bytes.saturating_add(entry.len);
                        blobs.push(id);
                    }
                    Named::Temporary(_) | Named::Foreign => {}
                }
            }
            for page in blobs.chunks(PAGE) {
                let found = self.orphans_among(page)?;
                swept.orphans += found.len() as u64;
                orphans.extend(found.into_iter().take(ORPHANS_MAX.saturating_sub(orphans.len())));
            }
        }
        self.0.metrics.used.set(i64::try_from(swept.bytes).unwrap_or(i64::MAX));
        self.0.metrics.orphans.set(i64::try_from(swept.orphans).unwrap_or(i64::MAX));
        self.note_orphans(&orphans)?;
        let now = self.0.clock.now();
        for orphan in orphans.iter().filter(|orphan| orphan.seen.is_some_and(|seen| now.since(seen) >= ORPHAN_AGE)) {
            self.quarantine(orphan.id)?;
            swept.quarantined += 1;
        }
        Ok(swept)
    }

    fn orphans_among(&self, blobs: &[Id128]) -> Result<Vec<Orphan>, ObjectError> {
        // Asked before the index is read: what is committed in between is found there.
        let suspects: Vec<Id128> = blobs.iter().copied().filter(|id| !self.0.writing.holds(*id)).collect();
        let keys: Vec<&[u8]> = suspects.iter().map(|id| id.as_bytes().as_slice()).collect();
        let (known, noted) = self
            .0
            .store
            .read_blocking(|tx| Ok::<_, StoreError>((tx.get_many(BLOBS, &keys)?, tx.get_many(ORPHANS, &keys)?)))
            .map_err(ObjectError::Store)?;
        let mut out = Vec::new();
        for ((id, known), noted) in suspects.iter().zip(known).zip(noted) {
            if known.is_none() {
                let noted: Option<OrphanRow> = noted.map(|bytes| decode(ORPHANS, &bytes)).transpose()?;
                out.push(Orphan { id: *id, seen: noted.map(|row| Timestamp(row.seen)) });
            }
        }
        Ok(out)
    }

    /// Notes orphans seen for the first time, and forgets those that are none any more.
    fn note_orphans(&self, orphans: &[Orphan]) -> Result<(), ObjectError> {
        let value = record::encode(&OrphanRow { seen: self.0.clock.now().millis() });
        let fresh: Vec<Id128> = orphans.iter().filter(|orphan| orphan.seen.is_none()).map(|orphan| orphan.id).collect();
        for page in fresh.chunks(PAGE) {
            let (page, value) = (page.to_vec(), value.clone());
            let note = move |tx: &mut dyn crate::store::WriteTx| {
                page.iter().try_for_each(|id| tx.put(ORPHANS, id.as_bytes(), &value))
            };
            self.0.store.write_blocking(note).map_err(ObjectError::Store)?;
        }
        let still: HashSet<Id128> = orphans.iter().map(|orphan| orphan.id).collect();
        let mut from = Bound::Unbounded;
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(ORPHANS, from.as_ref().map(Vec::as_slice), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            let mut settled = Vec::new();
            for (at, _) in rows {
                let id = <[u8; 16]>::try_from(at.as_slice()).map_err(|_other_length| malformed_key(ORPHANS))?;
                if !still.contains(&Id128::from_bytes(id)) {
                    settled.push(at);
                }
            }
            self.forget_orphans(settled)?;
        }
    }

    fn forget_orphans(&self, keys: Vec<Vec<u8>>) -> Result<(), ObjectError> {
        if keys.is_empty() {
            return Ok(());
        }
        let forget = move |tx: &mut dyn crate::store::WriteTx| {
            keys.iter().try_for_each(|key| tx.delete(ORPHANS, key).map(|_| ()))
        };
        self.0.store.write_blocking(forget).map_err(ObjectError::Store)
    }

    fn quarantine(&self, id: Id128) -> Result<(), ObjectError> {
        let kept = self.kept();
        if *kept > 0 {
            // A backup's view of the index may name it; the next sweep looks again.
            return Ok(());
        }
        let (disk, path) = (self.0.blobs.disk(), self.0.blobs.path(id));
        let target = self.0.quarantine.join(id.to_string());
        match describe(&self.0.blobs, id, |bucket| self.0.keys.beside_blobs(bucket).ok().flatten()) {
            Ok((record, footer)) => {
                let (bucket, key, size) = (record.bucket, record.key, footer.size);
                tracing::warn!(blob = %id, bucket, key, size, "a blob nothing refers to was moved to quarantine");
            }
            Err(fault) => {
                tracing::warn!(blob = %id, ?fault, "a blob nothing refers to, and not readable, was moved to quarantine");
            }
        }
        disk.rename(&path, &target)?;
        disk.sync_dir(&self.0.quarantine)?;
        disk.sync_dir(disk::parent(&path))?;
        self.0.metrics.quarantined.inc();
        self.forget_orphans(vec![id.as_bytes().to_vec()])
    }
}
