//! The master key changed: what opens before, meanwhile and after, and after a power cut at every step.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::base::{Disk, SystemRandom, disk};
use crate::crypto::Key;
use crate::crypto::keyring::MasterSource;
use crate::testing::FaultyDisk;

const DATA: &str = "/data";
const CONTEXT: &[u8] = b"objects/bucket/7";

fn open(disk: &FaultyDisk, source: MasterSource) -> Result<Keyring, KeyringError> {
    Keyring::open(Arc::new(disk.clone()), Arc::new(SystemRandom), Path::new(DATA), source, false)
}

/// A folder with a ring that has a key, a key wrapped elsewhere, and both in the clear.
fn prepared(disk: &FaultyDisk, source: MasterSource) -> (Keyring, Vec<u8>, Key) {
    let keyring = open(disk, source).unwrap();
    let key = keyring.key("store/state").unwrap();
    let wrapped = keyring.wrap(CONTEXT, &Key::from_bytes([5; 32]));
    // The data folder itself is not this room's to make durable.
    disk.sync_dir(Path::new(DATA)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (keyring, wrapped, key)
}

fn given(byte: &str) -> MasterKey {
    MasterKey::parse(&byte.repeat(32)).unwrap()
}

fn source(byte: &str) -> MasterSource {
    MasterSource::Given { key: given(byte), from: "MAINSTAY_MASTER_KEY" }
}

fn changed(byte: &str, previous: &str) -> MasterSource {
    MasterSource::Changed { key: given(byte), previous: given(previous), from: "MAINSTAY_MASTER_KEY" }
}

fn ring(disk: &FaultyDisk) -> String {
    let bytes = disk::read_file(disk, Path::new("/data/keys/ring"), 1 << 20).unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn both_keys_open_until_the_old_one_is_forgotten() {
    let disk = FaultyDisk::new();
    let (keyring, wrapped, key) = prepared(&disk, MasterSource::Folder);
    let old = keyring.masters().active;
    assert!(ring(&disk).contains("\"version\": 1"));
    let changed = keyring.rotate().unwrap();
    assert_eq!((changed.previous.as_str(), keyring.masters().older), (old.as_str(), vec![old.clone()]));
    assert_eq!(MasterKey::parse(changed.previous_key.expose()).unwrap().id(), old);
    assert!(ring(&disk).contains("\"version\": 2"));

    for keyring in [keyring, open(&disk, MasterSource::Folder).unwrap()] {
        assert_eq!(keyring.master_id(), changed.active);
        assert_eq!(keyring.key("store/state").unwrap().expose(), key.expose());
        assert_eq!(keyring.unwrap(CONTEXT, &wrapped).unwrap().expose(), &[5; 32]);
        assert!(matches!(keyring.rotate(), Err(KeyringError::Changing { .. })));
    }
    let keyring = open(&disk, MasterSource::Folder).unwrap();
    let again = keyring.rewrap(CONTEXT, &wrapped).unwrap().unwrap();
    assert_eq!(keyring.rewrap(CONTEXT, &again).unwrap(), None);
    assert!(keyring.rewrap(b"elsewhere", &wrapped).is_err());
    assert_eq!(keyring.forget().unwrap(), [old]);
    assert!(ring(&disk).contains("\"version\": 1") && !ring(&disk).contains("older"));
    for keyring in [keyring, open(&disk, MasterSource::Folder).unwrap()] {
        assert_eq!(keyring.unwrap(CONTEXT, &again).unwrap().expose(), &[5; 32]);
        assert!(keyring.unwrap(CONTEXT, &wrapped).is_err());
        assert_eq!(keyring.key("store/state").unwrap().expose(), key.expose());
    }
}

#[test]
fn a_master_key_of_the_operators_is_changed_by_giving_both() {
    let disk = FaultyDisk::new();
    let (keyring, wrapped, key) = prepared(&disk, source("0a"));
    assert!(matches!(keyring.rotate(), Err(KeyringError::Given { .. })));
    assert!(matches!(open(&disk, source("0b")), Err(KeyringError::WrongMaster { .. })));
    assert!(matches!(open(&disk, changed("0b", "0c")), Err(KeyringError::WrongMaster { .. })));

    let keyring = open(&disk, changed("0b", "0a")).unwrap();
    assert_eq!(keyring.master_id(), given("0a").id());
    assert_eq!(keyring.settle().unwrap().unwrap().active, given("0b").id());
    assert!(keyring.settle().unwrap().is_none());
    // The one before is in the ring by now.
    for source in [source("0b"), changed("0b", "0a")] {
        let keyring = open(&disk, source).unwrap();
        assert!(keyring.is_changing() && keyring.settle().unwrap().is_none());
        assert_eq!(keyring.key("store/state").unwrap().expose(), key.expose());
        assert_eq!(keyring.unwrap(CONTEXT, &wrapped).unwrap().expose(), &[5; 32]);
    }
    assert!(open(&disk, source("0a")).is_err());
    open(&disk, source("0b")).unwrap().forget().unwrap();
    assert!(open(&disk, source("0b")).unwrap().unwrap(CONTEXT, &wrapped).is_err());
}

#[test]
fn a_key_from_outside_takes_over_from_the_folders_whose_file_goes_with_it() {
    let disk = FaultyDisk::new();
    let (keyring, wrapped, _) = prepared(&disk, MasterSource::Folder);
    let old = MasterKey::parse(keyring.export().expose()).unwrap();
    let source = MasterSource::Changed { key: given("0b"), previous: old, from: "MAINSTAY_MASTER_KEY" };
    let keyring = open(&disk, source).unwrap();
    keyring.settle().unwrap();
    let file = Path::new("/data/keys/master.key");
    assert!(disk.entry(file).unwrap().is_some());
    assert!(keyring.rewrap(CONTEXT, &wrapped).unwrap().is_some());
    keyring.forget().unwrap();
    assert!(disk.entry(file).unwrap().is_none());
}

#[test]
fn several_changes_may_overlap_when_the_operator_gives_the_keys() {
    let disk = FaultyDisk::new();
    let (_, first, _) = prepared(&disk, source("0a"));
    let keyring = open(&disk, changed("0b", "0a")).unwrap();
    keyring.settle().unwrap();
    let second = keyring.wrap(CONTEXT, &Key::from_bytes([6; 32]));
    let keyring = open(&disk, changed("0c", "0b")).unwrap();
    keyring.settle().unwrap();
    assert_eq!(keyring.masters().older.len(), 2);
    for wrapped in [first, second] {
        assert!(keyring.rewrap(CONTEXT, &wrapped).unwrap().is_some());
    }
    // And back.
    let keyring = open(&disk, changed("0a", "0c")).unwrap();
    keyring.settle().unwrap();
    assert_eq!(keyring.masters().active, given("0a").id());
    assert!(!keyring.masters().older.contains(&given("0a").id()));
}

#[test]
fn whoever_holds_the_master_keys_keeps_them_as_they_are() {
    let disk = FaultyDisk::new();
    let (keyring, ..) = prepared(&disk, MasterSource::Folder);
    let held = keyring.hold();
    assert!(matches!(keyring.rotate(), Err(KeyringError::Held)));
    drop(held);
    keyring.rotate().unwrap();
    let held = keyring.hold();
    assert!(matches!(keyring.forget(), Err(KeyringError::Held)));
    drop(held);
    keyring.forget().unwrap();
}

/// Changes the master key, wraps `wrapped` anew, forgets the old one; stops at the first error.
fn scenario(keyring: &Keyring, wrapped: &mut Vec<u8>) -> Result<(), KeyringError> {
    keyring.rotate()?;
    if let Some(again) = keyring.rewrap(CONTEXT, wrapped)? {
        *wrapped = again;
    }
    keyring.key("made/meanwhile")?;
    keyring.forget().map(drop)
}

#[test]
fn a_power_cut_or_a_kill_at_any_step_of_a_change_loses_no_key() {
    let disk = FaultyDisk::new();
    let (keyring, mut wrapped, _) = prepared(&disk, MasterSource::Folder);
    let before = disk.operations();
    scenario(&keyring, &mut wrapped).unwrap();
    let steps = disk.operations() - before;
    assert!(steps > 12, "{steps}");
    for step in 1..=steps {
        let disk = FaultyDisk::new();
        let (keyring, mut wrapped, key) = prepared(&disk, MasterSource::Folder);
        disk.cut_power_at(step);
        let done = scenario(&keyring, &mut wrapped);
        assert!(done.is_err() || step == steps, "{step}");
        for after in [disk.crash(1), disk.crash(2), disk.crash(3), disk.kill()] {
            // Twice: what the first start has settled, and that again.
            for _ in 0..2 {
                let keyring = open(&after, MasterSource::Folder).unwrap();
                keyring.settle().unwrap();
                assert_eq!(keyring.key("store/state").unwrap().expose(), key.expose(), "{step}");
                assert_eq!(keyring.unwrap(CONTEXT, &wrapped).unwrap().expose(), &[5; 32], "{step}");
            }
            // The change goes on, or is begun anew.
            let keyring = open(&after, MasterSource::Folder).unwrap();
            if !keyring.is_changing() {
                keyring.rotate().unwrap();
            }
            let again = keyring.rewrap(CONTEXT, &wrapped).unwrap().unwrap_or_else(|| wrapped.clone());
            keyring.forget().unwrap();
            assert_eq!(after.list(Path::new("/data/keys")).unwrap().iter().filter(|entry| !is_half(entry)).count(), 2);
            let keyring = open(&after, MasterSource::Folder).unwrap();
            assert_eq!(keyring.unwrap(CONTEXT, &again).unwrap().expose(), &[5; 32], "{step}");
        }
    }
}

/// Whether it is what a cut replacement of a file has left.
fn is_half(entry: &crate::base::Entry) -> bool {
    entry.path.extension().is_some_and(|ending| ending == "tmp")
}

#[test]
fn a_disk_that_fails_at_any_step_of_a_change_leaves_a_keyring_that_goes_on() {
    for step in 1..30 {
        let disk = FaultyDisk::new();
        let (keyring, mut wrapped, key) = prepared(&disk, MasterSource::Folder);
        disk.fail_at(step, crate::testing::Fault::Io);
        let _ = scenario(&keyring, &mut wrapped);
        disk.heal();
        keyring.key("made/afterwards").unwrap();
        let fresh = keyring.wrap(CONTEXT, &Key::from_bytes([6; 32]));
        for after in [disk.crash(step), disk.kill()] {
            let again = open(&after, MasterSource::Folder).unwrap();
            again.settle().unwrap();
            assert_eq!(again.key("store/state").unwrap().expose(), key.expose(), "{step}");
            assert!(again.has("made/afterwards"), "{step}");
            for (wrapped, byte) in [(&wrapped, 5), (&fresh, 6)] {
                assert_eq!(again.unwrap(CONTEXT, wrapped).unwrap().expose(), &[byte; 32], "{step}");
            }
        }
    }
}
