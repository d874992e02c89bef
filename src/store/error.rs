//! What can go wrong between a closure and its durable commit.

/// Why a transaction did not happen, or may not have.
///
/// Every variant but [`StoreError::Unknown`] is a promise: nothing of the transaction is there and nothing will be.
/// Cloned when one failed commit answers many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was written; writing goes on by itself once there is room.
    #[error("the disk that holds {file} is full; free some space, writing then goes on by itself")]
    Full {
        /// The data file's name.
        file: &'static str,
    },
    /// The file is only read until the server is restarted, since its disk failed a sync or a write.
    #[error("{file} is read-only until restart: {reason}")]
    ReadOnly {
        /// The data file's name.
        file: &'static str,
        /// What happened.
        reason: String,
    },
    /// A row is not what was stored: the disk decayed, or someone changed the file, or the key is another's.
    #[error("a row of table {table} is damaged: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The commit failed at a point where it may have happened: after a restart all of it is there, or nothing.
    #[error("{file}: the commit failed and may or may not have happened: {reason}")]
    Unknown {
        /// The data file's name.
        file: &'static str,
        /// What happened.
        reason: String,
    },
    /// The store was closed before the transaction's turn came.
    #[error("{file} is closed")]
    Closed {
        /// The data file's name.
        file: &'static str,
    },
    /// A key or value is larger than a row may be.
    #[error("a {part} of table {table} has {bytes} bytes, allowed are {most}")]
    TooLarge {
        /// `key` or `value`.
        part: &'static str,
        /// The table.
        table: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// The file was written by a newer Mainstay. It was not changed.
    #[error(
        "{file} has data version {found}, this Mainstay knows versions up to {known}; it was left as it is: start the \
         newer Mainstay again, or restore a backup made by this one"
    )]
    Newer {
        /// The data file's name.
        file: &'static str,
        /// The version it has.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// The engine failed in a way that has no other name here.
    #[error("{file}: {reason}")]
    Engine {
        /// The data file's name.
        file: &'static str,
        /// What it said.
        reason: String,
    },
}
