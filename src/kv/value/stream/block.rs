//! A run of entries in one buffer.
//!
//! # Layout
//! Numbers are LEB128. The head holds the field names of the block's first entry: `count`, then as many values. Entries
//! follow, in order:
//!
//! | what | bytes |
//! |---|---|
//! | milliseconds behind those of the block's first id | 1.. |
//! | sequence number; behind the first id's where the milliseconds are equal | 1.. |
//! | 0 when the fields are those of the head, else 1 and the number of fields | 1.. |
//! | values only, or else fields and values in turn | |
//!
//! A *value* is `length × 2 + kind`, then the bytes; kind 1 is a number in its shortest little-endian two's complement
//! form, which stands for its decimal text. An entry of the usual size takes two to five bytes besides its values, where
//! a listpack takes six to twelve.

use super::Id;
use crate::kv::number;
use crate::kv::packed::{len_len, put_len, read_len};
use crate::kv::value::string::Str;

/// Entries a block holds, removed ones counted: as many as Redis puts into a node (`stream-node-max-entries`).
pub const ENTRIES: u32 = 100;
/// Bytes from which on a block takes no further entry (`stream-node-max-bytes`).
pub const BYTES: usize = 4096;

/// A run of entries. It holds at least one while it is part of a stream.
#[derive(Debug)]
pub struct Block {
    first: Id,
    entries: u32,
    removed: u32,
    head: u32,
    bytes: Vec<u8>,
}

/// One entry of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its name.
    pub id: Id,
    names: Option<&'a [u8]>,
    pairs: &'a [u8],
    /// Number of fields.
    pub fields: usize,
    at: usize,
    end: usize,
}

impl<'a> Item<'a> {
    /// Shows fields and values.
    pub fn each(self, mut visit: impl FnMut(Str<'a>, Str<'a>)) {
        let (mut name_at, mut at) = (0, 0);
        for _ in 0..self.fields {
            let name = match self.names {
                Some(names) => read_value(names, name_at).map(|(name, end)| {
                    name_at = end;
                    name
                }),
                None => read_value(self.pairs, at).map(|(name, end)| {
                    at = end;
                    name
                }),
            };
            let (Some(name), Some((value, end))) = (name, read_value(self.pairs, at)) else { return };
            at = end;
            visit(name, value);
        }
    }
}

impl Block {
    /// A block that begins with an entry of these fields; the entry itself is still to be [pushed](Self::push).
    pub fn new(first: Id, pairs: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        put_len(&mut bytes, pairs.len() / 2);
        pairs.iter().step_by(2).for_each(|name| put_value(&mut bytes, name));
        Self { first, entries: 0, removed: 0, head: bytes.len() as u32, bytes }
    }

    /// The id of the first entry it was made for, which may be gone.
    pub const fn first(&self) -> Id {
        self.first
    }

    /// Entries in it.
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether another entry belongs into the next block.
    pub const fn is_full(&self) -> bool {
        self.entries + self.removed >= ENTRIES || self.bytes.len() >= BYTES
    }

    /// Bytes it takes.
    pub const fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// Gives back room nothing more will fill.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Adds an entry behind the last.
    pub fn push(&mut self, id: Id, pairs: &[&[u8]]) {
        let same = self.has_names(pairs);
        let values = pairs.iter().skip(usize::from(same)).step_by(if same { 2 } else { 1 });
        let size: usize = 24 + values.clone().map(|value| value.len() + len_len(2 * value.len())).sum::<usize>();
        if self.bytes.capacity() - self.bytes.len() < size {
            // A half more, not twice as much: what a block does not fill is lost until it is closed.
            self.bytes.reserve_exact(size.max(self.bytes.len() / 2));
        }
        let ms = id.ms.saturating_sub(self.first.ms);
        let seq = if ms == 0 { id.seq.saturating_sub(self.first.seq) } else { id.seq };
        put_number(&mut self.bytes, ms);
        put_number(&mut self.bytes, seq);
        put_len(&mut self.bytes, if same { 0 } else { 1 + pairs.len() / 2 });
        values.for_each(|value| put_value(&mut self.bytes, value));
        self.entries += 1;
    }

    fn has_names(&self, pairs: &[&[u8]]) -> bool {
        let Some((count, mut at)) = read_len(&self.bytes, 0) else { return false };
        count == pairs.len() / 2
            && pairs.iter().step_by(2).all(|name| match read_value(&self.bytes, at) {
                Some((own, end)) => {
                    at = end;
                    *own == **name
                }
                None => false,
            })
    }

