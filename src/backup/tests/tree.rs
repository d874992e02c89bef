//! Folders there and back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;
use crate::base::{LocalDisk, OpenMode, SystemClock};

/// A clock an hour ahead, so that files just made do not count as changing still.
fn later() -> Fixture {
    let fixture = Fixture::new();
    fixture.clock.jump_to(SystemClock::new().now().after(Duration::from_hours(1)));
    fixture
}

fn write(path: &Path, bytes: &[u8]) {
    let file = LocalDisk.open(path, OpenMode::OpenOrCreate).unwrap();
    file.set_len(0).unwrap();
    file.write_at(0, bytes).unwrap();
}

fn backup(fixture: &Fixture, root: &Path, excludes: &[&str]) -> (Finished, Counts) {
    let progress = Progress::new();
    let mut writer = fixture.open().begin(new_snapshot("tree", fixture.clock.now()), progress.clone()).unwrap();
    let excludes = Excludes { patterns: excludes.iter().map(|pattern| (*pattern).to_owned()).collect() };
    add_folder(&mut writer, root, &excludes, &progress).unwrap();
    (writer.finish().unwrap(), progress.counts())
}

fn restore(fixture: &Fixture, snapshot: &SnapshotInfo, only: &[&str], into: &Path) -> RestoreReport {
    let filter = Filter { only: only.iter().map(|path| path_of(path)).collect() };
    fixture.open().restore_tree(snapshot, &filter, into, &Progress::new()).unwrap()
}

/// Kind and mode, owner, time, links, bytes.
type Facts = (u32, u32, i64, i64, u64, Vec<u8>);

