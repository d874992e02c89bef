//! The form of a stream in dumps of our own, form 5 of [`dump`](crate::kv::dump).
//!
//! Last id, highest deleted id (16 bytes each), entries ever added (8); number of blocks, then each as
//! [`Block::dump`] writes it; number of groups, then each: record name, last id, entries read (8), number of
//! consumers, then each: record name, seen (8), active (8), number of pending entries, then id, time (8), count (8)
//! each. `u64::MAX` stands for none.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::change::{Reader, known, put_id, put_number};
use super::{Block, Collection, Entry, Group, Id, Stream};
use crate::kv::packed;

impl Stream {
    /// Appends the body of its dump.
    pub fn dump(&self, target: &mut Vec<u8>) {
        put_id(target, self.last);
        put_id(target, self.deleted);
        put_number(target, self.added);
        packed::put_len(target, self.blocks.len());
        self.blocks.iter().for_each(|block| block.dump(target));
        packed::put_len(target, self.groups.len());
        for (name, group) in &self.groups {
            packed::put(target, name);
            put_id(target, group.last);
            put_number(target, group.read.unwrap_or(u64::MAX));
            packed::put_len(target, group.consumers().len());
            for (name, consumer) in group.consumers() {
                packed::put(target, name);
                put_number(target, consumer.seen);
                put_number(target, consumer.active.unwrap_or(u64::MAX));
                packed::put_len(target, consumer.pending().len());
                for id in consumer.pending() {
                    let (time, count) = group.pending().get(id).map_or((0, 0), |pending| (pending.time, pending.count));
                    put_id(target, *id);
                    put_number(target, time);
                    put_number(target, count);
                }
            }
        }
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes: body, at: 0 };
        let (last, deleted, added) = (reader.id()?, reader.id()?, reader.number()?);
        let mut stream = Self { last, deleted, added, ..Self::default() };
        let mut top = Id::ZERO;
        for _ in 0..reader.count(18)? {
            let (first, removed, bytes) = (reader.id()?, reader.len()?, reader.record()?);
            let (block, last) = Block::load(first, removed, bytes, top)?;
            top = last;
            stream.len = stream.len.checked_add(block.entries() as usize)?;
            stream.block_bytes = stream.block_bytes.checked_add(block.memory())?;
            stream.blocks.push_back(block);
        }
        if top > stream.last {
            return None;
        }
        for _ in 0..reader.count(26)? {
            let (name, last, read) = (reader.record()?, reader.id()?, known(reader.number()?));
            let mut group = Group::new(last, read);
            for _ in 0..reader.count(18)? {
                let (name, seen, active) = (reader.record()?, reader.number()?, known(reader.number()?));
                group.see(name, seen, active);
                for _ in 0..reader.count(32)? {
                    let (id, time, count) = (reader.id()?, reader.number()?, reader.number()?);
                    group.give(name, id, time, count);
                }
            }
            stream.add_group(name, group);
        }
        (reader.at == body.len()).then_some(stream)
    }
}

/// Reads the body of a dump.
pub(in crate::kv::value) fn load(key: &[u8], body: &[u8], access: u32) -> Option<Entry> {
    Some(Entry::big(key, Collection::Stream(Stream::read(body)?), access))
}
