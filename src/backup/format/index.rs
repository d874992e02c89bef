//! The index: which chunk lies where. Files `index/<BLAKE3 of the file>`, each about the packs of one run or a part of it.
//!
//! The sealed document (`document.rs`) is: number of packs (4), then for each: hash (32), salt (32), bytes of its file (8),
//! number of chunks (4), and the same lines as in the pack's trailer (41 each, `pack.rs`). The first chunk starts at
//! byte 40 of the pack, each next one where the one before ends.
//!
//! In memory, [`Table`] holds about 40 bytes a chunk (up to 70 while it grows): a TiB of large files is a million chunks.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::HashMap;

use hashbrown::HashTable;

use super::ChunkId;
use super::codec::Cursor;
use super::pack::{HEADER, PackEntry, PackInfo, Packing};

/// Most chunks a repository may have: 2 GiB of table.
pub(crate) const MOST_CHUNKS: usize = 50_000_000;

/// Most packs in one index file.
pub(crate) const MOST_PACKS: usize = 256;

/// Most chunks in one index file (4 MiB); one pack may go over it by its own.
pub(crate) const MOST_INDEXED: usize = 100_000;

/// A pack and its lines, as an index file holds them.
pub(crate) type Indexed = (PackInfo, Vec<PackEntry>);

/// The plain document about `packs`.
pub(crate) fn encode(packs: &[Indexed]) -> Vec<u8> {
    let mut out = u32::try_from(packs.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    for (info, entries) in packs {
        out.extend_from_slice(&info.hash);
        out.extend_from_slice(&info.salt);
        out.extend_from_slice(&info.size.to_le_bytes());
        out.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
        for entry in entries {
            entry.encode(&mut out);
        }
    }
    out
}

/// Reads a plain document; `None` when it is none.
pub(crate) fn decode(document: &[u8]) -> Option<Vec<Indexed>> {
    let mut cursor = Cursor::new(document);
    let count = cursor.u32()?;
    let mut packs = Vec::new();
    for _ in 0..count {
        let info = PackInfo { hash: cursor.array()?, salt: cursor.array()?, size: cursor.u64()? };
        let chunks = cursor.u32()?;
        let mut entries = Vec::new();
        let mut end = HEADER as u64;
        for _ in 0..chunks {
            let entry = PackEntry::decode(&mut cursor)?;
            end = end.checked_add(u64::from(entry.sealed))?;
            entries.push(entry);
        }
        if end > info.size || info.size > super::pack::LARGEST_PACK {
            return None;
        }
        packs.push((info, entries));
    }
    cursor.is_empty().then_some(packs)
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// The pack's number in the table.
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    pub(crate) sealed: u32,
    pub(crate) plain: u32,
    pub(crate) packing: Packing,
}

/// The pack of chunks on their way into one.
pub(crate) const PENDING: u32 = u32::MAX;

const ZSTD: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Place {
    key: [u8; 16],
    pack: u32,
    offset: u32,
    sealed: u32,
    /// Plain bytes; the highest bit says zstd.
    plain: u32,
}

/// Every chunk known, by the first half of its id (keyed BLAKE3: nobody can make two alike).
#[derive(Default)]
pub(crate) struct Table {
    numbers: HashTable<u32>,
    places: Vec<Place>,
    packs: Vec<PackInfo>,
    by_hash: HashMap<[u8; 32], u32>,
    /// Packs whose chunks give way to any other copy.
    second_choice: Vec<bool>,
}

/// The table is as large as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Table {
    /// Takes in a pack and its chunks; a chunk known from another pack stays there, unless that one is a second choice.
    pub(crate) fn add(&mut self, info: PackInfo, entries: &[PackEntry], second_choice: bool) -> Result<u32, Full> {
        if let Some(number) = self.by_hash.get(&info.hash) {
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len()).ok().filter(|number| *number != PENDING).ok_or(Full)?;
        self.by_hash.insert(info.hash, number);
        self.packs.push(info);
        self.second_choice.push(second_choice);
        let mut offset = HEADER as u32;
        for entry in entries {
            let place = Place {
                key: half(&entry.id),
                pack: number,
                offset,
                sealed: entry.sealed,
                plain: entry.plain | if entry.packing == Packing::Zstd { ZSTD } else { 0 },
            };
            self.put(place)?;
            offset = offset.saturating_add(entry.sealed);
        }
        Ok(number)
    }

    /// Notes a chunk as on its way; says whether it was unknown.
    pub(crate) fn claim(&mut self, id: &ChunkId) -> Result<bool, Full> {
        if self.number(id).is_some() {
            return Ok(false);
        }
        self.put(Place { key: half(id), pack: PENDING, offset: 0, sealed: 0, plain: 0 })?;
        Ok(true)
    }

    /// Where the chunk is; also when on its way (then in [`PENDING`]).
    pub(crate) fn find(&self, id: &ChunkId) -> Option<Location> {
        let place = self.places.get(self.number(id)?)?;
        Some(Location {
            pack: place.pack,
            offset: place.offset,
            sealed: place.sealed,
            plain: place.plain & !ZSTD,
            packing: if place.plain & ZSTD == 0 { Packing::Raw } else { Packing::Zstd },
        })
    }

    /// The chunk's number in this table, below [`Table::len`].
    pub(crate) fn number(&self, id: &ChunkId) -> Option<usize> {
        self.number_of(&half(id))
    }

    pub(crate) const fn len(&self) -> usize {
        self.places.len()
    }

    /// Pack and sealed bytes of every chunk, by number.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.places.iter().map(|place| (place.pack, place.sealed))
    }

    /// The packs by number.
    pub(crate) fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    pub(crate) fn pack(&self, number: u32) -> Option<&PackInfo> {
        self.packs.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn knows_pack(&self, hash: &[u8; 32]) -> bool {
        self.by_hash.contains_key(hash)
    }

    fn number_of(&self, key: &[u8; 16]) -> Option<usize> {
        let same = |number: &u32| self.place(*number).is_some_and(|place| place.key == *key);
        self.numbers.find(hash(key), same).and_then(|number| usize::try_from(*number).ok())
    }

    fn place(&self, number: u32) -> Option<&Place> {
        self.places.get(usize::try_from(number).ok()?)
    }

    fn put(&mut self, place: Place) -> Result<(), Full> {
        if let Some(number) = self.number_of(&place.key) {
            let Some(there) = self.places.get_mut(number) else { return Ok(()) };
            let second = |pack: u32| {
                usize::try_from(pack).ok().and_then(|pack| self.second_choice.get(pack)).copied().unwrap_or(false)
            };
            if there.pack == PENDING || (second(there.pack) && !second(place.pack)) {
                *there = place;
            }
            return Ok(());
        }
        if self.places.len() >= MOST_CHUNKS {
            return Err(Full);
        }
        let number = u32::try_from(self.places.len()).map_err(|_too_many| Full)?;
        self.places.push(place);
        let places = &self.places;
        self.numbers.insert_unique(hash(&place.key), number, |number| {
            usize::try_from(*number).ok().and_then(|at| places.get(at)).map_or(0, |place| hash(&place.key))
        });
        Ok(())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("chunks", &self.places.len())
            .field("packs", &self.packs.len())
            .finish_non_exhaustive()
    }
}

fn half(id: &ChunkId) -> [u8; 16] {
    id.0.first_chunk::<16>().copied().unwrap_or_default()
}

/// Keyed BLAKE3 is as even as a hash can be.
fn hash(key: &[u8; 16]) -> u64 {
    key.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word))
}
