//! An open redb file: reads, commits, and what a failed commit means.
//!
//! redb answers every call after an I/O error with an error, so the file is opened again; whether it may be written
//! again depends on what failed (see `backend.rs`):
//! - **No room.** The number of the last commit in the reopened file tells whether it is this one or the one before, so
//!   the callers get a definite answer. Writes are then answered `Full` at once for [`FULL_PAUSE`], and after it the
//!   next one is tried. If there is no room even for opening, the file is read through scratch meanwhile.
//! - **A failed sync, or a write failed otherwise.** The callers get `Unknown`, and the file is only read, through
//!   scratch, until a restart. Nothing is synced again to see whether it works now.
//! - **A failed read.** Opened again; definite answer.
//!
//! A damaged page opens nothing again (the repair could refuse the whole file for it): what needs it fails, the rest
//! goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::backend::Failure;
use super::place::{FILE_TABLE, Place, begin_write, count_commit, last_commit, read_salts, store_salt};
use super::redb_tx::{Batch, Common, RedbFailure, Snapshot, guarded};
use super::seal::{RowKeys, SALT, Sealer};
use super::{Prerequisite, ReadTx, StoreError, StoreHealth, Table};
use crate::base::{Clock, Random, random};
use crate::crypto::Key;

/// How long a full disk is left alone before the next write is tried.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// An open file with the keys to its rows.
#[derive(Debug)]
pub(super) struct RedbFile {
    place: Place,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    /// Held for reading by transactions, for writing by whoever opens the file again: two open databases on one file
    /// would write over each other. `None` once closed.
    current: RwLock<Option<Opened>>,
    /// Apart from the lock above, so that asking never waits.
    health: Mutex<StoreHealth>,
    /// Tables that snapshots have found.
    tables: Mutex<Vec<Table>>,
}

/// One opening of the file.
#[derive(Debug)]
struct Opened {
    /// `None` when the file could not even be read.
    database: Option<Database>,
    /// Whether `database` writes to the file, not to scratch.
    writable: bool,
    /// Counts the openings, to tell whether someone else has opened the file again already.
    count: u64,
    /// Why the file was opened again.
    because: Option<Failure>,
    /// When, on the monotonic clock.
    at: Duration,
}

/// What became of a batch that did not fail.
pub(super) enum Committed {
    /// There was nothing to commit.
    Nothing,
    /// Its changes are durable; the commit took this long.
    Durable(Duration),
}

impl RedbFile {
    /// Opens the file at `place`, making it when it is not there, and begins a new epoch in it. Before anything is
    /// written, `check` looks at it. Blocks.
    pub(super) fn open(
        place: Place,
        file_key: Key,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        check: impl Fn(&dyn ReadTx) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        place.make_if_absent()?;
        {
            let scratch = place.scratch().map_err(|failure| place.explain(failure))?;
            look(&place, &file_key, &scratch, check)?;
        }
        let database = place.writable().map_err(|failure| place.explain(failure))?;
        let salts = guarded(|| read_salts(&database)).map_err(|failure| place.explain(failure))?;
        let epoch = salts.keys().max().copied().unwrap_or(0).checked_add(1).ok_or_else(|| StoreError::Engine {
            file: place.name,
            reason: "it was opened 2^32 times; export its data into a new file".to_owned(),
        })?;
        let salt = random::bytes::<SALT>(random);
        guarded(|| store_salt(&database, epoch, &salt)).map_err(|failure| place.explain(failure))?;
        let sealer = Sealer::new(file_key, salts, epoch, salt);
        let opened =
            Opened { database: Some(database), writable: true, count: 0, because: None, at: clock.monotonic() };
        Ok(Self {
            place,
            sealer,
            clock,
            current: RwLock::new(Some(opened)),
            health: Mutex::new(StoreHealth::Well),
            tables: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.place.name
    }

    /// The monotonic clock.
    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_health(&self, now: StoreHealth) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *health != now {
            tracing::warn!(file = self.place.name, before = ?*health, ?now, "the store's health changed");
            *health = now;
        }
    }

    /// Closes the file, after waiting for the transactions under way.
    pub(super) fn close(&self) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        drop_quietly(current.take());
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = StoreHealth::Closed;
    }

    /// Runs `op` on a snapshot; when the file fails meanwhile, opens it again and runs `op` once more.
    pub(super) fn read(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), StoreError> {
        let Err((_, count)) = self.read_once(op) else { return Ok(()) };
        self.open_again(count, Failure::Read("a read failed".to_owned()));
        self.read_once(op).map_err(|(error, _)| error)
    }

