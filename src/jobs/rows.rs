//! The rows of jobs, and the transactions that move them.
//!
//! ```text
//! table          key                                value
//! jobs.rows      id (8 bytes big-endian)            JobRow, version 1
//! jobs.due       due (8 bytes, ms) and id           empty; due is the end of the lease while the job runs
//! jobs.dedupe    kind, zero byte, dedupe key        id of the waiting job
//! jobs.dead      id                                 DeadRow, version 1
//! jobs.schedule  kind                               when the schedule last put the job in (8 bytes, ms)
//! jobs.counts    "counts"                           Counts, version 1
//! ```
//!
//! Times are milliseconds since the Unix epoch, big-endian so that they sort.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobsError, PAYLOAD_MAX};
use crate::base::Timestamp;
use crate::store::record::{decode, encode};
use crate::store::{Direction, ReadTx, Record, RecordError, StoreError, Table, WriteTx};

const ROWS: Table = Table::new("jobs.rows");
const DUE: Table = Table::new("jobs.due");
const DEDUPE: Table = Table::new("jobs.dedupe");
const DEAD: Table = Table::new("jobs.dead");
const SCHEDULE: Table = Table::new("jobs.schedule");
const COUNTS: Table = Table::new("jobs.counts");

/// Most jobs waiting or running in one store.
const WAITING_MAX: u64 = 1_000_000;

/// Most dead letters kept; the oldest go first.
const DEAD_MAX: u64 = 1_000;

/// Bytes of a kind or dedupe key.
const NAME_MAX: usize = 512;

/// How long a job belongs to whoever took it, unless they take it longer.
const LEASE: Duration = Duration::from_mins(15);

/// Attempts after which a job is a dead letter. With the waits between them that is about half a day.
pub(super) const ATTEMPTS_MAX: u32 = 20;

/// How long a job of a kind nobody has registered is left alone: an older program runs, and a newer may come back.
const UNKNOWN_PAUSE: Duration = Duration::from_hours(1);

/// A job at rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct JobRow {
    kind: String,
    payload: Vec<u8>,
    dedupe: Option<String>,
    /// How often it was begun.
    attempts: u32,
    due_ms: u64,
    leased: bool,
}

impl Record for JobRow {
    const VERSION: u8 = 1;
}

#[derive(Serialize, Deserialize)]
struct DeadRow {
    kind: String,
    payload: Vec<u8>,
    attempts: u32,
    at_ms: u64,
    reason: String,
}

impl Record for DeadRow {
    const VERSION: u8 = 1;
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    /// The last id given.
    sequence: u64,
    waiting: u64,
    dead: u64,
}

impl Record for Counts {
    const VERSION: u8 = 1;
}

/// A job that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in this store.
    pub id: u64,
    /// Its kind.
    pub kind: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A job taken for running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    pub id: u64,
    pub kind: String,
    pub payload: Vec<u8>,
    /// This one included.
    pub attempts: u32,
}

/// What one look at the queue found.
#[derive(Default)]
pub(super) struct Claims {
    pub jobs: Vec<Claimed>,
    /// Jobs given up here because their attempts were used up, by crashes too.
    pub dead: u64,
    /// Jobs waiting or running.
    pub waiting: u64,
}

/// What becomes of a job that ran.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Done,
    /// Again at this time.
    Again(Timestamp),
    Dead(String),
}

/// Puts a job in; `false` when one with the same kind and dedupe key waits already.
pub(super) fn enqueue(
    tx: &mut dyn WriteTx,
    kind: &str,
    payload: &[u8],
    run_at: Timestamp,
    dedupe: Option<&str>,
) -> Result<bool, JobsError> {
    for name in std::iter::once(kind).chain(dedupe) {
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(JobsError::Name { name: name.chars().take(40).collect(), most: NAME_MAX });
        }
    }
    if payload.len() > PAYLOAD_MAX {
        return Err(JobsError::PayloadTooLarge { kind: kind.to_owned(), bytes: payload.len(), most: PAYLOAD_MAX });
    }
    if let Some(dedupe) = dedupe
        && tx.get(DEDUPE, &dedupe_key(kind, dedupe))?.is_some()
    {
        return Ok(false);
    }
    let mut counts = counts(tx)?;
    if counts.waiting >= WAITING_MAX {
        return Err(JobsError::TooMany { most: WAITING_MAX });
    }
    counts.sequence += 1;
    counts.waiting += 1;
    let row = JobRow {
        kind: kind.to_owned(),
        payload: payload.to_vec(),
        dedupe: dedupe.map(str::to_owned),
        attempts: 0,
        due_ms: run_at.millis(),
        leased: false,
    };
    wait(tx, counts.sequence, &row)?;
    put_counts(tx, counts)?;
    Ok(true)
}

