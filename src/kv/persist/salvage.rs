//! A keyspace out of a backup some of whose pieces are lost.
//!
//! The [stream](super::export) comes in numbered pieces, and beside it lies which keys each piece is about. Of a lost
//! piece those keys are known: each is removed where the piece would have been, and what later pieces say of it counts
//! only from where they give it a whole value again, since an addition to what is not known is not known either. So a key
//! has its right value, or is gone and named.
//!
//! Where it is lost, too, which keys a piece was about, it may be any: from there on a key keeps the last value it surely
//! had, until it gets a whole one, and keys that such changes pass over are named as well.
//!
//! All goes into a fresh journal; the server makes a checkpoint of it in its own time.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Place;
use super::error::PersistError;
use super::export::{EFFECTS, END, EXPECT, MAGIC, PIECE, VALUES, VERSION};
use super::journal::{Journal, Older};
use super::value::items;
use crate::base::disk::parent;
use crate::kv::effect::{Effect, Effects, Stores, located, read};

/// What a keyspace lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Keys that are gone, each with the number of its database.
    pub lost: BTreeSet<(u8, Vec<u8>)>,
    /// Keys that have an older value than they had.
    pub older: BTreeSet<(u8, Vec<u8>)>,
    /// Pieces of which nothing is known: other keys may have an older value, be gone, or be there again.
    pub unknown: u64,
}

/// Which keys a piece of a stream is about, for the day on which it is lost. Numbers are as in the stream:
///
/// ```text
/// 1  store (1)                                   all keys of the store went
/// 2  16 bytes                                    which store each database names
/// 3  store (1), bytes of the key (4), key        the key got a value, or lost it
/// ```
///
/// # Errors
/// [`PersistError::Unreadable`] when it is no piece.
pub fn names_in(place: &Place, piece: &[u8]) -> Result<Vec<u8>, PersistError> {
    let mut out = Vec::new();
    let mut seen: HashSet<StoredKey> = HashSet::new();
    for entry in entries(place, piece)? {
        match entry {
            Entry::Values(bytes) => {
                for item in items(bytes) {
                    let (store, _, key, _) = item.ok_or_else(|| malformed(place, "a block is cut short"))?;
                    name(&mut out, &mut seen, store, key);
                }
            }
            Entry::Effects(bytes) => {
                for (_, effect) in located(bytes) {
                    match effect {
                        Effect::Flush { store } => {
                            // What comes later is named after it.
                            seen.retain(|(of, _)| *of != store);
                            out.extend_from_slice(&[FLUSH, store]);
                        }
                        Effect::Databases(stores) => {
                            out.push(DATABASES);
                            out.extend_from_slice(&stores);
                        }
                        effect => {
                            if let Some((store, key)) = effect.place() {
                                name(&mut out, &mut seen, store, key);
                            }
                        }
                    }
                }
            }
            Entry::End => {}
        }
    }
    Ok(out)
}

fn name(out: &mut Vec<u8>, seen: &mut HashSet<StoredKey>, store: u8, key: &[u8]) {
    if seen.insert((store, key.to_vec())) {
        out.extend_from_slice(&[KEY, store]);
        out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(key);
    }
}

const FLUSH: u8 = 1;
const DATABASES: u8 = 2;
const KEY: u8 = 3;

