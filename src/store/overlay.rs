//! A closure's changes, kept apart until it has succeeded.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::tx::{check_size, is_empty_range};
use super::{Direction, ReadTx, Row, StoreError, Table, WriteTx};

/// Changes of one table: the new value, or `None` for a removed key.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A write transaction over any view: reads see the changes, the view underneath sees none of them.
pub(crate) struct Overlay<'a> {
    base: &'a dyn ReadTx,
    tables: BTreeMap<Table, Changes>,
}

impl<'a> Overlay<'a> {
    /// No changes yet over `base`.
    pub(crate) fn new(base: &'a dyn ReadTx) -> Self {
        Self { base, tables: BTreeMap::new() }
    }

    /// The changes, to be applied to what lies underneath.
    pub(crate) fn into_changes(self) -> BTreeMap<Table, Changes> {
        self.tables
    }
}

impl ReadTx for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tables.get(&table).and_then(|changes| changes.get(key)) {
            Some(changed) => Ok(changed.clone()),
            None => self.base.get(table, key),
        }
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
        let Some(changes) = self.tables.get(&table) else {
            return self.base.scan(table, from, to, direction, limit);
        };
        let changed = || changes.range::<[u8], _>((from, to));
        let removed = changed().filter(|(_, value)| value.is_none()).count();
        // Enough of the base that `limit` rows are left after the removed ones are taken out.
        let base = self.base.scan(table, from, to, direction, limit.saturating_add(removed))?;
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = base.into_iter().collect();
        for (key, value) in changed() {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(match direction {
            Direction::Forward => rows.into_iter().take(limit).collect(),
            Direction::Backward => rows.into_iter().rev().take(limit).collect(),
        })
    }
}

impl WriteTx for Overlay<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        check_size(table, key, value)?;
        self.tables.entry(table).or_default().insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let there = self.get(table, key)?.is_some();
        if there {
            self.tables.entry(table).or_default().insert(key.to_vec(), None);
        }
        Ok(there)
    }
}
