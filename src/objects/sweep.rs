//! Leftovers: temporary files of interrupted uploads, blobs nothing refers to, uploads nobody finished.
//!
//! A temporary file that no upload of this process is writing is looked into. It may be a blob that a power cut took the
//! final name from (see `blob/file.rs`): when the index names it, or every byte of it verifies, it gets its name. Else it
//! is the beginning of an upload that never ended, and is removed. A blob file is trusted more than the index: it
//! may be all that is left of an object whose row was lost. So a blob without a reference is first only noted; when a
//! later sweep, at least [`ORPHAN_AGE`] on, still finds it without one, it is moved to `quarantine/`, where the operator
//! decides. From there it is removed only when the setting `objects.quarantine` says after how long. A sweep that meets an
//! error moves nothing.
//!
//! Backends are not searched: the index knows every name the server has written there (`place.rs`), also of what was on its
//! way when a process ended, and that is deleted.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::blob::{BlobFile, BlobFolder, Named, Source, describe, remove_if_there};
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{BLOBS, BlobRow, ORPHANS, OrphanRow, QUARANTINED, decode, malformed_key};
use super::place::Placed;
use super::service::Objects;
use crate::base::{Entry, EntryKind, Id128, Timestamp, disk};
use crate::store::{Direction, ReadTx, StoreError, Table, WriteTx, record};

/// How long a blob is known to be without a reference before it is put aside.
const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// Ids asked for in one transaction.
const PAGE: usize = 256;

/// Most orphans looked after in one sweep; more are counted and wait for the next.
const ORPHANS_MAX: usize = 100_000;

/// What a sweep found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Temporary files removed: beginnings of uploads.
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
    /// Files that are in quarantine now.
    pub in_quarantine: u64,
    /// Their bytes.
    pub in_quarantine_bytes: u64,
    /// Files removed from quarantine for their age.
    pub removed: u64,
    /// Bodies that were on their way to a backend when a process ended or a request failed, and are deleted there.
    #[serde(default)]
    pub unsent: u64,
}

/// The last sweep that somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedSweep {
    /// Whether it is under way.
    pub running: bool,
    /// What it, or while it is under way the one before, came to, or why it failed.
    pub last: Option<Result<Swept, String>>,
}

/// Writes down how a sweep ended, also when it broke.
struct Ending {
    objects: Objects,
    came_to: Result<Swept, String>,
}

impl Ending {
    fn sweep(&mut self) {
        self.came_to = self.objects.sweep().map_err(|error| error.to_string());
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let came_to = std::mem::replace(&mut self.came_to, Err(String::new()));
        *self.objects.asked() = AskedSweep { running: false, last: Some(came_to) };
    }
}

/// A blob nothing refers to, and since when that is known.
struct Orphan {
    id: Id128,
    seen: Option<Timestamp>,
}

impl Objects {
    fn asked(&self) -> MutexGuard<'_, AskedSweep> {
        self.0.asked_sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last sweep stands that somebody asked for.
    pub fn asked_sweep(&self) -> AskedSweep {
        self.asked().clone()
    }

    /// Begins a sweep behind the scenes, unless one that somebody asked for is under way; [`Objects::asked_sweep`] tells
    /// what becomes of it. Must run inside a runtime.
    pub fn begin_sweep(&self) -> AskedSweep {
        let was_running = std::mem::replace(&mut self.asked().running, true);
        if !was_running {
            // Not under the lock: a runtime that is stopping drops it at once.
            let mut ending = Ending { objects: self.clone(), came_to: Err("the sweep broke off".to_owned()) };
            drop(tokio::task::spawn_blocking(move || ending.sweep()));
        }
        self.asked_sweep()
    }

    /// Removes old uploads and leftovers, and counts the blobs. Blocks, for as long as walking all blob files takes.
    ///
    /// # Errors
    /// The first error of disk or index; nothing was put aside then.
    pub fn sweep(&self) -> Result<Swept, ObjectError> {
        let _one_at_a_time = self.0.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.collect_garbage()?;
        let mut swept = Swept { expired_uploads: self.expire_uploads()?, ..Swept::default() };
        swept.unsent = self.sweep_sending()?;
        self.count_held()?;
        let mut orphans = Vec::new();
        for inner in self.0.blobs.inner() {
            let (mut blobs, mut temporaries) = (Vec::new(), Vec::new());
            for entry in self.0.blobs.disk().list(&inner)? {
                match BlobFolder::identify(&entry) {
                    Named::Temporary(id) if !self.0.writing.holds(id) => temporaries.push((id, entry.len)),
                    Named::Blob(id) => blobs.push((id, entry.len)),
                    Named::Temporary(_) | Named::Foreign => {}
                }
            }
            let before = blobs.len();
            for page in temporaries.chunks(PAGE) {
                self.settle_temporaries(page, &mut blobs, &mut swept)?;
            }
            if blobs.len() > before {
                self.0.blobs.disk().sync_dir(&inner)?;
            }
            for (_, len) in &blobs {
                swept.blobs += 1;
                swept.bytes = swept.bytes.saturating_add(*len);
            }
            let blobs: Vec<Id128> = blobs.into_iter().map(|(id, _)| id).collect();
            for page in blobs.chunks(PAGE) {
                let (found, stale) = self.orphans_among(page)?;
                self.discard_stale(stale)?;
                swept.orphans += found.len() as u64;
                orphans.extend(found.into_iter().take(ORPHANS_MAX.saturating_sub(orphans.len())));
            }
        }
        self.0.metrics.used.set(i64::try_from(swept.bytes).unwrap_or(i64::MAX));
        self.0.metrics.orphans.set(i64::try_from(swept.orphans).unwrap_or(i64::MAX));
        self.note_orphans(&orphans)?;
        let now = self.0.clock.now();
        for orphan in orphans.iter().filter(|orphan| orphan.seen.is_some_and(|seen| now.since(seen) >= ORPHAN_AGE)) {
            swept.quarantined += u64::from(self.quarantine(orphan.id)?);
        }
        self.look_after_quarantine(&mut swept)?;
        Ok(swept)
    }