/// An entry of a piece.
enum Entry<'a> {
    Effects(&'a [u8]),
    Values(&'a [u8]),
    /// The last one.
    End,
}

fn malformed(place: &Place, what: &str) -> PersistError {
    PersistError::Unreadable { path: place.folder.clone(), reason: format!("the backup of it: {what}") }
}

/// The number of a piece.
///
/// # Errors
/// [`PersistError::Unreadable`] when it is no piece.
pub fn number(place: &Place, piece: &[u8]) -> Result<u64, PersistError> {
    let piece = piece.strip_prefix(MAGIC).and_then(|rest| rest.get(4..)).unwrap_or(piece);
    match piece.split_first_chunk::<9>() {
        Some(([PIECE, number @ ..], _)) => Ok(u64::from_be_bytes(*number)),
        _ => Err(malformed(place, "a piece has no number")),
    }
}

/// Whether the piece is a stream's last.
///
/// # Errors
/// [`PersistError::Unreadable`] when it is no piece.
pub fn is_last(place: &Place, piece: &[u8]) -> Result<bool, PersistError> {
    Ok(entries(place, piece)?.iter().any(|entry| matches!(entry, Entry::End)))
}

/// The entries of a piece.
fn entries<'a>(place: &Place, piece: &'a [u8]) -> Result<Vec<Entry<'a>>, PersistError> {
    let mut rest = match piece.strip_prefix(MAGIC) {
        Some(behind) => match behind.split_first_chunk::<4>() {
            Some((version, rest)) if u32::from_be_bytes(*version) <= VERSION => rest,
            Some(_) => return Err(malformed(place, "a newer Mainstay wrote it")),
            None => return Err(malformed(place, "it is cut off")),
        },
        None => piece,
    };
    let mut out = Vec::new();
    while let Some(([kind, count @ ..], behind)) = rest.split_first_chunk::<9>() {
        let count = u64::from_be_bytes(*count);
        rest = behind;
        if matches!(*kind, EFFECTS | VALUES) {
            let bytes = usize::try_from(count).ok().and_then(|count| rest.split_at_checked(count));
            let (bytes, behind) = bytes.ok_or_else(|| malformed(place, "it is cut off"))?;
            rest = behind;
            out.push(if *kind == VALUES { Entry::Values(bytes) } else { Entry::Effects(bytes) });
        } else if *kind == END {
            out.push(Entry::End);
        } else if !matches!(*kind, PIECE | EXPECT) {
            return Err(malformed(place, "an entry is of no known kind"));
        }
    }
    if rest.is_empty() { Ok(out) } else { Err(malformed(place, "it is cut off")) }
}

/// Writes what is left of a keyspace into the folder of `place`, which must not hold one, and makes it durable. `next`
/// gives the pieces that can be read, in order; `names` what the lost ones are about, by number, as far as that is known;
/// `all` the number of all pieces, if it is known. Blocks.
///
/// # Errors
/// [`PersistError`]. The folder must not be used.
pub fn salvage(
    place: &Place,
    next: &mut dyn FnMut() -> Option<Vec<u8>>,
    names: &BTreeMap<u64, Vec<u8>>,
    all: Option<u64>,
) -> Result<Salvaged, PersistError> {
    let Place { disk, folder, random, key, segment_bytes, .. } = place;
    disk.create_dir(folder).map_err(PersistError::disk("create", folder))?;
    disk.sync_dir(parent(folder)).map_err(PersistError::disk("sync", parent(folder)))?;
    let (shared, random, older) = (Arc::clone(disk), Arc::clone(random), Older::default());
    let mut journal = Journal::begin(shared, random, folder, key.clone(), *segment_bytes, 1, older)?;
    let refused =
        |refusal: super::Refusal| PersistError::disk("write the journal in", folder)(std::io::Error::other(refusal));
    let mut job = Job { place, names, doubt: Doubt::default(), databases: std::array::from_fn(low) };
    let mut expected: u64 = 0;
    let mut out = Effects::default();
    while let Some(piece) = next() {
        let number = number(place, &piece)?;
        while expected < number {
            job.lose(expected, &mut out)?;
            expected = expected.saturating_add(1);
        }
        expected = expected.saturating_add(1);
        for entry in entries(place, &piece)? {
            match entry {
                Entry::Values(bytes) => job.values(bytes, &mut out)?,
                Entry::Effects(bytes) => job.effects(bytes, &mut out)?,
                Entry::End => {}
            }
            if !out.is_empty() {
                journal.append(out.bytes(), None).map_err(refused)?;
                out.clear();
            }
        }
    }
    while all.is_some_and(|all| expected < all) {
        job.lose(expected, &mut out)?;
        expected = expected.saturating_add(1);
    }
    if all.is_none() {
        job.lose(expected, &mut out)?;
    }
    if !out.is_empty() {
        journal.append(out.bytes(), None).map_err(refused)?;
    }
    journal.sync().map_err(refused)?;
    Ok(job.finish())
}

#[expect(clippy::cast_possible_truncation, reason = "there are 16 databases")]
const fn low(number: usize) -> u8 {
    number as u8
}

/// A key with its store.
type StoredKey = (u8, Vec<u8>);

/// Which keys are not known to have their right value.
#[derive(Default)]
struct Doubt {
    /// Keys that a lost piece was about, and that got no whole value since.
    gone: BTreeSet<StoredKey>,
    /// Pieces lost of which nothing is known.
    unknown: u64,
    /// Since the last of those: stores that were emptied, and keys that got a whole value.
    sure_stores: HashSet<u8>,
    sure: HashSet<StoredKey>,
    /// Keys that changes passed over since.
    older: BTreeSet<StoredKey>,
}

