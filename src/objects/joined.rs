//! Which parts an object of several has, as a blob beside them.
//!
//! Parts tell their upload and number, not whether the upload was completed and with which of them. So a completion writes
//! one more blob, before its commit: a part with the number 0 of the upload, whose body is a [`JoinedRow`]. Nothing but a
//! rebuild of the index reads it. It goes after the parts, so that a rebuild that finds it without them knows that the
//! object is gone, and takes no part that is left for an upload in progress. It is made on the disk, wherever the bucket keeps
//! its bodies, and moves with them afterwards.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::blob::{Batch, BlobFile, BlobWriter, BucketKey, Fault, OpenFault, Record, Source};
use super::error::ObjectError;
use super::guards::Hold;
use super::index::{BLOBS, JOINED, MANIFESTS, ManifestRow, ObjectRow, PartRef, decode};
use super::keys::OpenBucket;
use super::names::ObjectKey;
use super::place::{Placed, settle_in};
use super::service::{Objects, blocking};
use super::types::Metadata;
use crate::base::Id128;
use crate::store::{Direction, ReadTx, WriteTx, after_prefix, record};

/// The number of the part that is none.
pub(super) const NUMBER: u16 = 0;

/// Most bytes of a body: 10,000 parts, each with a checksum, take less than half.
const BODY_MAX: u64 = 4 << 20;

/// A multipart object as its completion makes it. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JoinedRow {
    /// Its row in `objects.current`, before it has a version.
    pub object: Vec<u8>,
    /// Its rows in `objects.manifests`.
    pub manifest: Vec<(Vec<u8>, Vec<u8>)>,
}

impl record::Record for JoinedRow {
    const VERSION: u8 = 1;
}

impl JoinedRow {
    /// What the blob in `file` says. Blocks.
    pub fn read(file: &BlobFile) -> Result<Self, OpenFault> {
        if file.size() > BODY_MAX {
            return Err(Fault("its list of parts is too long").into());
        }
        let mut body = Vec::new();
        for index in 0..file.segments() {
            body.extend(file.segment(index)?);
        }
        Ok(record::decode(&body).map_err(|_other_release| Fault("its list of parts is malformed"))?)
    }

    /// The object.
    pub fn object(&self) -> Result<ObjectRow, Fault> {
        record::decode(&self.object).map_err(|_other_release| Fault("its object is malformed"))
    }

    /// Its parts, in order.
    pub fn parts(&self) -> Result<Vec<PartRef>, Fault> {
        let mut out = Vec::new();
        for (_, value) in &self.manifest {
            let row: ManifestRow = record::decode(value).map_err(|_other_release| Fault("its parts are malformed"))?;
            out.extend(row.parts);
        }
        Ok(out)
    }
}

/// The blob of a completion, which nothing refers to yet.
#[derive(Debug)]
pub(super) struct Noted {
    pub blob: Id128,
    /// Keeps sweeps away until the index row is committed.
    pub _hold: Hold,
}

