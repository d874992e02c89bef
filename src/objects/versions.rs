//! Versions of a key: what becomes of the old one when a new one comes, or when one is deleted.
//!
//! One rule holds after every transaction: `objects.current` holds a key's newest version exactly when that is an object;
//! everything else is in `objects.versions`. So reads and listings of what is there now cost what they cost without
//! versions, and a bucket that keeps none has no row in the second table.
//!
//! Source of the behaviour: S3 user guide, "How S3 Versioning works", "Working with delete markers", "Adding objects to
//! versioning-suspended buckets".

use std::ops::{Bound, Deref};

use super::damage;
use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{
    BucketRow, CURRENT, Content, INLINE, NULLS, ObjectRow, VERSIONS, VersionRow, VersionTag, decode, malformed_key,
    object_key, row, version_key, versions_of,
};
use super::keys::OpenBucket;
use super::names::{BucketName, ObjectKey, VersionId};
use super::place;
use super::service::Objects;
use super::types::{Condition, Deleted, ObjectInfo, Target, Versioning};
use super::usage::{Step, Tally};
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, WriteTx, after_prefix, record};

/// All versions of one key.
pub(super) struct Slot<'a> {
    bucket: Id128,
    key: &'a str,
    at: Vec<u8>,
}

/// Where a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Current,
    Older(u64),
}

impl<'a> Slot<'a> {
    /// The versions of `key` in the bucket with the id `bucket`.
    pub fn new(bucket: Id128, key: &'a ObjectKey) -> Self {
        Self { bucket, key: key.as_str(), at: object_key(bucket, key) }
    }

    /// The newest version, when that is an object.
    pub fn current(&self, tx: &dyn ReadTx) -> Result<Option<ObjectRow>, ObjectError> {
        row(tx, CURRENT, &self.at)
    }

    /// The newest of those in `objects.versions`.
    pub fn top(&self, tx: &dyn ReadTx) -> Result<Option<VersionRow>, ObjectError> {
        let first = versions_of(self.bucket, self.key);
        let end = after_prefix(&first);
        let (from, to) = (Bound::Included(first.as_slice()), end.as_ref().map(Vec::as_slice));
        let rows = tx.scan(VERSIONS, from, to, Direction::Forward, 1)?;
        rows.first().map(|(_, value)| decode(VERSIONS, value)).transpose()
    }

    /// The place of the `null` version, while it is in `objects.versions`.
    pub fn null_sequence(&self, tx: &dyn ReadTx) -> Result<Option<u64>, ObjectError> {
        let Some(bytes) = tx.get(NULLS, &self.at)? else { return Ok(None) };
        let sequence = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_other_length| malformed_key(NULLS))?;
        Ok(Some(u64::from_be_bytes(sequence)))
    }

    fn find(&self, tx: &dyn ReadTx, id: VersionId) -> Result<Option<(Place, VersionRow)>, ObjectError> {
        if let Some(current) = self.current(tx)?.filter(|current| current.version.id() == id) {
            return Ok(Some((Place::Current, VersionRow::Object(current))));
        }
        let sequence = match id {
            VersionId::Null => self.null_sequence(tx)?,
            VersionId::Made { sequence, .. } => Some(sequence),
        };
        let Some(sequence) = sequence else { return Ok(None) };
        let found: Option<VersionRow> = row(tx, VERSIONS, &version_key(self.bucket, self.key, sequence))?;
        Ok(found.filter(|found| found.version().id() == id).map(|found| (Place::Older(sequence), found)))
    }
}

/// The versions of a key while a transaction changes them. What the bucket holds is written by [`Changing::end`].
struct Changing<'a> {
    slot: Slot<'a>,
    tally: Tally,
}

impl<'a> Deref for Changing<'a> {
    type Target = Slot<'a>;

    fn deref(&self) -> &Slot<'a> {
        &self.slot
    }
}

impl<'a> Changing<'a> {
    fn begin(tx: &dyn ReadTx, bucket: Id128, key: &'a ObjectKey) -> Result<Self, ObjectError> {
        Ok(Self { slot: Slot::new(bucket, key), tally: Tally::take(tx, bucket)? })
    }

    fn end(self, tx: &mut dyn WriteTx) -> Result<(), ObjectError> {
        self.tally.put(tx)
    }

    fn push(&mut self, tx: &mut dyn WriteTx, version: &VersionRow) -> Result<(), ObjectError> {
        let VersionTag { sequence, null, .. } = version.version();
        let at = version_key(self.bucket, self.key, sequence);
        tx.put(VERSIONS, &at, &record::encode(version))?;
        if let VersionRow::Object(object) = version {
            self.tally.moved((VERSIONS, &at), Step::Comes(object.size));
        }
        if null {
            tx.put(NULLS, &self.at, &sequence.to_be_bytes())?;
        }
        Ok(())
    }

