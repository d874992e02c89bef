//! Which buckets there are.

use std::collections::{HashMap, HashSet};

use super::{Beside, Job};
use crate::base::Id128;
use crate::objects::blob::BucketKey;
use crate::objects::bucket_files::BucketState;
use crate::objects::error::ObjectError;
use crate::objects::garbage::Garbage;
use crate::objects::index::{
    BLOBS, BUCKETS, BucketRow, CURRENT, Content, INLINE, NULLS, ObjectRow, SETTINGS, UPLOADS, VERSIONS, VersionRow,
    decode, parse_upload_key, part_key,
};
use crate::objects::keys::unwrap;
use crate::objects::names::BucketName;
use crate::objects::service::Objects;
use crate::objects::types::Versioning;
use crate::objects::uploads::scan_parts;
use crate::store::{Table, WriteTx, record};

/// A bucket whose key opens.
pub(super) struct Known {
    /// Its name; none while nothing has told it.
    pub name: Option<BucketName>,
    pub key: BucketKey,
}

/// What a bucket's file says.
struct Filed {
    name: String,
    row: BucketRow,
    settings: Option<Vec<u8>>,
}

/// What becomes of a bucket's settings.
enum Set {
    /// They are those of the export.
    AsIs,
    /// Nothing is set.
    Nothing,
    /// This row.
    To(Vec<u8>),
}

impl Job<'_> {
    /// Has the rows of buckets be those of the buckets there are.
    pub(super) fn buckets(&mut self) -> Result<(), ObjectError> {
        (self.show)("buckets", 0);
        let (filed, gone) = self.files()?;
        let mut rows = Vec::new();
        let mut after = Vec::new();
        loop {
            let page = self.page(BUCKETS, &[], &after)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (name, value) in page {
                rows.push((name, decode::<BucketRow>(BUCKETS, &value)?));
            }
        }
        // What the export names and is not there any more, before a bucket of the same name is put in.
        for (name, row) in rows {
            if filed.contains_key(&row.id) {
                self.store.write_blocking(move |tx| tx.delete(BUCKETS, &name)).map_err(ObjectError::Store)?;
                continue;
            }
            let wrapped = if gone.contains(&row.id) { None } else { self.objects.0.keys.wrapped(row.id)? };
            let text = String::from_utf8_lossy(&name).into_owned();
            let Some(wrapped) = wrapped else {
                if !gone.contains(&row.id) {
                    self.note(format!("bucket {text} has no key: it was deleted since the export, or its key is lost"));
                }
                self.forget_bucket(&name, row.id)?;
                continue;
            };
            self.add(&text, &BucketRow { wrapped_key: wrapped, ..row }, Set::AsIs)?;
        }
        for (_, Filed { name, row, settings }) in filed {
            self.add(&name, &row, settings.map_or(Set::Nothing, Set::To))?;
        }
        self.keys_alone(&gone)
    }

    /// What the files of buckets say: those that are there, and those that are gone.
    fn files(&mut self) -> Result<(HashMap<Id128, Filed>, HashSet<Id128>), ObjectError> {
        let (mut filed, mut gone) = (HashMap::new(), HashSet::new());
        let files = &self.objects.0.bucket_files;
        for id in files.ids()? {
            match files.read(id)? {
                Some(Ok(BucketState::Live { name, row, settings })) => {
                    match record::decode::<BucketRow>(&row).ok().filter(|row| row.id == id) {
                        Some(row) => drop(filed.insert(id, Filed { name, row, settings })),
                        None => self.note(format!("the file of bucket {name} is of a later release")),
                    }
                }
                Some(Ok(BucketState::Gone)) => drop(gone.insert(id)),
                Some(Err(fault)) => self.note(format!("the file of the bucket with the id {id}: {}", fault.0)),
                None => {}
            }
        }
        Ok((filed, gone))
    }

    /// Puts a bucket in, if its key opens and no other has its name.
    fn add(&mut self, text: &str, row: &BucketRow, settings: Set) -> Result<(), ObjectError> {
        let id = row.id;
        let keys = &self.objects.0.keys;
        let beside = keys.wrapped(id)?;
        let opens = |wrapped: &[u8]| unwrap(keys.keyring(), id, wrapped).ok();
        let own = opens(&row.wrapped_key).map(|key| (key, row.wrapped_key.clone()));
        if own.is_some() && beside.is_none() && self.beside == Beside::Mend {
            keys.put_back(id, &row.wrapped_key)?;
        }
        // One that is being changed may have got no further than the file beside the blobs.
        let beside = beside.filter(|wrapped| own.is_none() || wrapped.len() > row.wrapped_key.len());
        let opened = beside.and_then(|wrapped| Some((opens(&wrapped)?, wrapped))).or(own);
        let Some((key, wrapped_key)) = opened else {
            self.note(format!("the key of bucket {text} does not open: nothing of it can be read"));
            return self.forget_bucket(text.as_bytes(), id);
        };
        let Ok(name) = text.parse::<BucketName>() else {
            self.note(format!("{text:?} is no name of a bucket"));
            return self.forget_bucket(text.as_bytes(), id);
        };
        let value = record::encode(&BucketRow { wrapped_key, ..row.clone() });
        let at = text.as_bytes().to_vec();
        let put = move |tx: &mut dyn WriteTx| {
            if let Some(other) = tx.get(BUCKETS, &at)?
                && decode::<BucketRow>(BUCKETS, &other)?.id != id
            {
                return Ok(false);
            }
            tx.put(BUCKETS, &at, &value)?;
            match &settings {
                Set::To(settings) => tx.put(SETTINGS, id.as_bytes(), settings)?,
                Set::Nothing => drop(tx.delete(SETTINGS, id.as_bytes())?),
                Set::AsIs => {}
            }
            Ok::<_, ObjectError>(true)
        };
        let name = if self.store.write_blocking(put)? {
            Some(name)
        } else {
            self.note(format!("two buckets are called {text}: what is in the one with the id {id} is left out"));
            None
        };
        self.known.insert(id, Known { name, key });
        Ok(())
    }

    /// Keys of buckets that nothing else tells of.
    fn keys_alone(&mut self, gone: &HashSet<Id128>) -> Result<(), ObjectError> {
        for (id, wrapped) in self.objects.0.keys.files()? {
            if self.known.contains_key(&id) || gone.contains(&id) {
                continue;
            }
            match unwrap(self.objects.0.keys.keyring(), id, &wrapped) {
                Ok(key) => drop(self.known.insert(id, Known { name: None, key })),
                Err(error) => self.note(format!("the key of the bucket with the id {id}: {error}")),
            }
        }
        Ok(())
    }

    /// Gives buckets that only their keys tell of the names that their blobs have.
    pub(super) fn name_buckets(&mut self) -> Result<(), ObjectError> {
        for (id, (text, created)) in std::mem::take(&mut self.unnamed) {
            let Some(wrapped_key) = self.objects.0.keys.wrapped(id)? else { continue };
            self.note(format!("bucket {text}: what was set for it is lost, versions too"));
            self.add(
                &text,
                &BucketRow { id, created, wrapped_key, versioning: Versioning::Off, home: None },
                Set::AsIs,
            )?;
        }
        let nameless = self.known.values().filter(|known| known.name.is_none()).count();
        if nameless > 0 {
            self.note(format!(
                "{nameless} keys are of buckets that nothing names: they were empty, or held small objects"
            ));
        }
        Ok(())
    }

    /// Removes the rows of a bucket that is no more, and of all that was in it.
    fn forget_bucket(&self, name: &[u8], id: Id128) -> Result<(), ObjectError> {
        let at = name.to_vec();
        let row = move |tx: &mut dyn WriteTx| {
            if let Some(value) = tx.get(BUCKETS, &at)?
                && decode::<BucketRow>(BUCKETS, &value)?.id == id
            {
                tx.delete(BUCKETS, &at)?;
            }
            tx.delete(SETTINGS, id.as_bytes())?;
            Ok::<_, ObjectError>(())
        };
        self.store.write_blocking(row)?;
        for table in [CURRENT, VERSIONS, NULLS, UPLOADS] {
            loop {
                let rows = self.page(table, id.as_bytes(), &[])?;
                if rows.is_empty() {
                    break;
                }
                let objects = self.objects.clone();
                let forget = move |tx: &mut dyn WriteTx| {
                    rows.iter().try_for_each(|(key, value)| forget_row(&objects, tx, table, key, value))
                };
                self.store.write_blocking(forget)?;
            }
        }
        Ok(())
    }
}

