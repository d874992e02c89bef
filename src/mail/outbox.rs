//! The outbox: messages taken in, the queue of their deliveries, and what became of each.
//!
//! The life of a delivery: [`Outbox::accept`] puts it into the queue; [`Outbox::claim`] takes due ones out and marks
//! them as running; [`Outbox::finish`] records how the attempt ended, and queues the next one or ends the delivery.
//! Each step is one transaction. What a killed server leaves marked as running goes back into the queue at the next
//! start ([`Outbox::recover`]), with a note that this one may arrive twice.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::counts::{self, Happened, Standing};
use super::message::{Envelope, Message};
use super::rows::{
    BODIES, DELIVERIES, DUE, DeliveryRow, KNOWN, KnownRow, MESSAGES, MessageRow, PIECE, RUNNING, Source, State, decode,
    due_key, load, message_id, numbered, rows_of, save,
};
use super::{MailConfig, MailError, schedule};
use crate::base::{Clock, Id128, Random, Timestamp};
use crate::crypto::mac;
use crate::store::{Direction, ReadTx, Store, WriteTx};
use crate::telemetry::{Counter, Metrics};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Most messages looked at for [`Outbox::accepted_today`].
const DAY_SCAN: usize = 10_000;

/// Most characters kept of a subject as it is written in the message.
const SUBJECT_MAX: usize = 1000;

/// When the first attempt of an urgent delivery is due: ahead of everything else in the queue.
const URGENT_DUE_MS: u64 = 1;

/// A message to take in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its id, drawn by [`Outbox::fresh_id`] so that it can stand in the text.
    pub id: Id128,
    /// Who sends, who gets it.
    pub envelope: Envelope,
    /// `Received` fields to stand before the text.
    pub trace: Vec<u8>,
    /// Its text.
    pub message: Message,
    /// Through which door it came.
    pub source: Source,
    /// A name the sender gave this submission: the same name within the time messages are kept is the same message. It
    /// already carries who the sender is, so that nobody can claim another's.
    pub idempotency: Option<String>,
    /// Whether its first attempt goes ahead of everything that waits.
    pub urgent: bool,
    /// How long it is of use: given up after that, or after `mail.give_up_after` if that is shorter.
    pub useful_for: Option<Duration>,
}

/// What became of a [`Submission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message's id: the given one, or that of the first submission with the same idempotency name.
    pub id: Id128,
    /// Whether it was accepted before, so that nothing was queued now.
    pub again: bool,
}

/// A delivery to attempt now.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The message.
    pub id: Id128,
    /// Which recipient.
    pub index: u32,
    /// The envelope's sender.
    pub from: String,
    /// The recipient.
    pub to: String,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The relay took responsibility.
    Delivered(String),
    /// Kept for viewing.
    Kept,
    /// Refused for good.
    Refused(String),
    /// Not now.
    Retry(String),
    /// The relay's rate or quota is used up; says nothing about this message, so it is no attempt.
    Throttled(String),
}

/// A message with its deliveries.
#[derive(Clone, Debug)]
pub struct Record {
    /// The message's id.
    pub id: Id128,
    /// The message.
    pub message: MessageRow,
    /// Its deliveries, in the order of the recipients.
    pub deliveries: Vec<DeliveryRow>,
}

/// The outbox. Clones share it.
#[derive(Clone, Debug)]
pub struct Outbox(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    config: MailConfig,
    pub(super) arrived: Notify,
    accepted: Counter,
    repeated: Counter,
}

