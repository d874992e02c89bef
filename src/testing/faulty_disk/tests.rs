use std::collections::BTreeSet;

use super::*;
use crate::base::disk::{read_file, replace_file};

const A: &str = "/a";

fn file(disk: &FaultyDisk, path: &str) -> Box<dyn DiskFile> {
    disk.open(Path::new(path), OpenMode::OpenOrCreate).unwrap()
}

fn content(disk: &FaultyDisk, path: &str) -> Option<Vec<u8>> {
    read_file(disk, Path::new(path), 1 << 20).unwrap()
}

/// Everything a hundred power cuts leave of `path`.
fn outcomes(disk: &FaultyDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..100).map(|seed| content(&disk.crash(seed), path)).collect()
}

/// A disk with the durable file `/a` holding `bytes`.
fn with_durable(bytes: &[u8]) -> FaultyDisk {
    let disk = FaultyDisk::new();
    replace_file(&disk, Path::new(A), bytes).unwrap();
    disk
}

#[test]
fn synced_bytes_under_a_synced_name_survive_every_power_cut() {
    let disk = with_durable(b"one");
    assert_eq!(outcomes(&disk, A), BTreeSet::from([Some(b"one".to_vec())]));
}

#[test]
fn an_unsynced_write_survives_or_not() {
    let disk = with_durable(b"one");
    file(&disk, A).write_at(0, b"two").unwrap();
    assert_eq!(content(&disk, A).unwrap(), b"two");
    assert_eq!(outcomes(&disk, A), BTreeSet::from([Some(b"one".to_vec()), Some(b"two".to_vec())]));
}

#[test]
fn an_unsynced_write_is_torn_at_sectors_and_nowhere_else() {
    let disk = with_durable(&[1; 2 * SECTOR]);
    file(&disk, A).write_at(0, &[2; 2 * SECTOR]).unwrap();
    let seen = outcomes(&disk, A);
    assert!(
        seen.iter().flatten().all(|bytes| bytes.chunks(SECTOR).all(|sector| sector.iter().all(|b| *b == sector[0])))
    );
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let disk = with_durable(&[0; 8 * SECTOR]);
    file(&disk, A).write_at(0, &[1]).unwrap();
    file(&disk, A).write_at(4096 - 512, &[2]).unwrap();
    let seen: BTreeSet<_> = outcomes(&disk, A).into_iter().flatten().map(|b| (b[0], b[4096 - 512])).collect();
    assert_eq!(seen, BTreeSet::from([(0, 0), (1, 0), (0, 2), (1, 2)]));
}

#[test]
fn an_appended_byte_is_lost_or_there_or_a_zero() {
    let disk = with_durable(b"");
    file(&disk, A).write_at(0, b"x").unwrap();
    let allowed = BTreeSet::from([Some(b"".to_vec()), Some(b"x".to_vec()), Some(b"\0".to_vec())]);
    assert_eq!(outcomes(&disk, A), allowed);
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone() {
    let disk = FaultyDisk::new();
    let open = file(&disk, A);
    open.write_at(0, b"one").unwrap();
    open.sync_data().unwrap();
    assert_eq!(outcomes(&disk, A), BTreeSet::from([None, Some(b"one".to_vec())]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, A), BTreeSet::from([Some(b"one".to_vec())]));
}

#[test]
fn an_unsynced_rename_happens_whole_or_not_at_all() {
    let disk = with_durable(b"old");
    let open = file(&disk, "/b");
    open.write_at(0, b"new").unwrap();
    open.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.rename(Path::new("/b"), Path::new(A)).unwrap();
    let seen: BTreeSet<_> =
        (0..100).map(|seed| disk.crash(seed)).map(|d| (content(&d, A), content(&d, "/b"))).collect();
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!(seen, BTreeSet::from([(old, new.clone()), (new, None)]));
}

#[test]
fn an_unsynced_removal_may_be_undone() {
    let disk = with_durable(b"one");
    disk.remove_file(Path::new(A)).unwrap();
    assert_eq!(content(&disk, A), None);
    assert_eq!(outcomes(&disk, A), BTreeSet::from([None, Some(b"one".to_vec())]));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, A), BTreeSet::from([None]));
}

#[test]
fn files_in_a_folder_whose_name_was_lost_are_lost() {
    let disk = FaultyDisk::new();
    disk.create_dir(Path::new("/x")).unwrap();
    replace_file(&disk, Path::new("/x/a"), b"one").unwrap();
    assert!(outcomes(&disk, "/x/a").contains(&None));
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk, "/x/a"), BTreeSet::from([Some(b"one".to_vec())]));
}

