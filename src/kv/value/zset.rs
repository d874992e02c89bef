//! Sorted sets: records in order while small; when large, slots with a table (member to slot) and a counted tree.

use std::cmp::Ordering;

use crate::kv::entry::{Body, BodyMut, Entry};
use crate::kv::packed::{self, Records};
use crate::kv::table::{Hashing, Place, Table};

use super::tree::{Item, Tree};
use super::{Collection, Limits};

/// A large sorted set.
#[derive(Debug, Default)]
pub struct ZSet {
    slots: Vec<Slot>,
    /// Slots nobody uses.
    free: Vec<u32>,
    table: Table<u32>,
    tree: Tree,
    /// Bytes of members.
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    score: f64,
    member: Box<[u8]>,
}

/// Scores are never NaN; equal ones are ordered by member.
fn order(slots: &[Slot]) -> impl Fn(&Item, &Item) -> Ordering {
    |a, b| {
        a.score
            .partial_cmp(&b.score)
            .unwrap_or(Ordering::Equal)
            .then_with(|| slots[a.slot as usize].member.cmp(&slots[b.slot as usize].member))
    }
}

impl ZSet {
    fn find(&self, member: &[u8], hashing: &Hashing) -> Option<Place> {
        self.table.find(hashing.hash(member), |slot| *self.slots[*slot as usize].member == *member)
    }

    fn score(&self, member: &[u8], hashing: &Hashing) -> Option<f64> {
        let place = self.find(member, hashing)?;
        Some(self.slots[*self.table.get(place)? as usize].score)
    }

    /// Gives a member its score; says what it had before.
    fn set(&mut self, member: &[u8], score: f64, hashing: &Hashing) -> Option<f64> {
        if let Some(slot) = self.find(member, hashing).and_then(|place| self.table.get(place).copied()) {
            let old = self.slots[slot as usize].score;
            if old.partial_cmp(&score) != Some(Ordering::Equal) {
                self.tree.remove(Item { score: old, slot }, &order(&self.slots));
                self.slots[slot as usize].score = score;
                self.tree.insert(Item { score, slot }, &order(&self.slots));
            }
            return Some(old);
        }
        let new = Slot { score, member: member.into() };
        self.bytes += member.len();
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = new;
            slot
        } else {
            self.slots.push(new);
            (self.slots.len() - 1) as u32
        };
        self.tree.insert(Item { score, slot }, &order(&self.slots));
        let slots = &self.slots;
        self.table.insert(hashing.hash(member), slot, |slot| hashing.hash(&slots[*slot as usize].member));
        None
    }

    fn remove(&mut self, member: &[u8], hashing: &Hashing) -> bool {
        let Some(place) = self.find(member, hashing) else { return false };
        let slots = &self.slots;
        let Some(slot) = self.table.remove(place, |slot| hashing.hash(&slots[*slot as usize].member)) else {
            return false;
        };
        self.tree.remove(Item { score: slots[slot as usize].score, slot }, &order(slots));
        self.bytes -= member.len();
        self.slots[slot as usize].member = Box::default();
        self.free.push(slot);
        true
    }

    /// Number of members.
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes it takes.
    pub const fn memory(&self) -> usize {
        self.bytes + self.slots.len() * (size_of::<Slot>() + size_of::<Item>()) + self.table.overhead()
    }

    /// Appends the records of all members, in order.
    pub fn dump(&self, target: &mut Vec<u8>) {
        self.tree.each(0, usize::MAX, false, &mut |item| {
            put_member(target, &self.slots[item.slot as usize].member, item.score);
        });
    }
}

fn put_member(target: &mut Vec<u8>, member: &[u8], score: f64) {
    packed::put(target, member);
    target.extend_from_slice(&packed::score_bits(score).to_le_bytes());
}

/// The members of a packed sorted set: member, score, and where the record starts.
fn members(bytes: &[u8]) -> impl Iterator<Item = (&[u8], f64, usize)> {
    let mut records = Records::new(bytes);
    std::iter::from_fn(move || {
        let at = records.at();
        let member = records.next()?;
        Some((member, packed::bits_score(u64::from_le_bytes(records.raw()?)), at))
    })
}

