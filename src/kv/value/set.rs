//! Sets: member records while small, a table when large. Integers take no allocation in the table.

use crate::base::{Random, random};
use crate::kv::entry::{Body, BodyMut, Entry};
use crate::kv::number::{self, Text};
use crate::kv::packed::{self, Records};
use crate::kv::table::{Hashing, Place, Table};

use super::{Collection, Limits};

/// A large set.
#[derive(Debug, Default)]
pub struct Set {
    members: Table<Member>,
    /// Bytes members own.
    bytes: usize,
}

#[derive(Debug)]
enum Member {
    Integer(i64),
    Bytes(Box<[u8]>),
}

/// A member's text, printed where it is kept as an integer.
enum Shown<'a> {
    Integer(Text),
    Bytes(&'a [u8]),
}

impl Shown<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Integer(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Member {
    fn new(member: &[u8]) -> Self {
        number::integer(member).map_or_else(|| Self::Bytes(member.into()), Self::Integer)
    }

    fn shown(&self) -> Shown<'_> {
        match self {
            Self::Integer(value) => Shown::Integer(number::integer_text(*value)),
            Self::Bytes(bytes) => Shown::Bytes(bytes),
        }
    }

    fn hash(&self, hashing: &Hashing) -> u64 {
        hashing.hash(self.shown().bytes())
    }

    const fn owned(&self) -> usize {
        match self {
            Self::Integer(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Set {
    fn find(&self, member: &[u8], hashing: &Hashing) -> Option<Place> {
        let hash = hashing.hash(member);
        match number::integer(member) {
            Some(value) => self.members.find(hash, |other| matches!(other, Member::Integer(other) if *other == value)),
            None => self.members.find(hash, |other| matches!(other, Member::Bytes(other) if **other == *member)),
        }
    }

    fn add(&mut self, member: &[u8], hashing: &Hashing) -> bool {
        if self.find(member, hashing).is_some() {
            return false;
        }
        let new = Member::new(member);
        self.bytes += new.owned();
        self.members.insert(hashing.hash(member), new, |member| member.hash(hashing));
        true
    }

    fn remove(&mut self, member: &[u8], hashing: &Hashing) -> bool {
        let Some(place) = self.find(member, hashing) else { return false };
        if let Some(member) = self.members.remove(place, |member| member.hash(hashing)) {
            self.bytes -= member.owned();
        }
        true
    }

    /// Number of members.
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Bytes it takes.
    pub const fn memory(&self) -> usize {
        self.bytes + self.members.overhead()
    }

    /// Appends the records of all members.
    pub fn dump(&self, target: &mut Vec<u8>) {
        self.members.iter().for_each(|member| packed::put(target, member.shown().bytes()));
    }
}

/// A set of either form, for reading.
#[derive(Clone, Copy, Debug)]
pub enum SetView<'a> {
    /// Records.
    Packed(&'a [u8]),
    /// A table.
    Big(&'a Set),
}

impl SetView<'_> {
    /// Number of members.
    pub fn len(self) -> usize {
        match self {
            Self::Packed(bytes) => Records::new(bytes).count(),
            Self::Big(set) => set.len(),
        }
    }

    /// Whether `member` is in it.
    pub fn contains(self, member: &[u8], hashing: &Hashing) -> bool {
        match self {
            Self::Packed(bytes) => Records::new(bytes).any(|other| other == member),
            Self::Big(set) => set.find(member, hashing).is_some(),
        }
    }

    /// Shows every member.
    pub fn each(self, mut visit: impl FnMut(&[u8])) {
        match self {
            Self::Packed(bytes) => Records::new(bytes).for_each(visit),
            Self::Big(set) => set.members.iter().for_each(|member| visit(member.shown().bytes())),
        }
    }

    /// Shows the members at a cursor and returns the next; a packed set is shown whole.
    pub fn scan(self, cursor: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        match self {
            Self::Packed(_) => {
                self.each(visit);
                0
            }
            Self::Big(set) => set.members.scan(cursor, |member| visit(member.shown().bytes())),
        }
    }

    /// A uniformly drawn member.
    pub fn sample(self, random: &dyn Random) -> Option<Vec<u8>> {
        match self {
            Self::Packed(bytes) => {
                Records::new(bytes).nth(random::below(random, self.len() as u64) as usize).map(<[u8]>::to_vec)
            }
            Self::Big(set) => Some(set.members.get(set.members.sample(random)?)?.shown().bytes().to_vec()),
        }
    }

    /// Whether every member is an integer (`OBJECT ENCODING` says `intset`, as long as it is small).
    pub fn is_integers(self) -> bool {
        match self {
            Self::Packed(bytes) => Records::new(bytes).all(|member| number::integer(member).is_some()),
            Self::Big(_) => false,
        }
    }
}

impl Entry {
    /// The set in this entry; an empty one for other kinds.
    pub fn set(&self) -> SetView<'_> {
        match self.body() {
            Body::Packed(bytes) => SetView::Packed(bytes),
            Body::Big(Collection::Set(set)) => SetView::Big(set),
            Body::Big(_) => SetView::Packed(&[]),
        }
    }

    /// Adds a member; says whether it is new.
    pub fn set_add(&mut self, member: &[u8], limits: Limits, hashing: &Hashing) -> bool {
        let mut payload = match self.body_mut() {
            BodyMut::Big(Collection::Set(set)) => return set.add(member, hashing),
            BodyMut::Big(_) => return false,
            BodyMut::Packed(payload) => payload,
        };
        let mut count = 0;
        for other in Records::new(payload.bytes()) {
            if other == member {
                return false;
            }
            count += 1;
        }
        let len = payload.bytes().len();
        if len + packed::len_len(member.len()) + member.len() > limits.bytes || count >= limits.elements {
            let mut set = Set::default();
            self.set().each(|member| {
                set.add(member, hashing);
            });
            set.add(member, hashing);
            self.grow(Collection::Set(set));
        } else {
            let mut head = Vec::with_capacity(10);
            packed::put_len(&mut head, member.len());
            payload.splice(len, 0, &[&head, member]);
        }
        true
    }

    /// Takes a member out; says whether it was there.
    pub fn set_remove(&mut self, member: &[u8], hashing: &Hashing) -> bool {
        match self.body_mut() {
            BodyMut::Big(Collection::Set(set)) => set.remove(member, hashing),
            BodyMut::Big(_) => false,
            BodyMut::Packed(mut payload) => {
                let mut records = Records::new(payload.bytes());
                let mut at = 0;
                while let Some(other) = records.next() {
                    let end = records.at();
                    if other == member {
                        payload.splice(at, end - at, &[]);
                        return true;
                    }
                    at = end;
                }
                false
            }
        }
    }
}

/// Reads the body of a dump.
pub(super) fn load(key: &[u8], body: &[u8], access: u32, limits: Limits, hashing: &Hashing) -> Option<Entry> {
    let count = super::whole_records(body)?;
    if count == 0 {
        return None;
    }
    if body.len() <= limits.bytes && count <= limits.elements {
        return Some(Entry::packed(super::Kind::Set, key, body, access));
    }
    let mut set = Set::default();
    Records::new(body).for_each(|member| {
        set.add(member, hashing);
    });
    Some(Entry::big(key, Collection::Set(set), access))
}
