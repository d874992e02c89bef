//! What goes, when, and that what is needed never does.

use std::time::Duration;

use super::*;
use crate::base::Span;

const DAY: Duration = Duration::from_hours(25);

const LITTLE: Retention = Retention { all: Span::hours(1), daily: 0, weekly: 0, monthly: 0, yearly: 0 };

fn plan(fixture: &Fixture) -> PrunePlan {
    fixture.open().plan_prune(&LITTLE, &Progress::new()).unwrap()
}

fn prune(fixture: &Fixture) -> PruneReport {
    fixture.open().prune(plan(fixture), &Progress::new()).unwrap()
}

fn must_be_well(fixture: &Fixture) {
    let report = fixture.open().verify(VerifyLevel::ReadData, &Progress::new()).unwrap();
    assert!(report.is_well(), "{report:?}");
}

fn one() -> Files {
    files(&[("one", noise(1, 100_000))])
}

fn two() -> Files {
    files(&[("two", noise(2, 100_000))])
}

#[test]
fn packs_go_a_day_after_the_last_snapshot_that_needs_them() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    let kept = fixture.backup(&two());
    let first = plan(&fixture);
    assert_eq!((first.drop.len(), first.mark.len(), first.delete.len()), (1, 2, 0));
    assert_eq!(fixture.open().prune(first, &Progress::new()).unwrap().dropped, 1);
    assert_eq!(fixture.names("packs").len(), 4);
    assert_eq!(fixture.open().snapshots().unwrap(), std::slice::from_ref(&kept.info));
    assert!(plan(&fixture).is_empty());

    fixture.clock.advance(DAY);
    assert!(plan(&fixture).is_empty(), "no snapshot is a day younger than the mark");
    let newest = fixture.backup(&two());
    let report = prune(&fixture);
    assert_eq!(report.deleted, 2);
    assert!(report.bytes_freed > 100_000);
    assert_eq!(fixture.files(&newest.info), two());
    must_be_well(&fixture);
    assert!(fixture.try_open(Some(&kept.head)).is_ok(), "a head dropped by a prune is no alarm");
}

#[test]
fn a_plan_changes_nothing_and_goes_stale() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    let operations = fixture.disk.operations();
    let old_plan = plan(&fixture);
    assert_eq!(fixture.disk.operations(), operations);
    fixture.backup(&one());
    let stale = fixture.open().prune(old_plan, &Progress::new());
    assert!(matches!(stale, Err(BackupError::StalePlan)));
    assert_eq!(fixture.open().snapshots().unwrap().len(), 3);
}

#[test]
fn content_of_a_dropped_snapshot_is_written_again_and_not_relied_on() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    prune(&fixture);
    let again = fixture.backup(&one());
    assert_eq!(again.info.counts.bytes_new, 100_000);
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    fixture.clock.advance(Duration::from_mins(30));
    let last = fixture.backup(&one());
    prune(&fixture);
    assert_eq!(fixture.files(&last.info), one());
    must_be_well(&fixture);
}

#[test]
fn a_pack_a_running_backup_relies_on_is_saved() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    let mut running = fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
    let meta = Meta::plain_file(0, Timestamp(5));
    running.add(&path_of("one"), &meta, &mut one()["one"].as_slice()).unwrap();
    assert_eq!(prune(&fixture).marked, 2);
    let relied = running.finish().unwrap();
    assert_eq!(relied.info.counts.bytes_new, 0);
    fixture.clock.advance(DAY);
    let newest = fixture.backup(&two());
    let all = Retention { all: Span::days(30), ..LITTLE };
    let plan = fixture.open().plan_prune(&all, &Progress::new()).unwrap();
    fixture.open().prune(plan, &Progress::new()).unwrap();
    assert_eq!(fixture.files(&relied.info), one());
    assert_eq!(fixture.files(&newest.info), two());
    must_be_well(&fixture);
}

#[test]
fn a_backup_slower_than_the_grace_is_overtaken_and_says_so() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    let mut running = fixture.open().begin(new_snapshot("files", fixture.clock.now()), Progress::new()).unwrap();
    let meta = Meta::plain_file(0, Timestamp(5));
    running.add(&path_of("one"), &meta, &mut one()["one"].as_slice()).unwrap();
    prune(&fixture);
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    assert_eq!(prune(&fixture).deleted, 2);
    assert!(matches!(running.finish(), Err(BackupError::Overtaken)));
    must_be_well(&fixture);
}

#[test]
fn a_clock_that_jumps_prunes_nothing() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    fixture.clock.advance(DAY);
    fixture.backup(&two());
    let now = fixture.clock.now();
    fixture.clock.jump_to(Timestamp(now.millis() - 3_600_000));
    let behind = fixture.open().plan_prune(&LITTLE, &Progress::new());
    assert!(matches!(behind, Err(BackupError::ClockBehind { .. })));
    fixture.clock.jump_to(now.after(Duration::from_hours(24 * 400)));
    let ahead = fixture.open().plan_prune(&LITTLE, &Progress::new());
    assert!(matches!(ahead, Err(BackupError::ClockAhead { .. })));
}

#[test]
fn a_snapshot_of_the_future_is_left_out_of_account() {
    let fixture = Fixture::new();
    fixture.backup(&one());
    let now = fixture.clock.now();
    fixture.clock.jump_to(now.after(Duration::from_hours(24 * 365)));
    let future = fixture.backup(&one());
    fixture.clock.jump_to(now.after(DAY));
    let newest = fixture.backup(&two());
    let plan = plan(&fixture);
    assert_eq!(plan.future, [future.info.name]);
    assert_eq!(plan.keep, [newest.info.name]);
    assert_eq!(plan.drop.len(), 1);
    assert!(plan.mark.is_empty(), "the future one still needs it");
}

#[test]
fn a_pack_with_little_left_is_written_again_and_then_goes() {
    let fixture = Fixture::new();
    let small = noise(5, 50_000);
    fixture.backup(&files(&[("a-small", small.clone()), ("big", noise(6, 900_000))]));
    fixture.clock.advance(DAY);
    let kept = fixture.backup(&files(&[("a-small", small.clone())]));
    assert_eq!(kept.info.counts.bytes_new, 0);
    let first = plan(&fixture);
    assert_eq!(first.repack.len(), 1);
    let report = fixture.open().prune(first, &Progress::new()).unwrap();
    assert_eq!((report.repacked, report.dropped), (1, 1));
    must_be_well(&fixture);
    fixture.clock.advance(DAY);
    let newest = fixture.backup(&files(&[("a-small", small.clone())]));
    assert_eq!(newest.info.counts.bytes_new, 0, "the new copy is used");
    let report = prune(&fixture);
    assert!(report.bytes_freed > 900_000, "{report:?}");
    assert_eq!(fixture.files(&newest.info)["a-small"], small);
    must_be_well(&fixture);
}
