//! Effects: what commands did, in a form that replays to the same keyspace.
//!
//! Commands are not deterministic (`SPOP`, relative expiry, clocks); their effects are. Each names one key and carries
//! absolute values, so replaying the effects of a key over its complete value at some moment gives its value at any
//! later moment. A key that vanishes, also because it expired or its last element was taken, vanishes by an explicit
//! [`Effect::Delete`].
//!
//! # Layout
//! Effects stand one behind the other: operation (1 byte), then by operation (all lengths and counts LEB128, a *record*
//! is length and bytes, numbers little-endian):
//!
//! | op | what | follows |
//! |---|---|---|
//! | 1, 2 | begin, end of a transaction | |
//! | 3 | databases | 16 bytes: the store behind each number |
//! | 4 | flush | store |
//! | 5 | delete | store, key |
//! | 6 | set | store, key, expiry (8, 0 is none), value |
//! | 7 | expire | store, key, expiry (8, 0 is none) |
//! | 8 | restore | store, key, expiry (8), dump (see [`dump`](super::dump)) |
//! | 9 | append | store, key, bytes |
//! | 10 | set range | store, key, offset (8), bytes |
//! | 16, 17 | push at the head, tail | store, key, count, records |
//! | 18, 19 | pop at the head, tail | store, key, count (8) |
//! | 20 | list set | store, key, index (8), value |
//! | 21 | list insert before | store, key, index (8), value |
//! | 22 | list remove | store, key, count (8, as `LREM`), value |
//! | 23 | list keep | store, key, start (8), length (8) |
//! | 24, 25 | hash set, hash delete | store, key, count, records (set: field, value, …) |
//! | 26, 27 | set add, set remove | store, key, count, records |
//! | 28 | sorted set add | store, key, count, (score (8), record) … |
//! | 29 | sorted set remove | store, key, count, records |
//! | 32 | stream | store, key, record: see `value/stream/change.rs` |
//! | 33 | all libraries of functions are gone | |
//! | 34 | library | records name, code |
//! | 35 | library is gone | record name |
//!
//! *Store* is one byte: the fixed place a database's keys live in. `SWAPDB` changes which number names which store
//! (op 3), so that neither effects nor a checkpoint under way ever have to move keys.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::config::DATABASES;
use super::packed::{self, Records};
use super::value::stream::Change;

/// The store behind each database number.
pub type Stores = [u8; DATABASES as usize];

