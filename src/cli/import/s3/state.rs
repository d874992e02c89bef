//! What an import has copied, in a file of the data folder, so that it can be interrupted and can tell what has changed.
//!
//! One row for each object, named by a keyed hash of its key: the file holds no key. A write is noted as intended before it
//! begins and as written once the server has acknowledged it, so after an end at any moment what the server may have got
//! from here is known, and everything that is not known to be as the source has it is copied again.

use std::path::Path;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::answers::Listed;
use crate::base::Timestamp;

const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
const OBJECTS: TableDefinition<'_, &[u8; ID], &[u8; ROW]> = TableDefinition::new("objects");
const LEFT: TableDefinition<'_, &[u8; ID], &str> = TableDefinition::new("left");

/// Bytes of an id: a hash.
pub(super) const ID: usize = 16;
/// Bytes of a row: kind, pass, mark, tag.
const ROW: usize = 29;
/// Bytes of memory for the file.
const CACHE: usize = 16 << 20;
/// Of so many objects that were left out it is noted which they are.
const MOST_NAMED: u64 = 1000;
/// Version of this format.
pub(super) const VERSION: u32 = 1;

/// An object's row: `kind (1) | pass (4, big-endian) | mark (16) | tag (8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub kind: Kind,
    /// The pass that saw it last.
    pub pass: u32,
    /// What the source had, as [`State::mark`] tells it from another.
    pub mark: [u8; 16],
    /// The ETag it got here, as [`State::tag`] tells it from another.
    pub tag: [u8; 8],
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server may have it in any form.
    Intended,
    /// The server has it as the row says.
    Written,
    /// The server had an object of this name before.
    Skipped,
}

impl Row {
    /// What is noted before a write.
    pub fn intended(pass: u32) -> Self {
        Self { kind: Kind::Intended, pass, mark: [0; 16], tag: [0; 8] }
    }

    fn bytes(self) -> [u8; ROW] {
        let mut out = [0; ROW];
        let (kind, rest) = out.split_at_mut(1);
        kind.fill(match self.kind {
            Kind::Intended => 0,
            Kind::Written => 1,
            Kind::Skipped => 2,
        });
        let (pass, rest) = rest.split_at_mut(4);
        pass.copy_from_slice(&self.pass.to_be_bytes());
        let (mark, tag) = rest.split_at_mut(16);
        mark.copy_from_slice(&self.mark);
        tag.copy_from_slice(&self.tag);
        out
    }

    fn parse(bytes: [u8; ROW]) -> Self {
        let [kind, p0, p1, p2, p3, rest @ ..] = bytes;
        let (mut mark, mut tag) = ([0; 16], [0; 8]);
        let (first, last) = rest.split_at(16);
        mark.copy_from_slice(first);
        tag.copy_from_slice(last);
        Self {
            kind: match kind {
                1 => Kind::Written,
                2 => Kind::Skipped,
                _ => Kind::Intended,
            },
            pass: u32::from_be_bytes([p0, p1, p2, p3]),
            mark,
            tag,
        }
    }
}

/// What a pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Objects that were not there before.
    pub new: u64,
    /// Objects that were others.
    pub changed: u64,
    /// Objects the source does not have any more, removed here.
    pub removed: u64,
}

impl Found {
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// How far the import is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub version: u32,
    pub started: Timestamp,
    /// When it was last gone on with.
    pub touched: Timestamp,
    /// The key of all hashes.
    pub secret: [u8; 32],
    /// The pass, from 1.
    pub pass: u32,
    /// Objects copied and their bytes, all passes together.
    pub copied: u64,
    pub bytes: u64,
}

impl State {
    fn hash(&self, what: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&[what]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        *hasher.finalize().as_bytes()
    }

    /// The row's name of an object.
    pub fn id(&self, key: &str) -> [u8; ID] {
        first(&self.hash(0, &[key.as_bytes()]))
    }

    /// What tells an object of the source from what it may become.
    pub fn mark(&self, object: &Listed) -> [u8; 16] {
        let (size, modified) = (object.size.to_be_bytes(), object.modified.to_be_bytes());
        first(&self.hash(1, &[object.etag.as_bytes(), &size, &modified]))
    }

    /// What tells an ETag from another.
    pub fn tag(&self, etag: &str) -> [u8; 8] {
        first(&self.hash(2, &[etag.as_bytes()]))
    }
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

/// What is to be noted together.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Rows; `None` for one that goes.
    pub rows: Vec<([u8; ID], Option<Row>)>,
    /// What was left out, with its reason; `None` for what is not any more.
    pub left: Vec<([u8; ID], Option<String>)>,
    /// Forget first what was left out.
    pub clear_left: bool,
}

impl Changes {
    pub fn len(&self) -> usize {
        self.rows.len().saturating_add(self.left.len())
    }
}

/// What the notes come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Objects that are here as the source has them.
    pub here: u64,
    /// Objects that were there already and stayed as they were.
    pub skipped: u64,
    /// Objects that were copied once and that the source does not have any more.
    pub gone: u64,
    /// Objects that were left out.
    pub left: u64,
    /// Which some of them are, and why.
    pub named: Vec<String>,
}

