//! All rows of a store as one stream of bytes, for backups: the way back from a file whose pages are damaged, and to
//! another engine.
//!
//! Numbers are big-endian. The stream begins with `MSTYROWS` and a format number (4 bytes, 2); then, until the end:
//!
//! ```text
//! 1  bytes of a table's name (2), name               the rows that follow are of this table
//! 2  bytes of key (4), bytes of value (4), key, value   a row
//! 4  bytes of a table's name (2), name, rows (8)     so many rows the table has in all (not in format 1)
//! 5  version (4)                                     the rows are of this version (not in format 1)
//! 3  number of rows in all (8)                       the end; without it the stream was cut
//! ```
//!
//! Tables and keys are in ascending order, so an unchanged stretch of rows gives the same bytes again. It comes in
//! **pieces**, each of whole entries and with its own name of a table in front of its rows, so that each can be read
//! without the others ([`recover`](super::recover)). Where a piece ends depends on the keys in it alone. The last piece
//! holds the entries of kind 4, 5 and 3 and nothing else. Values are in
//! the clear: whoever keeps the stream seals it. The engine's own table (`store.file`: salts, commit number) is not in
//! it, so a restored file draws a salt of its own and no nonce of the old one can be met again. The version of the rows
//! (`store.format`) is, so the migrations that a restored file has not seen run when it is opened.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _, Read};
use std::ops::Bound;

use super::migrate::{self, DataFile};
use super::{Direction, KEY_MAX, Row, Snapshot, Store, StoreError, Table, VALUE_MAX, WriteTx};

const MAGIC: &[u8; 8] = b"MSTYROWS";
const VERSION: u32 = 2;
const TABLE: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;
const TOTAL: u8 = 4;
const STEP: u8 = 5;

/// A piece with fewer bytes ends only with the rows.
const SMALLEST: usize = 128 << 10;

/// It ends with the first row that takes it past this.
const LARGEST: usize = 1 << 20;

/// One key in so many ends a piece.
const ROUND: u8 = 64;

/// Rows asked for at a time. Values may be large, so not many.
const PAGE: usize = 64;

/// Rows put back in one transaction, and the bytes after which it ends earlier.
const PUT_ROWS: usize = 1_000;
const PUT_BYTES: usize = 4 << 20;

/// Most bytes of a table's name, and most tables of a stream: far above what any file has.
const NAME_MAX: usize = 256;
const TABLES_MAX: usize = 4_096;

/// Bytes of a piece looked at at a time.
const PIECE_BUFFER: usize = 16 << 10;

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
    step: u32,
    tables: VecDeque<Table>,
    /// The table being read and its last key.
    current: Option<(Table, Option<Vec<u8>>)>,
    /// Rows of it that are read and in no piece yet, and whether they are its last.
    ahead: VecDeque<Row>,
    ahead_is_all: bool,
    totals: Vec<(Table, u64)>,
    begun: bool,
    ended: bool,
    buffer: Vec<u8>,
    at: usize,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").field("rows", &self.rows()).finish_non_exhaustive()
    }
}

impl Dump {
    /// The rows of `snapshot`.
    ///
    /// # Errors
    /// The tables cannot be told.
    pub fn new(snapshot: Box<dyn Snapshot>) -> Result<Self, StoreError> {
        Ok(Self {
            step: migrate::version(snapshot.as_ref())?,
            tables: snapshot.tables()?.into(),
            snapshot,
            current: None,
            ahead: VecDeque::new(),
            ahead_is_all: false,
            totals: Vec::new(),
            begun: false,
            ended: false,
            buffer: Vec::new(),
            at: 0,
        })
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.totals.iter().fold(0, |sum, (_, rows)| sum.saturating_add(*rows))
    }