/// One effect, read from bytes.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table of the module says what each field is")]
pub enum Effect<'a> {
    /// What follows up to [`Effect::End`] happened as a unit.
    Begin,
    /// The unit is whole.
    End,
    /// Which store each database number names.
    Databases(Stores),
    /// There is no library of functions any more.
    NoLibraries,
    /// The library is there with this code, whatever it was before.
    Library { name: &'a [u8], code: &'a [u8] },
    /// The library is gone.
    LibraryDelete { name: &'a [u8] },
    /// The store loses all keys.
    Flush { store: u8 },
    /// The key is gone.
    Delete { store: u8, key: &'a [u8] },
    /// The key holds this string.
    Set { store: u8, key: &'a [u8], expires: Option<u64>, value: &'a [u8] },
    /// The key's expiry.
    Expire { store: u8, key: &'a [u8], expires: Option<u64> },
    /// The key holds this dumped value.
    Restore { store: u8, key: &'a [u8], expires: Option<u64>, dump: &'a [u8] },
    /// Bytes at the end of a string.
    Append { store: u8, key: &'a [u8], bytes: &'a [u8] },
    /// Bytes inside a string, zeros before them when it is shorter.
    SetRange { store: u8, key: &'a [u8], offset: u64, bytes: &'a [u8] },
    /// Elements at an end of a list, one after the other.
    Push { store: u8, key: &'a [u8], end: End, items: Items<'a> },
    /// Elements leave an end of a list.
    Pop { store: u8, key: &'a [u8], end: End, count: u64 },
    /// An element is replaced.
    ListSet { store: u8, key: &'a [u8], index: u64, value: &'a [u8] },
    /// An element comes before another, or last.
    ListInsert { store: u8, key: &'a [u8], index: u64, value: &'a [u8] },
    /// Equal elements leave: the first `count`, the last `-count`, or all when 0.
    ListRemove { store: u8, key: &'a [u8], count: i64, value: &'a [u8] },
    /// Only a range stays.
    ListKeep { store: u8, key: &'a [u8], start: u64, len: u64 },
    /// Fields get values; fields and values alternate.
    HashSet { store: u8, key: &'a [u8], pairs: Items<'a> },
    /// Fields leave.
    HashDelete { store: u8, key: &'a [u8], fields: Items<'a> },
    /// Members come.
    SetAdd { store: u8, key: &'a [u8], members: Items<'a> },
    /// Members leave.
    SetRemove { store: u8, key: &'a [u8], members: Items<'a> },
    /// Members get scores.
    ZSetAdd { store: u8, key: &'a [u8], members: Scored<'a> },
    /// Members leave.
    ZSetRemove { store: u8, key: &'a [u8], members: Items<'a> },
    /// A stream is changed.
    Stream { store: u8, key: &'a [u8], change: Change<'a> },
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The left one, index 0.
    Head,
    /// The right one, index -1.
    Tail,
}

/// The records of an effect.
pub type Items<'a> = std::iter::Take<Records<'a>>;

/// Members with their scores.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    records: Records<'a>,
    left: usize,
}

impl<'a> Effect<'a> {
    /// Store and key of the effects there are most of.
    pub const fn target(&self) -> Option<(u8, &'a [u8])> {
        match *self {
            Self::Set { store, key, .. } | Self::Restore { store, key, .. } | Self::Delete { store, key } => {
                Some((store, key))
            }
            _ => None,
        }
    }
}

impl<'a> Effect<'a> {
    /// Store and key of an effect that changes a part of a value, and so needs the rest of it.
    pub const fn changes(&self) -> Option<(u8, &'a [u8])> {
        match *self {
            Self::Append { store, key, .. }
            | Self::SetRange { store, key, .. }
            | Self::Push { store, key, .. }
            | Self::Pop { store, key, .. }
            | Self::ListSet { store, key, .. }
            | Self::ListInsert { store, key, .. }
            | Self::ListRemove { store, key, .. }
            | Self::ListKeep { store, key, .. }
            | Self::HashSet { store, key, .. }
            | Self::HashDelete { store, key, .. }
            | Self::SetAdd { store, key, .. }
            | Self::SetRemove { store, key, .. }
            | Self::ZSetAdd { store, key, .. }
            | Self::ZSetRemove { store, key, .. }
            | Self::Stream { store, key, .. } => Some((store, key)),
            Self::Begin
            | Self::End
            | Self::Databases(_)
            | Self::NoLibraries
            | Self::Library { .. }
            | Self::LibraryDelete { .. }
            | Self::Flush { .. }
            | Self::Delete { .. }
            | Self::Set { .. }
            | Self::Expire { .. }
            | Self::Restore { .. } => None,
        }
    }
}

impl<'a> Effect<'a> {
    /// Store and key of an effect on one key.
    pub const fn place(&self) -> Option<(u8, &'a [u8])> {
        match *self {
            Self::Expire { store, key, .. } => Some((store, key)),
            _ => match self.target() {
                Some(place) => Some(place),
                None => self.changes(),
            },
        }
    }
}

impl<'a> Iterator for Scored<'a> {
    type Item = (f64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let score = packed::bits_score(u64::from_le_bytes(self.records.raw()?));
        // Bits that are no score sort as zero: nothing writes them, and order must stay total.
        Some((if score.is_nan() { 0.0 } else { score }, self.records.next()?))
    }
}

/// Effects of one loop turn, in order.
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    /// Where the last effect on a key begins.
    last: usize,
    /// Bytes that listeners were told of.
    announced: usize,
    /// They hold what must be synced before the reply, whatever the mode.
    urgent: bool,
}

impl Effects {
    /// The encoded effects.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing changed.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets the effects, once they are in the journal. Keeps up to 1 MiB of room for the next turn.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        (self.last, self.announced, self.urgent) = (0, 0, false);
    }

    /// Whether they must be synced before the reply, whatever the mode: programs are, as they are few and change seldom.
    pub const fn are_urgent(&self) -> bool {
        self.urgent
    }

    /// Bytes so far; a mark for [`Effects::since`] and [`Effects::truncate`].
    pub(super) const fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back what came after `mark`.
    pub(super) fn truncate(&mut self, mark: usize) {
        self.bytes.truncate(mark);
        self.announced = self.announced.min(mark);
    }

    /// Where the last effect on a key begins.
    pub(super) const fn last(&self) -> usize {
        self.last
    }

    /// Counts all effects as announced; returns where those begin that were not.
    pub(super) const fn announce(&mut self) -> usize {
        std::mem::replace(&mut self.announced, self.bytes.len())
    }

    fn head(&mut self, op: u8, store: u8, key: &[u8]) {
        self.last = self.bytes.len();
        self.bytes.push(op);
        self.bytes.push(store);
        packed::put(&mut self.bytes, key);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn records<'b>(&mut self, op: u8, store: u8, key: &[u8], items: impl Iterator<Item = &'b [u8]> + Clone) {
        self.head(op, store, key);
        packed::put_len(&mut self.bytes, items.clone().count());
        items.for_each(|item| packed::put(&mut self.bytes, item));
    }

    /// Effects that are encoded already.
    pub(super) fn raw(&mut self, effects: &[u8]) {
        self.bytes.extend_from_slice(effects);
    }

    pub(super) fn begin(&mut self) {
        self.bytes.push(1);
    }

    pub(super) fn end(&mut self) {
        self.bytes.push(2);
    }

    pub(super) fn databases(&mut self, stores: &Stores) {
        self.bytes.push(3);
        self.bytes.extend_from_slice(stores);
    }

    pub(super) fn no_libraries(&mut self) {
        self.bytes.push(33);
        self.urgent = true;
    }

    pub(super) fn library(&mut self, name: &[u8], code: &[u8]) {
        self.bytes.push(34);
        packed::put(&mut self.bytes, name);
        packed::put(&mut self.bytes, code);
        self.urgent = true;
    }

    pub(super) fn library_delete(&mut self, name: &[u8]) {
        self.bytes.push(35);
        packed::put(&mut self.bytes, name);
        self.urgent = true;
    }

    pub(super) fn flush(&mut self, store: u8) {
        self.bytes.extend_from_slice(&[4, store]);
    }

    pub(super) fn delete(&mut self, store: u8, key: &[u8]) {
        self.head(5, store, key);
    }

    pub(super) fn set(&mut self, store: u8, key: &[u8], expires: Option<u64>, value: &[u8]) {
        self.head(6, store, key);
        self.number(expires.unwrap_or(0));
        packed::put(&mut self.bytes, value);
    }

    pub(super) fn expire(&mut self, store: u8, key: &[u8], expires: Option<u64>) {
        self.head(7, store, key);
        self.number(expires.unwrap_or(0));
    }

    pub(super) fn restore(&mut self, store: u8, key: &[u8], expires: Option<u64>, dump: &[u8]) {
        self.head(8, store, key);
        self.number(expires.unwrap_or(0));
        packed::put(&mut self.bytes, dump);
    }

    pub(super) fn append(&mut self, store: u8, key: &[u8], bytes: &[u8]) {
        self.head(9, store, key);
        packed::put(&mut self.bytes, bytes);
    }

    pub(super) fn set_range(&mut self, store: u8, key: &[u8], offset: u64, bytes: &[u8]) {
        self.head(10, store, key);
        self.number(offset);
        packed::put(&mut self.bytes, bytes);
    }

    pub(super) fn list_push<'b>(
        &mut self,
        store: u8,
        key: &[u8],
        end: End,
        items: impl Iterator<Item = &'b [u8]> + Clone,
    ) {
        self.records(if end == End::Head { 16 } else { 17 }, store, key, items);
    }

    pub(super) fn list_pop(&mut self, store: u8, key: &[u8], end: End, count: u64) {
        self.head(if end == End::Head { 18 } else { 19 }, store, key);
        self.number(count);
    }

    pub(super) fn list_set(&mut self, store: u8, key: &[u8], index: u64, value: &[u8]) {
        self.head(20, store, key);
        self.number(index);
        packed::put(&mut self.bytes, value);
    }

    pub(super) fn list_insert(&mut self, store: u8, key: &[u8], index: u64, value: &[u8]) {
        self.head(21, store, key);
        self.number(index);
        packed::put(&mut self.bytes, value);
    }

    pub(super) fn list_remove(&mut self, store: u8, key: &[u8], count: i64, value: &[u8]) {
        self.head(22, store, key);
        self.number(count.cast_unsigned());
        packed::put(&mut self.bytes, value);
    }

    pub(super) fn list_keep(&mut self, store: u8, key: &[u8], start: u64, len: u64) {
        self.head(23, store, key);
        self.number(start);
        self.number(len);
    }

    pub(super) fn hash_set<'b>(&mut self, store: u8, key: &[u8], pairs: impl Iterator<Item = &'b [u8]> + Clone) {
        self.records(24, store, key, pairs);
    }

    pub(super) fn hash_delete<'b>(&mut self, store: u8, key: &[u8], fields: impl Iterator<Item = &'b [u8]> + Clone) {
        self.records(25, store, key, fields);
    }

    pub(super) fn set_add<'b>(&mut self, store: u8, key: &[u8], members: impl Iterator<Item = &'b [u8]> + Clone) {
        self.records(26, store, key, members);
    }

    pub(super) fn set_remove<'b>(&mut self, store: u8, key: &[u8], members: impl Iterator<Item = &'b [u8]> + Clone) {
        self.records(27, store, key, members);
    }

    pub(super) fn zset_add<'b>(
        &mut self,
        store: u8,
        key: &[u8],
        members: impl Iterator<Item = (f64, &'b [u8])> + Clone,
    ) {
        self.head(28, store, key);
        packed::put_len(&mut self.bytes, members.clone().count());
        for (score, member) in members {
            self.number(packed::score_bits(score));
            packed::put(&mut self.bytes, member);
        }
    }

    pub(super) fn zset_remove<'b>(&mut self, store: u8, key: &[u8], members: impl Iterator<Item = &'b [u8]> + Clone) {
        self.records(29, store, key, members);
    }

    pub(super) fn stream(&mut self, store: u8, key: &[u8], change: &Change<'_>) {
        self.head(32, store, key);
        let mut bytes = Vec::new();
        change.put(&mut bytes);
        packed::put(&mut self.bytes, &bytes);
    }
}

