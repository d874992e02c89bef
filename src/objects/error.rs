//! What can go wrong, as facts. The S3 door owns the table from here to codes and statuses.

use std::io;

use super::backends::{BackendError, BackendNameError, BackendsError};
use super::file_rules::FileFault;
use super::names::VersionId;
use crate::base::Timestamp;
use crate::jobs::JobsError;
use crate::store::StoreError;

/// Why a body's stream ended early, in the words of whoever made the stream (the door takes its own type back out with
/// `downcast`).
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(Box<dyn std::error::Error + Send + Sync>);

impl BodyError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// The cause, where it is a `T`.
    pub fn cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    /// The cause itself.
    ///
    /// # Errors
    /// The cause is no `T`; here is the error as it was.
    pub fn into_cause<T: std::error::Error + 'static>(self) -> Result<T, Self> {
        self.0.downcast().map(|cause| *cause).map_err(Self)
    }
}

/// Why an operation on buckets or objects failed. Unless a variant says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bucket does not exist (or went away while the operation ran).
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket still holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// There are as many buckets as the setting allows.
    #[error("there are {limit} buckets, no more are allowed by the setting `objects.max_buckets`")]
    TooManyBuckets {
        /// The setting.
        limit: u32,
    },
    /// No object has the key.
    #[error("no such key")]
    NoSuchKey,
    /// The key has no such version.
    #[error("no such version")]
    NoSuchVersion,
    /// What was asked for is a delete marker: there is nothing to read.
    #[error("the version is a delete marker")]
    DeleteMarker {
        /// The marker's id.
        version: VersionId,
        /// When the deletion happened.
        modified: Timestamp,
        /// Whether the marker was asked for by its id; else it is the newest of its key.
        named: bool,
    },
    /// The object has no part with the number asked for.
    #[error("the object has no part {number}")]
    NoSuchPart {
        /// The number asked for.
        number: u16,
    },
    /// The upload does not exist: never made, completed, aborted or expired.
    #[error("no such upload")]
    NoSuchUpload,
    /// A part named at completion was never stored, or has another `ETag`.
    #[error("part {number} is missing or has another etag")]
    InvalidPart {
        /// Its number.
        number: u16,
    },
    /// The parts named at completion are none, or not in ascending order.
    #[error("parts are not listed in ascending order")]
    InvalidPartOrder,
    /// A part other than the last is below the least size.
    #[error("part {number} has {size} bytes, all but the last need at least {least}")]
    EntityTooSmall {
        /// Its number.
        number: u16,
        /// Its bytes.
        size: u64,
        /// The least size in bytes.
        least: u64,
    },
    /// The body's MD5 is not the one announced.
    #[error("the body does not have the md5 that was announced")]
    BadDigest,
    /// The body ended before, or went beyond, its announced length.
    #[error("the body has {got} bytes or more, announced were {expected}")]
    WrongLength {
        /// Bytes announced.
        expected: u64,
        /// Bytes seen until it was clear.
        got: u64,
    },
    /// The body is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// Most bytes allowed.
        limit: u64,
    },
    /// The bucket does not take such a file.
    #[error(transparent)]
    NotTaken(#[from] FileFault),
    /// More types or endings of names are to be set for a bucket than it may have.
    #[error("a bucket has at most {limit} types, and as many endings of names")]
    TooManyRules {
        /// The most.
        limit: usize,
    },
    /// The metadata is longer than allowed.
    #[error("the metadata has {bytes} bytes, allowed are {limit}")]
    MetadataTooLarge {
        /// Bytes of all names and values.
        bytes: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// A range starts at or behind the object's end.
    #[error("the range does not lie in the object's {size} bytes")]
    InvalidRange {
        /// The object's size in bytes.
        size: u64,
    },
    /// A condition on what the key holds now is not met.
    #[error("the object is not in the state the condition asks for")]
    PreconditionFailed,
    /// The body's stream ended with an error.
    #[error("the body ended early: {0}")]
    Body(#[source] BodyError),
    /// The bucket would hold more than its quota says. Reading and deleting go on.
    #[error("the bucket's quota of {limit} {what} is exceeded")]
    QuotaExceeded {
        /// Of what: `bytes` or `objects`.
        what: &'static str,
        /// The most.
        limit: u64,
    },
    /// The disk is down to its reserve. Reading and deleting go on.
    #[error("the disk is full: {available} bytes are left, {reserve} are kept in reserve")]
    Full {
        /// Bytes left.
        available: u64,
        /// Bytes kept.
        reserve: u64,
    },
    /// What is stored fails its check: bytes were changed, lost or swapped outside this server. Never served.
    #[error("stored bytes of blob {blob} fail their check: {fault}")]
    Corrupt {
        /// The blob's random name.
        blob: String,
        /// What does not hold.
        fault: &'static str,
    },
    /// The blobs' file system failed.
    #[error("blob storage: {0}")]
    Disk(#[from] io::Error),
    /// A backend does not do what is asked of it.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Backends are not as what is stored needs them, or there is none of the name.
    #[error(transparent)]
    Backends(#[from] BackendsError),
    /// Only what is on this disk can get another key.
    #[error(
        "the bucket has bodies at a backend, and only what is on this disk can get another key: first move it there (`mainstay objects move --to local`)"
    )]
    KeptElsewhere,
    /// What was given is no name of a backend.
    #[error(transparent)]
    BackendName(#[from] BackendNameError),
    /// The index failed. After [`StoreError::Unknown`] the change may or may not be there.
    #[error("object index: {0}")]
    Store(#[from] StoreError),
    /// The removal of what the operation lets go of cannot be put in line.
    #[error("object removal: {0}")]
    Jobs(#[source] JobsError),
    /// Scrubs have found so much damaged that is still there.
    #[error(
        "damaged: {count}; `mainstay objects scrub --status` names what, and a backup may still have it (`mainstay backup restore --object`)"
    )]
    Damaged {
        /// How much.
        count: usize,
    },
    /// A bucket's key cannot be unwrapped.
    #[error("key of a bucket: {0}")]
    Key(#[from] crate::crypto::keyring::KeyringError),
    /// The server is stopping, or others changed the same thing again and again; a later try may succeed.
    #[error("try again later: {0}")]
    Unavailable(&'static str),
}

impl ObjectError {
    /// Whether the disk's lack of room is all that is wrong.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Store(StoreError::Full { .. }) => true,
            Self::Disk(error) => error.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether the same operation may succeed later, here or after a restart.
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Store(StoreError::Closed { .. } | StoreError::ReadOnly { .. })
                | Self::Backend(_)
        )
    }
}

impl From<JobsError> for ObjectError {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Store(error) => Self::Store(error),
            other => Self::Jobs(other),
        }
    }
}
