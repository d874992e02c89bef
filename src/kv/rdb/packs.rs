//! Redis' small collections, packed into one string: listpacks, ziplists, sets of integers.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::RdbError;
use crate::kv::number;

/// An element of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// As it stands there.
    Bytes(&'a [u8]),
    /// A number, which stands for its text.
    Number(i64),
}

impl Item<'_> {
    /// The bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Number(number) => number::integer_text(*number).as_bytes().to_vec(),
        }
    }

    /// The number, where it is one.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Bytes(_) => None,
            Self::Number(number) => Some(*number),
        }
    }
}

/// A place in a pack.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn raw<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let (raw, rest) = self.rest.split_first_chunk::<N>().ok_or(RdbError::Malformed)?;
        self.rest = rest;
        Ok(*raw)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RdbError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RdbError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<usize, RdbError> {
        self.raw::<1>().map(|[byte]| usize::from(byte))
    }

    /// 24 bits with a sign, little-endian.
    fn three(&mut self) -> Result<i64, RdbError> {
        let [a, b, c] = self.raw()?;
        Ok(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))
    }
}

/// The elements of a listpack.
pub fn listpack(bytes: &[u8]) -> Result<Vec<Item<'_>>, RdbError> {
    let mut cursor = Cursor { rest: bytes };
    if u32::from_le_bytes(cursor.raw()?) as usize != bytes.len() {
        return Err(RdbError::Malformed);
    }
    // The number of elements, which may be unknown.
    cursor.raw::<2>()?;
    let mut items = Vec::new();
    loop {
        let before = cursor.rest.len();
        let first = cursor.byte()?;
        let item = match first {
            0xff if cursor.rest.is_empty() => return Ok(items),
            0..=0x7f => Item::Number(first as i64),
            0x80..=0xbf => Item::Bytes(cursor.take(first & 0x3f)?),
            0xc0..=0xdf => {
                let bits = ((first & 0x1f) << 8 | cursor.byte()?) as i16;
                // Thirteen bits with a sign.
                Item::Number(i64::from(bits << 3 >> 3))
            }
            0xe0..=0xef => {
                let len = (first & 0xf) << 8 | cursor.byte()?;
                Item::Bytes(cursor.take(len)?)
            }
            0xf0 => {
                let len = u32::from_le_bytes(cursor.raw()?) as usize;
                Item::Bytes(cursor.take(len)?)
            }
            0xf1 => Item::Number(i64::from(i16::from_le_bytes(cursor.raw()?))),
            0xf2 => Item::Number(cursor.three()?),
            0xf3 => Item::Number(i64::from(i32::from_le_bytes(cursor.raw()?))),
            0xf4 => Item::Number(i64::from_le_bytes(cursor.raw()?)),
            _ => return Err(RdbError::Malformed),
        };
        // The length again, for those who walk backwards: seven bits a byte.
        let back = match before.saturating_sub(cursor.rest.len()) {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        cursor.take(back)?;
        items.push(item);
    }
}

/// The elements of a ziplist, which Redis wrote before 7.0.
pub fn ziplist(bytes: &[u8]) -> Result<Vec<Item<'_>>, RdbError> {
    let mut cursor = Cursor { rest: bytes };
    if u32::from_le_bytes(cursor.raw()?) as usize != bytes.len() {
        return Err(RdbError::Malformed);
    }
    // Where the last one begins, and how many there are.
    cursor.raw::<6>()?;
    let mut items = Vec::new();
    loop {
        match cursor.byte()? {
            0xff if cursor.rest.is_empty() => return Ok(items),
            0xff => return Err(RdbError::Malformed),
            // The length of the one before.
            0xfe => {
                cursor.raw::<4>()?;
            }
            _ => {}
        }
        let first = cursor.byte()?;
        items.push(match first {
            0..=0x3f => Item::Bytes(cursor.take(first)?),
            0x40..=0x7f => {
                let len = (first & 0x3f) << 8 | cursor.byte()?;
                Item::Bytes(cursor.take(len)?)
            }
            0x80 => {
                let len = u32::from_be_bytes(cursor.raw()?) as usize;
                Item::Bytes(cursor.take(len)?)
            }
            0xc0 => Item::Number(i64::from(i16::from_le_bytes(cursor.raw()?))),
            0xd0 => Item::Number(i64::from(i32::from_le_bytes(cursor.raw()?))),
            0xe0 => Item::Number(i64::from_le_bytes(cursor.raw()?)),
            0xf0 => Item::Number(cursor.three()?),
            0xfe => Item::Number(i64::from(i8::from_le_bytes(cursor.raw()?))),
            0xf1..=0xfd => Item::Number((first as i64 & 0xf).saturating_sub(1)),
            _ => return Err(RdbError::Malformed),
        });
    }
}

/// The fields and values of a zipmap, which Redis wrote before 2.6.
pub fn zipmap(bytes: &[u8]) -> Result<Vec<Item<'_>>, RdbError> {
    let mut cursor = Cursor { rest: bytes };
    // How many there are, which may be unknown.
    cursor.byte()?;
    let mut items = Vec::new();
    loop {
        let Some(len) = zipmap_length(&mut cursor)? else {
            return if cursor.rest.is_empty() { Ok(items) } else { Err(RdbError::Malformed) };
        };
        let field = cursor.take(len)?;
        let len = zipmap_length(&mut cursor)?.ok_or(RdbError::Malformed)?;
        let free = cursor.byte()?;
        let value = cursor.take(len)?;
        cursor.take(free)?;
        items.extend([Item::Bytes(field), Item::Bytes(value)]);
    }
}

/// A length in a zipmap; `None` at its end.
fn zipmap_length(cursor: &mut Cursor<'_>) -> Result<Option<usize>, RdbError> {
    Ok(match cursor.byte()? {
        0xff => None,
        0xfe => Some(u32::from_le_bytes(cursor.raw()?) as usize),
        len => Some(len),
    })
}

/// The members of a set of integers.
pub fn integers(bytes: &[u8]) -> Result<Vec<Item<'_>>, RdbError> {
    let mut cursor = Cursor { rest: bytes };
    let (width, count) = (u32::from_le_bytes(cursor.raw()?), u32::from_le_bytes(cursor.raw()?));
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(Item::Number(match width {
            2 => i64::from(i16::from_le_bytes(cursor.raw()?)),
            4 => i64::from(i32::from_le_bytes(cursor.raw()?)),
            8 => i64::from_le_bytes(cursor.raw()?),
            _ => return Err(RdbError::Malformed),
        }));
    }
    if cursor.rest.is_empty() { Ok(items) } else { Err(RdbError::Malformed) }
}
