//! Lists: records while small; when large, a deque of chunks of records that can be read from both ends.
//!
//! A chunk's record is `length (LEB128) | bytes | length of both (LEB128, reversed)`, so the last one is found without
//! walking. A chunk keeps room in front of its first record, so pushing at the head moves nothing either.

use std::collections::VecDeque;

use crate::kv::effect::End;
use crate::kv::entry::{Body, BodyMut, Entry};
use crate::kv::packed::{self, Records};
use crate::kv::table::Hashing;

use super::{Collection, Limits};

/// Bytes of records a chunk is filled to; a longer element has a chunk of its own.
const CHUNK: usize = 4096;

/// A large list.
#[derive(Debug, Default)]
pub struct List {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// Bytes of records.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where the first record starts; before it is room.
    start: usize,
    count: usize,
}

/// Appends a record.
fn put(target: &mut Vec<u8>, item: &[u8]) {
    let start = target.len();
    packed::put(target, item);
    let mut rest = target.len() - start;
    let at = target.len();
    packed::put_len(target, rest);
    rest = target.len() - at;
    target[at..at + rest].reverse();
}

/// The number that ends at `end`, written by [`put`], and where it starts.
fn read_back(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    let (mut value, mut at) = (0, end);
    for shift in (0..63).step_by(7) {
        at = at.checked_sub(1)?;
        let byte = *bytes.get(at)?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}

/// The elements of a chunk, from both ends.
#[derive(Clone, Debug)]
struct Elements<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (item, end) = packed::record(self.bytes, 0)?;
        self.bytes = self.bytes.get(end + packed::len_len(end)..)?;
        Some(item)
    }
}

impl<'a> DoubleEndedIterator for Elements<'a> {
    fn next_back(&mut self) -> Option<&'a [u8]> {
        let (len, end) = read_back(self.bytes, self.bytes.len())?;
        let start = end.checked_sub(len)?;
        let (item, _) = packed::record(self.bytes, start)?;
        self.bytes = &self.bytes[..start];
        Some(item)
    }
}

impl Chunk {
    fn records(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn elements(&self) -> Elements<'_> {
        Elements { bytes: self.records() }
    }

    /// A chunk of these elements; `None` when there are none.
    fn of<'a>(items: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut chunk = Self::default();
        for item in items {
            put(&mut chunk.bytes, item);
            chunk.count += 1;
        }
        (chunk.count > 0).then_some(chunk)
    }

    fn takes(&self, more: usize) -> bool {
        self.count == 0 || self.records().len() + more <= CHUNK
    }

    fn push_front(&mut self, record: &[u8]) {
        if self.start < record.len() {
            // Doubling the records' bytes as room keeps the moving amortised.
            let used = self.records().len();
            let room = (used + record.len()).min(CHUNK).max(record.len());
            let mut bytes = Vec::with_capacity(room + used);
            bytes.resize(room, 0);
            bytes.extend_from_slice(self.records());
            self.bytes = bytes;
            self.start = room;
        }
        let start = self.start - record.len();
        self.bytes[start..self.start].copy_from_slice(record);
        self.start = start;
        self.count += 1;
    }

    fn push_back(&mut self, record: &[u8]) {
        if self.start > 0 && self.bytes.len() + record.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(record);
        self.count += 1;
    }

    /// Takes an element off an end; returns it and the bytes its record had.
    fn pop(&mut self, end: End) -> Option<(Vec<u8>, usize)> {
        let mut elements = self.elements();
        let item = match end {
            End::Head => elements.next(),
            End::Tail => elements.next_back(),
        }?;
        let (item, left) = (item.to_vec(), elements.bytes.len());
        let taken = self.records().len() - left;
        match end {
            End::Head => self.start += taken,
            End::Tail => self.bytes.truncate(self.start + left),
        }
        self.count -= 1;
        Some((item, taken))
    }
}

