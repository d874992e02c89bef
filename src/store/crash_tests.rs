//! Power cuts, full and failing disks, and damaged files, against a model in memory.
//!
//! The scenario is a row of transactions known in advance, so that whatever a disk is left with can be compared with the
//! states it went through: the last one answered `Ok`, or the one after it if that was under way.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::disk::read_file;
use crate::base::random::below;
use crate::base::{Disk, OpenMode};
use crate::testing::{Fault, FaultyDisk, TestClock, TestRandom, store_on, store_with_clock};

const T: Table = Table::new("test.t");
const U: Table = Table::new("test.u");

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// One transaction: what it puts and deletes.
type Change = Vec<(Table, Vec<u8>, Option<Vec<u8>>)>;

/// `count` transactions of a few rows each over a small set of keys, some values larger than a page.
fn changes(seed: u64, count: usize) -> Vec<Change> {
    let random = TestRandom::new(seed);
    let one = || {
        let table = if below(&random, 3) == 0 { U } else { T };
        let key = format!("key {}", below(&random, 12)).into_bytes();
        let length = if below(&random, 8) == 0 { 9_000 } else { below(&random, 200) };
        let value = vec![below(&random, 256) as u8; length as usize];
        (table, key, (below(&random, 4) > 0).then_some(value))
    };
    (0..count).map(|_| (0..=below(&random, 4)).map(|_| one()).collect()).collect()
}

fn apply(model: &Model, change: &Change) -> Model {
    let mut model = model.clone();
    for (table, key, value) in change {
        match value {
            Some(value) => model.insert((*table, key.clone()), value.clone()),
            None => model.remove(&(*table, key.clone())),
        };
    }
    model
}

fn write(store: &Store, change: &Change) -> Result<(), StoreError> {
    let change = change.clone();
    store.write_blocking(move |tx: &mut dyn WriteTx| {
        for (table, key, value) in &change {
            match value {
                Some(value) => tx.put(*table, key, value)?,
                None => drop(tx.delete(*table, key)?),
            }
        }
        Ok(())
    })
}

fn contents(store: &Store) -> Result<Model, StoreError> {
    store.read_blocking(|tx| {
        let mut model = Model::new();
        for table in [T, U] {
            let rows = tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1_000)?;
            model.extend(rows.into_iter().map(|(key, value)| ((table, key), value)));
        }
        Ok(model)
    })
}

/// What a run knew when it ended.
struct Run {
    /// After the last `Ok`.
    acknowledged: Model,
    /// After the transaction that was answered with an error, if that left it open.
    maybe: Option<Model>,
}

/// Opens the file and runs `changes` on `model` until something fails; closes the file if nothing did.
fn run(disk: &FaultyDisk, model: Model, changes: &[Change], seed: u64) -> Run {
    let mut acknowledged = model;
    let Ok(store) = store_on(disk, &STATE, seed) else { return Run { acknowledged, maybe: None } };
    for change in changes {
        let after = apply(&acknowledged, change);
        match write(&store, change) {
            Ok(()) => acknowledged = after,
            Err(StoreError::Unknown { .. }) => return Run { acknowledged, maybe: Some(after) },
            Err(_) => return Run { acknowledged, maybe: None },
        }
    }
    block_on(store.close());
    Run { acknowledged, maybe: None }
}

impl Run {
    /// Opens what is left on `disk` and takes over what it says; fails if that is none of the allowed states.
    fn check(&self, disk: &FaultyDisk, context: &str) -> Model {
        let store = store_on(disk, &STATE, 99).unwrap_or_else(|error| panic!("{context}: does not open: {error}"));
        let found = contents(&store).unwrap_or_else(|error| panic!("{context}: does not read: {error}"));
        let allowed = found == self.acknowledged || self.maybe.as_ref() == Some(&found);
        assert!(allowed, "{context}: found {:?}, acknowledged {:?}", found.keys(), self.acknowledged.keys());
        found
    }
}

/// A file with some rows in it, cleanly closed.
fn settled() -> (FaultyDisk, Model) {
    let disk = FaultyDisk::new();
    let run = run(&disk, Model::new(), &changes(7, 6), 1);
    (disk, run.acknowledged)
}

