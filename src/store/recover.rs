//! Rows out of a [stream](super::dump) some of whose pieces are lost.
//!
//! What is there is put back, what is not is told by table and number. The rows of a table that lost some may name rows
//! that are gone, in it and in others: whoever knows what the tables mean settles that before the file is used.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::ops::Bound;

use super::dump::{DumpError, Names, Page, Rows};
use super::migrate::{self, DataFile};
use super::{Direction, Store, StoreError, Table, WriteTx};

/// Rows removed in one transaction.
const PAGE: usize = 1_000;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Rows put back.
    pub rows: u64,
    /// Tables that lost rows, as far as it can be told which.
    pub lost: Vec<LostRows>,
    /// First and last table of the stretches where tables may have lost rows that cannot be told; empty when the numbers
    /// of all tables are known.
    gaps: Vec<(String, String)>,
}

/// Rows of a table that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRows {
    /// The table; of a stretch of them that is lost, the first and the last that is still there.
    pub table: String,
    /// How many are there.
    pub kept: u64,
    /// How many are not; `None` when that cannot be told.
    pub lost: Option<u64>,
}

impl Recovered {
    /// Whether nothing is lost.
    pub const fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }

    /// Whether rows of `table` may be lost.
    pub fn may_lack(&self, table: &str) -> bool {
        self.lost.iter().any(|lost| lost.table == table)
            || self.gaps.iter().any(|(from, to)| from.as_str() <= table && (to.is_empty() || table <= to.as_str()))
    }

    /// Whether rows may be lost of a table whose name begins with `prefix` and is none of `but`, also of one that nothing
    /// tells of any more.
    pub fn may_lack_any_of(&self, prefix: &str, but: &[&str]) -> bool {
        let named = |lost: &LostRows| lost.table.starts_with(prefix) && !but.contains(&lost.table.as_str());
        self.lost.iter().any(named)
            || self.gaps.iter().any(|(from, to)| {
                let before = to.as_str() < prefix && !to.is_empty();
                let behind = from.as_str() > prefix && !from.starts_with(prefix);
                let within = |table: &String| but.contains(&table.as_str());
                !(before || behind || (from == to && within(from)))
            })
    }

    /// Nothing is lost.
    pub const fn whole(rows: u64) -> Self {
        Self { rows, lost: Vec::new(), gaps: Vec::new() }
    }

    /// All of a file is lost.
    pub fn nothing() -> Self {
        let lost = LostRows { table: "(all tables)".to_owned(), kept: 0, lost: None };
        Self { rows: 0, lost: vec![lost], gaps: vec![(String::new(), String::new())] }
    }
}

/// Puts the rows of a stream into `store`, which is empty and was opened [as it is](Store::open_as_it_is) for `file`.
/// `next` gives the stream's pieces in order, `Some(None)` for a lost one. Blocks.
///
/// When it cannot be told which version the rows are of, none is kept: all of the file is lost then.
///
/// # Errors
/// [`DumpError`]; the file must not be used. [`StoreError::Newer`] when a newer Mainstay wrote the rows.
pub fn recover(
    file: &'static DataFile,
    store: &Store,
    next: &mut dyn FnMut() -> Option<Option<Vec<u8>>>,
) -> Result<Recovered, DumpError> {
    let mut job = Job { file, store, names: Names::default(), page: Page::default(), seen: Seen::default() };
    let mut first = true;
    while let Some(piece) = next() {
        match piece {
            None => job.seen.lose(),
            Some(piece) => job.take(&piece, first)?,
        }
        first = false;
    }
    let Job { page, seen, .. } = job;
    page.put(store)?;
    let recovered = seen.finish();
    if !recovered.is_whole() && !store.read_blocking(migrate::is_told)? {
        let Some(step) = seen.step else {
            clear_all(store)?;
            return Ok(Recovered::nothing());
        };
        migrate::put_back(store, file, step)?;
    }
    store.read_blocking(|tx| migrate::check(tx, file))?;
    Ok(recovered)
}

/// Is shown a table, a key and a value.
pub type Look<'a> = dyn FnMut(&str, &[u8], &[u8]) + 'a;

/// Shows the rows of one piece of a stream of `file` to `look`: table, key and value.
///
/// # Errors
/// [`DumpError::Malformed`] when the piece is none.
pub fn each_row(file: &'static DataFile, mut piece: &[u8], first: bool, look: &mut Look<'_>) -> Result<(), DumpError> {
    let mut rows = if first { Rows::new(file, &mut piece)? } else { Rows::in_piece(file, &mut piece) };
    while let Some(row) = rows.next_in_piece()? {
        look(row.table, &row.key, &row.value);
    }
    Ok(())
}

