//! Carrying out lifecycles: a walk through all buckets that have one, a page at a time, each change in a transaction
//! that looks again.
//!
//! A page whose every row stays commits nothing. What ends in one page is one commit, and pages are not put together: 500
//! removals share the commit's sync already, and more of them would have everybody else's writes wait behind them.
//!
//! The walk is a chain of jobs. Each does a bounded number of pages and puts in the next with where it stands
//! ([`Cursor`]), so that a restart goes on from there, and nothing else waits for it. Doing a page twice does no more
//! than doing it once.

use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::garbage::Garbage;
use super::index::{
    BUCKETS, BucketRow, CURRENT, ObjectRow, UPLOADS, UploadRow, VERSIONS, VersionRow, decode, malformed_key,
    parse_upload_key, parse_version_key, row, versions_of,
};
use super::lifecycle::{KEEP_MAX, LifecycleRule, first_end};
use super::names::{ObjectKey, VersionId};
use super::service::Objects;
use super::settings::settings_row;
use super::types::{Condition, Target};
use super::versions::{Slot, nonce};
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, Record, Row, Table, WriteTx, after_prefix, record};

/// The kind of the job. Part of the stored format.
pub(super) const KIND: &str = "objects.lifecycle";

/// Rows looked at in one step; few in tests, so that every one of them crosses pages and jobs.
const PAGE: usize = if cfg!(test) { 3 } else { 500 };

/// Pages of one job.
const PAGES: usize = if cfg!(test) { 2 } else { 40 };

/// Between one job and the next, so that a walk through millions of keys leaves room for others.
const PAUSE: Duration = Duration::from_secs(1);

/// What of a bucket is being looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// What is current.
    Current,
    /// Older versions, and delete markers.
    Older,
    /// Uploads.
    Uploads,
    /// Nothing more; the next bucket comes.
    #[default]
    Done,
}

/// How far a walk is. Part of the stored format: the payload of its next job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    bucket: String,
    stage: Stage,
    /// The row looked at last.
    after: Vec<u8>,
}

impl Record for Cursor {
    const VERSION: u8 = 1;
}

impl Cursor {
    fn enter(&mut self, stage: Stage) {
        *self = Self { bucket: std::mem::take(&mut self.bucket), stage, after: Vec::new() };
    }
}

/// A bucket with a lifecycle.
#[derive(Clone)]
struct Place {
    name: Vec<u8>,
    id: Id128,
    rules: Vec<LifecycleRule>,
}

impl Place {
    fn named(tx: &dyn ReadTx, name: &[u8], bucket: &BucketRow) -> Result<Option<Self>, ObjectError> {
        let rules = settings_row(tx, bucket.id)?.lifecycle;
        Ok(rules.iter().any(|rule| rule.enabled).then(|| Self { name: name.to_vec(), id: bucket.id, rules }))
    }

    /// The bucket's row, while bucket and rules are the same.
    fn still(&self, tx: &dyn ReadTx) -> Result<Option<BucketRow>, ObjectError> {
        let bucket: Option<BucketRow> = row(tx, BUCKETS, &self.name)?;
        let Some(bucket) = bucket.filter(|bucket| bucket.id == self.id) else { return Ok(None) };
        Ok((settings_row(tx, self.id)?.lifecycle == self.rules).then_some(bucket))
    }

    fn scan(&self, tx: &dyn ReadTx, table: Table, after: &[u8]) -> Result<Vec<Row>, ObjectError> {
        let first = self.id.as_bytes().as_slice();
        let from = if after.is_empty() { Bound::Included(first) } else { Bound::Excluded(after) };
        let end = after_prefix(first);
        Ok(tx.scan(table, from, end.as_ref().map(Vec::as_slice), Direction::Forward, PAGE)?)
    }
}

