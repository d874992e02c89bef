//! Reading objects: lookup, first bytes and proof of the header in one hop off the async threads, then a stream that
//! reads one batch ahead.

use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::blob::{Fault, OpenFault, open_inline};
use super::body::ObjectBody;
use super::error::ObjectError;
use super::index::{Content, INLINE, MANIFESTS, ManifestRow, PartRef, decode, number_after_id};
use super::keys::OpenBucket;
use super::names::{BucketName, ObjectKey, PartNumber};
use super::reader::{ReadFault, Reader, Threads};
use super::service::{Objects, blocking};
use super::types::{Found, ObjectInfo, RangeSpec, Target};
use super::versions::look_up;
use crate::base::Id128;
use crate::store::{Direction, after_prefix};

/// How often a lookup is made again when the object was overwritten between lookup and opening.
const TRIES: u32 = 4;

/// Which bytes of an object.
#[derive(Clone, Copy, Debug)]
enum Choice {
    All,
    Range(RangeSpec),
    Part(PartNumber),
}

impl Objects {
    /// Looks an object up. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`].
    pub async fn head(&self, bucket: &BucketName, key: &ObjectKey) -> Result<ObjectInfo, ObjectError> {
        self.head_version(bucket, &newest(key)).await
    }

    /// Looks up an object, or the version of it that is named. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`], [`ObjectError::NoSuchVersion`],
    /// [`ObjectError::DeleteMarker`].
    pub async fn head_version(&self, bucket: &BucketName, target: &Target) -> Result<ObjectInfo, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let (open, target) = (Arc::clone(&bucket), target.clone());
        let found = self.0.store.read(move |tx| look_up(tx, &open, &target.key, target.version)).await;
        Ok(self.forget_if_gone(&bucket, found)?.info())
    }

    /// Opens an object, or a range of it. What fits one batch (256 KiB) is verified as a whole before this returns; the
    /// stream reads on, one batch ahead, and verifies each segment before it gives it out.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`], [`ObjectError::InvalidRange`],
    /// [`ObjectError::Corrupt`]. The stream may still end with an error, and then the body is not whole.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        range: Option<RangeSpec>,
    ) -> Result<Found, ObjectError> {
        self.get_version(bucket, &newest(key), range).await
    }

    /// Opens an object, or the version of it that is named, or a range of it; see [`Objects::get`].
    ///
    /// # Errors
    /// As [`Objects::get`], and [`ObjectError::NoSuchVersion`], [`ObjectError::DeleteMarker`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn get_version(
        &self,
        bucket: &BucketName,
        target: &Target,
        range: Option<RangeSpec>,
    ) -> Result<Found, ObjectError> {
        self.open_object(bucket, target, range.map_or(Choice::All, Choice::Range)).await
    }

    /// Opens one part of a multipart object; part 1 of an object stored in one piece is all of it.
    ///
    /// # Errors
    /// As [`Objects::get`], and [`ObjectError::NoSuchPart`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn get_part(
        &self,
        bucket: &BucketName,
        target: &Target,
        number: PartNumber,
    ) -> Result<Found, ObjectError> {
        self.open_object(bucket, target, Choice::Part(number)).await
    }

    async fn open_object(&self, bucket: &BucketName, target: &Target, choice: Choice) -> Result<Found, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let (this, open, wanted) = (self.clone(), Arc::clone(&bucket), target.clone());
        let mut found = blocking(move || this.open_on(Threads::Disk, &open, &wanted, choice)).await;
        if matches!(found, Ok(None)) {
            let (this, open, target) = (self.clone(), Arc::clone(&bucket), target.clone());
            let there = move || this.open_on(Threads::Backends, &open, &target, choice);
            found = self.0.backends.blocking(there).await;
        }
        let found = self.forget_if_gone(&bucket, found)?;
        let found = found.ok_or(ObjectError::Unavailable("the object is being moved"))?;
        self.0.metrics.gets.inc();
        self.0.metrics.sent.add(found.range.end - found.range.start);
        Ok(found)
    }

    /// Opens an object on a thread of `on`; `None` when that must be done on other threads.
    fn open_on(
        &self,
        on: Threads,
        bucket: &Arc<OpenBucket>,
        target: &Target,
        choice: Choice,
    ) -> Result<Option<Found>, ObjectError> {
        let mut gone = None;
        for _ in 0..TRIES {
            match self.try_open(on, bucket, target, choice) {
                Err(Attempt::Gone(blob)) => gone = Some(blob),
                Err(Attempt::Elsewhere) => return Ok(None),
                Err(Attempt::Failed(error)) => return Err(error),
                Ok(found) => return Ok(Some(found)),
            }
        }
        gone.map_or(Ok(None), |blob| Err(self.unreadable(blob, OpenFault::Missing)))
    }

    fn try_open(
        &self,
        on: Threads,
        bucket: &Arc<OpenBucket>,
        target: &Target,
        choice: Choice,
    ) -> Result<Found, Attempt> {
        let (object, inline) = self.0.store.read_blocking(|tx| {
            let object = look_up(tx, bucket, &target.key, target.version)?;
            let inline = match object.content {
                Content::Inline(id) => tx.get(INLINE, id.as_bytes())?,
                _ => None,
            };
            Ok::<_, ObjectError>((object, inline))
        })?;
        let size = object.size;
        let mut parts = 0;
        let range = match choice {
            Choice::All => 0..size,
            Choice::Range(spec) => spec.resolve(size)?,
            Choice::Part(number) => match object.content {
                Content::Parts(id) => {
                    parts = object.etag.parts;
                    self.part_range(id, number)?
                }
                _ if number.value() == 1 => 0..size,
                _ => return Err(ObjectError::NoSuchPart { number: number.value() }.into()),
            },
        };
        let body = match object.content {
            Content::Inline(id) => {
                let opened = inline.ok_or(Fault("its bytes are missing from the index"));
                let plain = opened.and_then(|bytes| open_inline(&bytes, id, &bucket.key, size));
                let plain = Bytes::from(plain.map_err(|fault| self.corrupt(id, fault))?);
                ObjectBody::ready(plain.slice(range.start as usize..range.end as usize))
            }
            Content::Blob(id) => {
                let part = PartRef { number: 1, blob: id, size };
                self.open_body(Reader::of_blob(self, bucket, part, &range, on))?
            }
            Content::Parts(id) => {
                // Held first, looked at again: whoever replaces the object from here on finds it held.
                let hold = self.0.reading.hold(id);
                let again = self.0.store.read_blocking(|tx| look_up(tx, bucket, &target.key, target.version))?;
                if again.content != object.content {
                    return Err(Attempt::Gone(id));
                }
                let reader = Reader::of_parts(self, bucket, id, &range, hold, on);
                self.open_body(reader.map_err(|fault| self.attempt(fault))?)?
            }
        };
        Ok(Found { info: object.info(), range, parts, body })
    }

    fn part_range(&self, content: Id128, number: PartNumber) -> Result<Range<u64>, ObjectError> {
        let mut from = Bound::Included(content.as_bytes().to_vec());
        let end = after_prefix(content.as_bytes());
        loop {
            let rows = self.0.store.read_blocking(|tx| {
                let (from, to) = (from.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
                Ok::<_, ObjectError>(tx.scan(MANIFESTS, from, to, Direction::Forward, 1)?)
            })?;
            let Some((key, value)) = rows.into_iter().next() else {
                return Err(ObjectError::NoSuchPart { number: number.value() });
            };
            let mut start = number_after_id(MANIFESTS, &key)?;
            for part in decode::<ManifestRow>(MANIFESTS, &value)?.parts {
                if part.number == number.value() {
                    return Ok(start..start + part.size);
                }
                start += part.size;
            }
            from = Bound::Excluded(key);
        }
    }

    /// Reads and verifies the first batch; what is more comes as it is asked for.
    fn open_body(&self, mut reader: Reader) -> Result<ObjectBody, Attempt> {
        let first = reader.next_batch().map_err(|fault| self.attempt(fault))?;
        if first.is_empty() && !reader.is_done() {
            return Err(Attempt::Elsewhere);
        }
        let needs_index = reader.needs_index();
        Ok(ObjectBody::new(reader.stream(first), needs_index))
    }

    fn attempt(&self, fault: ReadFault) -> Attempt {
        match fault {
            ReadFault::Blob(blob, OpenFault::Missing) => Attempt::Gone(blob),
            ReadFault::Blob(blob, fault) => Attempt::Failed(self.unreadable(blob, fault)),
            ReadFault::Other(error) => Attempt::Failed(error),
        }
    }
}

fn newest(key: &ObjectKey) -> Target {
    Target { key: key.clone(), version: None }
}

/// Why an attempt to open an object did not succeed.
enum Attempt {
    /// A blob is not there: the object was overwritten in between, or bytes are lost.
    Gone(Id128),
    /// It must be made on other threads.
    Elsewhere,
    Failed(ObjectError),
}

impl<E: Into<ObjectError>> From<E> for Attempt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
