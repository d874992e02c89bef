//! Looking at issues, and deciding about them.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Event;
use super::rows::{self, EVENTS, EventRow, IssueRow, RECEIVED, RECENT, Status, pair, unpair};
use super::service::Issues;
use super::view::EventView;
use super::{IssuesError, event};
use crate::base::{Id128, Timestamp};
use crate::store::record::decode;
use crate::store::{Direction, ReadTx, after_prefix};

/// Most issues of one page.
pub const LIST_MAX: usize = 500;

/// Most bytes of a text looked for.
pub const TEXT_MAX: usize = 200;

/// Issues looked at for one page.
const LOOKED_AT_MAX: usize = 5_000;

/// Rows read at once.
const PAGE: usize = 200;

/// Frames and events shown of an issue.
const FRAMES_SHOWN: usize = 30;
const EVENTS_SHOWN: usize = 100;

/// Which issues are wanted. The default wants the newest hundred of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Those of one status.
    pub status: Option<Status>,
    /// Those of one level.
    pub level: Option<String>,
    /// Those of one project.
    pub project: Option<u64>,
    /// Those that hold each of these words, in any case: in title, culprit, releases, environment, platform or a tag
    /// (`name:value`). At most [`TEXT_MAX`] bytes count.
    pub text: String,
    /// Those behind this place: [`Page::next`] of the page before.
    pub after: Option<Cursor>,
    /// How many, at most [`LIST_MAX`].
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { status: None, level: None, project: None, text: String::new(), after: None, limit: 100 }
    }
}

/// A place in the list of issues. Written and read back as text: `1795176000500-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the issue before it was last seen.
    seen_ms: u64,
    /// Its number.
    id: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seen_ms, self.id)
    }
}

/// A text is no [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no place in the list of issues; take `next` of the page before")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (seen, id) = text.split_once('-').ok_or(NoCursor)?;
        let number = |text: &str| text.parse().map_err(|_no_number| NoCursor);
        Ok(Self { seen_ms: number(seen)?, id: number(id)? })
    }
}

/// A page of issues, the one last seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The issues.
    pub issues: Vec<Summary>,
    /// Where the next page starts; `None` when there are no more. A page that looked at very many issues may hold few
    /// and still have a next one.
    pub next: Option<Cursor>,
}

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
    /// The newest events that are kept, newest first.
    pub events: Vec<Kept>,
}

/// An event that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number among the events of the issue, from 1 on.
    pub number: u64,
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// When it arrived, RFC 3339.
    pub received: String,
}

impl Issues {
    /// The issues `filter` wants, the one last seen first.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn list(&self, filter: Filter) -> Result<Page, IssuesError> {
        let wanted = Wanted::new(filter);
        self.0.store.read(move |tx| list(tx, &wanted)).await
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

    /// Event `number` of issue `id` in full, or the newest one.
    ///
    /// # Errors
    /// [`IssuesError::NoSuchIssue`], [`IssuesError::NoSuchEvent`], or what the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn event(&self, id: u64, number: Option<u64>) -> Result<EventView, IssuesError> {
        self.0.store.read(move |tx| view(tx, id, number)).await
    }

    /// Event `number` of issue `id` as JSON: as the SDK sent it, but trimmed and scrubbed.
    ///
    /// # Errors
    /// [`IssuesError::NoSuchEvent`], or what the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn event_json(&self, id: u64, number: u64) -> Result<Vec<u8>, IssuesError> {
        let read = self.0.store.read(move |tx| {
            let row = tx.get(EVENTS, &pair(id, number))?.ok_or(IssuesError::NoSuchEvent { id, number })?;
            Ok::<_, IssuesError>(decode::<EventRow>(&row)?.event)
        });
        read.await
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

    /// Items received from `project` by category, as of at most ten seconds ago.
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

/// A [`Filter`], ready to be held against rows.
struct Wanted {
    filter: Filter,
    /// The words looked for, in lower case.
    words: Vec<String>,
}

impl Wanted {
    fn new(mut filter: Filter) -> Self {
        filter.limit = filter.limit.clamp(1, LIST_MAX);
        super::shape::cut_text(&mut filter.text, TEXT_MAX);
        let words = filter.text.split_whitespace().map(str::to_lowercase).collect();
        Self { filter, words }
    }

    fn has(&self, row: &IssueRow) -> bool {
        self.filter.status.is_none_or(|status| row.status == status)
            && self.filter.level.as_ref().is_none_or(|level| row.level == *level)
            && self.filter.project.is_none_or(|project| row.project == project)
            && self.words.iter().all(|word| holds(row, word))
    }
}

