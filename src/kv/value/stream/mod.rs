//! Streams: entries in the order of their ids, in blocks of up to a hundred, and the groups that read them.
//!
//! A stream is a structure from its first entry on and stays when its last one leaves. Every change is a [`Change`]:
//! commands work out which, record it as an effect and [apply](Stream::apply) it; recovery applies it again.

mod block;
mod change;
mod group;
mod id;
mod stored;

use std::collections::{BTreeMap, VecDeque};

pub use block::Item;
pub use change::Change;
pub use group::Group;
pub use id::Id;
pub(super) use stored::load;

use super::{Collection, Kind};
use crate::kv::entry::{Body, BodyMut, Entry};
use block::Block;

/// A stream.
#[derive(Debug, Default)]
pub struct Stream {
    blocks: VecDeque<Block>,
    len: usize,
    last: Id,
    deleted: Id,
    added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
    /// Bytes of the blocks, and of the groups.
    block_bytes: usize,
    group_bytes: usize,
}

/// Down to what a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many entries stay.
    Entries(usize),
    /// Entries from this one on stay.
    From(Id),
}

impl Stream {
    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The highest id ever given.
    pub const fn last(&self) -> Id {
        self.last
    }

    /// The highest id ever deleted by name; zero when none was.
    pub const fn deleted(&self) -> Id {
        self.deleted
    }

    /// Entries ever added.
    pub const fn added(&self) -> u64 {
        self.added
    }

    /// Blocks it is kept in.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The id of the first entry; zero when there is none.
    pub fn first(&self) -> Id {
        self.blocks.front().and_then(|block| block.items().next()).map_or(Id::ZERO, |item| item.id)
    }

    /// The id of the last entry that is there.
    pub fn top(&self) -> Option<Id> {
        self.blocks.back().and_then(|block| block.items().last()).map(|item| item.id)
    }

    /// Whether there is an entry of this id.
    pub fn contains(&self, id: Id) -> bool {
        self.get(id).is_some()
    }