    fn pull(&mut self, tx: &mut dyn WriteTx, row: &VersionRow) -> Result<(), ObjectError> {
        let version = row.version();
        let at = version_key(self.bucket, self.key, version.sequence);
        tx.delete(VERSIONS, &at)?;
        if let VersionRow::Object(object) = row {
            self.tally.moved((VERSIONS, &at), Step::Goes(object.size));
        }
        if version.null {
            tx.delete(NULLS, &self.at)?;
        }
        Ok(())
    }

    fn put_current(&mut self, tx: &mut dyn WriteTx, object: &ObjectRow) -> Result<(), ObjectError> {
        tx.put(CURRENT, &self.at, &record::encode(object))?;
        self.tally.moved((CURRENT, &self.slot.at), Step::Comes(object.size));
        Ok(())
    }

    fn delete_current(&mut self, tx: &mut dyn WriteTx, object: &ObjectRow) -> Result<(), ObjectError> {
        tx.delete(CURRENT, &self.at)?;
        self.tally.moved((CURRENT, &self.slot.at), Step::Goes(object.size));
        Ok(())
    }

    /// Makes the newest version current again, if it is an object and nothing is current.
    fn promote(&mut self, tx: &mut dyn WriteTx) -> Result<(), ObjectError> {
        if tx.get(CURRENT, &self.at)?.is_some() {
            return Ok(());
        }
        if let Some(top @ VersionRow::Object(_)) = self.top(tx)? {
            self.pull(tx, &top)?;
            if let VersionRow::Object(object) = &top {
                self.put_current(tx, object)?;
            }
        }
        Ok(())
    }
}

/// The object asked for: the newest of `key`, or the version named.
pub(super) fn look_up(
    tx: &dyn ReadTx,
    bucket: &OpenBucket,
    key: &ObjectKey,
    version: Option<VersionId>,
) -> Result<ObjectRow, ObjectError> {
    let slot = Slot::new(bucket.id, key);
    let (found, missing) = match version {
        None => match slot.current(tx)? {
            Some(object) => return Ok(object),
            None => (slot.top(tx)?, ObjectError::NoSuchKey),
        },
        Some(id) => (slot.find(tx, id)?.map(|(_, found)| found), ObjectError::NoSuchVersion),
    };
    bucket.check(tx)?;
    match found {
        Some(VersionRow::Object(object)) if version.is_some() => Ok(object),
        Some(VersionRow::Marker { modified, version: tag }) => Err(ObjectError::DeleteMarker {
            version: tag.id(),
            modified: Timestamp(modified),
            named: version.is_some(),
        }),
        _ => Err(missing),
    }
}

/// Whether `object` is what `condition` asks for.
pub(super) fn check(condition: Condition, object: Option<&ObjectRow>) -> Result<(), ObjectError> {
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
            damage::forget(tx, id)?;
            tx.delete(INLINE, id.as_bytes())?;
            None
        }
        Content::Blob(id) => Some(place::let_go(tx, id)?),
        Content::Parts(id) => Some(Garbage::Manifest(id)),
    })
}

/// What tells a version from another in the same place: half of a random id.
pub(super) fn nonce(id: Id128) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |nonce, byte| nonce << 8 | u64::from(*byte))
}

impl Objects {
    /// Makes `object` the newest version of `key`, if the key holds what `condition` asks for, and gives it back with its
    /// version.
    pub(super) fn install(
        &self,
        tx: &mut dyn WriteTx,
        bucket: &BucketRow,
        key: &ObjectKey,
        mut object: ObjectRow,
        condition: Condition,
    ) -> Result<ObjectRow, ObjectError> {
        let mut slot = Changing::begin(tx, bucket.id, key)?;
        let current = slot.current(tx)?;
        check(condition, current.as_ref())?;
        let (Content::Inline(id) | Content::Blob(id) | Content::Parts(id)) = object.content;
        object.version = self.make_way(tx, bucket.versioning, &mut slot, current, nonce(id))?;
        slot.put_current(tx, &object)?;
        slot.tally.check(tx)?;
        slot.end(tx)?;
        Ok(object)
    }

    /// Clears `objects.current` for a new version, keeping or removing what was there, and tells which version the new
    /// one is.
    fn make_way(
        &self,
        tx: &mut dyn WriteTx,
        versioning: Versioning,
        slot: &mut Changing<'_>,
        current: Option<ObjectRow>,
        nonce: u64,
    ) -> Result<VersionTag, ObjectError> {
        let newest = match &current {
            Some(current) => Some(current.version.sequence),
            None if versioning == Versioning::Off => None,
            None => slot.top(tx)?.map(|top| top.version().sequence),
        };
        if let Some(current) = &current {
            slot.delete_current(tx, current)?;
        }
        let null = versioning != Versioning::Enabled;
        match current {
            Some(old) if null && old.version.null => self.discard_content(tx, old.content)?,
            Some(old) => {
                self.remove_older_null(tx, slot, null)?;
                slot.push(tx, &VersionRow::Object(old))?;
            }
            None => self.remove_older_null(tx, slot, null && versioning != Versioning::Off)?,
        }
        if versioning == Versioning::Off {
            return Ok(VersionTag::UNVERSIONED);
        }
        Ok(VersionTag { sequence: newest.map_or(1, |newest| newest.saturating_add(1)), nonce, null })
    }