impl Doubt {
    fn settle(&mut self, store: u8, key: &[u8]) {
        let place = (store, key.to_vec());
        self.gone.remove(&place);
        if self.unknown > 0 {
            self.older.remove(&place);
            self.sure.insert(place);
        }
    }

    fn flush(&mut self, store: u8) {
        self.gone.retain(|(of, _)| *of != store);
        self.older.retain(|(of, _)| *of != store);
        if self.unknown > 0 {
            self.sure_stores.insert(store);
        }
    }

    /// Whether a change of a part of the key's value is one of what the key has.
    fn takes(&mut self, store: u8, key: &[u8]) -> bool {
        let place = (store, key.to_vec());
        if self.gone.contains(&place) {
            return false;
        }
        let sure = self.unknown == 0 || self.sure_stores.contains(&store) || self.sure.contains(&place);
        if !sure {
            self.older.insert(place);
        }
        sure
    }
}

struct Job<'a> {
    place: &'a Place,
    names: &'a BTreeMap<u64, Vec<u8>>,
    doubt: Doubt,
    databases: Stores,
}

impl Job<'_> {
    /// Takes out what the lost piece `number` was about.
    fn lose(&mut self, number: u64, out: &mut Effects) -> Result<(), PersistError> {
        let Some(names) = self.names.get(&number) else {
            self.doubt.unknown = self.doubt.unknown.saturating_add(1);
            self.doubt.sure.clear();
            self.doubt.sure_stores.clear();
            return Ok(());
        };
        let cut = || malformed(self.place, "the names of its keys are cut off");
        let mut rest = names.as_slice();
        while let Some((kind, behind)) = rest.split_first() {
            match *kind {
                FLUSH => {
                    let (store, behind) = behind.split_first().ok_or_else(cut)?;
                    self.doubt.flush(*store);
                    out.flush(*store);
                    rest = behind;
                }
                DATABASES => {
                    let (stores, behind) = behind.split_first_chunk().ok_or_else(cut)?;
                    self.databases = *stores;
                    out.databases(stores);
                    rest = behind;
                }
                KEY => {
                    let (store, behind) = behind.split_first().ok_or_else(cut)?;
                    let (length, behind) = behind.split_first_chunk::<4>().ok_or_else(cut)?;
                    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                    let (key, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
                    out.delete(*store, key);
                    self.doubt.gone.insert((*store, key.to_vec()));
                    rest = behind;
                }
                _ => return Err(malformed(self.place, "the names of its keys are none")),
            }
        }
        Ok(())
    }

    fn values(&mut self, bytes: &[u8], out: &mut Effects) -> Result<(), PersistError> {
        for item in items(bytes) {
            let (store, expires, key, dump) = item.ok_or_else(|| malformed(self.place, "a block is cut short"))?;
            self.doubt.settle(store, key);
            out.restore(store, key, expires, dump);
        }
        Ok(())
    }

    fn effects(&mut self, bytes: &[u8], out: &mut Effects) -> Result<(), PersistError> {
        let mut last: Option<usize> = None;
        let mut end = 0;
        for (at, effect) in located(bytes).map(|(at, effect)| (at, Some(effect))).chain([(bytes.len(), None)]) {
            if let Some(from) = last.take() {
                out.raw(bytes.get(from..at).unwrap_or_default());
            }
            end = at;
            let Some(effect) = effect else { break };
            let keeps = match &effect {
                Effect::Begin | Effect::End => true,
                Effect::Databases(stores) => {
                    self.databases = *stores;
                    true
                }
                Effect::Flush { store } => {
                    self.doubt.flush(*store);
                    true
                }
                effect => match (effect.target(), effect.place()) {
                    (Some((store, key)), _) => {
                        self.doubt.settle(store, key);
                        true
                    }
                    (None, Some((store, key))) => self.doubt.takes(store, key),
                    (None, None) => true,
                },
            };
            last = keeps.then_some(at);
        }
        if end == bytes.len() && read(bytes).all(|effect| effect.is_ok()) {
            return Ok(());
        }
        Err(malformed(self.place, "what a command did does not read"))
    }

    fn finish(self) -> Salvaged {
        let databases = self.databases;
        let named = |keys: BTreeSet<StoredKey>| {
            let name = |(store, key): StoredKey| {
                let database = databases.iter().position(|of| *of == store).map_or(store, low);
                (database, key)
            };
            keys.into_iter().map(name).collect()
        };
        Salvaged { lost: named(self.doubt.gone), older: named(self.doubt.older), unknown: self.doubt.unknown }
    }
}
