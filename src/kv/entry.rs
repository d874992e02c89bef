//! A key with its value, expiry and access time: one allocation while the value is small.
//!
//! # Packed form
//! One buffer; numbers little-endian, lengths LEB128:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | bits 0..2 [`Kind`], bit 3 integer string, bit 4 expiry present, bit 5 spot present, bit 6 cold |
//! | 4 | use: see [`clock`](super::clock) |
//! | 0 or 12 | [`Spot`] of the value's copy on disk |
//! | 0 or 8 | expiry, milliseconds since the Unix epoch |
//! | 1.. | length of the key |
//! | … | key |
//! | rest | payload: a string's bytes, an integer string's 8 bytes, or records (see [`packed`](super::packed)) |
//!
//! # Big form
//! Collections over `kv.packed_bytes` or `kv.packed_elements` move into a [`Big`]; they go back when they are emptied
//! (the key vanishes) or loaded anew, not when they shrink. Strings are always packed: growing the buffer by a realloc
//! within the allocator's size class moves nothing.
//!
//! # Cold form
//! A packed buffer without payload, whose spot says where on disk the value is (see [`cold`](super::cold)). A value that
//! was read back keeps its spot until it changes, so that it can be dropped again without being written again.

use super::cold::Spot;
use super::memory::allocated;
use super::packed;
use super::value::{Collection, Kind};

const KIND: u8 = 0b0111;
const INTEGER: u8 = 0b1000;
const EXPIRES: u8 = 0b1_0000;
const SPOT: u8 = 0b10_0000;
const COLD: u8 = 0b100_0000;

/// Where the optional spot, the optional expiry or else the key length stands.
const AFTER_ACCESS: usize = 5;

