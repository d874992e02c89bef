//! RDB files: what `SAVE` writes, read piece by piece, one value in memory at a time.
//!
//! # Layout
//! `REDIS` and four digits of version; then opcodes and values; then opcode 255 and, since version 5, the CRC-64 of
//! everything before (0 for none). A value is `type | key | value`, the value as in [`super`]; what holds for it stands
//! before it.
//!
//! | opcode | what follows |
//! |---|---|
//! | 255 | the checksum, and the end |
//! | 254 | the database of what comes (length) |
//! | 253, 252 | when the next key goes: seconds (4 bytes), milliseconds (8 bytes), little-endian |
//! | 251 | how many keys and expiring keys come (two lengths) |
//! | 250 | something about the writer: two strings |
//! | 249, 248 | how often the next key was used (1 byte), how long it was not (length) |
//! | 247 | what a module keeps |
//! | 245 | a library of functions: its code |
//! | 244 | slot and sizes, of a cluster (three lengths) |
//!
//! Source: the RDB version history and file format as `rdb.h` of Redis 7.4 has them.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::io::{self, Read};

use crc_fast::{CrcAlgorithm, Digest};

use super::payload::unpack;
use super::types;
use crate::kv::number;

/// Newest version that is read.
const NEWEST: u32 = 12;
/// Bytes that are read at once.
const CHUNK: usize = 8 << 10;

/// Why a file is not read on.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading failed, or the file ends within something.
    #[error("the file cannot be read, or ends early, at byte {at}")]
    Read {
        /// Bytes read until then.
        at: u64,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// It does not begin as a dump does.
    #[error("the file is no RDB file")]
    Foreign,
    /// Written by a later release.
    #[error("the file has version {0}, read are 1 to {NEWEST}")]
    Version(u32),
    /// What stands there is nothing that is known; where the next value begins cannot be told.
    #[error("unknown or damaged at byte {at}: opcode or type {code}")]
    Unknown {
        /// Bytes read until then.
        at: u64,
        /// The byte that says what it is.
        code: u8,
    },
    /// A length is none, or larger than what is read.
    #[error("a length is damaged at byte {at}")]
    Length {
        /// Bytes read until then.
        at: u64,
    },
    /// The file's bytes are not those that were written.
    #[error("the checksum at the end of the file is wrong: it is damaged somewhere")]
    Checksum,
}

/// What stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The code of a library of functions.
    Library(Vec<u8>),
    /// A key.
    Value {
        /// Its database.
        db: u64,
        /// Its name.
        key: Vec<u8>,
        /// When it goes, in milliseconds since the Unix epoch; `None` for never.
        expires: Option<u64>,
        /// The type byte.
        kind: u8,
        /// Type byte and value, for [`wrap`](super::wrap); `None` when there are more bytes than allowed.
        value: Option<Vec<u8>>,
    },
    /// Something a module keeps, which only that module can read.
    Module,
}

/// Reads a file from its start to its end.
#[derive(Debug)]
pub struct FileReader<R> {
    from: R,
    at: u64,
    sum: Digest,
    version: u32,
    most: usize,
    db: u64,
    kept: Kept,
    over: bool,
}

/// What of the bytes read is kept.
#[derive(Debug)]
enum Kept {
    Nothing,
    All(Vec<u8>),
    /// There were too many.
    TooMany,
}

impl<R: Read> FileReader<R> {
    /// Reads the head of a file. A string or a value may have `most` bytes.
    ///
    /// # Errors
    /// [`FileError::Foreign`], [`FileError::Version`], [`FileError::Read`].
    pub fn new(from: R, most: usize) -> Result<Self, FileError> {
        let sum = Digest::new(CrcAlgorithm::Crc64Redis);
        let mut reader = Self { from, at: 0, sum, version: 0, most, db: 0, kept: Kept::Nothing, over: false };
        let head = reader.raw::<9>()?;
        let version = head.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        reader.version = version.ok_or(FileError::Foreign)?;
        if reader.version == 0 || reader.version > NEWEST {
            return Err(FileError::Version(reader.version));
        }
        Ok(reader)
    }

