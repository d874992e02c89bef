//! Damaged, forged, rolled back: said loudly, and it costs only what it hit.

use super::*;

/// Two files in packs of their own, since a run each.
fn two_packs() -> (Fixture, Finished, PathBuf) {
    let fixture = Fixture::new();
    fixture.backup(&files(&[("a", noise(1, 200_000))]));
    let old = fixture.names("packs");
    let finished = fixture.backup(&files(&[("a", noise(1, 200_000)), ("b", noise(2, 300_000)), ("c", noise(1, 9))]));
    // The new data pack is the largest of the new ones: the list's is small.
    let size = |path: &PathBuf| fixture.disk.entry(path).unwrap().unwrap().len;
    let new = fixture.names("packs").into_iter().filter(|path| !old.contains(path)).max_by_key(size).unwrap();
    (fixture, finished, new)
}

fn damaged_paths(fixture: &Fixture, snapshot: &SnapshotInfo) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let report = fixture.open().restore_tree(snapshot, &Filter::default(), folder.path(), &Progress::new()).unwrap();
    let damaged: Vec<String> = report.damaged.into_iter().map(|(path, _)| path).collect();
    for path in ["a", "b", "c"] {
        assert_eq!(folder.path().join(path).exists(), !damaged.iter().any(|bad| bad == path), "{path}");
    }
    if !damaged.iter().any(|path| path == "a") {
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), noise(1, 200_000));
    }
    damaged
}

#[test]
fn a_flipped_byte_costs_only_the_files_that_use_it() {
    let (fixture, finished, pack) = two_packs();
    fixture.disk.flip(&pack, 150_000, 4).unwrap();
    assert_eq!(damaged_paths(&fixture, &finished.info), ["b"]);
    let report = fixture.open().verify(VerifyLevel::ReadData, &Progress::new()).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains(name) && finding.contains("1 of its")), "{report:?}");
    assert!(report.files.len() == 1 && report.files[0].contains(": b ("), "{report:?}");
    let reader = fixture.open();
    let b = reader.entries(&finished.info).map(Result::unwrap).find(|entry| entry.path == path_of("b")).unwrap();
    let error = reader.read(&b).read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn a_cut_pack_is_named_and_its_chunks_are_written_again() {
    let (fixture, finished, pack) = two_packs();
    fixture.disk.open(&pack, crate::base::OpenMode::ReadWrite).unwrap().set_len(10).unwrap();
    assert_eq!(damaged_paths(&fixture, &finished.info), ["b", "c"]);
    let report = fixture.open().verify(VerifyLevel::Structure, &Progress::new()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("it was cut or replaced")), "{report:?}");
    let healed = fixture.backup(&files(&[("a", noise(1, 200_000)), ("b", noise(2, 300_000)), ("c", noise(1, 9))]));
    assert_eq!(healed.missing_packs.len(), 1);
    assert!(damaged_paths(&fixture, &healed.info).is_empty());
    assert!(damaged_paths(&fixture, &finished.info).is_empty());
}

#[test]
fn a_missing_pack_is_named_and_its_chunks_are_written_again() {
    let (fixture, finished, pack) = two_packs();
    fixture.remove(&pack);
    assert_eq!(damaged_paths(&fixture, &finished.info), ["b", "c"]);
    let report = fixture.open().verify(VerifyLevel::Structure, &Progress::new()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("is missing")), "{report:?}");
    assert_eq!(report.files.len(), 2);
    let healed = fixture.backup(&files(&[("b", noise(2, 300_000)), ("c", noise(1, 9))]));
    assert_eq!(healed.missing_packs.len(), 1);
    assert!(damaged_paths(&fixture, &finished.info).is_empty());
}

#[test]
fn a_lost_or_damaged_index_costs_nothing() {
    let (fixture, finished, _) = two_packs();
    let index = fixture.names("index");
    fixture.disk.flip(&index[0], 60, 1).unwrap();
    for file in &index[1..] {
        fixture.remove(file);
    }
    assert!(damaged_paths(&fixture, &finished.info).is_empty());
    let report = fixture.open().verify(VerifyLevel::ReadData, &Progress::new()).unwrap();
    assert!(report.findings.len() == 1 && report.findings[0].contains("index/"), "{report:?}");
    let next = fixture.backup(&files(&[("a", noise(1, 200_000))]));
    assert_eq!(next.info.counts.bytes_new, 0);
}

#[test]
fn a_damaged_snapshot_is_loud_and_the_others_stay() {
    let (fixture, finished, _) = two_packs();
    let names = fixture.names("snapshots");
    fixture.disk.flip(&names[0], 70, 1).unwrap();
    assert!(matches!(fixture.open().snapshots(), Err(BackupError::Damaged { .. })));
    let (snapshots, problems) = fixture.open().survey().unwrap();
    assert_eq!(snapshots, std::slice::from_ref(&finished.info));
    assert!(matches!(problems.as_slice(), [BackupError::Damaged { .. }]), "{problems:?}");
    assert!(fixture.open().plan_prune(&Retention::default(), &Progress::new()).is_err());
}

#[test]
fn a_snapshot_under_another_name_is_a_forgery() {
    let (fixture, _, _) = two_packs();
    let names = fixture.names("snapshots");
    let forged = names[1].with_file_name("00000000000000ff-00000000000000ff");
    fixture.disk.rename(&names[1], &forged).unwrap();
    let (snapshots, problems) = fixture.open().survey().unwrap();
    assert_eq!(snapshots.len(), 1);
    assert!(problems.iter().any(|problem| matches!(problem, BackupError::Damaged { .. })), "{problems:?}");
}

#[test]
fn a_repository_that_goes_back_is_noticed() {
    let (fixture, finished, _) = two_packs();
    let third = fixture.backup(&files(&[("a", b"x".to_vec())]));
    assert!(fixture.try_open(Some(&third.head)).is_ok());
    assert!(fixture.try_open(Some(&finished.head)).is_ok());
    let names = fixture.names("snapshots");
    fixture.remove(&names[2]);
    let back = fixture.try_open(Some(&third.head)).unwrap_err();
    assert!(matches!(back, BackupError::RolledBack { found: 2, known: 3, .. }), "{back}");
    let again = fixture.backup(&files(&[("a", b"y".to_vec())]));
    assert_eq!(again.info.name.sequence(), 3);
    assert!(matches!(fixture.try_open(Some(&third.head)), Err(BackupError::MissingSnapshot { .. })));
    let other = Head { hash: [1; 32], ..again.head };
    assert!(matches!(fixture.try_open(Some(&other)), Err(BackupError::Forged { .. })));
}

#[test]
fn a_snapshot_deleted_from_the_middle_is_noticed() {
    let (fixture, _, _) = two_packs();
    fixture.backup(&files(&[("a", b"x".to_vec())]));
    fixture.remove(&fixture.names("snapshots")[1]);
    assert!(matches!(fixture.open().snapshots(), Err(BackupError::MissingSnapshot { .. })));
    let report = fixture.open().verify(VerifyLevel::Structure, &Progress::new()).unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("was not dropped by a prune")), "{report:?}");
}

#[test]
fn an_altered_config_is_noticed() {
    let fixture = Fixture::new();
    fixture.disk.flip(&Path::new(PLACE).join("config"), 26, 1).unwrap();
    assert!(matches!(fixture.try_open(None), Err(BackupError::Damaged { .. })));
    let fixture = Fixture::new();
    fixture.disk.flip(&Path::new(PLACE).join("config"), 7, 0x02).unwrap();
    assert!(matches!(fixture.try_open(None), Err(BackupError::Newer { found: 3, .. })));
}
