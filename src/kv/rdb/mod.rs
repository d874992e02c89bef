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
mod packs;
mod read;
mod write;

pub use read::{Frame, read};
pub use write::write;

/// The version that is written.
const WRITTEN: u16 = 10;
/// The latest version that is read: that of Redis 7.2. Later ones may hold types this release does not know.
const READ: u16 = 11;
/// Version and checksum.
const FOOTER: usize = 10;

/// Type bytes.
mod types {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET_TEXT: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET: u8 = 5;
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
pub fn unwrap(payload: &[u8]) -> Result<&[u8], RdbError> {
    let (value, footer) =
        payload.len().checked_sub(FOOTER).and_then(|at| payload.split_at_checked(at)).ok_or(RdbError::Footer)?;
    let (version, sum) = footer.split_first_chunk::<2>().ok_or(RdbError::Footer)?;
    let whole = payload.get(..value.len() + 2).ok_or(RdbError::Footer)?;
    let right = u16::from_le_bytes(*version) <= READ && sum == crc64(whole).to_le_bytes();
    if right && !value.is_empty() { Ok(value) } else { Err(RdbError::Footer) }
}

/// Adds version and checksum to a value.
pub fn wrap(mut value: Vec<u8>) -> Vec<u8> {
    value.extend_from_slice(&WRITTEN.to_le_bytes());
    let sum = crc64(&value);
    value.extend_from_slice(&sum.to_le_bytes());
    value
}

/// CRC-64 with the polynomial of Jones, reflected, without inversion.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc: u64, byte| TABLE.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or(0) ^ crc >> 8)
}

static TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "the index is below 256, and this runs at compile time")]
        {
            table[at] = crc;
        }
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests;
