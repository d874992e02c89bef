//! Hashes: field and value records in turn while small, a table of pairs when large.

use crate::base::{Random, random};
use crate::kv::entry::{Body, BodyMut, Entry};
use crate::kv::packed::{self, Records};
use crate::kv::table::{Hashing, Place, Table};

use super::{Collection, Limits};

/// A large hash.
#[derive(Debug, Default)]
pub struct Hash {
    pairs: Table<Pair>,
    /// Bytes of all pairs.
    bytes: usize,
}

/// A field and its value in one allocation: the field as a record, then the value's bytes.
#[derive(Debug)]
struct Pair(Box<[u8]>);

impl Pair {
    fn new(field: &[u8], value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(packed::len_len(field.len()) + field.len() + value.len());
        packed::put(&mut bytes, field);
        bytes.extend_from_slice(value);
        Self(bytes.into_boxed_slice())
    }

    fn split(&self) -> (&[u8], &[u8]) {
        packed::record(&self.0, 0).map_or((&[], &[]), |(field, end)| (field, &self.0[end..]))
    }

    fn field(&self) -> &[u8] {
        self.split().0
    }
}

impl Hash {
    fn find(&self, field: &[u8], hashing: &Hashing) -> Option<Place> {
        self.pairs.find(hashing.hash(field), |pair| pair.field() == field)
    }

    /// Sets a field; says whether it is new.
    fn set(&mut self, field: &[u8], value: &[u8], hashing: &Hashing) -> bool {
        let pair = Pair::new(field, value);
        self.bytes += pair.0.len();
        if let Some(old) = self.find(field, hashing).and_then(|place| self.pairs.get_mut(place)) {
            self.bytes -= old.0.len();
            *old = pair;
            return false;
        }
        self.pairs.insert(hashing.hash(field), pair, |pair| hashing.hash(pair.field()));
        true
    }

    fn delete(&mut self, field: &[u8], hashing: &Hashing) -> bool {
        let Some(place) = self.find(field, hashing) else { return false };
        if let Some(pair) = self.pairs.remove(place, |pair| hashing.hash(pair.field())) {
            self.bytes -= pair.0.len();
        }
        true
    }

    /// Number of fields.
    pub const fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no field.
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Bytes it takes.
    pub const fn memory(&self) -> usize {
        self.bytes + self.pairs.overhead()
    }

    /// Appends the records of all pairs.
    pub fn dump(&self, target: &mut Vec<u8>) {
        for pair in self.pairs.iter() {
            let (field, value) = pair.split();
            packed::put(target, field);
            packed::put(target, value);
        }
    }
}

/// A hash of either form, for reading.
#[derive(Clone, Copy, Debug)]
pub enum HashView<'a> {
    /// Records.
    Packed(&'a [u8]),
    /// A table.
    Big(&'a Hash),
}

impl<'a> HashView<'a> {
    /// Number of fields.
    pub fn len(self) -> usize {
        match self {
            Self::Packed(bytes) => Records::new(bytes).count() / 2,
            Self::Big(hash) => hash.len(),
        }
    }

    /// The value of a field.
    pub fn get(self, field: &[u8], hashing: &Hashing) -> Option<&'a [u8]> {
        match self {
            Self::Packed(bytes) => find_pair(bytes, field).map(|pair| pair.value),
            Self::Big(hash) => Some(hash.pairs.get(hash.find(field, hashing)?)?.split().1),
        }
    }

    /// Shows every field with its value.
    pub fn each(self, mut visit: impl FnMut(&'a [u8], &'a [u8])) {
        match self {
            Self::Packed(bytes) => {
                let mut records = Records::new(bytes);
                while let (Some(field), Some(value)) = (records.next(), records.next()) {
                    visit(field, value);
                }
            }
            Self::Big(hash) => hash.pairs.iter().for_each(|pair| {
                let (field, value) = pair.split();
                visit(field, value);
            }),
        }
    }

    /// Shows the pairs at a cursor and returns the next; a packed hash is shown whole.
    pub fn scan(self, cursor: u64, mut visit: impl FnMut(&'a [u8], &'a [u8])) -> u64 {
        match self {
            Self::Packed(_) => {
                self.each(visit);
                0
            }
            Self::Big(hash) => hash.pairs.scan(cursor, |pair| {
                let (field, value) = pair.split();
                visit(field, value);
            }),
        }
    }

    /// A uniformly drawn pair.
    pub fn sample(self, random: &dyn Random) -> Option<(&'a [u8], &'a [u8])> {
        match self {
            Self::Packed(bytes) => {
                let nth = random::below(random, self.len() as u64) as usize;
                let mut records = Records::new(bytes).skip(2 * nth);
                Some((records.next()?, records.next()?))
            }
            Self::Big(hash) => Some(hash.pairs.get(hash.pairs.sample(random)?)?.split()),
        }
    }
}

