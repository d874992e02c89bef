//! What happens to a stream: the one way it is changed, by commands and by the replay of what they did.
//!
//! # Layout
//! Tag (1 byte), then by tag; lengths and counts LEB128, a *record* is length and bytes, an *id* is 16 bytes, other
//! numbers 8 bytes little-endian, where `u64::MAX` stands for none:
//!
//! | tag | what | follows |
//! |---|---|---|
//! | 1 | add | id, count, records (field, value, …) |
//! | 2 | trim | id up to which entries leave |
//! | 3 | delete | count, ids |
//! | 4 | set | last id, highest deleted id, entries ever added |
//! | 5 | group made or moved | record name, last id, entries read |
//! | 6 | group destroyed | record name |
//! | 7 | consumer made or seen | records group, name; seen, active |
//! | 8 | consumer deleted | records group, name |
//! | 9 | given out | records group, consumer; count, then id, time and number of times each |
//! | 10 | acknowledged | record group, count, ids |
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;

use super::group::Group;
use super::{Id, Stream};
use crate::kv::packed;

/// One change of a stream.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// An entry comes, behind the last.
    Add { id: Id, pairs: Cow<'a, [&'a [u8]]> },
    /// Entries up to one leave.
    Trim { last: Id },
    /// Entries leave.
    Delete { ids: Vec<Id> },
    /// What the stream remembers of its past.
    Set { last: Id, deleted: Id, added: u64 },
    /// A group is made, or moved.
    Group { group: &'a [u8], last: Id, read: Option<u64> },
    /// A group goes.
    Destroy { group: &'a [u8] },
    /// A consumer is made, or seen.
    Consumer { group: &'a [u8], name: &'a [u8], seen: u64, active: Option<u64> },
    /// A consumer goes.
    Forget { group: &'a [u8], name: &'a [u8] },
    /// A consumer is given entries: id, time, how often by now.
    Give { group: &'a [u8], name: &'a [u8], items: Vec<(Id, u64, u64)> },
    /// Entries are acknowledged.
    Acknowledge { group: &'a [u8], ids: Vec<Id> },
}

impl Change<'_> {
    /// Whether it makes a stream that is not there.
    pub const fn creates(&self) -> bool {
        matches!(self, Self::Add { .. } | Self::Set { .. } | Self::Group { .. })
    }

    /// Appends its bytes.
    pub fn put(&self, target: &mut Vec<u8>) {
        match self {
            Self::Add { id, pairs } => {
                target.push(1);
                put_id(target, *id);
                packed::put_len(target, pairs.len());
                pairs.iter().for_each(|item| packed::put(target, item));
            }
            Self::Trim { last } => {
                target.push(2);
                put_id(target, *last);
            }
            Self::Delete { ids } => {
                target.push(3);
                put_ids(target, ids);
            }
            Self::Set { last, deleted, added } => {
                target.push(4);
                put_id(target, *last);
                put_id(target, *deleted);
                put_number(target, *added);
            }
            Self::Group { group, last, read } => {
                target.push(5);
                packed::put(target, group);
                put_id(target, *last);
                put_number(target, read.unwrap_or(u64::MAX));
            }
            Self::Destroy { group } => {
                target.push(6);
                packed::put(target, group);
            }
            Self::Consumer { group, name, seen, active } => {
                target.push(7);
                packed::put(target, group);
                packed::put(target, name);
                put_number(target, *seen);
                put_number(target, active.unwrap_or(u64::MAX));
            }
            Self::Forget { group, name } => {
                target.push(8);
                packed::put(target, group);
                packed::put(target, name);
            }
            Self::Give { group, name, items } => {
                target.push(9);
                packed::put(target, group);
                packed::put(target, name);
                packed::put_len(target, items.len());
                for (id, time, count) in items {
                    put_id(target, *id);
                    put_number(target, *time);
                    put_number(target, *count);
                }
            }
            Self::Acknowledge { group, ids } => {
                target.push(10);
                packed::put(target, group);
                put_ids(target, ids);
            }
        }
    }
}

impl<'a> Change<'a> {
    /// Reads one; `None` when the bytes are none.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let [tag] = reader.raw()?;
        let change = match tag {
            1 => {
                let (id, count) = (reader.id()?, reader.count(1)?);
                let pairs: Option<Vec<&[u8]>> = (0..count).map(|_| reader.record()).collect();
                Self::Add { id, pairs: Cow::Owned(pairs.filter(|pairs| pairs.len().is_multiple_of(2))?) }
            }
            2 => Self::Trim { last: reader.id()? },
            3 => Self::Delete { ids: reader.ids()? },
            4 => Self::Set { last: reader.id()?, deleted: reader.id()?, added: reader.number()? },
            5 => Self::Group { group: reader.record()?, last: reader.id()?, read: known(reader.number()?) },
            6 => Self::Destroy { group: reader.record()? },
            7 => Self::Consumer {
                group: reader.record()?,
                name: reader.record()?,
                seen: reader.number()?,
                active: known(reader.number()?),
            },
            8 => Self::Forget { group: reader.record()?, name: reader.record()? },
            9 => {
                let (group, name) = (reader.record()?, reader.record()?);
                let count = reader.count(32)?;
                let items: Option<Vec<_>> =
                    (0..count).map(|_| Some((reader.id()?, reader.number()?, reader.number()?))).collect();
                Self::Give { group, name, items: items? }
            }
            10 => Self::Acknowledge { group: reader.record()?, ids: reader.ids()? },
            _ => return None,
        };
        (reader.at == bytes.len()).then_some(change)
    }
}

