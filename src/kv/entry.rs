//! A key with its value, expiry and access time: one allocation while the value is small.
//!
//! # Packed form
//! One buffer; numbers little-endian, lengths LEB128:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | bits 0..2 [`Kind`], bit 3 integer string, bit 4 expiry present |
//! | 4 | last access, seconds since the keyspace began |
//! | 0 or 8 | expiry, milliseconds since the Unix epoch |
//! | 1.. | length of the key |
//! | … | key |
//! | rest | payload: a string's bytes, an integer string's 8 bytes, or records (see [`packed`](super::packed)) |
//!
//! # Big form
//! Collections over `kv.packed_bytes` or `kv.packed_elements` move into a [`Big`]; they go back when they are emptied
//! (the key vanishes) or loaded anew, not when they shrink. Strings are always packed: growing the buffer by a realloc
//! within the allocator's size class moves nothing.

use super::packed;
use super::value::{Collection, Kind};

const KIND: u8 = 0b0111;
const INTEGER: u8 = 0b1000;
const EXPIRES: u8 = 0b1_0000;

/// Where the optional expiry or else the key length stands.
const AFTER_ACCESS: usize = 5;

/// One key of a database. 16 bytes in the table.
#[derive(Debug)]
pub struct Entry(Form);

#[derive(Debug)]
enum Form {
    Packed(Box<[u8]>),
    Big(Box<Big>),
}

/// A key whose value outgrew the packed form.
#[derive(Debug)]
struct Big {
    key: Box<[u8]>,
    expires: Option<u64>,
    access: u32,
    value: Collection,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// The payload of the packed form.
    Packed(&'a [u8]),
    /// A structure.
    Big(&'a Collection),
}

/// What an entry holds, to be changed.
#[derive(Debug)]
pub enum BodyMut<'a> {
    /// The packed buffer, payload and all before it.
    Packed(Payload<'a>),
    /// A structure.
    Big(&'a mut Collection),
}

impl Entry {
    /// Whether key and value are in one allocation. Looks at the table's slot alone.
    pub const fn is_packed(&self) -> bool {
        matches!(self.0, Form::Packed(_))
    }

    /// An entry with a packed payload.
    pub fn packed(kind: Kind, key: &[u8], payload: &[u8], access: u32) -> Self {
        Self(Form::Packed(pack(kind as u8, access, None, key, payload)))
    }

    /// An entry with an integer string.
    pub fn integer(key: &[u8], value: i64, access: u32) -> Self {
        Self(Form::Packed(pack(Kind::String as u8 | INTEGER, access, None, key, &value.to_le_bytes())))
    }

    /// An entry with a structure.
    pub fn big(key: &[u8], value: Collection, access: u32) -> Self {
        Self(Form::Big(Box::new(Big { key: key.into(), expires: None, access, value })))
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match &self.0 {
            Form::Packed(blob) => {
                let (start, end) = key_span(blob);
                &blob[start..end]
            }
            Form::Big(big) => &big.key,
        }
    }

    /// The type of the value.
    #[inline]
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Form::Packed(blob) => Kind::from_bits(blob[0] & KIND),
            Form::Big(big) => big.value.kind(),
        }
    }

    /// When the key vanishes: milliseconds since the Unix epoch.
    #[inline]
    pub fn expires(&self) -> Option<u64> {
        match &self.0 {
            Form::Packed(blob) if blob[0] & EXPIRES == 0 => None,
            Form::Packed(blob) => read_word(blob, AFTER_ACCESS),
            Form::Big(big) => big.expires,
        }
    }

    /// Sets or removes the expiry.
    pub fn set_expires(&mut self, expires: Option<u64>) {
        match &mut self.0 {
            Form::Big(big) => big.expires = expires,
            Form::Packed(blob) => match (blob[0] & EXPIRES != 0, expires) {
                (false, None) => {}
                (true, Some(at)) => blob[AFTER_ACCESS..AFTER_ACCESS + 8].copy_from_slice(&at.to_le_bytes()),
                _ => {
                    let (start, end) = key_span(blob);
                    let flags = blob[0] & !EXPIRES;
                    *blob = pack(flags, read_access(blob), expires, &blob[start..end], &blob[end..]);
                }
            },
        }
    }

    /// Seconds since the keyspace began at which the value was last used.
    pub fn access(&self) -> u32 {
        match &self.0 {
            Form::Packed(blob) => read_access(blob),
            Form::Big(big) => big.access,
        }
    }

    /// Notes a use of the value.
    #[inline]
    pub fn set_access(&mut self, second: u32) {
        match &mut self.0 {
            Form::Packed(blob) => {
                let bytes = second.to_le_bytes();
                // Writing only what changed keeps a read from dirtying the cache line.
                if blob[1..AFTER_ACCESS] != bytes {
                    blob[1..AFTER_ACCESS].copy_from_slice(&bytes);
                }
            }
            Form::Big(big) => big.access = second,
        }
    }

    /// What the entry holds.
    #[inline]
    pub fn body(&self) -> Body<'_> {
        match &self.0 {
            Form::Packed(blob) => Body::Packed(&blob[key_span(blob).1..]),
            Form::Big(big) => Body::Big(&big.value),
        }
    }

