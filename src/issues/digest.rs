//! From the spool to issues: the job that files events.

use std::ops::Bound;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Mutex;

use super::event::Event;
use super::group::{ALGORITHM, Hashes};
use super::rows::{self, EVENTS, EventRow, GROUPS, IssueRow, SPOOL, SpoolRow, Status, Totals, USERS, pair};
use super::service::Issues;
use super::{IssuesConfig, IssuesError, chart, shape};
use crate::crypto::mac::sha256;
use crate::jobs::{Job, JobOutcome};
use crate::store::record::{decode, encode};
use crate::store::{Direction, WriteTx};

/// The job's kind.
pub(super) const KIND: &str = "issues.digest";

/// Events filed in one transaction: at most this many times [`shape::EVENT_MAX`] bytes in memory.
const BATCH: usize = 32;

/// Users told apart in one issue; the count stops there.
pub const USERS_MAX: u32 = 1_000;

/// Names of tags counted in one issue, and values of one name.
const TAG_NAMES_MAX: usize = 24;
const TAG_VALUES_MAX: usize = 10;

/// Grouping hashes of one issue.
const GROUPS_MAX: usize = 64;

/// Files what is spooled, one batch a transaction, until nothing is left.
pub(super) struct Digest {
    issues: Issues,
    /// One at a time: the job is put in again while it runs.
    turn: Mutex<()>,
}

/// A spooled event, read.
struct Read {
    number: u64,
    bytes: u64,
    project: u64,
    received_ms: u64,
    /// `None` when it cannot be digested.
    event: Option<(Event, Hashes, EventRow)>,
}

impl Digest {
    pub(super) fn new(issues: Issues) -> Self {
        Self { issues, turn: Mutex::new(()) }
    }

    async fn all(&self) -> Result<(), IssuesError> {
        let _turn = self.turn.lock().await;
        while self.batch().await? {}
        Ok(())
    }

    /// Files one batch; says whether there was one.
    async fn batch(&self) -> Result<bool, IssuesError> {
        let inner = &self.issues.0;
        let spooled = inner.store.read(|tx| {
            Ok::<_, IssuesError>(tx.scan(SPOOL, Bound::Unbounded, Bound::Unbounded, Direction::Forward, BATCH)?)
        });
        let spooled = spooled.await?;
        if spooled.is_empty() {
            return Ok(false);
        }
        let issues = self.issues.clone();
        let read = move || spooled.iter().map(|(key, value)| read(&issues, key, value)).collect::<Result<Vec<_>, _>>();
        let read = tokio::task::spawn_blocking(read).await.map_err(|_stopping| IssuesError::Stopping)??;
        let malformed = read.iter().filter(|read| read.event.is_none()).count() as u64;
        let digested = read.len() as u64 - malformed;
        let (read, config) = (Arc::new(read), inner.config.clone());
        let waiting = inner.store.write(move |tx| {
            let mut totals = rows::totals(tx)?;
            for read in read.iter() {
                // A run before this one may have been cut off behind its commit.
                if tx.delete(SPOOL, &read.number.to_be_bytes())? {
                    file(tx, &config, &mut totals, read)?;
                }
            }
            rows::put_totals(tx, totals)?;
            Ok::<u64, IssuesError>(totals.spool_events)
        });
        inner.counts.waiting.set(i64::try_from(waiting.await?).unwrap_or(i64::MAX));
        inner.counts.digested.add(digested);
        inner.counts.malformed.add(malformed);
        Ok(true)
    }
}

impl Job for Digest {
    fn run<'a>(&'a self, _payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
        Box::pin(async move {
            match self.all().await {
                Ok(()) => JobOutcome::Done,
                Err(error) => JobOutcome::Retry(error.to_string()),
            }
        })
    }
}

/// Reads a spooled event. One that makes the reader panic is dropped like one that does not read: it must not hold up
/// those behind it.
fn read(issues: &Issues, key: &[u8], value: &[u8]) -> Result<Read, IssuesError> {
    let number = rows::number(key)?;
    let SpoolRow { project, received_ms, event_id, event } = decode(value)?;
    let bytes = event.len() as u64;
    let understood = panic::catch_unwind(AssertUnwindSafe(|| {
        let Ok(Value::Object(fields)) = serde_json::from_slice(&event) else { return None };
        let read = Event::read(&fields);
        let hashes = issues.0.grouper.hashes(&read);
        Some((read, hashes))
    }));
    let understood = understood.ok().flatten();
    if understood.is_none() {
        tracing::warn!(project, "an event could not be digested and was dropped");
    }
    let event = understood.map(|(read, hashes)| (read, hashes, EventRow { event_id, received_ms, event }));
    Ok(Read { number, bytes, project, received_ms, event })
}