/// Bytes of payload from which on a value is worth a place on disk: below, spot and record cost as much.
const WORTH: usize = 64;

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
    spot: Option<Spot>,
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
        Self(Form::Packed(pack(kind as u8, access, None, None, key, payload)))
    }

    /// An entry with an integer string.
    pub fn integer(key: &[u8], value: i64, access: u32) -> Self {
        Self(Form::Packed(pack(Kind::String as u8 | INTEGER, access, None, None, key, &value.to_le_bytes())))
    }

    /// An entry with a structure.
    pub fn big(key: &[u8], value: Collection, access: u32) -> Self {
        Self(Form::Big(Box::new(Big { key: key.into(), expires: None, access, spot: None, value })))
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
            Form::Packed(blob) => read_word(blob, expires_at(blob[0])),
            Form::Big(big) => big.expires,
        }
    }

    /// Sets or removes the expiry.
    pub fn set_expires(&mut self, expires: Option<u64>) {
        match &mut self.0 {
            Form::Big(big) => big.expires = expires,
            Form::Packed(blob) => match (blob[0] & EXPIRES != 0, expires) {
                (false, None) => {}
                (true, Some(at)) => {
                    let start = expires_at(blob[0]);
                    blob[start..start + 8].copy_from_slice(&at.to_le_bytes());
                }
                _ => {
                    let (start, end) = key_span(blob);
                    *blob = pack(blob[0], read_access(blob), read_spot(blob), expires, &blob[start..end], &blob[end..]);
                }
            },
        }
    }

    /// When and how often the value was used, see [`clock`](super::clock).
    pub fn access(&self) -> u32 {
        match &self.0 {
            Form::Packed(blob) => read_access(blob),
            Form::Big(big) => big.access,
        }
    }

    /// Notes a use of the value.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        match &mut self.0 {
            Form::Packed(blob) => {
                let bytes = access.to_le_bytes();
                // Writing only what changed keeps a read from dirtying the cache line.
                if blob[1..AFTER_ACCESS] != bytes {
                    blob[1..AFTER_ACCESS].copy_from_slice(&bytes);
                }
            }
            Form::Big(big) => big.access = access,
        }
    }

    /// What the entry holds; nothing for one that is cold, which whoever wants the value must have read back before.
    #[inline]
    pub fn body(&self) -> Body<'_> {
        debug_assert!(!self.is_cold(), "the value of {:?} is on disk", self.key());
        match &self.0 {
            Form::Packed(blob) => Body::Packed(&blob[key_span(blob).1..]),
            Form::Big(big) => Body::Big(&big.value),
        }
    }

    /// What the entry holds, to be changed: its copy on disk is none any more.
    pub fn body_mut(&mut self) -> BodyMut<'_> {
        debug_assert!(!self.is_cold(), "the value of {:?} is on disk", self.key());
        self.forget_spot();
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
        self.forget_spot();
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
        self.forget_spot();
        if let Form::Packed(blob) = &mut self.0 {
            blob[0] &= !(INTEGER | COLD);
            let at = key_span(blob).1;
            Payload { blob, at }.replace(value);
        }
    }

    /// Moves the value into a structure; key, expiry and access stay.
    pub fn grow(&mut self, value: Collection) {
        let big = Big { key: self.key().into(), expires: self.expires(), access: self.access(), spot: None, value };
        self.0 = Form::Big(Box::new(big));
    }

    /// Whether this is a collection that holds nothing; such keys do not exist.
    pub fn is_empty_collection(&self) -> bool {
        if self.is_cold() {
            return false;
        }
        match self.body() {
            Body::Packed(payload) => payload.is_empty() && self.kind() != Kind::String,
            Body::Big(value) => value.is_empty(),
        }
    }

    /// Bytes this entry takes in memory, its slot in the table included.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Packed(blob) => allocated(blob.len()),
                Form::Big(big) => allocated(size_of::<Big>()) + allocated(big.key.len()) + big.value.memory(),
            }
    }

    /// Whether the value is on disk only.
    #[inline]
    pub const fn is_cold(&self) -> bool {
        match &self.0 {
            Form::Packed(blob) => matches!(blob.first(), Some(flags) if *flags & COLD != 0),
            Form::Big(_) => false,
        }
    }

    /// Where on disk the value is, too.
    #[inline]
    pub fn spot(&self) -> Option<Spot> {
        match &self.0 {
            Form::Packed(blob) => read_spot(blob),
            Form::Big(big) => big.spot,
        }
    }

    /// Bytes of memory that moving the value to disk would save; 0 when it is there already or too small.
    pub fn savings(&self) -> usize {
        match &self.0 {
            Form::Packed(blob) => {
                let payload = blob.len() - key_span(blob).1;
                let small = payload < WORTH || blob[0] & (COLD | INTEGER) != 0;
                if small { 0 } else { payload }
            }
            Form::Big(big) => big.value.memory(),
        }
    }

    /// Drops the value, which is at `spot`.
    pub fn chill(&mut self, spot: Spot) {
        let flags = self.kind() as u8 | COLD;
        self.0 = Form::Packed(pack(flags, self.access(), Some(spot), self.expires(), self.key(), &[]));
    }

    /// Notes that the value is at `spot`, too.
    pub fn set_spot(&mut self, spot: Spot) {
        match &mut self.0 {
            Form::Packed(blob) => {
                let (start, end) = key_span(blob);
                let expires = if blob[0] & EXPIRES == 0 { None } else { read_word(blob, expires_at(blob[0])) };
                *blob = pack(blob[0], read_access(blob), Some(spot), expires, &blob[start..end], &blob[end..]);
            }
            Form::Big(big) => big.spot = Some(spot),
        }
    }

    /// What is on disk is not the value any more, or is to be none; the value must be in memory.
    #[inline]
    pub fn forget_spot(&mut self) {
        match &mut self.0 {
            Form::Packed(blob) if blob[0] & SPOT != 0 => {
                blob[AFTER_ACCESS..AFTER_ACCESS + Spot::BYTES].copy_from_slice(&Spot::NONE);
            }
            Form::Packed(_) => {}
            Form::Big(big) => big.spot = None,
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

fn pack(flags: u8, access: u32, spot: Option<Spot>, expires: Option<u64>, key: &[u8], payload: &[u8]) -> Box<[u8]> {
    let flags =
        flags & !(SPOT | EXPIRES) | if spot.is_some() { SPOT } else { 0 } | if expires.is_some() { EXPIRES } else { 0 };
    let mut blob = Vec::with_capacity(head(flags) + packed::len_len(key.len()) + key.len() + payload.len());
    blob.push(flags);
    blob.extend_from_slice(&access.to_le_bytes());
    if let Some(spot) = spot {
        blob.extend_from_slice(&spot.to_bytes());
    }
    if let Some(at) = expires {
        blob.extend_from_slice(&at.to_le_bytes());
    }
    packed::put(&mut blob, key);
    blob.extend_from_slice(payload);
    blob.into_boxed_slice()
}

/// Where the expiry stands, if there is one.
#[inline]
const fn expires_at(flags: u8) -> usize {
    if flags & SPOT == 0 { AFTER_ACCESS } else { AFTER_ACCESS + Spot::BYTES }
}

/// Where the length of the key stands.
#[inline]
const fn head(flags: u8) -> usize {
    expires_at(flags) + if flags & EXPIRES == 0 { 0 } else { 8 }
}

/// Where the key starts and ends; the payload follows.
#[inline]
fn key_span(blob: &[u8]) -> (usize, usize) {
    packed::read_len(blob, head(blob[0])).map_or((blob.len(), blob.len()), |(len, start)| (start, start + len))
}

fn read_word(blob: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(blob.get(at..at + 8)?.try_into().ok()?))
}

fn read_access(blob: &[u8]) -> u32 {
    blob.get(1..AFTER_ACCESS).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[inline]
fn read_spot(blob: &[u8]) -> Option<Spot> {
    if blob[0] & SPOT == 0 {
        return None;
    }
    Spot::from_bytes(blob.get(AFTER_ACCESS..AFTER_ACCESS + Spot::BYTES)?.try_into().ok()?)
}