/// How many operations `run` takes when nothing fails.
fn length(disk: &FaultyDisk, model: &Model, changes: &[Change]) -> u64 {
    let disk = disk.kill();
    run(&disk, model.clone(), changes, 2);
    disk.operations()
}

#[test]
fn a_power_cut_at_any_step_of_making_the_file_leaves_one_that_opens_or_is_made_anew() {
    let script = changes(1, 1);
    let steps = length(&FaultyDisk::new(), &Model::new(), &script);
    for step in 1..=steps {
        let disk = FaultyDisk::new();
        disk.cut_power_at(step);
        let run = run(&disk, Model::new(), &script, 2);
        for seed in [step, step + 1_000] {
            run.check(&disk.crash(seed), &format!("cut at {step} of {steps}, outcome {seed}"));
        }
    }
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged_and_halves_nothing() {
    let (settled, model) = settled();
    let script = changes(2, 6);
    let steps = length(&settled, &model, &script);
    for step in 1..=steps {
        let disk = settled.kill();
        disk.cut_power_at(step);
        let run = run(&disk, model.clone(), &script, 2);
        for seed in 0..4 {
            run.check(&disk.crash(seed), &format!("cut at {step} of {steps}, outcome {seed}"));
        }
    }
}

#[test]
fn a_power_cut_at_any_step_of_recovering_from_one_loses_nothing_either() {
    let (settled, model) = settled();
    let script = changes(3, 4);
    let steps = length(&settled, &model, &script);
    for step in (1..=steps).step_by(5) {
        let disk = settled.kill();
        disk.cut_power_at(step);
        let run = run(&disk, model.clone(), &script, 2);
        let crashed = disk.crash(step);
        for again in 1..=12 {
            let recovering = crashed.kill();
            recovering.cut_power_at(again);
            drop(store_on(&recovering, &STATE, 3));
            run.check(&recovering.crash(again), &format!("cut at {step} of {steps}, then at {again}"));
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_even_when_the_power_goes_next() {
    let (settled, model) = settled();
    let script = changes(4, 4);
    let steps = length(&settled, &model, &script);
    for step in 1..=steps {
        let disk = settled.kill();
        disk.cut_power_at(step);
        let run = run(&disk, model.clone(), &script, 2);
        let next = disk.kill();
        let found = run.check(&next, &format!("killed at {step} of {steps}"));
        // What the next process showed its clients must stay, too.
        let shown = Run { acknowledged: found, maybe: None };
        shown.check(&next.crash(step), &format!("killed at {step} of {steps}, then the power went"));
    }
}

#[test]
fn a_failed_sync_ends_writing_until_restart_and_nothing_acknowledged_is_lost() {
    let (settled, model) = settled();
    let script = changes(5, 5);
    let steps = length(&settled, &model, &script);
    for step in (1..=steps).step_by(2) {
        let disk = settled.kill();
        disk.fail_at(step, Fault::SyncError);
        let clock: Arc<TestClock> = Arc::default();
        let Ok(store) = store_with_clock(&disk, &STATE, 2, clock) else { continue };
        let mut run = Run { acknowledged: model.clone(), maybe: None };
        for change in &script {
            let after = apply(&run.acknowledged, change);
            match write(&store, change) {
                Ok(()) => run.acknowledged = after,
                Err(StoreError::Unknown { .. }) => {
                    run.maybe = Some(after);
                    break;
                }
                // redb does without some syncs (a shrinking file); this store does not.
                Err(StoreError::ReadOnly { .. }) => break,
                Err(error) => panic!("failed sync at {step}: {error}"),
            }
        }
        if block_on(store.health()) != StoreHealth::Well {
            let before = disk.operations();
            assert!(matches!(write(&store, &script[0]), Err(StoreError::ReadOnly { .. })));
            assert!(matches!(block_on(store.health()), StoreHealth::ReadOnly { .. }));
            let found = contents(&store).unwrap();
            assert!(found == run.acknowledged || Some(&found) == run.maybe.as_ref());
            drop(store);
            assert_eq!(disk.operations(), before, "nothing is written or synced after a failed sync");
        }
        for seed in 0..2 {
            run.check(&disk.crash(seed), &format!("failed sync at {step} of {steps}, outcome {seed}"));
        }
    }
}

/// Writes on a disk that may be full; says whether there was room.
fn write_or_full(store: &Store, acknowledged: &mut Model, change: &Change) -> bool {
    let after = apply(acknowledged, change);
    match write(store, change) {
        Ok(()) => *acknowledged = after,
        Err(StoreError::Full { .. }) => return false,
        // The short write was that of the commit itself.
        Err(StoreError::Unknown { .. }) => {
            let found = contents(store).unwrap();
            assert!(found == *acknowledged || found == after);
            *acknowledged = found;
            return false;
        }
        Err(error) => panic!("{error}"),
    }
    true
}

#[test]
fn a_full_disk_is_answered_as_full_and_writing_goes_on_once_there_is_room() {
    let (settled, model) = settled();
    let script = changes(6, 5);
    let steps = length(&settled, &model, &script);
    for step in 1..=steps {
        let fault = if step % 2 == 0 { Fault::NoSpace } else { Fault::ShortWrite };
        let disk = settled.kill();
        disk.fail_from(step, fault);
        let clock: Arc<TestClock> = Arc::default();
        let Ok(store) = store_with_clock(&disk, &STATE, 2, Arc::clone(&clock) as Arc<_>) else { continue };
        let mut acknowledged = model.clone();
        let mut full = false;
        for change in &script {
            full = full || !write_or_full(&store, &mut acknowledged, change);
        }
        assert_eq!(contents(&store).unwrap(), acknowledged, "{fault:?} from {step}: reading goes on");
        clock.advance(Duration::from_secs(2));
        write_or_full(&store, &mut acknowledged, &script[0]);
        disk.heal();
        clock.advance(Duration::from_secs(2));
        let sure = vec![(T, b"after".to_vec(), Some(b"room".to_vec()))];
        write(&store, &sure).unwrap_or_else(|error| panic!("{fault:?} from {step}, healed: {error}"));
        acknowledged = apply(&acknowledged, &sure);
        assert_eq!(block_on(store.health()), StoreHealth::Well);
        assert_eq!(contents(&store).unwrap(), acknowledged, "{fault:?} from {step}: after room came");
        let run = Run { acknowledged, maybe: None };
        run.check(&disk.crash(step), &format!("{fault:?} from {step} of {steps}, then a power cut"));
    }
}

#[test]
fn an_io_error_at_any_step_loses_nothing_acknowledged_and_halves_nothing() {
    let (settled, model) = settled();
    let script = changes(9, 5);
    let steps = length(&settled, &model, &script);
    for step in 1..=steps {
        let disk = settled.kill();
        disk.fail_at(step, Fault::Io);
        let run = run(&disk, model.clone(), &script, 2);
        run.check(&disk.crash(step), &format!("i/o error at {step} of {steps}"));
    }
}

#[test]
fn lost_and_torn_writes_are_noticed_or_harmless_and_never_a_wrong_value() {
    let (settled, model) = settled();
    let script = changes(8, 5);
    let steps = length(&settled, &model, &script);
    // Every value any key ever had.
    let mut states = vec![model.clone()];
    for change in &script {
        states.push(apply(states.last().unwrap(), change));
    }
    let ever = |row: (&(Table, Vec<u8>), &Vec<u8>)| states.iter().any(|state| state.get(row.0) == Some(row.1));
    for step in 1..=steps {
        let fault = if step % 2 == 0 { Fault::LostWrite } else { Fault::TornWrite };
        let disk = settled.kill();
        disk.fail_at(step, fault);
        run(&disk, model.clone(), &script, 2);
        if let Ok(store) = store_on(&disk.kill(), &STATE, 3)
            && let Ok(found) = contents(&store)
        {
            assert!(found.iter().all(ever), "{fault:?} at {step} of {steps}");
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_an_error_or_harmless_and_never_a_wrong_value() {
    let (settled, model) = settled();
    let path = Path::new("/").join(STATE.name());
    let bytes = read_file(&settled, &path, 1 << 30).unwrap().unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut noticed = 0;
    for round in 0..300 {
        let at = used[round * used.len() / 300];
        let disk = settled.kill();
        disk.flip(&path, at as u64, 0x10).unwrap();
        match store_on(&disk, &STATE, 3).and_then(|store| contents(&store)) {
            Ok(found) => assert!(found.iter().all(|(key, value)| model.get(key) == Some(value)), "byte {at}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 0, "most of the file is free pages, but not all");
}

#[test]
fn a_row_moved_to_another_key_or_table_does_not_open() {
    let disk = FaultyDisk::new();
    let store = store_on(&disk, &STATE, 1).unwrap();
    write(&store, &vec![(T, b"from".to_vec(), Some(b"secret".to_vec()))]).unwrap();
    block_on(store.close());
    // With redb itself, as an attacker with the file would.
    let place = place::Place {
        disk: Arc::new(disk.clone()),
        path: Path::new("/").join(STATE.name()),
        name: STATE.name(),
        cache_bytes: 1 << 20,
        trouble: Arc::default(),
        prerequisites: Arc::default(),
    };
    {
        let database = place.writable().unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(redb_tx::definition(T.name())).unwrap();
            let row = table.remove(b"from".as_slice()).unwrap().unwrap().value().to_vec();
            table.insert(b"to".as_slice(), row.as_slice()).unwrap();
            let mut other = transaction.open_table(redb_tx::definition(U.name())).unwrap();
            other.insert(b"from".as_slice(), row.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let store = store_on(&disk, &STATE, 2).unwrap();
    for (table, key) in [(T, b"to".as_slice()), (U, b"from")] {
        let read = store.read_blocking::<_, StoreError>(|tx| tx.get(table, key));
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn values_are_not_readable_in_the_file() {
    let disk = FaultyDisk::new();
    let store = store_on(&disk, &STATE, 1).unwrap();
    write(&store, &vec![(T, b"name".to_vec(), Some(b"a secret value".to_vec()))]).unwrap();
    block_on(store.close());
    let bytes = read_file(&disk, &Path::new("/").join(STATE.name()), 1 << 30).unwrap().unwrap();
    assert!(!bytes.windows(14).any(|window| window == b"a secret value"));
}

#[test]
fn an_emptied_file_is_refused_and_not_taken_for_a_new_one() {
    let (disk, _) = settled();
    let path = Path::new("/").join(STATE.name());
    disk.open(&path, OpenMode::ReadWrite).unwrap().set_len(0).unwrap();
    let error = store_on(&disk, &STATE, 2).unwrap_err();
    assert!(error.to_string().contains("is empty"), "{error}");
}

#[test]
fn a_file_of_another_kind_or_a_newer_program_is_refused_untouched() {
    let (disk, _) = settled();
    disk.rename(Path::new("/state.redb"), Path::new("/objects.redb")).unwrap();
    let before = disk.operations();
    let error = store_on(&disk, &OBJECTS, 2).unwrap_err();
    assert!(error.to_string().contains("mainstay state"), "{error}");
    assert_eq!(disk.operations(), before);
    disk.rename(Path::new("/objects.redb"), Path::new("/state.redb")).unwrap();
    let store = store_on(&disk, &STATE, 3).unwrap();
    migrate::pretend_newer(&store, 77);
    block_on(store.close());
    let before = disk.operations();
    let error = store_on(&disk, &STATE, 4).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 77, known: 1, .. }), "{error}");
    assert_eq!(disk.operations(), before);
}

#[test]
fn waiting_writers_share_a_commit() {
    let disk = FaultyDisk::new();
    let store = store_on(&disk, &STATE, 1).unwrap();
    let (begun, gate) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let (first_begun, first_gate) = (Arc::clone(&begun), Arc::clone(&gate));
    std::thread::scope(|scope| {
        let store = &store;
        // Holds the writer inside its first transaction until the others have queued up behind it.
        scope.spawn(move || {
            store.write_blocking::<_, StoreError>(move |tx| {
                first_begun.wait();
                first_gate.wait();
                tx.put(T, b"first", b"")
            })
        });
        begun.wait();
        let before = disk.syncs();
        let mut writes: Vec<_> =
            (0..50_u8).map(|n| Box::pin(store.write::<_, StoreError>(move |tx| tx.put(T, &[n], b"")))).collect();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for write in &mut writes {
            assert!(write.as_mut().poll(&mut context).is_pending());
        }
        gate.wait();
        for write in writes {
            block_on(write).unwrap();
        }
        assert_eq!(disk.syncs() - before, 2, "one commit is two syncs");
    });
}

/// A row handed in with a prerequisite, as far as it goes without: all it wrote is synced.
fn up_to_the_prerequisite<'a>(
    disk: &FaultyDisk,
    store: &'a Store,
    first: Prerequisite,
) -> std::pin::Pin<Box<impl Future<Output = Result<(), StoreError>> + use<'a>>> {
    let before = disk.syncs();
    let mut waiting =
        Box::pin(store.write_after::<_, StoreError>(first, |tx| tx.put(T, b"names bytes elsewhere", b"")));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    while disk.syncs() == before {
        std::thread::yield_now();
    }
    waiting
}

#[test]
fn a_commit_counts_only_once_what_it_waits_for_is_there() {
    let (disk, _) = settled();
    let store = store_on(&disk, &STATE, 2).unwrap();
    let before = contents(&store).unwrap();
    let (fulfilment, first) = prerequisite();
    let waiting = up_to_the_prerequisite(&disk, &store, first);
    for seed in 0..12 {
        let left = store_on(&disk.crash(seed), &STATE, 3).unwrap();
        assert_eq!(contents(&left).unwrap(), before, "{seed}");
    }
    assert_eq!(contents(&store).unwrap(), before);
    fulfilment.done();
    block_on(waiting).unwrap();
    let left = store_on(&disk.crash(1), &STATE, 3).unwrap();
    assert_eq!(contents(&left).unwrap().len(), before.len() + 1);
}

#[test]
fn a_commit_whose_prerequisite_fails_has_not_happened_for_anybody_in_it_and_the_next_one_does() {
    let (disk, _) = settled();
    let store = store_on(&disk, &STATE, 2).unwrap();
    let before = contents(&store).unwrap();
    let (fulfilment, first) = prerequisite();
    let waiting = up_to_the_prerequisite(&disk, &store, first);
    drop(fulfilment);
    assert!(matches!(block_on(waiting), Err(StoreError::Engine { .. })));
    assert_eq!(contents(&store).unwrap(), before);
    assert_eq!(block_on(store.health()), StoreHealth::Well);
    write(&store, &vec![(T, b"later".to_vec(), Some(Vec::new()))]).unwrap();
    for seed in 0..4 {
        let left = store_on(&disk.crash(seed), &STATE, 3).unwrap();
        assert_eq!(contents(&left).unwrap().len(), before.len() + 1, "{seed}");
    }
}

#[test]
fn a_transaction_that_changes_nothing_is_answered_by_its_prerequisite() {
    let disk = FaultyDisk::new();
    let store = store_on(&disk, &STATE, 1).unwrap();
    let nothing = |_: &mut dyn WriteTx| Ok::<_, StoreError>(());
    let (fulfilment, first) = prerequisite();
    fulfilment.done();
    block_on(store.write_after(first, nothing)).unwrap();
    let (fulfilment, first) = prerequisite();
    drop(fulfilment);
    assert!(block_on(store.write_after(first, nothing)).is_err());
    // One that fails by itself needs no prerequisite.
    let (_kept, first) = prerequisite();
    let closed = StoreError::Closed { file: "x" };
    let refused = block_on(store.write_after::<(), StoreError>(first, move |_| Err(closed.clone())));
    assert!(matches!(refused, Err(StoreError::Closed { .. })));
}

#[test]
fn a_panicking_closure_leaves_nothing_and_harms_nobody_else() {
    let disk = FaultyDisk::new();
    let store = store_on(&disk, &STATE, 1).unwrap();
    let panics = |tx: &mut dyn WriteTx| -> Result<(), StoreError> {
        tx.put(T, b"half", b"")?;
        panic!("on purpose")
    };
    assert!(store.write_blocking(panics).unwrap_err().to_string().contains("panicked"));
    write(&store, &vec![(T, b"whole".to_vec(), Some(Vec::new()))]).unwrap();
    assert_eq!(contents(&store).unwrap().len(), 1);
}
