//! What backups remember in `state.redb`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `backup.heads` | target as it was written | JSON of [`Head`]: the newest snapshot seen there |
//! | `backup.outcomes` | `last`, `failed`, `proven` | JSON of [`RunReport`], [`FailedRun`], [`Drill`] |
//!
//! JSON, because these are for reading and get new fields; unknown ones are passed over. The heads are what notices a
//! repository that went back: they lie outside it. A restored server knows the head from before its own snapshot, which
//! is still in the chain.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Head;
use super::status::{Drill, FailedRun, RunReport};
use crate::store::{Store, StoreError, Table, WriteTx};

const HEADS: Table = Table::new("backup.heads");
const OUTCOMES: Table = Table::new("backup.outcomes");
const LAST: &[u8] = b"last";
const FAILED: &[u8] = b"failed";
const PROVEN: &[u8] = b"proven";

/// The rows. Everything here blocks.
#[derive(Debug)]
pub(super) struct Records(Store);

impl Records {
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// The newest snapshot seen at `target`.
    pub fn head(&self, target: &str) -> Result<Option<Head>, StoreError> {
        self.get(HEADS, target.as_bytes())
    }

    /// Remembers the newest snapshot at `target`.
    pub fn saw(&self, target: &str, head: &Head) -> Result<(), StoreError> {
        let (key, value) = (target.as_bytes().to_vec(), json(head));
        self.0.write_blocking(move |tx: &mut dyn WriteTx| tx.put(HEADS, &key, &value))
    }

    pub fn last(&self) -> Result<Option<RunReport>, StoreError> {
        self.get(OUTCOMES, LAST)
    }

    pub fn failed(&self) -> Result<Option<FailedRun>, StoreError> {
        self.get(OUTCOMES, FAILED)
    }

    pub fn proven(&self) -> Result<Option<Drill>, StoreError> {
        self.get(OUTCOMES, PROVEN)
    }

    /// Remembers how runs ended.
    pub fn outcome(
        &self,
        last: Option<&RunReport>,
        failed: Option<&FailedRun>,
        proven: Option<&Drill>,
    ) -> Result<(), StoreError> {
        let rows = [(LAST, last.map(json)), (FAILED, failed.map(json)), (PROVEN, proven.map(json))];
        self.0.write_blocking(move |tx: &mut dyn WriteTx| {
            rows.iter().try_for_each(|(key, value)| match value {
                Some(value) => tx.put(OUTCOMES, key, value),
                None => tx.delete(OUTCOMES, key).map(|_| ()),
            })
        })
    }

    fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.0.read_blocking(|tx| tx.get(table, key))?;
        let damaged = |error: serde_json::Error| StoreError::Corrupt { table: table.name(), reason: error.to_string() };
        found.map(|bytes| serde_json::from_slice(&bytes).map_err(damaged)).transpose()
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    // These types have string keys only, so they always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}