impl List {
    /// Adds an element at an end.
    fn push(&mut self, end: End, item: &[u8]) {
        let mut record = Vec::with_capacity(item.len() + 12);
        put(&mut record, item);
        self.len += 1;
        self.bytes += record.len();
        let chunk = match end {
            End::Head => self.chunks.front(),
            End::Tail => self.chunks.back(),
        };
        if !chunk.is_some_and(|chunk| chunk.takes(record.len())) {
            match end {
                End::Head => self.chunks.push_front(Chunk::default()),
                End::Tail => self.chunks.push_back(Chunk::default()),
            }
        }
        match end {
            End::Head => self.chunks.front_mut().map(|chunk| chunk.push_front(&record)),
            End::Tail => self.chunks.back_mut().map(|chunk| chunk.push_back(&record)),
        };
    }

    /// Takes an element off an end.
    fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let chunk = match end {
            End::Head => self.chunks.front_mut(),
            End::Tail => self.chunks.back_mut(),
        }?;
        let (item, bytes) = chunk.pop(end)?;
        if chunk.count == 0 {
            match end {
                End::Head => self.chunks.pop_front(),
                End::Tail => self.chunks.pop_back(),
            };
        }
        self.len -= 1;
        self.bytes -= bytes;
        Some(item)
    }

    /// The chunk that holds an index, and the index within it.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        let mut left = index;
        for (at, chunk) in self.chunks.iter().enumerate() {
            if left < chunk.count {
                return Some((at, left));
            }
            left -= chunk.count;
        }
        None
    }

    /// Rebuilds one chunk from what `change` makes of its elements; it may become several or none.
    fn rebuild(&mut self, at: usize, index: usize, change: &Change<'_>) {
        let Some(chunk) = self.chunks.get(at) else { return };
        let (old_len, old_bytes) = (chunk.count, chunk.records().len());
        let mut items: Vec<&[u8]> = chunk.elements().collect();
        change.make(&mut items, index);
        let mut made = Vec::new();
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            // As many as fill a chunk, at least one.
            let mut filled = 0;
            let fit = rest.iter().take_while(|item| {
                filled += item.len() + 4;
                filled <= CHUNK
            });
            let (these, after) = rest.split_at(fit.count().max(1));
            made.extend(Chunk::of(these.iter().copied()));
            rest = after;
        }
        let (mut new_len, mut new_bytes) = (0, 0);
        for chunk in &made {
            new_len += chunk.count;
            new_bytes += chunk.records().len();
        }
        self.len = self.len + new_len - old_len;
        self.bytes = self.bytes + new_bytes - old_bytes;
        if let [one] = made.as_mut_slice() {
            self.chunks[at] = std::mem::take(one);
            return;
        }
        self.chunks.remove(at);
        for (step, chunk) in made.into_iter().enumerate() {
            self.chunks.insert(at + step, chunk);
        }
    }

    fn iter_from(&self, index: usize) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (chunk, within) = self.locate(index).unwrap_or((self.chunks.len(), 0));
        let head = self.chunks.get(chunk).map(|chunk| {
            let mut elements = chunk.elements();
            elements.by_ref().take(within).for_each(drop);
            elements
        });
        let tail = self.chunks.range((chunk + 1).min(self.chunks.len())..).flat_map(Chunk::elements);
        head.into_iter().flatten().chain(tail)
    }

    /// Number of elements.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes it takes.
    pub fn memory(&self) -> usize {
        self.bytes + self.chunks.len() * size_of::<Chunk>()
    }

    /// Appends the records of all elements, in order.
    pub fn dump(&self, target: &mut Vec<u8>) {
        self.iter_from(0).for_each(|item| packed::put(target, item));
    }
}

