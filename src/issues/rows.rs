//! The rows of issues.
//!
//! ```text
//! table            key                                           value
//! issues.totals    "totals"                                      Totals, version 1
//! issues.spool     number of the event                           SpoolRow, version 1
//! issues.rows      number of the issue                           IssueRow, version 1
//! issues.recent    last seen (ms) and number of the issue        empty; always as IssueRow says
//! issues.groups    project, algorithm (2 bytes), hash (16)       number of the issue; many for one issue
//! issues.events    number of the issue, number of its event      EventRow, version 1
//! issues.users     number of the issue, first 8 bytes of a hash  empty
//! issues.charts    number of the issue; or 0 and the project     ChartRow, version 1 (`chart.rs`)
//! issues.received  project, name of a category                   items received, 8 bytes
//! ```
//!
//! Numbers are 8 bytes, big-endian so that they sort. An issue's events are numbered by its count, from 1 on.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::IssuesError;
use crate::store::record::{decode, encode};
use crate::store::{Direction, ReadTx, Record, RecordError, StoreError, Table, WriteTx, after_prefix};

pub(super) const TOTALS: Table = Table::new("issues.totals");
pub(super) const SPOOL: Table = Table::new("issues.spool");
pub(super) const ROWS: Table = Table::new("issues.rows");
pub(super) const RECENT: Table = Table::new("issues.recent");
pub(super) const GROUPS: Table = Table::new("issues.groups");
pub(super) const EVENTS: Table = Table::new("issues.events");
pub(super) const USERS: Table = Table::new("issues.users");
pub(super) const CHARTS: Table = Table::new("issues.charts");
pub(super) const RECEIVED: Table = Table::new("issues.received");

/// Rows looked at in one page of a scan.
const PAGE: usize = 256;

/// What the room holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// The last number given to a spooled event.
    pub sequence: u64,
    /// The last number given to an issue.
    pub last_issue: u64,
    pub spool_events: u64,
    pub spool_bytes: u64,
    pub issues: u64,
    /// Events kept.
    pub events: u64,
    /// Events ever accepted, digested, and dropped because they could not be.
    pub accepted: u64,
    pub digested: u64,
    pub malformed: u64,
}

impl Record for Totals {
    const VERSION: u8 = 1;
}

/// An event that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SpoolRow {
    pub project: u64,
    pub received_ms: u64,
    pub event_id: [u8; 16],
    /// The event as JSON, scrubbed.
    pub event: Vec<u8>,
}

impl Record for SpoolRow {
    const VERSION: u8 = 1;
}

/// Where an issue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// To be looked at.
    Open,
    /// Done; the next event opens it again.
    Resolved,
    /// Counted, but not wanted in the list.
    Ignored,
}

impl Status {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Ignored => "ignored",
        }
    }
}

/// An issue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IssueRow {
    pub project: u64,
    pub title: String,
    pub culprit: String,
    pub level: String,
    pub platform: String,
    pub status: Status,
    pub first_seen_ms: u64,
    pub last_seen_ms: u64,
    pub first_release: String,
    pub last_release: String,
    pub environment: String,
    pub count: u64,
    /// Events kept.
    pub kept: u64,
    pub users: u32,
    /// How often an event came after it was resolved.
    pub regressions: u32,
    /// Name, then values with their counts.
    pub tags: Vec<(String, Vec<(String, u64)>)>,
    /// The keys in `issues.groups` that lead here.
    pub groups: Vec<Vec<u8>>,
}

impl Record for IssueRow {
    const VERSION: u8 = 1;
}

/// An event that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct EventRow {
    pub event_id: [u8; 16],
    pub received_ms: u64,
    /// The event as JSON, scrubbed.
    pub event: Vec<u8>,
}

impl Record for EventRow {
    const VERSION: u8 = 1;
}

pub(super) fn totals(tx: &dyn ReadTx) -> Result<Totals, IssuesError> {
    Ok(tx.get(TOTALS, b"totals")?.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default())
}

pub(super) fn put_totals(tx: &mut dyn WriteTx, totals: Totals) -> Result<(), StoreError> {
    tx.put(TOTALS, b"totals", &encode(&totals))
}

pub(super) fn issue(tx: &dyn ReadTx, id: u64) -> Result<Option<IssueRow>, IssuesError> {
    Ok(tx.get(ROWS, &id.to_be_bytes())?.map(|bytes| decode(&bytes)).transpose()?)
}

/// Writes issue `id`; `seen_before` is what its row said it was last seen, if it had one.
pub(super) fn put_issue(
    tx: &mut dyn WriteTx,
    id: u64,
    row: &IssueRow,
    seen_before: Option<u64>,
) -> Result<(), StoreError> {
    if let Some(before) = seen_before {
        tx.delete(RECENT, &pair(before, id))?;
    }
    tx.put(RECENT, &pair(row.last_seen_ms, id), b"")?;
    tx.put(ROWS, &id.to_be_bytes(), &encode(row))
}

/// Removes issue `id` and all that belongs to it; `totals` follow. Its rows are bounded by the caps of one issue.
pub(super) fn remove_issue(tx: &mut dyn WriteTx, id: u64, totals: &mut Totals) -> Result<(), IssuesError> {
    let Some(row) = issue(tx, id)? else { return Ok(()) };
    for group in &row.groups {
        tx.delete(GROUPS, group)?;
    }
    for table in [EVENTS, USERS] {
        let (prefix, end) = (id.to_be_bytes(), after_prefix(&id.to_be_bytes()));
        loop {
            let to = end.as_ref().map(Vec::as_slice);
            let page = tx.scan(table, Bound::Included(&prefix), to, Direction::Forward, PAGE)?;
            for (key, _) in &page {
                tx.delete(table, key)?;
            }
            if page.len() < PAGE {
                break;
            }
        }
    }
    super::chart::remove(tx, id)?;
    tx.delete(RECENT, &pair(row.last_seen_ms, id))?;
    tx.delete(ROWS, &id.to_be_bytes())?;
    totals.issues = totals.issues.saturating_sub(1);
    totals.events = totals.events.saturating_sub(row.kept);
    Ok(())
}

/// The issue not seen for longest, and when it was; `except` apart.
pub(super) fn least_recent(tx: &dyn ReadTx, except: Option<u64>) -> Result<Option<(u64, u64)>, IssuesError> {
    for (key, _) in tx.scan(RECENT, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 2)? {
        let (seen, id) = unpair(&key)?;
        if Some(id) != except {
            return Ok(Some((seen, id)));
        }
    }
    Ok(None)
}

/// The key of a grouping hash.
pub(super) fn group_key(project: u64, algorithm: &str, hash: &[u8]) -> Vec<u8> {
    [&project.to_be_bytes(), algorithm.as_bytes(), hash].concat()
}

pub(super) fn pair(first: u64, second: u64) -> Vec<u8> {
    [first.to_be_bytes(), second.to_be_bytes()].concat()
}

/// The two numbers of a key.
pub(super) fn unpair(key: &[u8]) -> Result<(u64, u64), RecordError> {
    let (first, second) = key.split_at_checked(8).ok_or(MALFORMED)?;
    Ok((number(first)?, number(second)?))
}

pub(super) fn number(bytes: &[u8]) -> Result<u64, RecordError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_length| MALFORMED)
}

/// A key does not have the length this room writes.
const MALFORMED: RecordError = RecordError::Malformed { version: 1 };
