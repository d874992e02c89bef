//! Multipart uploads: start, list, abort, expire. Storing and joining the parts is in `parts.rs`.

use std::ops::Bound;
use std::sync::Arc;

use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{
    PARTS, PartRow, UPLOADS, UploadRow, decode, escaped, number_after_id, parse_upload_key, part_key, row, upload_key,
};
use super::keys::OpenBucket;
use super::names::{BucketName, ObjectKey, PartNumber, UploadId};
use super::service::Objects;
use super::types::{Etag, Metadata, PartInfo, PartPage, UploadInfo, UploadPage, UploadQuery};
use super::walk::{Entry, Form, PAGE_MAX, Walk};
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, after_prefix, record};

/// Uploads looked at in one transaction when old ones are removed.
const EXPIRE_PAGE: usize = 200;

const FORM: Form = Form { table: UPLOADS, encode: escaped, decode: |at| Some(parse_upload_key(at).ok()?.0) };

impl Objects {
    /// Starts a multipart upload of `bucket`/`key`.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::MetadataTooLarge`], [`ObjectError::NotTaken`].
    ///
    /// # Cancel safety
    /// Dropped before its end, an upload nobody knows may be left; it expires.
    pub async fn create_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: Metadata,
    ) -> Result<UploadId, ObjectError> {
        let bytes = metadata.bytes();
        if bytes > Metadata::BYTES_MAX {
            return Err(ObjectError::MetadataTooLarge { bytes, limit: Metadata::BYTES_MAX });
        }
        let bucket = self.open_bucket(bucket).await?;
        bucket.settings.files.admit(key.as_str(), &metadata)?;
        let id = Id128::random(self.0.random.as_ref());
        let at = upload_key(bucket.id, key.as_str(), id);
        let initiated = self.0.clock.now().millis();
        let value = record::encode(&UploadRow { initiated, revision: 0, metadata });
        let open = Arc::clone(&bucket);
        let made = self.0.store.write(move |tx| {
            open.check(tx)?;
            Ok(tx.put(UPLOADS, &at, &value)?)
        });
        let made = made.await;
        self.forget_if_gone(&bucket, made)?;
        Ok(UploadId(id))
    }

    /// Gives an upload up and removes its parts.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchUpload`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the upload may be there or not.
    pub async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let at = upload_key(bucket.id, key.as_str(), upload.0);
        let (this, open) = (self.clone(), Arc::clone(&bucket));
        let aborted = self.0.store.write(move |tx| {
            open.check(tx)?;
            if !tx.delete(UPLOADS, &at)? {
                return Err(ObjectError::NoSuchUpload);
            }
            this.discard(tx, &[Garbage::Upload(upload.0)])
        });
        let aborted = aborted.await;
        self.forget_if_gone(&bucket, aborted)
    }

    /// A page of an upload's parts behind `after`, at most `max` (more than 1000 count as 1000). Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchUpload`].
    pub async fn list_parts(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        after: Option<PartNumber>,
        max: usize,
    ) -> Result<PartPage, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let at = upload_key(bucket.id, key.as_str(), upload.0);
        let max = max.min(PAGE_MAX);
        let open = Arc::clone(&bucket);
        let rows = self.0.store.read(move |tx| {
            upload_row(tx, &open, &at)?;
            scan_parts(tx, upload.0, after.map_or(0, PartNumber::value), if max == 0 { 0 } else { max + 1 })
        });
        let rows = rows.await;
        let rows = self.forget_if_gone(&bucket, rows)?;
        let more = rows.len() > max;
        let parts =
            rows.into_iter().take(max).map(|(number, part)| part_info(number, part)).collect::<Result<Vec<_>, _>>()?;
        let next = parts.last().filter(|_| more).map(|part| part.number);
        Ok(PartPage { parts, next })
    }

    /// A page of the bucket's uploads, from one state of the index. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn list_uploads(&self, bucket: &BucketName, query: UploadQuery) -> Result<UploadPage, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let open = Arc::clone(&bucket);
        let page = self.0.store.read(move |tx| {
            open.check(tx)?;
            upload_page(tx, open.id, &query)
        });
        let page = page.await;
        self.forget_if_gone(&bucket, page)
    }

    /// Removes uploads older than the setting allows and tells how many; several transactions, each a page. Blocks.
    pub(super) fn expire_uploads(&self) -> Result<u64, ObjectError> {
        let now = self.0.clock.now();
        let age = self.0.config.upload_expiry.duration();
        let mut from = Bound::Unbounded;
        let mut removed = 0;
        loop {
            let (this, start) = (self.clone(), from.clone());
            let (count, last) = self.0.store.write_blocking(move |tx| {
                let low = start.as_ref().map(Vec::as_slice);
                let rows = tx.scan(UPLOADS, low, Bound::Unbounded, Direction::Forward, EXPIRE_PAGE)?;
                let last = rows.last().filter(|_| rows.len() == EXPIRE_PAGE).map(|(at, _)| at.clone());
                let mut count = 0;
                for (at, value) in rows {
                    let upload: UploadRow = decode(UPLOADS, &value)?;
                    if now.since(Timestamp(upload.initiated)) >= age {
                        let (_, id) = parse_upload_key(&at)?;
                        tx.delete(UPLOADS, &at)?;
                        this.discard(tx, &[Garbage::Upload(id)])?;
                        count += 1;
                    }
                }
                Ok::<_, ObjectError>((count, last))
            })?;
            removed += count;
            let Some(last) = last else { return Ok(removed) };
            from = Bound::Excluded(last);
        }
    }
}