/// A list of either form, for reading.
#[derive(Clone, Copy, Debug)]
pub enum ListView<'a> {
    /// Records.
    Packed(&'a [u8]),
    /// Chunks.
    Big(&'a List),
}

impl<'a> ListView<'a> {
    /// Number of elements.
    pub fn len(self) -> usize {
        match self {
            Self::Packed(bytes) => Records::new(bytes).count(),
            Self::Big(list) => list.len(),
        }
    }

    /// The element at `index`.
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        match self {
            Self::Packed(bytes) => Records::new(bytes).nth(index),
            Self::Big(list) => list.iter_from(index).next(),
        }
    }

    /// Shows up to `most` elements from `index` on.
    pub fn each(self, index: usize, most: usize, visit: impl FnMut(&'a [u8])) {
        match self {
            Self::Packed(bytes) => Records::new(bytes).skip(index).take(most).for_each(visit),
            Self::Big(list) => list.iter_from(index).take(most).for_each(visit),
        }
    }

    /// Where the elements equal to `item` are, in order, or from the last back; looks at `most` elements at most.
    pub fn positions(self, item: &[u8], back: bool, most: usize) -> Box<dyn Iterator<Item = usize> + 'a> {
        let item = item.to_vec();
        let same = move |(at, other): (usize, &'a [u8])| (*other == *item).then_some(at);
        let len = self.len();
        match self {
            Self::Packed(bytes) => {
                let all: Vec<_> = Records::new(bytes).collect();
                if back {
                    Box::new((0..len).rev().zip(all.into_iter().rev()).take(most).filter_map(same))
                } else {
                    Box::new(all.into_iter().enumerate().take(most).filter_map(same))
                }
            }
            Self::Big(list) if back => {
                Box::new((0..len).rev().zip(list.iter_from(0).rev()).take(most).filter_map(same))
            }
            Self::Big(list) => Box::new(list.iter_from(0).enumerate().take(most).filter_map(same)),
        }
    }
}

impl Entry {
    /// The list in this entry; an empty one for other kinds.
    pub fn list(&self) -> ListView<'_> {
        match self.body() {
            Body::Packed(bytes) => ListView::Packed(bytes),
            Body::Big(Collection::List(list)) => ListView::Big(list),
            Body::Big(_) => ListView::Packed(&[]),
        }
    }

    /// Adds an element at an end.
    pub fn list_push(&mut self, end: End, item: &[u8], limits: Limits) {
        let mut payload = match self.body_mut() {
            BodyMut::Big(Collection::List(list)) => return list.push(end, item),
            BodyMut::Big(_) => return,
            BodyMut::Packed(payload) => payload,
        };
        let len = payload.bytes().len();
        let mut head = Vec::with_capacity(10);
        packed::put_len(&mut head, item.len());
        if len + head.len() + item.len() > limits.bytes || Records::new(payload.bytes()).count() >= limits.elements {
            let mut list = List::default();
            self.list().each(0, usize::MAX, |item| list.push(End::Tail, item));
            list.push(end, item);
            self.grow(Collection::List(list));
        } else {
            let at = if end == End::Head { 0 } else { len };
            payload.splice(at, 0, &[&head, item]);
        }
    }

    /// Takes an element off an end.
    pub fn list_pop(&mut self, end: End) -> Option<Vec<u8>> {
        match self.body_mut() {
            BodyMut::Big(Collection::List(list)) => list.pop(end),
            BodyMut::Big(_) => None,
            BodyMut::Packed(mut payload) => {
                let mut records = Records::new(payload.bytes());
                let (mut at, mut item) = (0, records.next()?.to_vec());
                if end == End::Tail {
                    let mut next = records.at();
                    while let Some(later) = records.next() {
                        if records.at() == payload.bytes().len() {
                            item = later.to_vec();
                        }
                        at = next;
                        next = records.at();
                    }
                }
                payload.splice(at, packed::len_len(item.len()) + item.len(), &[]);
                Some(item)
            }
        }
    }

    /// Replaces the element at `index`; nothing happens beyond the end.
    pub fn list_set(&mut self, index: usize, value: &[u8], limits: Limits) {
        self.list_change(index, &Change::Set(value));
        self.list_settle(limits);
    }

    /// Puts an element before the one at `index`; beyond the end, last.
    pub fn list_insert(&mut self, index: usize, value: &[u8], limits: Limits) {
        if index >= self.list().len() {
            self.list_push(End::Tail, value, limits);
            return;
        }
        self.list_change(index, &Change::Insert(value));
        self.list_settle(limits);
    }

    /// Takes out elements equal to `value`: the first `count`, the last `-count`, or all when 0; says how many.
    pub fn list_remove(&mut self, count: i64, value: &[u8]) -> usize {
        let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
        let gone: Vec<usize> = self.list().positions(value, count < 0, usize::MAX).take(most).collect();
        let ordered: Vec<usize> = if count < 0 { gone.into_iter().rev().collect() } else { gone };
        self.list_drop(&ordered);
        ordered.len()
    }

    /// Keeps only `len` elements from `start` on.
    pub fn list_keep(&mut self, start: usize, len: usize) {
        let whole = self.list().len();
        let end = start.saturating_add(len).min(whole);
        let start = start.min(end);
        match self.body_mut() {
            BodyMut::Big(Collection::List(list)) => {
                (0..start).map_while(|_| list.pop(End::Head)).for_each(drop);
                (end..whole).map_while(|_| list.pop(End::Tail)).for_each(drop);
            }
            BodyMut::Big(_) => {}
            BodyMut::Packed(mut payload) => {
                let mut kept = Vec::with_capacity(payload.bytes().len());
                Records::new(payload.bytes())
                    .skip(start)
                    .take(end - start)
                    .for_each(|item| packed::put(&mut kept, item));
                payload.replace(&kept);
            }
        }
    }

    /// Changes the elements around `index`: all of a packed list, or the chunk that holds it.
    fn list_change(&mut self, index: usize, change: &Change<'_>) {
        match self.body_mut() {
            BodyMut::Big(Collection::List(list)) => {
                if let Some((chunk, within)) = list.locate(index) {
                    list.rebuild(chunk, within, change);
                }
            }
            BodyMut::Big(_) => {}
            BodyMut::Packed(mut payload) => {
                let mut items: Vec<&[u8]> = Records::new(payload.bytes()).collect();
                change.make(&mut items, index);
                let mut changed = Vec::with_capacity(payload.bytes().len());
                for item in &items {
                    packed::put(&mut changed, item);
                }
                payload.replace(&changed);
            }
        }
    }

    /// Moves a packed list that has outgrown the limits into chunks.
    fn list_settle(&mut self, limits: Limits) {
        let Body::Packed(bytes) = self.body() else { return };
        if bytes.len() > limits.bytes || Records::new(bytes).count() > limits.elements {
            let mut list = List::default();
            Records::new(bytes).for_each(|item| list.push(End::Tail, item));
            self.grow(Collection::List(list));
        }
    }

    /// Takes out the elements at these indexes, which rise.
    fn list_drop(&mut self, indexes: &[usize]) {
        if let BodyMut::Big(Collection::List(list)) = self.body_mut() {
            let mut rest = indexes;
            // From the last chunk back, so that the indexes still to come stay right.
            while let Some(last) = rest.last() {
                let Some((chunk, within)) = list.locate(*last) else { return };
                let base = last - within;
                let first = rest.partition_point(|index| *index < base);
                let (before, here) = rest.split_at(first);
                list.rebuild(chunk, 0, &Change::Drop(&here.iter().map(|index| index - base).collect::<Vec<_>>()));
                rest = before;
            }
        } else {
            self.list_change(0, &Change::Drop(indexes));
        }
    }
}

