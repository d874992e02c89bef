//! What blobs tell, put into the index.

use std::collections::HashSet;

use super::scan::{FOUND, FOUND_PARTS, FoundPart, FoundRow};
use super::{Job, NAMED, why};
use crate::base::Id128;
use crate::objects::blob::OpenFault;
use crate::objects::error::ObjectError;
use crate::objects::index::{
    BLOBS, BUCKETS, BucketRow, Content, ObjectRow, PARTS, PartRow, UPLOADS, UploadRow, VersionTag, decode, part_key,
    row, upload_key,
};
use crate::objects::joined::{JoinedRow, has_manifest, put_joined};
use crate::objects::names::{BucketName, ObjectKey};
use crate::objects::place::{Placed, settle_in};
use crate::objects::service::Objects;
use crate::objects::types::{Condition, Etag, Versioning};
use crate::objects::uploads::scan_parts;
use crate::objects::versions::Slot;
use crate::store::{ReadTx, WriteTx, record};

/// An object to be put in.
#[derive(Clone)]
struct Candidate {
    bucket: Id128,
    name: BucketName,
    key: ObjectKey,
    object: ObjectRow,
    blob: Id128,
    placed: Placed,
    joined: Option<Joined>,
}

/// What makes an object of parts.
#[derive(Clone)]
struct Joined {
    upload: Id128,
    row: JoinedRow,
    /// Its parts, and where each is.
    parts: Vec<(Id128, Placed)>,
}

impl Job<'_> {
    /// Puts the objects that were found into the index, each key's by their time.
    pub(super) fn place(&mut self) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        let mut done = 0;
        loop {
            let rows = self.page(FOUND, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            done += rows.len() as u64;
            let mut batch = Vec::new();
            for (_, value) in rows {
                let found: FoundRow = decode(FOUND, &value)?;
                if let Some(upload) = found.joined {
                    // In the order of their time with those before; and one at a time, since each may be large.
                    self.put_in(std::mem::take(&mut batch))?;
                    let joined = self.joined(&found, upload)?;
                    self.put_in(joined.into_iter().collect())?;
                    self.close_upload(&found, upload)?;
                } else if let Some(candidate) = self.single(found) {
                    batch.push(candidate);
                }
            }
            self.put_in(batch)?;
            (self.show)("objects that stored files tell of", done);
        }
    }

    fn named(&self, found: &FoundRow) -> Option<(BucketName, ObjectKey)> {
        let name = self.known.get(&found.bucket)?.name.clone()?;
        Some((name, found.key.parse().ok()?))
    }

    /// An object in one blob.
    fn single(&mut self, found: FoundRow) -> Option<Candidate> {
        let Some((name, key)) = self.named(&found) else {
            self.rebuilt.left += 1;
            return None;
        };
        let FoundRow { bucket, blob, placed, size, md5, finished, metadata, .. } = found;
        let etag = Etag { md5, parts: 0 };
        let (content, version) = (Content::Blob(blob), VersionTag::UNVERSIONED);
        let object = ObjectRow { modified: finished, size, etag, content, metadata, version };
        Some(Candidate { bucket, name, key, object, blob, placed, joined: None })
    }

    /// An object in parts, when all of them are there.
    fn joined(&mut self, found: &FoundRow, upload: Id128) -> Result<Option<Candidate>, ObjectError> {
        let Some((name, key)) = self.named(found) else {
            self.rebuilt.left += 1;
            return Ok(None);
        };
        let Some(known) = self.known.get(&found.bucket) else { return Ok(None) };
        let source = self.objects.source(found.blob, &found.placed);
        let read = source.and_then(|source| Objects::read_joined(found.blob, source, &known.key));
        let read = read.and_then(|row| Ok((row.object()?, row.parts()?, row)));
        let (object, parts, row) = match read {
            Ok(read) => read,
            Err(OpenFault::Disk(error)) => return Err(error.into()),
            Err(OpenFault::Backend(error)) => return Err(error.into()),
            Err(fault) => {
                if self.rebuilt.unreadable.len() < NAMED {
                    self.rebuilt.unreadable.push(format!("{}: {}", found.blob, why(&fault)));
                }
                return Ok(None);
            }
        };
        let mut there = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(placed) = self.place_of(part.blob, part.size)? else {
                self.lose(format!("{name}/{}", found.key));
                return Ok(None);
            };
            there.push((part.blob, placed));
        }
        let joined = Some(Joined { upload, row, parts: there });
        let FoundRow { bucket, blob, placed, .. } = found.clone();
        Ok(Some(Candidate { bucket, name, key, object, blob, placed, joined }))
    }

    /// Puts `batch` into the index in one commit.
    fn put_in(&mut self, batch: Vec<Candidate>) -> Result<(), ObjectError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (objects, all) = (self.objects.clone(), batch.len() as u64);
        let put = move |tx: &mut dyn WriteTx| {
            let mut placed = 0;
            for candidate in &batch {
                placed += u64::from(put_candidate(&objects, tx, candidate)?);
            }
            Ok::<_, ObjectError>(placed)
        };
        let placed = self.store.write_blocking(put)?;
        self.rebuilt.from_blobs += placed;
        self.rebuilt.left += all - placed;
        Ok(())
    }

    /// An upload that was completed is none any more, whatever has become of its object.
    fn close_upload(&self, found: &FoundRow, upload: Id128) -> Result<(), ObjectError> {
        let at = upload_key(found.bucket, &found.key, upload);
        let close = move |tx: &mut dyn WriteTx| {
            if !tx.delete(UPLOADS, &at)? {
                return Ok(());
            }
            let chosen: HashSet<Id128> =
                crate::objects::joined::parts_of(tx, upload)?.into_iter().map(|part| part.blob).collect();
            for (number, part) in scan_parts(tx, upload, 0, usize::MAX)? {
                tx.delete(PARTS, &part_key(upload, number))?;
                if !chosen.contains(&part.blob) {
                    tx.delete(BLOBS, part.blob.as_bytes())?;
                }
            }
            Ok::<_, ObjectError>(())
        };
        self.store.write_blocking(close)?;
        loop {
            let rows = self.page(FOUND_PARTS, upload.as_bytes(), &[])?;
            if rows.is_empty() {
                return Ok(());
            }
            let clear =
                move |tx: &mut dyn WriteTx| rows.iter().try_for_each(|(key, _)| tx.delete(FOUND_PARTS, key).map(drop));
            self.store.write_blocking(clear).map_err(ObjectError::Store)?;
        }
    }

    /// Makes uploads in progress of the parts that no completion has.
    pub(super) fn place_parts(&mut self) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        loop {
            let rows = self.page(FOUND_PARTS, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            let mut parts = Vec::new();
            for (_, value) in rows {
                let part: FoundPart = decode(FOUND_PARTS, &value)?;
                if self.known.get(&part.bucket).is_some_and(|known| known.name.is_some()) {
                    parts.push(part);
                } else {
                    self.rebuilt.left += 1;
                }
            }
            let all = parts.len() as u64;
            let put = move |tx: &mut dyn WriteTx| {
                let mut placed = 0;
                for part in &parts {
                    placed += u64::from(put_part(tx, part)?);
                }
                Ok::<_, ObjectError>(placed)
            };
            self.rebuilt.left += all - self.store.write_blocking(put)?;
        }
    }
}