    /// Names those of `temporaries` that are blobs, which join `blobs`, and removes the others.
    fn settle_temporaries(
        &self,
        temporaries: &[(Id128, u64)],
        blobs: &mut Vec<(Id128, u64)>,
        swept: &mut Swept,
    ) -> Result<(), ObjectError> {
        let keys: Vec<&[u8]> = temporaries.iter().map(|(id, _)| id.as_bytes().as_slice()).collect();
        let known = self.0.store.read_blocking(|tx| tx.get_many(BLOBS, &keys)).map_err(ObjectError::Store)?;
        for ((id, len), known) in temporaries.iter().zip(known) {
            // One that went to a backend was never synced, and is not wanted here.
            let here = known.map(|row| Ok::<_, ObjectError>(decode::<BlobRow>(BLOBS, &row)?.placed == Placed::Here));
            match here.unwrap_or_else(|| self.is_whole(*id)) {
                Ok(true) => {
                    self.0.blobs.give_name(*id)?;
                    blobs.push((*id, *len));
                }
                Ok(false) => {
                    remove_if_there(self.0.blobs.disk().as_ref(), &self.0.blobs.temporary(*id))?;
                    swept.temporaries += 1;
                }
                Err(error) => tracing::warn!(blob = %id, %error, "a leftover that cannot be read stays as it is"),
            }
        }
        Ok(())
    }

