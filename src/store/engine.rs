//! What stands under a [`Store`](super::Store): the one trait both redb and the engines to come implement.

use std::fmt;

use futures_util::future::BoxFuture;

use super::{ReadTx, StoreError, WriteTx};

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

    /// How the engine feels now. Cancel safe.
    fn health(&self) -> BoxFuture<'_, StoreHealth>;

    /// Finishes what was handed in before and closes; everything after is [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the closing goes on by itself.
    fn close(&self) -> BoxFuture<'_, ()>;
}
