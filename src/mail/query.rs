//! Looking at messages, and deciding about them.
//!
//! The text of a message whose link lets its reader in ([`Source::Token`]) is shown masked while the link works, unless
//! the message was only kept for viewing: whoever may look at the queue is not thereby whoever it was sent to.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::MailError;
use super::content::{self, Content};
use super::counts::{self, Counts, Hour, Standing};
use super::outbox::{self, Outbox, Record};
use super::rows::{
    DELIVERIES, DUE, DeliveryRow, MESSAGES, MessageRow, RUNNING, Source, State, due_key, numbered, save,
};
use crate::base::{Id128, Timestamp};
use crate::store::{Direction, ReadTx, WriteTx};

/// Most messages of one page.
pub const PAGE_MAX: usize = 200;

/// Messages looked at for one page.
const LOOKED_AT_MAX: usize = 5_000;

/// Rows read at once.
const BATCH: usize = 200;

/// Recipients named in a list.
const TO_SHOWN: usize = 5;

/// Shortest run of a link's characters that is taken for a secret.
const SECRET_MIN: usize = 16;

/// Which messages a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Those with a delivery that stands so.
    pub standing: Option<Standing>,
    /// Those with this in subject, sender or recipient, whatever its case.
    pub text: Option<String>,
}

/// A message in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// When it was accepted, RFC 3339.
    pub created: String,
    /// Through which door it came: `SES`, `SES v2`, `SMTP` or `template`.
    pub source: String,
    /// The envelope's sender.
    pub from: String,
    /// The first recipients.
    pub to: Vec<String>,
    /// How many recipients there are.
    pub recipients: u32,
    /// The subject, decoded.
    pub subject: String,
    /// Bytes of its text.
    pub size: u64,
    /// How many of its deliveries stand how.
    pub standings: Vec<(Standing, u32)>,
    /// Most attempts of a delivery.
    pub attempts: u32,
    /// When the next attempt is due, RFC 3339; `None` when none is.
    pub next_attempt: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The messages, newest first.
    pub messages: Vec<Summary>,
    /// What to ask for the next page; `None` when there is none. A page may be short, even empty, and go on.
    pub next: Option<String>,
}

/// A message with its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The message.
    pub message: Summary,
    /// When its deliveries are given up, RFC 3339.
    pub give_up: String,
    /// When the last of its deliveries ended, RFC 3339; `None` while one is open.
    pub finished: Option<String>,
    /// Whether secrets in its text are not shown.
    pub masked: bool,
    /// Its deliveries, in the order of the recipients.
    pub deliveries: Vec<DeliveryDetail>,
}

/// One recipient's delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryDetail {
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub standing: Standing,
    /// Whether an attempt is under way.
    pub sending: bool,
    /// Attempts that ended.
    pub attempts: u32,
    /// When the next attempt is due, RFC 3339; `None` when none is.
    pub next_attempt: Option<String>,
    /// What happened, oldest first.
    pub events: Vec<EventDetail>,
}

/// Something that happened to a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDetail {
    /// When, RFC 3339.
    pub at: String,
    /// The state it led to.
    pub state: String,
    /// What the relay answered, or why.
    pub note: String,
}

