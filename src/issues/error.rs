//! What error capture says no with.

use crate::jobs::JobsError;
use crate::store::{RecordError, StoreError};

/// Why an event was not taken in, or an issue not found. Unless said otherwise nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum IssuesError {
    /// The event is no JSON object.
    #[error("the event is no JSON object: {reason}")]
    NotJson {
        /// What the parser says; never the event's text.
        reason: String,
    },
    /// The event is nested too deeply.
    #[error("the event is nested deeper than {most} levels")]
    TooDeep {
        /// Levels allowed.
        most: usize,
    },
    /// The event is too large.
    #[error("the event has {bytes} bytes, allowed are {most}")]
    EventTooLarge {
        /// Its size.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// Too many events wait to be digested.
    #[error("{events} events ({bytes} bytes) wait to be digested; no more are taken in until some are")]
    SpoolFull {
        /// Events waiting.
        events: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Events come faster than allowed.
    #[error("more than {most} events in a minute (issues.events_per_minute); wait {wait_seconds} s")]
    TooFast {
        /// Events allowed per minute.
        most: u32,
        /// Seconds until the next minute.
        wait_seconds: u64,
    },
    /// There is no such issue.
    #[error("there is no issue {id}; `mainstay issues` lists them")]
    NoSuchIssue {
        /// The number asked for.
        id: u64,
    },
    /// The event is not kept, or never was.
    #[error("event {number} of issue {id} is not kept")]
    NoSuchEvent {
        /// The issue.
        id: u64,
        /// The event's number asked for; 0 for the newest.
        number: u64,
    },
    /// The job could not be put in.
    #[error(transparent)]
    Jobs(#[from] JobsError),
    /// A row is not what this room stores.
    #[error("a row of issues.redb: {0}")]
    Record(#[from] RecordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was cut off: the server stops.
    #[error("the server is stopping")]
    Stopping,
}

impl IssuesError {
    /// Whether the reason is a full disk or a full queue, which pass by themselves.
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            Self::SpoolFull { .. }
                | Self::Store(StoreError::Full { .. })
                | Self::Jobs(JobsError::Store(StoreError::Full { .. }) | JobsError::TooMany { .. })
        )
    }
}