/// The upload at `at`, in a bucket that is still there.
pub(super) fn upload_row(tx: &dyn ReadTx, bucket: &OpenBucket, at: &[u8]) -> Result<UploadRow, ObjectError> {
    if let Some(upload) = row(tx, UPLOADS, at)? {
        return Ok(upload);
    }
    bucket.check(tx)?;
    Err(ObjectError::NoSuchUpload)
}

/// Parts of an upload behind number `after`, in ascending order, at most `limit`.
pub(super) fn scan_parts(
    tx: &dyn ReadTx,
    upload: Id128,
    after: u16,
    limit: usize,
) -> Result<Vec<(u16, PartRow)>, ObjectError> {
    let (from, to) = (part_key(upload, after), after_prefix(upload.as_bytes()));
    let rows =
        tx.scan(PARTS, Bound::Excluded(from.as_slice()), to.as_ref().map(Vec::as_slice), Direction::Forward, limit)?;
    rows.into_iter().map(|(at, value)| Ok((number_after_id(PARTS, &at)? as u16, decode(PARTS, &value)?))).collect()
}

/// A part as callers see it.
pub(super) fn part_info(number: u16, part: PartRow) -> Result<PartInfo, ObjectError> {
    let number = PartNumber::try_from(u64::from(number)).map_err(|_out_of_range| super::index::malformed_key(PARTS))?;
    Ok(PartInfo {
        number,
        etag: Etag { md5: part.md5, parts: 0 },
        size: part.size,
        modified: Timestamp(part.modified),
        checksum: part.checksum,
    })
}

fn upload_page(tx: &dyn ReadTx, bucket: Id128, query: &UploadQuery) -> Result<UploadPage, ObjectError> {
    let mut walk = Walk {
        form: FORM,
        bucket,
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone().unwrap_or_default(),
        start: Bound::Unbounded,
        limit: query.max_uploads,
    };
    if let Some(after) = &query.after_key {
        walk.start = match (walk.rolled_up(after), query.after_upload) {
            (Some(prefix), _) if prefix == after => walk.behind(after),
            (_, Some(upload)) => Bound::Excluded(upload_key(bucket, after, upload.0)),
            // Behind all of this key's uploads: their ids end before this.
            (_, None) => Bound::Excluded(upload_key(bucket, after, Id128::from_bytes([0xff; 16]))),
        };
    }
    let (entries, more) = walk.page(tx)?;
    let mut page = UploadPage::default();
    let mut last = None;
    for entry in entries {
        match entry {
            Entry::Prefix(prefix) => {
                last = Some((prefix.clone(), None));
                page.common_prefixes.push(prefix);
            }
            Entry::Row { at, value, .. } => {
                let (key, id) = parse_upload_key(&at)?;
                let upload: UploadRow = decode(UPLOADS, &value)?;
                last = Some((key.clone(), Some(UploadId(id))));
                page.uploads.push(UploadInfo { key, upload: UploadId(id), initiated: Timestamp(upload.initiated) });
            }
        }
    }
    page.next = last.filter(|_| more);
    Ok(page)
}
