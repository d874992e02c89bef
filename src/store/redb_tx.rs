//! Transactions of redb behind the room's traits: tables looked up lazily, rows opened and sealed, panics caught.
//!
//! redb panics on some damaged pages instead of returning an error (measured 2026-11: 48 of 51 garbage pages), so every
//! call into it goes through [`guarded`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::overlay::Changes;
use super::seal::{RowKeys, Sealer};
use super::tx::is_empty_range;
use super::{Direction, ReadTx, Row, StoreError, Table};

/// How all tables look to redb.
pub(super) type Bytes = &'static [u8];

/// The definition of the table called `name`.
pub(super) const fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// Why a call into redb did not succeed.
#[derive(Debug)]
pub(super) enum RedbFailure {
    /// The file could not be read or written, or redb refuses since an earlier call could not.
    Io(String),
    /// A page, or redb's own state, is not what it should be.
    Damaged(String),
}

impl RedbFailure {
    pub(super) fn into_error(self, table: &'static str, file: &'static str) -> StoreError {
        match self {
            Self::Io(reason) => StoreError::Engine { file, reason },
            Self::Damaged(reason) => StoreError::Corrupt { table, reason },
        }
    }
}

/// Calls into redb and turns a panic there into damage.
pub(super) fn guarded<T, E: Into<redb::Error>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, RedbFailure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(match error.into() {
            error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => RedbFailure::Io(error.to_string()),
            other => RedbFailure::Damaged(other.to_string()),
        }),
        Err(_) => Err(RedbFailure::Damaged("redb panicked on a page of it".to_owned())),
    }
}

/// What both kinds of transactions need: the keys, the file's name, and whether something failed underneath.
pub(super) struct Common<'a> {
    keys: &'a RowKeys,
    file: &'static str,
    /// The first failure of the file itself, after which nothing read here counts.
    failure: RefCell<Option<StoreError>>,
}

impl<'a> Common<'a> {
    pub(super) fn new(keys: &'a RowKeys, file: &'static str) -> Self {
        Self { keys, file, failure: RefCell::new(None) }
    }

    pub(super) fn run<T, E: Into<redb::Error>>(
        &self,
        table: Table,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, StoreError> {
        guarded(call).map_err(|failure| {
            let of_the_file = matches!(failure, RedbFailure::Io(_));
            let error = failure.into_error(table.name(), self.file);
            if of_the_file {
                self.failure.borrow_mut().get_or_insert_with(|| error.clone());
            }
            error
        })
    }

    pub(super) fn get(
        &self,
        from: &impl ReadableTable<Bytes, Bytes>,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.run(table, || from.get(key).map(|row| row.map(|row| row.value().to_vec())))?;
        row.map(|row| self.keys.open(table, key, &row)).transpose()
    }

    pub(super) fn scan(
        &self,
        source: &impl ReadableTable<Bytes, Bytes>,
        table: Table,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = self.run(table, || {
            let mut range = source.range::<&[u8]>((from, to))?;
            let mut rows: Vec<Row> = Vec::new();
            while rows.len() < limit {
                let next = match direction {
                    Direction::Forward => range.next(),
                    Direction::Backward => range.next_back(),
                };
                let Some(row) = next else { break };
                let (key, value) = row?;
                rows.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok::<_, redb::StorageError>(rows)
        })?;
        rows.into_iter()
            .map(|(key, row)| {
                let value = self.keys.open(table, &key, &row)?;
                Ok((key, value))
            })
            .collect()
    }
}

/// A read transaction.
pub(super) struct Snapshot<'a> {
    common: Common<'a>,
    transaction: ReadTransaction,
    /// Tables looked up so far; `None` for one without a row ever.
    tables: RefCell<BTreeMap<Table, Option<ReadOnlyTable<Bytes, Bytes>>>>,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(transaction: ReadTransaction, common: Common<'a>) -> Self {
        Self { common, transaction, tables: RefCell::default() }
    }

    /// The first failure of the file itself during this transaction.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.common.failure.borrow().clone()
    }

    fn with<T>(
        &self,
        table: Table,
        absent: T,
        look: impl FnOnce(&ReadOnlyTable<Bytes, Bytes>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.tables.borrow_mut().entry(table) {
            Entry::Occupied(opened) => opened.get().as_ref().map_or(Ok(absent), look),
            Entry::Vacant(place) => {
                let opened =
                    self.common.run(table, || match self.transaction.open_table(definition(table.name())) {
                        Ok(opened) => Ok(Some(opened)),
                        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                        Err(error) => Err(error),
                    })?;
                place.insert(opened).as_ref().map_or(Ok(absent), look)
            }
        }
    }
}

impl ReadTx for Snapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(table, None, |opened| self.common.get(opened, table, key))
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
        self.with(table, Vec::new(), |opened| self.common.scan(opened, table, (from, to), direction, limit))
    }
}

/// A write transaction that several closures share, one after the other.
pub(super) struct Batch<'t, 'a> {
    common: Common<'a>,
    sealer: &'a Sealer,
    transaction: &'t WriteTransaction,
    tables: RefCell<BTreeMap<Table, redb::Table<'t, Bytes, Bytes>>>,
    changed: Cell<bool>,
}

impl<'t, 'a> Batch<'t, 'a> {
    pub(super) fn new(transaction: &'t WriteTransaction, sealer: &'a Sealer, file: &'static str) -> Self {
        let common = Common::new(&sealer.keys, file);
        Self { common, sealer, transaction, tables: RefCell::default(), changed: Cell::new(false) }
    }

    /// The first failure that makes the whole batch worthless.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.common.failure.borrow().clone()
    }

    /// Whether there is anything to commit.
    pub(super) fn changed(&self) -> bool {
        self.changed.get()
    }

    /// Writes a closure's changes; returns their bytes. An error is a failure of the whole batch.
    pub(super) fn apply(&self, changes: BTreeMap<Table, Changes>) -> Result<usize, StoreError> {
        let mut bytes = 0;
        for (table, rows) in changes {
            for (key, value) in rows {
                self.changed.set(true);
                bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                let row = value.map(|value| self.sealer.seal(table, &key, &value));
                let applied = self.with(table, |opened| {
                    self.common.run(table, || match &row {
                        Some(row) => opened.insert(key.as_slice(), row.as_slice()).map(drop),
                        None => opened.remove(key.as_slice()).map(drop),
                    })
                });
                if let Err(error) = applied {
                    // Half of a closure is in the transaction now, whatever the reason.
                    self.common.failure.borrow_mut().get_or_insert_with(|| error.clone());
                    return Err(error);
                }
            }
        }
        Ok(bytes)
    }

    fn with<T>(
        &self,
        table: Table,
        action: impl FnOnce(&mut redb::Table<'t, Bytes, Bytes>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.tables.borrow_mut().entry(table) {
            Entry::Occupied(mut opened) => action(opened.get_mut()),
            Entry::Vacant(place) => {
                let opened = self.common.run(table, || self.transaction.open_table(definition(table.name())))?;
                action(place.insert(opened))
            }
        }
    }
}

impl ReadTx for Batch<'_, '_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(table, |opened| self.common.get(opened, table, key))
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
        self.with(table, |opened| self.common.scan(opened, table, (from, to), direction, limit))
    }
}