/// Files one event: its issue, its sample, and every count.
fn file(tx: &mut dyn WriteTx, config: &IssuesConfig, totals: &mut Totals, read: &Read) -> Result<(), IssuesError> {
    totals.spool_events = totals.spool_events.saturating_sub(1);
    totals.spool_bytes = totals.spool_bytes.saturating_sub(read.bytes);
    let Some((event, hashes, row)) = &read.event else {
        totals.malformed += 1;
        return Ok(());
    };
    totals.digested += 1;
    let groups = [hashes.primary, hashes.system].map(|hash| rows::group_key(read.project, ALGORITHM, &hash));
    let found = find(tx, &groups)?;
    let (id, mut issue, seen_before) = if let Some((id, issue)) = found {
        let seen = issue.last_seen_ms;
        (id, issue, Some(seen))
    } else {
        if totals.issues >= config.max_issues.max(1) {
            forget_least_recent(tx, totals, None)?;
        }
        totals.last_issue += 1;
        totals.issues += 1;
        (totals.last_issue, fresh(read, event), None)
    };
    for group in groups {
        if issue.groups.len() < GROUPS_MAX && !issue.groups.contains(&group) {
            tx.put(GROUPS, &group, &id.to_be_bytes())?;
            issue.groups.push(group);
        }
    }
    count(&mut issue, event, read.received_ms);
    count_user(tx, id, &mut issue, event)?;
    keep(tx, config, totals, id, &mut issue, row)?;
    chart::count(tx, id, read.project, read.received_ms)?;
    rows::put_issue(tx, id, &issue, seen_before)?;
    while totals.events > config.max_events.max(1) && forget_least_recent(tx, totals, Some(id))? {}
    Ok(())
}

/// The issue the first of `groups` that is known leads to.
fn find(tx: &dyn WriteTx, groups: &[Vec<u8>]) -> Result<Option<(u64, IssueRow)>, IssuesError> {
    for group in groups {
        let Some(id) = tx.get(GROUPS, group)? else { continue };
        let id = rows::number(&id)?;
        if let Some(issue) = rows::issue(tx, id)? {
            return Ok(Some((id, issue)));
        }
    }
    Ok(None)
}

fn fresh(read: &Read, event: &Event) -> IssueRow {
    IssueRow {
        project: read.project,
        title: String::new(),
        culprit: String::new(),
        level: String::new(),
        platform: event.platform.clone(),
        status: Status::Open,
        first_seen_ms: read.received_ms,
        last_seen_ms: read.received_ms,
        first_release: event.release.clone(),
        last_release: String::new(),
        environment: String::new(),
        count: 0,
        kept: 0,
        users: 0,
        regressions: 0,
        tags: Vec::new(),
        groups: Vec::new(),
    }
}

/// Brings `issue` up to `event`.
fn count(issue: &mut IssueRow, event: &Event, received_ms: u64) {
    issue.title = event.title();
    issue.culprit = event.culprit();
    issue.level.clone_from(&event.level);
    issue.last_seen_ms = issue.last_seen_ms.max(received_ms);
    issue.count += 1;
    for (last, now) in [(&mut issue.last_release, &event.release), (&mut issue.environment, &event.environment)] {
        if !now.is_empty() {
            last.clone_from(now);
            shape::cut_text(last, 200);
        }
    }
    if issue.status == Status::Resolved {
        issue.status = Status::Open;
        issue.regressions += 1;
    }
    let implied = [("release", &event.release), ("environment", &event.environment), ("level", &event.level)];
    let implied = implied.iter().filter(|(_, value)| !value.is_empty());
    let tags = implied.map(|(name, value)| (*name, value.as_str()));
    for (name, value) in tags.chain(event.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))) {
        count_tag(&mut issue.tags, name, value);
    }
}

fn count_tag(tags: &mut Vec<(String, Vec<(String, u64)>)>, name: &str, value: &str) {
    let place = match tags.iter().position(|(known, _)| known == name) {
        Some(place) => place,
        None if tags.len() < TAG_NAMES_MAX => {
            tags.push((name.to_owned(), Vec::new()));
            tags.len() - 1
        }
        None => return,
    };
    let Some((_, values)) = tags.get_mut(place) else { return };
    if let Some((_, count)) = values.iter_mut().find(|(known, _)| known == value) {
        *count += 1;
    } else if values.len() < TAG_VALUES_MAX {
        values.push((value.to_owned(), 1));
    }
}

/// Counts the event's user, once for the issue. Only a hash is kept.
fn count_user(tx: &mut dyn WriteTx, id: u64, issue: &mut IssueRow, event: &Event) -> Result<(), IssuesError> {
    let Some(user) = event.user.as_ref().filter(|_| issue.users < USERS_MAX) else { return Ok(()) };
    let hash = sha256(user.as_bytes());
    let key = [&id.to_be_bytes(), hash.get(..8).unwrap_or_default()].concat();
    if tx.get(USERS, &key)?.is_none() {
        tx.put(USERS, &key, b"")?;
        issue.users += 1;
    }
    Ok(())
}

/// Keeps the event as the newest sample, and lets the one that is no longer among the newest go, unless it is the 1st,
/// 2nd, 4th, 8th …
fn keep(
    tx: &mut dyn WriteTx,
    config: &IssuesConfig,
    totals: &mut Totals,
    id: u64,
    issue: &mut IssueRow,
    row: &EventRow,
) -> Result<(), IssuesError> {
    tx.put(EVENTS, &pair(id, issue.count), &encode(row))?;
    issue.kept += 1;
    totals.events += 1;
    let newest = u64::from(config.events_per_issue.max(1));
    if let Some(old) = issue.count.checked_sub(newest).filter(|old| *old > 0 && !old.is_power_of_two())
        && tx.delete(EVENTS, &pair(id, old))?
    {
        issue.kept = issue.kept.saturating_sub(1);
        totals.events = totals.events.saturating_sub(1);
    }
    Ok(())
}

/// Removes the issue not seen for longest, `except` apart; says whether there was one.
fn forget_least_recent(tx: &mut dyn WriteTx, totals: &mut Totals, except: Option<u64>) -> Result<bool, IssuesError> {
    let Some((_, id)) = rows::least_recent(tx, except)? else { return Ok(false) };
    rows::remove_issue(tx, id, totals)?;
    Ok(true)
}