    /// The next piece of the stream, for readers that take it in pieces; `None` behind the last.
    ///
    /// # Errors
    /// What the snapshot says.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            piece.extend_from_slice(MAGIC);
            piece.extend_from_slice(&VERSION.to_be_bytes());
        }
        let mut named = None;
        while let Some((table, (key, value))) = self.next_row()? {
            if named != Some(table.name()) {
                named = Some(table.name());
                put_name(&mut piece, TABLE, table);
            }
            piece.push(ROW);
            piece.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
            piece.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            piece.extend_from_slice(&key);
            piece.extend_from_slice(&value);
            let [round, ..] = *blake3::hash(&key).as_bytes();
            if piece.len() >= LARGEST || (piece.len() >= SMALLEST && round.is_multiple_of(ROUND)) {
                return Ok(Some(piece));
            }
        }
        if !piece.is_empty() {
            return Ok(Some(piece));
        }
        self.ended = true;
        for (table, rows) in &self.totals {
            put_name(&mut piece, TOTAL, *table);
            piece.extend_from_slice(&rows.to_be_bytes());
        }
        piece.push(STEP);
        piece.extend_from_slice(&self.step.to_be_bytes());
        piece.push(END);
        piece.extend_from_slice(&self.rows().to_be_bytes());
        Ok(Some(piece))
    }

    fn next_row(&mut self) -> Result<Option<(Table, Row)>, StoreError> {
        loop {
            let Some((table, last)) = &mut self.current else {
                let Some(table) = self.tables.pop_front() else { return Ok(None) };
                self.current = Some((table, None));
                self.ahead_is_all = false;
                self.totals.push((table, 0));
                continue;
            };
            if let Some((key, value)) = self.ahead.pop_front() {
                if let Some((_, rows)) = self.totals.last_mut() {
                    *rows = rows.saturating_add(1);
                }
                return Ok(Some((*table, (key, value))));
            }
            if self.ahead_is_all {
                self.current = None;
                continue;
            }
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = self.snapshot.scan(*table, from, Bound::Unbounded, Direction::Forward, PAGE)?;
            self.ahead_is_all = rows.len() < PAGE;
            if let Some((key, _)) = rows.last() {
                *last = Some(key.clone());
            }
            self.ahead = rows.into();
        }
    }
}

fn put_name(out: &mut Vec<u8>, kind: u8, table: Table) {
    let name = table.name().as_bytes();
    out.push(kind);
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(name);
}

