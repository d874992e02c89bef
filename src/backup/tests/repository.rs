//! What is written comes back, and only what is new is stored.

use proptest::prelude::*;

use super::*;
use crate::backup::format::readings;
use crate::base::LocalDisk;
use crate::crypto::Keyring;
use crate::crypto::keyring::MasterSource;

#[test]
fn what_was_backed_up_is_read_back() {
    let fixture = Fixture::new();
    let content = files(&[
        ("a", b"one".to_vec()),
        ("b/empty", Vec::new()),
        ("b/text", b"the same line again and again\n".repeat(20_000)),
        ("c", noise(1, 3 << 20)),
    ]);
    let finished = fixture.backup(&content);
    assert_eq!(finished.info.counts.files, 4);
    assert_eq!(finished.info.counts.bytes, content.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(fixture.files(&finished.info), content);
    assert_eq!(fixture.open().snapshots().unwrap(), std::slice::from_ref(&finished.info));
    assert_eq!(fixture.open().head().unwrap(), Some(finished.head.clone()));
    let report = fixture.open().verify(VerifyLevel::ReadData, &Progress::new()).unwrap();
    assert!(report.is_well(), "{report:?}");
    assert_eq!((report.snapshots, report.packs_read), (1, report.packs));
}

#[test]
fn the_repository_says_how_to_read_it() {
    let fixture = Fixture::new();
    for name in ["RESTORE.txt", "FORMAT.txt", "restore.py"] {
        assert!(fixture.target().size(name).unwrap().unwrap() > 1000, "{name}");
    }
}

#[test]
fn the_same_again_stores_no_content() {
    let fixture = Fixture::new();
    let content = files(&[("a", noise(1, 2 << 20)), ("b", noise(1, 2 << 20))]);
    let first = fixture.backup(&content);
    assert_eq!(first.info.counts.bytes_new >> 20, 2);
    let second = fixture.backup(&content);
    assert_eq!(second.info.counts.bytes_new, 0);
    assert_eq!(second.info.name.sequence(), 2);
    assert_eq!(fixture.files(&second.info), content);
}

#[test]
fn unchanged_files_are_taken_over_unread() {
    let fixture = Fixture::new();
    let meta = |identity: &[u8], size| Meta { identity: identity.to_vec(), ..Meta::plain_file(size, Timestamp(5)) };
    let run = |identity: &[u8], size| {
        let mut writer = fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
        let reused = writer.reuse(&path_of("x"), &meta(identity, size)).unwrap();
        if !reused {
            writer.add(&path_of("x"), &meta(identity, size), &mut &b"hello"[..]).unwrap();
        }
        let finished = writer.finish().unwrap();
        assert_eq!(fixture.files(&finished.info), files(&[("x", b"hello".to_vec())]));
        reused
    };
    assert!(!run(b"inode 1", 5));
    assert!(run(b"inode 1", 5));
    assert!(run(b"inode 1", 5));
    assert!(!run(b"inode 2", 5));
    assert!(!run(b"inode 2", 6));
    assert!(!run(b"", 5));
    assert!(!run(b"", 5));
}

#[test]
fn entries_out_of_order_are_refused_and_the_next_may_be_added() {
    let fixture = Fixture::new();
    let mut writer = fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
    let meta = Meta::plain_file(0, Timestamp(5));
    for path in ["a", "a/b", "a.b", "b"] {
        writer.add(&path_of(path), &meta, &mut &b"x"[..]).unwrap();
    }
    for path in ["b", "a/c"] {
        let refused = writer.add(&path_of(path), &meta, &mut &b"x"[..]).unwrap_err();
        assert!(matches!(refused, BackupError::Unordered { .. }), "{refused}");
    }
    writer.add(&path_of("c"), &meta, &mut &b"x"[..]).unwrap();
    assert_eq!(writer.finish().unwrap().info.counts.files, 5);
}

#[test]
fn a_source_that_fails_is_named_and_costs_its_entry_alone() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _target: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("bad sector"))
        }
    }
    let fixture = Fixture::new();
    let mut writer = fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
    let meta = Meta::plain_file(0, Timestamp(5));
    let failed = writer.add(&path_of("a"), &meta, &mut Broken).unwrap_err();
    assert_eq!(failed.to_string(), "reading a: bad sector");
    writer.add(&path_of("b"), &meta, &mut &b"x"[..]).unwrap();
    let finished = writer.finish().unwrap();
    assert_eq!(fixture.files(&finished.info), files(&[("b", b"x".to_vec())]));
}

