//! Buckets: create, look up, list, delete.

use std::ops::Bound;

use super::backends::BackendName;
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{
    BUCKETS, BucketRow, CURRENT, MOVES, ROTATIONS, SETTINGS, USAGE, VERSIONS, decode, malformed_key, row,
};
use super::names::BucketName;
use super::service::{Objects, blocking};
use super::types::{Bucket, Created, Versioning};
use super::usage::UsageRow;
use super::usage_days;
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, WriteTx, after_prefix, record};

/// Rows read at once when buckets are listed.
const PAGE: usize = 1000;

impl Objects {
    /// Creates a bucket with a key of its own, whose bodies go where `objects.default_backend` says; fine when it is there.
    ///
    /// # Errors
    /// [`ObjectError::TooManyBuckets`]. [`ObjectError::Disk`]: it may be there, but not beside the blobs yet; ask again.
    ///
    /// # Cancel safety
    /// Dropped before its end, the bucket may be there or not.
    pub async fn create_bucket(&self, name: &BucketName) -> Result<Created, ObjectError> {
        let home = BackendName::or_local(&self.0.config.default_backend)?;
        self.create_bucket_at(name, home).await
    }

    /// As [`create_bucket`](Self::create_bucket), with bodies that go to the backend `home`; `None` for the local disk. A
    /// bucket that is there keeps its own.
    ///
    /// # Errors
    /// [`ObjectError::TooManyBuckets`], [`ObjectError::Backends`].
    ///
    /// # Cancel safety
    /// As [`create_bucket`](Self::create_bucket).
    pub async fn create_bucket_at(&self, name: &BucketName, home: Option<BackendName>) -> Result<Created, ObjectError> {
        if let Some(home) = &home {
            self.0.backends.find(home)?;
        }
        match self.bucket(name).await {
            Ok(_) => {
                // An answer that was an error may have left the bucket without its file.
                self.note_bucket_beside(name).await?;
                return Ok(Created::Already);
            }
            Err(ObjectError::NoSuchBucket) => {}
            Err(error) => return Err(error),
        }
        let inner = &self.0;
        let id = Id128::random(inner.random.as_ref());
        let this = self.clone();
        // The key is durable before the row that needs it.
        let wrapped_key = blocking(move || Ok(this.0.keys.create(id, this.0.random.as_ref())?)).await?;
        let created = inner.clock.now().millis();
        let row = BucketRow { id, created, wrapped_key, versioning: Versioning::Off, home };
        let this = self.clone();
        let key = name.as_str().as_bytes().to_vec();
        let limit = inner.config.max_buckets;
        let created = inner
            .store
            .write(move |tx| {
                if tx.get(BUCKETS, &key)?.is_some() {
                    return Ok(Created::Already);
                }
                let most = usize::try_from(limit).unwrap_or(usize::MAX);
                if tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, most)?.len() >= most {
                    return Err(ObjectError::TooManyBuckets { limit });
                }
                // The master key may have changed since: see `rewrap.rs`.
                let again = this.0.keys.rewrapped(id, &row.wrapped_key)?;
                let wrapped_key = again.unwrap_or_else(|| row.wrapped_key.clone());
                tx.put(BUCKETS, &key, &record::encode(&BucketRow { wrapped_key, ..row.clone() }))?;
                tx.put(USAGE, id.as_bytes(), &record::encode(&UsageRow::empty()))?;
                Ok(Created::New)
            })
            .await;
        if matches!(created, Ok(Created::Already) | Err(ObjectError::TooManyBuckets { .. })) {
            let this = self.clone();
            blocking(move || Ok(this.0.keys.destroy(id)?)).await?;
        }
        let created = created?;
        self.note_bucket_beside(name).await?;
        Ok(created)
    }

    /// As [`Objects::note_bucket`], off the async threads.
    async fn note_bucket_beside(&self, name: &BucketName) -> Result<(), ObjectError> {
        let (this, name) = (self.clone(), name.clone());
        blocking(move || this.note_bucket(&name)).await
    }

    /// Looks a bucket up. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn bucket(&self, name: &BucketName) -> Result<Bucket, ObjectError> {
        let key = name.as_str().as_bytes().to_vec();
        let found: Option<BucketRow> = self.0.store.read(move |tx| row(tx, BUCKETS, &key)).await?;
        let found = found.ok_or(ObjectError::NoSuchBucket)?;
        Ok(Bucket { name: name.clone(), created: Timestamp(found.created) })
    }

    /// All buckets in the order of their names; `objects.max_buckets` bounds their number. Cancel safe.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        let mut out: Vec<Bucket> = Vec::new();
        loop {
            let after = out.last().map(|bucket| bucket.name.as_str().as_bytes().to_vec());
            let scan = move |tx: &dyn ReadTx| {
                let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                tx.scan(BUCKETS, from, Bound::Unbounded, Direction::Forward, PAGE)
            };
            let rows = self.0.store.read(scan).await?;
            let full = rows.len() == PAGE;
            for (key, value) in rows {
                let name = std::str::from_utf8(&key).ok().and_then(|name| name.parse().ok());
                let bucket: BucketRow = decode(BUCKETS, &value)?;
                let name = name.ok_or_else(|| malformed_key(BUCKETS))?;
                out.push(Bucket { name, created: Timestamp(bucket.created) });
            }
            if !full {
                return Ok(out);
            }
        }
    }

    /// Whether a bucket keeps versions. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn versioning(&self, name: &BucketName) -> Result<Versioning, ObjectError> {
        let key = name.as_str().as_bytes().to_vec();
        let found: Option<BucketRow> = self.0.store.read(move |tx| row(tx, BUCKETS, &key)).await?;
        Ok(found.ok_or(ObjectError::NoSuchBucket)?.versioning)
    }

    /// Has a bucket keep versions from now on (`keep`), or no more: those it has stay.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`]. [`ObjectError::Disk`]: it may be as asked, but not beside the blobs yet; ask again.
    ///
    /// # Cancel safety
    /// Dropped before its end, the bucket may be as it was or as asked.
    pub async fn set_versioning(&self, name: &BucketName, keep: bool) -> Result<(), ObjectError> {
        let key = name.as_str().as_bytes().to_vec();
        let change = move |tx: &mut dyn WriteTx| {
            let mut bucket: BucketRow = row(tx, BUCKETS, &key)?.ok_or(ObjectError::NoSuchBucket)?;
            bucket.versioning = if keep { Versioning::Enabled } else { Versioning::Suspended };
            Ok(tx.put(BUCKETS, &key, &record::encode(&bucket))?)
        };
        self.write_and_forget(name, change).await
    }

    /// Deletes a bucket without objects and versions, and destroys its key. Uploads in progress go with it.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::BucketNotEmpty`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the bucket may be there or not.
    pub async fn delete_bucket(&self, name: &BucketName) -> Result<(), ObjectError> {
        let key = name.as_str().as_bytes().to_vec();
        let this = self.clone();
        let delete = move |tx: &mut dyn WriteTx| {
            let bucket: BucketRow = row(tx, BUCKETS, &key)?.ok_or(ObjectError::NoSuchBucket)?;
            let all = bucket.id.as_bytes().as_slice();
            let end = after_prefix(all);
            for table in [CURRENT, VERSIONS] {
                let to = end.as_ref().map(Vec::as_slice);
                if !tx.scan(table, Bound::Included(all), to, Direction::Forward, 1)?.is_empty() {
                    return Err(ObjectError::BucketNotEmpty);
                }
            }
            tx.delete(BUCKETS, &key)?;
            tx.delete(SETTINGS, bucket.id.as_bytes())?;
            tx.delete(USAGE, bucket.id.as_bytes())?;
            tx.delete(MOVES, bucket.id.as_bytes())?;
            usage_days::forget(tx, bucket.id)?;
            tx.delete(ROTATIONS, bucket.id.as_bytes())?;
            this.discard(tx, &[Garbage::Bucket(bucket.id)])?;
            Ok(bucket.id)
        };
        let id = self.write_and_forget(name, delete).await?;
        let this = self.clone();
        blocking(move || this.note_gone(id)).await
    }
}

/// A page of the names of buckets behind `after`.
pub(super) fn names_after(tx: &dyn ReadTx, after: &[u8]) -> Result<Vec<BucketName>, ObjectError> {
    let rows = tx.scan(BUCKETS, Bound::Excluded(after), Bound::Unbounded, Direction::Forward, PAGE)?;
    let name = |key: &[u8]| std::str::from_utf8(key).ok().and_then(|name| name.parse().ok());
    rows.iter().map(|(key, _)| name(key).ok_or_else(|| malformed_key(BUCKETS))).collect()
}
