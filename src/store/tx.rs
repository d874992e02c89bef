//! Tables and transactions, as rooms see them.

use std::ops::Bound;

use super::StoreError;

/// Most bytes in a key.
pub const KEY_MAX: usize = 4 << 10;

/// Most bytes in a value. Larger things are files (see the objects room).
pub const VALUE_MAX: usize = 4 << 20;

/// A named, ordered map of byte keys to byte values. It exists from its first row on.
///
/// Names are part of the stored format: `room.things`, never reused for something else. Names starting with `store.`
/// belong to this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// The table called `name`.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Backward,
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A consistent view of all tables.
///
/// The errors are those of a read: [`StoreError::Corrupt`] when a row is not what was stored, [`StoreError::Engine`]
/// when the file cannot be read.
pub trait ReadTx {
    /// The value of `key`.
    ///
    /// # Errors
    /// See [`ReadTx`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The values of `keys`, in their order. One question instead of many, for engines that are far away.
    ///
    /// # Errors
    /// See [`ReadTx`].
    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    /// The first `limit` rows with keys between `from` and `to`, in `direction`; `from` is the smaller bound either
    /// way. Fewer than `limit` rows mean there are no more. To go on, put the last key into an excluded bound.
    ///
    /// # Errors
    /// See [`ReadTx`].
    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError>;
}

/// A view of all tables that can be changed; it sees its own changes.
pub trait WriteTx: ReadTx {
    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] over [`KEY_MAX`] or [`VALUE_MAX`].
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// Removes `key`; says whether it was there.
    ///
    /// # Errors
    /// See [`ReadTx`].
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError>;
}

/// The smallest key after all keys that start with `prefix`, for the `to` bound of a scan; `Unbounded` when there is
/// none.
///
/// ```
/// use std::ops::Bound;
/// use mainstay::store::after_prefix;
/// assert_eq!(after_prefix(b"a/").as_ref().map(Vec::as_slice), Bound::Excluded(b"a0".as_slice()));
/// assert_eq!(after_prefix(b"\xff"), Bound::Unbounded);
/// ```
pub fn after_prefix(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// Whether `from..to` can hold no key, so that an engine need not (or must not) be asked.
pub(crate) fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// Refuses rows that are too large.
pub(crate) fn check_size(table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    for (part, bytes, most) in [("key", key.len(), KEY_MAX), ("value", value.len(), VALUE_MAX)] {
        if bytes > most {
            return Err(StoreError::TooLarge { part, table: table.name(), bytes, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_lies_behind_every_key_that_starts_with_it() {
        assert_eq!(after_prefix(b"ab\xff\xff"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(after_prefix(b""), Bound::Unbounded);
    }

    #[test]
    fn reversed_and_pointless_ranges_are_empty() {
        use Bound::{Excluded, Included, Unbounded};
        assert!(is_empty_range(Included(b"b"), Included(b"a")));
        assert!(is_empty_range(Excluded(b"a"), Excluded(b"a")));
        assert!(is_empty_range(Included(b"a"), Excluded(b"a")));
        assert!(!is_empty_range(Included(b"a"), Included(b"a")));
        assert!(!is_empty_range(Unbounded, Excluded(b"")));
    }
}
