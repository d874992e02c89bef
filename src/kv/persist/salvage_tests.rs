//! Every piece of a keyspace's stream lost in turn: each key is right, or gone and named.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::checkpoint::{Block, CheckpointWriter};
use super::export::{Cut, Kept, restore};
use super::format::Marker;
use super::salvage::{Salvaged, names_in, salvage};
use super::tests::place;
use super::value::items;
use super::*;
use crate::base::{Random as _, random};
use crate::kv::effect::{Effect, Effects, read};
use crate::testing::{FaultyDisk, TestRandom};

type Key = (u8, Vec<u8>);
type Keys = BTreeMap<Key, Vec<u8>>;

/// What effects make of strings; a dump is the string itself.
fn apply(keys: &mut Keys, bytes: &[u8]) {
    for effect in read(bytes) {
        match effect.unwrap() {
            Effect::Set { store, key, value, .. } => drop(keys.insert((store, key.to_vec()), value.to_vec())),
            Effect::Restore { store, key, dump, .. } => drop(keys.insert((store, key.to_vec()), dump.to_vec())),
            Effect::Append { store, key, bytes } => keys.entry((store, key.to_vec())).or_default().extend(bytes),
            Effect::Delete { store, key } => drop(keys.remove(&(store, key.to_vec()))),
            Effect::Flush { store } => keys.retain(|(of, _), _| *of != store),
            other => panic!("{other:?}"),
        }
    }
}

fn take(keys: &mut Keys, restored: Restored<'_>) {
    match restored {
        Restored::Expect(_) => {}
        Restored::Effects(bytes) => apply(keys, bytes),
        Restored::Values(bytes) => items(bytes).flatten().for_each(|(store, _, key, value)| {
            keys.insert((store, key.to_vec()), value.to_vec());
        }),
    }
}

fn opened(place: &Place) -> Keys {
    let mut keys = Keys::new();
    recover(place, &mut |restored| {
        take(&mut keys, restored);
        Ok(())
    })
    .unwrap();
    keys
}

/// A journal with a checkpoint in its middle; all values each key ever had, and how it ended.
struct Written {
    pieces: Vec<Vec<u8>>,
    place: Place,
    ever: BTreeMap<Key, Vec<Option<Vec<u8>>>>,
    end: Keys,
}

fn written(seed: u64) -> Written {
    let place = place(&FaultyDisk::new());
    let random = TestRandom::new(seed);
    let draw = |below: u64| random::below(&random, below);
    let (mut journal, _) = recover(&place, &mut |_| Ok(())).unwrap();
    let mut end = Keys::new();
    let mut ever: BTreeMap<Key, Vec<Option<Vec<u8>>>> = BTreeMap::new();
    let mut turn = |end: &mut Keys| {
        let mut effects = Effects::default();
        let (store, key) = (u8::try_from(draw(2)).unwrap(), vec![b'a' + u8::try_from(draw(6)).unwrap()]);
        let mut value = vec![0; 9_000];
        random.fill(&mut value);
        match draw(40) {
            0 => effects.flush(store),
            1..4 => effects.delete(store, &key),
            4..20 => effects.append(store, &key, &value[..2_000]),
            _ => effects.set(store, &key, None, &value),
        }
        apply(end, effects.bytes());
        for key in b'a'..=b'f' {
            let key = (store, vec![key]);
            let now = end.get(&key).cloned();
            let had = ever.entry(key).or_insert_with(|| vec![None]);
            if had.last() != Some(&now) {
                had.push(now);
            }
        }
        effects.bytes().to_vec()
    };
    for _ in 0..60 {
        journal.append(&turn(&mut end), None).unwrap();
    }
    let number = journal.rotate().unwrap();
    let disk = Arc::clone(&place.disk);
    let mut writer = CheckpointWriter::create(disk, &place.folder, number, &place.key, place.random.as_ref()).unwrap();
    let keys: Vec<Key> = end.keys().cloned().collect();
    for (block, (store, key)) in (0..).zip(keys) {
        let effects = turn(&mut end);
        let mut values = Block::new();
        if let Some(value) = end.get(&(store, key.clone())) {
            let out = values.values();
            out.push(store);
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(&1_u32.to_le_bytes());
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
            out.extend_from_slice(&key);
            out.extend_from_slice(value);
        }
        journal.append(&effects, Some(Marker { checkpoint: number, block })).unwrap();
        writer.write(values).unwrap();
    }
    journal.sync().unwrap();
    writer.finish(0, journal.end(), journal.durable(), &Kept::default()).unwrap();
    for _ in 0..150 {
        journal.append(&turn(&mut end), None).unwrap();
    }
    drop(journal);
    assert_eq!(opened(&place), end);
    let cut = Cut::at_rest(place.clone()).unwrap().unwrap();
    let mut stream = cut.stream().unwrap();
    let pieces = std::iter::from_fn(|| stream.next_piece().unwrap()).collect();
    Written { pieces, place, ever, end }
}

impl Written {
    fn without(&self, lost: &[usize], named: bool) -> (Keys, Salvaged) {
        let place = place(&FaultyDisk::new());
        let mut left = self.pieces.iter().enumerate().filter(|(at, _)| !lost.contains(at)).map(|(_, piece)| piece);
        let names = lost.iter().map(|at| (*at as u64, names_in(&self.place, &self.pieces[*at]).unwrap()));
        let names = if named { names.collect() } else { BTreeMap::new() };
        let all = named.then_some(self.pieces.len() as u64);
        let salvaged = salvage(&place, &mut || left.next().cloned(), &names, all).unwrap();
        (opened(&place), salvaged)
    }
}

#[test]
fn a_whole_stream_comes_back_whole_either_way() {
    let written = written(1);
    assert!(written.pieces.len() > 3, "{}", written.pieces.len());
    let (keys, salvaged) = written.without(&[], true);
    assert_eq!((keys, salvaged), (written.end.clone(), Salvaged::default()));
    let place = place(&FaultyDisk::new());
    restore(&place, &mut written.pieces.concat().as_slice()).unwrap();
    assert_eq!(opened(&place), written.end);
}

#[test]
fn of_lost_pieces_each_key_is_right_or_gone_and_named() {
    for seed in 1..3 {
        let written = written(seed);
        let count = written.pieces.len();
        for lost in (0..count).map(|at| vec![at]).chain([vec![0, 1], vec![1, 3], vec![count - 2, count - 1]]) {
            let (keys, salvaged) = written.without(&lost, true);
            assert_eq!((salvaged.unknown, salvaged.older.len()), (0, 0));
            for key in written.ever.keys() {
                if salvaged.lost.contains(key) {
                    assert_eq!(keys.get(key), None, "{seed} {lost:?} {key:?}");
                } else {
                    assert_eq!(keys.get(key), written.end.get(key), "{seed} {lost:?} {key:?}");
                }
            }
        }
    }
}

#[test]
fn where_nothing_tells_the_keys_each_has_a_value_it_had() {
    for seed in 1..3 {
        let written = written(seed);
        for lost in 0..written.pieces.len() {
            let (keys, salvaged) = written.without(&[lost], false);
            assert!(salvaged.unknown > 0);
            for (key, ever) in &written.ever {
                assert!(ever.contains(&keys.get(key).cloned()), "{seed} {lost} {key:?}");
            }
        }
    }
}