    /// Removes the `null` version from `objects.versions`, when `wanted`: a new one takes its place.
    fn remove_older_null(
        &self,
        tx: &mut dyn WriteTx,
        slot: &mut Changing<'_>,
        wanted: bool,
    ) -> Result<(), ObjectError> {
        if !wanted {
            return Ok(());
        }
        match slot.find(tx, VersionId::Null)? {
            Some((Place::Older(_), found)) => self.drop_older(tx, slot, found),
            _ => Ok(()),
        }
    }

    fn drop_older(
        &self,
        tx: &mut dyn WriteTx,
        slot: &mut Changing<'_>,
        version: VersionRow,
    ) -> Result<(), ObjectError> {
        slot.pull(tx, &version)?;
        match version {
            VersionRow::Object(object) => self.discard_content(tx, object.content),
            VersionRow::Marker { .. } => Ok(()),
        }
    }

    fn discard_content(&self, tx: &mut dyn WriteTx, content: Content) -> Result<(), ObjectError> {
        let garbage = let_go(tx, content)?;
        self.discard(tx, garbage.as_slice())
    }

    /// Deletes `target`, if it is what `condition` asks for: the version named for good, else the newest, which where
    /// versions are kept means to put a delete marker (with `nonce`, of the time `now`) on top. Also tells whether
    /// anything changed.
    pub(super) fn remove(
        &self,
        tx: &mut dyn WriteTx,
        bucket: &BucketRow,
        target: &Target,
        condition: Condition,
        nonce: u64,
        now: Timestamp,
    ) -> Result<(Deleted, bool), ObjectError> {
        let mut slot = Changing::begin(tx, bucket.id, &target.key)?;
        let done = self.remove_from(tx, &mut slot, bucket.versioning, target.version, condition, nonce, now)?;
        slot.end(tx)?;
        Ok(done)
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked for, of which key, and what a new marker would be")]
    fn remove_from(
        &self,
        tx: &mut dyn WriteTx,
        slot: &mut Changing<'_>,
        versioning: Versioning,
        version: Option<VersionId>,
        condition: Condition,
        nonce: u64,
        now: Timestamp,
    ) -> Result<(Deleted, bool), ObjectError> {
        let Some(id) = version else {
            let current = slot.current(tx)?;
            check(condition, current.as_ref())?;
            let was_there = current.is_some();
            let version = self.make_way(tx, versioning, slot, current, nonce)?;
            if versioning == Versioning::Off {
                return Ok((Deleted::default(), was_there));
            }
            slot.push(tx, &VersionRow::Marker { modified: now.millis(), version })?;
            return Ok((Deleted { version: Some(version.id()), marker: true }, true));
        };
        let found = slot.find(tx, id)?;
        let object = match &found {
            Some((_, VersionRow::Object(object))) => Some(object),
            _ => None,
        };
        check(condition, object)?;
        let marker = matches!(found, Some((_, VersionRow::Marker { .. })));
        let changed = found.is_some();
        match found {
            Some((Place::Current, VersionRow::Object(object))) => {
                slot.delete_current(tx, &object)?;
                self.discard_content(tx, object.content)?;
            }
            Some((_, version)) => self.drop_older(tx, slot, version)?,
            None => {}
        }
        if changed {
            slot.promote(tx)?;
        }
        Ok((Deleted { version: Some(id), marker }, changed))
    }

    /// Gives an object, or one version of it, other tags; returns once they would survive power loss. Everything else
    /// stays as it is, its time too.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`], [`ObjectError::NoSuchKey`], [`ObjectError::NoSuchVersion`],
    /// [`ObjectError::DeleteMarker`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the object has the old tags or the new ones.
    pub async fn set_tags(
        &self,
        bucket: &BucketName,
        target: &Target,
        tags: Vec<(String, String)>,
    ) -> Result<ObjectInfo, ObjectError> {
        let bucket = self.open_bucket(bucket).await?;
        let (open, target) = (bucket.clone(), target.clone());
        let changed = self.0.store.write(move |tx| {
            open.check(tx)?;
            let mut object = look_up(tx, &open, &target.key, target.version)?;
            object.metadata.tags.clone_from(&tags);
            let slot = Slot::new(open.id, &target.key);
            match slot.find(tx, object.version.id())? {
                Some((Place::Older(sequence), _)) => {
                    let at = version_key(slot.bucket, slot.key, sequence);
                    tx.put(VERSIONS, &at, &record::encode(&VersionRow::Object(object.clone())))?;
                }
                _ => tx.put(CURRENT, &slot.at, &record::encode(&object))?,
            }
            Ok(object.info())
        });
        let changed = changed.await;
        self.forget_if_gone(&bucket, changed)
    }
}
