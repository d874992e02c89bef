//! The hash table behind databases, large hashes, sets and sorted sets: linear hashing.
//!
//! Buckets hold about seven items each in a dense vector, with one tag byte an item in front, so a lookup reads one
//! bucket head, compares sixteen tags at once and touches only items whose tag fits. The table grows by splitting one
//! bucket an insert and shrinks by joining one a removal: no rehash of everything, hence no pause, at any size.
//!
//! # Scanning
//! Bucket `i` of a level with `n` bits holds the hashes whose low `n` bits are `i`. Read in the order of the *reversed*
//! hash, a bucket is one interval; splitting halves it and joining doubles it. A cursor is a position in that order (48
//! bits, since clients keep cursors in doubles), always at the start of an interval. A walk therefore meets every item
//! that was there from its start to its end, however the table grows or shrinks meanwhile; an item may be met twice
//! after a join. Redis promises the same for `SCAN`.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use crate::base::{Random, random};

/// Items a bucket holds on average, splits and joins included. With 7, unsplit buckets hold at most 14 on average, so
/// that few spill past the tags.
const LOAD: usize = 7;

/// Tag bytes in a bucket; items beyond them are compared one by one.
const TAGS: usize = 16;

const ONES: u128 = u128::from_le_bytes([0x01; TAGS]);
const HIGHS: u128 = u128::from_le_bytes([0x80; TAGS]);

/// Bits of a scan position.
const POSITION_BITS: u32 = 48;

/// A hash table that never pauses to grow. The caller brings hash and equality, as with `hashbrown::HashTable`.
#[derive(Debug)]
pub struct Table<T> {
    buckets: Vec<Bucket<T>>,
    /// `1 << level` buckets were there when this round of splits began.
    level: u32,
    /// Buckets below this were split in this round.
    split: usize,
    len: usize,
}

#[derive(Debug)]
struct Bucket<T> {
    tags: [u8; TAGS],
    items: Vec<T>,
}

/// Where an item lies. Good until the next insert or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: usize,
    slot: usize,
}

impl<T> Table<T> {
    /// An empty table; allocates nothing.
    pub const fn new() -> Self {
        Self { buckets: Vec::new(), level: 0, split: 0, len: 0 }
    }

    /// Makes room for `items` in an empty table, so that filling it splits no bucket.
    pub fn reserve(&mut self, items: usize) {
        let buckets = items / LOAD;
        if self.buckets.is_empty() && buckets > 1 {
            self.level = buckets.ilog2();
            self.split = buckets - (1 << self.level);
            self.buckets.resize_with(buckets, Bucket::new);
        }
    }

    /// Reads what an insert of `hash` will touch; `look` reads from an item. The result means nothing: many calls in a row
    /// wait for memory once, where as many inserts would wait one after the other.
    pub fn warm(&self, hash: u64, look: impl FnOnce(&T) -> bool) -> usize {
        let (index, _) = self.bucket_of(hash);
        self.buckets
            .get(index)
            .map_or(0, |bucket| bucket.items.len() + usize::from(bucket.items.last().is_some_and(look)))
    }

    /// Number of items.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Number of buckets: as many calls of [`Table::scan`], one cursor after the other, meet every item once.
    pub const fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Whether there is no item.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of buckets and item slots, without what items own. Of the slots kept free in each bucket one is counted,
    /// which is what they are on average.
    pub const fn overhead(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket<T>>() + (self.len + self.buckets.len()) * size_of::<T>()
    }

    /// The bucket of a hash, and how many low bits of the hash name it.
    const fn bucket_of(&self, hash: u64) -> (usize, u32) {
        let low = (hash & ((1 << self.level) - 1)) as usize;
        if low < self.split {
            ((hash & ((1 << (self.level + 1)) - 1)) as usize, self.level + 1)
        } else {
            (low, self.level)
        }
    }