#[test]
fn a_cancelled_run_leaves_no_snapshot() {
    let fixture = Fixture::new();
    let progress = Progress::new();
    let mut writer = fixture.open().begin(new_snapshot("files", fixture.clock.now()), progress.clone()).unwrap();
    progress.cancel();
    let meta = Meta::plain_file(0, Timestamp(5));
    assert!(matches!(writer.add(&path_of("a"), &meta, &mut &b"x"[..]), Err(BackupError::Cancelled)));
    assert!(matches!(writer.finish(), Err(BackupError::Cancelled)));
    assert!(fixture.open().snapshots().unwrap().is_empty());
}

#[test]
fn packs_of_an_abandoned_run_are_adopted_and_not_stored_again() {
    let place = tempfile::tempdir().unwrap();
    let target: Arc<dyn Target> = Arc::new(FolderTarget::new(place.path().join("b"), Arc::new(LocalDisk)));
    let (key, clock) = (MasterKey::random(&SystemRandom), Arc::new(TestClock::default()));
    let repository = Repository::create(
        Arc::clone(&target),
        &Unlock::MasterKey(&key),
        Arc::clone(&clock) as Arc<dyn Clock>,
        random(),
    )
    .unwrap();
    let big = noise(9, 34 << 20);
    let begin = || {
        let mut writer = repository.begin(new_snapshot("files", clock.now()), Progress::new()).unwrap();
        writer.add(&path_of("big"), &Meta::plain_file(0, Timestamp(5)), &mut big.as_slice()).unwrap();
        writer
    };
    drop(begin());
    let left = target.list("packs").unwrap().len();
    assert!(left >= 1);
    assert!(target.list("index").unwrap().is_empty());
    let finished = begin().finish().unwrap();
    assert_eq!(finished.adopted_packs, left);
    // A pack has 16 MiB, sealing and list included.
    assert!(finished.info.counts.bytes_new <= (big.len() - (left * (15 << 20))) as u64);
    assert_eq!(read_all(&repository, &finished.info)["big"], big);
}

#[test]
fn two_writers_at_once_keep_both_snapshots() {
    let fixture = Fixture::new();
    let begin = || fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
    let (mut one, mut two) = (begin(), begin());
    let meta = Meta::plain_file(0, Timestamp(5));
    one.add(&path_of("same"), &meta, &mut &b"same"[..]).unwrap();
    two.add(&path_of("same"), &meta, &mut &b"same"[..]).unwrap();
    two.add(&path_of("two"), &meta, &mut &b"two"[..]).unwrap();
    let one = one.finish().unwrap();
    let two = two.finish().unwrap();
    let third = fixture.backup(&files(&[("third", b"3".to_vec())]));
    assert_eq!(fixture.open().snapshots().unwrap().len(), 3);
    assert_eq!(fixture.files(&one.info).len(), 1);
    assert_eq!(fixture.files(&two.info).len(), 2);
    assert_eq!(fixture.files(&third.info).len(), 1);
}

#[test]
fn a_second_repository_is_not_made_over_the_first() {
    let fixture = Fixture::new();
    let again = Repository::create(fixture.target(), &Unlock::MasterKey(&fixture.key), fixture.clock(), random());
    assert!(matches!(again, Err(BackupError::AlreadyThere { .. })));
}

#[test]
fn the_wrong_key_is_told_from_no_repository() {
    let fixture = Fixture::new();
    let other = MasterKey::parse(&"0b".repeat(32)).unwrap();
    let wrong = Repository::open(fixture.target(), &Unlock::MasterKey(&other), None, fixture.clock(), random());
    let wrong = wrong.unwrap_err();
    assert!(matches!(wrong, BackupError::WrongKey { slots: 1, .. }), "{wrong}");
    assert!(wrong.to_string().contains(&other.id()) && !wrong.to_string().contains("0b0b"));
    let empty = fixture.on(FaultyDisk::new());
    assert!(matches!(empty.try_open(None), Err(BackupError::NoRepository { .. })));
}

