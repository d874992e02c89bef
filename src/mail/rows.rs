//! What mail stores, in `state.redb`. All numbers in keys are big endian; values are records (version byte, postcard).
//!
//! | table | key | value |
//! |---|---|---|
//! | `mail.messages` | message id (16: 6 bytes of milliseconds, 10 random) | [`MessageRow`] |
//! | `mail.bodies` | message id ‖ piece (4) | up to [`PIECE`] bytes of the message's text |
//! | `mail.deliveries` | message id ‖ recipient (4) | [`DeliveryRow`] |
//! | `mail.due` | due time in ms (8) ‖ message id ‖ recipient (4) | empty; the queue in order |
//! | `mail.running` | message id ‖ recipient (4) | empty; an attempt is under way |
//! | `mail.known` | SHA-256 of the sender's idempotency key (32) | [`KnownRow`] |
//! | `mail.counts` | `standing` | [`Counts`]: deliveries by where they stand |
//! | `mail.hours` | hour since the epoch (8) | [`HourRow`]: what happened in it |
//!
//! A delivery without a final state stands in exactly one of `mail.due` and `mail.running`.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::MailError;
use crate::base::{Clock, Id128, Random, Timestamp, random};
use crate::store::record::{self, Record};
use crate::store::{Direction, ReadTx, Row, Table, WriteTx, after_prefix};

/// Bytes of a message's text in one row.
pub const PIECE: usize = 512 << 10;

pub(super) const MESSAGES: Table = Table::new("mail.messages");
pub(super) const BODIES: Table = Table::new("mail.bodies");
pub(super) const DELIVERIES: Table = Table::new("mail.deliveries");
pub(super) const DUE: Table = Table::new("mail.due");
pub(super) const RUNNING: Table = Table::new("mail.running");
pub(super) const KNOWN: Table = Table::new("mail.known");
pub(super) const COUNTS: Table = Table::new("mail.counts");
pub(super) const HOURS: Table = Table::new("mail.hours");

/// Most events kept of one delivery; the first one and the latest others stay.
const EVENTS_MAX: usize = 20;

/// Most characters kept of a relay's answer.
const REPLY_MAX: usize = 400;

/// Through which door a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// SES, the query interface of 2010.
    Ses,
    /// SES v2.
    SesV2,
    /// SMTP submission.
    Smtp,
    /// One of Mainstay's own templates.
    Template,
    /// One of Mainstay's own templates whose link works once and for a time, so that its text is shown masked.
    Token,
}

impl Source {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ses => "SES",
            Self::SesV2 => "SES v2",
            Self::Smtp => "SMTP",
            Self::Template | Self::Token => "template",
        }
    }
}

/// A message, apart from its text and its deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageRow {
    /// When it was accepted, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Through which door.
    pub source: Source,
    /// The envelope's sender.
    pub from: String,
    /// The `Subject` field, not decoded.
    pub subject: String,
    /// Bytes of its text.
    pub size: u64,
    /// Rows of its text.
    pub pieces: u32,
    /// Recipients.
    pub recipients: u32,
    /// Recipients without a final state.
    pub open: u32,
    /// When its deliveries are given up.
    pub give_up_ms: u64,
    /// When the last delivery got its final state.
    pub finished_ms: Option<u64>,
    /// Hash of its idempotency key, for removing both together.
    pub known: Option<[u8; 32]>,
}

impl Record for MessageRow {
    const VERSION: u8 = 1;
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Waits for its next attempt.
    Queued,
    /// An attempt is under way.
    Sending,
    /// The relay took it. Final.
    Delivered,
    /// Refused for good, or given up. Final.
    Failed,
    /// Kept for viewing by the development transport. Final.
    Kept,
    /// Taken out of the queue by hand. Final.
    Cancelled,
}

impl State {
    /// Whether nothing will happen any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Kept | Self::Cancelled)
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Kept => "kept",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Something that happened to a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The state it led to.
    pub state: State,
    /// What the relay answered, or why.
    pub note: String,
}

