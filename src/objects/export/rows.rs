//! What of the index goes into an export.

use std::ops::Bound;

use crate::objects::index::{BUCKETS, BucketRow, DAMAGE, REWRAPS, ROTATIONS, SCRUB, USAGE};
use crate::store::{Direction, ReadTx, Row, Snapshot, StoreError, Table, record};

/// Tables of the room of jobs.
const JOBS: &str = "jobs.";

/// A snapshot of the index without what an export leaves out.
pub(super) struct Exported(pub Box<dyn Snapshot>);

impl ReadTx for Exported {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)?.map(|value| without_key(table, value)).transpose()
    }

    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.scan(table, from, to, direction, limit)?;
        rows.into_iter().map(|(key, value)| Ok((key, without_key(table, value)?))).collect()
    }
}

impl Snapshot for Exported {
    fn tables(&self) -> Result<Vec<Table>, StoreError> {
        let mut tables = self.0.tables()?;
        let left_out = [USAGE, SCRUB, DAMAGE, ROTATIONS, REWRAPS];
        tables.retain(|table| !left_out.contains(table) && !table.name().starts_with(JOBS));
        Ok(tables)
    }
}

/// The value of a row; of a bucket's without its wrapped key.
fn without_key(table: Table, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if table != BUCKETS {
        return Ok(value);
    }
    let mut bucket: BucketRow = record::decode(&value)
        .map_err(|error| StoreError::Corrupt { table: table.name(), reason: error.to_string() })?;
    bucket.wrapped_key.clear();
    Ok(record::encode(&bucket))
}