/// Removes all rows of all tables. Blocks.
///
/// # Errors
/// See [`Store::write_blocking`].
pub fn clear_all(store: &Store) -> Result<(), StoreError> {
    store.snapshot()?.tables()?.into_iter().try_for_each(|table| clear(store, table).map(drop))
}

/// Removes all rows of `table`; says how many. Blocks.
///
/// # Errors
/// See [`Store::write_blocking`].
pub fn clear(store: &Store, table: Table) -> Result<u64, StoreError> {
    let mut gone: u64 = 0;
    loop {
        let rows =
            store.read_blocking(|tx| tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, PAGE))?;
        let keys: Vec<Vec<u8>> = rows.into_iter().map(|(key, _)| key).collect();
        if keys.is_empty() {
            return Ok(gone);
        }
        gone = gone.saturating_add(keys.len() as u64);
        store.write_blocking(move |tx: &mut dyn WriteTx| {
            keys.iter().try_for_each(|key| tx.delete(table, key).map(drop))
        })?;
    }
}

struct Job<'a> {
    file: &'static DataFile,
    store: &'a Store,
    names: Names,
    page: Page,
    seen: Seen,
}

impl Job<'_> {
    fn take(&mut self, piece: &[u8], first: bool) -> Result<(), DumpError> {
        let mut bytes = piece;
        let mut rows = if first { Rows::new(self.file, &mut bytes)? } else { Rows::in_piece(self.file, &mut bytes) };
        while let Some(row) = rows.next_in_piece()? {
            let Some(table) = self.names.table(row.table) else {
                return Err(DumpError::Malformed { file: self.file.name(), what: "there are too many tables" });
            };
            self.seen.row(row.table);
            self.page.add(table, row.key, row.value);
            if self.page.is_full() {
                std::mem::take(&mut self.page).put(self.store)?;
            }
        }
        if let Some(step) = rows.step() {
            self.seen.end(rows.totals(), step);
        }
        Ok(())
    }
}

/// What passed by.
#[derive(Default)]
struct Seen {
    kept: BTreeMap<String, u64>,
    last: String,
    /// Tables around what is lost; the second is empty until one follows.
    gaps: Vec<(String, String)>,
    open_gap: bool,
    totals: Option<BTreeMap<String, u64>>,
    step: Option<u32>,
}

impl Seen {
    fn lose(&mut self) {
        if !self.open_gap {
            self.gaps.push((self.last.clone(), String::new()));
            self.open_gap = true;
        }
    }

    fn row(&mut self, table: &str) {
        if self.last != table {
            table.clone_into(&mut self.last);
        }
        if std::mem::take(&mut self.open_gap)
            && let Some((_, to)) = self.gaps.last_mut()
        {
            table.clone_into(to);
        }
        match self.kept.get_mut(table) {
            Some(rows) => *rows = rows.saturating_add(1),
            None => {
                self.kept.insert(table.to_owned(), 1);
            }
        }
    }

    fn end(&mut self, totals: &[(String, u64)], step: u32) {
        self.totals = Some(totals.iter().cloned().collect());
        self.step = Some(step);
    }

