//! The types of values: small ones as packed records, large ones as structures.

pub(super) mod string;

use super::config::KvConfig;
use super::entry::Entry;
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
}

impl Kind {
    /// The kind of stored bits; what is no kind reads as a string, which any bytes are.
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::List,
            2 => Self::Set,
            3 => Self::Hash,
            4 => Self::ZSet,
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
pub enum Collection {}

impl Collection {
    /// The type.
    pub const fn kind(&self) -> Kind {
        match *self {}
    }

    /// Bytes it takes.
    pub const fn memory(&self) -> usize {
        match *self {}
    }

    /// Appends the records of its dump.
    pub const fn dump(&self, _target: &mut Vec<u8>) {
        match *self {}
    }

    /// Whether nothing is left in it.
    pub const fn is_empty(&self) -> bool {
        match *self {}
    }
}

/// Makes a collection from the body of a dump; `None` when it is malformed or empty.
pub(super) fn load(
    _form: u8,
    _key: &[u8],
    _body: &[u8],
    _access: u32,
    _limits: Limits,
    _hashing: &Hashing,
) -> Option<Entry> {
    None
}