impl Outbox {
    /// An outbox in `store`.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: &Metrics,
        config: MailConfig,
    ) -> Self {
        let accepted = metrics.counter("mainstay_mail_accepted_total", "Messages accepted", &[]);
        let help = "Submissions recognised as ones accepted before";
        let repeated = metrics.counter("mainstay_mail_repeated_total", help, &[]);
        Self(Arc::new(Inner { store, clock, random, config, arrived: Notify::new(), accepted, repeated }))
    }

    /// The settings.
    pub fn config(&self) -> &MailConfig {
        &self.0.config
    }

    /// An id for the next message.
    pub fn fresh_id(&self) -> Id128 {
        message_id(self.0.clock.as_ref(), self.0.random.as_ref())
    }

    /// Takes a message in; it survives a power cut once this returns.
    ///
    /// # Errors
    /// [`MailError::TooLarge`], [`MailError::TooManyRecipients`], [`MailError::QueueFull`], [`MailError::Store`]: nothing
    /// was taken in, except after [`crate::store::StoreError::Unknown`], where it may have been.
    ///
    /// # Cancel safety
    /// Dropped before its end, the message may be taken in or not, as a whole.
    pub async fn accept(&self, submission: Submission) -> Result<Accepted, MailError> {
        let config = &self.0.config;
        let size = (submission.trace.len() + submission.message.bytes().len()) as u64;
        if size > config.max_message.bytes() {
            return Err(MailError::TooLarge { bytes: size, most: config.max_message.bytes() });
        }
        let count = submission.envelope.to.len();
        if count > config.max_recipients {
            return Err(MailError::TooManyRecipients { count, most: config.max_recipients });
        }
        let draft = Arc::new(self.draft(submission, size));
        let max_queue = config.max_queue;
        let accepted = self.0.store.write(move |tx| draft.write(tx, max_queue)).await?;
        if accepted.again {
            self.0.repeated.inc();
        } else {
            self.0.accepted.inc();
            self.0.arrived.notify_one();
        }
        Ok(accepted)
    }

    /// Returns once a message was accepted, at once if one was since the last call. Cancel safe.
    pub async fn arrival(&self) {
        self.0.arrived.notified().await;
    }

    /// Takes up to `most` due deliveries out of the queue for an attempt.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`]: the queue is as it was.
    ///
    /// # Cancel safety
    /// Dropped before its end, deliveries may be marked as running until the next start.
    pub async fn claim(&self, most: usize) -> Result<Vec<Claim>, MailError> {
        let now = self.0.clock.now();
        let end = due_key(now.millis().saturating_add(1), &[]);
        self.0
            .store
            .write(move |tx| {
                let due = tx.scan(DUE, Bound::Unbounded, Bound::Excluded(&end), Direction::Forward, most)?;
                due.iter().map(|(key, _)| claim(tx, key)).collect()
            })
            .await
    }

    /// When the next delivery is due; `None` with an empty queue.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn next_due(&self) -> Result<Option<Timestamp>, MailError> {
        self.0
            .store
            .read(|tx| {
                let first = tx.scan(DUE, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1)?;
                let due = first.first().and_then(|(key, _)| key.first_chunk::<8>().copied());
                Ok(due.map(|bytes| Timestamp(u64::from_be_bytes(bytes))))
            })
            .await
    }

    /// Records how the attempt of `claimed` ended.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`]: the delivery stays marked as running and is tried again after the next
    /// start.
    ///
    /// # Cancel safety
    /// Dropped before its end, the outcome may be recorded or not.
    pub async fn finish(&self, claimed: &Claim, outcome: Outcome) -> Result<State, MailError> {
        let (id, index) = (claimed.id, claimed.index);
        let now = self.0.clock.now();
        let drawn = Fixed(crate::base::random::bytes(self.0.random.as_ref()));
        self.0.store.write(move |tx| finish(tx, &id, index, &outcome, now, &drawn)).await
    }

    /// Puts deliveries that a killed server left running back into the queue; call it before the first claim. Says how
    /// many there were.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    pub async fn recover(&self) -> Result<usize, MailError> {
        let now = self.0.clock.now();
        let batch = 500;
        let mut total = 0;
        loop {
            let moved = self
                .0
                .store
                .write(move |tx| {
                    let running = tx.scan(RUNNING, Bound::Unbounded, Bound::Unbounded, Direction::Forward, batch)?;
                    for (key, _) in &running {
                        tx.delete(RUNNING, key)?;
                        let Some(mut row) = load::<DeliveryRow>(tx, DELIVERIES, key)? else { continue };
                        let before = Standing::of(&row);
                        row.due_ms = now.millis();
                        row.note(now, State::Queued, "the server ended during an attempt; this one may arrive twice");
                        counts::shift(tx, Some(before), Some(Standing::of(&row)), 1)?;
                        save(tx, DELIVERIES, key, &row)?;
                        tx.put(DUE, &due_key(row.due_ms, key), &[])?;
                    }
                    Ok::<_, MailError>(running.len())
                })
                .await?;
            total += moved;
            if moved < batch {
                return Ok(total);
            }
        }
    }

    /// The text of message `id`.
    ///
    /// # Errors
    /// [`MailError::NoSuchMessage`], [`MailError::Store`].
    pub async fn text(&self, id: Id128) -> Result<Vec<u8>, MailError> {
        self.0.store.read(move |tx| text(tx, &id)).await
    }

    /// Message `id` and its deliveries.
    ///
    /// # Errors
    /// [`MailError::NoSuchMessage`], [`MailError::Store`], [`MailError::Row`].
    pub async fn message(&self, id: Id128) -> Result<Record, MailError> {
        self.0.store.read(move |tx| record(tx, &id)).await
    }

    /// Up to `most` messages, newest first, starting below `before`.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    pub async fn messages(&self, before: Option<Id128>, most: usize) -> Result<Vec<Record>, MailError> {
        self.0
            .store
            .read(move |tx| {
                let end = before.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.as_bytes()[..]));
                let rows = tx.scan(MESSAGES, Bound::Unbounded, end, Direction::Backward, most)?;
                let ids = rows.iter().filter_map(|(key, _)| key.as_slice().try_into().ok()).map(Id128::from_bytes);
                ids.map(|id| record(tx, &id)).collect()
            })
            .await
    }

    /// Deliveries without a final state.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    pub async fn open(&self) -> Result<u64, MailError> {
        self.0.store.read(|tx| Ok(counts::load(tx)?.open())).await
    }

    /// Recipients of the messages accepted in the last 24 hours, counted up to the newest [`DAY_SCAN`] messages.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    pub async fn accepted_today(&self) -> Result<u64, MailError> {
        let since = Timestamp(self.0.clock.now().millis().saturating_sub(DAY_MS));
        self.0
            .store
            .read(move |tx| {
                let rows = tx.scan(MESSAGES, Bound::Unbounded, Bound::Unbounded, Direction::Backward, DAY_SCAN)?;
                let rows = rows.iter().map(|(_, bytes)| decode::<MessageRow>(MESSAGES, bytes));
                let mut count = 0;
                for row in rows {
                    let row = row?;
                    if row.created_ms < since.millis() {
                        break;
                    }
                    count += u64::from(row.recipients);
                }
                Ok(count)
            })
            .await
    }

    /// Forgets up to `most` messages whose last delivery ended longer ago than they are kept. Says how many.
    ///
    /// # Errors
    /// [`MailError::Store`], [`MailError::Row`].
    pub async fn forget_old(&self, most: usize) -> Result<usize, MailError> {
        let keep = self.0.config.keep.duration();
        let now = self.0.clock.now();
        self.0
            .store
            .write(move |tx| {
                // Ids sort by time of acceptance, and nothing ends before it was accepted.
                let oldest = tx.scan(MESSAGES, Bound::Unbounded, Bound::Unbounded, Direction::Forward, most)?;
                let mut gone = 0;
                for (key, bytes) in oldest {
                    let row: MessageRow = decode(MESSAGES, &bytes)?;
                    let Ok(id) = <[u8; 16]>::try_from(key.as_slice()) else { continue };
                    if row.finished_ms.is_some_and(|at| now.since(Timestamp(at)) > keep) {
                        forget(tx, &Id128::from_bytes(id), &row)?;
                        gone += 1;
                    }
                }
                counts::forget_hours(tx, now, keep, most)?;
                Ok(gone)
            })
            .await
    }

    fn draft(&self, submission: Submission, size: u64) -> Draft {
        let now = self.0.clock.now();
        let known = submission.idempotency.map(|name| mac::sha256(name.as_bytes()));
        let subject = submission.message.header("subject").unwrap_or_default();
        let text = [submission.trace.as_slice(), submission.message.bytes()].concat();
        let give_up_after = self.0.config.give_up_after.duration();
        let give_up_after = submission.useful_for.map_or(give_up_after, |useful| useful.min(give_up_after));
        let row = MessageRow {
            created_ms: now.millis(),
            source: submission.source,
            from: submission.envelope.from.to_string(),
            subject: subject.chars().take(SUBJECT_MAX).collect(),
            size,
            pieces: text.len().div_ceil(PIECE) as u32,
            recipients: submission.envelope.to.len() as u32,
            open: submission.envelope.to.len() as u32,
            give_up_ms: now.after(give_up_after).millis(),
            finished_ms: None,
            known,
        };
        let to = submission.envelope.to.iter().map(ToString::to_string).collect();
        let due_ms = if submission.urgent { URGENT_DUE_MS } else { now.millis() };
        Draft { id: submission.id, row, to, text, due_ms }
    }
}

