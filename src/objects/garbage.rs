//! Bytes nothing refers to any more: what an overwrite, a deletion, a completion or an abort leaves behind.
//!
//! The transaction that lets go of something writes down what, and has a job put in that removes all there is, so work
//! and cause are one commit, and a storm of overwrites is cleared in pages instead of one job each. Every step may be
//! done again: a file that is gone is fine, a row that is gone too.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::damage;
use super::error::ObjectError;
use super::index::{
    BLOBS, BlobRow, GARBAGE, MANIFESTS, ManifestRow, PARTS, UPLOADS, decode, parse_upload_key, part_key, row,
};
use super::joined::forget_joined;
use super::place::{self, Placed, Remote};
use super::service::Objects;
use super::uploads::scan_parts;
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, Record, WriteTx, after_prefix, record};

/// The kind of the job. Part of the stored format.
pub(super) const KIND: &str = "objects.garbage";

/// Rows removed in one transaction.
const PAGE: usize = 256;

/// Something to remove. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Garbage {
    /// A blob file; its row is gone.
    Blob(Id128),
    /// A multipart object's list of parts, with their blobs and rows.
    Manifest(Id128),
    /// Rows of a completed upload's parts; the blobs are the object's now, or discarded on their own.
    PartRows(Id128),
    /// An aborted upload's parts, with their blobs and rows.
    Upload(Id128),
    /// What a deleted bucket leaves: uploads in progress, and its key.
    Bucket(Id128),
    /// The file of a blob that is at a backend now.
    Stale(Id128),
    /// What is at a backend and no row names any more.
    There {
        /// The blob.
        blob: Id128,
        /// Where it is.
        remote: Remote,
        /// The upload in parts that may not have been completed.
        upload: Option<String>,
    },
}

impl Record for Garbage {
    const VERSION: u8 = 1;
}

impl Garbage {
    /// Whose bytes, or key, go with it.
    const fn bytes(&self) -> Option<Id128> {
        match self {
            Self::Blob(id) | Self::Manifest(id) | Self::Upload(id) | Self::Bucket(id) => Some(*id),
            Self::There { blob, .. } => Some(*blob),
            Self::PartRows(_) | Self::Stale(_) => None,
        }
    }

    /// Key of its row: what kind it is, its id, and at a backend what makes its name there.
    pub(super) fn key(&self) -> Vec<u8> {
        let (kind, id): (u8, _) = match self {
            Self::Blob(id) => (0, id),
            Self::Manifest(id) => (1, id),
            Self::PartRows(id) => (2, id),
            Self::Upload(id) => (3, id),
            Self::Bucket(id) => (4, id),
            Self::Stale(id) => (5, id),
            Self::There { blob, .. } => (6, blob),
        };
        let mut key = vec![kind];
        key.extend_from_slice(id.as_bytes());
        if let Self::There { remote, .. } = self {
            key.extend_from_slice(&remote.nonce.to_be_bytes());
        }
        key
    }
}

/// Whether something could be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collected {
    /// It is gone.
    Gone,
    /// Somebody is reading it, or a backup needs it.
    InUse,
}

impl Objects {
    /// Has `garbage` removed once the transaction is committed.
    pub(super) fn discard(&self, tx: &mut dyn WriteTx, garbage: &[Garbage]) -> Result<(), ObjectError> {
        if self.0.keep_files.load(Ordering::Relaxed) {
            return garbage.iter().try_for_each(|garbage| forget(tx, garbage));
        }
        for garbage in garbage {
            if let Some(id) = garbage.bytes() {
                damage::forget(tx, id)?;
            }
            tx.put(GARBAGE, &garbage.key(), &record::encode(garbage))?;
        }
        if !garbage.is_empty() {
            self.0.jobs.enqueue(tx, KIND, &[], Timestamp::default(), Some("all"))?;
        }
        Ok(())
    }

