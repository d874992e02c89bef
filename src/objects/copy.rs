//! Copies within the server. The bytes are opened and sealed again, so a copy has its own data key and its own fate.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::error::{BodyError, ObjectError};
use super::names::{BucketName, ObjectKey, PartNumber, UploadId};
use super::service::Objects;
use super::types::{Condition, CopyMetadata, CopySource, Found, ObjectInfo, PartInfo, PutExpect};

impl Objects {
    /// Copies an object to `bucket`/`key`; returns once the copy would survive power loss. Its tag is the MD5 of its
    /// bytes, also when the source is a multipart object.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`], [`ObjectError::PreconditionFailed`] when the source has
    /// another tag than `source.etag` or the target is not as `condition` says, and those of [`Objects::get`] and
    /// [`Objects::put`]: what the target held stays.
    ///
    /// # Cancel safety
    /// Dropped before its end, the copy is there as a whole or not at all.
    pub async fn copy(
        &self,
        source: &CopySource,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: CopyMetadata,
        condition: Condition,
    ) -> Result<ObjectInfo, ObjectError> {
        let found = self.open_source(source).await?;
        let metadata = match metadata {
            CopyMetadata::Keep => found.info.metadata.clone(),
            CopyMetadata::Replace(metadata) => metadata,
        };
        let expect = PutExpect { condition, ..announced(&found) };
        unwrap_source(self.put(bucket, key, metadata, expect, as_source(found)).await)
    }

    /// Stores an object, or a range of it, as a part of an upload.
    ///
    /// # Errors
    /// Those of [`Objects::get`] and [`Objects::put_part`], and [`ObjectError::PreconditionFailed`].
    ///
    /// # Cancel safety
    /// As [`Objects::put_part`].
    pub async fn copy_part(
        &self,
        source: &CopySource,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        number: PartNumber,
    ) -> Result<PartInfo, ObjectError> {
        let found = self.open_source(source).await?;
        let expect = announced(&found);
        unwrap_source(self.put_part(bucket, key, upload, number, expect, None, as_source(found)).await)
    }

    async fn open_source(&self, source: &CopySource) -> Result<Found, ObjectError> {
        let found = self.get_version(&source.bucket, &source.target, source.range).await?;
        match source.etag {
            Some(etag) if etag != found.info.etag => Err(ObjectError::PreconditionFailed),
            _ => Ok(found),
        }
    }
}

fn announced(found: &Found) -> PutExpect {
    PutExpect { length: Some(found.range.end - found.range.start), ..PutExpect::default() }
}

fn as_source(found: Found) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    found.body.map(|chunk| chunk.map_err(BodyError::new))
}

/// An error of the source comes through the body; give it back as what it is.
fn unwrap_source<T>(result: Result<T, ObjectError>) -> Result<T, ObjectError> {
    match result {
        Err(ObjectError::Body(error)) => Err(error.into_cause().unwrap_or_else(ObjectError::Body)),
        other => other,
    }
}
