//! How much a bucket holds, and its quota: the most it may hold.
//!
//! Every bucket has a row in `objects.usage`: bytes of plaintext and number of all its objects, older versions too. Every
//! transaction that puts or removes a row of an object changes it along ([`Tally`]), so that it is exact at every commit,
//! however many write at once, and an upload that would go beyond the quota is refused by the commit itself.
//!
//! A bucket without that row (made by an older release, or restored) gets one, and what it holds is counted behind the
//! scenes, a page of rows in a transaction ([`Objects::count_usage`]). The row says how far that is
//! ([`UsageRow::counted`]); a row of an object beyond that place is not counted along, since the count comes there yet. Until
//! it is through, the bucket seems to hold less than it does.
//!
//! Parts of uploads in progress count when the upload is completed.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, CURRENT, ObjectRow, USAGE, VERSIONS, VersionRow, decode, row};
use super::service::Objects;
use super::settings::settings_row;
use crate::base::Id128;
use crate::store::{Direction, ReadTx, Record, Table, WriteTx, after_prefix, record};

/// Rows counted in one transaction; few in tests, so that every count crosses pages.
const PAGE: usize = if cfg!(test) { 3 } else { 500 };

/// The most a bucket may hold; `None` for no limit. Part of the stored format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Bytes of plaintext, of all versions.
    pub max_bytes: Option<u64>,
    /// Objects, each version one.
    pub max_objects: Option<u64>,
}

impl Quota {
    /// Whether there is no limit at all.
    pub const fn is_none(&self) -> bool {
        self.max_bytes.is_none() && self.max_objects.is_none()
    }
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of plaintext, of all versions.
    pub bytes: u64,
    /// Objects, each version one.
    pub objects: u64,
    /// Whether what an older release or a restore left is still being counted, so that there is more.
    pub counting: bool,
}

/// How far a count is. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Counted {
    /// The rows of `objects.current` up to and with this one; none when it is empty.
    Current(Vec<u8>),
    /// All of those, and the rows of `objects.versions` up to and with this one.
    Versions(Vec<u8>),
    /// Everything.
    All,
}

/// A row of `objects.usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UsageRow {
    bytes: u64,
    objects: u64,
    counted: Counted,
}

impl Record for UsageRow {
    const VERSION: u8 = 1;
}

impl UsageRow {
    /// Of a bucket that is new, and empty.
    pub const fn empty() -> Self {
        Self { bytes: 0, objects: 0, counted: Counted::All }
    }

    /// Of a bucket of which nothing was counted yet.
    const fn uncounted() -> Self {
        Self { bytes: 0, objects: 0, counted: Counted::Current(Vec::new()) }
    }

    fn holds(&self, table: Table, at: &[u8]) -> bool {
        match &self.counted {
            Counted::Current(last) => table == CURRENT && at <= last.as_slice(),
            Counted::Versions(last) => table == CURRENT || at <= last.as_slice(),
            Counted::All => true,
        }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.objects = self.objects.saturating_add(1);
    }

    fn exceeds(&self, before: &Self, quota: Quota) -> Option<ObjectError> {
        let beyond = |now: u64, was: u64, most: Option<u64>| most.filter(|most| now > *most && now > was);
        if let Some(limit) = beyond(self.bytes, before.bytes, quota.max_bytes) {
            return Some(ObjectError::QuotaExceeded { what: "bytes", limit });
        }
        let limit = beyond(self.objects, before.objects, quota.max_objects)?;
        Some(ObjectError::QuotaExceeded { what: "objects", limit })
    }
}

/// What happens to the row of an object of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Comes(u64),
    Goes(u64),
}

/// What a bucket holds, in hand while rows of its objects change: read before the first, written after the last.
#[must_use]
pub(super) struct Tally {
    bucket: Id128,
    /// What it held before, and what it holds now; `None` when that is not known.
    usage: Option<(UsageRow, UsageRow)>,
}

impl Tally {
    /// To be taken before the first row is changed.
    pub fn take(tx: &dyn ReadTx, bucket: Id128) -> Result<Self, ObjectError> {
        let before = row::<UsageRow>(tx, USAGE, bucket.as_bytes())?;
        Ok(Self { bucket, usage: before.map(|before| (before.clone(), before)) })
    }

    /// Keeps count of a row of an object that comes (with so many bytes) to `at` in `table`, or goes.
    pub fn moved(&mut self, (table, at): (Table, &[u8]), step: Step) {
        let Some((_, usage)) = self.usage.as_mut().filter(|(_, usage)| usage.holds(table, at)) else { return };
        match step {
            Step::Comes(bytes) => usage.add(bytes),
            Step::Goes(bytes) => {
                usage.bytes = usage.bytes.saturating_sub(bytes);
                usage.objects = usage.objects.saturating_sub(1);
            }
        }
    }

