//! Multipart uploads: storing parts and joining them.
//!
//! Each part is a blob of its own. Completing writes down which of them there are (`joined.rs`), then commits an index row and
//! a list of parts; no byte is copied.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::Stream;
use md5::{Digest, Md5};

use super::blob::{BlobFile, OpenFault, Record};
use super::damage;
use super::error::{BodyError, ObjectError};
use super::garbage::Garbage;
use super::index::{
    CURRENT, Content, MANIFEST_PARTS, MANIFESTS, ManifestRow, ObjectRow, PARTS, PartRef, PartRow, UPLOADS, UploadRow,
    VersionTag, manifest_key, object_key, part_key, row, upload_key,
};
use super::joined::put_joined;
use super::keys::OpenBucket;
use super::names::{BucketName, ObjectKey, PART_NUMBER_MAX, PartNumber, UploadId};
use super::place::{self, Placed};
use super::receive::Placing;
use super::service::Objects;
use super::types::{Checksum, Condition, Etag, Metadata, ObjectInfo, PartChoice, PartInfo, PutExpect};
use super::uploads::{part_info, scan_parts, upload_row};
use crate::base::Id128;
use crate::store::{StoreError, record};

/// Least bytes of every part but the last (S3 user guide, "Multipart upload limits").
pub const PART_LEAST: u64 = 5 << 20;

/// How often a completion starts over because a part was stored meanwhile.
const TRIES: u32 = 4;

