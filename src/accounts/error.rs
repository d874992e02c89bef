//! What can go wrong with credentials.

use crate::store::{RecordError, StoreError};

/// Why credentials are not there, or not taken. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored credential does not read.
    #[error("the stored credential `{name}` does not read: {source}")]
    Record {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// An access key's id, given by the operator, is no id.
    #[error("MINIO_ROOT_USER: an access key has 3 to 128 letters, digits or `-_.@`, this one has {length} characters")]
    BadId {
        /// Its length in characters.
        length: usize,
    },
    /// An access key's secret, given by the operator, is too short or too long.
    #[error("MINIO_ROOT_PASSWORD: a secret key has 8 to 128 visible ASCII characters, this one has {length}")]
    BadSecret {
        /// Its length in characters.
        length: usize,
    },
    /// Only half of a pair was given.
    #[error("MINIO_ROOT_USER and MINIO_ROOT_PASSWORD belong together: set both or neither")]
    HalfPair,
}
