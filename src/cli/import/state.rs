//! How far an import from Redis is, and what its notes say of a key.

use serde::{Deserialize, Serialize};

use super::notes::{self, FACTS, Facts, Found};
use crate::base::Timestamp;

/// Bytes of an id: the database and 16 of a hash.
pub(super) const ID: usize = 17;
/// Under which it is noted that libraries of functions were left out.
pub(super) const FUNCTIONS: [u8; ID] = notes::whole();

pub(super) type Notes = notes::Notes<ID, Value>;
pub(super) type Changes = notes::Changes<ID, Value>;
pub(super) type Row = notes::Row<Value>;

/// What is noted of a key: `expiry in ms, 0 without (8, big-endian) | digest of the value (16)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub expires: u64,
    pub digest: [u8; 16],
}

impl Facts for Value {
    const TABLE: &'static str = "keys";

    fn bytes(self) -> [u8; FACTS] {
        let mut out = [0; FACTS];
        let (expires, digest) = out.split_at_mut(8);
        expires.copy_from_slice(&self.expires.to_be_bytes());
        digest.copy_from_slice(&self.digest);
        out
    }

    fn parse(bytes: [u8; FACTS]) -> Self {
        let [e0, e1, e2, e3, e4, e5, e6, e7, digest @ ..] = bytes;
        Self { expires: u64::from_be_bytes([e0, e1, e2, e3, e4, e5, e6, e7]), digest }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::notes::VERSION;

    #[test]
    fn a_key_has_another_id_in_another_database_and_its_facts_come_back() {
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
        assert_ne!(state.id(0, b"k"), state.id(1, b"k"));
        let value = Value { expires: 1 << 40, digest: state.digest(b"v") };
        assert_eq!(Value::parse(value.bytes()), value);
    }
}