    /// Removes all garbage there is. What is at a backend that does not answer stays for the next time. Blocks.
    pub(super) fn collect_garbage(&self) -> Result<Collected, ObjectError> {
        let mut all = Collected::Gone;
        let mut silent = BTreeSet::new();
        let mut from = Bound::Unbounded;
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                tx.scan(GARBAGE, from.as_ref().map(Vec::as_slice), Bound::Unbounded, Direction::Forward, PAGE)
            });
            let rows = rows.map_err(ObjectError::Store)?;
            let Some((last, _)) = rows.last() else {
                if self.0.metrics.damaged.value() > 0 {
                    self.count_damage()?;
                }
                return Ok(all);
            };
            from = Bound::Excluded(last.clone());
            let mut removed = Vec::new();
            for (at, value) in rows {
                let garbage: Garbage = decode(GARBAGE, &value)?;
                let backend = match &garbage {
                    Garbage::There { remote, .. } => Some(remote.backend.clone()),
                    _ => None,
                };
                let collected = match &backend {
                    Some(backend) if silent.contains(backend) => Ok(Collected::InUse),
                    _ => self.collect(garbage.clone()),
                };
                match (collected, backend) {
                    (Ok(Collected::Gone), _) => removed.push((at, garbage)),
                    (Ok(Collected::InUse), _) => all = Collected::InUse,
                    (Err(ObjectError::Backend(error)), Some(backend)) => {
                        tracing::warn!(%error, "what is not needed any more stays at a backend for now");
                        silent.insert(backend);
                        all = Collected::InUse;
                    }
                    (Err(error), _) => return Err(error),
                }
            }
            self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                for (at, garbage) in &removed {
                    if tx.delete(GARBAGE, at)?
                        && let Garbage::There { remote, .. } = garbage
                    {
                        place::gone(tx, remote)?;
                    }
                }
                Ok::<_, ObjectError>(())
            })?;
        }
    }

    fn collect(&self, garbage: Garbage) -> Result<Collected, ObjectError> {
        let kept = self.kept();
        if *kept > 0 {
            return Ok(Collected::InUse);
        }
        match garbage {
            // A backup that begins from here on does not know it any more, so the lock need not outlast the network.
            Garbage::There { blob, remote, upload } => {
                drop(kept);
                return self.remove_there(blob, &remote, upload.as_ref());
            }
            // Inside the lock, as is a blob's coming back to the disk.
            Garbage::Stale(id) if self.0.writing.holds(id) => return Ok(Collected::InUse),
            Garbage::Stale(id) => {
                let row: Option<BlobRow> = self.0.store.read_blocking(|tx| row(tx, BLOBS, id.as_bytes()))?;
                if row.is_none_or(|row| row.placed != Placed::Here) {
                    self.remove_blob(id)?;
                }
            }
            Garbage::Blob(id) => self.remove_blob(id)?,
            Garbage::Manifest(id) if self.0.reading.holds(id) => return Ok(Collected::InUse),
            Garbage::Manifest(id) => self.remove_manifest(id)?,
            Garbage::PartRows(id) => while self.remove_parts(id, Blobs::Keep)? {},
            Garbage::Upload(id) => while self.remove_parts(id, Blobs::Remove)? {},
            Garbage::Bucket(id) => {
                while self.remove_uploads(id)? {}
                self.destroy_bucket(id)?;
            }
        }
        Ok(Collected::Gone)
    }

    fn remove_there(&self, blob: Id128, remote: &Remote, upload: Option<&String>) -> Result<Collected, ObjectError> {
        let Some(_alone) = self.0.reading_there.alone(blob) else { return Ok(Collected::InUse) };
        let backend = self.0.backends.find(&remote.backend)?;
        let path = backend.path(blob, remote);
        // Before the body, which nobody completes any more then; one that cannot be given up does not keep it there.
        let given_up = upload.map_or(Ok(()), |upload| backend.abort(&path, upload));
        backend.delete(&path)?;
        given_up?;
        Ok(Collected::Gone)
    }

    /// The files of `blobs` that are on the disk are removed; tells which these were.
    pub(super) fn remove_files(&self, blobs: impl Iterator<Item = Id128>) -> Result<Vec<Id128>, ObjectError> {
        let mut removed = Vec::new();
        for id in blobs {
            if self.placed(id)? == Placed::Here {
                self.remove_blob(id)?;
                removed.push(id);
            }
        }
        Ok(removed)
    }

    /// Removes the rows of `blobs`. What is not among the files `removed` is discarded: it is at a backend, or came back from
    /// one in between.
    pub(super) fn forget_blobs(
        &self,
        tx: &mut dyn WriteTx,
        blobs: impl Iterator<Item = Id128>,
        removed: &[Id128],
    ) -> Result<(), ObjectError> {
        let mut garbage = Vec::new();
        for id in blobs {
            match place::let_go(tx, id)? {
                Garbage::Blob(id) if removed.contains(&id) => {}
                other => garbage.push(other),
            }
        }
        self.discard(tx, &garbage)
    }

    pub(super) fn remove_blob(&self, id: Id128) -> Result<(), ObjectError> {
        let freed = self.0.blobs.remove(id)?;
        self.0.metrics.used.add(-(freed as i64));
        Ok(())
    }

    fn remove_manifest(&self, content: Id128) -> Result<(), ObjectError> {
        let end = after_prefix(content.as_bytes());
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                let from = Bound::Included(content.as_bytes().as_slice());
                tx.scan(MANIFESTS, from, end.as_ref().map(Vec::as_slice), Direction::Forward, 1)
            });
            let Some((at, value)) = rows.map_err(ObjectError::Store)?.into_iter().next() else {
                return self.remove_joined(content);
            };
            let parts = decode::<ManifestRow>(MANIFESTS, &value)?.parts;
            let removed = self.remove_files(parts.iter().map(|part| part.blob))?;
            let this = self.clone();
            self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                this.forget_blobs(tx, parts.iter().map(|part| part.blob), &removed)?;
                tx.delete(MANIFESTS, &at)?;
                Ok::<_, ObjectError>(())
            })?;
        }
    }

    /// Removes a page of an upload's parts; whether there were any.
    fn remove_parts(&self, upload: Id128, blobs: Blobs) -> Result<bool, ObjectError> {
        let parts = self.0.store.read_blocking(|tx| scan_parts(tx, upload, 0, PAGE))?;
        if parts.is_empty() {
            return Ok(false);
        }
        let removed = match blobs {
            Blobs::Remove => self.remove_files(parts.iter().map(|(_, part)| part.blob))?,
            Blobs::Keep => Vec::new(),
        };
        let this = self.clone();
        self.0.store.write_blocking(move |tx| {
            for (number, _) in &parts {
                tx.delete(PARTS, &part_key(upload, *number))?;
            }
            if blobs == Blobs::Remove {
                this.forget_blobs(tx, parts.iter().map(|(_, part)| part.blob), &removed)?;
            }
            Ok::<_, ObjectError>(true)
        })
    }

    /// Turns a page of a deleted bucket's uploads into garbage; whether there were any.
    fn remove_uploads(&self, bucket: Id128) -> Result<bool, ObjectError> {
        let this = self.clone();
        self.0.store.write_blocking(move |tx| {
            let end = after_prefix(bucket.as_bytes());
            let (from, to) = (Bound::Included(bucket.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
            let mut garbage = Vec::new();
            for (at, _) in tx.scan(UPLOADS, from, to, Direction::Forward, PAGE)? {
                garbage.push(Garbage::Upload(parse_upload_key(&at)?.1));
                tx.delete(UPLOADS, &at)?;
            }
            this.discard(tx, &garbage)?;
            Ok(!garbage.is_empty())
        })
    }
}

/// Removes the rows that lead to bytes, and leaves the bytes: for an index that is being made anew, whose judgement of what
/// nobody needs any more is no more than the best guess.
fn forget(tx: &mut dyn WriteTx, garbage: &Garbage) -> Result<(), ObjectError> {
    let Garbage::Manifest(content) = *garbage else { return Ok(()) };
    let end = after_prefix(content.as_bytes());
    let (from, to) = (Bound::Included(content.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
    // An object has at most 10,000 parts, 256 in a row.
    for (at, value) in tx.scan(MANIFESTS, from, to, Direction::Forward, usize::MAX)? {
        for part in decode::<ManifestRow>(MANIFESTS, &value)?.parts {
            tx.delete(BLOBS, part.blob.as_bytes())?;
        }
        tx.delete(MANIFESTS, &at)?;
    }
    forget_joined(tx, content)
}

/// Whether an upload's blobs go with their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blobs {
    Keep,
    Remove,
}