    /// An error comes with the count of the opening it happened on.
    fn read_once(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), (StoreError, u64)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let count = current.as_ref().map_or(0, |opened| opened.count);
        let Some(database) = current.as_ref().and_then(|opened| opened.database.as_ref()) else {
            return Err((self.refusal(), count));
        };
        let transaction = guarded(|| database.begin_read())
            .map_err(|failure| (failure.into_error(FILE_TABLE, self.place.name), count))?;
        let snapshot = Snapshot::new(transaction, Common::new(&self.sealer.keys, self.place.name));
        op(&snapshot);
        snapshot.failure().map_or(Ok(()), |error| Err((error, count)))
    }

    /// Begins a read transaction that outlives this call, with the count of the opening it is on.
    pub(super) fn begin_read(&self) -> Result<(ReadTransaction, u64), StoreError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some((database, opened)) = current.as_ref().and_then(|o| o.database.as_ref().map(|d| (d, o))) else {
            return Err(self.refusal());
        };
        let transaction =
            guarded(|| database.begin_read()).map_err(|failure| failure.into_error(FILE_TABLE, self.place.name))?;
        Ok((transaction, opened.count))
    }

    /// Runs `look` while the file stays as it was opened for the `count`th time. Later openings may use the pages of
    /// an older view for something else.
    pub(super) fn while_open<T>(
        &self,
        count: u64,
        look: impl FnOnce(Common<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(opened) if opened.count == count => look(Common::new(&self.sealer.keys, self.place.name)),
            Some(_) => Err(StoreError::Engine {
                file: self.place.name,
                reason: "the file was opened again, which ends every view of it".to_owned(),
            }),
            None => Err(StoreError::Closed { file: self.place.name }),
        }
    }

    /// `name` as the name of a table. Each is kept for the life of the process: there are a few dozen.
    pub(super) fn table_called(&self, name: &str) -> Table {
        let mut names = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.iter().find(|table| table.name() == name).copied();
        known.unwrap_or_else(|| {
            let table = Table::new(Box::leak(name.to_owned().into_boxed_str()));
            names.push(table);
            table
        })
    }

    /// Gives `fill` a batch to write to and commits what it wrote, if anything, durably, and not before the prerequisites
    /// that `fill` gives back. After an error nothing of the batch is there, unless it is [`StoreError::Unknown`].
    pub(super) fn commit(
        &self,
        fill: impl FnOnce(&Batch<'_, '_>) -> Vec<Prerequisite>,
    ) -> Result<Committed, StoreError> {
        self.admit()?;
        let (count, failed) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            let Some((database, opened)) = current.as_ref().and_then(|o| o.database.as_ref().map(|d| (d, o))) else {
                return Err(self.refusal());
            };
            match self.commit_on(database, fill) {
                Ok(committed) => {
                    if matches!(committed, Committed::Durable(_)) {
                        self.set_health(StoreHealth::Well);
                    }
                    return Ok(committed);
                }
                Err(failed) => (opened.count, failed),
            }
        };
        if !matches!(failed.error, StoreError::Corrupt { .. }) {
            self.open_again(count, Failure::Read(failed.error.to_string()));
        }
        self.settle(&failed)
    }

    /// Lets a writer in, or says why not. After a full disk's pause it tries to open the file for writing again.
    fn admit(&self) -> Result<(), StoreError> {
        match self.health() {
            StoreHealth::Well => return Ok(()),
            StoreHealth::ReadOnly { .. } | StoreHealth::Closed => return Err(self.refusal()),
            StoreHealth::Full => {}
        }
        let seen = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            let Some(opened) = current.as_ref() else { return Err(self.refusal()) };
            if self.clock.monotonic().saturating_sub(opened.at) < FULL_PAUSE {
                return Err(self.refusal());
            }
            if opened.writable {
                return Ok(());
            }
            opened.count
        };
        self.open_again(seen, Failure::Full);
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|opened| opened.writable) { Ok(()) } else { Err(self.refusal()) }
    }

    fn commit_on(
        &self,
        database: &Database,
        fill: impl FnOnce(&Batch<'_, '_>) -> Vec<Prerequisite>,
    ) -> Result<Committed, Failed> {
        let early =
            |failure: RedbFailure| Failed { number: None, error: failure.into_error(FILE_TABLE, self.place.name) };
        let transaction = guarded(|| begin_write(database)).map_err(early)?;
        let batch = Batch::new(&transaction, &self.sealer, self.place.name);
        let first = fill(&batch);
        let (failure, changed) = (batch.failure(), batch.changed());
        drop_quietly(batch);
        let counted = match failure {
            Some(error) => Err(Failed { number: None, error }),
            None if changed => guarded(|| count_commit(&transaction)).map(Some).map_err(early),
            None => Ok(None),
        };
        let number = match counted {
            Ok(Some(number)) => number,
            Ok(None) => {
                drop_quietly(transaction);
                return Ok(Committed::Nothing);
            }
            Err(failed) => {
                drop_quietly(transaction);
                return Err(failed);
            }
        };
        let started = self.clock.monotonic();
        self.place.prerequisites.set(first);
        let committed = guarded(|| transaction.commit());
        let passed = self.place.prerequisites.take().is_empty();
        match committed {
            Ok(()) if !passed => {
                let reason = "redb has committed without the first of its two syncs".to_owned();
                Err(Failed { number: None, error: StoreError::Engine { file: self.place.name, reason } })
            }
            Ok(()) => Ok(Committed::Durable(self.clock.monotonic().saturating_sub(started))),
            Err(failure) => Err(Failed { number: Some(number), ..early(failure) }),
        }
    }

    /// What the callers of a failed batch are told, now that the file was opened again.
    fn settle(&self, failed: &Failed) -> Result<Committed, StoreError> {
        let file = self.place.name;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let because = current.as_ref().and_then(|opened| opened.because.clone());
        let nothing = match (&because, &failed.error) {
            (_, StoreError::Corrupt { .. }) => failed.error.clone(),
            (Some(Failure::Full), _) => StoreError::Full { file },
            (Some(Failure::Broken(reason)), _) => StoreError::ReadOnly { file, reason: reason.clone() },
            _ => failed.error.clone(),
        };
        let Some(number) = failed.number else { return Err(nothing) };
        let opened = current.as_ref().filter(|_| !matches!(because, Some(Failure::Broken(_))));
        let there = opened.and_then(|opened| {
            let database = opened.database.as_ref()?;
            Some((guarded(|| last_commit(database)).ok()?, opened.writable))
        });
        match there {
            Some((there, _)) if there < number => Err(nothing),
            // Opened for writing means synced: see `Place::writable`.
            Some((_, true)) => Ok(Committed::Durable(Duration::ZERO)),
            _ => Err(StoreError::Unknown { file, reason: failed.error.to_string() }),
        }
    }

    /// Opens the file again, unless that has happened since the opening `seen`.
    fn open_again(&self, seen: u64, default: Failure) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let Some(opened) = current.as_mut().filter(|opened| opened.count == seen) else { return };
        drop_quietly(opened.database.take());
        opened.count += 1;
        opened.at = self.clock.monotonic();
        let mut because = self.place.trouble.take().unwrap_or(default);
        let mut database = None;
        if !matches!(because, Failure::Broken(_)) {
            match self.place.writable() {
                Ok(writable) => database = Some(writable),
                Err(failure) => {
                    let worse = || Failure::Broken(format!("opening the file again failed: {failure:?}"));
                    because = match self.place.trouble.take() {
                        Some(Failure::Read(_)) | None => worse(),
                        Some(failure) => failure,
                    };
                }
            }
        }
        opened.writable = database.is_some();
        opened.database = database.or_else(|| self.place.scratch().ok());
        self.set_health(match &because {
            Failure::Broken(reason) => StoreHealth::ReadOnly { reason: reason.clone() },
            Failure::Full => StoreHealth::Full,
            Failure::Read(_) => StoreHealth::Well,
        });
        opened.because = Some(because);
    }

    /// Why nothing is read or written now.
    fn refusal(&self) -> StoreError {
        let file = self.place.name;
        match self.health() {
            StoreHealth::Full => StoreError::Full { file },
            StoreHealth::ReadOnly { reason } => StoreError::ReadOnly { file, reason },
            StoreHealth::Closed => StoreError::Closed { file },
            StoreHealth::Well => StoreError::Engine { file, reason: "the file is being opened again".to_owned() },
        }
    }
}

/// A batch that failed.
struct Failed {
    /// Its number, if it got as far as a commit that may have happened.
    number: Option<u64>,
    error: StoreError,
}

/// Lets `check` see the file through `scratch`.
fn look(
    place: &Place,
    file_key: &Key,
    scratch: &Database,
    check: impl Fn(&dyn ReadTx) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let salts = guarded(|| read_salts(scratch)).map_err(|failure| place.explain(failure))?;
    let keys = RowKeys::new(file_key.clone(), salts);
    let transaction = guarded(|| scratch.begin_read()).map_err(|failure| place.explain(failure))?;
    check(&Snapshot::new(transaction, Common::new(&keys, place.name)))
}

/// Drops what belongs to redb; a panic in there, on a damaged file, changes nothing any more.
fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}
