//! Which data files there are, and how an older one is brought up to today's shape.
//!
//! The table `store.format` holds, sealed like all others:
//!
//! ```text
//! key      value
//! version  number of the last step that ran, 4 bytes big-endian; absent in a file no step has run on
//! format   what the file holds, written by its first step
//! ```
//!
//! The steps are in `migrations/`. Before anything is written to a file its version is looked at: a file from a newer
//! Mainstay is refused as it is.

use super::{ReadTx, Store, StoreError, Table, WriteTx};

#[path = "../../migrations/mod.rs"]
mod steps;

/// What the store knows about the file itself.
const FORMAT: Table = Table::new("store.format");

const VERSION: &[u8] = b"version";

/// One change of a file's tables, keys or indexes.
struct Step {
    /// 1 for a file's first, then rising by one.
    number: u32,
    /// The change. It may run again after a crash, on the file as it was before.
    run: fn(&mut dyn WriteTx) -> Result<(), StoreError>,
}

/// A data file: its name and its past.
#[derive(Debug)]
pub struct DataFile {
    /// The name in the data folder.
    pub(super) name: &'static str,
    /// The name of its writer thread (the kernel shows 15 bytes).
    pub(super) thread: &'static str,
    /// What the first step says the file holds.
    format: &'static str,
    steps: &'static [Step],
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Step({})", self.number)
    }
}

impl DataFile {
    /// The name in the data folder, for messages and backups.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn newest(&self) -> u32 {
        self.steps.last().map_or(0, |step| step.number)
    }
}

/// Accounts, certificates, jobs.
pub const STATE: DataFile =
    DataFile { name: "state.redb", thread: "store-state", format: "mainstay state", steps: steps::STATE };

/// The index of the object storage.
pub const OBJECTS: DataFile =
    DataFile { name: "objects.redb", thread: "store-objects", format: "mainstay objects", steps: steps::OBJECTS };

/// The same file while it is made anew beside the old one.
pub const OBJECTS_REBUILT: DataFile = DataFile {
    name: "objects.redb.rebuilt",
    thread: "store-objects",
    format: "mainstay objects",
    steps: steps::OBJECTS,
};

/// Captured errors, their issues, and the jobs that digest them.
pub const ISSUES: DataFile =
    DataFile { name: "issues.redb", thread: "store-issues", format: "mainstay issues", steps: steps::ISSUES };

/// Refuses a file from a newer Mainstay, and one that holds something else.
pub(super) fn check(tx: &dyn ReadTx, file: &DataFile) -> Result<(), StoreError> {
    if let Some(format) = tx.get(FORMAT, b"format")?
        && format != file.format.as_bytes()
    {
        let reason = format!("it holds \"{}\", not \"{}\"", String::from_utf8_lossy(&format), file.format);
        return Err(StoreError::Engine { file: file.name, reason });
    }
    let found = version(tx)?;
    if found > file.newest() {
        return Err(StoreError::Newer { file: file.name, found, known: file.newest() });
    }
    Ok(())
}

/// Runs the steps that `store` has not seen, each in its own transaction. Blocks.
pub(super) fn run(store: &Store, file: &DataFile) -> Result<(), StoreError> {
    for step in file.steps {
        let (number, change) = (step.number, step.run);
        let ran = store.write_blocking(move |tx: &mut dyn WriteTx| {
            // Read inside the transaction: a step never runs twice, whoever else is at it.
            if version(tx)? >= number {
                return Ok::<bool, StoreError>(false);
            }
            change(tx)?;
            tx.put(FORMAT, VERSION, &number.to_be_bytes())?;
            Ok(true)
        })?;
        if ran {
            tracing::info!(file = file.name, version = number, "the data file was brought up to a new version");
        }
    }
    Ok(())
}

/// The number of the last step that ran on the rows.
pub(super) fn version(tx: &dyn ReadTx) -> Result<u32, StoreError> {
    let Some(bytes) = tx.get(FORMAT, VERSION)? else { return Ok(0) };
    let damaged = |_: std::array::TryFromSliceError| StoreError::Corrupt {
        table: FORMAT.name(),
        reason: "the version is not 4 bytes long".to_owned(),
    };
    bytes.as_slice().try_into().map(u32::from_be_bytes).map_err(damaged)
}

