//! Values in the form Redis writes them: what `DUMP` answers and `RESTORE` reads.
//!
//! # Layout
//! `type (1 byte) | value | version (2 bytes) | CRC-64 of everything before (8 bytes)`, both little-endian. Written is
//! version 10 with the plain types, which Redis 7.0 and every later release read; read are the types of all releases
//! since 2.6 but for modules and fields with lifetimes of their own ([`read`]).
//!
//! Source: `redis.io`'s description of the RDB file format, and what redis-server 7.0 writes.
#![deny(clippy::indexing_slicing)]

mod bytes;
mod file;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod packs;
mod payload;
mod read;
mod write;

pub use file::{FileError, FileReader, Found};
pub use payload::{FOOTER, open, put_string, seal, take_string};
pub use read::{Frame, read};
pub use write::write;

/// Type bytes.
mod types {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET: u8 = 5;
    pub const MODULE: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTEGERS: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_ZIPLISTS: u8 = 14;
    pub const STREAM_1: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_LISTPACKS: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// Hashes whose fields have lifetimes, which are not known here.
    pub const HASH_FIELDS: u8 = 24;
    pub const HASH_FIELDS_LISTPACK: u8 = 25;
}

/// Why bytes are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    /// Written by a later release, or damaged.
    #[error("DUMP payload version or checksum are wrong")]
    Footer,
    /// A type that is not known here, or not what its type says.
    #[error("Bad data format")]
    Malformed,
    /// A string, or all of it together, is longer than `kv.max_value`.
    #[error("Bad data format, a value is longer than allowed")]
    TooLong,
}

/// The value in a payload, its type byte included, if version and checksum are right.
///
/// # Errors
/// [`RdbError::Footer`].
pub fn unwrap(bytes: &[u8]) -> Result<&[u8], RdbError> {
    open(bytes).filter(|value| !value.is_empty()).ok_or(RdbError::Footer)
}

/// Adds version and checksum to a value.
pub fn wrap(mut value: Vec<u8>) -> Vec<u8> {
    seal(&mut value);
    value
}

#[cfg(test)]
mod older_tests;
#[cfg(test)]
mod tests;