#[test]
fn a_master_key_that_follows_opens_the_repository_once_it_is_let_in_and_the_one_before_still_does() {
    let data = Path::new("/data");
    let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new());
    let keyring = Keyring::open(disk, Arc::new(SystemRandom), data, MasterSource::Folder, false).unwrap();
    let before = MasterKey::parse(keyring.export().expose()).unwrap();
    let fixture = Fixture { disk: FaultyDisk::new(), clock: Arc::new(TestClock::default()), key: before };
    let target = fixture.target();
    let none = Repository::let_in(target.as_ref(), &keyring, &SystemRandom);
    assert!(matches!(none, Err(BackupError::NoRepository { .. })));
    Repository::create(fixture.target(), &Unlock::Keyring(&keyring), fixture.clock(), random()).unwrap();
    fixture.backup(&files(&[("a", b"one".to_vec())]));
    keyring.rotate().unwrap();
    let after = MasterKey::parse(keyring.export().expose()).unwrap();
    let open = |unlock: &Unlock<'_>| {
        let opened = Repository::open(fixture.target(), unlock, None, fixture.clock(), random());
        opened.map(|repository| repository.snapshots().unwrap().len())
    };
    // The server has both keys; whoever has the new one alone waits.
    assert_eq!(open(&Unlock::Keyring(&keyring)).unwrap(), 1);
    assert!(matches!(open(&Unlock::MasterKey(&after)), Err(BackupError::WrongKey { .. })));
    for _ in 0..2 {
        Repository::let_in(target.as_ref(), &keyring, &SystemRandom).unwrap();
        assert_eq!(target.list("keys").unwrap().len(), 2);
    }
    keyring.forget().unwrap();
    for unlock in [Unlock::Keyring(&keyring), Unlock::MasterKey(&after), Unlock::MasterKey(&fixture.key)] {
        assert_eq!(open(&unlock).unwrap(), 1);
    }
}

#[test]
fn paths_that_lead_elsewhere_are_none() {
    for path in ["", "/a", "a/", "a//b", "..", "a/../b", ".", "./a", "a\0"] {
        assert!(EntryPath::new(path).is_err(), "{path:?}");
    }
    assert_eq!(EntryPath::new(&b"a/\xff\n"[..]).unwrap().to_string(), "a/\\xff\\n");
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let part = prop::collection::vec(prop_oneof![1u8..b'.', b':'..=255], 1..20);
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Folder),
        Just(Kind::Symlink { target: b"../x".to_vec() }),
        Just(Kind::HardLink { first: path_of("a") }),
    ];
    let numbers = (0u32..0o10000, any::<u32>(), any::<i64>(), 0u32..1_000_000_000, any::<u64>());
    let ids = prop::collection::vec(any::<[u8; 32]>().prop_map(ChunkId), 0..5);
    let identity = prop::collection::vec(any::<u8>(), 0..30);
    (prop::collection::vec(part, 1..4), kind, numbers, ids, identity, any::<[bool; 2]>()).prop_map(
        |(parts, kind, (mode, uid, seconds, nanos, size), ids, identity, [sparse, changed])| Entry {
            path: EntryPath::new(parts.join(&b'/')).unwrap(),
            meta: Meta { kind, mode, uid, gid: uid, modified: Moment { seconds, nanos }, size, identity, sparse },
            changed,
            content: format::Content { depth: 0, ids },
        },
    )
}

proptest! {
    #[test]
    fn entries_survive_a_round_trip(entries in prop::collection::vec(any_entry(), 0..5)) {
        let mut bytes = Vec::new();
        for entry in &entries {
            entry.encode(&mut bytes);
        }
        prop_assert_eq!(listing::decode(&bytes), Some(entries));
    }

    #[test]
    fn reading_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        readings(&bytes);
    }

    #[test]
    fn reading_altered_entries_never_panics(entry in any_entry(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = to;
        readings(&bytes);
    }

    #[test]
    fn paths_are_ordered_part_by_part(one in any_entry(), other in any_entry()) {
        let parts = |entry: &Entry| entry.path.parts().map(<[u8]>::to_vec).collect::<Vec<_>>();
        prop_assert_eq!(one.path.cmp(&other.path), parts(&one).cmp(&parts(&other)));
    }
}
