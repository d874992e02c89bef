//! Storing and deleting objects: the transactions that make bytes visible or let them go.

use bytes::Bytes;
use futures_util::Stream;

use super::blob::Record;
use super::error::{BodyError, ObjectError};
use super::index::{Content, INLINE, ObjectRow, VersionTag};
use super::names::{BucketName, ObjectKey};
use super::place;
use super::receive::Placing;
use super::service::Objects;
use super::types::{Condition, Deleted, Etag, Metadata, ObjectInfo, PutExpect, Target};
use super::versions::nonce;
use crate::base::Id128;
use crate::store::StoreError;

/// Most keys of one [`Objects::delete_many`] (S3 API, `DeleteObjects`).
pub const DELETE_MANY_MAX: usize = 1000;

impl Objects {
    /// Stores `body` as `bucket`/`key`; returns once it would survive power loss. What the key held before is gone then,
    /// all at once; where the bucket keeps versions, it is an older version from then on.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::Full`], [`ObjectError::TooLarge`], [`ObjectError::NotTaken`],
    /// [`ObjectError::MetadataTooLarge`], [`ObjectError::PreconditionFailed`], [`ObjectError::Body`] when the stream ends
    /// with an error, [`ObjectError::WrongLength`] and [`ObjectError::BadDigest`] when it is not what `expect` announces:
    /// nothing is visible, what the key held stays. [`StoreError::Unknown`]: one or the other.
    ///
    /// # Cancel safety
    /// Dropped before its end, the object is stored as a whole or not at all.
    pub async fn put(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        mut metadata: Metadata,
        expect: PutExpect,
        body: impl Stream<Item = Result<Bytes, BodyError>> + Send,
    ) -> Result<ObjectInfo, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let record =
            Record { bucket: bucket.name.to_string(), key: key.to_string(), part: None, metadata: metadata.clone() };
        let received = self.receive(&bucket, record, &expect, Placing::SmallInline, body).await?;
        if received.checksum.is_some() {
            metadata.checksum.clone_from(&received.checksum);
        }
        let id = received.blob;
        let object = ObjectRow {
            modified: received.finished.millis(),
            size: received.size,
            etag: Etag { md5: received.md5, parts: 0 },
            content: if received.inline.is_some() { Content::Inline(id) } else { Content::Blob(id) },
            metadata,
            version: VersionTag::UNVERSIONED,
        };
        let placed = received.placed.clone();
        let (this, open, key, mut received) = (self.clone(), bucket.clone(), key.clone(), received);
        let inline = received.inline.as_mut().map(std::mem::take);
        let committed = self.commit_received(&mut received, move |tx| {
            let bucket = open.check(tx)?;
            let object = this.install(tx, &bucket, &key, object.clone(), expect.condition)?;
            if let Some(bytes) = &inline {
                tx.put(INLINE, id.as_bytes(), bytes)?;
            } else {
                place::settle_in(tx, id, open.id, &placed)?;
                this.catch_up(tx, &bucket, &placed)?;
            }
            Ok(object)
        });
        let committed = committed.await;
        match self.forget_if_gone(&bucket, committed) {
            Ok(object) => {
                self.0.metrics.puts.inc();
                Ok(object.info())
            }
            Err(error) => {
                // After an unknown outcome the row may be there, and needs its bytes.
                if !matches!(error, ObjectError::Store(StoreError::Unknown { .. })) {
                    self.take_back(received).await;
                }
                Err(error)
            }
        }
    }

    /// Deletes `bucket`/`key`; fine when it holds nothing. Where the bucket keeps versions, a delete marker becomes the
    /// newest.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::PreconditionFailed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the object may be there or not.
    pub async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        self.delete_version(bucket, Target { key: key.clone(), version: None }, condition).await
    }

    /// Deletes `target`; a version that is named is gone for good, and the one before it is the newest when it was.
    /// Fine when there is no such version.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::PreconditionFailed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the object may be there or not.
    pub async fn delete_version(
        &self,
        bucket: &BucketName,
        target: Target,
        condition: Condition,
    ) -> Result<Deleted, ObjectError> {
        Ok(self.delete_targets(bucket, vec![target], condition).await?.pop().unwrap_or_default())
    }

    /// Deletes all of `targets` in one commit, each as [`Objects::delete_version`] does, and tells what each did.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::Unavailable`] for more than [`DELETE_MANY_MAX`] keys: none is
    /// deleted.
    ///
    /// # Cancel safety
    /// Dropped before its end, all are deleted or none.
    pub async fn delete_many(&self, bucket: &BucketName, targets: Vec<Target>) -> Result<Vec<Deleted>, ObjectError> {
        if targets.len() > DELETE_MANY_MAX {
            return Err(ObjectError::Unavailable("more than 1000 keys in one deletion"));
        }
        self.delete_targets(bucket, targets, Condition::Any).await
    }

    async fn delete_targets(
        &self,
        bucket: &BucketName,
        targets: Vec<Target>,
        condition: Condition,
    ) -> Result<Vec<Deleted>, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let (this, open) = (self.clone(), bucket.clone());
        let (nonce, now) = (nonce(Id128::random(self.0.random.as_ref())), self.0.clock.now());
        let deleted = self.0.store.write(move |tx| {
            let bucket = open.check(tx)?;
            let mut out = Vec::with_capacity(targets.len());
            let mut count = 0;
            for target in &targets {
                let (deleted, changed) = this.remove(tx, &bucket, target, condition, nonce, now)?;
                out.push(deleted);
                count += u64::from(changed);
            }
            Ok((out, count))
        });
        let deleted = deleted.await;
        let (deleted, count) = self.forget_if_gone(&bucket, deleted)?;
        self.0.metrics.deletes.add(count);
        Ok(deleted)
    }
}