/// The file.
pub(super) struct Notes {
    file: Database,
}

impl Notes {
    /// Opens the file at `path`, or makes it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = Database::builder().set_cache_size(CACHE).create(path);
        Ok(Self { file: file.with_context(|| format!("the notes of the import at {}", path.display()))? })
    }

    /// How far an earlier import is.
    pub fn state(&self) -> anyhow::Result<Option<State>> {
        let read = self.file.begin_read()?;
        let Ok(table) = read.open_table(HEAD) else { return Ok(None) };
        let Some(row) = table.get("state")? else { return Ok(None) };
        Ok(serde_json::from_slice(row.value()).ok().filter(|state: &State| state.version == VERSION))
    }

    /// The rows of `ids`.
    pub fn rows(&self, ids: &[[u8; ID]]) -> anyhow::Result<Vec<Option<Row>>> {
        let read = self.file.begin_read()?;
        let table = read.open_table(OBJECTS)?;
        ids.iter().map(|id| Ok(table.get(id)?.map(|row| Row::parse(*row.value())))).collect()
    }

    /// Notes `changes` and `state`; when this returns, they are on disk.
    pub fn commit(&self, changes: Changes, state: &State) -> anyhow::Result<()> {
        let write = self.file.begin_write()?;
        {
            write.open_table(HEAD)?.insert("state", serde_json::to_vec(state)?.as_slice())?;
            let mut objects = write.open_table(OBJECTS)?;
            for (id, row) in changes.rows {
                match row {
                    Some(row) => objects.insert(&id, &row.bytes())?,
                    None => objects.remove(&id)?,
                };
            }
            let mut left = write.open_table(LEFT)?;
            if changes.clear_left {
                left.retain(|_, _| false)?;
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

    /// What all rows come to after `pass`.
    pub fn totals(&self, pass: u32) -> anyhow::Result<Totals> {
        let read = self.file.begin_read()?;
        let mut totals = Totals::default();
        for row in read.open_table(OBJECTS)?.iter()? {
            let row = Row::parse(*row?.1.value());
            let count = match row.kind {
                Kind::Skipped if row.pass == pass => &mut totals.skipped,
                Kind::Written if row.pass == pass => &mut totals.here,
                Kind::Written => &mut totals.gone,
                Kind::Skipped | Kind::Intended => continue,
            };
            *count = count.saturating_add(1);
        }
        let left = read.open_table(LEFT)?;
        for row in left.iter()? {
            let (_, reason) = row?;
            if !reason.value().is_empty() {
                totals.named.push(reason.value().to_owned());
            }
        }
        totals.named.sort();
        totals.left = left.len()?;
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let (started, touched) = (Timestamp(1), Timestamp(1));
        State { version: VERSION, started, touched, secret: [3; 32], pass: 2, copied: 1, bytes: 2 }
    }

    #[test]
    fn rows_come_back() {
        for kind in [Kind::Intended, Kind::Written, Kind::Skipped] {
            let row = Row { kind, pass: 7, mark: [9; 16], tag: [8; 8] };
            assert_eq!(Row::parse(row.bytes()), row);
        }
    }

    #[test]
    fn another_etag_size_or_time_is_another_object() {
        let (state, key) = (state(), String::from("k"));
        let listed = Listed { key, etag: String::from("a"), size: 1, modified: 1 };
        let mark = state.mark(&listed);
        assert_eq!(mark, state.mark(&Listed { key: String::from("other"), ..listed.clone() }));
        assert_ne!(mark, state.mark(&Listed { size: 2, ..listed.clone() }));
        assert_ne!(mark, state.mark(&Listed { modified: 2, ..listed.clone() }));
        assert_ne!(mark, state.mark(&Listed { etag: String::from("b"), ..listed }));
    }

    #[test]
    fn notes_are_there_after_an_end_and_are_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.redb");
        let state = state();
        let ids = ["a", "b", "c", "d"].map(|key| state.id(key));
        let row = |kind, pass| Some(Row { kind, pass, mark: [1; 16], tag: [2; 8] });
        {
            let notes = Notes::open(&path).unwrap();
            assert!(notes.state().unwrap().is_none());
            let rows = vec![
                (ids[0], row(Kind::Written, 2)),
                (ids[1], row(Kind::Written, 1)),
                (ids[2], row(Kind::Skipped, 2)),
                (ids[3], row(Kind::Intended, 2)),
            ];
            let left = vec![(ids[3], Some(String::from("why")))];
            notes.commit(Changes { rows, left, clear_left: false }, &state).unwrap();
        }
        let notes = Notes::open(&path).unwrap();
        assert_eq!(notes.state().unwrap().unwrap().pass, 2);
        assert_eq!(notes.rows(&[ids[0], [0; ID]]).unwrap(), [row(Kind::Written, 2), None]);
        let totals = Totals { here: 1, skipped: 1, gone: 1, left: 1, named: vec![String::from("why")] };
        assert_eq!(notes.totals(2).unwrap(), totals);
        notes.commit(Changes { clear_left: true, ..Changes::default() }, &state).unwrap();
        assert_eq!(notes.totals(2).unwrap().left, 0);
    }
}
