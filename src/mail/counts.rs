//! Where deliveries stand, counted, and what happened hour by hour.
//!
//! Both are written in the transaction of what they count, so they are exact. Hours are forgotten with the messages.

use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MailError;
use super::rows::{self, COUNTS, DeliveryRow, HOURS, State};
use crate::base::Timestamp;
use crate::store::record::Record;
use crate::store::{Direction, ReadTx, WriteTx};

/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// Most hours of one answer: 31 days.
pub const HOURS_MAX: u64 = 744;

/// Where a delivery stands, as people ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Waits for its first attempt, or has it now.
    Queued,
    /// An attempt did not work; another one follows.
    Deferred,
    /// The relay took it.
    Sent,
    /// Refused for good, or given up.
    Failed,
    /// Kept for viewing, not sent.
    Kept,
    /// Taken out of the queue by hand.
    Cancelled,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Queued, Self::Deferred, Self::Sent, Self::Failed, Self::Kept, Self::Cancelled];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Deferred => "deferred",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Cancelled => "cancelled",
        }
    }

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.name() == name)
    }

    /// Whether deliveries that stand so wait in the queue.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Deferred)
    }

    /// Where the delivery of `row` stands.
    pub fn of(row: &DeliveryRow) -> Self {
        match row.state {
            State::Queued | State::Sending if row.events.is_empty() => Self::Queued,
            State::Queued | State::Sending => Self::Deferred,
            State::Delivered => Self::Sent,
            State::Failed => Self::Failed,
            State::Kept => Self::Kept,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// Deliveries by where they stand; those of forgotten messages are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Wait for their first attempt.
    pub queued: u64,
    /// Wait for another attempt.
    pub deferred: u64,
    /// Taken by the relay.
    pub sent: u64,
    /// Refused for good, or given up.
    pub failed: u64,
    /// Kept for viewing.
    pub kept: u64,
    /// Taken out of the queue by hand.
    pub cancelled: u64,
}

impl Record for Counts {
    const VERSION: u8 = 1;
}

impl Counts {
    /// Deliveries that wait in the queue.
    pub const fn open(&self) -> u64 {
        self.queued.saturating_add(self.deferred)
    }

    /// How many stand so.
    pub const fn of(&self, standing: Standing) -> u64 {
        match standing {
            Standing::Queued => self.queued,
            Standing::Deferred => self.deferred,
            Standing::Sent => self.sent,
            Standing::Failed => self.failed,
            Standing::Kept => self.kept,
            Standing::Cancelled => self.cancelled,
        }
    }

    fn of_mut(&mut self, standing: Standing) -> &mut u64 {
        match standing {
            Standing::Queued => &mut self.queued,
            Standing::Deferred => &mut self.deferred,
            Standing::Sent => &mut self.sent,
            Standing::Failed => &mut self.failed,
            Standing::Kept => &mut self.kept,
            Standing::Cancelled => &mut self.cancelled,
        }
    }
}

/// What happened in an hour, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourRow {
    /// Recipients of messages accepted.
    pub accepted: u64,
    /// Deliveries the relay took.
    pub sent: u64,
    /// Deliveries refused for good, or given up.
    pub failed: u64,
    /// Attempts that did not work and are made again.
    pub deferred: u64,
    /// Deliveries kept for viewing.
    pub kept: u64,
}

impl Record for HourRow {
    const VERSION: u8 = 1;
}

/// What happened in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// When the hour began, in seconds since the epoch.
    pub start: u64,
    /// What happened.
    #[serde(flatten)]
    pub happened: HourRow,
}

/// Something to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A recipient's message was accepted.
    Accepted,
    /// An attempt ended and its delivery stands so now.
    Attempt(Standing),
}

pub(super) fn load(tx: &dyn ReadTx) -> Result<Counts, MailError> {
    Ok(rows::load(tx, COUNTS, b"standing")?.unwrap_or_default())
}

/// Counts that `many` deliveries which stood `from` stand `to` now.
pub(super) fn shift(
    tx: &mut dyn WriteTx,
    from: Option<Standing>,
    to: Option<Standing>,
    many: u64,
) -> Result<(), MailError> {
    if from == to {
        return Ok(());
    }
    let mut counts = load(tx)?;
    if let Some(from) = from {
        let count = counts.of_mut(from);
        *count = count.saturating_sub(many);
    }
    if let Some(to) = to {
        let count = counts.of_mut(to);
        *count = count.saturating_add(many);
    }
    rows::save(tx, COUNTS, b"standing", &counts)
}

/// Counts what happened `at`, for `many` recipients.
pub(super) fn happened(tx: &mut dyn WriteTx, at: Timestamp, what: Happened, many: u64) -> Result<(), MailError> {
    let key = (at.millis() / HOUR_MS).to_be_bytes();
    let mut hour: HourRow = rows::load(tx, HOURS, &key)?.unwrap_or_default();
    let count = match what {
        Happened::Accepted => &mut hour.accepted,
        Happened::Attempt(Standing::Sent) => &mut hour.sent,
        Happened::Attempt(Standing::Failed | Standing::Cancelled) => &mut hour.failed,
        Happened::Attempt(Standing::Kept) => &mut hour.kept,
        Happened::Attempt(Standing::Queued | Standing::Deferred) => &mut hour.deferred,
    };
    *count = count.saturating_add(many);
    rows::save(tx, HOURS, &key, &hour)
}

/// Removes up to `most` hours that ended longer than `keep` before `now`.
pub(super) fn forget_hours(tx: &mut dyn WriteTx, now: Timestamp, keep: Duration, most: usize) -> Result<(), MailError> {
    let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    let end = (now.millis().saturating_sub(keep_ms) / HOUR_MS).to_be_bytes();
    for (key, _) in tx.scan(HOURS, Bound::Unbounded, Bound::Excluded(&end), Direction::Forward, most)? {
        tx.delete(HOURS, &key)?;
    }
    Ok(())
}

/// The last `hours` hours up to and with the one of `now`, oldest first; an hour in which nothing happened is there too.
pub(super) fn last_hours(tx: &dyn ReadTx, now: Timestamp, hours: u64) -> Result<Vec<Hour>, MailError> {
    let hours = hours.clamp(1, HOURS_MAX);
    let last = now.millis() / HOUR_MS;
    let first = last.saturating_sub(hours - 1);
    let (from, to) = (first.to_be_bytes(), last.to_be_bytes());
    let limit = usize::try_from(hours).unwrap_or(usize::MAX);
    let found = tx.scan(HOURS, Bound::Included(&from), Bound::Included(&to), Direction::Forward, limit)?;
    let mut found = found.into_iter().peekable();
    let mut out = Vec::with_capacity(limit);
    for number in first..=last {
        let row = found.next_if(|(key, _)| key.as_slice() == number.to_be_bytes());
        let happened = row.map(|(_, bytes)| rows::decode(HOURS, &bytes)).transpose()?.unwrap_or_default();
        out.push(Hour { start: number.saturating_mul(HOUR_MS / 1000), happened });
    }
    Ok(out)
}