impl Objects {
    /// Stores a part, in place of one with the same number; returns once it would survive power loss.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchUpload`], and those of [`Objects::put`]: a part stored before stays.
    ///
    /// # Cancel safety
    /// Dropped before its end, the part is stored as a whole or not at all.
    #[expect(clippy::too_many_arguments, reason = "what names a part, what it must be, and its bytes")]
    pub async fn put_part(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        number: PartNumber,
        expect: PutExpect,
        checksum: Option<Checksum>,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send,
    ) -> Result<PartInfo, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let at = upload_key(bucket.id, key.as_str(), upload.0);
        let (open, looked_up) = (Arc::clone(&bucket), at.clone());
        let found = self.0.store.read(move |tx| upload_row(tx, &open, &looked_up)).await;
        let metadata = self.forget_if_gone(&bucket, found)?.metadata;
        let record = Record {
            bucket: bucket.name.to_string(),
            key: key.to_string(),
            part: Some((upload.0, number.value())),
            metadata,
        };
        // Into the blob's end it goes as one that came in the trailer.
        let late = expect.late_checksum.clone().or_else(|| checksum.clone().map(|sum| Arc::new(OnceLock::from(sum))));
        let expect = PutExpect { late_checksum: late, ..expect };
        let received = self.receive(&bucket, record, &expect, Placing::File, body).await?;
        let part = PartRow {
            blob: received.blob,
            size: received.size,
            md5: received.md5,
            modified: received.finished.millis(),
            checksum: received.checksum.clone().or(checksum),
        };
        let (id, value, placed) = (received.blob, record::encode(&part), received.placed.clone());
        let part_at = part_key(upload.0, number.value());
        let (this, open, part_of) = (self.clone(), Arc::clone(&bucket), upload.0);
        let committed = self.0.store.write(move |tx| {
            let row_of_bucket = open.check(tx)?;
            let mut upload = upload_row(tx, &open, &at)?;
            if let Some(old) = row::<PartRow>(tx, PARTS, &part_at)? {
                damage::forget_part(tx, part_of, number.value())?;
                let garbage = place::let_go(tx, old.blob)?;
                this.discard(tx, &[garbage])?;
            }
            upload.revision = upload.revision.wrapping_add(1);
            tx.put(UPLOADS, &at, &record::encode(&upload))?;
            tx.put(PARTS, &part_at, &value)?;
            place::settle_in(tx, id, open.id, &placed)?;
            this.catch_up(tx, &row_of_bucket, &placed)
        });
        let committed = committed.await;
        match self.forget_if_gone(&bucket, committed) {
            Ok(()) => {
                self.0.metrics.puts.inc();
                part_info(number.value(), part)
            }
            Err(error) => {
                if !matches!(error, ObjectError::Store(StoreError::Unknown { .. })) {
                    self.take_back(received).await;
                }
                Err(error)
            }
        }
    }

    /// Joins the parts `chosen` into the object; returns once it would survive power loss. Parts not chosen are removed.
    /// Asked again after it succeeded, with the object still there, it answers the same.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchUpload`], [`ObjectError::InvalidPartOrder`], [`ObjectError::InvalidPart`],
    /// [`ObjectError::EntityTooSmall`], [`ObjectError::TooLarge`], [`ObjectError::NotTaken`],
    /// [`ObjectError::PreconditionFailed`], [`ObjectError::Unavailable`] when parts kept coming in meanwhile: the upload goes
    /// on as it was.
    ///
    /// # Cancel safety
    /// Dropped before its end, the object is there as a whole, or the upload goes on.
    pub async fn complete_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        chosen: Vec<PartChoice>,
        checksum: Option<Checksum>,
        condition: Condition,
    ) -> Result<ObjectInfo, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        if chosen.is_empty() || !chosen.is_sorted_by(|a, b| a.number < b.number) {
            return Err(ObjectError::InvalidPartOrder);
        }
        for _ in 0..TRIES {
            let done = self.try_complete(&bucket, key, upload.0, &chosen, checksum.clone(), condition).await;
            if let Some(info) = self.forget_if_gone(&bucket, done)? {
                return Ok(info);
            }
        }
        Err(ObjectError::Unavailable("parts of the upload keep changing"))
    }

    /// One attempt; `None` when a part was stored between reading the parts and the commit.
    async fn try_complete(
        &self,
        bucket: &Arc<OpenBucket>,
        key: &ObjectKey,
        upload: Id128,
        chosen: &[PartChoice],
        checksum: Option<Checksum>,
        condition: Condition,
    ) -> Result<Option<ObjectInfo>, ObjectError> {
        let (upload_at, at) = (upload_key(bucket.id, key.as_str(), upload), object_key(bucket.id, key));
        let open = Arc::clone(bucket);
        let read = self.0.store.read(move |tx| match upload_row(tx, &open, &upload_at) {
            Ok(row) => Ok(Begun::Open(row, scan_parts(tx, upload, 0, usize::from(PART_NUMBER_MAX))?)),
            Err(ObjectError::NoSuchUpload) => match row::<ObjectRow>(tx, CURRENT, &at)? {
                Some(object) if object.content == Content::Parts(upload) => Ok(Begun::Completed(object)),
                _ => Err(ObjectError::NoSuchUpload),
            },
            Err(error) => Err(error),
        });
        let (row, parts) = match read.await? {
            Begun::Completed(object) => return Ok(Some(object.info())),
            Begun::Open(row, parts) => (row, parts),
        };
        let joined = Joined::new(upload, &parts, chosen, PART_LEAST)?;
        bucket.settings.files.check_size(joined.size)?;
        if !self.look_into(bucket, key, &row.metadata, joined.first).await? {
            return Ok(None);
        }
        self.commit_joined(bucket, key, upload, row, joined, checksum, condition).await
    }

    /// Holds the beginning of an upload, which is that of the part `first`, against the bucket's rules for files; false when
    /// the part was replaced meanwhile.
    async fn look_into(
        &self,
        bucket: &Arc<OpenBucket>,
        key: &ObjectKey,
        metadata: &Metadata,
        first: Option<Id128>,
    ) -> Result<bool, ObjectError> {
        bucket.settings.files.admit(key.as_str(), metadata)?;
        let Some((mut look, first)) = bucket.settings.files.look(metadata).zip(first) else { return Ok(true) };
        let (this, open) = (self.clone(), Arc::clone(bucket));
        let head = self.0.backends.blocking(move || {
            let opened = this.find_source(first);
            let opened = opened.and_then(|file| BlobFile::open_whole(file, first, |_| Some(open.key.clone())));
            match opened.and_then(|(file, _, _)| file.segment(0)) {
                Ok(head) => Ok(Some(head)),
                Err(OpenFault::Missing) => Ok(None),
                Err(fault) => Err(this.unreadable(first, fault)),
            }
        });
        let Some(head) = head.await? else { return Ok(false) };
        look.see(&head);
        look.judge()?;
        Ok(true)
    }

    /// Makes the object out of the upload `row`; `None` when the upload has changed since.
    #[expect(clippy::too_many_arguments, reason = "what is joined, into what, and under which condition")]
    pub(super) async fn commit_joined(
        &self,
        bucket: &Arc<OpenBucket>,
        key: &ObjectKey,
        upload: Id128,
        row: UploadRow,
        joined: Joined,
        checksum: Option<Checksum>,
        condition: Condition,
    ) -> Result<Option<ObjectInfo>, ObjectError> {
        let mut metadata = row.metadata;
        metadata.checksum = checksum.or(metadata.checksum);
        let object = ObjectRow {
            modified: self.0.clock.now().millis(),
            size: joined.size,
            etag: joined.etag,
            content: Content::Parts(upload),
            metadata,
            version: VersionTag::UNVERSIONED,
        };
        let noted = self.note_joined(bucket, key, upload, &object, &joined.manifest).await?;
        let upload_at = upload_key(bucket.id, key.as_str(), upload);
        let (this, open, key, blob) = (self.clone(), Arc::clone(bucket), key.clone(), noted.blob);
        let committed = self.0.store.write(move |tx| {
            let bucket = open.check(tx)?;
            if upload_row(tx, &open, &upload_at)?.revision != row.revision {
                return Ok(None);
            }
            put_joined(tx, upload, blob, bucket.id, &Placed::Here)?;
            let object = this.install(tx, &bucket, &key, object.clone(), condition)?;
            for (key, value) in &joined.manifest {
                tx.put(MANIFESTS, key, value)?;
            }
            tx.delete(UPLOADS, &upload_at)?;
            let mut garbage = vec![Garbage::PartRows(upload)];
            for blob in &joined.left_out {
                garbage.push(place::let_go(tx, *blob)?);
            }
            this.discard(tx, &garbage)?;
            Ok::<_, ObjectError>(Some(object.info()))
        });
        let committed = committed.await;
        // After an unknown outcome the object may be there, and needs its list of parts.
        if !matches!(committed, Ok(Some(_)) | Err(ObjectError::Store(StoreError::Unknown { .. }))) {
            self.take_back_joined(noted).await;
        }
        committed
    }
}