/// Removes a row of a bucket, and the rows that lead to its bytes.
fn forget_row(
    objects: &Objects,
    tx: &mut dyn WriteTx,
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<(), ObjectError> {
    tx.delete(table, key)?;
    if table == CURRENT {
        return forget_content(objects, tx, decode::<ObjectRow>(CURRENT, value)?.content);
    }
    if table == VERSIONS
        && let VersionRow::Object(object) = decode(VERSIONS, value)?
    {
        return forget_content(objects, tx, object.content);
    }
    if table == UPLOADS {
        let (_, upload) = parse_upload_key(key)?;
        for (number, part) in scan_parts(tx, upload, 0, usize::MAX)? {
            tx.delete(crate::objects::index::PARTS, &part_key(upload, number))?;
            tx.delete(BLOBS, part.blob.as_bytes())?;
        }
    }
    Ok(())
}

/// Removes the rows that lead to the bytes of an object, and leaves the bytes.
fn forget_content(objects: &Objects, tx: &mut dyn WriteTx, content: Content) -> Result<(), ObjectError> {
    match content {
        Content::Inline(id) => drop(tx.delete(INLINE, id.as_bytes())?),
        Content::Blob(id) => drop(tx.delete(BLOBS, id.as_bytes())?),
        Content::Parts(id) => objects.discard(tx, &[Garbage::Manifest(id)])?,
    }
    Ok(())
}
