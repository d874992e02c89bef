//! A site's day in the store: table `analytics.days` of `state.redb`, sealed as every row.
//!
//! ```text
//! key     4 bytes   the day, whole days since 1970-01-01 in UTC, big-endian
//!         16 bytes  the first of BLAKE3 of the site's name
//! value   1 byte    version, 1
//!         rest      a [`Row`] in postcard's wire format
//! ```
//!
//! A row holds the whole day so far and is written anew each time, with all others that changed in one transaction: a crash
//! leaves each as it was at one writing or the next.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::tally::List;
use super::vitals::Vitals;
use crate::store::record::{self, Record};
use crate::store::{Direction, ReadTx, Store, StoreError, Table, WriteTx};

/// The table.
pub const DAYS: Table = Table::new("analytics.days");
/// Rows removed in one transaction.
const BATCH: usize = 500;

/// A site's day. Version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The site's name.
    pub site: String,
    /// Pages shown.
    pub views: u64,
    /// Of them, those that no page of the site itself led to.
    pub visits: u64,
    /// Different visitors, estimated.
    pub visitors: u64,
    /// Pages shown, by page.
    pub pages: List,
    /// Visits by the host that led there; the empty name is those without one.
    pub referrers: List,
    /// Visits by source of a campaign, where one was named.
    pub sources: List,
    /// Visits by campaign, where one was named.
    pub campaigns: List,
    /// Pages asked for that are not there.
    pub missing: List,
    /// Pages shown, by browser.
    pub browsers: List,
    /// Pages shown, by system.
    pub systems: List,
    /// Pages shown, by kind of device.
    pub devices: List,
    /// What browsers measured.
    pub vitals: Vitals,
    /// The same by page, of the pages measured most.
    pub by_page: Vec<(String, Vitals)>,
}

impl Record for Row {
    const VERSION: u8 = 1;
}

/// Where a row is.
pub type Key = [u8; 20];

/// The key of `site`'s `day`.
pub fn key(day: Day, site: &str) -> Key {
    let mut key = [0; 20];
    let hash = blake3::hash(site.as_bytes());
    let bytes = day.0.to_be_bytes().into_iter().chain(hash.as_bytes().iter().copied());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

/// The row in `value`; one that cannot be read is told in the log and counts as none.
fn read(value: &[u8]) -> Option<Row> {
    record::decode(value).map_err(|error| tracing::error!(%error, "a day's counts cannot be read")).ok()
}

/// The rows of `site` on `days`, in their order.
///
/// # Errors
/// [`StoreError`].
///
/// # Cancel safety
/// Without effects.
pub async fn rows(store: &Store, site: &str, days: &[Day]) -> Result<Vec<Option<Row>>, StoreError> {
    let keys: Vec<Key> = days.iter().map(|day| key(*day, site)).collect();
    store
        .read(move |tx: &dyn ReadTx| {
            let keys: Vec<&[u8]> = keys.iter().map(<[u8; 20]>::as_slice).collect();
            let values = tx.get_many(DAYS, &keys)?;
            Ok(values.into_iter().map(|value| value.as_deref().and_then(read)).collect())
        })
        .await
}

/// Writes `rows` in one transaction.
///
/// # Errors
/// [`StoreError`]: all are as they were.
///
/// # Cancel safety
/// Dropped before its end, all are written or none.
pub async fn write(store: &Store, rows: Vec<(Key, Row)>) -> Result<(), StoreError> {
    let rows: Vec<(Key, Vec<u8>)> = rows.into_iter().map(|(key, row)| (key, record::encode(&row))).collect();
    store.write(move |tx: &mut dyn WriteTx| rows.iter().try_for_each(|(key, value)| tx.put(DAYS, key, value))).await
}

/// Removes the rows of all days before `first`. Returns how many those were.
///
/// # Errors
/// [`StoreError`]: some may be gone.
///
/// # Cancel safety
/// Dropped before its end, some are gone.
pub async fn remove_before(store: &Store, first: Day) -> Result<usize, StoreError> {
    let end = first.0.to_be_bytes();
    let mut removed = 0;
    loop {
        let gone = store
            .write(move |tx: &mut dyn WriteTx| {
                let to = Bound::Excluded(end.as_slice());
                let page = tx.scan(DAYS, Bound::Unbounded, to, Direction::Forward, BATCH)?;
                for (key, _) in &page {
                    tx.delete(DAYS, key)?;
                }
                Ok::<_, StoreError>(page.len())
            })
            .await?;
        removed += gone;
        if gone < BATCH {
            return Ok(removed);
        }
    }
}
