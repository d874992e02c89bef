//! What a scrub has found damaged: a list that is durable, and bounded.
//!
//! A row of `objects.damage` lies under the id of the content, of the upload, or of the bucket whose key is damaged. That
//! id stays with the bytes when a newer version takes an object's place, so the row is found by whoever lets go of the
//! bytes and leaves in the same transaction. It also leaves at the end of a pass that did not find the damage again.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::check::{Damaged, Named};
use super::error::ObjectError;
use super::index::{DAMAGE, decode, row};
use super::service::{Objects, blocking};
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, Record, WriteTx, record};

/// Most rows of the list; what is found beyond is counted, and logged as everything else.
pub const DAMAGE_MAX: usize = if cfg!(test) { 5 } else { 1000 };

/// Something on the list. Part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DamageRow {
    bucket: String,
    key: Option<String>,
    version: Option<String>,
    upload_part: Option<u16>,
    what: String,
    /// When it was first found; milliseconds since the Unix epoch.
    found: u64,
    /// The number of the pass that found it last.
    pass: u64,
}

impl Record for DamageRow {
    const VERSION: u8 = 1;
}

/// Something that is damaged, and since when that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// What, and how.
    #[serde(flatten)]
    pub damaged: Damaged,
    /// When it was first found.
    pub found_at: Timestamp,
}

impl From<DamageRow> for Damage {
    fn from(row: DamageRow) -> Self {
        let DamageRow { bucket, key, version, upload_part, what, found, pass: _ } = row;
        Self { damaged: Damaged { bucket, key, version, upload_part, what }, found_at: Timestamp(found) }
    }
}

fn rows(tx: &dyn ReadTx) -> Result<Vec<(Vec<u8>, DamageRow)>, ObjectError> {
    let rows = tx.scan(DAMAGE, Bound::Unbounded, Bound::Unbounded, Direction::Forward, DAMAGE_MAX)?;
    rows.into_iter().map(|(at, value)| Ok((at, decode(DAMAGE, &value)?))).collect()
}

/// Puts what `pass` has found on the list, as far as its rows are still what they were; tells how much found no place.
pub(super) fn note(
    tx: &mut dyn WriteTx,
    found: &[(Named, Damaged)],
    pass: u64,
    now: Timestamp,
) -> Result<u64, ObjectError> {
    if found.is_empty() {
        return Ok(0);
    }
    let mut places = DAMAGE_MAX.saturating_sub(rows(tx)?.len());
    let mut left_out = 0;
    for (named, damaged) in found {
        if tx.get(named.table, &named.key)?.as_deref() != Some(named.value.as_slice()) {
            // Replaced or deleted meanwhile.
            continue;
        }
        let before: Option<DamageRow> = row(tx, DAMAGE, named.id.as_bytes())?;
        if before.is_none() {
            if places == 0 {
                left_out += 1;
                continue;
            }
            places -= 1;
        }
        let Damaged { bucket, key, version, upload_part, what } = damaged.clone();
        let found = before.map_or(now.millis(), |row| row.found);
        let row = DamageRow { bucket, key, version, upload_part, what, found, pass };
        tx.put(DAMAGE, named.id.as_bytes(), &record::encode(&row))?;
    }
    Ok(left_out)
}

/// Takes off the list what `pass`, which has looked at everything, did not find again.
pub(super) fn forget_all_but(tx: &mut dyn WriteTx, pass: u64) -> Result<(), ObjectError> {
    for (at, row) in rows(tx)? {
        if row.pass != pass {
            tx.delete(DAMAGE, &at)?;
        }
    }
    Ok(())
}

/// Takes off the list what is let go of.
pub(super) fn forget(tx: &mut dyn WriteTx, id: Id128) -> Result<(), ObjectError> {
    tx.delete(DAMAGE, id.as_bytes())?;
    Ok(())
}

/// Takes an upload off the list whose damaged part, `number`, is let go of.
pub(super) fn forget_part(tx: &mut dyn WriteTx, upload: Id128, number: u16) -> Result<(), ObjectError> {
    match row::<DamageRow>(tx, DAMAGE, upload.as_bytes())? {
        Some(row) if row.upload_part == Some(number) => forget(tx, upload),
        _ => Ok(()),
    }
}

/// Everything on the list, by bucket and key; at most [`DAMAGE_MAX`].
pub(super) fn listed(tx: &dyn ReadTx) -> Result<Vec<Damage>, ObjectError> {
    let mut all: Vec<Damage> = rows(tx)?.into_iter().map(|(_, row)| row.into()).collect();
    all.sort_by(|a, b| (&a.damaged.bucket, &a.damaged.key).cmp(&(&b.damaged.bucket, &b.damaged.key)));
    Ok(all)
}

impl Objects {
    /// Whether nothing is on the list. Cancel safe.
    ///
    /// # Errors
    /// [`ObjectError::Damaged`]; the index cannot be read.
    pub async fn is_undamaged(&self) -> Result<(), ObjectError> {
        let this = self.clone();
        match blocking(move || this.count_damage()).await? {
            0 => Ok(()),
            count => Err(ObjectError::Damaged { count }),
        }
    }

    /// How much is on the list, for the metrics too. Blocks.
    pub(super) fn count_damage(&self) -> Result<usize, ObjectError> {
        let count = self.0.store.read_blocking(|tx| Ok::<_, ObjectError>(rows(tx)?.len()))?;
        self.0.metrics.damaged.set(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(count)
    }
}