    /// Its entries in order.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        let mut at = self.head as usize;
        let names = read_len(&self.bytes, 0);
        std::iter::from_fn(move || {
            let (count, names_at) = names?;
            let item = self.item(at, count, names_at)?;
            at = item.end;
            Some(item)
        })
    }

    fn item(&self, at: usize, names: usize, names_at: usize) -> Option<Item<'_>> {
        let (ms, start) = read_number(&self.bytes, at)?;
        let (seq, start) = read_number(&self.bytes, start)?;
        let (form, start) = read_len(&self.bytes, start)?;
        let (same, fields) = if form == 0 { (true, names) } else { (false, form - 1) };
        let mut end = start;
        let values = if same { fields } else { fields.checked_mul(2)? };
        for _ in 0..values {
            let (len, start) = read_len(&self.bytes, end)?;
            end = start.checked_add(len >> 1).filter(|end| *end <= self.bytes.len())?;
        }
        let seq = if ms == 0 { self.first.seq.checked_add(seq)? } else { seq };
        Some(Item {
            id: Id { ms: self.first.ms.checked_add(ms)?, seq },
            names: if same { self.bytes.get(names_at..) } else { None },
            pairs: self.bytes.get(start..end)?,
            fields,
            at,
            end,
        })
    }

    /// Takes one entry out; says whether it was there.
    pub fn remove(&mut self, id: Id) -> bool {
        let found = self.items().take_while(|item| item.id <= id).find(|item| item.id == id);
        let Some((at, end)) = found.map(|item| (item.at, item.end)) else { return false };
        self.bytes.drain(at..end);
        self.entries -= 1;
        self.removed += 1;
        true
    }

    /// Takes out what comes up to `last`; returns how many that were.
    pub fn remove_through(&mut self, last: Id) -> u32 {
        let (mut gone, mut end) = (0, self.head as usize);
        for item in self.items().take_while(|item| item.id <= last) {
            gone += 1;
            end = item.end;
        }
        self.bytes.drain(self.head as usize..end);
        self.entries -= gone;
        self.removed += gone;
        gone
    }

    /// Appends it to a dump: first id (16 bytes), entries removed, length, buffer.
    pub fn dump(&self, target: &mut Vec<u8>) {
        target.extend_from_slice(&self.first.to_bytes());
        put_len(target, self.removed as usize);
        crate::kv::packed::put(target, &self.bytes);
    }

    /// Reads a block from a dump, all of whose ids must be behind `after`; returns the id of its last entry too.
    pub fn load(first: Id, removed: usize, bytes: &[u8], after: Id) -> Option<(Self, Id)> {
        let (count, mut head) = read_len(bytes, 0)?;
        for _ in 0..count {
            head = read_value(bytes, head)?.1;
        }
        let removed = u32::try_from(removed).ok()?.min(ENTRIES);
        let mut block = Self { first, entries: 0, removed, head: u32::try_from(head).ok()?, bytes: bytes.to_vec() };
        let (mut last, mut end, mut entries) = (after, head, 0);
        for item in block.items() {
            let mut whole = 0;
            item.each(|_, _| whole += 1);
            if item.id <= last || item.id < first || whole != item.fields {
                return None;
            }
            (last, end, entries) = (item.id, item.end, entries + 1);
        }
        block.entries = entries;
        (entries > 0 && end == bytes.len()).then_some((block, last))
    }
}

fn put_number(target: &mut Vec<u8>, value: u64) {
    put_len(target, value as usize);
}

fn read_number(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    read_len(bytes, at).map(|(value, end)| (value as u64, end))
}

fn put_value(target: &mut Vec<u8>, value: &[u8]) {
    let number = if value.len() > 20 { None } else { number::integer(value) };
    if let Some(number) = number {
        let spare = (number ^ (number >> 63)).leading_zeros() as usize - 1;
        let len = 8 - spare / 8;
        put_len(target, len << 1 | 1);
        target.extend_from_slice(number.to_le_bytes().get(..len).unwrap_or_default());
    } else {
        put_len(target, value.len() << 1);
        target.extend_from_slice(value);
    }
}

fn read_value(bytes: &[u8], at: usize) -> Option<(Str<'_>, usize)> {
    let (len, start) = read_len(bytes, at)?;
    let end = start.checked_add(len >> 1)?;
    let raw = bytes.get(start..end)?;
    if len & 1 == 0 {
        return Some((Str::Bytes(raw), end));
    }
    let negative = raw.last()? & 0x80 != 0;
    let mut word = if negative { [0xff; 8] } else { [0; 8] };
    word.get_mut(..raw.len())?.copy_from_slice(raw);
    Some((Str::Number(number::integer_text(i64::from_le_bytes(word))), end))
}