    fn finish(&self) -> Recovered {
        let rows = self.kept.values().fold(0_u64, |sum, rows| sum.saturating_add(*rows));
        let kept = |table: &str| self.kept.get(table).copied().unwrap_or(0);
        if let Some(totals) = &self.totals {
            let lost = totals.iter().filter_map(|(table, total)| {
                let kept = kept(table);
                let lost = total.checked_sub(kept).filter(|lost| *lost > 0)?;
                Some(LostRows { table: table.clone(), kept, lost: Some(lost) })
            });
            return Recovered { rows, lost: lost.collect(), gaps: Vec::new() };
        }
        let mut gaps = self.gaps.clone();
        if gaps.is_empty() {
            // The end itself is not there, and nobody said so: the stream was cut.
            gaps.push((self.last.clone(), String::new()));
        }
        let lost = gaps.iter().map(|(from, to)| LostRows {
            table: match (from.as_str(), to.as_str()) {
                ("", "") => "(all tables)".to_owned(),
                (from, "") => format!("{from} and those after it"),
                ("", to) => format!("{to} and those before it"),
                (from, to) if from == to => from.to_owned(),
                (from, to) => format!("{from} to {to}"),
            },
            kept: kept(from),
            lost: None,
        });
        Recovered { rows, lost: lost.collect(), gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::STATE;
    use crate::store::dump::Dump;
    use crate::testing::{FaultyDisk, plain_memory_store, store_on};

    const A: Table = Table::new("test.a");
    const B: Table = Table::new("test.b");
    const C: Table = Table::new("test.c");
    const FORMAT: Table = Table::new("store.format");

    fn pieces() -> (Store, Vec<Vec<u8>>) {
        let store = store_on(&FaultyDisk::new(), &STATE, 1).unwrap();
        for (table, rows) in [(A, 10_u32), (B, 900), (C, 3)] {
            let fill = move |tx: &mut dyn WriteTx| {
                (0..rows).try_for_each(|number| tx.put(table, &number.to_be_bytes(), &[7; 1500]))
            };
            store.write_blocking::<_, StoreError>(fill).unwrap();
        }
        let mut dump = Dump::new(store.snapshot().unwrap()).unwrap();
        let pieces = std::iter::from_fn(|| dump.next_piece().unwrap()).collect();
        (store, pieces)
    }

    fn without(pieces: &[Vec<u8>], lost: &[usize]) -> (Store, Recovered) {
        let store = plain_memory_store();
        let mut next = pieces.iter().enumerate().map(|(at, piece)| (!lost.contains(&at)).then(|| piece.clone()));
        let recovered = recover(&STATE, &store, &mut || next.next()).unwrap();
        (store, recovered)
    }

    fn rows(store: &Store, table: Table) -> Vec<super::super::Row> {
        let all = |tx: &dyn super::super::ReadTx| {
            tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)
        };
        store.read_blocking::<_, StoreError>(all).unwrap()
    }

    #[test]
    fn each_lost_piece_costs_its_rows_and_they_are_counted() {
        let (whole, pieces) = pieces();
        assert!(pieces.len() >= 5, "{}", pieces.len());
        assert!(without(&pieces, &[]).1.is_whole());
        for lost in 0..pieces.len() {
            let (store, recovered) = without(&pieces, &[lost]);
            let mut missing = 0;
            for table in store.snapshot().unwrap().tables().unwrap() {
                let (there, all) = (rows(&store, table), rows(&whole, table));
                assert!(there.iter().all(|row| all.contains(row)), "{lost}");
                let gone = (all.len() - there.len()) as u64;
                let told = recovered.lost.iter().find(|lost| lost.table == table.name());
                if lost + 1 < pieces.len() && table != FORMAT {
                    assert_eq!(told.map_or(0, |told| told.lost.unwrap()), gone, "{lost} {}", table.name());
                }
                assert!(gone == 0 || table == FORMAT || recovered.may_lack(table.name()), "{lost}");
                missing += gone;
            }
            assert!(missing > 0 || lost + 1 == pieces.len(), "{lost}");
            assert!(!recovered.is_whole(), "{lost}");
        }
    }

    #[test]
    fn rows_of_an_unknown_version_are_not_kept() {
        let (_, pieces) = pieces();
        let last = pieces.len() - 1;
        // The rows of the version are in the first.
        let (store, recovered) = without(&pieces, &[0, last]);
        assert_eq!(recovered, Recovered::nothing());
        assert!(recovered.may_lack("accounts.users"));
        assert!(store.snapshot().unwrap().tables().unwrap().into_iter().all(|table| rows(&store, table).is_empty()));
    }

    #[test]
    fn where_the_numbers_are_lost_every_table_around_a_gap_may_lack_rows() {
        let (_, pieces) = pieces();
        let (_, recovered) = without(&pieces, &[1, pieces.len() - 1]);
        assert!(recovered.may_lack("test.b") && recovered.may_lack("zzz") && !recovered.may_lack("accounts.users"));
    }

    #[test]
    fn an_unchanged_stretch_of_rows_is_in_the_same_pieces() {
        let (store, before) = pieces();
        store.write_blocking::<_, StoreError>(|tx| tx.put(B, b"", b"first")).unwrap();
        let mut dump = Dump::new(store.snapshot().unwrap()).unwrap();
        let after: Vec<Vec<u8>> = std::iter::from_fn(|| dump.next_piece().unwrap()).collect();
        let new = after.iter().filter(|piece| !before.contains(piece)).count();
        assert!(new <= 2, "{new} of {}", after.len());
    }
}
