//! Listing the versions of a bucket's objects: `ListObjectVersions`.
//!
//! Two tables are walked side by side: what is current, and everything else. Their rows come in the same order, so the
//! first entries of both together are the page.

use std::ops::Bound;

use super::error::ObjectError;
use super::index::{
    CURRENT, ObjectRow, VERSIONS, VersionRow, VersionTag, decode, escaped, parse_version_key, version_key, versions_of,
};
use super::list::FORM as CURRENT_FORM;
use super::names::{BucketName, ObjectKey, VersionId};
use super::service::Objects;
use super::types::{VersionPage, VersionQuery, VersionSummary};
use super::versions::Slot;
use super::walk::{Entry, Form, PAGE_MAX, Walk};
use crate::base::{Id128, Timestamp};
use crate::store::{ReadTx, after_prefix};

const FORM: Form = Form { table: VERSIONS, encode: escaped, decode: |at| Some(parse_version_key(at).ok()?.0) };

impl Objects {
    /// A page of the versions of a bucket's objects, from one state of the index. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`].
    pub async fn list_versions(&self, bucket: &BucketName, query: VersionQuery) -> Result<VersionPage, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let open = bucket.clone();
        let page = self.0.store.read(move |tx| {
            open.check(tx)?;
            version_page(tx, open.id, &query)
        });
        let page = page.await;
        self.forget_if_gone(&bucket, page)
    }
}

/// What stands at one place of a page.
enum Item {
    Prefix,
    Current(ObjectRow),
    Older(VersionRow),
}

/// The page `query` asks for.
pub(super) fn version_page(tx: &dyn ReadTx, bucket: Id128, query: &VersionQuery) -> Result<VersionPage, ObjectError> {
    let limit = query.max_keys.min(PAGE_MAX);
    let walk = |form| Walk {
        form,
        bucket,
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone().unwrap_or_default(),
        start: Bound::Unbounded,
        limit,
    };
    let (mut newest, mut older) = (walk(CURRENT_FORM), walk(FORM));
    let mut merged: Vec<(String, Item)> = Vec::new();
    if let Some(after) = &query.after_key {
        if newest.rolled_up(after) == Some(after.as_str()) {
            (newest.start, older.start) = (newest.behind(after), older.behind(after));
        } else {
            newest.start = Bound::Excluded(newest.row_start(after));
            older.start = match after_prefix(&versions_of(bucket, after)) {
                Bound::Excluded(next) => Bound::Included(next),
                other => other,
            };
            if let Some((sequence, current)) = resume(tx, bucket, after, query.after_version)? {
                older.start = Bound::Excluded(version_key(bucket, after, sequence));
                // The version listed last was deleted since, and an older one has become current.
                let wanted = after.starts_with(&query.prefix) && newest.rolled_up(after).is_none();
                let current = current.filter(|current| wanted && current.version.sequence < sequence);
                merged.extend(current.map(|current| (after.clone(), Item::Current(current))));
            }
        }
    }
    if limit == 0 {
        return Ok(VersionPage::default());
    }
    let (entries, more_current) = newest.page(tx)?;
    for entry in entries {
        merged.push(match entry {
            Entry::Prefix(prefix) => (prefix, Item::Prefix),
            Entry::Row { key, value, .. } => (key, Item::Current(decode(CURRENT, &value)?)),
        });
    }
    let (entries, more_older) = older.page(tx)?;
    for entry in entries {
        merged.push(match entry {
            Entry::Prefix(prefix) => (prefix, Item::Prefix),
            Entry::Row { key, value, .. } => (key, Item::Older(decode(VERSIONS, &value)?)),
        });
    }
    // Stable: of one key what is current stays in front, and the others newest first.
    merged.sort_by(|(left, _), (right, _)| left.cmp(right));
    merged.dedup_by(|(right, second), (left, first)| {
        matches!((second, first), (Item::Prefix, Item::Prefix)) && left == right
    });
    let more = more_current || more_older || merged.len() > limit;
    merged.truncate(limit);
    assemble(tx, bucket, merged, query, more)
}

fn assemble(
    tx: &dyn ReadTx,
    bucket: Id128,
    merged: Vec<(String, Item)>,
    query: &VersionQuery,
    more: bool,
) -> Result<VersionPage, ObjectError> {
    let mut page = VersionPage::default();
    let mut last: Option<(String, Option<VersionId>)> = None;
    for (key, item) in merged {
        let first_of_key = last.as_ref().is_none_or(|(before, _)| *before != key);
        let (tag, modified, object, latest) = match item {
            Item::Prefix => {
                last = Some((key.clone(), None));
                page.common_prefixes.push(key);
                continue;
            }
            Item::Current(row) => (row.version, row.modified, Some((row.etag, row.size)), true),
            Item::Older(VersionRow::Object(row)) => (row.version, row.modified, Some((row.etag, row.size)), false),
            Item::Older(VersionRow::Marker { modified, version }) => {
                // Nothing older than a marker is current, so the first of a key is its newest; unless the page begins
                // within the key.
                let latest = first_of_key
                    && (query.after_key.as_deref() != Some(key.as_str()) || is_newest(tx, bucket, &key, version)?);
                (version, modified, None, latest)
            }
        };
        last = Some((key.clone(), Some(tag.place())));
        let modified = Timestamp(modified);
        page.versions.push(VersionSummary { key, version: tag.id(), latest, modified, object });
    }
    page.next = last.filter(|_| more);
    Ok(page)
}

/// The place of the version `id` of `key` among the key's versions, whether it is still there or not, and what is
/// current; `None` when no place is known, for then all of the key's versions are passed over.
fn resume(
    tx: &dyn ReadTx,
    bucket: Id128,
    key: &str,
    id: Option<VersionId>,
) -> Result<Option<(u64, Option<ObjectRow>)>, ObjectError> {
    let (Some(id), Ok(key)) = (id, key.parse::<ObjectKey>()) else { return Ok(None) };
    let slot = Slot::new(bucket, &key);
    let current = slot.current(tx)?;
    let sequence = match (id, &current) {
        (VersionId::Made { sequence, .. }, _) => Some(sequence),
        (VersionId::Null, Some(current)) if current.version.null => Some(current.version.sequence),
        (VersionId::Null, _) => slot.null_sequence(tx)?,
    };
    Ok(sequence.map(|sequence| (sequence, current)))
}

fn is_newest(tx: &dyn ReadTx, bucket: Id128, key: &str, version: VersionTag) -> Result<bool, ObjectError> {
    let Ok(key) = key.parse::<ObjectKey>() else { return Ok(false) };
    let slot = Slot::new(bucket, &key);
    Ok(slot.current(tx)?.is_none() && slot.top(tx)?.is_some_and(|top| top.version() == version))
}