impl Read for Dump {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.buffer.len() {
            self.at = 0;
            let Some(piece) = self.next_piece().map_err(io::Error::other)? else {
                self.buffer = Vec::new();
                return Ok(0);
            };
            self.buffer = piece;
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let count = left.len().min(target.len());
        if let (Some(to), Some(from)) = (target.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at = self.at.saturating_add(count);
        Ok(count)
    }
}

/// The rows of a stream, one after the other. Reading blocks.
#[derive(Debug)]
pub struct Rows<'a> {
    file: &'static str,
    source: Source<'a>,
    table: Option<String>,
    rows: u64,
    totals: Vec<(String, u64)>,
    step: Option<u32>,
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
        Ok(Self { file, source, table: None, rows: 0, totals: Vec::new(), step: None })
    }

    /// The rows in `piece` of a stream of `file`, which may be any but the first.
    pub(super) fn in_piece(file: &'static DataFile, piece: &'a mut dyn Read) -> Self {
        let file = file.name();
        let source = Source { file, stream: io::BufReader::with_capacity(PIECE_BUFFER, Input(piece)) };
        Self { file, source, table: None, rows: 0, totals: Vec::new(), step: None }
    }

    /// What the last piece says of each table, once the end was read.
    pub(super) fn totals(&self) -> &[(String, u64)] {
        &self.totals
    }

    /// Which version the rows are of, once the end was read.
    pub(super) const fn step(&self) -> Option<u32> {
        self.step
    }

    /// The next row; `None` behind the last.
    ///
    /// # Errors
    /// [`DumpError`], also when the stream ends before its end.
    pub fn next_row(&mut self) -> Result<Option<DumpedRow<'_>>, DumpError> {
        match self.next_entry()? {
            Some(Next::Row(key, value)) => {
                let table = self.table.as_deref().unwrap_or_default();
                Ok(Some(DumpedRow { table, key, value }))
            }
            Some(Next::End(rows)) if rows == self.rows => Ok(None),
            Some(Next::End(_)) => Err(self.malformed("some are missing")),
            None => Err(self.malformed("they are cut off")),
        }
    }

    /// The next row of a piece; `None` where the piece ends.
    ///
    /// # Errors
    /// [`DumpError::Malformed`] when the piece is none.
    pub(super) fn next_in_piece(&mut self) -> Result<Option<DumpedRow<'_>>, DumpError> {
        match self.next_entry()? {
            Some(Next::Row(key, value)) => {
                let table = self.table.as_deref().unwrap_or_default();
                Ok(Some(DumpedRow { table, key, value }))
            }
            Some(Next::End(_)) | None => Ok(None),
        }
    }

    const fn malformed(&self, what: &'static str) -> DumpError {
        DumpError::Malformed { file: self.file, what }
    }

    fn name(&mut self) -> Result<String, DumpError> {
        let length = usize::from(u16::from_be_bytes(self.source.take()?));
        if length > NAME_MAX {
            return Err(self.malformed("a table's name is too long"));
        }
        String::from_utf8(self.source.bytes(length)?).map_err(|_not_utf8| self.malformed("a table's name"))
    }

    /// The next row or the end; `None` where the bytes end.
    fn next_entry(&mut self) -> Result<Option<Next>, DumpError> {
        loop {
            let Some(kind) = self.source.kind()? else { return Ok(None) };
            match kind {
                TABLE => self.table = Some(self.name()?),
                ROW => {
                    let key = usize::try_from(u32::from_be_bytes(self.source.take()?)).unwrap_or(usize::MAX);
                    let value = usize::try_from(u32::from_be_bytes(self.source.take()?)).unwrap_or(usize::MAX);
                    if key > KEY_MAX || value > VALUE_MAX {
                        return Err(self.malformed("a row is larger than rows may be"));
                    }
                    if self.table.is_none() {
                        return Err(self.malformed("a row belongs to no table"));
                    }
                    let (key, value) = (self.source.bytes(key)?, self.source.bytes(value)?);
                    self.rows = self.rows.saturating_add(1);
                    return Ok(Some(Next::Row(key, value)));
                }
                TOTAL if self.totals.len() < TABLES_MAX => {
                    let name = self.name()?;
                    self.totals.push((name, u64::from_be_bytes(self.source.take()?)));
                }
                TOTAL => return Err(self.malformed("there are too many tables")),
                STEP => self.step = Some(u32::from_be_bytes(self.source.take()?)),
                END => return Ok(Some(Next::End(u64::from_be_bytes(self.source.take()?)))),
                _ => return Err(self.malformed("an entry is of no known kind")),
            }
        }
    }
}

/// An entry that matters to whoever reads.
enum Next {
    Row(Vec<u8>, Vec<u8>),
    End(u64),
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
    let mut names = Names::default();
    let mut page = Page::default();
    while let Some(row) = rows.next_row()? {
        let Some(table) = names.table(row.table) else {
            return Err(DumpError::Malformed { file: file.name(), what: "there are too many tables" });
        };
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

/// The tables of a stream.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, Table>);

impl Names {
    /// The table called `name`; `None` when there are too many.
    pub fn table(&mut self, name: &str) -> Option<Table> {
        if let Some(table) = self.0.get(name) {
            return Some(*table);
        }
        if self.0.len() >= TABLES_MAX {
            return None;
        }
        // Kept for the life of the process, which ends with the restore; there are not many.
        let table = Table::new(Box::leak(name.to_owned().into_boxed_str()));
        self.0.insert(name.to_owned(), table);
        Some(table)
    }
}

/// Rows on their way into a transaction.
#[derive(Default)]
pub(super) struct Page {
    rows: Vec<(Table, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Page {
    pub fn add(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
        self.rows.push((table, key, value));
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= PUT_ROWS || self.bytes >= PUT_BYTES
    }

    pub fn put(self, store: &Store) -> Result<(), StoreError> {
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
    /// The kind of the next entry; `None` where the bytes end.
    fn kind(&mut self) -> Result<Option<u8>, DumpError> {
        let file = self.file;
        let kind = self.stream.fill_buf().map_err(|source| DumpError::Read { file, source })?.first().copied();
        if kind.is_some() {
            self.stream.consume(1);
        }
        Ok(kind)
    }

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
