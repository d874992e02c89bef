//! Random histories, cut off anywhere: what comes back is a prefix that holds everything acknowledged.

use std::sync::Arc;

use proptest::prelude::*;

use super::checkpoint::{Block, CheckpointWriter};
use super::format::Marker;
use super::journal::Journal;
use super::tests::{Toy, effect, open, place};
use super::*;
use crate::testing::FaultyDisk;

/// One turn of the loop, or what happens between turns.
#[derive(Clone, Debug)]
enum Step {
    /// A turn with effects on these keys: `(key, op, length)`.
    Turn(Vec<(u8, u8, u8)>),
    /// A sync, as once a second.
    Sync,
    /// A checkpoint begins, if none is under way.
    Begin,
    /// The process is killed and starts again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u8..12, prop_oneof![Just(b'='), Just(b'+'), Just(b'-')], 0u8..40);
    let step = prop_oneof![
        12 => proptest::collection::vec(change, 0..4).prop_map(Step::Turn),
        2 => Just(Step::Sync),
        1 => Just(Step::Begin),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A server with the toy keyspace, driven on one thread; states after each turn are remembered.
struct Run {
    place: Place,
    always: bool,
    journal: Journal,
    toy: Toy,
    /// A checkpoint under way: its file, the cursor, the index of the next block, bytes it makes superfluous.
    checkpoint: Option<(CheckpointWriter, u16, u32, u64)>,
    /// The keyspace after each turn, from the empty one on.
    states: Vec<Toy>,
    /// Turns whose write was acknowledged.
    written: usize,
    /// Turns that were durable at the last successful sync.
    durable: usize,
}

impl Run {
    fn new(place: Place, always: bool) -> Result<Self, PersistError> {
        let (journal, _, toy) = open(&place)?;
        Ok(Self { place, always, states: vec![toy.clone()], journal, toy, checkpoint: None, written: 0, durable: 0 })
    }

    /// Runs a step; `None` once the power is off.
    fn step(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Turn(changes) => self.turn(changes),
            Step::Sync => self.sync(),
            Step::Begin => self.begin(),
            Step::Restart => {
                self.checkpoint = None;
                let (journal, _, toy) = open(&self.place).ok()?;
                assert_eq!(toy, self.toy, "a killed process loses nothing");
                self.journal = journal;
                Some(())
            }
        }
    }

    fn turn(&mut self, changes: &[(u8, u8, u8)]) -> Option<()> {
        let number = self.states.len();
        let effects: Vec<u8> = changes
            .iter()
            .flat_map(|(key, op, length)| effect(*key, *op, &vec![number as u8; usize::from(*length)]))
            .collect();
        self.toy.apply(&effects);
        self.states.push(self.toy.clone());
        let Some((mut writer, cursor, index, before)) = self.checkpoint.take() else {
            return self.append(&effects, None);
        };
        let mut block = Block::new();
        let next = self.toy.walk(cursor, 2, block.values());
        self.append(&effects, Some(Marker { checkpoint: self.journal.end().segment, block: index }))?;
        writer.write(block).ok()?;
        if let Some(next) = next {
            self.checkpoint = Some((writer, next, index + 1, before));
            return Some(());
        }
        self.sync()?;
        writer.finish(0, self.journal.end(), self.journal.durable(), &export::Kept::default()).ok()?;
        self.journal.forget(before);
        Some(())
    }

    fn append(&mut self, effects: &[u8], marker: Option<Marker>) -> Option<()> {
        self.journal.append(effects, marker).ok()?;
        self.written = self.states.len() - 1;
        if self.always { self.sync() } else { Some(()) }
    }

    fn sync(&mut self) -> Option<()> {
        self.journal.sync().ok()?;
        self.durable = self.written;
        Some(())
    }

    fn begin(&mut self) -> Option<()> {
        if self.checkpoint.is_some() {
            return Some(());
        }
        let number = self.journal.rotate().ok()?;
        let Place { disk, folder, key, random, .. } = &self.place;
        let writer = CheckpointWriter::create(Arc::clone(disk), folder, number, key, random.as_ref()).ok()?;
        self.checkpoint = Some((writer, 0, 0, self.journal.older_bytes()));
        Some(())
    }
}

/// Runs `steps` until the power is cut at the `cut`th operation.
fn until_power_cut(disk: &FaultyDisk, steps: &[Step], always: bool, cut: u64) -> Option<Run> {
    // Rotation inside a checkpoint would change the number the toy loop marks with; segments are large here and the
    // rotation of full ones is tested on its own.
    let mut run = Run::new(place(disk), always).ok()?;
    disk.cut_power_at(cut);
    for step in steps {
        if run.step(step).is_none() {
            break;
        }
    }
    Some(run)
}

fn check(run: &Run, disk: &FaultyDisk, seed: u64, crash_again_at: u64) -> Result<(), TestCaseError> {
    let crashed = disk.crash(seed);
    // Power fails again during recovery, once; then it is left in peace.
    let again = place(&crashed);
    crashed.cut_power_at(crash_again_at);
    let _ = open(&again);
    let crashed = crashed.crash(seed.wrapping_add(1));
    let (_, _, toy) = open(&place(&crashed)).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let found = run.states.iter().rposition(|state| *state == toy);
    let acknowledged = run.durable;
    prop_assert!(found.is_some(), "no prefix: {toy:?}");
    prop_assert!(found >= Some(acknowledged), "{found:?} of {acknowledged} durable turns");
    // And it goes on from there.
    let (mut journal, ..) = open(&place(&crashed)).map_err(|error| TestCaseError::fail(error.to_string()))?;
    journal.append(&effect(99, b'=', b"more"), None).map_err(|error| TestCaseError::fail(error.to_string()))?;
    journal.sync().map_err(|error| TestCaseError::fail(error.to_string()))?;
    let (.., more) = open(&place(&crashed.crash(seed))).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(more.0.len(), toy.0.len() + 1);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_power_cut_leaves_a_prefix_with_everything_acknowledged(
        steps in steps(),
        always in any::<bool>(),
        cut in 1u64..120,
        seed in any::<u64>(),
        crash_again_at in 1u64..8,
    ) {
        let disk = FaultyDisk::new();
        if let Some(run) = until_power_cut(&disk, &steps, always, cut) {
            check(&run, &disk, seed, crash_again_at)?;
        }
    }

    #[test]
    fn a_killed_process_loses_nothing_it_acknowledged(steps in steps(), cut in 1u64..200) {
        let disk = FaultyDisk::new();
        if let Some(run) = until_power_cut(&disk, &steps, false, cut) {
            let (_, _, toy) = open(&place(&disk.kill())).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let found = run.states.iter().rposition(|state| *state == toy);
            prop_assert!(found >= Some(run.written), "{:?} of {} turns", found, run.written);
        }
    }
}
