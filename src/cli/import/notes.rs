//! What an import has copied, in a file of the data folder, so that it can be interrupted and can tell what has changed.
//!
//! One row for each thing that is copied (a key, an object), named by a keyed hash: the file holds no name and no value. What
//! is written to the server is noted as intended first, and as written only once the server has it on disk; whatever says
//! how far the import is never runs ahead of that. So after an end at any moment, what the server may have got from here is
//! known, and everything that is not known to be as the source has it is copied again.
//!
//! Rows are alike for all sources but for their [`Facts`]; [`state`](super::state) and [`s3`](super::s3) say what theirs are,
//! and how far an import of theirs is.

use std::marker::PhantomData;
use std::path::Path;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");

/// Bytes of what a row says beside how its thing stands.
pub(super) const FACTS: usize = 24;
/// Bytes of a row: kind, pass, facts.
const ROW: usize = 5 + FACTS;
/// Bytes of memory for the file.
const CACHE: usize = 16 << 20;
/// Of so many things that were left out it is noted which they are.
const MOST_NAMED: u64 = 1000;
/// Version of this format.
pub(super) const VERSION: u32 = 1;

/// What a row says of a thing of one sort of source.
pub(super) trait Facts: Copy + Default {
    /// The table with the rows.
    const TABLE: &'static str;

    /// As they are in a row.
    fn bytes(self) -> [u8; FACTS];

    /// Out of a row.
    fn parse(bytes: [u8; FACTS]) -> Self;
}

/// A row: `kind (1) | pass (4, big-endian) | facts (24)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<F> {
    pub kind: Kind,
    /// The pass that saw it last.
    pub pass: u32,
    pub facts: F,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server may have it in any form.
    Intended,
    /// The server has it as the row says.
    Written,
    /// The server had one of this name before.
    Skipped,
}

impl<F: Facts> Row<F> {
    /// A row that says no more than how its thing stands.
    pub fn bare(kind: Kind, pass: u32) -> Self {
        Self { kind, pass, facts: F::default() }
    }

    fn bytes(self) -> [u8; ROW] {
        let mut out = [0; ROW];
        let (kind, rest) = out.split_at_mut(1);
        kind.fill(match self.kind {
            Kind::Intended => 0,
            Kind::Written => 1,
            Kind::Skipped => 2,
        });
        let (pass, facts) = rest.split_at_mut(4);
        pass.copy_from_slice(&self.pass.to_be_bytes());
        facts.copy_from_slice(&self.facts.bytes());
        out
    }

    fn parse(bytes: [u8; ROW]) -> Self {
        let [kind, p0, p1, p2, p3, facts @ ..] = bytes;
        Self {
            kind: match kind {
                1 => Kind::Written,
                2 => Kind::Skipped,
                _ => Kind::Intended,
            },
            pass: u32::from_be_bytes([p0, p1, p2, p3]),
            facts: F::parse(facts),
        }
    }
}

/// What a pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// What was not there before.
    pub new: u64,
    /// What had become another.
    pub changed: u64,
    /// What the source does not have any more, removed here.
    pub removed: u64,
}

impl Found {
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What is to be noted together; ids have `ID` bytes.
#[derive(Debug, Default)]
pub(super) struct Changes<const ID: usize, F> {
    /// Rows; `None` for one that goes.
    pub rows: Vec<([u8; ID], Option<Row<F>>)>,
    /// What was left out, with its reason; `None` for what is not any more.
    pub left: Vec<([u8; ID], Option<String>)>,
    /// Forget first what was left out, which a new pass finds again, but for [`whole`].
    pub clear_left: bool,
}

impl<const ID: usize, F> Changes<ID, F> {
    pub fn len(&self) -> usize {
        self.rows.len().saturating_add(self.left.len())
    }
}

/// The id of what no pass finds again when it was left out.
pub(super) const fn whole<const ID: usize>() -> [u8; ID] {
    [255; ID]
}

/// The part of what says how far an import is that tells whether the rest can be read.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The file.
pub(super) struct Notes<const ID: usize, F> {
    file: Database,
    facts: PhantomData<F>,
}

impl<const ID: usize, F: Facts> Notes<ID, F> {
    const ROWS: TableDefinition<'static, &'static [u8; ID], &'static [u8; ROW]> = TableDefinition::new(F::TABLE);
    const LEFT: TableDefinition<'static, &'static [u8; ID], &'static str> = TableDefinition::new("left");

    /// Opens the file at `path`, or makes it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = Database::builder().set_cache_size(CACHE).create(path);
        let file = file.with_context(|| format!("the notes of the import at {}", path.display()))?;
        Ok(Self { file, facts: PhantomData })
    }