/// Takes up to `limit` jobs that are due at `now` and of a kind `known`; those in `running` are taken longer.
pub(super) fn claim(
    tx: &mut dyn WriteTx,
    now: Timestamp,
    limit: usize,
    known: &BTreeSet<String>,
    running: &BTreeSet<u64>,
) -> Result<Claims, JobsError> {
    let mut claims = Claims::default();
    let end = now.millis().saturating_add(1).to_be_bytes();
    let due =
        tx.scan(DUE, Bound::Unbounded, Bound::Excluded(&end), Direction::Forward, limit.saturating_add(running.len()))?;
    for (key, _) in due {
        let Some(id) = id_of(&key) else { return Err(MALFORMED.into()) };
        let Some(mut row) = row(tx, id)? else {
            tx.delete(DUE, &key)?;
            continue;
        };
        if running.contains(&id) {
            move_to(tx, id, &mut row, now.after(LEASE))?;
        } else if !known.contains(&row.kind) {
            move_to(tx, id, &mut row, now.after(UNKNOWN_PAUSE))?;
        } else if row.attempts >= ATTEMPTS_MAX {
            bury(tx, id, row, now, format!("given up after {ATTEMPTS_MAX} attempts; the last did not end"))?;
            claims.dead += 1;
        } else if claims.jobs.len() < limit {
            forget_dedupe(tx, id, &row)?;
            row.attempts += 1;
            row.leased = true;
            move_to(tx, id, &mut row, now.after(LEASE))?;
            claims.jobs.push(Claimed { id, kind: row.kind, payload: row.payload, attempts: row.attempts });
        }
    }
    claims.waiting = counts(tx)?.waiting;
    Ok(claims)
}

/// Ends the run of job `id`.
pub(super) fn finish(tx: &mut dyn WriteTx, id: u64, now: Timestamp, ending: &Ending) -> Result<(), JobsError> {
    let Some(mut row) = row(tx, id)? else { return Ok(()) };
    match ending {
        Ending::Done => remove(tx, id, &row),
        Ending::Dead(reason) => bury(tx, id, row, now, reason.clone()),
        Ending::Again(at) => {
            // The same work was asked for again meanwhile: that job does it.
            if let Some(dedupe) = &row.dedupe
                && tx.get(DEDUPE, &dedupe_key(&row.kind, dedupe))?.is_some()
            {
                return remove(tx, id, &row);
            }
            tx.delete(DUE, &due_key(row.due_ms, id))?;
            row.leased = false;
            row.due_ms = at.millis();
            Ok(wait(tx, id, &row)?)
        }
    }
}

/// Gives back at most `limit` jobs that are leased, from job `from` on: only for a process that has just started and is
/// the only one on this store. Returns where to go on.
pub(super) fn release(tx: &mut dyn WriteTx, from: u64, limit: usize, now: Timestamp) -> Result<Option<u64>, JobsError> {
    let rows = tx.scan(ROWS, Bound::Included(&from.to_be_bytes()), Bound::Unbounded, Direction::Forward, limit)?;
    let next = if rows.len() < limit { None } else { rows.last().and_then(|(key, _)| number(key)) };
    for (key, value) in rows {
        let Some(id) = number(&key) else { return Err(MALFORMED.into()) };
        let mut row: JobRow = decode(&value)?;
        if row.leased {
            row.leased = false;
            move_to(tx, id, &mut row, now)?;
        }
    }
    Ok(next.and_then(|last| last.checked_add(1)))
}

/// Puts the scheduled job `kind` in when `every` has passed since it last was; returns when the next is due.
pub(super) fn schedule(
    tx: &mut dyn WriteTx,
    kind: &str,
    every: Duration,
    now: Timestamp,
) -> Result<Timestamp, JobsError> {
    let last = tx.get(SCHEDULE, kind.as_bytes())?.and_then(|bytes| number(&bytes)).map(Timestamp);
    // A last time in the future is a clock that was set back.
    if let Some(last) = last
        && last <= now
        && now < last.after(every)
    {
        return Ok(last.after(every));
    }
    enqueue(tx, kind, b"", now, Some("schedule"))?;
    tx.put(SCHEDULE, kind.as_bytes(), &now.millis().to_be_bytes())?;
    Ok(now.after(every))
}

