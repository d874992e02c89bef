//! What stands under a [`Store`](super::Store): the one trait both redb and the engines to come implement.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Prerequisite, ReadTx, StoreError, Table, WriteTx};

/// What a write closure wants done with its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Commit them.
    Keep,
    /// Leave nothing behind.
    Discard,
}

/// A write closure. It may be run several times; only the last run counts.
pub type WriteOp = Box<dyn Fn(&mut dyn WriteTx) -> Decision + Send + Sync>;

/// How a store feels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// Reading and writing.
    Well,
    /// Reading; writing goes on once the disk has room.
    Full,
    /// Reading; writing ended until restart.
    ReadOnly {
        /// What happened.
        reason: String,
    },
    /// Closed.
    Closed,
}

/// A view of all tables at one moment that lasts as long as it is wanted, for a backup that reads while writes go on.
///
/// It holds back the reuse of pages, so the file grows by what is written meanwhile. Once the engine had to open its
/// file again, or has closed it, every call is an error.
pub trait Snapshot: ReadTx + Send {
    /// Every table that has or had a row, the engine's own apart, in the order of their names.
    ///
    /// # Errors
    /// See [`ReadTx`].
    fn tables(&self) -> Result<Vec<Table>, StoreError>;
}

/// As long as this lives, an engine commits nothing; but never longer than [`Pause::LONGEST`].
pub struct Pause {
    /// Set by the engine when it went on by itself.
    over: Arc<AtomicBool>,
    hold: Box<dyn Any + Send>,
}

impl Pause {
    /// How long an engine stands still at most.
    pub const LONGEST: Duration = Duration::from_secs(2);

    /// A pause that ends when `hold` is dropped; the engine sets `over` when it does not wait for that.
    pub(crate) fn new(over: Arc<AtomicBool>, hold: impl Any + Send) -> Self {
        Self { over, hold: Box::new(hold) }
    }

    /// Lets commits go on; says whether there was none since the pause began.
    pub fn end(self) -> bool {
        let held = !self.over.load(Ordering::Acquire);
        drop(self.hold);
        held
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").field("over", &self.over).finish_non_exhaustive()
    }
}

/// An ordered, transactional, durable map. Write transactions are serialisable; a read sees one commit's state.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Runs `op` on a snapshot, on this thread; it may be run several times, the last run counts. Blocks.
    ///
    /// # Errors
    /// Why there is no snapshot; `op` did not run, or what it read must not be used.
    fn read(&self, op: &dyn Fn(&dyn ReadTx)) -> Result<(), StoreError>;

    /// Runs `op` and, if it says so, commits its changes durably. Needs no async runtime to make progress.
    ///
    /// # Errors
    /// See [`StoreError`]; after an error what `op` concluded from its reads must not be used either.
    ///
    /// # Cancel safety
    /// Dropped before its end, the transaction may happen or not, as a whole.
    fn write(&self, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>>;

    /// As [`Engine::write`], but nothing counts before `first` is fulfilled, and nothing happens when it never is.
    ///
    /// # Errors
    /// As [`Engine::write`].
    ///
    /// # Cancel safety
    /// As [`Engine::write`].
    fn write_after(&self, first: Prerequisite, op: WriteOp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if first.fulfilled().await {
                return self.write(op).await;
            }
            Err(StoreError::Engine { file: "the store", reason: "what a transaction waited for has failed".to_owned() })
        })
    }

    /// A view of the last commit that lasts.
    ///
    /// # Errors
    /// Why there is none.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Waits for the commit under way, then holds the following ones back.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, commits go on.
    fn pause(&self) -> BoxFuture<'_, Result<Pause, StoreError>>;

    /// How the engine feels now. Cancel safe.
    fn health(&self) -> BoxFuture<'_, StoreHealth>;

    /// Finishes what was handed in before and closes; everything after is [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the closing goes on by itself.
    fn close(&self) -> BoxFuture<'_, ()>;
}
