//! RDB values to entries.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;

use super::bytes::Reader;
use super::packs::{Item, integers, listpack, ziplist, zipmap};
use super::{RdbError, types};
use crate::kv::dump;
use crate::kv::effect::End;
use crate::kv::entry::Entry;
use crate::kv::number;
use crate::kv::table::Hashing;
use crate::kv::value::stream::{Change, Id, Stream};
use crate::kv::value::{Collection, Kind, Limits};

/// What entries are made with.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The key.
    pub key: &'a [u8],
    /// When it was used, see [`clock`](crate::kv::clock).
    pub access: u32,
    /// Up to where collections are packed.
    pub limits: Limits,
    /// The hash function of the keyspace.
    pub hashing: &'a Hashing,
    /// Bytes the strings of a value may have together.
    pub most: usize,
}

/// Makes an entry of a value, which begins with its type byte.
///
/// # Errors
/// [`RdbError::Malformed`] also for an empty collection, and for a member or field that is there twice.
pub fn read(value: &[u8], frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut reader = Reader::new(value, frame.most);
    let [kind] = reader.raw()?;
    let entry = match kind {
        types::STRING => dump::string(frame.key, &reader.string()?, frame.access),
        types::LIST => {
            let mut list = Maker::new(Kind::List, frame);
            for _ in 0..reader.count()? {
                list.push(&reader.string()?);
            }
            list.entry
        }
        types::LIST_ZIPLIST => packed_list(&[reader.string()?], frame)?,
        types::LIST_ZIPLISTS => {
            let packs: Result<Vec<_>, _> = (0..reader.count()?).map(|_| reader.string()).collect();
            packed_list(&packs?, frame)?
        }
        types::LIST_LISTPACKS => listpacks(&mut reader, frame)?,
        types::SET => {
            let mut set = Maker::new(Kind::Set, frame);
            for _ in 0..reader.count()? {
                set.add(&reader.string()?)?;
            }
            set.entry
        }
        types::SET_INTEGERS => packed_set(&integers(&reader.string()?)?, frame)?,
        types::SET_LISTPACK => packed_set(&listpack(&reader.string()?)?, frame)?,
        types::HASH => {
            let mut hash = Maker::new(Kind::Hash, frame);
            for _ in 0..reader.count()? {
                let (field, value) = (reader.string()?, reader.string()?);
                hash.set(&field, &value)?;
            }
            hash.entry
        }
        types::HASH_ZIPMAP => packed_hash(&zipmap(&reader.string()?)?, frame)?,
        types::HASH_ZIPLIST => packed_hash(&ziplist(&reader.string()?)?, frame)?,
        types::HASH_LISTPACK => packed_hash(&listpack(&reader.string()?)?, frame)?,
        types::ZSET | types::ZSET_TEXT => {
            let mut set = Maker::new(Kind::ZSet, frame);
            for _ in 0..reader.count()? {
                let member = reader.string()?;
                let score =
                    if kind == types::ZSET { f64::from_le_bytes(reader.raw()?) } else { text_score(&mut reader)? };
                set.score(&member, score)?;
            }
            set.entry
        }
        types::ZSET_ZIPLIST => packed_zset(&ziplist(&reader.string()?)?, frame)?,
        types::ZSET_LISTPACK => packed_zset(&listpack(&reader.string()?)?, frame)?,
        types::STREAM_1 | types::STREAM_2 | types::STREAM_3 => {
            let stream = read_stream(&mut reader, kind)?;
            Entry::big(frame.key, Collection::Stream(stream), frame.access)
        }
        _ => return Err(RdbError::Malformed),
    };
    if reader.is_at_end() && !entry.is_empty_collection() { Ok(entry) } else { Err(RdbError::Malformed) }
}

/// A collection that is filled element by element.
struct Maker<'a> {
    entry: Entry,
    frame: Frame<'a>,
}

impl<'a> Maker<'a> {
    fn new(kind: Kind, frame: Frame<'a>) -> Self {
        Self { entry: Entry::packed(kind, frame.key, &[], frame.access), frame }
    }

    fn push(&mut self, item: &[u8]) {
        self.entry.list_push(End::Tail, item, self.frame.limits);
    }

