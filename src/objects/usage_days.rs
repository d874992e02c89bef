//! What buckets held on each day, for whoever wants to see them grow.
//!
//! A row of `objects.usage_days` lies under a bucket's id and a day (days since the Unix epoch, UTC, 4 bytes big endian), and
//! under an id of zeros for all buckets together. It says what was there when it was looked at last on that day, which is once
//! an hour. Rows leave after [`KEPT`] days, and with their bucket.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, USAGE_DAYS, decode, row};
use super::names::BucketName;
use super::service::Objects;
use super::usage::usage_row;
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, Record, WriteTx, after_prefix, record};

/// The kind of the job that looks. Part of the stored format.
pub(super) const KIND: &str = "objects.usage_days";

/// Days that are kept.
const KEPT: u32 = 400;

/// Old rows of a bucket removed in one go.
const PAGE: usize = 100;

/// All buckets together.
const ALL: Id128 = Id128::from_bytes([0; 16]);

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What was held at the end of a day, or is by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Bytes of plaintext, of all versions.
    pub bytes: u64,
    /// Objects, each version one.
    pub objects: u64,
}

impl Record for Held {
    const VERSION: u8 = 1;
}

fn day(at: Timestamp) -> u32 {
    u32::try_from(at.millis() / DAY_MS).unwrap_or(u32::MAX)
}

fn place(id: Id128, day: u32) -> Vec<u8> {
    [id.as_bytes().as_slice(), &day.to_be_bytes()].concat()
}

/// What every bucket holds, by id; all of them together come last.
fn held(tx: &dyn ReadTx) -> Result<Vec<(Id128, Held)>, ObjectError> {
    let rows = tx.scan(BUCKETS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)?;
    let (mut out, mut all) = (Vec::with_capacity(rows.len()), Held::default());
    for (_, value) in rows {
        let bucket: BucketRow = decode(BUCKETS, &value)?;
        let usage = usage_row(tx, bucket.id)?;
        all.bytes = all.bytes.saturating_add(usage.bytes);
        all.objects = all.objects.saturating_add(usage.objects);
        out.push((bucket.id, Held { bytes: usage.bytes, objects: usage.objects }));
    }
    out.push((ALL, all));
    Ok(out)
}

/// What is to be written.
#[derive(Default)]
struct Due {
    /// Rows of today that are not as they should be.
    changed: Vec<(Vec<u8>, Held)>,
    /// Keys of rows that are too old.
    old: Vec<Vec<u8>>,
}

/// What is to be written on `today`.
fn due(tx: &dyn ReadTx, today: u32) -> Result<Due, ObjectError> {
    let Due { mut changed, mut old } = Due::default();
    for (id, now) in held(tx)? {
        let at = place(id, today);
        if row::<Held>(tx, USAGE_DAYS, &at)? != Some(now) {
            changed.push((at, now));
        }
        let (from, to) = (place(id, 0), place(id, today.saturating_sub(KEPT)));
        let rows = tx.scan(USAGE_DAYS, Bound::Included(&from), Bound::Excluded(&to), Direction::Forward, PAGE)?;
        old.extend(rows.into_iter().map(|(key, _)| key));
    }
    Ok(Due { changed, old })
}

/// Removes what is kept of the bucket `id`, which goes.
pub(super) fn forget(tx: &mut dyn WriteTx, id: Id128) -> Result<(), ObjectError> {
    let all = id.as_bytes().as_slice();
    let end = after_prefix(all);
    let to = end.as_ref().map(Vec::as_slice);
    for (key, _) in tx.scan(USAGE_DAYS, Bound::Included(all), to, Direction::Forward, KEPT as usize + PAGE)? {
        tx.delete(USAGE_DAYS, &key)?;
    }
    Ok(())
}

impl Objects {
    /// Notes what every bucket holds today. Blocks; writes only where something has changed.
    pub(super) fn note_usage(&self) -> Result<(), ObjectError> {
        let today = day(self.0.clock.now());
        let Due { changed, old } = self.0.store.read_blocking(|tx| due(tx, today))?;
        if changed.is_empty() && old.is_empty() {
            return Ok(());
        }
        self.0.store.write_blocking(move |tx: &mut dyn WriteTx| {
            // Once more: a bucket may have gone meanwhile, and its rows with it.
            let Due { changed, old } = due(tx, today)?;
            for (at, now) in changed {
                tx.put(USAGE_DAYS, &at, &record::encode(&now))?;
            }
            for at in old {
                tx.delete(USAGE_DAYS, &at)?;
            }
            Ok(())
        })
    }

    /// What `bucket`, or all buckets together, held at the end of each of the last `days` days and holds now, the oldest
    /// first; `None` for a day on which nobody looked. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::NoSuchBucket`]; the index cannot be read.
    pub async fn usage_days(&self, bucket: Option<&BucketName>, days: u32) -> Result<Vec<Option<Held>>, ObjectError> {
        let (bucket, today) = (bucket.cloned(), day(self.0.clock.now()));
        let days = days.clamp(1, KEPT);
        let read = self.0.store.read(move |tx| {
            let id = match &bucket {
                Some(name) => {
                    let known: Option<BucketRow> = row(tx, BUCKETS, name.as_str().as_bytes())?;
                    known.ok_or(ObjectError::NoSuchBucket)?.id
                }
                None => ALL,
            };
            let mut out = vec![None; days as usize];
            let first = today.saturating_sub(days - 1);
            let (from, to) = (place(id, first), place(id, today));
            let rows =
                tx.scan(USAGE_DAYS, Bound::Included(&from), Bound::Included(&to), Direction::Forward, days as usize)?;
            for (key, value) in rows {
                let day = key.last_chunk::<4>().map_or(0, |day| u32::from_be_bytes(*day));
                if let Some(slot) = out.get_mut(day.saturating_sub(first) as usize) {
                    *slot = Some(decode::<Held>(USAGE_DAYS, &value)?);
                }
            }
            let now = held(tx)?.into_iter().find(|(other, _)| *other == id).map(|(_, held)| held);
            if let (Some(last), Some(now)) = (out.last_mut(), now) {
                *last = Some(now);
            }
            Ok::<_, ObjectError>(out)
        });
        read.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_first_release_that_has_it_is_read() {
        let held = Held { bytes: 300, objects: 2 };
        assert_eq!(record::encode(&held), [1, 0xac, 2, 2]);
        assert_eq!(record::decode(&[1, 0xac, 2, 2]), Ok(held));
        assert_eq!(place(Id128::from_bytes([7; 16]), 0x0102)[16..], [0, 0, 1, 2]);
        assert_eq!(day(Timestamp(DAY_MS * 3 - 1)), 2);
    }
}
