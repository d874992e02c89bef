//! Tests of journal, checkpoint and recovery, on a toy keyspace of strings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{Block, CheckpointWriter};
use super::format::{Kind, Marker};
use super::journal::Journal;
use super::*;
use crate::base::Disk;
use crate::base::disk::OpenMode;
use crate::crypto::Key;
use crate::testing::{Fault, FaultyDisk, TestRandom};

/// Keys and values of one byte's name; an effect is `key, op, length, bytes`: `=` sets, `+` appends, `-` deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toy(pub BTreeMap<u8, Vec<u8>>);

impl Toy {
    pub fn apply(&mut self, effects: &[u8]) {
        let mut rest = effects;
        while let [key, op, length, behind @ ..] = rest {
            let (bytes, behind) = behind.split_at(usize::from(*length));
            match op {
                b'=' => {
                    self.0.insert(*key, bytes.to_vec());
                }
                b'+' => self.0.entry(*key).or_default().extend_from_slice(bytes),
                _ => {
                    self.0.remove(key);
                }
            }
            rest = behind;
        }
    }

    pub fn take(&mut self, restored: Restored<'_>) {
        match restored {
            Restored::Expect(_) => {}
            Restored::Effects(effects) | Restored::Values(effects) => self.apply(effects),
        }
    }

    /// Keys from `cursor` on, at most `count`, as values of a block; the next cursor.
    pub fn walk(&self, cursor: u16, count: usize, out: &mut Vec<u8>) -> Option<u16> {
        let mut left = count;
        for (key, value) in self.0.range(u8::try_from(cursor).ok()?..) {
            if left == 0 {
                return Some(u16::from(*key));
            }
            left -= 1;
            out.extend_from_slice(&effect(*key, b'=', value));
        }
        None
    }
}

pub fn effect(key: u8, op: u8, bytes: &[u8]) -> Vec<u8> {
    [&[key, op, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

pub fn place(disk: &FaultyDisk) -> Place {
    // The data folder itself is somebody else's concern.
    let _ = disk.create_dir(Path::new("data")).and_then(|()| disk.sync_dir(Path::new(".")));
    Place {
        disk: Arc::new(disk.clone()),
        random: Arc::new(TestRandom::new(disk.operations())),
        folder: PathBuf::from("data/kv"),
        key: Key::from_bytes([7; 32]),
        segment_bytes: 1 << 20,
        on_damage: OnDamage::Refuse,
    }
}

pub fn open(place: &Place) -> Result<(Journal, Report, Toy), PersistError> {
    let mut toy = Toy::default();
    let (journal, report) = recover(place, &mut |restored| {
        toy.take(restored);
        Ok(())
    })?;
    Ok((journal, report, toy))
}

pub fn path(kind: Kind, number: u64) -> PathBuf {
    kind.path(Path::new("data/kv"), number)
}

pub fn set(key: u8, text: &str) -> Vec<u8> {
    effect(key, b'=', text.as_bytes())
}

fn length(disk: &FaultyDisk, path: &Path) -> u64 {
    disk.entry(path).unwrap().unwrap().len
}

/// Writes a checkpoint of `toy` in blocks of one key; `between` runs before each block.
pub fn checkpoint(place: &Place, journal: &mut Journal, toy: &mut Toy, mut between: impl FnMut(&mut Toy) -> Vec<u8>) {
    let number = journal.rotate().unwrap();
    let before = journal.older_bytes();
    let disk = Arc::clone(&place.disk);
    let mut writer = CheckpointWriter::create(disk, &place.folder, number, &place.key, place.random.as_ref()).unwrap();
    let mut cursor = Some(0);
    let mut index = 0;
    while let Some(from) = cursor {
        let effects = between(toy);
        let mut block = Block::new();
        cursor = toy.walk(from, 1, block.values());
        journal.append(&effects, Some(Marker { checkpoint: number, block: index })).unwrap();
        writer.write(block).unwrap();
        index += 1;
    }
    journal.sync().unwrap();
    writer.finish(0, journal.end(), journal.durable(), &export::Kept::default()).unwrap();
    journal.forget(before);
}

#[test]
fn what_was_appended_comes_back_after_a_kill() {
    let disk = FaultyDisk::new();
    let (mut journal, ..) = open(&place(&disk)).unwrap();
    journal.append(&set(1, "one"), None).unwrap();
    journal.append(&[set(2, "two"), effect(1, b'+', b"!")].concat(), None).unwrap();
    let (_, report, toy) = open(&place(&disk.kill())).unwrap();
    assert_eq!(toy.0, BTreeMap::from([(1, b"one!".to_vec()), (2, b"two".to_vec())]));
    assert_eq!((report.frames, report.dropped_bytes), (2, 0));
}

#[test]
fn nothing_is_in_the_clear() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, _, mut toy) = open(&place).unwrap();
    let effects = set(1, "a very secret value");
    toy.apply(&effects);
    journal.append(&effects, None).unwrap();
    checkpoint(&place, &mut journal, &mut toy, |_| Vec::new());
    for entry in disk.list(&place.folder).unwrap() {
        let bytes = crate::base::disk::read_file(&disk, &entry.path, 1 << 20).unwrap().unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "{}", entry.path.display());
    }
}