/// A message ready to be written.
struct Draft {
    id: Id128,
    row: MessageRow,
    to: Vec<String>,
    text: Vec<u8>,
    due_ms: u64,
}

impl Draft {
    fn write(&self, tx: &mut dyn WriteTx, max_queue: u64) -> Result<Accepted, MailError> {
        if let Some(known) = &self.row.known {
            if let Some(row) = load::<KnownRow>(tx, KNOWN, known)? {
                return Ok(Accepted { id: row.id, again: true });
            }
            save(tx, KNOWN, known, &KnownRow { id: self.id, created_ms: self.row.created_ms })?;
        }
        let recipients = self.to.len() as u64;
        if counts::load(tx)?.open() + recipients > max_queue {
            return Err(MailError::QueueFull { most: max_queue });
        }
        counts::shift(tx, None, Some(Standing::Queued), recipients)?;
        counts::happened(tx, Timestamp(self.row.created_ms), Happened::Accepted, recipients)?;
        save(tx, MESSAGES, self.id.as_bytes(), &self.row)?;
        for (index, piece) in (0..).zip(self.text.chunks(PIECE)) {
            tx.put(BODIES, &numbered(&self.id, index), piece)?;
        }
        for (index, to) in (0..).zip(&self.to) {
            let key = numbered(&self.id, index);
            let due_ms = self.due_ms;
            let row = DeliveryRow { to: to.clone(), state: State::Queued, attempts: 0, due_ms, events: Vec::new() };
            save(tx, DELIVERIES, &key, &row)?;
            tx.put(DUE, &due_key(due_ms, &key), &[])?;
        }
        Ok(Accepted { id: self.id, again: false })
    }
}