    /// An error when the bucket grew, and beyond its quota. The transaction must end with it.
    pub fn check(&self, tx: &dyn ReadTx) -> Result<(), ObjectError> {
        let Some((before, now)) = &self.usage else { return Ok(()) };
        now.exceeds(before, settings_row(tx, self.bucket)?.quota).map_or(Ok(()), Err)
    }

    /// To be written after the last row is changed.
    pub fn put(self, tx: &mut dyn WriteTx) -> Result<(), ObjectError> {
        match self.usage {
            Some((before, now)) if before != now => Ok(tx.put(USAGE, self.bucket.as_bytes(), &record::encode(&now))?),
            _ => Ok(()),
        }
    }
}

/// What the bucket with the id `bucket` holds.
pub(super) fn usage_row(tx: &dyn ReadTx, bucket: Id128) -> Result<Usage, ObjectError> {
    let found = row::<UsageRow>(tx, USAGE, bucket.as_bytes())?.unwrap_or(UsageRow::uncounted());
    let UsageRow { bytes, objects, counted } = found;
    Ok(Usage { bytes, objects, counting: counted != Counted::All })
}

/// Bytes of all objects, as far as they are counted.
pub(super) fn bytes_of_all(tx: &dyn ReadTx) -> Result<u64, ObjectError> {
    let rows = tx.scan(USAGE, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    rows.iter().try_fold(0_u64, |sum, (_, value)| Ok(sum.saturating_add(decode::<UsageRow>(USAGE, value)?.bytes)))
}

impl Objects {
    /// Counts what buckets hold, where that is not known yet. Blocks; called twice at once, both do some of it.
    ///
    /// # Errors
    /// The store. What is counted stays counted, and another call goes on from there.
    pub(super) fn count_usage(&self) -> Result<(), ObjectError> {
        let scan =
            |tx: &dyn ReadTx| tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX);
        for (name, _) in self.0.store.read_blocking(scan).map_err(ObjectError::Store)? {
            while self.count_usage_page(&name)? {}
        }
        Ok(())
    }

    /// Counts one page of a bucket; whether there is more.
    pub(super) fn count_usage_page(&self, name: &[u8]) -> Result<bool, ObjectError> {
        let look = |tx: &dyn ReadTx| is_counted(tx, name);
        if self.0.store.read_blocking(look)? {
            return Ok(false);
        }
        let name = name.to_vec();
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| count_page(tx, &name))
    }
}

fn is_counted(tx: &dyn ReadTx, name: &[u8]) -> Result<bool, ObjectError> {
    let Some(bucket) = row::<BucketRow>(tx, BUCKETS, name)? else { return Ok(true) };
    Ok(row::<UsageRow>(tx, USAGE, bucket.id.as_bytes())?.is_some_and(|usage| usage.counted == Counted::All))
}

/// Counts the next page of rows of a bucket; whether there is more.
fn count_page(tx: &mut dyn WriteTx, name: &[u8]) -> Result<bool, ObjectError> {
    let Some(bucket) = row::<BucketRow>(tx, BUCKETS, name)? else { return Ok(false) };
    let id = bucket.id.as_bytes().as_slice();
    let mut usage = row::<UsageRow>(tx, USAGE, id)?.unwrap_or(UsageRow::uncounted());
    let (table, last) = match &usage.counted {
        Counted::Current(last) => (CURRENT, last.clone()),
        Counted::Versions(last) => (VERSIONS, last.clone()),
        Counted::All => return Ok(false),
    };
    let from = if last.is_empty() { Bound::Included(id) } else { Bound::Excluded(last.as_slice()) };
    let end = after_prefix(id);
    let rows = tx.scan(table, from, end.as_ref().map(Vec::as_slice), Direction::Forward, PAGE)?;
    for (_, value) in &rows {
        if table == CURRENT {
            usage.add(decode::<ObjectRow>(table, value)?.size);
        } else if let VersionRow::Object(object) = decode(table, value)? {
            usage.add(object.size);
        }
    }
    let last = rows.last().filter(|_| rows.len() == PAGE).map(|(at, _)| at.clone());
    usage.counted = match (table == CURRENT, last) {
        (true, Some(last)) => Counted::Current(last),
        (true, None) => Counted::Versions(Vec::new()),
        (false, Some(last)) => Counted::Versions(last),
        (false, None) => Counted::All,
    };
    tx.put(USAGE, id, &record::encode(&usage))?;
    Ok(usage.counted != Counted::All)
}