/// Whether a text of `row` holds `word`, which is in lower case.
fn holds(row: &IssueRow, word: &str) -> bool {
    let in_text = |text: &String| text.to_lowercase().contains(word);
    let texts =
        [&row.title, &row.culprit, &row.first_release, &row.last_release, &row.environment, &row.platform, &row.level];
    let in_tag = |(name, values): &(String, Vec<(String, u64)>)| {
        values.iter().any(|(value, _)| format!("{name}:{value}").to_lowercase().contains(word))
    };
    texts.into_iter().any(in_text) || row.tags.iter().any(in_tag)
}

fn list(tx: &dyn ReadTx, wanted: &Wanted) -> Result<Page, IssuesError> {
    let mut issues = Vec::new();
    let mut end = wanted.filter.after.map(|at| pair(at.seen_ms, at.id)).map_or(Bound::Unbounded, Bound::Excluded);
    let mut looked_at = 0;
    loop {
        let page = tx.scan(RECENT, Bound::Unbounded, end.as_ref().map(Vec::as_slice), Direction::Backward, PAGE)?;
        looked_at += page.len();
        for (key, _) in &page {
            let (seen_ms, id) = unpair(key)?;
            if let Some(row) = rows::issue(tx, id)?.filter(|row| wanted.has(row)) {
                issues.push(summary(id, row));
            }
            if issues.len() >= wanted.filter.limit {
                return Ok(Page { issues, next: Some(Cursor { seen_ms, id }) });
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => {
                if looked_at >= LOOKED_AT_MAX {
                    let (seen_ms, id) = unpair(last)?;
                    return Ok(Page { issues, next: Some(Cursor { seen_ms, id }) });
                }
                end = Bound::Excluded(last.clone());
            }
            _ => return Ok(Page { issues, next: None }),
        }
    }
}

fn show(tx: &dyn ReadTx, id: u64) -> Result<Detail, IssuesError> {
    let row = rows::issue(tx, id)?.ok_or(IssuesError::NoSuchIssue { id })?;
    let kept = kept(tx, id, Bound::Unbounded, EVENTS_SHOWN)?;
    let stack = kept.first().map(|(_, newest)| stack(&newest.event)).unwrap_or_default();
    let event = |(number, event): &(u64, EventRow)| Kept {
        number: *number,
        id: Id128::from_bytes(event.event_id).to_string(),
        received: Timestamp(event.received_ms).to_string(),
    };
    let events = kept.iter().map(event).collect();
    let tags = row.tags.clone();
    Ok(Detail { issue: summary(id, row), tags, stack, events })
}

/// The newest `limit` events of issue `id` that are kept and numbered below `end`, newest first.
fn kept(tx: &dyn ReadTx, id: u64, end: Bound<u64>, limit: usize) -> Result<Vec<(u64, EventRow)>, IssuesError> {
    let prefix = id.to_be_bytes();
    let end = match end {
        Bound::Unbounded => after_prefix(&prefix),
        end => end.map(|number| pair(id, number)),
    };
    let to = end.as_ref().map(Vec::as_slice);
    let rows = tx.scan(EVENTS, Bound::Included(&prefix), to, Direction::Backward, limit)?;
    rows.iter().map(|(key, value)| Ok((unpair(key)?.1, decode(value)?))).collect()
}

fn view(tx: &dyn ReadTx, id: u64, number: Option<u64>) -> Result<EventView, IssuesError> {
    rows::issue(tx, id)?.ok_or(IssuesError::NoSuchIssue { id })?;
    let end = number.map_or(Bound::Unbounded, Bound::Included);
    let mut found = kept(tx, id, end, 2)?.into_iter();
    let newest = found.next().filter(|(at, _)| number.is_none_or(|number| *at == number));
    let (number, row) = newest.ok_or(IssuesError::NoSuchEvent { id, number: number.unwrap_or_default() })?;
    let (from, prefix_end) = (pair(id, number), after_prefix(&id.to_be_bytes()));
    let to = prefix_end.as_ref().map(Vec::as_slice);
    let newer = tx.scan(EVENTS, Bound::Excluded(&from), to, Direction::Forward, 1)?;
    let newer = newer.first().map(|(key, _)| unpair(key)).transpose()?;
    let Ok(Value::Object(fields)) = serde_json::from_slice(&row.event) else {
        return Err(IssuesError::NoSuchEvent { id, number });
    };
    Ok(EventView {
        issue: id,
        number,
        older: found.next().map(|(number, _)| number),
        newer: newer.map(|(_, number)| number),
        received: Timestamp(row.received_ms).to_string(),
        ..EventView::read(&fields)
    })
}

/// The frames of an event, innermost first, each as `function (file or module)`.
fn stack(event: &[u8]) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(event) else { return Vec::new() };
    let event = Event::read(&fields);
    let frames = event.main_exception().map_or(&[][..], |exception| &exception.frames);
    let line = |frame: &event::Frame| {
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