/// A sorted set of either form, for reading.
#[derive(Clone, Copy, Debug)]
pub enum ZSetView<'a> {
    /// Records.
    Packed(&'a [u8]),
    /// Slots, table and tree.
    Big(&'a ZSet),
}

impl<'a> ZSetView<'a> {
    /// Number of members.
    pub fn len(self) -> usize {
        match self {
            Self::Packed(bytes) => members(bytes).count(),
            Self::Big(set) => set.len(),
        }
    }

    /// The score of a member.
    pub fn score(self, member: &[u8], hashing: &Hashing) -> Option<f64> {
        match self {
            Self::Packed(bytes) => members(bytes).find(|(other, ..)| *other == member).map(|(_, score, _)| score),
            Self::Big(set) => set.score(member, hashing),
        }
    }

    /// How many members come before `member`.
    pub fn rank(self, member: &[u8], hashing: &Hashing) -> Option<usize> {
        match self {
            Self::Packed(bytes) => members(bytes).position(|(other, ..)| other == member),
            Self::Big(_) => {
                let score = self.score(member, hashing)?;
                Some(self.count_before(|other, its| its < score || its <= score && other < member))
            }
        }
    }

    /// How many members at the front `before` accepts; it must accept a front part of the order.
    pub fn count_before(self, before: impl Fn(&[u8], f64) -> bool) -> usize {
        match self {
            Self::Packed(bytes) => members(bytes).take_while(|(member, score, _)| before(member, *score)).count(),
            Self::Big(set) => {
                set.tree.count_before(&|item: &Item| before(&set.slots[item.slot as usize].member, item.score))
            }
        }
    }

    /// Shows up to `most` members from rank `start` on, or, in reverse, from `start` counted from the end backwards.
    pub fn each(self, start: usize, most: usize, reverse: bool, mut visit: impl FnMut(&'a [u8], f64)) {
        match self {
            Self::Packed(bytes) if reverse => {
                let all: Vec<_> = members(bytes).collect();
                all.iter().rev().skip(start).take(most).for_each(|(member, score, _)| visit(member, *score));
            }
            Self::Packed(bytes) => {
                members(bytes).skip(start).take(most).for_each(|(member, score, _)| visit(member, score));
            }
            Self::Big(set) => set.tree.each(start, most, reverse, &mut |item| {
                visit(&set.slots[item.slot as usize].member, item.score);
            }),
        }
    }

    /// Shows the members at a cursor and returns the next; a packed sorted set is shown whole.
    pub fn scan(self, cursor: u64, mut visit: impl FnMut(&'a [u8], f64)) -> u64 {
        match self {
            Self::Packed(_) => {
                self.each(0, usize::MAX, false, visit);
                0
            }
            Self::Big(set) => set.table.scan(cursor, |slot| {
                let slot = &set.slots[*slot as usize];
                visit(&slot.member, slot.score);
            }),
        }
    }
}

impl Entry {
    /// The sorted set in this entry; an empty one for other kinds.
    pub fn zset(&self) -> ZSetView<'_> {
        match self.body() {
            Body::Packed(bytes) => ZSetView::Packed(bytes),
            Body::Big(Collection::ZSet(set)) => ZSetView::Big(set),
            Body::Big(_) => ZSetView::Packed(&[]),
        }
    }

    /// Gives a member its score, which must not be NaN; says what it had before.
    pub fn zset_set(&mut self, member: &[u8], score: f64, limits: Limits, hashing: &Hashing) -> Option<f64> {
        let mut payload = match self.body_mut() {
            BodyMut::Big(Collection::ZSet(set)) => return set.set(member, score, hashing),
            BodyMut::Big(_) => return None,
            BodyMut::Packed(payload) => payload,
        };
        // One pass: the old record, where the new one goes, and how many there are.
        let (mut old, mut place, mut count) = (None, payload.bytes().len(), 0);
        for (other, its, at) in members(payload.bytes()) {
            count += 1;
            if other == member {
                old = Some((its, at));
            } else if place == payload.bytes().len() && (its > score || its >= score && other > member) {
                place = at;
            }
        }
        let mut record = Vec::with_capacity(member.len() + 18);
        put_member(&mut record, member, score);
        match old {
            Some((its, _)) if its.partial_cmp(&score) == Some(Ordering::Equal) => Some(its),
            Some((its, at)) => {
                payload.splice(at, record.len(), &[]);
                let place = if at < place { place - record.len() } else { place };
                payload.splice(place, 0, &[&record]);
                Some(its)
            }
            None if payload.bytes().len() + record.len() > limits.bytes || count >= limits.elements => {
                let mut set = ZSet::default();
                self.zset().each(0, usize::MAX, false, |member, score| {
                    set.set(member, score, hashing);
                });
                set.set(member, score, hashing);
                self.grow(Collection::ZSet(set));
                None
            }
            None => {
                payload.splice(place, 0, &[&record]);
                None
            }
        }
    }

    /// Takes a member out; says whether it was there.
    pub fn zset_remove(&mut self, member: &[u8], hashing: &Hashing) -> bool {
        match self.body_mut() {
            BodyMut::Big(Collection::ZSet(set)) => set.remove(member, hashing),
            BodyMut::Big(_) => false,
            BodyMut::Packed(mut payload) => {
                let found = members(payload.bytes()).find(|(other, ..)| *other == member).map(|(_, _, at)| at);
                if let Some(at) = found {
                    payload.splice(at, packed::len_len(member.len()) + member.len() + 8, &[]);
                }
                found.is_some()
            }
        }
    }
}

/// Reads the body of a dump.
pub(super) fn load(key: &[u8], body: &[u8], access: u32, limits: Limits, hashing: &Hashing) -> Option<Entry> {
    let (mut end, mut count) = (0, 0);
    let mut last: Option<(f64, &[u8])> = None;
    for (member, score, at) in members(body) {
        let sorted = last.is_none_or(|(its, other)| its < score || its <= score && other < member);
        if score.is_nan() || !sorted {
            return None;
        }
        last = Some((score, member));
        count += 1;
        end = at + packed::len_len(member.len()) + member.len() + 8;
    }
    if end != body.len() || count == 0 {
        return None;
    }
    if body.len() <= limits.bytes && count <= limits.elements {
        return Some(Entry::packed(super::Kind::ZSet, key, body, access));
    }
    let mut set = ZSet::default();
    for (member, score, _) in members(body) {
        set.set(member, score, hashing);
    }
    Some(Entry::big(key, Collection::ZSet(set), access))
}