    /// The entry of this id.
    pub fn get(&self, id: Id) -> Option<Item<'_>> {
        let block = self.blocks.get(self.block_of(id)?)?;
        block.items().take_while(|item| item.id <= id).find(|item| item.id == id)
    }

    /// Bytes it takes; known without walking it.
    pub const fn memory(&self) -> usize {
        self.block_bytes + self.group_bytes
    }

    /// The block an id belongs into: the last one that begins at or before it.
    fn block_of(&self, id: Id) -> Option<usize> {
        self.blocks.partition_point(|block| block.first() <= id).checked_sub(1)
    }

    /// Shows the entries from `start` to `end`, both included, until `visit` says no.
    pub fn range<'a>(&'a self, start: Id, end: Id, reverse: bool, mut visit: impl FnMut(Item<'a>) -> bool) {
        if reverse {
            let Some(last) = self.block_of(end) else { return };
            for block in self.blocks.range(..=last).rev() {
                let items: Vec<Item<'a>> = block.items().filter(|item| item.id >= start && item.id <= end).collect();
                if items.iter().rev().any(|item| !visit(*item)) || block.first() < start {
                    return;
                }
            }
            return;
        }
        let first = self.block_of(start).unwrap_or(0);
        for item in self.blocks.range(first..).flat_map(Block::items) {
            if item.id > end || item.id >= start && !visit(item) {
                return;
            }
        }
    }

    /// Adds an entry; says whether its id is behind the last.
    fn append(&mut self, id: Id, pairs: &[&[u8]]) -> bool {
        if id <= self.last {
            return false;
        }
        if self.blocks.back().is_none_or(Block::is_full) {
            if let Some(block) = self.blocks.back_mut() {
                self.block_bytes -= block.memory();
                block.close();
                self.block_bytes += block.memory();
            }
            let block = Block::new(id, pairs);
            self.block_bytes += block.memory();
            self.blocks.push_back(block);
        }
        if let Some(block) = self.blocks.back_mut() {
            self.block_bytes -= block.memory();
            block.push(id, pairs);
            self.block_bytes += block.memory();
        }
        self.len += 1;
        self.last = id;
        self.added = self.added.saturating_add(1);
        true
    }

    /// Up to which id entries leave when the stream is trimmed; `None` when all stay. Trimming `roughly` drops whole
    /// blocks only, and no more than `limit` entries, where that is not 0.
    pub fn cut(&self, keep: Keep, roughly: bool, limit: usize) -> Option<Id> {
        let (mut gone, mut cut) = (0, None);
        for block in &self.blocks {
            let entries = block.entries() as usize;
            let last = block.items().last().map(|item| item.id);
            let whole = match keep {
                Keep::Entries(most) if self.len - gone <= most => break,
                Keep::Entries(most) => self.len - gone - entries >= most,
                Keep::From(first) => last.is_none_or(|last| last < first),
            };
            if limit > 0 && gone + entries > limit {
                break;
            }
            if whole {
                gone += entries;
                cut = last.or(cut);
                continue;
            }
            if !roughly {
                cut = match keep {
                    Keep::Entries(most) => block.items().nth(self.len - gone - most - 1).map(|item| item.id).or(cut),
                    Keep::From(first) => first.previous().or(cut),
                };
            }
            break;
        }
        cut
    }

    /// Takes out the entries up to `last`; returns how many.
    fn trim(&mut self, last: Id) -> usize {
        let before = self.len;
        while let Some(block) = self.blocks.front_mut() {
            self.block_bytes -= block.memory();
            self.len -= block.remove_through(last) as usize;
            if block.entries() > 0 {
                self.block_bytes += block.memory();
                break;
            }
            self.blocks.pop_front();
        }
        before - self.len
    }

    /// Takes one entry out; says whether it was there.
    fn delete(&mut self, id: Id) -> bool {
        let Some(at) = self.block_of(id) else { return false };
        let Some(block) = self.blocks.get_mut(at) else { return false };
        if !block.remove(id) {
            return false;
        }
        if block.entries() == 0 {
            self.block_bytes -= block.memory();
            self.blocks.remove(at);
        }
        self.len -= 1;
        self.deleted = self.deleted.max(id);
        true
    }

    /// The groups by name.
    pub const fn groups(&self) -> &BTreeMap<Box<[u8]>, Group> {
        &self.groups
    }

    /// A group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    fn add_group(&mut self, name: &[u8], group: Group) {
        self.group_bytes += group.memory() + name.len();
        if let Some(old) = self.groups.insert(name.into(), group) {
            self.group_bytes -= old.memory() + name.len();
        }
    }

    fn remove_group(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove(name) else { return false };
        self.group_bytes -= group.memory() + name.len();
        true
    }

    /// Notes, outside of what is kept, that a consumer asked: when it is seen matters to nobody after a restart.
    pub fn glimpse(&mut self, group: &[u8], name: &[u8], seen: u64) {
        self.change_group(group, |group| {
            let active = group.consumer(name).map(|consumer| consumer.active);
            if let Some(active) = active {
                group.see(name, seen, active);
            }
        });
    }

    fn change_group<R>(&mut self, name: &[u8], work: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        self.group_bytes -= group.memory();
        let done = work(group);
        self.group_bytes += group.memory();
        Some(done)
    }

    /// Whether entries from `start` on may be missing because they were deleted.
    pub fn has_gaps(&self, start: Id) -> bool {
        self.deleted != Id::ZERO && start <= self.deleted && self.len > 0 && self.first() <= self.deleted
    }

    /// How many entries were ever added up to `id`; `None` when that cannot be told.
    pub fn distance(&self, id: Id) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last {
            return Some(self.added);
        }
        if id >= self.last {
            return (id == self.last).then_some(self.added);
        }
        let first = self.first();
        let before = self.added.saturating_sub(self.len as u64);
        match id.cmp(&first) {
            _ if self.deleted != Id::ZERO && self.deleted >= first => None,
            std::cmp::Ordering::Less => Some(before),
            std::cmp::Ordering::Equal => Some(before + 1),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// How many entries a group has still to read; `None` when that cannot be told.
    pub fn lag(&self, group: &Group) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        let read = match group.read {
            Some(read) if !self.has_gaps(group.last) => read,
            _ => self.distance(group.last)?,
        };
        Some(self.added.wrapping_sub(read))
    }
}

impl Entry {
    /// The stream in this entry.
    pub fn stream(&self) -> Option<&Stream> {
        match self.body() {
            Body::Big(Collection::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    /// The stream in this entry, to be changed; an entry made just now becomes one. `None` while its value is on disk.
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        if self.is_cold() {
            return None;
        }
        if self.kind() == Kind::Stream && self.is_packed() {
            self.grow(Collection::Stream(Stream::default()));
        }
        match self.body_mut() {
            BodyMut::Big(Collection::Stream(stream)) => Some(stream),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