impl Outbox {
    /// Up to `most` (at most [`PAGE_MAX`]) messages that `filter` lets through, newest first, from below `before` on.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn list(&self, filter: Filter, before: Option<Id128>, most: usize) -> Result<Page, MailError> {
        let most = most.clamp(1, PAGE_MAX);
        self.0.store.read(move |tx| list(tx, &filter, before, most)).await
    }

    /// Message `id` with its deliveries and what happened to them.
    ///
    /// # Errors
    /// [`MailError::NoSuchMessage`], [`MailError::Store`], [`MailError::Row`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn detail(&self, id: Id128) -> Result<Detail, MailError> {
        let now = self.0.clock.now();
        let record = self.message(id).await?;
        Ok(detail(&record, now))
    }

    /// Message `id` decoded, secrets in it masked where they must be.
    ///
    /// # Errors
    /// [`MailError::NoSuchMessage`], [`MailError::Store`], [`MailError::Row`], [`MailError::Malformed`] when the server
    /// stops.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn content(&self, id: Id128) -> Result<Content, MailError> {
        let hidden = masked(&self.message(id).await?, self.0.clock.now());
        let text = self.text(id).await?;
        let mut content = blocking(move || content::read(&text)).await?;
        if hidden {
            content.text = content.text.map(|text| mask(&text));
            content.html = content.html.map(|html| mask(&html));
        }
        Ok(content)
    }

    /// The bytes of message `id`.
    ///
    /// # Errors
    /// [`MailError::Masked`] while a link in it works, [`MailError::NoSuchMessage`], [`MailError::Store`],
    /// [`MailError::Row`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn raw(&self, id: Id128) -> Result<Vec<u8>, MailError> {
        let record = self.message(id).await?;
        if masked(&record, self.0.clock.now()) {
            return Err(MailError::Masked { id: id.to_string(), until: Timestamp(record.message.give_up_ms) });
        }
        self.text(id).await
    }

    /// File `index` of message `id`: its name, the media type it claims, its bytes.
    ///
    /// # Errors
    /// [`MailError::NoSuchFile`], and those of [`Outbox::raw`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn file(&self, id: Id128, index: usize) -> Result<(String, String, Vec<u8>), MailError> {
        let text = self.raw(id).await?;
        let file = blocking(move || content::file(&text, index)).await?;
        file.ok_or_else(|| MailError::NoSuchFile { id: id.to_string(), index })
    }

    /// Deliveries by where they stand.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn counts(&self) -> Result<Counts, MailError> {
        self.0.store.read(|tx| counts::load(tx)).await
    }

    /// What happened in each of the last `hours` (at most [`counts::HOURS_MAX`]) hours, oldest first.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn hours(&self, hours: u64) -> Result<Vec<Hour>, MailError> {
        let now = self.0.clock.now();
        self.0.store.read(move |tx| counts::last_hours(tx, now, hours)).await
    }

    /// Makes the next attempt of message `id` due now: of every delivery that waits, failed or was cancelled.
    ///
    /// # Errors
    /// [`MailError::Nothing`] when no delivery is one of these, or the link in it works no more;
    /// [`MailError::NoSuchMessage`], [`MailError::Store`], [`MailError::Row`]: nothing has changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be done or not.
    pub async fn retry(&self, id: Id128) -> Result<Detail, MailError> {
        let now = self.0.clock.now();
        let give_up = now.after(self.config().give_up_after.duration());
        let done = self.0.store.write(move |tx| retry(tx, &id, now, give_up)).await?;
        self.0.arrived.notify_one();
        Ok(done)
    }

    /// Takes the deliveries of message `id` that wait out of the queue. An attempt under way is not stopped.
    ///
    /// # Errors
    /// [`MailError::Nothing`] when none waits; [`MailError::NoSuchMessage`], [`MailError::Store`], [`MailError::Row`]:
    /// nothing has changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be done or not.
    pub async fn cancel(&self, id: Id128) -> Result<Detail, MailError> {
        let now = self.0.clock.now();
        self.0.store.write(move |tx| cancel(tx, &id, now)).await
    }
}

fn list(tx: &dyn ReadTx, filter: &Filter, before: Option<Id128>, most: usize) -> Result<Page, MailError> {
    let mut walk = if filter.standing.is_some_and(Standing::is_open) {
        Walk::queue(tx, before)?
    } else {
        Walk { ids: Vec::new(), before, rest: true }
    };
    let mut page = Page { messages: Vec::new(), next: None };
    for _ in 0..LOOKED_AT_MAX {
        let Some(id) = walk.next(tx)? else {
            page.next = None;
            return Ok(page);
        };
        // A message of the queue may have gone since; the queue and the message are read in one view, so it has not.
        let record = outbox::record(tx, &id)?;
        let listed = summary(&record);
        if passes(filter, &listed, &record) {
            page.messages.push(listed);
        }
        page.next = Some(id.to_string());
        if page.messages.len() >= most {
            break;
        }
    }
    if walk.next(tx)?.is_none() {
        page.next = None;
    }
    Ok(page)
}

