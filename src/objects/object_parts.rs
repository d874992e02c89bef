//! The parts an object was stored in, read back from its manifest.

use std::ops::Bound;
use std::sync::Arc;

use super::error::ObjectError;
use super::index::{Content, MANIFESTS, ManifestRow, decode, malformed_key};
use super::names::{BucketName, PartNumber};
use super::service::Objects;
use super::types::{ObjectInfo, ObjectPart, Target};
use super::versions::look_up;
use crate::store::{Direction, after_prefix};

impl Objects {
    /// An object with its parts behind `after`, at most `most` of them, and whether there are more; none for an object that
    /// was stored in one piece. Of one moment. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`], [`ObjectError::NoSuchVersion`],
    /// [`ObjectError::DeleteMarker`].
    pub async fn object_parts(
        &self,
        bucket: &BucketName,
        target: &Target,
        after: Option<PartNumber>,
        most: usize,
    ) -> Result<(ObjectInfo, Vec<ObjectPart>, bool), ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let (open, target) = (Arc::clone(&bucket), target.clone());
        let after = after.map_or(0, PartNumber::value);
        let read = self.0.store.read(move |tx| {
            let object = look_up(tx, &open, &target.key, target.version)?;
            let Content::Parts(id) = object.content else { return Ok((object, Vec::new(), false)) };
            let end = after_prefix(id.as_bytes());
            let (from, to) = (Bound::Included(id.as_bytes().as_slice()), end.as_ref().map(Vec::as_slice));
            let mut parts = Vec::new();
            // An object has at most 10,000 parts, 256 in a row.
            for (_, value) in tx.scan(MANIFESTS, from, to, Direction::Forward, usize::MAX)? {
                let row: ManifestRow = decode(MANIFESTS, &value)?;
                let mut checksums = row.checksums.into_iter();
                for part in row.parts {
                    let checksum = checksums.next().flatten();
                    if part.number <= after {
                        continue;
                    }
                    if parts.len() == most {
                        return Ok((object, parts, true));
                    }
                    let number =
                        PartNumber::try_from(u64::from(part.number)).map_err(|_no_number| malformed_key(MANIFESTS))?;
                    parts.push(ObjectPart { number, size: part.size, checksum });
                }
            }
            Ok((object, parts, false))
        });
        let found = read.await;
        let (object, parts, more) = self.forget_if_gone(&bucket, found)?;
        Ok((object.info(), parts, more))
    }
}