/// One recipient of one message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliveryRow {
    /// The recipient.
    pub to: String,
    /// Where it stands.
    pub state: State,
    /// Attempts that ended.
    pub attempts: u32,
    /// When the next attempt is due; 0 when none is.
    pub due_ms: u64,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

impl Record for DeliveryRow {
    const VERSION: u8 = 1;
}

impl DeliveryRow {
    /// Moves the delivery to `state` and remembers why; the note is cut and freed of control characters.
    pub fn note(&mut self, at: Timestamp, state: State, note: &str) {
        let note = note.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REPLY_MAX).collect();
        self.state = state;
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(1);
        }
        self.events.push(Event { at_ms: at.millis(), state, note });
    }
}

/// The message an idempotency key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownRow {
    /// The message.
    pub id: Id128,
    /// When it was accepted, in milliseconds since the epoch.
    pub created_ms: u64,
}

impl Record for KnownRow {
    const VERSION: u8 = 1;
}

/// A fresh message id; ids of later milliseconds sort later.
pub fn message_id(clock: &dyn Clock, random: &dyn Random) -> Id128 {
    let mut bytes: [u8; 16] = random::bytes(random);
    let [_, _, millis @ ..] = &clock.now().millis().to_be_bytes();
    bytes[..6].copy_from_slice(millis);
    Id128::from_bytes(bytes)
}

/// The key of recipient or piece `index` of message `id`.
pub(super) fn numbered(id: &Id128, index: u32) -> Vec<u8> {
    [&id.as_bytes()[..], &index.to_be_bytes()].concat()
}

/// The key of a delivery in the queue.
pub(super) fn due_key(due_ms: u64, delivery: &[u8]) -> Vec<u8> {
    [&due_ms.to_be_bytes()[..], delivery].concat()
}

/// The record at `key`, if there is one.
pub(super) fn load<T: Record>(tx: &dyn ReadTx, table: Table, key: &[u8]) -> Result<Option<T>, MailError> {
    tx.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

pub(super) fn decode<T: Record>(table: Table, bytes: &[u8]) -> Result<T, MailError> {
    record::decode(bytes).map_err(|source| MailError::Row { table: table.name(), source })
}

pub(super) fn save<T: Record>(tx: &mut dyn WriteTx, table: Table, key: &[u8], row: &T) -> Result<(), MailError> {
    Ok(tx.put(table, key, &record::encode(row))?)
}

/// Every row of `table` whose key starts with `id`; there are at most as many as recipients or pieces.
pub(super) fn rows_of(tx: &dyn ReadTx, table: Table, id: &Id128) -> Result<Vec<Row>, MailError> {
    let prefix = &id.as_bytes()[..];
    let end = after_prefix(prefix);
    let end = end.as_ref().map(Vec::as_slice);
    Ok(tx.scan(table, Bound::Included(prefix), end, Direction::Forward, usize::MAX)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestClock, TestRandom};

    #[test]
    fn ids_of_later_milliseconds_sort_later() {
        let (clock, random) = (TestClock::default(), TestRandom::new(1));
        let first = message_id(&clock, &random);
        clock.advance(std::time::Duration::from_millis(1));
        assert!(first < message_id(&clock, &random));
    }

    #[test]
    fn history_is_bounded_and_clean_and_keeps_its_beginning() {
        let mut row = DeliveryRow {
            to: "a@example.com".to_owned(),
            state: State::Queued,
            attempts: 0,
            due_ms: 0,
            events: vec![],
        };
        for at in 0..50 {
            row.note(Timestamp(at), State::Queued, &format!("try {at}\r\n{}", "x".repeat(1000)));
        }
        assert_eq!((row.events.len(), row.events[0].at_ms, row.events[EVENTS_MAX - 1].at_ms), (EVENTS_MAX, 0, 49));
        assert!(row.events.iter().all(|event| event.note.len() == REPLY_MAX && !event.note.contains('\n')));
    }
}