/// Bytes that are no effect. Everything before them was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes at offset {at} of the effects are none")]
pub struct BadEffect {
    /// Offset of the effect that could not be read.
    pub at: usize,
}

/// Effects with the place where each begins; ends before the first that cannot be read.
pub(super) fn located(bytes: &[u8]) -> impl Iterator<Item = (usize, Effect<'_>)> {
    let mut reader = Reader { bytes, at: 0 };
    std::iter::from_fn(move || {
        let at = reader.at;
        reader.effect().map(|effect| (at, effect))
    })
}

/// Reads effects one by one; ends after the first that cannot be read.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = Result<Effect<'_>, BadEffect>> {
    let mut reader = Reader { bytes, at: 0 };
    std::iter::from_fn(move || {
        if reader.at >= reader.bytes.len() {
            return None;
        }
        let at = reader.at;
        let effect = reader.effect();
        if effect.is_none() {
            reader.at = reader.bytes.len();
        }
        Some(effect.ok_or(BadEffect { at }))
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn effect(&mut self) -> Option<Effect<'a>> {
        let op = self.byte()?;
        match op {
            1 => return Some(Effect::Begin),
            2 => return Some(Effect::End),
            3 => {
                let stores: Stores = self.raw()?;
                return is_permutation(&stores).then_some(Effect::Databases(stores));
            }
            33 => return Some(Effect::NoLibraries),
            34 => return Some(Effect::Library { name: self.record()?, code: self.record()? }),
            35 => return Some(Effect::LibraryDelete { name: self.record()? }),
            _ => {}
        }
        let store = self.byte().filter(|store| *store < DATABASES)?;
        if op == 4 {
            return Some(Effect::Flush { store });
        }
        let key = self.record()?;
        Some(match op {
            5 => Effect::Delete { store, key },
            6 => Effect::Set { store, key, expires: expires(self.number()?), value: self.record()? },
            7 => Effect::Expire { store, key, expires: expires(self.number()?) },
            8 => Effect::Restore { store, key, expires: expires(self.number()?), dump: self.record()? },
            9 => Effect::Append { store, key, bytes: self.record()? },
            10 => Effect::SetRange { store, key, offset: self.number()?, bytes: self.record()? },
            16 => Effect::Push { store, key, end: End::Head, items: self.items(1)? },
            17 => Effect::Push { store, key, end: End::Tail, items: self.items(1)? },
            18 => Effect::Pop { store, key, end: End::Head, count: self.number()? },
            19 => Effect::Pop { store, key, end: End::Tail, count: self.number()? },
            20 => Effect::ListSet { store, key, index: self.number()?, value: self.record()? },
            21 => Effect::ListInsert { store, key, index: self.number()?, value: self.record()? },
            22 => Effect::ListRemove { store, key, count: self.number()?.cast_signed(), value: self.record()? },
            23 => Effect::ListKeep { store, key, start: self.number()?, len: self.number()? },
            24 => Effect::HashSet { store, key, pairs: self.items(2)? },
            25 => Effect::HashDelete { store, key, fields: self.items(1)? },
            26 => Effect::SetAdd { store, key, members: self.items(1)? },
            27 => Effect::SetRemove { store, key, members: self.items(1)? },
            28 => Effect::ZSetAdd { store, key, members: self.scored()? },
            29 => Effect::ZSetRemove { store, key, members: self.items(1)? },
            32 => Effect::Stream { store, key, change: Change::read(self.record()?)? },
            _ => return None,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        self.raw::<1>().map(|[byte]| byte)
    }

    fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let raw = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(raw)
    }

    fn number(&mut self) -> Option<u64> {
        self.raw().map(u64::from_le_bytes)
    }

    fn record(&mut self) -> Option<&'a [u8]> {
        let (bytes, end) = packed::record(self.bytes, self.at)?;
        self.at = end;
        Some(bytes)
    }

    /// Records whose number is a multiple of `group`, checked to be all there.
    fn items(&mut self, group: usize) -> Option<Items<'a>> {
        let (count, start) = packed::read_len(self.bytes, self.at)?;
        if !count.is_multiple_of(group) {
            return None;
        }
        self.at = start;
        for _ in 0..count {
            self.record()?;
        }
        Some(Records::new(self.bytes.get(start..self.at)?).take(count))
    }

    fn scored(&mut self) -> Option<Scored<'a>> {
        let (left, start) = packed::read_len(self.bytes, self.at)?;
        self.at = start;
        for _ in 0..left {
            self.number()?;
            self.record()?;
        }
        Some(Scored { records: Records::new(self.bytes.get(start..self.at)?), left })
    }
}

/// An expiry as stored: 0 is none.
fn expires(at: u64) -> Option<u64> {
    (at != 0).then_some(at)
}

fn is_permutation(stores: &Stores) -> bool {
    (0..DATABASES).all(|store| stores.contains(&store))
}
