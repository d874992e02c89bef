//! What an import has copied, in a file of the data folder, so that it can be interrupted and can tell what has changed.
//!
//! One row for each key, named by a keyed hash of database and key: the file holds no key and no value. What is written
//! to the server is noted as intended first and as written only once the server has it on disk; the cursor never runs
//! ahead of that. So after an end at any moment, what the server may have got from here is known, and everything that is
//! not known to be as the source has it is copied again.

use std::path::Path;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
const KEYS: TableDefinition<'_, &[u8; ID], &[u8; ROW]> = TableDefinition::new("keys");
const LEFT: TableDefinition<'_, &[u8; ID], &str> = TableDefinition::new("left");

/// Bytes of an id: the database and 16 of a hash.
pub(super) const ID: usize = 17;
/// Under which it is noted that libraries of functions were left out.
pub(super) const FUNCTIONS: [u8; ID] = [255; ID];
/// Bytes of a row: kind, pass, expiry, digest.
const ROW: usize = 29;
/// Bytes of memory for the file.
const CACHE: usize = 16 << 20;
/// Of so many keys that were left out it is noted which they are.
const MOST_NAMED: u64 = 1000;
/// Version of this format.
pub(super) const VERSION: u32 = 1;

/// A key's row: `kind (1) | pass (4) | expiry in ms, 0 without (8) | digest of the value (16)`, numbers big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub kind: Kind,
    /// The pass that saw it last.
    pub pass: u32,
    pub expires: u64,
    pub digest: [u8; 16],
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server may have it in any form.
    Intended,
    /// The server has it as the row says.
    Written,
    /// The server had a key of this name before.
    Skipped,
}

impl Row {
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
        let (expires, digest) = rest.split_at_mut(8);
        expires.copy_from_slice(&self.expires.to_be_bytes());
        digest.copy_from_slice(&self.digest);
        out
    }

    fn parse(bytes: [u8; ROW]) -> Self {
        let [kind, p0, p1, p2, p3, e0, e1, e2, e3, e4, e5, e6, e7, digest @ ..] = bytes;
        Self {
            kind: match kind {
                1 => Kind::Written,
                2 => Kind::Skipped,
                _ => Kind::Intended,
            },
            pass: u32::from_be_bytes([p0, p1, p2, p3]),
            expires: u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]),
            digest,
        }
    }
}

/// What a pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Keys that were not there before.
    pub new: u64,
    /// Keys whose value or expiry was another.
    pub changed: u64,
    /// Keys the source does not have any more.
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
    /// The key of ids and digests.
    pub secret: [u8; 32],
    /// Whether functions are done.
    pub functions: bool,
    /// The pass, from 1.
    pub pass: u32,
    /// Databases of the source that this pass has been through.
    pub databases: u32,
    /// Whether the pass looks for what is gone.
    pub removing: bool,
    pub cursor: u64,
    /// Values copied and their bytes, all passes together.
    pub copied: u64,
    pub bytes: u64,
    /// What this pass has found up to now, and what the ones before have found.
    pub found: Found,
    pub passes: Vec<Found>,
}

impl State {
    /// The row's name of a key.
    pub fn id(&self, db: u8, key: &[u8]) -> [u8; ID] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&[0, db]).update(key);
        let mut id = [db; ID];
        id[1..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        id
    }

    /// The digest of a value.
    pub fn digest(&self, payload: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&[1]).update(payload);
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *hasher.finalize().as_bytes();
        digest
    }
}

/// What is to be noted.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub rows: Vec<([u8; ID], Option<Row>)>,
    /// Left out and why; `None` takes it back.
    pub left: Vec<([u8; ID], Option<String>)>,
    /// Forget which keys were left out: a new pass finds them again.
    pub clear_left: bool,
}

impl Changes {
    pub fn len(&self) -> usize {
        self.rows.len() + self.left.len()
    }
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

    /// How far an interrupted import is.
    pub fn state(&self) -> anyhow::Result<Option<State>> {
        let read = self.file.begin_read()?;
        let Ok(table) = read.open_table(HEAD) else { return Ok(None) };
        let Some(row) = table.get("state")? else { return Ok(None) };
        Ok(serde_json::from_slice(row.value()).ok().filter(|state: &State| state.version == VERSION))
    }

    /// The rows of `ids`.
    pub fn rows(&self, ids: &[[u8; ID]]) -> anyhow::Result<Vec<Option<Row>>> {
        let read = self.file.begin_read()?;
        let table = read.open_table(KEYS)?;
        ids.iter().map(|id| Ok(table.get(id)?.map(|row| Row::parse(*row.value())))).collect()
    }

    /// Notes `changes` and `state`; when this returns, they are on disk.
    pub fn commit(&self, changes: Changes, state: &State) -> anyhow::Result<()> {
        let write = self.file.begin_write()?;
        {
            write.open_table(HEAD)?.insert("state", serde_json::to_vec(state)?.as_slice())?;
            let mut keys = write.open_table(KEYS)?;
            for (id, row) in changes.rows {
                match row {
                    Some(row) => keys.insert(&id, &row.bytes())?,
                    None => keys.remove(&id)?,
                };
            }
            let mut left = write.open_table(LEFT)?;
            if changes.clear_left {
                left.retain(|id, _| *id == FUNCTIONS)?;
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

    /// How many keys are left out, and which some of them are.
    pub fn left(&self) -> anyhow::Result<(u64, Vec<String>)> {
        let read = self.file.begin_read()?;
        let table = read.open_table(LEFT)?;
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

    /// How many keys were there already and stayed as they were.
    pub fn skipped(&self) -> anyhow::Result<u64> {
        let read = self.file.begin_read()?;
        let mut count = 0;
        for row in read.open_table(KEYS)?.iter()? {
            count += u64::from(Row::parse(*row?.1.value()).kind == Kind::Skipped);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        for kind in [Kind::Intended, Kind::Written, Kind::Skipped] {
            let row = Row { kind, pass: 7, expires: 1 << 40, digest: [9; 16] };
            assert_eq!(Row::parse(row.bytes()), row);
        }
    }

    #[test]
    fn notes_are_there_after_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.redb");
        let state = State {
            version: VERSION,
            started: Timestamp(1),
            touched: Timestamp(1),
            secret: [3; 32],
            functions: true,
            pass: 1,
            databases: 0,
            removing: false,
            cursor: 12,
            copied: 1,
            bytes: 2,
            found: Found::default(),
            passes: Vec::new(),
        };
        let (one, two) = (state.id(0, b"k"), state.id(1, b"k"));
        assert_ne!(one, two);
        let row = Row { kind: Kind::Written, pass: 1, expires: 0, digest: state.digest(b"v") };
        {
            let notes = Notes::open(&path).unwrap();
            assert!(notes.state().unwrap().is_none());
            let left = vec![(two, Some(String::from("why")))];
            notes.commit(Changes { rows: vec![(one, Some(row))], left, clear_left: false }, &state).unwrap();
        }
        let notes = Notes::open(&path).unwrap();
        assert_eq!(notes.state().unwrap().unwrap().cursor, 12);
        assert_eq!(notes.rows(&[one, two]).unwrap(), [Some(row), None]);
        assert_eq!(notes.left().unwrap(), (1, vec![String::from("why")]));
        notes.commit(Changes { clear_left: true, ..Changes::default() }, &state).unwrap();
        assert_eq!(notes.left().unwrap().0, 0);
    }
}
