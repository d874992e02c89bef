//! Looking at issues, and deciding about them.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::IssuesError;
use super::event::Event;
use super::rows::{self, EVENTS, EventRow, IssueRow, RECEIVED, RECENT, Status, unpair};
use super::service::Issues;
use crate::base::{Id128, Timestamp};
use crate::store::record::decode;
use crate::store::{Direction, ReadTx, after_prefix};

/// Most issues of one list.
pub const LIST_MAX: usize = 500;

/// Issues looked at for one list.
const LOOKED_AT_MAX: usize = 5_000;

/// Rows read at once.
const PAGE: usize = 200;

/// Frames and events shown of an issue.
const FRAMES_SHOWN: usize = 30;
const EVENTS_SHOWN: usize = 20;

/// An issue in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its number.
    pub id: u64,
    /// The project.
    pub project: u64,
    /// `Type: value` or the message.
    pub title: String,
    /// Where it happens.
    pub culprit: String,
    /// `fatal`, `error`, `warning`, `info` or `debug`.
    pub level: String,
    /// The language or runtime.
    pub platform: String,
    /// Where it stands.
    pub status: Status,
    /// Events so far.
    pub count: u64,
    /// Users affected; counted up to [`super::digest::USERS_MAX`].
    pub users: u32,
    /// When it was first seen, RFC 3339.
    pub first_seen: String,
    /// When it was last seen, RFC 3339.
    pub last_seen: String,
    /// The release it was first seen in; empty if none was told.
    pub first_release: String,
    /// The release it was last seen in; empty if none was told.
    pub last_release: String,
    /// The environment it was last seen in; empty if none was told.
    pub environment: String,
    /// How often it came back after it was resolved.
    pub regressions: u32,
}

/// An issue with what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The issue.
    pub issue: Summary,
    /// Each tag's values with their counts.
    pub tags: Vec<(String, Vec<(String, u64)>)>,
    /// Frames of the newest event, innermost first.
    pub stack: Vec<String>,
    /// Ids and times of the newest events that are kept, newest first.
    pub events: Vec<(String, String)>,
}

impl Issues {
    /// The newest `limit` (at most [`LIST_MAX`]) issues by when they were last seen; those of one `status`, or all.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn list(&self, status: Option<Status>, limit: usize) -> Result<Vec<Summary>, IssuesError> {
        let limit = limit.min(LIST_MAX);
        self.0.store.read(move |tx| list(tx, status, limit)).await
    }

    /// Issue `id`.
    ///
    /// # Errors
    /// [`IssuesError::NoSuchIssue`], or what the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn show(&self, id: u64) -> Result<Detail, IssuesError> {
        self.0.store.read(move |tx| show(tx, id)).await
    }

    /// Sets where issue `id` stands.
    ///
    /// # Errors
    /// [`IssuesError::NoSuchIssue`], or what the store says.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be set or not.
    pub async fn set_status(&self, id: u64, status: Status) -> Result<Summary, IssuesError> {
        let set = self.0.store.write(move |tx| {
            let mut row = rows::issue(tx, id)?.ok_or(IssuesError::NoSuchIssue { id })?;
            row.status = status;
            rows::put_issue(tx, id, &row, Some(row.last_seen_ms))?;
            Ok::<Summary, IssuesError>(summary(id, row))
        });
        set.await
    }

    /// Items received from `project` by category, as of at most a minute ago.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn received(&self, project: u64) -> Result<Vec<(String, u64)>, IssuesError> {
        let read = self.0.store.read(move |tx| {
            let (prefix, end) = (project.to_be_bytes(), after_prefix(&project.to_be_bytes()));
            let to = end.as_ref().map(Vec::as_slice);
            let found = tx.scan(RECEIVED, Bound::Included(&prefix), to, Direction::Forward, PAGE)?;
            let name = |key: &[u8]| String::from_utf8_lossy(key.get(8..).unwrap_or_default()).into_owned();
            found.iter().map(|(key, value)| Ok::<_, IssuesError>((name(key), rows::number(value)?))).collect()
        });
        read.await
    }
}

fn list(tx: &dyn ReadTx, status: Option<Status>, limit: usize) -> Result<Vec<Summary>, IssuesError> {
    let mut out = Vec::new();
    let mut end = Bound::Unbounded;
    let mut looked_at = 0;
    while looked_at < LOOKED_AT_MAX {
        let page = tx.scan(RECENT, Bound::Unbounded, end.as_ref().map(Vec::as_slice), Direction::Backward, PAGE)?;
        looked_at += page.len();
        for (key, _) in &page {
            let (_, id) = unpair(key)?;
            if let Some(row) = rows::issue(tx, id)?.filter(|row| status.is_none_or(|status| row.status == status)) {
                out.push(summary(id, row));
            }
            if out.len() >= limit {
                return Ok(out);
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => end = Bound::Excluded(last.clone()),
            _ => break,
        }
    }
    Ok(out)
}

fn show(tx: &dyn ReadTx, id: u64) -> Result<Detail, IssuesError> {
    let row = rows::issue(tx, id)?.ok_or(IssuesError::NoSuchIssue { id })?;
    let (prefix, end) = (id.to_be_bytes(), after_prefix(&id.to_be_bytes()));
    let to = end.as_ref().map(Vec::as_slice);
    let kept = tx.scan(EVENTS, Bound::Included(&prefix), to, Direction::Backward, EVENTS_SHOWN)?;
    let kept = kept.iter().map(|(_, value)| decode(value)).collect::<Result<Vec<EventRow>, _>>()?;
    let stack = kept.first().map(|newest| stack(&newest.event)).unwrap_or_default();
    let event =
        |event: &EventRow| (Id128::from_bytes(event.event_id).to_string(), Timestamp(event.received_ms).to_string());
    let events = kept.iter().map(event).collect();
    let tags = row.tags.clone();
    Ok(Detail { issue: summary(id, row), tags, stack, events })
}

/// The frames of an event, innermost first, each as `function (file or module)`.
fn stack(event: &[u8]) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(event) else { return Vec::new() };
    let event = Event::read(&fields);
    let frames = event.main_exception().map_or(&[][..], |exception| &exception.frames);
    let line = |frame: &super::event::Frame| {
        let place = if frame.file.is_empty() { &frame.module } else { &frame.file };
        let function = if frame.function.is_empty() { "?" } else { &frame.function };
        format!("{function} ({place}){}", if frame.in_app { "" } else { " [library]" })
    };
    frames.iter().rev().take(FRAMES_SHOWN).map(line).collect()
}

fn summary(id: u64, row: IssueRow) -> Summary {
    Summary {
        id,
        project: row.project,
        title: row.title,
        culprit: row.culprit,
        level: row.level,
        platform: row.platform,
        status: row.status,
        count: row.count,
        users: row.users,
        first_seen: Timestamp(row.first_seen_ms).to_string(),
        last_seen: Timestamp(row.last_seen_ms).to_string(),
        first_release: row.first_release,
        last_release: row.last_release,
        environment: row.environment,
        regressions: row.regressions,
    }
}