/// Writes what the file says of itself, where a damaged backup has lost it.
pub(super) fn put_back(store: &Store, file: &DataFile, version: u32) -> Result<(), StoreError> {
    let format = file.format.as_bytes();
    store.write_blocking(move |tx: &mut dyn WriteTx| {
        tx.put(FORMAT, b"format", format)?;
        tx.put(FORMAT, VERSION, &version.to_be_bytes())
    })
}

/// Whether the file says which version it is of.
pub(super) fn is_told(tx: &dyn ReadTx) -> Result<bool, StoreError> {
    Ok(tx.get(FORMAT, b"format")?.is_some() && tx.get(FORMAT, VERSION)?.is_some())
}

/// Leaves a version in the file as a newer Mainstay would.
#[cfg(test)]
pub(super) fn pretend_newer(store: &Store, version: u32) {
    store.write_blocking::<_, StoreError>(move |tx| tx.put(FORMAT, VERSION, &version.to_be_bytes())).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory_store;

    const T: Table = Table::new("test.t");

    /// Version 1 writes a row, version 2 doubles it.
    const GROWN: DataFile = DataFile {
        name: "test.redb",
        thread: "test",
        format: "test",
        steps: &[
            Step { number: 1, run: |tx| tx.put(T, b"k", b"x") },
            Step {
                number: 2,
                run: |tx| {
                    let value = tx.get(T, b"k")?.unwrap_or_default();
                    tx.put(T, b"k", &[value.clone(), value].concat())
                },
            },
        ],
    };

    const YOUNG: DataFile =
        DataFile { name: "test.redb", thread: "test", format: "test", steps: &[Step { number: 1, run: |_| Ok(()) }] };

    fn get(store: &Store, table: Table, key: &'static [u8]) -> Option<Vec<u8>> {
        store.read_blocking::<_, StoreError>(|tx| tx.get(table, key)).unwrap()
    }

    #[test]
    fn each_step_runs_once_in_order() {
        let store = memory_store();
        run(&store, &YOUNG).unwrap();
        store.write_blocking::<_, StoreError>(|tx| tx.put(T, b"k", b"x")).unwrap();
        run(&store, &GROWN).unwrap();
        run(&store, &GROWN).unwrap();
        assert_eq!(get(&store, T, b"k").unwrap(), b"xx");
        assert_eq!(get(&store, FORMAT, VERSION).unwrap(), 2u32.to_be_bytes());
    }

    #[test]
    fn a_file_from_a_newer_program_is_refused_with_advice() {
        let store = memory_store();
        run(&store, &GROWN).unwrap();
        let error = store.read_blocking(|tx| check(tx, &YOUNG)).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }));
        assert!(error.to_string().contains("start the newer Mainstay again"));
    }

    #[test]
    fn a_failing_step_leaves_the_file_as_it_was() {
        const FAILING: DataFile = DataFile {
            name: "test.redb",
            thread: "test",
            format: "test",
            steps: &[Step {
                number: 1,
                run: |tx| {
                    tx.put(T, b"half", b"done")?;
                    Err(StoreError::Closed { file: "test" })
                },
            }],
        };
        let store = memory_store();
        assert!(run(&store, &FAILING).is_err());
        assert_eq!(get(&store, T, b"half"), None);
        assert_eq!(get(&store, FORMAT, VERSION), None);
    }

    #[test]
    fn the_released_steps_are_numbered_without_gaps_and_record_their_format() {
        for (file, format) in [(&STATE, "mainstay state"), (&OBJECTS, "mainstay objects"), (&ISSUES, "mainstay issues")]
        {
            let numbers: Vec<u32> = file.steps.iter().map(|step| step.number).collect();
            assert_eq!(numbers, (1..=file.newest()).collect::<Vec<_>>());
            let store = memory_store();
            run(&store, file).unwrap();
            assert_eq!(get(&store, FORMAT, b"format").unwrap(), format.as_bytes());
        }
    }
}