/// Puts an object in, unless its key holds something newer; says whether.
fn put_candidate(objects: &Objects, tx: &mut dyn WriteTx, candidate: &Candidate) -> Result<bool, ObjectError> {
    let Candidate { bucket: id, name, key, object, blob, placed, joined } = candidate;
    let bucket: BucketRow = row(tx, BUCKETS, name.as_str().as_bytes())?.ok_or(ObjectError::NoSuchBucket)?;
    if is_replaced(tx, &bucket, key, object.modified)? {
        return Ok(false);
    }
    if let Some(joined) = joined
        && has_manifest(tx, joined.upload)?
    {
        return Ok(false);
    }
    objects.install(tx, &bucket, key, object.clone(), Condition::Any)?;
    if let Some(Joined { upload, row, parts }) = joined {
        row.manifest.iter().try_for_each(|(key, value)| tx.put(crate::objects::index::MANIFESTS, key, value))?;
        parts.iter().try_for_each(|(part, placed)| settle_in(tx, *part, *id, placed))?;
        put_joined(tx, *upload, *blob, *id, placed)?;
    } else {
        settle_in(tx, *blob, *id, placed)?;
    }
    Ok(true)
}

/// Whether the key holds something newer in the one place that there is for what was stored at `modified`.
fn is_replaced(tx: &dyn ReadTx, bucket: &BucketRow, key: &ObjectKey, modified: u64) -> Result<bool, ObjectError> {
    if bucket.versioning == Versioning::Enabled {
        return Ok(false);
    }
    let current = Slot::new(bucket.id, key).current(tx)?;
    Ok(current.is_some_and(|current| current.version.null && current.modified > modified))
}

/// Puts a part into its upload, which is made where it is not known; says whether, or a newer one is there.
fn put_part(tx: &mut dyn WriteTx, part: &FoundPart) -> Result<bool, ObjectError> {
    let FoundPart { bucket, key, blob, placed, upload, number, size, md5, finished, checksum, metadata } = part;
    if has_manifest(tx, *upload)? {
        return Ok(false);
    }
    let at = part_key(*upload, *number);
    if let Some(there) = row::<PartRow>(tx, PARTS, &at)? {
        if there.modified > *finished {
            return Ok(false);
        }
        tx.delete(BLOBS, there.blob.as_bytes())?;
    }
    let upload_at = upload_key(*bucket, key, *upload);
    let known: Option<UploadRow> = row(tx, UPLOADS, &upload_at)?;
    let mut known =
        known.unwrap_or_else(|| UploadRow { initiated: *finished, revision: 0, metadata: metadata.clone() });
    known.initiated = known.initiated.min(*finished);
    known.revision = known.revision.wrapping_add(1);
    tx.put(UPLOADS, &upload_at, &record::encode(&known))?;
    let (size, md5, checksum) = (*size, *md5, checksum.clone());
    tx.put(PARTS, &at, &record::encode(&PartRow { blob: *blob, size, md5, modified: *finished, checksum }))?;
    settle_in(tx, *blob, *bucket, placed)?;
    Ok(true)
}
