//! Killed, cut off and out of room at every step: the repository stays valid and older snapshots stay whole.

use super::*;
use crate::testing::Fault;

fn before() -> Files {
    files(&[("a", noise(1, 70_000)), ("b", b"text ".repeat(5000))])
}

fn after() -> Files {
    files(&[("a", noise(1, 70_000)), ("b", b"text ".repeat(5001)), ("c", noise(2, 50_000))])
}

/// A repository with one snapshot, all of it durable.
fn base() -> (Fixture, Finished) {
    let fixture = Fixture::new();
    let first = fixture.backup(&before());
    let durable = fixture.disk.crash(0);
    (fixture.on(durable), first)
}

/// Opens, holds what was finished, is well, and takes the next backup.
fn must_be_valid(fixture: &Fixture, finished: &[&Finished], note: &str) {
    let snapshots = fixture.open().snapshots().unwrap_or_else(|error| panic!("{note}: {error}"));
    for finished in finished {
        assert!(snapshots.contains(&finished.info), "{note}: a finished snapshot is gone");
    }
    for snapshot in &snapshots {
        let content = fixture.files(snapshot);
        assert!(content == before() || content == after(), "{note}: {} is not whole", snapshot.name);
    }
    let report = fixture.open().verify(VerifyLevel::ReadData, &Progress::new()).unwrap();
    assert!(report.is_well(), "{note}: {report:?}");
    fixture.try_open(finished.last().map(|finished| &finished.head)).unwrap();
    let next = fixture.backup(&after());
    assert_eq!(fixture.files(&next.info), after(), "{note}");
}

#[test]
fn a_power_cut_at_any_step_costs_no_finished_snapshot() {
    let (fixture, first) = base();
    let whole = fixture.on(fixture.disk.crash(0));
    let start = whole.disk.operations();
    whole.backup(&after());
    let steps = whole.disk.operations() - start;
    assert!(steps > 10);
    for step in 1..=steps + 1 {
        let fixture = fixture.on(fixture.disk.crash(0));
        fixture.disk.cut_power_at(step);
        let second = fixture.try_backup(&after()).ok();
        fixture.disk.heal();
        let finished: Vec<&Finished> = [Some(&first), second.as_ref()].into_iter().flatten().collect();
        for seed in [step, step + 100] {
            must_be_valid(&fixture.on(fixture.disk.crash(seed)), &finished, &format!("step {step}, outcome {seed}"));
        }
        must_be_valid(&fixture.on(fixture.disk.kill()), &finished, &format!("killed at step {step}"));
    }
}

#[test]
fn any_fault_of_the_disk_is_an_error_or_harmless() {
    let (fixture, first) = base();
    for fault in [Fault::NoSpace, Fault::ShortWrite, Fault::Io, Fault::SyncError] {
        for step in [1, 2, 3, 4, 5, 7, 9, 12, 16, 20, 25, 30] {
            let fixture = fixture.on(fixture.disk.crash(0));
            fixture.disk.fail_at(step, fault);
            let second = fixture.try_backup(&after()).ok();
            fixture.disk.heal();
            let finished: Vec<&Finished> = [Some(&first), second.as_ref()].into_iter().flatten().collect();
            must_be_valid(&fixture.on(fixture.disk.crash(step)), &finished, &format!("{fault:?} at {step}"));
        }
    }
}

#[test]
fn a_full_target_is_named_and_the_repository_stays_valid() {
    let (fixture, first) = base();
    let room = fixture.disk.space(Path::new("/")).unwrap();
    let used = room.total - room.available;
    for more in [0, 10_000, 40_000, 50_000] {
        let fixture = fixture.on(fixture.disk.crash(0));
        fixture.disk.limit_space(Some(used + more));
        let full = fixture.try_backup(&after()).unwrap_err();
        let BackupError::Target(error) = &full else { panic!("{full}") };
        assert_eq!(error.trouble, target::Trouble::Full, "{full}");
        fixture.disk.limit_space(None);
        must_be_valid(&fixture, &[&first], &format!("{more} bytes of room"));
    }
}

#[test]
fn a_repository_half_made_is_made_again() {
    let fixture = Fixture { disk: FaultyDisk::new(), ..Fixture::new() };
    let create = |fixture: &Fixture| {
        Repository::create(fixture.target(), &Unlock::MasterKey(&fixture.key), fixture.clock(), random())
    };
    create(&fixture).unwrap();
    let steps = fixture.disk.operations();
    for step in 1..=steps {
        let fixture = fixture.on(FaultyDisk::new());
        fixture.disk.cut_power_at(step);
        create(&fixture).unwrap_err();
        fixture.disk.heal();
        let fixture = fixture.on(fixture.disk.crash(step));
        match create(&fixture) {
            Ok(_) | Err(BackupError::AlreadyThere { .. }) => {}
            Err(error) => panic!("step {step}: {error}"),
        }
        let finished = fixture.backup(&before());
        assert_eq!(fixture.files(&finished.info), before(), "step {step}");
    }
}

#[test]
fn a_prune_cut_off_at_any_step_costs_no_kept_snapshot() {
    let fixture = Fixture::new();
    let keep_little = Retention { all: crate::base::Span::hours(1), daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let day = std::time::Duration::from_hours(25);
    fixture.backup(&files(&[("old", noise(7, 60_000)), ("b", noise(8, 3000))]));
    fixture.clock.advance(day);
    fixture.backup(&before());
    let plan = fixture.open().plan_prune(&keep_little, &Progress::new()).unwrap();
    fixture.open().prune(plan, &Progress::new()).unwrap();
    fixture.clock.advance(day);
    let kept = fixture.backup(&after());
    let prune = |fixture: &Fixture| {
        let repository = fixture.try_open(None)?;
        let plan = repository.plan_prune(&keep_little, &Progress::new())?;
        assert!(!plan.delete.is_empty() && !plan.drop.is_empty());
        repository.prune(plan, &Progress::new())
    };
    let whole = fixture.on(fixture.disk.crash(0));
    let start = whole.disk.operations();
    prune(&whole).unwrap();
    let steps = whole.disk.operations() - start;
    for step in 1..=steps {
        let fixture = fixture.on(fixture.disk.crash(0));
        fixture.disk.cut_power_at(step);
        prune(&fixture).unwrap_err();
        fixture.disk.heal();
        for seed in [step, step + 100] {
            let fixture = fixture.on(fixture.disk.crash(seed));
            must_be_valid(&fixture, &[&kept], &format!("step {step}, outcome {seed}"));
            let plan = fixture.open().plan_prune(&keep_little, &Progress::new()).unwrap();
            fixture.open().prune(plan, &Progress::new()).unwrap();
            must_be_valid(&fixture, &[&kept], &format!("step {step}, outcome {seed}, pruned again"));
        }
    }
}
