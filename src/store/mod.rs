//! Ordered, transactional storage of sealed records, on which everything durable rests.
//!
//! A [`Store`] is an ordered map of byte keys to byte values in named [`Table`]s, with snapshot reads and serialisable
//! write transactions. A transaction is a short closure:
//! - it may be run again, so it has no side effects, does no I/O, hashing or waiting, and leaves its captures alone;
//! - its `Err` leaves nothing behind;
//! - its `Ok` comes back only after the changes are synced to disk.
//!
//! Values at rest are sealed (encrypted and authenticated together with their table and key); table names and keys are
//! not. A value that comes back is the one that was stored. **An absent row proves less**: a lost branch page of the
//! tree hides rows without an error, so nothing irreplaceable is deleted because a row is not there.
//!
//! Rooms never see the engine: [`Engine`] is the seam for a second one (a distributed database), and `testing` has one
//! in memory. Start reading at [`tx`] (what a closure can do), then `writer.rs` (how a commit happens),
//! `redb_file.rs` (what a failed one means), `seal.rs` (bytes of a row), [`record`] (bytes of a value), `migrate.rs`.

mod backend;
mod block_on;
pub mod dump;
mod engine;
mod error;
mod migrate;
pub(crate) mod overlay;
mod pace;
mod place;
mod prerequisite;
pub mod record;
pub mod recover;
mod redb_engine;
mod redb_file;
mod redb_snapshot;
mod redb_tx;
mod seal;
pub mod tx;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use self::block_on::block_on;
pub use self::engine::{Decision, Engine, Pause, Snapshot, StoreHealth, WriteOp};
pub use self::error::StoreError;
pub use self::migrate::{DataFile, ISSUES, OBJECTS, OBJECTS_REBUILT, STATE};
pub use self::prerequisite::{Fulfilment, Prerequisite, prerequisite};
pub use self::record::{Record, RecordError};
pub use self::redb_engine::{Opening, StoreConfig};
pub use self::tx::{Direction, KEY_MAX, ReadTx, Row, Table, VALUE_MAX, WriteTx, after_prefix};

/// A handle to one store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
    file: &'static str,
}

impl Store {
    /// A store on `engine`, called `file` in messages.
    pub fn new(engine: Arc<dyn Engine>, file: &'static str) -> Self {
        Self { engine, file }
    }

    /// What messages call the store.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The engine, for doubles that wrap it.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// Runs `op` on a snapshot of all tables, on a thread that may block. Keep it short: a snapshot holds back the
    /// reuse of pages, and [scans](ReadTx::scan) come in pages for that reason.
    ///
    /// # Errors
    /// What `op` says, or why there was no snapshot.
    ///
    /// # Cancel safety
    /// Without effects; dropped before its end, `op` may still run.
    pub async fn read<T, E>(&self, op: impl Fn(&dyn ReadTx) -> Result<T, E> + Send + Sync + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.read_blocking(op)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(self.failed("a read closure panicked")),
            // The runtime is stopping.
            Err(_) => Err(StoreError::Closed { file: self.file }.into()),
        }
    }

    /// As [`Store::read`], on this thread. Blocks: for start-up and own threads.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T, E>(&self, op: impl Fn(&dyn ReadTx) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        let answer = Mutex::new(None);
        self.engine.read(&|tx| put(&answer, op(tx)))?;
        take(&answer).unwrap_or_else(|| Err(self.failed("the read closure did not run")))
    }

    /// Runs `op` and commits its changes; `Ok` means they would survive a power cut. `op` sees every transaction
    /// answered before, and its own changes.
    ///
    /// # Errors
    /// What `op` says: then nothing of it stays. Else see [`StoreError`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the transaction may happen or not, as a whole.
    pub async fn write<T, E>(
        &self,
        op: impl Fn(&mut dyn WriteTx) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (op, answer) = erase(op);
        self.engine.write(op).await?;
        take(&answer).unwrap_or_else(|| Err(self.failed("the write closure did not run")))
    }

    /// As [`Store::write`], but no change counts before `first` is fulfilled: for rows that name bytes whose sync is under
    /// way. Keep it short: everybody in the same commit waits.
    ///
    /// # Errors
    /// As [`Store::write`]; when `first` fails, nothing has happened, also to others in the same commit.
    ///
    /// # Cancel safety
    /// As [`Store::write`].
    pub async fn write_after<T, E>(
        &self,
        first: Prerequisite,
        op: impl Fn(&mut dyn WriteTx) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (op, answer) = erase(op);
        self.engine.write_after(first, op).await?;
        take(&answer).unwrap_or_else(|| Err(self.failed("the write closure did not run")))
    }

    /// As [`Store::write`], for start-up and own threads. Blocks.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T, E>(
        &self,
        op: impl Fn(&mut dyn WriteTx) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (op, answer) = erase(op);
        block_on(self.engine.write(op))?;
        take(&answer).unwrap_or_else(|| Err(self.failed("the write closure did not run")))
    }

    /// A view of the last commit that lasts as long as it is wanted: for backups. See [`Snapshot`].
    ///
    /// # Errors
    /// Why there is none.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.engine.snapshot()
    }

    /// Waits for the commit under way, then holds the following ones back while the guard lives, at most
    /// [`Pause::LONGEST`]. With all stores paused, their snapshots are of one moment. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn pause_blocking(&self) -> Result<Pause, StoreError> {
        block_on(self.engine.pause())
    }

    /// Whether the store reads and writes. Cancel safe.
    pub async fn health(&self) -> StoreHealth {
        self.engine.health().await
    }

    /// Commits what was handed in before and closes the file; later calls answer [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the closing goes on by itself.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// As [`Store::close`], for own threads. Blocks.
    pub fn close_blocking(&self) {
        block_on(self.engine.close());
    }

    fn failed<E: From<StoreError>>(&self, reason: &str) -> E {
        StoreError::Engine { file: self.file, reason: reason.to_owned() }.into()
    }
}

/// Where a closure leaves its answer while the engine decides what becomes of its changes.
type Answer<T, E> = Mutex<Option<Result<T, E>>>;

fn erase<T, E>(op: impl Fn(&mut dyn WriteTx) -> Result<T, E> + Send + Sync + 'static) -> (WriteOp, Arc<Answer<T, E>>)
where
    T: Send + 'static,
    E: Send + 'static,
{
    let answer = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&answer);
    let op = Box::new(move |tx: &mut dyn WriteTx| {
        let result = op(tx);
        let decision = if result.is_ok() { Decision::Keep } else { Decision::Discard };
        put(&slot, result);
        decision
    });
    (op, answer)
}

fn put<T, E>(answer: &Answer<T, E>, result: Result<T, E>) {
    *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
}

fn take<T, E>(answer: &Answer<T, E>) -> Option<Result<T, E>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod crash_tests;