    fn add(&mut self, member: &[u8]) -> Result<(), RdbError> {
        let is_new = self.entry.set_add(member, self.frame.limits, self.frame.hashing);
        if is_new { Ok(()) } else { Err(RdbError::Malformed) }
    }

    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<(), RdbError> {
        let is_new = self.entry.hash_set(field, value, self.frame.limits, self.frame.hashing);
        if is_new { Ok(()) } else { Err(RdbError::Malformed) }
    }

    fn score(&mut self, member: &[u8], score: f64) -> Result<(), RdbError> {
        if score.is_nan() {
            return Err(RdbError::Malformed);
        }
        // -0 is 0 here.
        let old = self.entry.zset_set(member, score + 0.0, self.frame.limits, self.frame.hashing);
        if old.is_none() { Ok(()) } else { Err(RdbError::Malformed) }
    }
}

fn packed_list(packs: &[Vec<u8>], frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut list = Maker::new(Kind::List, frame);
    for pack in packs {
        ziplist(pack)?.iter().for_each(|item| list.push(&item.to_vec()));
    }
    Ok(list.entry)
}

/// A list of listpacks, and of elements too large for one.
fn listpacks(reader: &mut Reader<'_>, frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut list = Maker::new(Kind::List, frame);
    for _ in 0..reader.count()? {
        let (container, bytes) = (reader.number()?, reader.string()?);
        match container {
            1 => list.push(&bytes),
            2 => listpack(&bytes)?.iter().for_each(|item| list.push(&item.to_vec())),
            _ => return Err(RdbError::Malformed),
        }
    }
    Ok(list.entry)
}