impl Objects {
    /// Writes down what the upload `upload` becomes; durable when it returns.
    ///
    /// # Cancel safety
    /// Dropped before its end, a blob may be left that the sweep finds.
    pub(super) async fn note_joined(
        &self,
        bucket: &Arc<OpenBucket>,
        key: &ObjectKey,
        upload: Id128,
        object: &ObjectRow,
        manifest: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Noted, ObjectError> {
        let blob = Id128::random(self.0.random.as_ref());
        let noted = Noted { blob, _hold: self.0.writing.hold(blob) };
        let (bucket, name) = (Arc::clone(bucket), bucket.name.to_string());
        let part = Some((upload, NUMBER));
        let record = Record { bucket: name, key: key.to_string(), part, metadata: Metadata::default() };
        let row = JoinedRow { object: record::encode(object), manifest: manifest.to_vec() };
        let this = self.clone();
        blocking(move || {
            let mut body = Bytes::from(record::encode(&row));
            let inner = &this.0;
            let explain = |error| inner.room.explain(error);
            inner.room.admit_now(body.len() as u64)?;
            let random = inner.random.as_ref();
            let writer = BlobWriter::create(inner.blobs.clone(), noted.blob, &bucket.key, &record, random);
            let mut writer = writer.map_err(explain)?;
            let mut batch = Batch::default();
            loop {
                batch.fill(&mut body);
                let last = body.is_empty();
                writer.write(&mut batch, last).map_err(explain)?;
                if last {
                    break;
                }
            }
            let written = writer.end(inner.clock.now(), None).map_err(explain)?;
            writer.finish().map_err(explain)?;
            inner.metrics.used.add(written.stored as i64);
            Ok(noted)
        })
        .await
    }

    /// Removes the blob of a completion that failed for certain.
    pub(super) async fn take_back_joined(&self, noted: Noted) {
        let this = self.clone();
        let removed = blocking(move || this.remove_blob(noted.blob));
        if let Err(error) = removed.await {
            tracing::warn!(%error, "what a completion has written down stays on disk until a sweep finds it");
        }
    }

    /// What the completion in the blob `blob`, read from `source`, says. Blocks.
    pub(super) fn read_joined(blob: Id128, source: Source, key: &BucketKey) -> Result<JoinedRow, OpenFault> {
        JoinedRow::read(&BlobFile::open_whole(source, blob, |_| Some(key.clone()))?.0)
    }

    /// Removes the blob of the completion of `content`, and its rows. Blocks.
    pub(super) fn remove_joined(&self, content: Id128) -> Result<(), ObjectError> {
        let Some(blob) = self.0.store.read_blocking(|tx| joined_blob(tx, content))? else { return Ok(()) };
        let removed = self.remove_files(std::iter::once(blob))?;
        let this = self.clone();
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            this.forget_blobs(tx, std::iter::once(blob), &removed)?;
            tx.delete(JOINED, content.as_bytes())?;
            Ok(())
        })
    }
}

/// Has `content` be the object whose completion is in `blob`, which is in `placed`.
pub(super) fn put_joined(
    tx: &mut dyn WriteTx,
    content: Id128,
    blob: Id128,
    bucket: Id128,
    placed: &Placed,
) -> Result<(), ObjectError> {
    tx.put(JOINED, content.as_bytes(), blob.as_bytes())?;
    settle_in(tx, blob, bucket, placed)
}

/// The blob of the completion of `content`; objects of earlier releases have none.
pub(super) fn joined_blob(tx: &dyn ReadTx, content: Id128) -> Result<Option<Id128>, ObjectError> {
    let Some(bytes) = tx.get(JOINED, content.as_bytes())? else { return Ok(None) };
    let id = <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_other_length| super::index::malformed_key(JOINED))?;
    Ok(Some(Id128::from_bytes(id)))
}

/// Removes the rows of the completion of `content`.
pub(super) fn forget_joined(tx: &mut dyn WriteTx, content: Id128) -> Result<(), ObjectError> {
    if let Some(blob) = joined_blob(tx, content)? {
        tx.delete(BLOBS, blob.as_bytes())?;
        tx.delete(JOINED, content.as_bytes())?;
    }
    Ok(())
}

/// Whether the index has the list of parts of `content`.
pub(super) fn has_manifest(tx: &dyn ReadTx, content: Id128) -> Result<bool, ObjectError> {
    let end = after_prefix(content.as_bytes());
    let (from, to) = (Bound::Included(content.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
    Ok(!tx.scan(MANIFESTS, from, to, Direction::Forward, 1)?.is_empty())
}

/// The parts that the index lists for `content`.
pub(super) fn parts_of(tx: &dyn ReadTx, content: Id128) -> Result<Vec<PartRef>, ObjectError> {
    let end = after_prefix(content.as_bytes());
    let (from, to) = (Bound::Included(content.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
    let mut out = Vec::new();
    // An object has at most 10,000 parts, 256 in a row.
    for (_, value) in tx.scan(MANIFESTS, from, to, Direction::Forward, usize::MAX)? {
        out.extend(decode::<ManifestRow>(MANIFESTS, &value)?.parts);
    }
    Ok(out)
}