    /// Finds the item of `hash` that `same` accepts.
    #[inline]
    pub fn find(&self, hash: u64, mut same: impl FnMut(&T) -> bool) -> Option<Place> {
        let (index, _) = self.bucket_of(hash);
        let bucket = self.buckets.get(index)?;
        let word = u128::from_le_bytes(bucket.tags) ^ (ONES * u128::from(tag(hash)));
        // Classic zero-byte search; may name bytes above a true hit falsely, which `same` sorts out.
        let mut hits = word.wrapping_sub(ONES) & !word & HIGHS;
        while hits != 0 {
            let slot = (hits.trailing_zeros() / 8) as usize;
            match bucket.items.get(slot) {
                Some(item) if same(item) => return Some(Place { bucket: index, slot }),
                Some(_) => hits &= hits - 1,
                None => return None,
            }
        }
        (TAGS..bucket.items.len())
            .find(|slot| bucket.items.get(*slot).is_some_and(&mut same))
            .map(|slot| Place { bucket: index, slot })
    }

    /// The item at `place`.
    pub fn get(&self, place: Place) -> Option<&T> {
        self.buckets.get(place.bucket)?.items.get(place.slot)
    }

    /// The item at `place`, to be changed; its hash must stay the same.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.buckets.get_mut(place.bucket)?.items.get_mut(place.slot)
    }

    /// Adds an item that is not there yet. `rehash` gives the hash of any item.
    pub fn insert(&mut self, hash: u64, item: T, rehash: impl Fn(&T) -> u64) -> Place {
        if self.buckets.is_empty() {
            self.buckets.push(Bucket::new());
        } else if self.len >= LOAD * self.buckets.len() {
            self.split_one(&rehash);
        }
        let (bucket, _) = self.bucket_of(hash);
        self.len += 1;
        let slot = self.buckets[bucket].push(tag(hash), item);
        Place { bucket, slot }
    }

    /// Takes the item at `place` out.
    pub fn remove(&mut self, place: Place, rehash: impl Fn(&T) -> u64) -> Option<T> {
        let item = self.buckets.get_mut(place.bucket)?.take(place.slot, &rehash)?;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        } else if self.buckets.len() > 1 && self.len * 4 < LOAD * self.buckets.len() {
            self.join_one(&rehash);
        }
        Some(item)
    }

    fn split_one(&mut self, rehash: &impl Fn(&T) -> u64) {
        let mut upper = Bucket::new();
        let old = std::mem::replace(&mut self.buckets[self.split], Bucket::new());
        let lower = &mut self.buckets[self.split];
        for item in old.items {
            let hash = rehash(&item);
            if hash >> self.level & 1 == 1 {
                upper.push(tag(hash), item)
            } else {
                lower.push(tag(hash), item)
            };
        }
        self.buckets.push(upper);
        self.split += 1;
        if self.split == 1 << self.level {
            self.level += 1;
            self.split = 0;
        }
    }

    fn join_one(&mut self, rehash: &impl Fn(&T) -> u64) {
        if self.split == 0 {
            self.level -= 1;
            self.split = 1 << self.level;
        }
        self.split -= 1;
        if let Some(upper) = self.buckets.pop() {
            let lower = &mut self.buckets[self.split];
            for item in upper.items {
                lower.push(tag(rehash(&item)), item);
            }
        }
        if self.buckets.capacity() > 64 && self.buckets.capacity() > 4 * self.buckets.len() {
            self.buckets.shrink_to(2 * self.buckets.len());
        }
    }

    /// Shows every item of the bucket at `cursor` (start with 0) and returns the next cursor; 0 after the last bucket.
    pub fn scan<'a>(&'a self, cursor: u64, mut visit: impl FnMut(&'a T)) -> u64 {
        let cursor = cursor & ((1 << POSITION_BITS) - 1);
        let (index, bits) = self.bucket_of(cursor.reverse_bits() >> (64 - POSITION_BITS));
        let Some(bucket) = self.buckets.get(index) else { return 0 };
        bucket.items.iter().for_each(&mut visit);
        let shift = POSITION_BITS.saturating_sub(bits);
        (((cursor >> shift) + 1) << shift) & ((1 << POSITION_BITS) - 1)
    }

    /// As [`Table::scan`], with the place of each item.
    pub fn scan_places<'a>(&'a self, cursor: u64, mut visit: impl FnMut(Place, &'a T)) -> u64 {
        let bits = cursor & ((1 << POSITION_BITS) - 1);
        let (bucket, _) = self.bucket_of(bits.reverse_bits() >> (64 - POSITION_BITS));
        let mut slot = 0;
        self.scan(cursor, |item| {
            visit(Place { bucket, slot }, item);
            slot += 1;
        })
    }

    /// Every item, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.buckets.iter().flat_map(|bucket| bucket.items.iter())
    }

    /// Drops up to `buckets` buckets, for freeing a large table in slices; says how many.
    pub fn drop_some(&mut self, buckets: usize) -> usize {
        let dropped = self.buckets.len().min(buckets);
        self.buckets.truncate(self.buckets.len() - dropped);
        dropped
    }

    /// A uniformly drawn item.
    pub fn sample(&self, random: &dyn Random) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        // A bucket and a slot beneath a bound most buckets stay under: accepting only hits makes every item as likely.
        let widest = 4 * TAGS;
        for _ in 0..2_000 {
            let draw = random::below(random, (self.buckets.len() * widest) as u64) as usize;
            let place = Place { bucket: draw / widest, slot: draw % widest };
            if self.get(place).is_some() {
                return Some(place);
            }
        }
        // Next to impossible (at least one place in 64 * 4 / 7 is taken): take the first item after a drawn bucket.
        let start = random::below(random, self.buckets.len() as u64) as usize;
        (0..self.buckets.len())
            .map(|step| (start + step) % self.buckets.len())
            .find(|index| !self.buckets[*index].items.is_empty())
            .map(|bucket| Place { bucket, slot: 0 })
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Bucket<T> {
    /// Item slots are added in steps of 32 bytes: fewer reallocations, and sizes the allocator has classes for.
    const STEP: usize = if size_of::<T>() == 0 || size_of::<T>() > 16 { 1 } else { 32 / size_of::<T>() };

    const fn new() -> Self {
        Self { tags: [0; TAGS], items: Vec::new() }
    }

    fn push(&mut self, tag: u8, item: T) -> usize {
        let slot = self.items.len();
        if slot == self.items.capacity() {
            self.items.reserve_exact(Self::STEP);
        }
        self.items.push(item);
        if let Some(place) = self.tags.get_mut(slot) {
            *place = tag;
        }
        slot
    }

    fn take(&mut self, slot: usize, rehash: impl Fn(&T) -> u64) -> Option<T> {
        if slot >= self.items.len() {
            return None;
        }
        let item = self.items.swap_remove(slot);
        // The last item moved into `slot`; one from beyond the tags brings none along.
        if let (Some(place), Some(moved)) = (self.tags.get_mut(slot), self.items.get(slot)) {
            *place = tag(rehash(moved));
        }
        if self.items.capacity() > self.items.len() + 2 * Self::STEP {
            self.items.shrink_to(self.items.len() + Self::STEP);
        }
        Some(item)
    }
}

