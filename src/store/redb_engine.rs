//! The engine that keeps a store in one redb file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::migrate::{self, DataFile};
use super::place::Place;
use super::redb_file::RedbFile;
use super::redb_snapshot::RedbSnapshot;
use super::writer::{self, QUEUE, Request, Standstill, Waiting, WriterMetrics};
use super::{Engine, Pause, Prerequisite, ReadTx, Snapshot, Store, StoreError, StoreHealth, WriteOp};
use crate::base::supervise::{Priority, Role};
use crate::base::{ByteSize, Clock, Disk, Random, Supervisor};
use crate::crypto::Key;
use crate::settings;
use crate::telemetry::Metrics;

settings! {
    /// Data files of accounts, certificates and the object index.
    pub struct StoreConfig {
        /// Memory each data file may use for its most used pages. Small servers do well with the default; more helps when
        /// listing millions of objects.
        pub cache: ByteSize = ByteSize::mib(8),
    }
}

/// What a data file needs of the world around it.
pub struct Opening<'a> {
    /// The data folder; it is there already.
    pub folder: &'a Path,
    /// The file's key, always the same for the same file.
    pub key: Key,
    /// The room's settings.
    pub config: &'a StoreConfig,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the salt of the file's new epoch.
    pub random: &'a dyn Random,
    /// Starts the writer thread.
    pub supervisor: &'a Supervisor,
    /// Counts commits.
    pub metrics: &'a Metrics,
}

impl std::fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens `file`, making it when it is not there, starts its writer thread and runs the migrations it has not seen.
    /// Blocks: for start-up. One process at a time may have a file open; the data folder's lock sees to that.
    ///
    /// # Errors
    /// [`StoreError::Newer`]: a newer Mainstay wrote the file, which was left as it is. [`StoreError::Corrupt`]: the
    /// file is damaged, or `key` is not its key. Else what the disk says.
    pub fn open(file: &'static DataFile, opening: Opening<'_>) -> Result<Self, StoreError> {
        let store = Self::open_as_it_is(file, opening)?;
        migrate::run(&store, file)?;
        Ok(store)
    }

    /// As [`Store::open`], but runs no migration: for a restore, whose rows say themselves which version they are of.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_as_it_is(file: &'static DataFile, opening: Opening<'_>) -> Result<Self, StoreError> {
        let Opening { folder, key, config, disk, clock, random, supervisor, metrics } = opening;
        let place = Place {
            disk,
            path: folder.join(file.name),
            name: file.name,
            cache_bytes: config.cache.as_usize(),
            trouble: Arc::default(),
            prerequisites: Arc::default(),
        };
        // redb may panic on a damaged file, also while it drops one that it could not open.
        let opening = AssertUnwindSafe(|| RedbFile::open(place, key, clock, random, |tx| migrate::check(tx, file)));
        let opened = catch_unwind(opening).map_err(|_panic| StoreError::Engine {
            file: file.name,
            reason: "it is damaged: redb panicked while opening it; restore a backup".to_owned(),
        })?;
        let opened = Arc::new(opened?);
        let (sender, queue) = mpsc::channel(QUEUE);
        let (writers_file, counts) = (Arc::clone(&opened), WriterMetrics::new(metrics, file.name));
        supervisor
            .thread(file.thread, Role::Critical, Priority::Normal, move || writer::run(&writers_file, queue, &counts))
            .map_err(|error| StoreError::Engine {
                file: file.name,
                reason: format!("its writer thread does not start: {error}"),
            })?;
        let engine = RedbEngine { file: opened, writer: Mutex::new(Some(sender)) };
        Ok(Self::new(Arc::new(engine), file.name))
    }
}

/// A file and its writer.
#[derive(Debug)]
struct RedbEngine {
    file: Arc<RedbFile>,
    /// `None` once closed.
    writer: Mutex<Option<mpsc::Sender<Request>>>,
}

impl RedbEngine {
    fn writer(&self) -> Result<mpsc::Sender<Request>, StoreError> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| self.closed())
    }

    async fn hand_in(&self, first: Option<Prerequisite>, op: WriteOp) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.writer()?.send(Request::Write(Waiting { op, first, done })).await.map_err(|_closed| self.closed())?;
        answer.await.map_err(|_dropped| self.lost())?
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { file: self.file.name() }
    }

    /// The writer dropped the request unanswered: it ended, by a panic, with the transaction in its hands.
    fn lost(&self) -> StoreError {
        StoreError::Unknown { file: self.file.name(), reason: "the writer thread ended".to_owned() }
    }
}

impl Engine for RedbEngine {
    fn read(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), StoreError> {
        self.file.read(op)
    }

    fn write(&self, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.hand_in(None, op))
    }

    fn write_after(&self, first: Prerequisite, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.hand_in(Some(first), op))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(RedbSnapshot::take(&self.file)?))
    }

    fn pause(&self) -> BoxFuture<'_, Result<Pause, StoreError>> {
        Box::pin(async move {
            let (begun, beginning) = oneshot::channel();
            let (hold, ended) = std::sync::mpsc::channel();
            let over = Arc::new(AtomicBool::new(false));
            let standstill = Standstill { begun, ended, over: Arc::clone(&over) };
            self.writer()?.send(Request::Pause(standstill)).await.map_err(|_closed| self.closed())?;
            beginning.await.map_err(|_closed| self.closed())?;
            Ok(Pause::new(over, hold))
        })
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        Box::pin(async { self.file.health() })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let Some(writer) = writer else { return };
            let (closer, closed) = oneshot::channel();
            if writer.send(Request::Close(closer)).await.is_ok() {
                // An error means that the thread is gone, and the file with it.
                let _ = closed.await;
            }
        })
    }
}
