//! Entries to RDB values.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::bytes::{put_number, put_string};
use super::types;
use crate::kv::entry::Entry;
use crate::kv::value::Kind;
use crate::kv::value::stream::{Id, Item, Stream};

/// Entries one listpack holds.
const NODE: usize = 100;
/// Bytes from which on a listpack takes no further entry.
const NODE_BYTES: usize = 4096;

/// The value of an entry, its type byte first.
pub fn write(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    match entry.kind() {
        Kind::String => {
            out.push(types::STRING);
            put_string(&mut out, &entry.text());
        }
        Kind::List => {
            let list = entry.list();
            out.push(types::LIST);
            put_number(&mut out, list.len() as u64);
            list.each(0, list.len(), |item| put_string(&mut out, item));
        }
        Kind::Set => {
            out.push(types::SET);
            put_number(&mut out, entry.set().len() as u64);
            entry.set().each(|member| put_string(&mut out, member));
        }
        Kind::Hash => {
            out.push(types::HASH);
            put_number(&mut out, entry.hash().len() as u64);
            entry.hash().each(|field, value| {
                put_string(&mut out, field);
                put_string(&mut out, value);
            });
        }
        Kind::ZSet => {
            out.push(types::ZSET);
            put_number(&mut out, entry.zset().len() as u64);
            entry.zset().each(0, usize::MAX, false, |member, score| {
                put_string(&mut out, member);
                out.extend_from_slice(&score.to_le_bytes());
            });
        }
        Kind::Stream => {
            out.push(types::STREAM_2);
            match entry.stream() {
                Some(stream) => put_stream(&mut out, stream),
                None => put_stream(&mut out, &Stream::default()),
            }
        }
    }
    out
}

fn put_id(out: &mut Vec<u8>, id: Id) {
    put_number(out, id.ms);
    put_number(out, id.seq);
}

fn put_raw_id(out: &mut Vec<u8>, id: Id) {
    out.extend_from_slice(&id.ms.to_be_bytes());
    out.extend_from_slice(&id.seq.to_be_bytes());
}

fn put_stream(out: &mut Vec<u8>, stream: &Stream) {
    let mut nodes: Vec<(Id, Node)> = Vec::new();
    stream.range(Id::ZERO, Id::MAX, false, |item| {
        match nodes.last_mut() {
            Some((first, node)) if node.entries < NODE && node.pack.bytes.len() < NODE_BYTES => node.add(*first, item),
            _ => {
                let mut node = Node::default();
                node.add(item.id, item);
                nodes.push((item.id, node));
            }
        }
        true
    });
    put_number(out, nodes.len() as u64);
    for (first, node) in nodes {
        put_number(out, 16);
        put_raw_id(out, first);
        put_string(out, &node.finish());
    }
    put_number(out, stream.len() as u64);
    put_id(out, stream.last());
    put_id(out, stream.first());
    put_id(out, stream.deleted());
    put_number(out, stream.added());
    put_number(out, stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        put_string(out, name);
        put_id(out, group.last);
        put_number(out, group.read.unwrap_or(u64::MAX));
        put_number(out, group.pending().len() as u64);
        for (id, pending) in group.pending() {
            put_raw_id(out, *id);
            out.extend_from_slice(&pending.time.to_le_bytes());
            put_number(out, pending.count);
        }
        put_number(out, group.consumers().len() as u64);
        for (name, consumer) in group.consumers() {
            put_string(out, name);
            out.extend_from_slice(&consumer.seen.to_le_bytes());
            put_number(out, consumer.pending().len() as u64);
            consumer.pending().iter().for_each(|id| put_raw_id(out, *id));
        }
    }
}

/// A listpack that is written.
#[derive(Debug, Default)]
struct Pack {
    bytes: Vec<u8>,
    items: usize,
}

impl Pack {
    fn number(&mut self, number: i64) {
        let before = self.bytes.len();
        if (0..=127).contains(&number) {
            self.bytes.push(number as u8);
        } else {
            self.bytes.push(0xf4);
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.close(before);
    }

    fn text(&mut self, text: &[u8]) {
        let before = self.bytes.len();
        match text.len() {
            0..=63 => self.bytes.push(0x80 | text.len() as u8),
            64..=4095 => self.bytes.extend_from_slice(&(0xe000 | text.len() as u16).to_be_bytes()),
            _ => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(text);
        self.close(before);
    }

    /// Adds the length of the element that began at `before`, seven bits a byte, high ones first, each but the first
    /// marked.
    fn close(&mut self, before: usize) {
        let len = self.bytes.len().saturating_sub(before);
        let size: u32 = match len {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        for nth in (0..size).rev() {
            let bits = (len >> nth.saturating_mul(7) & 0x7f) as u8;
            self.bytes.push(if nth.saturating_add(1) == size { bits } else { bits | 0x80 });
        }
        self.items = self.items.saturating_add(1);
    }
}

/// Entries of a stream in one listpack; each names its fields itself.
#[derive(Debug, Default)]
struct Node {
    pack: Pack,
    entries: usize,
}

impl Node {
    fn add(&mut self, first: Id, item: Item<'_>) {
        self.pack.number(0);
        self.pack.number(item.id.ms.wrapping_sub(first.ms).cast_signed());
        self.pack.number(item.id.seq.wrapping_sub(first.seq).cast_signed());
        self.pack.number(item.fields as i64);
        item.each(|field, value| {
            self.pack.text(&field);
            self.pack.text(&value);
        });
        // Flags, both numbers, the number of fields, and fields and values.
        self.pack.number(item.fields.saturating_mul(2).saturating_add(4) as i64);
        self.entries = self.entries.saturating_add(1);
    }

    /// The listpack: its size, how many elements are in it, entries, none of them gone, no field they share.
    fn finish(self) -> Vec<u8> {
        let mut head = Pack::default();
        head.number(self.entries as i64);
        head.number(0);
        head.number(0);
        head.number(0);
        let size = head.bytes.len().saturating_add(self.pack.bytes.len()).saturating_add(7);
        let items = head.items.saturating_add(self.pack.items);
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&(size as u32).to_le_bytes());
        out.extend_from_slice(&u16::try_from(items).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&head.bytes);
        out.extend_from_slice(&self.pack.bytes);
        out.push(0xff);
        out
    }
}