    /// Bytes read so far.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// What comes next; `None` at the end, whose checksum is right.
    ///
    /// # Errors
    /// The file is damaged or of another kind; nothing more can be read.
    pub fn advance(&mut self) -> Result<Option<Found>, FileError> {
        let mut expires = None;
        while !self.over {
            let [code] = self.raw()?;
            match code {
                255 => self.finish()?,
                254 => self.db = self.number()?,
                253 => expires = Some(u64::from(u32::from_le_bytes(self.raw()?)).saturating_mul(1000)),
                252 => expires = Some(u64::from_le_bytes(self.raw()?)),
                251 => self.numbers(2)?,
                250 => {
                    self.string()?;
                    self.string()?;
                }
                249 => {
                    self.raw::<1>()?;
                }
                248 => self.numbers(1)?,
                247 => {
                    // Which module, and when it is to be read.
                    self.numbers(3)?;
                    self.module(code)?;
                    return Ok(Some(Found::Module));
                }
                245 => {
                    let code = self.string()?.ok_or(FileError::Length { at: self.at })?;
                    return Ok(Some(Found::Library(code)));
                }
                244 => self.numbers(3)?,
                kind => {
                    let key = self.string()?.ok_or(FileError::Length { at: self.at })?;
                    self.kept = Kept::All(vec![kind]);
                    self.value(kind)?;
                    let value = match std::mem::replace(&mut self.kept, Kept::Nothing) {
                        Kept::All(value) => Some(value),
                        Kept::Nothing | Kept::TooMany => None,
                    };
                    return Ok(Some(Found::Value { db: self.db, key, expires, kind, value }));
                }
            }
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), FileError> {
        self.over = true;
        if self.version < 5 {
            return Ok(());
        }
        let computed = self.sum.finalize();
        let written = u64::from_le_bytes(self.raw()?);
        if written == 0 || written == computed { Ok(()) } else { Err(FileError::Checksum) }
    }

    /// Goes through a value, whose extent only its own structure tells.
    fn value(&mut self, kind: u8) -> Result<(), FileError> {
        match kind {
            types::STRING
            | types::HASH_ZIPMAP
            | types::LIST_ZIPLIST
            | types::SET_INTEGERS
            | types::ZSET_ZIPLIST
            | types::HASH_ZIPLIST
            | types::HASH_LISTPACK
            | types::ZSET_LISTPACK
            | types::SET_LISTPACK => self.strings(1),
            types::LIST | types::SET | types::LIST_ZIPLISTS => {
                let count = self.number()?;
                self.strings(count)
            }
            types::HASH => {
                let count = self.number()?;
                self.strings(count.saturating_mul(2))
            }
            types::ZSET_TEXT | types::ZSET => {
                for _ in 0..self.number()? {
                    self.strings(1)?;
                    if kind == types::ZSET {
                        self.raw::<8>()?;
                    } else {
                        let [len] = self.raw()?;
                        self.pass(if len >= 253 { 0 } else { u64::from(len) })?;
                    }
                }
                Ok(())
            }
            types::LIST_LISTPACKS => {
                for _ in 0..self.number()? {
                    self.numbers(1)?;
                    self.strings(1)?;
                }
                Ok(())
            }
            types::STREAM_1 | types::STREAM_2 | types::STREAM_3 => self.stream(kind),
            types::MODULE => {
                self.numbers(1)?;
                self.module(kind)
            }
            types::HASH_FIELDS => {
                self.raw::<8>()?;
                for _ in 0..self.number()? {
                    self.numbers(1)?;
                    self.strings(2)?;
                }
                Ok(())
            }
            types::HASH_FIELDS_LISTPACK => {
                self.raw::<8>()?;
                self.strings(1)
            }
            _ => Err(FileError::Unknown { at: self.at, code: kind }),
        }
    }

    fn stream(&mut self, kind: u8) -> Result<(), FileError> {
        let nodes = self.number()?;
        self.strings(nodes.saturating_mul(2))?;
        // How many entries, and the last id; since the second form the first and the last deleted id, and how many came.
        self.numbers(if kind == types::STREAM_1 { 3 } else { 8 })?;
        for _ in 0..self.number()? {
            self.strings(1)?;
            self.numbers(if kind == types::STREAM_1 { 2 } else { 3 })?;
            for _ in 0..self.number()? {
                self.raw::<24>()?;
                self.numbers(1)?;
            }
            for _ in 0..self.number()? {
                self.strings(1)?;
                self.pass(if kind == types::STREAM_3 { 16 } else { 8 })?;
                let pending = self.number()?;
                self.pass(pending.saturating_mul(16))?;
            }
        }
        Ok(())
    }

    /// Goes through what a module has written, whose parts say what they are.
    fn module(&mut self, code: u8) -> Result<(), FileError> {
        loop {
            match self.number()? {
                0 => return Ok(()),
                1 | 2 => self.numbers(1)?,
                3 => self.pass(4)?,
                4 => self.pass(8)?,
                5 => self.strings(1)?,
                _ => return Err(FileError::Unknown { at: self.at, code }),
            }
        }
    }

    fn numbers(&mut self, count: u64) -> Result<(), FileError> {
        (0..count).try_for_each(|_| self.number().map(|_number| ()))
    }

    fn number(&mut self) -> Result<u64, FileError> {
        let (number, special) = self.length()?;
        if special { Err(FileError::Length { at: self.at }) } else { Ok(number) }
    }

    /// A length, or the number of a special form of strings.
    fn length(&mut self) -> Result<(u64, bool), FileError> {
        let [first] = self.raw()?;
        Ok(match first >> 6 {
            0 => (u64::from(first & 0x3f), false),
            1 => {
                let [second] = self.raw()?;
                (u64::from(first & 0x3f) << 8 | u64::from(second), false)
            }
            2 if first == 0x81 => (u64::from_be_bytes(self.raw()?), false),
            2 => (u64::from(u32::from_be_bytes(self.raw()?)), false),
            _ => (u64::from(first & 0x3f), true),
        })
    }

    /// Goes through strings without unpacking them.
    fn strings(&mut self, count: u64) -> Result<(), FileError> {
        for _ in 0..count {
            let len = match self.length()? {
                (len, false) => len,
                (0, true) => 1,
                (1, true) => 2,
                (2, true) => 4,
                (3, true) => {
                    let packed = self.number()?;
                    self.number()?;
                    packed
                }
                _ => return Err(FileError::Length { at: self.at }),
            };
            self.pass(len)?;
        }
        Ok(())
    }

    /// A string, unpacked; `None` when it is longer than allowed.
    fn string(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        let text = |number: i64| Some(number::integer_text(number).as_bytes().to_vec());
        let damaged = FileError::Length { at: self.at };
        Ok(match self.length()? {
            (len, false) => self.bytes(len)?,
            (0, true) => text(i64::from(i8::from_le_bytes(self.raw()?))),
            (1, true) => text(i64::from(i16::from_le_bytes(self.raw()?))),
            (2, true) => text(i64::from(i32::from_le_bytes(self.raw()?))),
            (3, true) => {
                let (packed, len) = (self.number()?, self.number()?);
                let len = usize::try_from(len).ok().filter(|len| *len <= self.most);
                match (self.bytes(packed)?, len) {
                    (Some(packed), Some(len)) => {
                        Some(unpack(&packed, len).filter(|text| text.len() == len).ok_or(damaged)?)
                    }
                    _ => None,
                }
            }
            _ => return Err(damaged),
        })
    }

    fn bytes(&mut self, len: u64) -> Result<Option<Vec<u8>>, FileError> {
        if usize::try_from(len).is_ok_and(|len| len <= self.most) {
            self.kept = Kept::All(Vec::new());
            self.pass(len)?;
            if let Kept::All(bytes) = std::mem::replace(&mut self.kept, Kept::Nothing) {
                return Ok(Some(bytes));
            }
        } else {
            self.pass(len)?;
        }
        Ok(None)
    }

    fn raw<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes that nothing but [`Kept`] wants.
    fn pass(&mut self, mut len: u64) -> Result<(), FileError> {
        let mut chunk = [0; CHUNK];
        while len > 0 {
            let some = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
            let Some(part) = chunk.get_mut(..some) else { return Ok(()) };
            self.read(part)?;
            len = len.saturating_sub(some as u64);
        }
        Ok(())
    }

    fn read(&mut self, target: &mut [u8]) -> Result<(), FileError> {
        self.from.read_exact(target).map_err(|source| FileError::Read { at: self.at, source })?;
        self.at = self.at.saturating_add(target.len() as u64);
        self.sum.update(target);
        if let Kept::All(bytes) = &mut self.kept {
            if bytes.len().saturating_add(target.len()) <= self.most {
                bytes.extend_from_slice(target);
            } else {
                self.kept = Kept::TooMany;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