fn claim(tx: &mut dyn WriteTx, due: &[u8]) -> Result<Claim, MailError> {
    let malformed = MailError::Malformed("its row in the queue has an odd length");
    let Some((_, key)) = due.split_first_chunk::<8>() else { return Err(malformed) };
    let Some((id, index)) = key.split_first_chunk::<16>() else { return Err(malformed) };
    let Ok(index) = <[u8; 4]>::try_from(index) else { return Err(malformed) };
    let id = Id128::from_bytes(*id);
    let message: MessageRow =
        load(tx, MESSAGES, id.as_bytes())?.ok_or_else(|| MailError::NoSuchMessage(id.to_string()))?;
    let mut row: DeliveryRow = load(tx, DELIVERIES, key)?.ok_or_else(|| MailError::NoSuchMessage(id.to_string()))?;
    tx.delete(DUE, due)?;
    tx.put(RUNNING, key, &[])?;
    row.due_ms = 0;
    row.state = State::Sending;
    save(tx, DELIVERIES, key, &row)?;
    Ok(Claim { id, index: u32::from_be_bytes(index), from: message.from, to: row.to })
}

fn finish(
    tx: &mut dyn WriteTx,
    id: &Id128,
    index: u32,
    outcome: &Outcome,
    now: Timestamp,
    random: &dyn Random,
) -> Result<State, MailError> {
    let key = numbered(id, index);
    let gone = || MailError::NoSuchMessage(id.to_string());
    let mut row: DeliveryRow = load(tx, DELIVERIES, &key)?.ok_or_else(gone)?;
    let mut message: MessageRow = load(tx, MESSAGES, id.as_bytes())?.ok_or_else(gone)?;
    if row.state.is_final() {
        return Ok(row.state);
    }
    tx.delete(RUNNING, &key)?;
    let before = Standing::of(&row);
    row.attempts += u32::from(!matches!(outcome, Outcome::Throttled(_)));
    let give_up = Timestamp(message.give_up_ms);
    let next = match outcome {
        Outcome::Retry(_) => schedule::next_attempt(row.attempts, now, give_up, random),
        Outcome::Throttled(_) => schedule::next_attempt(1, now, give_up, random),
        _ => None,
    };
    match (outcome, next) {
        (Outcome::Delivered(reply), _) => row.note(now, State::Delivered, reply),
        (Outcome::Kept, _) => row.note(now, State::Kept, "kept for viewing, not sent"),
        (Outcome::Refused(reply), _) => row.note(now, State::Failed, reply),
        (Outcome::Retry(reply) | Outcome::Throttled(reply), Some(_)) => row.note(now, State::Queued, reply),
        (Outcome::Retry(reply) | Outcome::Throttled(reply), None) => {
            row.note(now, State::Failed, &format!("given up: {reply}"));
        }
    }
    if let Some(next) = next {
        row.due_ms = next.millis();
        tx.put(DUE, &due_key(row.due_ms, &key), &[])?;
    } else {
        message.open = message.open.saturating_sub(1);
        if message.open == 0 {
            message.finished_ms = Some(now.millis());
        }
        save(tx, MESSAGES, id.as_bytes(), &message)?;
    }
    let after = Standing::of(&row);
    counts::shift(tx, Some(before), Some(after), 1)?;
    counts::happened(tx, now, Happened::Attempt(after), 1)?;
    save(tx, DELIVERIES, &key, &row)?;
    Ok(row.state)
}