/// The facts of everything below `root`.
fn picture(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut out = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = if meta.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            let facts = (meta.mode(), meta.uid(), meta.mtime(), meta.mtime_nsec(), links, bytes);
            out.insert(path.strip_prefix(root).unwrap().to_owned(), facts);
        }
    }
    out
}

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    write(&root.join("a/text"), b"hello");
    write(&root.join("a/deep/er/noise"), &noise(3, 300_000));
    write(&root.join("a.b"), b"sorts after what is in a");
    write(&root.join(OsStr::from_bytes(b"odd \xff\n name")), b"odd");
    write(&root.join("nothing"), b"");
    symlink("../outside", root.join("a/link")).unwrap();
    fs::hard_link(root.join("a/text"), root.join("z-same")).unwrap();
    let sparse = LocalDisk.open(&root.join("sparse"), OpenMode::CreateNew).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_at(9 << 20, b"island").unwrap();
    fs::set_permissions(root.join("a/text"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("a/deep"), Permissions::from_mode(0o500)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::open(root.join("a/deep/er/noise")).unwrap().set_modified(old).unwrap();
    File::open(root.join("empty")).unwrap().set_modified(old).unwrap();
    folder
}

/// So that the folder can be removed by whoever is not root.
fn loosen(root: &Path) {
    fs::set_permissions(root.join("a/deep"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let fixture = later();
    let from = tree();
    let (finished, _) = backup(&fixture, from.path(), &[]);
    assert_eq!(finished.info.faults, []);
    let to = tempfile::tempdir().unwrap();
    let report = restore(&fixture, &finished.info, &[], &to.path().join("new"));
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(picture(from.path()), picture(&to.path().join("new")));
    let sparse = fs::metadata(to.path().join("new/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "holes are made again");
    loosen(from.path());
    loosen(&to.path().join("new"));
}

#[test]
fn a_second_run_reads_only_what_changed() {
    let fixture = later();
    let from = tree();
    let (first, _) = backup(&fixture, from.path(), &[]);
    write(&from.path().join("a/text"), b"other");
    let (second, counts) = backup(&fixture, from.path(), &[]);
    assert_eq!(second.info.counts.files, first.info.counts.files);
    assert!(counts.bytes_new < 50_000, "{counts:?}");
    let to = tempfile::tempdir().unwrap();
    assert!(restore(&fixture, &second.info, &[], to.path()).is_whole());
    assert_eq!(picture(from.path()), picture(to.path()));
    loosen(from.path());
    loosen(to.path());
}

#[test]
fn a_part_is_restored_alone_and_a_second_name_without_the_first() {
    let fixture = later();
    let from = tree();
    let (finished, _) = backup(&fixture, from.path(), &["deep"]);
    let to = tempfile::tempdir().unwrap();
    let report = restore(&fixture, &finished.info, &["z-same", "empty"], to.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(picture(to.path()).len(), 2);
    assert_eq!(fs::read(to.path().join("z-same")).unwrap(), b"hello");
    assert!(!fixture.open().entries(&finished.info).any(|entry| entry.unwrap().path.to_string().contains("deep")));
    loosen(from.path());
}

#[test]
fn nothing_is_written_through_a_link_or_over_what_is_there() {
    let fixture = later();
    let from = tempfile::tempdir().unwrap();
    fs::create_dir(from.path().join("dir")).unwrap();
    write(&from.path().join("dir/file"), b"new");
    write(&from.path().join("there"), b"new");
    write(&from.path().join("other"), b"new");
    let (finished, _) = backup(&fixture, from.path(), &[]);
    let outside = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    symlink(outside.path(), to.path().join("dir")).unwrap();
    write(&to.path().join("there"), b"old");
    symlink(outside.path().join("made"), to.path().join("other")).unwrap();
    let report = restore(&fixture, &finished.info, &[], to.path());
    let damaged: Vec<&str> = report.damaged.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(damaged, ["dir", "dir/file", "other", "there"]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read(to.path().join("there")).unwrap(), b"old");
}

#[test]
fn what_is_no_file_is_named_and_left_out() {
    let fixture = later();
    let from = tempfile::tempdir().unwrap();
    write(&from.path().join("file"), b"x");
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
    let (finished, _) = backup(&fixture, from.path(), &[]);
    assert_eq!((finished.info.fault_count, finished.info.faults[0].kind), (1, FaultKind::Skipped));
    assert_eq!(finished.info.faults[0].path, "socket");
    assert!(!finished.info.is_complete());
    assert_eq!(finished.info.counts.files, 1);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    let fixture = later();
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("file");
    write(&path, b"x");
    let mut writer = fixture.open().begin(new_snapshot("tree", fixture.clock.now()), Progress::new()).unwrap();
    let meta = Meta { identity: b"same".to_vec(), ..Meta::plain_file(1, Timestamp(5)) };
    writer.add_watched(&path_of("file"), &meta, &mut &b"x"[..], &mut || true).unwrap();
    let finished = writer.finish().unwrap();
    let entry = fixture.open().entries(&finished.info).next().unwrap().unwrap();
    assert!(entry.changed && entry.meta.identity.is_empty());
    // Read again by the next run, whatever its times say.
    let mut next = fixture.open().begin(new_snapshot("tree", fixture.clock.now()), Progress::new()).unwrap();
    assert!(!next.reuse(&path_of("file"), &meta).unwrap());
}

#[test]
fn a_snapshot_in_a_folder_of_this_machine_is_readable_by_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("backups");
    let target: Arc<dyn Target> = Arc::new(FolderTarget::new(root.clone(), Arc::new(LocalDisk)));
    let key = MasterKey::random(&SystemRandom);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let repository = Repository::create(target, &Unlock::MasterKey(&key), clock, random()).unwrap();
    let mut writer = repository.begin(new_snapshot("x", Timestamp(1)), Progress::new()).unwrap();
    writer.add(&path_of("a"), &Meta::plain_file(0, Timestamp(5)), &mut &b"secret words"[..]).unwrap();
    let finished = writer.finish().unwrap();
    assert_eq!(read_all(&repository, &finished.info), files(&[("a", b"secret words".to_vec())]));
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
    for path in picture(&root).into_values() {
        assert_eq!(path.0 & 0o077, 0);
        assert!(!path.5.windows(6).any(|window| window == b"secret"));
    }
}
