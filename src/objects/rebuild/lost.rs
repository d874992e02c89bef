//! What the index names and is not there any more.

use std::collections::HashSet;

use super::Job;
use crate::base::{Id128, Timestamp};
use crate::objects::error::ObjectError;
use crate::objects::index::{
    BLOBS, BUCKETS, BucketRow, CURRENT, Content, JOINED, ObjectRow, PARTS, PartRow, UPLOADS, VERSIONS, VersionRow,
    decode, parse_upload_key, parse_version_key, row,
};
use crate::objects::joined::parts_of;
use crate::objects::names::{BucketName, ObjectKey};
use crate::objects::types::{Condition, Target};
use crate::objects::uploads::scan_parts;
use crate::store::{Table, WriteTx};

/// A version whose bytes are not there.
struct Gone {
    name: BucketName,
    target: Target,
}

impl Job<'_> {
    /// Leaves out objects and parts whose blobs are not there, and tells which.
    pub(super) fn leave_out(&mut self) -> Result<(), ObjectError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        // Older ones first: what is current afterwards may be one of these.
        self.objects_of(VERSIONS)?;
        self.objects_of(CURRENT)?;
        self.parts()?;
        self.rows()
    }

    fn objects_of(&mut self, table: Table) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        loop {
            let rows = self.page(table, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            let mut gone = Vec::new();
            for (key, value) in rows {
                let object = if table == CURRENT {
                    decode::<ObjectRow>(table, &value)?
                } else {
                    match decode(table, &value)? {
                        VersionRow::Object(object) => object,
                        VersionRow::Marker { .. } => continue,
                    }
                };
                if self.has_bytes(object.content)? {
                    continue;
                }
                let (text, older) = if table == CURRENT {
                    (String::from_utf8_lossy(key.get(16..).unwrap_or_default()).into_owned(), "")
                } else {
                    (parse_version_key(&key)?.0, " (an older version)")
                };
                let bucket = key.first_chunk::<16>().map(|id| Id128::from_bytes(*id));
                let name = bucket.and_then(|id| self.known.get(&id)).and_then(|known| known.name.clone());
                self.lose(format!("{}/{text}{older}", name.as_ref().map_or("?", BucketName::as_str)));
                let version = Some(object.version.id());
                if let (Some(name), Ok(key)) = (name, text.parse::<ObjectKey>()) {
                    gone.push(Gone { name, target: Target { key, version } });
                }
            }
            if gone.is_empty() {
                continue;
            }
            let objects = self.objects.clone();
            let remove = move |tx: &mut dyn WriteTx| {
                for Gone { name, target } in &gone {
                    let bucket: Option<BucketRow> = row(tx, BUCKETS, name.as_str().as_bytes())?;
                    let bucket = bucket.ok_or(ObjectError::NoSuchBucket)?;
                    objects.remove(tx, &bucket, target, Condition::Any, 0, Timestamp(0))?;
                }
                Ok::<_, ObjectError>(())
            };
            self.store.write_blocking(remove)?;
        }
    }

    fn has_bytes(&self, content: Content) -> Result<bool, ObjectError> {
        Ok(match content {
            Content::Inline(_) => true,
            Content::Blob(id) => !self.missing.contains(&id),
            Content::Parts(id) => {
                let parts = self.store.read_blocking(|tx| parts_of(tx, id))?;
                parts.iter().all(|part| !self.missing.contains(&part.blob))
            }
        })
    }

    /// Parts of uploads in progress, and the uploads that had some and have none any more.
    fn parts(&mut self) -> Result<(), ObjectError> {
        let mut touched = HashSet::new();
        let mut after = Vec::new();
        loop {
            let rows = self.page(PARTS, &[], &after)?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            let mut gone = Vec::new();
            for (key, value) in rows {
                if self.missing.contains(&decode::<PartRow>(PARTS, &value)?.blob) {
                    touched.extend(key.first_chunk::<16>().map(|id| Id128::from_bytes(*id)));
                    gone.push(key);
                }
            }
            self.delete(PARTS, gone)?;
        }
        let mut after = Vec::new();
        loop {
            let rows = self.page(UPLOADS, &[], &after)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            let mut gone = Vec::new();
            for (key, _) in rows {
                let (_, upload) = parse_upload_key(&key)?;
                if touched.contains(&upload) && self.store.read_blocking(|tx| scan_parts(tx, upload, 0, 1))?.is_empty()
                {
                    gone.push(key);
                }
            }
            self.delete(UPLOADS, gone)?;
        }
    }

    /// Rows of the missing blobs themselves.
    fn rows(&mut self) -> Result<(), ObjectError> {
        let mut after = Vec::new();
        loop {
            let rows = self.page(JOINED, &[], &after)?;
            let Some((last, _)) = rows.last() else { break };
            after.clone_from(last);
            let is_gone = |value: &[u8]| {
                value.first_chunk::<16>().is_none_or(|id| self.missing.contains(&Id128::from_bytes(*id)))
            };
            let gone = rows.into_iter().filter(|(_, value)| is_gone(value)).map(|(key, _)| key).collect();
            self.delete(JOINED, gone)?;
        }
        let missing: Vec<Vec<u8>> = self.missing.iter().map(|id| id.as_bytes().to_vec()).collect();
        for page in missing.chunks(super::PAGE) {
            self.delete(BLOBS, page.to_vec())?;
        }
        Ok(())
    }

    fn delete(&self, table: Table, keys: Vec<Vec<u8>>) -> Result<(), ObjectError> {
        if keys.is_empty() {
            return Ok(());
        }
        let delete = move |tx: &mut dyn WriteTx| keys.iter().try_for_each(|key| tx.delete(table, key).map(drop));
        self.store.write_blocking(delete).map_err(ObjectError::Store)
    }
}
