//! Why a job was not taken in or not carried on.

use crate::store::{RecordError, StoreError};

/// What the jobs room says no with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JobsError {
    /// The payload is too large. Put the data into a table or file and its name into the payload.
    #[error("the payload of a {kind} job has {bytes} bytes, allowed are {most}")]
    PayloadTooLarge {
        /// The job's kind.
        kind: String,
        /// Its payload's size.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// The kind or the dedupe key is empty, too long, or holds a zero byte.
    #[error("`{name}` is no name for a job: 1 to {most} bytes without a zero byte are")]
    Name {
        /// The name.
        name: String,
        /// Bytes allowed.
        most: usize,
    },
    /// Too many jobs wait already.
    #[error("{most} jobs wait already; no more are taken in until some are done")]
    TooMany {
        /// How many may wait.
        most: u64,
    },
    /// A row is not what this room stores.
    #[error("a job's row: {0}")]
    Record(#[from] RecordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