impl Objects {
    /// Does the work of one job, whose payload says where its walk stands; puts in the next. Blocks.
    pub(super) fn expire_on(&self, payload: &[u8]) -> Result<(), ObjectError> {
        // An older walk whose place is not understood begins anew.
        let cursor = record::decode(payload).unwrap_or_default();
        let Some(next) = self.expire(cursor)? else { return Ok(()) };
        let (this, at) = (self.clone(), self.0.clock.now().after(PAUSE));
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            this.0.jobs.enqueue(tx, KIND, &record::encode(&next), at, Some("walk"))?;
            Ok::<_, ObjectError>(())
        })
    }

    /// Ends what has ended, from `cursor` on, for some pages; `None` when the walk is through. Blocks.
    fn expire(&self, mut cursor: Cursor) -> Result<Option<Cursor>, ObjectError> {
        for _ in 0..PAGES {
            let Some(place) = self.place(&mut cursor)? else { return Ok(None) };
            match cursor.stage {
                Stage::Current => self.expire_current(&place, &mut cursor)?,
                Stage::Older => self.expire_older(&place, &mut cursor)?,
                Stage::Uploads | Stage::Done => self.expire_begun(&place, &mut cursor)?,
            }
        }
        Ok(Some(cursor))
    }

    /// The bucket that `cursor` is in, else the next one with a lifecycle.
    fn place(&self, cursor: &mut Cursor) -> Result<Option<Place>, ObjectError> {
        let at = cursor.clone();
        let found = self.0.store.read_blocking(move |tx| {
            let name = at.bucket.as_bytes();
            if at.stage != Stage::Done
                && let Some(bucket) = row::<BucketRow>(tx, BUCKETS, name)?
                && let Some(place) = Place::named(tx, name, &bucket)?
            {
                return Ok::<_, ObjectError>(Some((place, false)));
            }
            let mut last = name.to_vec();
            loop {
                let rows = tx.scan(BUCKETS, Bound::Excluded(&last), Bound::Unbounded, Direction::Forward, PAGE)?;
                for (name, value) in &rows {
                    if let Some(place) = Place::named(tx, name, &decode(BUCKETS, value)?)? {
                        return Ok(Some((place, true)));
                    }
                }
                match rows.into_iter().last() {
                    Some((name, _)) => last = name,
                    None => return Ok(None),
                }
            }
        })?;
        let Some((place, next)) = found else { return Ok(None) };
        if next {
            cursor.bucket = String::from_utf8_lossy(&place.name).into_owned();
            cursor.enter(Stage::Current);
        }
        Ok(Some(place))
    }

    fn expire_current(&self, place: &Place, cursor: &mut Cursor) -> Result<(), ObjectError> {
        let (look, after, now) = (place.clone(), cursor.after.clone(), self.0.clock.now());
        let ended = move |rules: &[LifecycleRule], key: &str, object: &ObjectRow| {
            let (modified, tags) = (Timestamp(object.modified), &object.metadata.tags);
            first_end(rules, key, modified, object.size, tags).is_some_and(|(at, _)| at <= now)
        };
        let (due, last) = self.0.store.read_blocking(move |tx| {
            let rows = look.scan(tx, CURRENT, &after)?;
            let mut due: Vec<ObjectKey> = Vec::new();
            for (at, value) in &rows {
                let key = at.get(16..).and_then(|key| std::str::from_utf8(key).ok());
                let key = key.ok_or_else(|| malformed_key(CURRENT))?;
                if ended(&look.rules, key, &decode(CURRENT, value)?) {
                    due.push(key.parse().map_err(|_no_key| malformed_key(CURRENT))?);
                }
            }
            Ok::<_, ObjectError>((due, (rows.len() == PAGE).then(|| rows.last().map(|(at, _)| at.clone())).flatten()))
        })?;
        if !due.is_empty() {
            let (this, place) = (self.clone(), place.clone());
            let nonce = nonce(Id128::random(self.0.random.as_ref()));
            let count = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                let Some(bucket) = place.still(tx)? else { return Ok(0) };
                let mut count = 0;
                for key in &due {
                    let current = Slot::new(place.id, key).current(tx)?;
                    if current.is_some_and(|current| ended(&place.rules, key.as_str(), &current)) {
                        let target = Target { key: key.clone(), version: None };
                        this.remove(tx, &bucket, &target, Condition::Any, nonce, now)?;
                        count += 1;
                    }
                }
                Ok::<_, ObjectError>(count)
            })?;
            self.0.metrics.expired.add(count);
        }
        match last {
            Some(last) => cursor.after = last,
            None => cursor.enter(Stage::Older),
        }
        Ok(())
    }

    fn expire_older(&self, place: &Place, cursor: &mut Cursor) -> Result<(), ObjectError> {
        let (look, after, now) = (place.clone(), cursor.after.clone(), self.0.clock.now());
        let page = move |tx: &dyn ReadTx| look.older(tx, &after, now);
        let look = page.clone();
        let (due, last) = self.0.store.read_blocking(move |tx| look(tx))?;
        if !due.is_empty() {
            let (this, place) = (self.clone(), place.clone());
            let count = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
                let Some(bucket) = place.still(tx)? else { return Ok(0) };
                let mut count = 0;
                // Looked at anew, as a whole: how many newer ones there are is decided by rows that may have gone.
                for (key, id) in page(tx)?.0 {
                    let target = Target { key, version: Some(id) };
                    count += u64::from(this.remove(tx, &bucket, &target, Condition::Any, 0, now)?.1);
                }
                Ok::<_, ObjectError>(count)
            })?;
            self.0.metrics.expired.add(count);
        }
        match last {
            Some(last) => cursor.after = last,
            None => cursor.enter(Stage::Uploads),
        }
        Ok(())
    }

    fn expire_begun(&self, place: &Place, cursor: &mut Cursor) -> Result<(), ObjectError> {
        let (this, place, after, now) = (self.clone(), place.clone(), cursor.after.clone(), self.0.clock.now());
        let (count, last) = self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let rows = place.scan(tx, UPLOADS, &after)?;
            let last = rows.last().filter(|_| rows.len() == PAGE).map(|(at, _)| at.clone());
            if place.still(tx)?.is_none() {
                return Ok((0, last));
            }
            let mut count = 0;
            for (at, value) in rows {
                let (upload, (key, id)): (UploadRow, _) = (decode(UPLOADS, &value)?, parse_upload_key(&at)?);
                let initiated = Timestamp(upload.initiated);
                if place.rules.iter().any(|rule| rule.ends_upload(&key, initiated, now)) {
                    tx.delete(UPLOADS, &at)?;
                    this.discard(tx, &[Garbage::Upload(id)])?;
                    count += 1;
                }
            }
            Ok::<_, ObjectError>((count, last))
        })?;
        self.0.metrics.expired.add(count);
        match last {
            Some(last) => cursor.after = last,
            None => cursor.enter(Stage::Done),
        }
        Ok(())
    }
}

