//! A view of a redb file that lasts.

use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, TableHandle as _};

use super::place::FILE_TABLE;
use super::redb_file::RedbFile;
use super::redb_tx::{Bytes, Common, definition};
use super::tx::is_empty_range;
use super::{Direction, ReadTx, Row, Snapshot, StoreError, Table};

/// A read transaction with the file it is on. Between two calls nothing of the file is held, so that it can be opened
/// again or closed.
pub(super) struct RedbSnapshot {
    file: Arc<RedbFile>,
    transaction: ReadTransaction,
    count: u64,
}

impl RedbSnapshot {
    /// A view of the last commit.
    pub(super) fn take(file: &Arc<RedbFile>) -> Result<Self, StoreError> {
        let (transaction, count) = file.begin_read()?;
        Ok(Self { file: Arc::clone(file), transaction, count })
    }

    fn with<T>(
        &self,
        table: Table,
        absent: T,
        look: impl FnOnce(&Common<'_>, &ReadOnlyTable<Bytes, Bytes>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.while_open(self.count, |common| {
            let opened = common.run(table, || match self.transaction.open_table(definition(table.name())) {
                Ok(opened) => Ok(Some(opened)),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error),
            })?;
            opened.map_or(Ok(absent), |opened| look(&common, &opened))
        })
    }
}

impl ReadTx for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(table, None, |common, opened| common.get(opened, table, key))
    }

    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        if is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        self.with(table, Vec::new(), |common, opened| common.scan(opened, table, (from, to), direction, limit))
    }
}

impl Snapshot for RedbSnapshot {
    fn tables(&self) -> Result<Vec<Table>, StoreError> {
        self.file.while_open(self.count, |common| {
            let whole_file = Table::new(FILE_TABLE);
            let found = common.run(whole_file, || self.transaction.list_tables().map(Iterator::collect::<Vec<_>>))?;
            let names = found.iter().map(redb::UntypedTableHandle::name).filter(|name| *name != FILE_TABLE);
            let mut tables: Vec<Table> = names.map(|name| self.file.table_called(name)).collect();
            tables.sort_unstable();
            Ok(tables)
        })
    }
}
