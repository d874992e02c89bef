//! What the mail room refuses, and why.

use crate::store::{StoreError, record::RecordError};

/// Why a message was not taken in, or a question about messages not answered.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// A text is no e-mail address.
    #[error("`{text}` is no e-mail address: {reason}")]
    Address {
        /// The text, cut and with control characters escaped.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header field's name or value cannot be written into a message.
    #[error("the header field {name} {reason}")]
    Header {
        /// The field's name, escaped.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A message without a part it needs.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// The message is no message.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// The message is larger than allowed.
    #[error("the message has {bytes} bytes, allowed are {most}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit, setting `mail.max_message`.
        most: u64,
    },
    /// More recipients than allowed.
    #[error("the message has {count} recipients, allowed are {most}")]
    TooManyRecipients {
        /// How many.
        count: usize,
        /// The limit, setting `mail.max_recipients`.
        most: usize,
    },
    /// The queue is full.
    #[error("the mail queue holds {most} deliveries, which is its limit; try again later")]
    QueueFull {
        /// The limit, setting `mail.max_queue`.
        most: u64,
    },
    /// No such message.
    #[error("there is no message {0}")]
    NoSuchMessage(String),
    /// Nothing in a message can be done what was asked for.
    #[error("message {id} has nothing to {action}: {reason}")]
    Nothing {
        /// The message.
        id: String,
        /// `retry` or `cancel`.
        action: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A message's text is not shown while a link in it works.
    #[error("the text of message {id} is not shown as it is before {until}: the link in it works until then")]
    Masked {
        /// The message.
        id: String,
        /// Until when.
        until: crate::base::Timestamp,
    },
    /// No such part of a message.
    #[error("message {id} has no file {index}")]
    NoSuchFile {
        /// The message.
        id: String,
        /// The number asked for.
        index: usize,
    },
    /// A stored row does not decode.
    #[error("a row of table {table} does not decode: {source}")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        source: RecordError,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A template does not render.
    #[error("the template {name} does not render: {reason}")]
    Template {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// `text` for an error: at most 80 characters, control characters escaped.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        out.push('…');
    }
    out
}
