//! All rows of a store as one stream of bytes, for backups: the way back from a file whose pages are damaged, and to
//! another engine.
//!
//! Numbers are big-endian. The stream begins with `MSTYROWS` and a format number (4 bytes, 1); then, until the end:
//!
//! ```text
//! 1  bytes of a table's name (2), name               the rows that follow are of this table
//! 2  bytes of key (4), bytes of value (4), key, value   a row
//! 3  number of rows in all (8)                       the end; without it the stream was cut
//! ```
//!
//! Tables and keys are in ascending order, so an unchanged stretch of rows gives the same bytes again. Values are in
//! the clear: whoever keeps the stream seals it. The engine's own table (`store.file`: salts, commit number) is not in
//! it, so a restored file draws a salt of its own and no nonce of the old one can be met again. The version of the rows
//! (`store.format`) is, so the migrations that a restored file has not seen run when it is opened.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Bound;

use super::migrate::{self, DataFile};
use super::{Direction, KEY_MAX, Snapshot, Store, StoreError, Table, VALUE_MAX, WriteTx};

const MAGIC: &[u8; 8] = b"MSTYROWS";
const VERSION: u32 = 1;
const TABLE: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;

/// Rows asked for at a time. Values may be large, so not many.
const PAGE: usize = 64;

/// Rows put back in one transaction, and the bytes after which it ends earlier.
const PUT_ROWS: usize = 1_000;
const PUT_BYTES: usize = 4 << 20;

/// Most bytes of a table's name, and most tables of a stream: far above what any file has.
const NAME_MAX: usize = 256;
const TABLES_MAX: usize = 4_096;

/// Why a stream does not become rows.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Reading the stream failed.
    #[error("{file}: reading its rows failed: {source}")]
    Read {
        /// The data file.
        file: &'static str,
        /// What the source says.
        source: io::Error,
    },
    /// The stream is not one of rows.
    #[error("{file}: its rows do not read: {what}")]
    Malformed {
        /// The data file.
        file: &'static str,
        /// What does not fit.
        what: &'static str,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The stream of a snapshot's rows. Reading it blocks.
pub struct Dump {
    snapshot: Box<dyn Snapshot>,
    tables: VecDeque<Table>,
    /// The table being read and its last key.
    current: Option<(Table, Option<Vec<u8>>)>,
    rows: u64,
    ended: bool,
    buffer: Vec<u8>,
    at: usize,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Dump {
    /// The rows of `snapshot`.
    ///
    /// # Errors
    /// The tables cannot be told.
    pub fn new(snapshot: Box<dyn Snapshot>) -> Result<Self, StoreError> {
        let tables = snapshot.tables()?.into();
        let buffer = [&MAGIC[..], &VERSION.to_be_bytes()].concat();
        Ok(Self { snapshot, tables, current: None, rows: 0, ended: false, buffer, at: 0 })
    }

    /// Rows read so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    fn fill(&mut self) -> Result<(), StoreError> {
        self.buffer.clear();
        self.at = 0;
        let Some((table, last)) = &mut self.current else {
            if let Some(table) = self.tables.pop_front() {
                self.buffer.push(TABLE);
                let name = table.name().as_bytes();
                self.buffer.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
                self.buffer.extend_from_slice(name);
                self.current = Some((table, None));
            } else if !self.ended {
                self.ended = true;
                self.buffer.push(END);
                self.buffer.extend_from_slice(&self.rows.to_be_bytes());
            }
            return Ok(());
        };
        let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.snapshot.scan(*table, from, Bound::Unbounded, Direction::Forward, PAGE)?;
        for (key, value) in &rows {
            self.buffer.push(ROW);
            self.buffer.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
            self.buffer.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            self.buffer.extend_from_slice(key);
            self.buffer.extend_from_slice(value);
        }
        self.rows = self.rows.saturating_add(rows.len() as u64);
        if rows.len() < PAGE {
            self.current = None;
        } else {
            *last = rows.into_iter().next_back().map(|(key, _)| key);
        }
        Ok(())
    }
}

impl Read for Dump {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() && !(self.ended && self.current.is_none()) {
            self.fill().map_err(io::Error::other)?;
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let count = left.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(count);
        if self.ended && self.at >= self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        Ok(count)
    }
}

/// The rows of a stream, one after the other. Reading blocks.
#[derive(Debug)]
pub struct Rows<'a> {
    file: &'static str,
    source: Source<'a>,
    table: Option<String>,
    tables: usize,
    rows: u64,
}