/// What happens to some elements.
enum Change<'v> {
    /// The one at the index becomes another.
    Set(&'v [u8]),
    /// Another comes before it.
    Insert(&'v [u8]),
    /// Those at these indexes, which rise, go.
    Drop(&'v [usize]),
}

impl<'v> Change<'v> {
    fn make<'i>(&self, items: &mut Vec<&'i [u8]>, index: usize)
    where
        'v: 'i,
    {
        match self {
            Self::Set(value) => {
                if let Some(place) = items.get_mut(index) {
                    *place = value;
                }
            }
            Self::Insert(value) => items.insert(index.min(items.len()), value),
            Self::Drop(indexes) => {
                let mut left = indexes.iter().peekable();
                let mut at = 0;
                items.retain(|_| {
                    at += 1;
                    left.next_if(|index| **index == at - 1).is_none()
                });
            }
        }
    }
}

/// Reads the body of a dump.
pub(super) fn load(key: &[u8], body: &[u8], access: u32, limits: Limits, _: &Hashing) -> Option<Entry> {
    let count = super::whole_records(body)?;
    if count == 0 {
        return None;
    }
    if body.len() <= limits.bytes && count <= limits.elements {
        return Some(Entry::packed(super::Kind::List, key, body, access));
    }
    let mut list = List::default();
    Records::new(body).for_each(|item| list.push(End::Tail, item));
    Some(Entry::big(key, Collection::List(list), access))
}
