//! Lengths and strings of RDB.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::RdbError;
use super::payload::unpack;
use crate::kv::number;

/// What reads a payload from its start to its end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes one string may have, and all strings of the payload together.
    most: usize,
    left: usize,
}

/// A length, or one of the special forms of strings.
enum Length {
    Plain(u64),
    Special(u8),
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; strings, unpacked, may have `most` bytes together.
    pub const fn new(bytes: &'a [u8], most: usize) -> Self {
        Self { rest: bytes, most, left: most }
    }

    /// Whether everything was read.
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], RdbError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RdbError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn raw<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let (raw, rest) = self.rest.split_first_chunk::<N>().ok_or(RdbError::Malformed)?;
        self.rest = rest;
        Ok(*raw)
    }

    fn length(&mut self) -> Result<Length, RdbError> {
        let [first] = self.raw()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first & 0x3f)),
            1 => {
                let [second] = self.raw()?;
                Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(second))
            }
            2 if first == 0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.raw()?))),
            2 if first == 0x81 => Length::Plain(u64::from_be_bytes(self.raw()?)),
            3 => Length::Special(first & 0x3f),
            _ => return Err(RdbError::Malformed),
        })
    }

    /// A number written as a length.
    pub fn number(&mut self) -> Result<u64, RdbError> {
        match self.length()? {
            Length::Plain(number) => Ok(number),
            Length::Special(_) => Err(RdbError::Malformed),
        }
    }

    /// A number of things that take at least a byte each: no more than can be there.
    pub fn count(&mut self) -> Result<usize, RdbError> {
        let count = usize::try_from(self.number()?).map_err(|_large| RdbError::Malformed)?;
        if count <= self.rest.len() { Ok(count) } else { Err(RdbError::Malformed) }
    }

    /// A string, unpacked where it is packed.
    pub fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let text = match self.length()? {
            Length::Plain(len) => {
                let len = usize::try_from(len).map_err(|_large| RdbError::Malformed)?;
                self.allow(len)?;
                return Ok(self.take(len)?.to_vec());
            }
            Length::Special(0) => i64::from(i8::from_le_bytes(self.raw()?)),
            Length::Special(1) => i64::from(i16::from_le_bytes(self.raw()?)),
            Length::Special(2) => i64::from(i32::from_le_bytes(self.raw()?)),
            Length::Special(3) => {
                let (packed, len) = (self.count()?, self.number()?);
                let len = usize::try_from(len).map_err(|_large| RdbError::Malformed)?;
                self.allow(len)?;
                let text = unpack(self.take(packed)?, len).filter(|text| text.len() == len);
                return text.ok_or(RdbError::Malformed);
            }
            Length::Special(_) => return Err(RdbError::Malformed),
        };
        Ok(number::integer_text(text).as_bytes().to_vec())
    }

    /// Counts `len` bytes of a string against what is allowed.
    fn allow(&mut self, len: usize) -> Result<(), RdbError> {
        if len > self.most {
            return Err(RdbError::TooLong);
        }
        self.left = self.left.checked_sub(len).ok_or(RdbError::TooLong)?;
        Ok(())
    }
}

/// Appends a length.
pub fn put_number(target: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x3f => target.push(number as u8),
        0x40..=0x3fff => target.extend_from_slice(&(0x4000 | number as u16).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            target.push(0x80);
            target.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            target.push(0x81);
            target.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Appends a string: as a number of one, two or four bytes where it is the text of one.
pub fn put_string(target: &mut Vec<u8>, text: &[u8]) {
    let number = if text.len() <= 11 { number::integer(text) } else { None };
    if let Some(number) = number.and_then(|number| i8::try_from(number).ok()) {
        target.push(0xc0);
        target.extend_from_slice(&number.to_le_bytes());
    } else if let Some(number) = number.and_then(|number| i16::try_from(number).ok()) {
        target.push(0xc1);
        target.extend_from_slice(&number.to_le_bytes());
    } else if let Some(number) = number.and_then(|number| i32::try_from(number).ok()) {
        target.push(0xc2);
        target.extend_from_slice(&number.to_le_bytes());
    } else {
        put_number(target, text.len() as u64);
        target.extend_from_slice(text);
    }
}
