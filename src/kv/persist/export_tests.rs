//! Backups of the keyspace's files while they are written, and what becomes of them.

use std::io::Read as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::export::{Cut, Kept, Live, restore};
use super::format::Kind;
use super::journal::Journal;
use super::tests::{Toy, checkpoint, open, path, place, set};
use super::*;
use crate::base::Disk;
use crate::testing::FaultyDisk;

fn live(place: &Place, journal: &Journal) -> Live {
    Live { place: place.clone(), written: Arc::clone(journal.written()), kept: Arc::new(Kept::default()) }
}

fn bytes(cut: &Cut) -> Vec<u8> {
    let mut out = Vec::new();
    cut.stream().unwrap().read_to_end(&mut out).unwrap();
    out
}

/// The keyspace that `stream` becomes on a fresh disk.
fn restored(mut stream: &[u8]) -> Toy {
    let place = place(&FaultyDisk::new());
    restore(&place, &mut stream).unwrap();
    open(&place).unwrap().2
}

/// A journal with a checkpoint in its middle; with its keyspace.
fn filled(place: &Place) -> (Journal, Toy) {
    let (mut journal, _, mut toy) = open(place).unwrap();
    for key in 0..6 {
        let effects = set(key, "before");
        toy.apply(&effects);
        journal.append(&effects, None).unwrap();
    }
    checkpoint(place, &mut journal, &mut toy, |toy| {
        let effects = set(9, "during");
        toy.apply(&effects);
        effects
    });
    let effects = set(1, "after");
    toy.apply(&effects);
    journal.append(&effects, None).unwrap();
    (journal, toy)
}

#[test]
fn a_cut_holds_what_was_written_before_it_and_nothing_later() {
    let place = place(&FaultyDisk::new());
    let (mut journal, toy) = filled(&place);
    let cut = live(&place, &journal).hold().unwrap().cut();
    journal.append(&set(2, "too late"), None).unwrap();
    journal.rotate().unwrap();
    journal.append(&set(3, "later still"), None).unwrap();
    assert_eq!(restored(&bytes(&cut)), toy);
}

#[test]
fn files_that_are_read_outlive_a_checkpoint_and_go_afterwards() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, toy) = filled(&place);
    let live = live(&place, &journal);
    let cut = live.hold().unwrap().cut();
    let old = path(Kind::Checkpoint, 2);
    let number = journal.rotate().unwrap();
    journal.sync().unwrap();
    live.kept.remove_before(&disk, &place.folder, number).unwrap();
    assert!(disk.entry(&old).unwrap().is_some());
    assert_eq!(restored(&bytes(&cut)), toy);
    drop(cut);
    assert!(disk.entry(&old).unwrap().is_none());
}

#[test]
fn a_keyspace_no_server_has_open_is_read_to_its_end() {
    let place = place(&FaultyDisk::new());
    assert!(Cut::at_rest(place.clone()).unwrap().is_none());
    let (journal, toy) = filled(&place);
    drop(journal);
    assert_eq!(restored(&bytes(&Cut::at_rest(place).unwrap().unwrap())), toy);
}

#[test]
fn a_frame_that_does_not_verify_before_the_cut_is_an_error() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (journal, _) = filled(&place);
    let cut = live(&place, &journal).hold().unwrap().cut();
    let segment = path(Kind::Journal, 2);
    let file = disk.open(&segment, crate::base::OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_at(100, &mut byte).unwrap();
    file.write_at(100, &[byte[0] ^ 1]).unwrap();
    let error = cut.stream().unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("journal-"), "{error}");
}

#[test]
fn a_cut_off_stream_is_refused_wherever_it_ends() {
    let source = place(&FaultyDisk::new());
    let (journal, _) = filled(&source);
    let whole = bytes(&live(&source, &journal).hold().unwrap().cut());
    for length in 0..whole.len() {
        let target = place(&FaultyDisk::new());
        assert!(restore(&target, &mut &whole[..length]).is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let stream = [&b"MSTYKEYS\0\0\0\x01"[..], &bytes].concat();
        let _ = restore(&place(&FaultyDisk::new()), &mut stream.as_slice());
    }
}