impl Stream {
    /// Makes a change; returns how many entries, groups or pending entries it met.
    pub fn apply(&mut self, change: &Change<'_>) -> usize {
        match change {
            Change::Add { id, pairs } => usize::from(self.append(*id, pairs)),
            Change::Trim { last } => self.trim(*last),
            Change::Delete { ids } => ids.iter().filter(|id| self.delete(**id)).count(),
            Change::Set { last, deleted, added } => {
                (self.last, self.deleted, self.added) = (*last, *deleted, *added);
                1
            }
            Change::Group { group, last, read } => {
                if self.group(group).is_none() {
                    self.add_group(group, Group::new(*last, *read));
                    return 1;
                }
                self.change_group(group, |group| (group.last, group.read) = (*last, *read));
                0
            }
            Change::Destroy { group } => usize::from(self.remove_group(group)),
            Change::Consumer { group, name, seen, active } => {
                self.change_group(group, |group| group.see(name, *seen, *active));
                1
            }
            Change::Forget { group, name } => {
                self.change_group(group, |group| group.forget(name));
                1
            }
            Change::Give { group, name, items } => {
                self.change_group(group, |group| {
                    for (id, time, count) in items {
                        group.give(name, *id, *time, *count);
                    }
                });
                items.len()
            }
            Change::Acknowledge { group, ids } => {
                self.change_group(group, |group| ids.iter().filter(|id| group.acknowledge(**id)).count()).unwrap_or(0)
            }
        }
    }
}

/// A number where `u64::MAX` stands for none.
pub(super) fn known(number: u64) -> Option<u64> {
    (number != u64::MAX).then_some(number)
}

pub(super) fn put_id(target: &mut Vec<u8>, id: Id) {
    target.extend_from_slice(&id.to_bytes());
}

pub(super) fn put_number(target: &mut Vec<u8>, number: u64) {
    target.extend_from_slice(&number.to_le_bytes());
}

fn put_ids(target: &mut Vec<u8>, ids: &[Id]) {
    packed::put_len(target, ids.len());
    for id in ids {
        put_id(target, *id);
    }
}

/// Reads what the functions above write.
pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let raw = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(raw)
    }

    pub fn id(&mut self) -> Option<Id> {
        self.raw().map(Id::from_bytes)
    }

    pub fn number(&mut self) -> Option<u64> {
        self.raw().map(u64::from_le_bytes)
    }

    pub fn len(&mut self) -> Option<usize> {
        let (len, end) = packed::read_len(self.bytes, self.at)?;
        self.at = end;
        Some(len)
    }

    /// A number of things that take at least `each` bytes: no more than can be there.
    pub fn count(&mut self, each: usize) -> Option<usize> {
        let count = self.len()?;
        let left = self.bytes.len().checked_sub(self.at)?;
        (count.checked_mul(each)? <= left).then_some(count)
    }

    pub fn record(&mut self) -> Option<&'a [u8]> {
        let (bytes, end) = packed::record(self.bytes, self.at)?;
        self.at = end;
        Some(bytes)
    }

    fn ids(&mut self) -> Option<Vec<Id>> {
        let count = self.count(16)?;
        (0..count).map(|_| self.id()).collect()
    }
}