fn packed_set(items: &[Item<'_>], frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut set = Maker::new(Kind::Set, frame);
    for item in items {
        set.add(&item.to_vec())?;
    }
    Ok(set.entry)
}

fn packed_hash(items: &[Item<'_>], frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut hash = Maker::new(Kind::Hash, frame);
    let (pairs, rest) = items.as_chunks::<2>();
    for [field, value] in pairs {
        hash.set(&field.to_vec(), &value.to_vec())?;
    }
    if rest.is_empty() { Ok(hash.entry) } else { Err(RdbError::Malformed) }
}

fn packed_zset(items: &[Item<'_>], frame: Frame<'_>) -> Result<Entry, RdbError> {
    let mut set = Maker::new(Kind::ZSet, frame);
    let (pairs, rest) = items.as_chunks::<2>();
    for [member, score] in pairs {
        let score = number::float(&score.to_vec()).ok_or(RdbError::Malformed)?;
        set.score(&member.to_vec(), score)?;
    }
    if rest.is_empty() { Ok(set.entry) } else { Err(RdbError::Malformed) }
}

/// A score as text with a length of one byte, of which three stand for what is no finite number.
fn text_score(reader: &mut Reader<'_>) -> Result<f64, RdbError> {
    let [len] = reader.raw()?;
    match len {
        253 => Err(RdbError::Malformed),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        _ => number::float(reader.take(usize::from(len))?).ok_or(RdbError::Malformed),
    }
}

fn id(reader: &mut Reader<'_>) -> Result<Id, RdbError> {
    Ok(Id { ms: reader.number()?, seq: reader.number()? })
}

/// An id of sixteen bytes, high ones first.
fn raw_id(bytes: [u8; 16]) -> Id {
    let word = u128::from_be_bytes(bytes);
    Id { ms: (word >> 64) as u64, seq: word as u64 }
}

fn read_stream(reader: &mut Reader<'_>, kind: u8) -> Result<Stream, RdbError> {
    let mut stream = Stream::default();
    for _ in 0..reader.count()? {
        let key: [u8; 16] = reader.string()?.try_into().map_err(|_other| RdbError::Malformed)?;
        let pack = reader.string()?;
        read_node(&mut stream, raw_id(key), &listpack(&pack)?)?;
    }
    let (len, last) = (reader.number()?, id(reader)?);
    let (deleted, added) = if kind == types::STREAM_1 {
        (Id::ZERO, len)
    } else {
        // The first entry's id, which the entries tell.
        id(reader)?;
        (id(reader)?, reader.number()?)
    };
    if len != stream.len() as u64 || stream.top().is_some_and(|top| top > last) {
        return Err(RdbError::Malformed);
    }
    stream.apply(&Change::Set { last, deleted, added });
    for _ in 0..reader.count()? {
        read_group(&mut stream, reader, kind)?;
    }
    Ok(stream)
}

/// The elements of a listpack, one after the other.
struct Elements<'a>(std::slice::Iter<'a, Item<'a>>);

impl<'a> Elements<'a> {
    fn next(&mut self) -> Result<&'a Item<'a>, RdbError> {
        self.0.next().ok_or(RdbError::Malformed)
    }

    fn signed(&mut self) -> Result<i64, RdbError> {
        self.next()?.number().ok_or(RdbError::Malformed)
    }

    fn number(&mut self) -> Result<u64, RdbError> {
        u64::try_from(self.signed()?).map_err(|_negative| RdbError::Malformed)
    }
}

/// The entries of one listpack, whose first names the fields most of them have.
fn read_node(stream: &mut Stream, first: Id, items: &[Item<'_>]) -> Result<(), RdbError> {
    let mut elements = Elements(items.iter());
    let (count, gone, names_len) = (elements.number()?, elements.number()?, elements.number()?);
    let mut names = Vec::new();
    for _ in 0..names_len {
        names.push(elements.next()?.to_vec());
    }
    elements.next()?;
    let entries = count.checked_add(gone).ok_or(RdbError::Malformed)?;
    for _ in 0..entries {
        let flags = elements.number()?;
        // Differences may wrap: a later millisecond begins anew with its numbers.
        let (ms, seq) = (elements.signed()?, elements.signed()?);
        let id = Id { ms: first.ms.wrapping_add_signed(ms), seq: first.seq.wrapping_add_signed(seq) };
        let same = flags & 2 != 0;
        let fields = if same { names_len } else { elements.number()? };
        let mut parts = Vec::new();
        for at in 0..fields {
            let named = usize::try_from(at).ok().and_then(|at| names.get(at)).filter(|_| same);
            parts.push(match named {
                Some(name) => name.clone(),
                None => elements.next()?.to_vec(),
            });
            parts.push(elements.next()?.to_vec());
        }
        // How many elements the entry took.
        elements.next()?;
        if flags & 1 == 0 {
            let pairs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            if pairs.is_empty() || stream.apply(&Change::Add { id, pairs: Cow::Owned(pairs) }) == 0 {
                return Err(RdbError::Malformed);
            }
        }
    }
    if elements.next().is_err() { Ok(()) } else { Err(RdbError::Malformed) }
}

fn read_group(stream: &mut Stream, reader: &mut Reader<'_>, kind: u8) -> Result<(), RdbError> {
    let (name, last) = (reader.string()?, id(reader)?);
    let read = if kind == types::STREAM_1 { None } else { Some(reader.number()?).filter(|read| *read != u64::MAX) };
    if stream.apply(&Change::Group { group: &name, last, read }) == 0 {
        return Err(RdbError::Malformed);
    }
    let mut pending = std::collections::BTreeMap::new();
    for _ in 0..reader.count()? {
        let (id, time, count) = (raw_id(reader.raw()?), u64::from_le_bytes(reader.raw()?), reader.number()?);
        pending.insert(id, (time, count));
    }
    for _ in 0..reader.count()? {
        let (consumer, seen) = (reader.string()?, u64::from_le_bytes(reader.raw()?));
        let active = if kind == types::STREAM_3 { Some(u64::from_le_bytes(reader.raw()?)) } else { Some(seen) };
        let active = active.filter(|active| *active != u64::MAX);
        stream.apply(&Change::Consumer { group: &name, name: &consumer, seen, active });
        let mut items = Vec::new();
        for _ in 0..reader.count()? {
            let id = raw_id(reader.raw()?);
            let (time, count) = pending.remove(&id).ok_or(RdbError::Malformed)?;
            items.push((id, time, count));
        }
        stream.apply(&Change::Give { group: &name, name: &consumer, items });
    }
    // Everything that is pending belongs to somebody.
    if pending.is_empty() { Ok(()) } else { Err(RdbError::Malformed) }
}