/// What a page of older versions came to: those that have ended, and the row to go on behind, unless it was the last.
type Older = (Vec<(ObjectKey, VersionId)>, Option<Vec<u8>>);

/// Where in the versions of a key a walk is.
struct At {
    key: ObjectKey,
    /// When the next newer version was made.
    replaced: Timestamp,
    /// How many older versions are newer than the one to come.
    newer: u32,
}

impl Place {
    /// A page of older versions behind the row `after`.
    fn older(&self, tx: &dyn ReadTx, after: &[u8], now: Timestamp) -> Result<Older, ObjectError> {
        let rows = self.scan(tx, VERSIONS, after)?;
        let last = rows.last().filter(|_| rows.len() == PAGE).map(|(at, _)| at.clone());
        let mut due = Vec::new();
        let mut at: Option<At> = None;
        for (row_key, value) in rows {
            let version: VersionRow = decode(VERSIONS, &value)?;
            let (name, _) = parse_version_key(&row_key)?;
            let key: ObjectKey = name.parse().map_err(|_no_key| malformed_key(VERSIONS))?;
            let (here, newest) = match at.take().filter(|at| at.key == key) {
                Some(at) => (at, false),
                None => self.enter(tx, key, &row_key)?,
            };
            let key = here.key.as_str();
            let ended = if newest {
                // The newest is a delete marker; it ends when nothing is left under it.
                self.is_alone(tx, key)?
                    && matches!(version, VersionRow::Marker { .. })
                    && self.rules.iter().any(|rule| rule.ends_marker(key, made(&version), now))
            } else {
                let object = match &version {
                    VersionRow::Object(object) => Some((object.size, object.metadata.tags.as_slice())),
                    VersionRow::Marker { .. } => None,
                };
                self.rules.iter().any(|rule| rule.ends_older(key, object, here.replaced, here.newer, now))
            };
            if ended {
                due.push((here.key.clone(), version.version().id()));
            }
            let newer = if newest { 0 } else { here.newer.saturating_add(1) };
            at = Some(At { key: here.key, replaced: made(&version), newer });
        }
        Ok((due, last))
    }

    /// What comes before the row `row_key` of `key`, and whether that row is the key's newest version.
    fn enter(&self, tx: &dyn ReadTx, key: ObjectKey, row_key: &[u8]) -> Result<(At, bool), ObjectError> {
        let current = Slot::new(self.id, &key).current(tx)?;
        let first = versions_of(self.id, key.as_str());
        let (from, to) = (Bound::Included(first.as_slice()), Bound::Excluded(row_key));
        // A rule keeps at most so many, so that more need not be counted.
        let before = tx.scan(VERSIONS, from, to, Direction::Backward, KEEP_MAX as usize + 1)?;
        let above: Option<VersionRow> = before.first().map(|(_, value)| decode(VERSIONS, value)).transpose()?;
        let newest = current.is_none() && above.is_none();
        let replaced = match (&above, &current) {
            (Some(above), _) => made(above),
            (None, Some(current)) => Timestamp(current.modified),
            (None, None) => Timestamp::default(),
        };
        let before = u32::try_from(before.len()).unwrap_or(u32::MAX);
        // Without a current object the first of these is the newest, and not an older one.
        let newer = if current.is_some() { before } else { before.saturating_sub(1) };
        Ok((At { key, replaced, newer }, newest))
    }

    /// Whether `key` has a single version, and that in `objects.versions`.
    fn is_alone(&self, tx: &dyn ReadTx, key: &str) -> Result<bool, ObjectError> {
        let first = versions_of(self.id, key);
        let end = after_prefix(&first);
        let to = end.as_ref().map(Vec::as_slice);
        Ok(tx.scan(VERSIONS, Bound::Included(&first), to, Direction::Forward, 2)?.len() == 1)
    }
}

fn made(version: &VersionRow) -> Timestamp {
    Timestamp(match version {
        VersionRow::Object(object) => object.modified,
        VersionRow::Marker { modified, .. } => *modified,
    })
}