/// When the next job is due.
pub(super) fn next_due(tx: &dyn ReadTx) -> Result<Option<Timestamp>, StoreError> {
    let first = tx.scan(DUE, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1)?;
    Ok(first.first().and_then(|(key, _)| number(key.get(..8)?)).map(Timestamp))
}

/// The newest `limit` dead letters, newest first.
pub(super) fn dead_letters(tx: &dyn ReadTx, limit: usize) -> Result<Vec<DeadLetter>, JobsError> {
    let rows = tx.scan(DEAD, Bound::Unbounded, Bound::Unbounded, Direction::Backward, limit)?;
    let letter = |(key, value): (Vec<u8>, Vec<u8>)| {
        let DeadRow { kind, payload, attempts, at_ms, reason } = decode(&value)?;
        let id = number(&key).ok_or(MALFORMED)?;
        Ok(DeadLetter { id, kind, payload, attempts, at: Timestamp(at_ms), reason })
    };
    rows.into_iter().map(letter).collect()
}

/// A key does not have the length this room writes.
const MALFORMED: RecordError = RecordError::Malformed { version: 1 };

fn wait(tx: &mut dyn WriteTx, id: u64, row: &JobRow) -> Result<(), StoreError> {
    if let Some(dedupe) = &row.dedupe {
        tx.put(DEDUPE, &dedupe_key(&row.kind, dedupe), &id.to_be_bytes())?;
    }
    tx.put(ROWS, &id.to_be_bytes(), &encode(row))?;
    tx.put(DUE, &due_key(row.due_ms, id), b"")
}

fn move_to(tx: &mut dyn WriteTx, id: u64, row: &mut JobRow, due: Timestamp) -> Result<(), StoreError> {
    tx.delete(DUE, &due_key(row.due_ms, id))?;
    row.due_ms = due.millis();
    tx.put(ROWS, &id.to_be_bytes(), &encode(row))?;
    tx.put(DUE, &due_key(row.due_ms, id), b"")
}

fn remove(tx: &mut dyn WriteTx, id: u64, row: &JobRow) -> Result<(), JobsError> {
    forget_dedupe(tx, id, row)?;
    tx.delete(DUE, &due_key(row.due_ms, id))?;
    tx.delete(ROWS, &id.to_be_bytes())?;
    let mut counts = counts(tx)?;
    counts.waiting = counts.waiting.saturating_sub(1);
    put_counts(tx, counts)
}

fn bury(tx: &mut dyn WriteTx, id: u64, row: JobRow, now: Timestamp, reason: String) -> Result<(), JobsError> {
    remove(tx, id, &row)?;
    let JobRow { kind, payload, attempts, .. } = row;
    tx.put(DEAD, &id.to_be_bytes(), &encode(&DeadRow { kind, payload, attempts, at_ms: now.millis(), reason }))?;
    let mut counts = counts(tx)?;
    counts.dead += 1;
    while counts.dead > DEAD_MAX {
        let oldest = tx.scan(DEAD, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1)?;
        let Some((key, _)) = oldest.first() else { break };
        tx.delete(DEAD, key)?;
        counts.dead -= 1;
    }
    put_counts(tx, counts)
}

fn forget_dedupe(tx: &mut dyn WriteTx, id: u64, row: &JobRow) -> Result<(), StoreError> {
    let Some(dedupe) = &row.dedupe else { return Ok(()) };
    let key = dedupe_key(&row.kind, dedupe);
    if tx.get(DEDUPE, &key)?.is_some_and(|waiting| waiting == id.to_be_bytes()) {
        tx.delete(DEDUPE, &key)?;
    }
    Ok(())
}

fn row(tx: &dyn ReadTx, id: u64) -> Result<Option<JobRow>, JobsError> {
    Ok(tx.get(ROWS, &id.to_be_bytes())?.map(|bytes| decode(&bytes)).transpose()?)
}

fn counts(tx: &dyn ReadTx) -> Result<Counts, JobsError> {
    Ok(tx.get(COUNTS, b"counts")?.map(|bytes| decode(&bytes)).transpose()?.unwrap_or_default())
}

fn put_counts(tx: &mut dyn WriteTx, counts: Counts) -> Result<(), JobsError> {
    Ok(tx.put(COUNTS, b"counts", &encode(&counts))?)
}

fn dedupe_key(kind: &str, dedupe: &str) -> Vec<u8> {
    [kind.as_bytes(), &[0], dedupe.as_bytes()].concat()
}

fn due_key(due_ms: u64, id: u64) -> Vec<u8> {
    [due_ms.to_be_bytes(), id.to_be_bytes()].concat()
}

fn id_of(due_key: &[u8]) -> Option<u64> {
    number(due_key.get(8..)?)
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
