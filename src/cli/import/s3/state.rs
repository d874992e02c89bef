//! How far an import from S3 is, what its notes say of an object, and what they come to.

use serde::{Deserialize, Serialize};

use super::answers::Listed;
use crate::base::Timestamp;
use crate::cli::import::notes::{self, FACTS, Facts, Kind};

/// Bytes of an id: a hash.
pub(super) const ID: usize = 16;

pub(super) type Notes = notes::Notes<ID, Copied>;
pub(super) type Changes = notes::Changes<ID, Copied>;
pub(super) type Row = notes::Row<Copied>;

/// What is noted of an object: three hashes of 8 bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// What the source had, as [`State::mark`] tells it from another.
    pub mark: [u8; 8],
    /// The tags it had at the source, as [`State::tags`] tells them from others.
    pub tags: [u8; 8],
    /// The ETag it got here, as [`State::etag`] tells it from another.
    pub etag: [u8; 8],
}

impl Facts for Copied {
    const TABLE: &'static str = "objects";

    fn bytes(self) -> [u8; FACTS] {
        let mut out = [0; FACTS];
        for (to, from) in out.iter_mut().zip([self.mark, self.tags, self.etag].as_flattened()) {
            *to = *from;
        }
        out
    }

    fn parse(bytes: [u8; FACTS]) -> Self {
        let (mark, rest) = bytes.split_at(8);
        let (tags, etag) = rest.split_at(8);
        Self { mark: first(mark), tags: first(tags), etag: first(etag) }
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
    pub fn mark(&self, object: &Listed) -> [u8; 8] {
        let (size, modified) = (object.size.to_be_bytes(), object.modified.to_be_bytes());
        first(&self.hash(1, &[object.etag.as_bytes(), &size, &modified]))
    }

    /// What tells an ETag from another.
    pub fn etag(&self, etag: &str) -> [u8; 8] {
        first(&self.hash(2, &[etag.as_bytes()]))
    }

    /// What tells tags, written as the header that sets them, from others.
    pub fn tags(&self, tags: &str) -> [u8; 8] {
        first(&self.hash(3, &[tags.as_bytes()]))
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
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

impl Totals {
    /// Of all rows, after `pass`.
    pub fn of(notes: &Notes, pass: u32) -> anyhow::Result<Self> {
        let mut totals = Self::default();
        notes.each(|row| {
            let count = match row.kind {
                Kind::Skipped if row.pass == pass => &mut totals.skipped,
                Kind::Written if row.pass == pass => &mut totals.here,
                Kind::Written => &mut totals.gone,
                Kind::Skipped | Kind::Intended => return,
            };
            *count = count.saturating_add(1);
        })?;
        (totals.left, totals.named) = notes.left()?;
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::notes::VERSION;

    fn state() -> State {
        let (started, touched) = (Timestamp(1), Timestamp(1));
        State { version: VERSION, started, touched, secret: [3; 32], pass: 2, copied: 1, bytes: 2 }
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
        assert_ne!(state.tags("a=b"), state.tags(""));
    }

    #[test]
    fn rows_are_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(&folder.path().join("n.redb")).unwrap();
        let state = state();
        let ids = ["a", "b", "c", "d"].map(|key| state.id(key));
        let facts = Copied { mark: [1; 8], tags: [2; 8], etag: [3; 8] };
        assert_eq!(Copied::parse(facts.bytes()), facts);
        let row = |kind, pass| Some(Row { kind, pass, facts });
        let rows = vec![
            (ids[0], row(Kind::Written, 2)),
            (ids[1], row(Kind::Written, 1)),
            (ids[2], row(Kind::Skipped, 2)),
            (ids[3], row(Kind::Intended, 2)),
        ];
        let left = vec![(ids[3], Some(String::from("why")))];
        notes.commit(Changes { rows, left, clear_left: false }, &state).unwrap();
        let totals = Totals { here: 1, skipped: 1, gone: 1, left: 1, named: vec![String::from("why")] };
        assert_eq!(Totals::of(&notes, 2).unwrap(), totals);
    }
}