/// A row on its way back.
#[derive(Debug)]
pub struct DumpedRow<'r> {
    /// The table's name.
    pub table: &'r str,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl<'a> Rows<'a> {
    /// The rows in `stream`, which is that of `file`.
    ///
    /// # Errors
    /// [`DumpError`] when it does not begin as one.
    pub fn new(file: &'static DataFile, stream: &'a mut dyn Read) -> Result<Self, DumpError> {
        let file = file.name();
        let mut source = Source { file, stream: io::BufReader::with_capacity(256 << 10, Input(stream)) };
        if &source.take::<8>()? != MAGIC {
            return Err(DumpError::Malformed { file, what: "they do not begin as such" });
        }
        if u32::from_be_bytes(source.take()?) > VERSION {
            return Err(DumpError::Malformed { file, what: "a newer Mainstay wrote them" });
        }
        Ok(Self { file, source, table: None, tables: 0, rows: 0 })
    }

    /// The next row; `None` behind the last.
    ///
    /// # Errors
    /// [`DumpError`], also when the stream ends before its end.
    pub fn next_row(&mut self) -> Result<Option<DumpedRow<'_>>, DumpError> {
        let malformed = |what| DumpError::Malformed { file: self.file, what };
        loop {
            match self.source.take::<1>()? {
                [TABLE] => {
                    let length = usize::from(u16::from_be_bytes(self.source.take()?));
                    self.tables = self.tables.saturating_add(1);
                    if length > NAME_MAX || self.tables > TABLES_MAX {
                        return Err(malformed("there are too many tables, or their names are too long"));
                    }
                    let name = String::from_utf8(self.source.bytes(length)?);
                    self.table = Some(name.map_err(|_not_utf8| malformed("a table's name"))?);
                }
                [ROW] => {
                    let key = usize::try_from(u32::from_be_bytes(self.source.take()?)).unwrap_or(usize::MAX);
                    let value = usize::try_from(u32::from_be_bytes(self.source.take()?)).unwrap_or(usize::MAX);
                    if key > KEY_MAX || value > VALUE_MAX {
                        return Err(malformed("a row is larger than rows may be"));
                    }
                    let (key, value) = (self.source.bytes(key)?, self.source.bytes(value)?);
                    let table = self.table.as_deref().ok_or_else(|| malformed("a row belongs to no table"))?;
                    self.rows = self.rows.saturating_add(1);
                    return Ok(Some(DumpedRow { table, key, value }));
                }
                [END] if u64::from_be_bytes(self.source.take()?) == self.rows => return Ok(None),
                [END] => return Err(malformed("some are missing")),
                _ => return Err(malformed("an entry is of no known kind")),
            }
        }
    }
}

/// Puts the rows of `stream` into `store`, which is empty and was opened [as it is](Store::open_as_it_is) for `file`;
/// returns their number. Blocks.
///
/// # Errors
/// [`DumpError`]; some rows are there then, and the file must not be used. [`StoreError::Newer`] when a newer Mainstay
/// wrote the rows.
pub fn restore(file: &'static DataFile, store: &Store, stream: &mut dyn Read) -> Result<u64, DumpError> {
    let mut rows = Rows::new(file, stream)?;
    let mut count: u64 = 0;
    let mut table = Table::new("");
    let mut page = Page::default();
    while let Some(row) = rows.next_row()? {
        if row.table != table.name() {
            // Kept for the life of the process, which ends with the restore; there are not many.
            table = Table::new(Box::leak(row.table.to_owned().into_boxed_str()));
        }
        page.add(table, row.key, row.value);
        count = count.saturating_add(1);
        if page.is_full() {
            std::mem::take(&mut page).put(store)?;
        }
    }
    page.put(store)?;
    store.read_blocking(|tx| migrate::check(tx, file))?;
    Ok(count)
}

/// Rows on their way into a transaction.
#[derive(Default)]
struct Page {
    rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Page {
    fn add(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        self.rows.push((table, key, value));
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= PUT_ROWS || self.bytes >= PUT_BYTES
    }

    fn put(self, store: &Store) -> Result<(), StoreError> {
        let rows = self.rows;
        store.write_blocking(move |tx: &mut dyn WriteTx| {
            rows.iter().try_for_each(|(table, key, value)| tx.put(*table, key, value))
        })
    }
}

#[derive(Debug)]
struct Source<'a> {
    file: &'static str,
    stream: io::BufReader<Input<'a>>,
}

/// What is read from.
struct Input<'a>(&'a mut dyn Read);

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input")
    }
}

impl Read for Input<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.0.read(target)
    }
}

impl Source<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, DumpError> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, target: &mut [u8]) -> Result<(), DumpError> {
        let file = self.file;
        self.stream.read_exact(target).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => DumpError::Malformed { file, what: "they are cut off" },
            _ => DumpError::Read { file, source },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::STATE;
    use crate::testing::{FaultyDisk, plain_memory_store, store_on};

    const A: Table = Table::new("test.a");
    const B: Table = Table::new("test.b");

    fn dumped(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        Dump::new(store.snapshot().unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn filled() -> Store {
        let store = store_on(&FaultyDisk::new(), &STATE, 1).unwrap();
        let fill = |tx: &mut dyn WriteTx| {
            (0..200_u32).try_for_each(|number| tx.put(A, &number.to_be_bytes(), &vec![7; number as usize]))?;
            tx.put(B, b"", b"an empty key")
        };
        store.write_blocking::<_, StoreError>(fill).unwrap();
        store
    }

    #[test]
    fn a_restored_store_dumps_the_same_bytes() {
        let bytes = dumped(&filled());
        let restored = plain_memory_store();
        // The two of the format and those of the test.
        assert_eq!(restore(&STATE, &restored, &mut bytes.as_slice()).unwrap(), 203);
        assert_eq!(dumped(&restored), bytes);
    }

    #[test]
    fn a_cut_stream_is_refused_wherever_it_is_cut() {
        let bytes = dumped(&filled());
        for length in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            let cut = restore(&STATE, &plain_memory_store(), &mut bytes.get(..length).unwrap());
            assert!(matches!(cut, Err(DumpError::Malformed { .. })), "{length}");
        }
    }

    #[test]
    fn rows_of_a_newer_mainstay_are_refused() {
        let store = filled();
        migrate::pretend_newer(&store, 99);
        let error = restore(&STATE, &plain_memory_store(), &mut dumped(&store).as_slice()).unwrap_err();
        assert!(matches!(error, DumpError::Store(StoreError::Newer { found: 99, .. })), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&MAGIC[..], &VERSION.to_be_bytes(), &bytes].concat();
            let _ = restore(&STATE, &plain_memory_store(), &mut bytes.as_slice());
        }
    }
}