pub(super) fn text(tx: &dyn ReadTx, id: &Id128) -> Result<Vec<u8>, MailError> {
    let pieces = rows_of(tx, BODIES, id)?;
    if pieces.is_empty() {
        return Err(MailError::NoSuchMessage(id.to_string()));
    }
    Ok(pieces.into_iter().flat_map(|(_, bytes)| bytes).collect())
}

pub(super) fn record(tx: &dyn ReadTx, id: &Id128) -> Result<Record, MailError> {
    let message = load(tx, MESSAGES, id.as_bytes())?.ok_or_else(|| MailError::NoSuchMessage(id.to_string()))?;
    let rows = rows_of(tx, DELIVERIES, id)?;
    let deliveries = rows.iter().map(|(_, bytes)| decode(DELIVERIES, bytes)).collect::<Result<_, _>>()?;
    Ok(Record { id: *id, message, deliveries })
}

fn forget(tx: &mut dyn WriteTx, id: &Id128, row: &MessageRow) -> Result<(), MailError> {
    for (_, bytes) in rows_of(tx, DELIVERIES, id)? {
        counts::shift(tx, Some(Standing::of(&decode(DELIVERIES, &bytes)?)), None, 1)?;
    }
    for table in [BODIES, DELIVERIES] {
        for (key, _) in rows_of(tx, table, id)? {
            tx.delete(table, &key)?;
        }
    }
    if let Some(known) = &row.known {
        tx.delete(KNOWN, known)?;
    }
    tx.delete(MESSAGES, id.as_bytes())?;
    Ok(())
}

/// Randomness drawn before a transaction, so that a closure that is run again decides the same.
#[derive(Debug)]
struct Fixed([u8; 8]);

impl Random for Fixed {
    fn fill(&self, target: &mut [u8]) {
        for (byte, from) in target.iter_mut().zip(self.0.iter().cycle()) {
            *byte = *from;
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
pub(super) mod tests;