impl Entry {
    /// The hash in this entry; an empty one for other kinds.
    pub fn hash(&self) -> HashView<'_> {
        match self.body() {
            Body::Packed(bytes) => HashView::Packed(bytes),
            Body::Big(Collection::Hash(hash)) => HashView::Big(hash),
            Body::Big(_) => HashView::Packed(&[]),
        }
    }

    /// Sets a field; says whether it is new.
    pub fn hash_set(&mut self, field: &[u8], value: &[u8], limits: Limits, hashing: &Hashing) -> bool {
        let mut payload = match self.body_mut() {
            BodyMut::Big(Collection::Hash(hash)) => return hash.set(field, value, hashing),
            BodyMut::Big(_) => return false,
            BodyMut::Packed(payload) => payload,
        };
        let mut head = Vec::with_capacity(20);
        let old = find_pair(payload.bytes(), field).map(|pair| (pair.value_at, pair.end));
        if let Some((value_at, end)) = old {
            packed::put_len(&mut head, value.len());
            payload.splice(value_at, end - value_at, &[&head, value]);
        } else {
            packed::put_len(&mut head, field.len());
            let split = head.len();
            packed::put_len(&mut head, value.len());
            let (field_len, value_len) = head.split_at(split);
            payload.splice(payload.bytes().len(), 0, &[field_len, field, value_len, value]);
        }
        if payload.bytes().len() > limits.bytes || Records::new(payload.bytes()).count() / 2 > limits.elements {
            let mut hash = Hash::default();
            self.hash().each(|field, value| {
                hash.set(field, value, hashing);
            });
            self.grow(Collection::Hash(hash));
        }
        old.is_none()
    }

    /// Takes a field out; says whether it was there.
    pub fn hash_delete(&mut self, field: &[u8], hashing: &Hashing) -> bool {
        match self.body_mut() {
            BodyMut::Big(Collection::Hash(hash)) => hash.delete(field, hashing),
            BodyMut::Big(_) => false,
            BodyMut::Packed(mut payload) => {
                let Some((at, end)) = find_pair(payload.bytes(), field).map(|pair| (pair.at, pair.end)) else {
                    return false;
                };
                payload.splice(at, end - at, &[]);
                true
            }
        }
    }
}

/// A pair in a packed hash, with the offsets of the field's record, the value's record and the end.
struct Found<'a> {
    at: usize,
    value_at: usize,
    end: usize,
    value: &'a [u8],
}

#[inline]
fn find_pair<'a>(bytes: &'a [u8], field: &[u8]) -> Option<Found<'a>> {
    let mut records = Records::new(bytes);
    loop {
        let at = records.at();
        let found = records.next()?;
        let value_at = records.at();
        let value = records.next()?;
        if found == field {
            return Some(Found { at, value_at, end: records.at(), value });
        }
    }
}

/// Reads the body of a dump.
pub(super) fn load(key: &[u8], body: &[u8], access: u32, limits: Limits, hashing: &Hashing) -> Option<Entry> {
    let count = super::whole_records(body)?;
    if count == 0 || !count.is_multiple_of(2) {
        return None;
    }
    if body.len() <= limits.bytes && count / 2 <= limits.elements {
        return Some(Entry::packed(super::Kind::Hash, key, body, access));
    }
    let mut hash = Hash::default();
    HashView::Packed(body).each(|field, value| {
        hash.set(field, value, hashing);
    });
    Some(Entry::big(key, Collection::Hash(hash), access))
}
