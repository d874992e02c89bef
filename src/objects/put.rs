//! Storing and deleting objects: the transactions that make bytes visible or let them go.

use bytes::Bytes;
use futures_util::Stream;

use super::blob::Record;
use super::error::{BodyError, ObjectError};
use super::garbage::Garbage;
use super::index::{BLOBS, BlobRow, CURRENT, Content, INLINE, ObjectRow, object_key, row};
use super::names::{BucketName, ObjectKey};
use super::receive::Placing;
use super::service::Objects;
use super::types::{Condition, Etag, Metadata, ObjectInfo, PutExpect};
use crate::store::{StoreError, WriteTx, record};

/// Most keys of one [`Objects::delete_many`] (S3 API, `DeleteObjects`).
pub const DELETE_MANY_MAX: usize = 1000;

impl Objects {
    /// Stores `body` as `bucket`/`key`; returns once it would survive power loss. What the key held before is gone then,
    /// all at once.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::Full`], [`ObjectError::TooLarge`],
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
        };
        let (at, value) = (object_key(bucket.id, key), record::encode(&object));
        let blob_row = record::encode(&BlobRow { bucket: bucket.id });
        let (this, open, mut received) = (self.clone(), bucket.clone(), received);
        let inline = received.inline.as_mut().map(std::mem::take);
        let committed = self.0.store.write(move |tx| {
            open.check(tx)?;
            this.replace(tx, &at, &value, expect.condition)?;
            match &inline {
                Some(bytes) => tx.put(INLINE, id.as_bytes(), bytes)?,
                None => tx.put(BLOBS, id.as_bytes(), &blob_row)?,
            }
            Ok(())
        });
        let committed = committed.await;
        match self.forget_if_gone(&bucket, committed) {
            Ok(()) => {
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

    /// Deletes `bucket`/`key`; fine when it holds nothing.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::PreconditionFailed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the object may be there or not.
    pub async fn delete(&self, bucket: &BucketName, key: &ObjectKey, condition: Condition) -> Result<(), ObjectError> {
        self.delete_keys(bucket, vec![key.clone()], condition).await
    }

    /// Deletes all of `keys` in one commit; keys that hold nothing are fine.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::Unavailable`] for more than [`DELETE_MANY_MAX`] keys: none is
    /// deleted.
    ///
    /// # Cancel safety
    /// Dropped before its end, all are deleted or none.
    pub async fn delete_many(&self, bucket: &BucketName, keys: Vec<ObjectKey>) -> Result<(), ObjectError> {
        if keys.len() > DELETE_MANY_MAX {
            return Err(ObjectError::Unavailable("more than 1000 keys in one deletion"));
        }
        self.delete_keys(bucket, keys, Condition::Any).await
    }

    async fn delete_keys(
        &self,
        bucket: &BucketName,
        keys: Vec<ObjectKey>,
        condition: Condition,
    ) -> Result<(), ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let keys: Vec<Vec<u8>> = keys.iter().map(|key| object_key(bucket.id, key)).collect();
        let (this, open) = (self.clone(), bucket.clone());
        let deleted = self.0.store.write(move |tx| {
            open.check(tx)?;
            let mut garbage = Vec::new();
            let mut count = 0;
            for key in &keys {
                let old: Option<ObjectRow> = row(tx, CURRENT, key)?;
                check(condition, old.as_ref())?;
                if let Some(old) = old {
                    tx.delete(CURRENT, key)?;
                    garbage.extend(let_go(tx, old.content)?);
                    count += 1;
                }
            }
            this.discard(tx, &garbage)?;
            Ok(count)
        });
        let deleted = deleted.await;
        self.0.metrics.deletes.add(self.forget_if_gone(&bucket, deleted)?);
        Ok(())
    }

    /// Gives the key `at` the object row `value`, if it holds what `condition` asks for.
    pub(super) fn replace(
        &self,
        tx: &mut dyn WriteTx,
        at: &[u8],
        value: &[u8],
        condition: Condition,
    ) -> Result<(), ObjectError> {
        let old: Option<ObjectRow> = row(tx, CURRENT, at)?;
        check(condition, old.as_ref())?;
        if let Some(old) = old {
            let garbage = let_go(tx, old.content)?;
            self.discard(tx, garbage.as_slice())?;
        }
        tx.put(CURRENT, at, value)?;
        Ok(())
    }
}

fn check(condition: Condition, object: Option<&ObjectRow>) -> Result<(), ObjectError> {
    let met = match condition {
        Condition::Any => true,
        Condition::Absent => object.is_none(),
        Condition::Present => object.is_some(),
        Condition::Matches(etag) => object.is_some_and(|object| object.etag == etag),
    };
    if met { Ok(()) } else { Err(ObjectError::PreconditionFailed) }
}

/// Removes what refers to `content`; what is returned must be discarded in the same transaction.
fn let_go(tx: &mut dyn WriteTx, content: Content) -> Result<Option<Garbage>, ObjectError> {
    Ok(match content {
        Content::Inline(id) => {
            tx.delete(INLINE, id.as_bytes())?;
            None
        }
        Content::Blob(id) => {
            tx.delete(BLOBS, id.as_bytes())?;
            Some(Garbage::Blob(id))
        }
        Content::Parts(id) => Some(Garbage::Manifest(id)),
    })
}