enum Begun {
    Open(UploadRow, Vec<(u16, PartRow)>),
    Completed(ObjectRow),
}

/// What an upload's chosen parts become.
pub(super) struct Joined {
    size: u64,
    etag: Etag,
    /// The blob of the first part.
    first: Option<Id128>,
    /// Rows of the manifest, key and value.
    manifest: Vec<(Vec<u8>, Vec<u8>)>,
    /// Blobs of parts not chosen.
    left_out: Vec<Id128>,
}

impl Joined {
    /// Joins the parts `chosen` (in ascending order) out of `parts` (in ascending order), all but the last of at least
    /// `least` bytes.
    pub fn new(
        upload: Id128,
        parts: &[(u16, PartRow)],
        chosen: &[PartChoice],
        least: u64,
    ) -> Result<Self, ObjectError> {
        let mut left_out = Vec::new();
        let mut taken = Vec::with_capacity(chosen.len());
        let mut rest = parts.iter();
        for choice in chosen {
            let wanted = choice.number.value();
            let part = loop {
                match rest.next() {
                    Some((number, part)) if *number == wanted => break part,
                    Some((number, part)) if *number < wanted => left_out.push(part.blob),
                    _ => return Err(ObjectError::InvalidPart { number: wanted }),
                }
            };
            if choice.etag != (Etag { md5: part.md5, parts: 0 }) {
                return Err(ObjectError::InvalidPart { number: wanted });
            }
            taken.push((wanted, part));
        }
        left_out.extend(rest.map(|(_, part)| part.blob));
        if let Some((_, but_last)) = taken.split_last()
            && let Some((number, part)) = but_last.iter().find(|(_, part)| part.size < least)
        {
            return Err(ObjectError::EntityTooSmall { number: *number, size: part.size, least });
        }
        let mut size = 0u64;
        let mut digests = Md5::new();
        let mut manifest = Vec::new();
        for group in taken.chunks(MANIFEST_PARTS) {
            let key = manifest_key(upload, size);
            let refs = group.iter().map(|(number, part)| {
                digests.update(part.md5);
                size = size.saturating_add(part.size);
                PartRef { number: *number, blob: part.blob, size: part.size }
            });
            let parts = refs.collect();
            let mut checksums: Vec<_> = group.iter().map(|(_, part)| part.checksum.clone()).collect();
            if checksums.iter().all(Option::is_none) {
                checksums.clear();
            }
            manifest.push((key, record::encode(&ManifestRow { parts, checksums })));
        }
        // At most 10,000 parts exist, so the number fits.
        let etag = Etag { md5: digests.finalize().into(), parts: taken.len() as u16 };
        let first = taken.first().map(|(_, part)| part.blob);
        Ok(Self { size, etag, first, manifest, left_out })
    }
}
