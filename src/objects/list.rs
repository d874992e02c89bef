//! Listing a bucket's objects: `ListObjects` v1 and v2 in one.

use std::ops::Bound;

use super::error::ObjectError;
use super::index::{CURRENT, ObjectRow, decode};
use super::names::BucketName;
use super::service::Objects;
use super::types::{ListPage, ListQuery};
use super::walk::{Entry, Form, Walk};
use crate::base::Id128;
use crate::store::ReadTx;

pub(super) const FORM: Form = Form {
    table: CURRENT,
    encode: |text| text.as_bytes().to_vec(),
    decode: |at| at.get(16..).and_then(|key| std::str::from_utf8(key).ok()).map(str::to_owned),
};

impl Objects {
    /// A page of a bucket's objects, from one state of the index. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn list(&self, bucket: &BucketName, query: ListQuery) -> Result<ListPage, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let open = bucket.clone();
        let page = self.0.store.read(move |tx| {
            open.check(tx)?;
            list_page(tx, open.id, &query)
        });
        let page = page.await;
        self.forget_if_gone(&bucket, page)
    }
}

/// The page `query` asks for.
pub(super) fn list_page(tx: &dyn ReadTx, bucket: Id128, query: &ListQuery) -> Result<ListPage, ObjectError> {
    let mut walk = Walk {
        form: FORM,
        bucket,
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone().unwrap_or_default(),
        start: Bound::Unbounded,
        limit: query.max_keys,
    };
    if let Some(after) = &query.after {
        walk.start = match walk.rolled_up(after) {
            Some(prefix) if prefix == after => walk.behind(after),
            _ => Bound::Excluded(walk.row_start(after)),
        };
    }
    let (entries, more) = walk.page(tx)?;
    let next = entries.last().filter(|_| more).map(|entry| match entry {
        Entry::Row { key, .. } => key.clone(),
        Entry::Prefix(prefix) => prefix.clone(),
    });
    let mut page = ListPage { next, ..ListPage::default() };
    for entry in entries {
        match entry {
            Entry::Prefix(prefix) => page.common_prefixes.push(prefix),
            Entry::Row { key, value, .. } => {
                page.objects.push(decode::<ObjectRow>(CURRENT, &value)?.summary(key));
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
