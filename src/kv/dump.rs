//! One value as bytes, for checkpoints, `RENAME`, `COPY` and moves.
//!
//! # Layout, version 1
//! `version (1 byte, 1) | form (1 byte) | body`; lengths LEB128, a *record* is length and bytes:
//!
//! | form | body |
//! |---|---|
//! | 0 | a string's bytes |
//! | 1 | list: records |
//! | 2 | set: records |
//! | 3 | hash: records, field and value in turn |
//! | 4 | sorted set: record and 8 bytes of score each (order-preserving form, little-endian), sorted |
//! | 5 | stream: see `value/stream/stored.rs` |
//!
//! The form is the [`Kind`]; small and large values look the same, so the loading side decides anew what it packs.

use super::entry::{Body, Entry};
use super::keyspace::Keyspace;
use super::number;
use super::table::Hashing;
use super::value::{self, Kind, Limits};

const VERSION: u8 = 1;

/// Bytes that hold no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// Written by a newer release.
    #[error("a dumped value has layout version {0}, this release reads 1")]
    Version(u8),
    /// Cut short, or not what the layout says.
    #[error("a dumped value is malformed")]
    Malformed,
    /// No such database.
    #[error("a dumped value belongs to store {0}, there are 16")]
    Store(u8),
}

/// Appends the value of `entry` to `target`; key and expiry are not part of it.
pub fn dump(entry: &Entry, target: &mut Vec<u8>) {
    target.extend_from_slice(&[VERSION, entry.kind() as u8]);
    match (entry.as_integer(), entry.body()) {
        (Some(value), _) => target.extend_from_slice(number::integer_text(value).as_bytes()),
        (None, Body::Packed(payload)) => target.extend_from_slice(payload),
        (None, Body::Big(value)) => value.dump(target),
    }
}

/// Makes an entry from a dumped value.
pub(super) fn load(
    key: &[u8],
    bytes: &[u8],
    access: u32,
    limits: Limits,
    hashing: &Hashing,
) -> Result<Entry, DumpError> {
    let (version, rest) = bytes.split_first().ok_or(DumpError::Malformed)?;
    if *version != VERSION {
        return Err(DumpError::Version(*version));
    }
    let (form, body) = rest.split_first().ok_or(DumpError::Malformed)?;
    if *form == Kind::String as u8 {
        return Ok(string(key, body, access));
    }
    value::load(*form, key, body, access, limits, hashing).ok_or(DumpError::Malformed)
}

/// A string entry, as an integer where the text is one.
pub(super) fn string(key: &[u8], value: &[u8], access: u32) -> Entry {
    match number::integer(value) {
        Some(number) => Entry::integer(key, number, access),
        None => Entry::packed(Kind::String, key, value, access),
    }
}

impl Keyspace {
    /// Makes room for `keys` keys. Most servers keep all of theirs in database 0.
    pub fn expect(&mut self, keys: u64) {
        if let Some(database) = self.databases.first_mut() {
            database.entries.reserve(usize::try_from(keys).unwrap_or(0));
        }
    }

    /// Brings what the next changes of `keys` (store and key) will touch into the processor's caches, all of it at once
    /// instead of one after the other: on a large keyspace waiting for memory is most of the cost of a change.
    pub fn warm<'k>(&self, keys: impl Iterator<Item = (u8, &'k [u8])>) {
        let touched: usize = keys
            .filter_map(|(store, key)| Some((self.databases.get(usize::from(store))?, key)))
            .map(|(database, key)| database.entries.warm(self.hashing.hash(key), Entry::is_packed))
            .sum();
        std::hint::black_box(touched);
    }

    /// Puts a dumped value under a key of a store, in place of whatever it holds; records no effect. For recovery.
    ///
    /// # Errors
    /// The bytes are no value; nothing has changed.
    pub fn load(&mut self, store: u8, key: &[u8], expires: Option<u64>, bytes: &[u8]) -> Result<(), DumpError> {
        let mut entry = load(key, bytes, self.clock.second(), Limits::of(&self.config), &self.hashing)?;
        entry.set_expires(expires);
        let Self { databases, hashing, .. } = self;
        let database = databases.get_mut(usize::from(store)).ok_or(DumpError::Store(store))?;
        match database.find(hashing, key) {
            Some(place) => {
                database.change(place, |old| *old = entry);
            }
            None => {
                database.add(hashing, entry);
            }
        }
        Ok(())
    }
}