#[test]
fn a_full_segment_is_followed_by_the_next() {
    let disk = FaultyDisk::new();
    let place = Place { segment_bytes: 200, ..place(&disk) };
    let (mut journal, _, mut expected) = open(&place).unwrap();
    for key in 0..20 {
        let effects = set(key, "some text that fills the segment");
        expected.apply(&effects);
        journal.append(&effects, None).unwrap();
    }
    assert!(journal.end().segment > 5);
    assert_eq!(open(&place).unwrap().2, expected);
}

#[test]
fn a_checkpoint_replaces_the_segments_before_it() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, _, mut toy) = open(&place).unwrap();
    for key in 0..9 {
        let effects = set(key, "value");
        toy.apply(&effects);
        journal.append(&effects, None).unwrap();
    }
    let mut step = 0;
    checkpoint(&place, &mut journal, &mut toy, |toy| {
        step += 1;
        let effects = match step {
            2 => effect(8, b'+', b" behind the walk"),
            3 => effect(0, b'+', b" before the walk"),
            4 => effect(5, b'-', b""),
            5 => [effect(0, b'-', b""), effect(200, b'=', b"new")].concat(),
            _ => Vec::new(),
        };
        toy.apply(&effects);
        effects
    });
    let late = effect(3, b'+', b" after");
    toy.apply(&late);
    journal.append(&late, None).unwrap();
    assert!(disk.entry(&path(Kind::Journal, 1)).unwrap().is_none());
    let (_, report, restored) = open(&place).unwrap();
    assert_eq!(restored, toy);
    assert_eq!(report.checkpoint, Some(2));
}

#[test]
fn a_torn_end_is_dropped() {
    let disk = FaultyDisk::new();
    let (mut journal, ..) = open(&place(&disk)).unwrap();
    journal.append(&set(1, "whole"), None).unwrap();
    let whole = journal.end().offset;
    journal.append(&set(2, "torn"), None).unwrap();
    let file = disk.open(&path(Kind::Journal, 1), OpenMode::ReadWrite).unwrap();
    file.set_len(journal.end().offset - 1).unwrap();
    let (_, report, toy) = open(&place(&disk)).unwrap();
    assert_eq!(toy.0, BTreeMap::from([(1, b"whole".to_vec())]));
    assert_eq!(report.dropped_bytes, journal.end().offset - 1 - whole);
    assert_eq!(length(&disk, &path(Kind::Journal, 1)), whole);
}

#[test]
fn damage_to_what_was_durable_refuses_to_start_and_names_the_byte() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, ..) = open(&place).unwrap();
    journal.append(&set(1, "one"), None).unwrap();
    let second = journal.end().offset;
    journal.append(&set(2, "two"), None).unwrap();
    journal.sync().unwrap();
    journal.append(&set(3, "three"), None).unwrap();
    for offset in [second, second + 5, second + 20] {
        disk.flip(&path(Kind::Journal, 1), offset, 1).unwrap();
        let error = open(&place).unwrap_err();
        assert!(matches!(error, PersistError::Damaged { offset, .. } if offset == second), "{error}");
        let cut = Place { on_damage: OnDamage::Cut, ..place.clone() };
        let copy = disk.kill();
        let (.., toy) = open(&Place { disk: Arc::new(copy), ..cut }).unwrap();
        assert_eq!(toy.0.len(), 1);
        disk.flip(&path(Kind::Journal, 1), offset, 1).unwrap();
    }
    assert_eq!(open(&place).unwrap().2.0.len(), 3);
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, ..) = open(&place).unwrap();
    for key in 1..4 {
        journal.append(&set(key, "value"), None).unwrap();
        journal.sync().unwrap();
        journal.rotate().unwrap();
    }
    journal.append(&set(4, "value"), None).unwrap();
    disk.remove_file(&path(Kind::Journal, 2)).unwrap();
    let error = open(&place).unwrap_err();
    assert!(matches!(&error, PersistError::Missing { path: missing } if *missing == path(Kind::Journal, 2)), "{error}");
}

