//! Stores for tests: one in memory, and one that runs every closure twice.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;

use super::{FaultyDisk, TestClock, TestRandom};
use crate::base::{ByteSize, Clock, Shutdown, Supervisor};
use crate::crypto::Key;
use crate::store::overlay::Overlay;
use crate::store::tx::is_empty_range;
use crate::store::{
    DataFile, Decision, Direction, Engine, Opening, Pause, ReadTx, Row, Snapshot, Store, StoreConfig, StoreError,
    StoreHealth, Table, WriteOp, WriteTx,
};
use crate::telemetry::Metrics;

/// A store in memory, fresh and empty, that runs every closure twice (see [`TwiceStore`]).
pub fn memory_store() -> Store {
    TwiceStore::over(&plain_memory_store())
}

/// A store in memory, fresh and empty.
pub fn plain_memory_store() -> Store {
    Store::new(Arc::new(MemoryEngine::default()), FILE)
}

/// The data file `file` on `disk` in the folder `/`, opened as a server would, with a fixed key, standing clock and a
/// supervisor of its own. `seed` makes the epoch's salt: give each opening of one disk another.
///
/// # Errors
/// As [`Store::open`].
pub fn store_on(disk: &FaultyDisk, file: &'static DataFile, seed: u64) -> Result<Store, StoreError> {
    store_with_clock(disk, file, seed, Arc::new(TestClock::default()))
}

/// As [`store_on`], with a clock the test can move.
///
/// # Errors
/// As [`Store::open`].
pub fn store_with_clock(
    disk: &FaultyDisk,
    file: &'static DataFile,
    seed: u64,
    clock: Arc<dyn Clock>,
) -> Result<Store, StoreError> {
    let opening = Opening {
        folder: Path::new("/"),
        key: Key::from_bytes([42; 32]),
        config: &StoreConfig { cache: ByteSize::mib(1) },
        disk: Arc::new(disk.clone()),
        clock,
        random: &TestRandom::new(seed),
        supervisor: &Supervisor::new(Shutdown::new()),
        metrics: &Metrics::new(),
    };
    Store::open(file, opening)
}

const FILE: &str = "memory";

type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The second engine: nothing durable, everything else as promised. `None` when closed.
#[derive(Debug)]
struct MemoryEngine {
    tables: RwLock<Option<Tables>>,
    /// Held while commits stand still.
    commits: Arc<tokio::sync::Mutex<()>>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self { tables: RwLock::new(Some(Tables::new())), commits: Arc::default() }
    }
}

impl MemoryEngine {
    fn commit(&self, op: &WriteOp) -> Result<(), StoreError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let tables = tables.as_mut().ok_or(StoreError::Closed { file: FILE })?;
        let view = View(tables);
        let mut overlay = Overlay::new(&view);
        if op(&mut overlay) == Decision::Discard {
            return Ok(());
        }
        for (table, changes) in overlay.into_changes() {
            let rows = tables.entry(table).or_default();
            for (key, value) in changes {
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
        }
        Ok(())
    }
}

impl Engine for MemoryEngine {
    fn read(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), StoreError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        op(&View(tables.as_ref().ok_or(StoreError::Closed { file: FILE })?));
        Ok(())
    }

    fn write(&self, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let _turn = self.commits.lock().await;
            self.commit(&op)
        })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Kept(tables.as_ref().ok_or(StoreError::Closed { file: FILE })?.clone())))
    }

    fn pause(&self) -> BoxFuture<'_, Result<Pause, StoreError>> {
        Box::pin(async move {
            let hold = Arc::clone(&self.commits).lock_owned().await;
            if self.tables.read().unwrap_or_else(PoisonError::into_inner).is_none() {
                return Err(StoreError::Closed { file: FILE });
            }
            Ok(Pause::new(Arc::default(), hold))
        })
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        let open = self.tables.read().unwrap_or_else(PoisonError::into_inner).is_some();
        Box::pin(async move { if open { StoreHealth::Well } else { StoreHealth::Closed } })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { *self.tables.write().unwrap_or_else(PoisonError::into_inner) = None })
    }
}

struct View<'a>(&'a Tables);

impl ReadTx for View<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let Some(rows) = self.0.get(&table).filter(|_| !is_empty_range(from, to)) else {
            return Ok(Vec::new());
        };
        let range = rows.range::<[u8], _>((from, to)).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => range.take(limit).collect(),
            Direction::Backward => range.rev().take(limit).collect(),
        })
    }
}

/// A snapshot: all tables, copied.
struct Kept(Tables);

impl ReadTx for Kept {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        View(&self.0).get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        View(&self.0).scan(table, from, to, direction, limit)
    }
}

impl Snapshot for Kept {
    fn tables(&self) -> Result<Vec<Table>, StoreError> {
        Ok(self.0.keys().copied().collect())
    }
}

/// A store that runs every closure twice before believing it, so that one with side effects shows in any test: reads
/// on the same snapshot, writes first over changes that are thrown away.
#[derive(Debug)]
pub struct TwiceStore(Arc<dyn Engine>);

impl TwiceStore {
    /// The same store as `store`, seen through the double.
    pub fn over(store: &Store) -> Store {
        Store::new(Arc::new(Self(store.engine())), store.file())
    }
}

impl Engine for TwiceStore {
    fn read(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), StoreError> {
        self.0.read(&|tx| {
            op(tx);
            op(tx);
        })
    }

    fn write(&self, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.write(twice(op))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.0.snapshot()
    }

    fn pause(&self) -> BoxFuture<'_, Result<Pause, StoreError>> {
        self.0.pause()
    }

    fn health(&self) -> BoxFuture<'_, StoreHealth> {
        self.0.health()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

fn twice(op: WriteOp) -> WriteOp {
    Box::new(move |tx: &mut dyn WriteTx| {
        op(&mut Overlay::new(&*tx));
        op(tx)
    })
}