    /// Whether the blob file `id` verifies from its first byte to its last.
    fn is_whole(&self, id: Id128) -> Result<bool, ObjectError> {
        let mut failed = None;
        let key = |bucket| {
            self.0.keys.beside_blobs(bucket).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })
        };
        let whole = BlobFile::is_whole(&self.0.blobs, id, key)?;
        failed.map_or(Ok(whole), Err)
    }

    /// Counts what is in quarantine and removes what has been there for long enough.
    fn look_after_quarantine(&self, swept: &mut Swept) -> Result<(), ObjectError> {
        let (disk, now, keep) = (self.0.blobs.disk(), self.0.clock.now(), self.0.config.quarantine.duration());
        let (mut there, mut fresh) = (HashSet::new(), Vec::new());
        let mut files = disk.list(&self.0.quarantine)?;
        files.retain(|entry| entry.kind == EntryKind::File);
        let name = |entry: &Entry| entry.path.file_name()?.to_str()?.parse::<Id128>().ok();
        let files: Vec<(Id128, Entry)> = files.into_iter().filter_map(|entry| Some((name(&entry)?, entry))).collect();
        for page in files.chunks(PAGE) {
            let keys: Vec<&[u8]> = page.iter().map(|(id, _)| id.as_bytes().as_slice()).collect();
            let read = |tx: &dyn ReadTx| Ok((tx.get_many(QUARANTINED, &keys)?, tx.get_many(BLOBS, &keys)?));
            let (noted, referred) = self.0.store.read_blocking::<_, StoreError>(read).map_err(ObjectError::Store)?;
            for (((id, entry), noted), referred) in page.iter().zip(noted).zip(referred) {
                let since: Option<OrphanRow> = noted.map(|bytes| decode(QUARANTINED, &bytes)).transpose()?;
                let is_old = since.is_some_and(|row| now.since(Timestamp(row.seen)) >= keep);
                // An index that was put back may name it again: then somebody wants it.
                if is_old && !keep.is_zero() && referred.is_none() {
                    remove_if_there(disk.as_ref(), &entry.path)?;
                    tracing::warn!(blob = %id, bytes = entry.len, "a blob was removed from quarantine for its age");
                    swept.removed += 1;
                    continue;
                }
                if since.is_none() {
                    fresh.push(*id);
                }
                there.insert(*id);
                swept.in_quarantine += 1;
                swept.in_quarantine_bytes = swept.in_quarantine_bytes.saturating_add(entry.len);
            }
        }
        disk.sync_dir(&self.0.quarantine)?;
        self.note(QUARANTINED, &fresh)?;
        self.forget_but(QUARANTINED, &there)
    }

    /// Has the files `stale` removed, whose blobs are at backends: a move was cut off before it had come back to the disk.
    fn discard_stale(&self, stale: Vec<Id128>) -> Result<(), ObjectError> {
        if stale.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let garbage: Vec<Garbage> = stale.into_iter().map(Garbage::Stale).collect();
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| this.discard(tx, &garbage))
    }

    /// Those of `blobs` that nothing refers to, and those whose rows say that they are elsewhere.
    fn orphans_among(&self, blobs: &[Id128]) -> Result<(Vec<Orphan>, Vec<Id128>), ObjectError> {
        // Asked before the index is read: what is committed in between is found there.
        let suspects: Vec<Id128> = blobs.iter().copied().filter(|id| !self.0.writing.holds(*id)).collect();
        let keys: Vec<&[u8]> = suspects.iter().map(|id| id.as_bytes().as_slice()).collect();
        let (known, noted) = self
            .0
            .store
            .read_blocking(|tx| Ok::<_, StoreError>((tx.get_many(BLOBS, &keys)?, tx.get_many(ORPHANS, &keys)?)))
            .map_err(ObjectError::Store)?;
        let (mut out, mut stale) = (Vec::new(), Vec::new());
        for ((id, known), noted) in suspects.iter().zip(known).zip(noted) {
            match known {
                None => {
                    let noted: Option<OrphanRow> = noted.map(|bytes| decode(ORPHANS, &bytes)).transpose()?;
                    out.push(Orphan { id: *id, seen: noted.map(|row| Timestamp(row.seen)) });
                }
                Some(row) if decode::<BlobRow>(BLOBS, &row)?.placed != Placed::Here => stale.push(*id),
                Some(_) => {}
            }
        }
        Ok((out, stale))
    }

    /// Notes orphans seen for the first time, and forgets those that are none any more.
    fn note_orphans(&self, orphans: &[Orphan]) -> Result<(), ObjectError> {
        let fresh: Vec<Id128> = orphans.iter().filter(|orphan| orphan.seen.is_none()).map(|orphan| orphan.id).collect();
        self.note(ORPHANS, &fresh)?;
        self.forget_but(ORPHANS, &orphans.iter().map(|orphan| orphan.id).collect())
    }

    /// Notes `ids` in `table`, of this moment.
    fn note(&self, table: Table, ids: &[Id128]) -> Result<(), ObjectError> {
        let value = record::encode(&OrphanRow { seen: self.0.clock.now().millis() });
        for page in ids.chunks(PAGE) {
            let (page, value) = (page.to_vec(), value.clone());
            let note = move |tx: &mut dyn WriteTx| page.iter().try_for_each(|id| tx.put(table, id.as_bytes(), &value));
            self.0.store.write_blocking(note).map_err(ObjectError::Store)?;
        }
        Ok(())
    }

    /// Forgets what `table` notes beside `still`.
    fn forget_but(&self, table: Table, still: &HashSet<Id128>) -> Result<(), ObjectError> {
        let mut from = Bound::Unbounded;
        loop {
            let rows = self.0.store.read_blocking(|tx: &dyn ReadTx| {
                tx.scan(table, from.as_ref().map(Vec::as_slice), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = Bound::Excluded(last.clone());
            let mut settled = Vec::new();
            for (at, _) in rows {
                let id = <[u8; 16]>::try_from(at.as_slice()).map_err(|_other_length| malformed_key(table))?;
                if !still.contains(&Id128::from_bytes(id)) {
                    settled.push(at);
                }
            }
            if !settled.is_empty() {
                let forget =
                    move |tx: &mut dyn WriteTx| settled.iter().try_for_each(|key| tx.delete(table, key).map(|_| ()));
                self.0.store.write_blocking(forget).map_err(ObjectError::Store)?;
            }
        }
    }

    /// Moves a blob to quarantine; false when it has to stay for now.
    fn quarantine(&self, id: Id128) -> Result<bool, ObjectError> {
        let kept = self.kept();
        if *kept > 0 {
            // A backup's view of the index may name it; the next sweep looks again.
            return Ok(false);
        }
        let (disk, path) = (self.0.blobs.disk(), self.0.blobs.path(id));
        let target = self.0.quarantine.join(id.to_string());
        let key = |bucket| self.0.keys.beside_blobs(bucket).ok().flatten();
        match Source::file(&self.0.blobs, id).and_then(|file| describe(file, id, key)) {
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
        let value = record::encode(&OrphanRow { seen: self.0.clock.now().millis() });
        let noted = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            tx.delete(ORPHANS, id.as_bytes())?;
            tx.put(QUARANTINED, id.as_bytes(), &value)
        });
        noted.map_err(ObjectError::Store)?;
        Ok(true)
    }
}