#[test]
fn a_damaged_checkpoint_refuses_to_start() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, _, mut toy) = open(&place).unwrap();
    toy.apply(&set(1, "value"));
    checkpoint(&place, &mut journal, &mut toy, |_| Vec::new());
    let path = path(Kind::Checkpoint, 2);
    for offset in 0..length(&disk, &path) {
        disk.flip(&path, offset, 0x10).unwrap();
        assert!(open(&place).is_err(), "byte {offset}");
        disk.flip(&path, offset, 0x10).unwrap();
    }
}

#[test]
fn another_key_and_a_newer_format_are_refused() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, ..) = open(&place).unwrap();
    journal.append(&set(1, "one"), None).unwrap();
    let other = Place { key: Key::from_bytes([8; 32]), ..place.clone() };
    assert!(matches!(open(&other).unwrap_err(), PersistError::WrongKey { .. }));
    disk.flip(&path(Kind::Journal, 1), 8, 2).unwrap();
    assert!(matches!(open(&place).unwrap_err(), PersistError::Newer { version: 3, .. }));
}

#[test]
fn a_full_disk_is_waited_out_without_losing_what_memory_holds() {
    for fault in [Fault::NoSpace, Fault::ShortWrite] {
        let disk = FaultyDisk::new();
        let (mut journal, ..) = open(&place(&disk)).unwrap();
        journal.append(&set(1, "before"), None).unwrap();
        disk.fail_from(1, fault);
        assert_eq!(journal.append(&set(2, "refused"), None), Err(Refusal::Full));
        assert_eq!(journal.append(&set(3, "expired meanwhile"), None), Err(Refusal::Full));
        assert!(!journal.retry());
        assert_eq!(journal.refusal(), Some(Refusal::Full));
        let (.., toy) = open(&place(&disk.kill())).unwrap();
        assert_eq!(toy.0.len(), 1, "nothing torn is read");
        disk.heal();
        assert!(journal.retry());
        assert_eq!(journal.refusal(), None);
        journal.append(&set(4, "after"), None).unwrap();
        assert_eq!(open(&place(&disk.kill())).unwrap().2.0.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

#[test]
fn after_a_failed_sync_writes_are_refused_until_a_restart() {
    let disk = FaultyDisk::new();
    let (mut journal, ..) = open(&place(&disk)).unwrap();
    journal.append(&set(1, "one"), None).unwrap();
    disk.fail_at(1, Fault::SyncError);
    assert!(matches!(journal.sync(), Err(Refusal::Broken(_))));
    assert!(matches!(journal.append(&set(2, "two"), None), Err(Refusal::Broken(_))));
    assert!(!journal.retry());
    assert!(matches!(journal.sync(), Err(Refusal::Broken(_))), "a failed sync is never tried again");
    assert_eq!(open(&place(&disk.kill())).unwrap().2.0.len(), 1);
}

#[test]
fn a_checkpoint_without_a_durable_journal_is_not_finished() {
    let disk = FaultyDisk::new();
    let place = place(&disk);
    let (mut journal, ..) = open(&place).unwrap();
    let number = journal.rotate().unwrap();
    let writer =
        CheckpointWriter::create(Arc::clone(&place.disk), &place.folder, number, &place.key, place.random.as_ref())
            .unwrap();
    journal.append(&[], Some(Marker { checkpoint: number, block: 0 })).unwrap();
    disk.fail_at(1, Fault::SyncError);
    let _ = journal.sync();
    assert!(writer.finish(0, journal.end(), journal.durable(), &export::Kept::default()).is_err());
    assert!(disk.entry(&path(Kind::Checkpoint, number)).unwrap().is_none());
}