/// The secret hash function of one keyspace, so that nobody outside can aim keys at one bucket.
#[derive(Clone, Debug)]
pub struct Hashing {
    seed: u64,
    shared: SharedSeed,
}

impl Hashing {
    /// A function drawn from `random`.
    pub fn new(random: &dyn Random) -> Self {
        let seed = u64::from_le_bytes(random::bytes(random));
        Self { seed, shared: SharedSeed::from_u64(u64::from_le_bytes(random::bytes(random))) }
    }

    /// The hash of `bytes`.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// The byte of a hash that is kept beside the item. High bits, since low ones already chose the bucket.
const fn tag(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRandom;

    #[test]
    fn a_table_with_room_made_finds_and_scans_what_is_put_in_beyond_it() {
        let hashing = Hashing::new(&TestRandom::new(1));
        let hash = |item: &u32| hashing.hash(&item.to_le_bytes());
        for expected in [0, 5, 100, 777, 2_000] {
            let mut table = Table::new();
            table.reserve(expected);
            for item in 0..1_000_u32 {
                table.warm(hash(&item), |_| true);
                table.insert(hash(&item), item, hash);
            }
            assert!((0..1_000).all(|item| table.find(hash(&item), |found| *found == item).is_some()));
            let (mut seen, mut cursor) = (Vec::new(), 0);
            loop {
                cursor = table.scan(cursor, |item| seen.push(*item));
                if cursor == 0 {
                    break;
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..1_000).collect::<Vec<_>>(), "room for {expected}");
        }
    }
}