#[test]
fn a_failed_sync_leaves_doubt_that_a_second_sync_does_not_end() {
    let disk = with_durable(b"one");
    let open = file(&disk, A);
    open.write_at(0, b"two").unwrap();
    disk.fail_at(1, Fault::SyncError);
    assert!(open.sync_data().is_err());
    open.sync_data().unwrap();
    assert_eq!(content(&disk, A).unwrap(), b"two");
    let both = BTreeSet::from([Some(b"one".to_vec()), Some(b"two".to_vec())]);
    assert_eq!(outcomes(&disk, A), both);
    open.write_at(0, b"two").unwrap();
    open.sync_data().unwrap();
    assert_eq!(outcomes(&disk, A), BTreeSet::from([Some(b"two".to_vec())]));
}

#[test]
fn a_killed_process_leaves_its_writes_and_they_are_still_unsynced() {
    let disk = with_durable(b"one");
    let open = file(&disk, A);
    open.write_at(0, b"two").unwrap();
    let next = disk.kill();
    open.write_at(0, b"six").unwrap();
    assert_eq!(content(&next, A).unwrap(), b"two");
    assert_eq!(outcomes(&next, A).len(), 2);
}

#[test]
fn faults_strike_the_operation_they_were_planned_for() {
    let disk = with_durable(b"one");
    let open = file(&disk, A);
    disk.fail_at(2, Fault::NoSpace);
    open.write_at(0, b"two").unwrap();
    assert_eq!(open.write_at(0, b"six").unwrap_err().kind(), io::ErrorKind::StorageFull);
    open.write_at(0, b"ten").unwrap();
    disk.fail_from(1, Fault::LostWrite);
    open.write_at(0, b"xxx").unwrap();
    open.write_at(0, b"yyy").unwrap();
    disk.heal();
    disk.fail_at(1, Fault::ShortWrite);
    assert!(open.write_at(0, b"0123").is_err());
    assert_eq!(content(&disk, A).unwrap(), b"01n");
    disk.fail_at(1, Fault::TornWrite);
    open.write_at(0, &[7; 3 * SECTOR]).unwrap();
    assert_eq!(content(&disk, A).unwrap(), [7; SECTOR]);
}

#[test]
fn after_the_power_cut_nothing_answers() {
    let disk = with_durable(b"one");
    let open = file(&disk, A);
    disk.cut_power_at(2);
    open.write_at(0, b"two").unwrap();
    assert!(open.sync_data().is_err());
    assert!(open.len().is_err());
    assert!(disk.entry(Path::new(A)).is_err());
    assert_eq!(outcomes(&disk, A).len(), 2);
}

#[test]
fn the_space_limit_counts_what_is_stored() {
    let disk = with_durable(b"one");
    disk.limit_space(Some(5));
    let open = file(&disk, A);
    assert_eq!(open.write_at(0, b"123456").unwrap_err().kind(), io::ErrorKind::StorageFull);
    open.write_at(0, b"12345").unwrap();
    assert_eq!(disk.space(Path::new("/")).unwrap().available, 0);
    disk.remove_file(Path::new(A)).unwrap();
    assert_eq!(disk.space(Path::new("/")).unwrap().available, 0);
    drop(open);
    assert_eq!(disk.space(Path::new("/")).unwrap().available, 5);
}

#[test]
fn names_behave_as_on_a_real_disk() {
    let disk = FaultyDisk::new();
    let missing = disk.open(Path::new("/x/a"), OpenMode::OpenOrCreate).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    disk.create_dir(Path::new("/x/y/")).unwrap();
    disk.create_dir(Path::new("/x")).unwrap();
    drop(file(&disk, "/x/./y/a"));
    let again = disk.open(Path::new("/x/y/a"), OpenMode::CreateNew).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    let listed: Vec<_> = disk.list(Path::new("/x")).unwrap().into_iter().map(|entry| entry.path).collect();
    assert_eq!(listed, [Path::new("/x/y")]);
    assert_eq!(disk.list(Path::new("/x/y")).unwrap().len(), 1);
    assert_eq!(disk.entry(Path::new("/x/y/a")).unwrap().unwrap().len, 0);
    assert!(disk.open(Path::new("/x/y/a"), OpenMode::Read).unwrap().write_at(0, b"x").is_err());
}

#[test]
fn a_flipped_byte_stays_flipped() {
    let disk = with_durable(b"one");
    disk.flip(Path::new(A), 0, 1).unwrap();
    assert_eq!(outcomes(&disk, A), BTreeSet::from([Some(b"nne".to_vec())]));
}