    /// How far an earlier import is.
    pub fn state<S: DeserializeOwned>(&self) -> anyhow::Result<Option<S>> {
        let read = self.file.begin_read()?;
        let Ok(table) = read.open_table(HEAD) else { return Ok(None) };
        let Some(row) = table.get("state")? else { return Ok(None) };
        let known = serde_json::from_slice(row.value()).is_ok_and(|state: Versioned| state.version == VERSION);
        Ok(if known { serde_json::from_slice(row.value()).ok() } else { None })
    }

    /// The rows of `ids`.
    pub fn rows(&self, ids: &[[u8; ID]]) -> anyhow::Result<Vec<Option<Row<F>>>> {
        let read = self.file.begin_read()?;
        let table = read.open_table(Self::ROWS)?;
        ids.iter().map(|id| Ok(table.get(id)?.map(|row| Row::parse(*row.value())))).collect()
    }

    /// Notes `changes` and `state`; when this returns, they are on disk.
    pub fn commit<S: Serialize>(&self, changes: Changes<ID, F>, state: &S) -> anyhow::Result<()> {
        let write = self.file.begin_write()?;
        {
            write.open_table(HEAD)?.insert("state", serde_json::to_vec(state)?.as_slice())?;
            let mut rows = write.open_table(Self::ROWS)?;
            for (id, row) in changes.rows {
                match row {
                    Some(row) => rows.insert(&id, &row.bytes())?,
                    None => rows.remove(&id)?,
                };
            }
            let mut left = write.open_table(Self::LEFT)?;
            if changes.clear_left {
                left.retain(|id, _| *id == whole())?;
            }
            for (id, reason) in changes.left {
                let named = left.len()? < MOST_NAMED;
                match reason {
                    Some(reason) => left.insert(&id, if named { reason.as_str() } else { "" })?,
                    None => left.remove(&id)?,
                };
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Calls `look` with every row.
    pub fn each(&self, mut look: impl FnMut(Row<F>)) -> anyhow::Result<()> {
        let read = self.file.begin_read()?;
        for row in read.open_table(Self::ROWS)?.iter()? {
            look(Row::parse(*row?.1.value()));
        }
        Ok(())
    }

    /// How many things are left out, and which some of them are, and why.
    pub fn left(&self) -> anyhow::Result<(u64, Vec<String>)> {
        let read = self.file.begin_read()?;
        let table = read.open_table(Self::LEFT)?;
        let mut named = Vec::new();
        for row in table.iter()? {
            let (_, reason) = row?;
            if !reason.value().is_empty() {
                named.push(reason.value().to_owned());
            }
        }
        named.sort();
        Ok((table.len()?, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Plain([u8; FACTS]);

    impl Facts for Plain {
        const TABLE: &'static str = "things";

        fn bytes(self) -> [u8; FACTS] {
            self.0
        }

        fn parse(bytes: [u8; FACTS]) -> Self {
            Self(bytes)
        }
    }

    type Notes = super::Notes<3, Plain>;
    type Changes = super::Changes<3, Plain>;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct State {
        version: u32,
        far: u32,
    }

    #[test]
    fn rows_come_back() {
        for kind in [Kind::Intended, Kind::Written, Kind::Skipped] {
            let row = Row { kind, pass: 7, facts: Plain([9; FACTS]) };
            assert_eq!(Row::parse(row.bytes()), row);
        }
    }

    #[test]
    fn notes_are_there_after_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.redb");
        let state = State { version: VERSION, far: 12 };
        let (one, two) = ([1; 3], [2; 3]);
        let row = Row { kind: Kind::Written, pass: 1, facts: Plain([5; FACTS]) };
        {
            let notes = Notes::open(&path).unwrap();
            assert_eq!(notes.state::<State>().unwrap(), None);
            let left = vec![(two, Some(String::from("why"))), (whole(), Some(String::from("all of it")))];
            notes.commit(Changes { rows: vec![(one, Some(row))], left, clear_left: false }, &state).unwrap();
        }
        let notes = Notes::open(&path).unwrap();
        assert_eq!(notes.state().unwrap(), Some(state));
        assert_eq!(notes.rows(&[one, two]).unwrap(), [Some(row), None]);
        let mut all = Vec::new();
        notes.each(|row| all.push(row)).unwrap();
        assert_eq!(all, [row]);
        assert_eq!(notes.left().unwrap(), (2, vec![String::from("all of it"), String::from("why")]));
        let later = State { version: VERSION + 1, far: 1 };
        notes.commit(Changes { clear_left: true, ..Changes::default() }, &later).unwrap();
        assert_eq!(notes.left().unwrap(), (1, vec![String::from("all of it")]));
        assert_eq!(notes.state::<State>().unwrap(), None, "of a later release");
    }
}