    /// What the entry holds, to be changed.
    pub fn body_mut(&mut self) -> BodyMut<'_> {
        match &mut self.0 {
            Form::Packed(blob) => {
                let at = key_span(blob).1;
                BodyMut::Packed(Payload { blob, at })
            }
            Form::Big(big) => BodyMut::Big(&mut big.value),
        }
    }

    /// The value of an integer string.
    #[inline]
    pub fn as_integer(&self) -> Option<i64> {
        match &self.0 {
            Form::Packed(blob) if blob[0] & INTEGER != 0 => read_word(blob, key_span(blob).1).map(u64::cast_signed),
            _ => None,
        }
    }

    /// Changes an integer string in place, or turns any string into one.
    pub fn set_integer(&mut self, value: i64) {
        if let Form::Packed(blob) = &mut self.0 {
            let end = key_span(blob).1;
            if blob[0] & INTEGER != 0 {
                blob[end..].copy_from_slice(&value.to_le_bytes());
            } else {
                blob[0] |= INTEGER;
                Payload { blob, at: end }.replace(&value.to_le_bytes());
            }
        }
    }

    /// Replaces a string's bytes.
    pub fn set_string(&mut self, value: &[u8]) {
        if let Form::Packed(blob) = &mut self.0 {
            blob[0] &= !INTEGER;
            let at = key_span(blob).1;
            Payload { blob, at }.replace(value);
        }
    }

    /// Moves the value into a structure; key, expiry and access stay.
    pub fn grow(&mut self, value: Collection) {
        let big = Big { key: self.key().into(), expires: self.expires(), access: self.access(), value };
        self.0 = Form::Big(Box::new(big));
    }

    /// Whether this is a collection that holds nothing; such keys do not exist.
    pub fn is_empty_collection(&self) -> bool {
        match self.body() {
            Body::Packed(payload) => payload.is_empty() && self.kind() != Kind::String,
            Body::Big(value) => value.is_empty(),
        }
    }

    /// Bytes this entry takes, its slot in the table included; allocator rounding is not known and not counted.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Packed(blob) => blob.len(),
                Form::Big(big) => size_of::<Big>() + big.key.len() + big.value.memory(),
            }
    }
}

/// The payload of a packed entry, to be changed.
#[derive(Debug)]
pub struct Payload<'a> {
    blob: &'a mut Box<[u8]>,
    at: usize,
}

impl Payload<'_> {
    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        &self.blob[self.at..]
    }

    /// The payload, to be changed without changing its length.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.blob[self.at..]
    }

    /// Replaces `len` bytes at `at` by `parts` put together.
    pub fn splice(&mut self, at: usize, len: usize, parts: &[&[u8]]) {
        let added: usize = parts.iter().map(|part| part.len()).sum();
        let (start, end) = (self.at + at, self.at + at + len);
        let mut blob = Vec::from(std::mem::take(self.blob));
        let old = blob.len();
        if added > len {
            let grown = old + (added - len);
            blob.reserve_exact(added - len);
            blob.resize(grown, 0);
            blob.copy_within(end..old, start + added);
        } else {
            blob.copy_within(end..old, start + added);
            blob.truncate(old - (len - added));
        }
        let mut write = start;
        for part in parts {
            blob[write..write + part.len()].copy_from_slice(part);
            write += part.len();
        }
        *self.blob = blob.into_boxed_slice();
    }

    /// Replaces everything.
    pub fn replace(&mut self, bytes: &[u8]) {
        let len = self.bytes().len();
        if len == bytes.len() {
            self.bytes_mut().copy_from_slice(bytes);
        } else {
            self.splice(0, len, &[bytes]);
        }
    }
}

fn pack(flags: u8, access: u32, expires: Option<u64>, key: &[u8], payload: &[u8]) -> Box<[u8]> {
    let head = AFTER_ACCESS + if expires.is_some() { 8 } else { 0 };
    let mut blob = Vec::with_capacity(head + packed::len_len(key.len()) + key.len() + payload.len());
    blob.push(flags | if expires.is_some() { EXPIRES } else { 0 });
    blob.extend_from_slice(&access.to_le_bytes());
    if let Some(at) = expires {
        blob.extend_from_slice(&at.to_le_bytes());
    }
    packed::put(&mut blob, key);
    blob.extend_from_slice(payload);
    blob.into_boxed_slice()
}

/// Where the key starts and ends; the payload follows.
#[inline]
fn key_span(blob: &[u8]) -> (usize, usize) {
    let at = if blob[0] & EXPIRES == 0 { AFTER_ACCESS } else { AFTER_ACCESS + 8 };
    packed::read_len(blob, at).map_or((blob.len(), blob.len()), |(len, start)| (start, start + len))
}

fn read_word(blob: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(blob.get(at..at + 8)?.try_into().ok()?))
}

fn read_access(blob: &[u8]) -> u32 {
    blob.get(1..AFTER_ACCESS).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}
