//! The types of values: small ones as packed records, large ones as structures.

pub mod geo;
pub mod hash;
pub mod list;
pub mod set;
pub mod stream;
pub mod string;
pub mod tree;
pub mod zset;

use super::config::KvConfig;
use super::entry::Entry;
use super::packed;
use super::table::Hashing;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes, or a 64-bit integer.
    String = 0,
    /// A sequence with cheap ends.
    List = 1,
    /// Distinct members.
    Set = 2,
    /// Fields with values.
    Hash = 3,
    /// Distinct members in the order of their scores.
    ZSet = 4,
    /// Entries in the order of their ids.
    Stream = 5,
}

impl Kind {
    /// The kind of stored bits; what is no kind reads as a string, which any bytes are.
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::List,
            2 => Self::Set,
            3 => Self::Hash,
            4 => Self::ZSet,
            5 => Self::Stream,
            _ => Self::String,
        }
    }

    /// The name `TYPE` answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::ZSet => "zset",
            Self::Stream => "stream",
        }
    }
}

/// Up to where a collection stays packed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of payload.
    pub bytes: usize,
    /// Elements; fields for hashes.
    pub elements: usize,
}

impl Limits {
    /// What the settings say.
    pub const fn of(config: &KvConfig) -> Self {
        Self { bytes: config.packed_bytes as usize, elements: config.packed_elements as usize }
    }
}

/// A value that outgrew the packed form.
#[derive(Debug)]
pub enum Collection {
    /// See [`list`].
    List(list::List),
    /// See [`set`].
    Set(set::Set),
    /// See [`hash`].
    Hash(hash::Hash),
    /// See [`zset`].
    ZSet(zset::ZSet),
    /// See [`stream`].
    Stream(stream::Stream),
}

impl Collection {
    /// The type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::List(_) => Kind::List,
            Self::Set(_) => Kind::Set,
            Self::Hash(_) => Kind::Hash,
            Self::ZSet(_) => Kind::ZSet,
            Self::Stream(_) => Kind::Stream,
        }
    }

    /// Bytes it takes; known without walking it.
    pub fn memory(&self) -> usize {
        match self {
            Self::List(list) => list.memory(),
            Self::Set(set) => set.memory(),
            Self::Hash(hash) => hash.memory(),
            Self::ZSet(set) => set.memory(),
            Self::Stream(stream) => stream.memory(),
        }
    }

    /// Whether nothing is left in it; a stream without entries is still one.
    pub const fn is_empty(&self) -> bool {
        match self {
            Self::List(list) => list.is_empty(),
            Self::Set(set) => set.is_empty(),
            Self::Hash(hash) => hash.is_empty(),
            Self::ZSet(set) => set.is_empty(),
            Self::Stream(_) => false,
        }
    }

    /// Appends the body of its dump.
    pub fn dump(&self, target: &mut Vec<u8>) {
        match self {
            Self::List(list) => list.dump(target),
            Self::Set(set) => set.dump(target),
            Self::Hash(hash) => hash.dump(target),
            Self::ZSet(set) => set.dump(target),
            Self::Stream(stream) => stream.dump(target),
        }
    }
}

/// Makes a collection from the body of a dump; `None` when it is malformed or empty.
pub(super) fn load(form: u8, key: &[u8], body: &[u8], access: u32, limits: Limits, hashing: &Hashing) -> Option<Entry> {
    match form {
        1 => list::load(key, body, access, limits, hashing),
        2 => set::load(key, body, access, limits, hashing),
        3 => hash::load(key, body, access, limits, hashing),
        4 => zset::load(key, body, access, limits, hashing),
        5 => stream::load(key, body, access),
        _ => None,
    }
}

/// How many records `body` holds; `None` when something else is in it.
fn whole_records(body: &[u8]) -> Option<usize> {
    let mut records = packed::Records::new(body);
    let count = records.by_ref().count();
    (records.at() == body.len()).then_some(count)
}