/// Ids of messages, newest first.
struct Walk {
    /// The next ones, the very next last.
    ids: Vec<Id128>,
    before: Option<Id128>,
    /// Whether there may be more in the table of messages.
    rest: bool,
}

impl Walk {
    /// The messages with a delivery in the queue; `mail.max_queue` bounds them.
    fn queue(tx: &dyn ReadTx, before: Option<Id128>) -> Result<Self, MailError> {
        let mut ids = BTreeSet::new();
        for (table, skip) in [(DUE, 8), (RUNNING, 0)] {
            for (key, _) in tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)? {
                let id = key.get(skip..).and_then(|key| key.first_chunk::<16>().copied()).map(Id128::from_bytes);
                ids.extend(id.filter(|id| before.is_none_or(|before| *id < before)));
            }
        }
        Ok(Self { ids: ids.into_iter().collect(), before, rest: false })
    }

    fn next(&mut self, tx: &dyn ReadTx) -> Result<Option<Id128>, MailError> {
        if self.ids.is_empty() && self.rest {
            let end = self.before.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.as_bytes()[..]));
            let rows = tx.scan(MESSAGES, Bound::Unbounded, end, Direction::Backward, BATCH)?;
            self.rest = rows.len() == BATCH;
            self.ids = rows
                .iter()
                .rev()
                .filter_map(|(key, _)| key.as_slice().try_into().ok())
                .map(Id128::from_bytes)
                .collect();
            self.before = self.ids.first().copied();
        }
        Ok(self.ids.pop())
    }
}

fn passes(filter: &Filter, listed: &Summary, record: &Record) -> bool {
    let stands = filter.standing.is_none_or(|wanted| listed.standings.iter().any(|(standing, _)| *standing == wanted));
    let has = |wanted: &String| {
        let wanted = wanted.to_lowercase();
        let mut texts = [&listed.subject, &listed.from].into_iter().chain(record.deliveries.iter().map(|row| &row.to));
        texts.any(|text| text.to_lowercase().contains(&wanted))
    };
    stands && filter.text.as_ref().filter(|text| !text.is_empty()).is_none_or(has)
}

fn summary(record: &Record) -> Summary {
    let Record { id, message, deliveries } = record;
    let mut standings: Vec<(Standing, u32)> = Vec::new();
    for standing in Standing::ALL {
        let count = deliveries.iter().filter(|row| Standing::of(row) == standing).count() as u32;
        if count > 0 {
            standings.push((standing, count));
        }
    }
    Summary {
        id: id.to_string(),
        created: Timestamp(message.created_ms).to_string(),
        source: message.source.name().to_owned(),
        from: message.from.clone(),
        to: deliveries.iter().take(TO_SHOWN).map(|row| row.to.clone()).collect(),
        recipients: message.recipients,
        subject: content::subject(&message.subject),
        size: message.size,
        standings,
        attempts: deliveries.iter().map(|row| row.attempts).max().unwrap_or(0),
        next_attempt: deliveries.iter().filter_map(|row| due(row, message)).min().map(|at| at.to_string()),
    }
}

/// When the next attempt is due; an urgent one is due since its message was accepted.
fn due(row: &DeliveryRow, message: &MessageRow) -> Option<Timestamp> {
    (row.state == State::Queued).then(|| Timestamp(row.due_ms.max(message.created_ms)))
}

fn detail(record: &Record, now: Timestamp) -> Detail {
    let delivery = |row: &DeliveryRow| DeliveryDetail {
        to: row.to.clone(),
        standing: Standing::of(row),
        sending: row.state == State::Sending,
        attempts: row.attempts,
        next_attempt: due(row, &record.message).map(|at| at.to_string()),
        events: row
            .events
            .iter()
            .map(|event| EventDetail {
                at: Timestamp(event.at_ms).to_string(),
                state: event.state.name().to_owned(),
                note: event.note.clone(),
            })
            .collect(),
    };
    Detail {
        message: summary(record),
        give_up: Timestamp(record.message.give_up_ms).to_string(),
        finished: record.message.finished_ms.map(|at| Timestamp(at).to_string()),
        masked: masked(record, now),
        deliveries: record.deliveries.iter().map(delivery).collect(),
    }
}

fn retry(tx: &mut dyn WriteTx, id: &Id128, now: Timestamp, give_up: Timestamp) -> Result<Detail, MailError> {
    let mut record = outbox::record(tx, id)?;
    let nothing = |reason| MailError::Nothing { id: id.to_string(), action: "retry", reason };
    if record.message.source == Source::Token {
        if record.message.give_up_ms <= now.millis() {
            return Err(nothing("the link in it works no more; ask for a new one"));
        }
    } else {
        record.message.give_up_ms = record.message.give_up_ms.max(give_up.millis());
    }
    let mut done = false;
    for (index, row) in (0..).zip(&mut record.deliveries) {
        let key = numbered(id, index);
        let before = Standing::of(row);
        match row.state {
            State::Queued => {
                tx.delete(DUE, &due_key(row.due_ms, &key))?;
            }
            State::Failed | State::Cancelled => {
                record.message.open += 1;
                record.message.finished_ms = None;
            }
            State::Sending | State::Delivered | State::Kept => continue,
        }
        row.due_ms = now.millis();
        row.note(now, State::Queued, "tried again by hand");
        tx.put(DUE, &due_key(row.due_ms, &key), &[])?;
        counts::shift(tx, Some(before), Some(Standing::of(row)), 1)?;
        save(tx, DELIVERIES, &key, row)?;
        done = true;
    }
    if !done {
        return Err(nothing("every delivery is under way, sent or kept"));
    }
    save(tx, MESSAGES, id.as_bytes(), &record.message)?;
    Ok(detail(&record, now))
}

fn cancel(tx: &mut dyn WriteTx, id: &Id128, now: Timestamp) -> Result<Detail, MailError> {
    let mut record = outbox::record(tx, id)?;
    let mut done = false;
    for (index, row) in (0..).zip(&mut record.deliveries) {
        if row.state != State::Queued {
            continue;
        }
        let key = numbered(id, index);
        let before = Standing::of(row);
        tx.delete(DUE, &due_key(row.due_ms, &key))?;
        row.due_ms = 0;
        row.note(now, State::Cancelled, "cancelled by hand");
        counts::shift(tx, Some(before), Some(Standing::Cancelled), 1)?;
        save(tx, DELIVERIES, &key, row)?;
        record.message.open = record.message.open.saturating_sub(1);
        done = true;
    }
    if !done {
        let reason = "no delivery waits in the queue";
        return Err(MailError::Nothing { id: id.to_string(), action: "cancel", reason });
    }
    if record.message.open == 0 {
        record.message.finished_ms = Some(now.millis());
    }
    save(tx, MESSAGES, id.as_bytes(), &record.message)?;
    Ok(detail(&record, now))
}

fn masked(record: &Record, now: Timestamp) -> bool {
    let kept = record.deliveries.iter().all(|row| row.state == State::Kept);
    record.message.source == Source::Token && !kept && now.millis() < record.message.give_up_ms
}

/// `text` with every long run of the characters secrets are written in replaced, where it stands in a link.
fn mask(text: &str) -> String {
    let secret = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '~' | '.' | '%');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, link) = rest.split_at(at + 3);
        out.push_str(before);
        let host = link.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace()).unwrap_or(link.len());
        let (host, mut path) = link.split_at(host);
        out.push_str(host);
        while let Some(first) = path.chars().next().filter(|c| !c.is_whitespace() && !"\"'<>".contains(*c)) {
            let run = path.find(|c| !secret(c)).unwrap_or(path.len());
            let run = if run == 0 { first.len_utf8() } else { run };
            let (piece, after) = path.split_at(run);
            out.push_str(if run >= SECRET_MIN { "•••" } else { piece });
            path = after;
        }
        rest = path;
    }
    out.push_str(rest);
    out
}

async fn blocking<T: Send + 'static>(op: impl FnOnce() -> T + Send + 'static) -> Result<T, MailError> {
    tokio::task::spawn_blocking(op).await.map_err(|_stopping| MailError::Malformed("it was not read: the server stops"))
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
