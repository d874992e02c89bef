//! What can be asked about mail over `control.sock`.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::control::{Ask, ControlError, ask, told};
use super::status::Facts;
use crate::base::Id128;
use crate::mail::{Content, Detail, Filter, MailError, Page, Standing};

/// Most messages of one answer: each has at most a few hundred bytes.
const SHOWN: usize = 100;

/// Most bytes of a message's text, and of its raw form, in one answer: written as JSON they fit
/// [`ANSWER_LIMIT`](super::control::ANSWER_LIMIT).
const TEXT_SHOWN: usize = 64 << 10;
const RAW_SHOWN: usize = 512 << 10;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailAsk {
    /// The newest messages, all or those with a delivery that stands so.
    List {
        /// Where it stands.
        standing: Option<Standing>,
    },
    /// One message.
    Message {
        /// Its id.
        id: Id128,
    },
    /// One message's bytes, in base64.
    Raw {
        /// Its id.
        id: Id128,
    },
    /// Makes the next attempt of a message due now.
    Retry {
        /// Its id.
        id: Id128,
    },
    /// Takes a message out of the queue.
    Cancel {
        /// Its id.
        id: Id128,
    },
}

/// A message with its text, as `mainstay mail show` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MailShown {
    /// The message and its deliveries.
    #[serde(flatten)]
    pub detail: Detail,
    /// Its text.
    pub content: Content,
}

pub(super) async fn answer(facts: &Facts, ask: MailAsk) -> (Option<serde_json::Value>, Option<String>) {
    match ask {
        MailAsk::List { standing } => told(facts.outbox.list(Filter { standing, text: None }, None, SHOWN).await),
        MailAsk::Message { id } => told(shown(facts, id).await),
        MailAsk::Raw { id } => match facts.outbox.raw(id).await {
            Ok(bytes) if bytes.len() > RAW_SHOWN => {
                let bytes = bytes.len();
                let text = format!("the message has {bytes} bytes, over {RAW_SHOWN} only the console gives it out");
                (None, Some(text))
            }
            raw => told(raw.map(|bytes| BASE64_STANDARD.encode(bytes))),
        },
        MailAsk::Retry { id } => told(facts.outbox.retry(id).await),
        MailAsk::Cancel { id } => told(facts.outbox.cancel(id).await),
    }
}

async fn shown(facts: &Facts, id: Id128) -> Result<MailShown, MailError> {
    let detail = facts.outbox.detail(id).await?;
    let mut content = facts.outbox.content(id).await?;
    for text in [&mut content.text, &mut content.html].into_iter().flatten() {
        let end = text.floor_char_boundary(TEXT_SHOWN);
        content.cut |= end < text.len();
        text.truncate(end);
    }
    Ok(MailShown { detail, content })
}

/// Asks the server that runs on `folder` for its newest messages. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn list(folder: &Path, standing: Option<Standing>) -> Result<Page, ControlError> {
    ask(folder, Ask::Mail(MailAsk::List { standing }))
}

/// Asks the server that runs on `folder` for message `id`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn message(folder: &Path, id: Id128) -> Result<MailShown, ControlError> {
    ask(folder, Ask::Mail(MailAsk::Message { id }))
}

/// Asks the server that runs on `folder` for the bytes of message `id`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn raw(folder: &Path, id: Id128) -> Result<Vec<u8>, ControlError> {
    let text: String = ask(folder, Ask::Mail(MailAsk::Raw { id }))?;
    BASE64_STANDARD.decode(text).map_err(|error| ControlError::Answer(serde::de::Error::custom(error)))
}

/// Tells the server that runs on `folder` to try message `id` again now. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn retry(folder: &Path, id: Id128) -> Result<Detail, ControlError> {
    ask(folder, Ask::Mail(MailAsk::Retry { id }))
}

/// Tells the server that runs on `folder` to take message `id` out of the queue. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn cancel(folder: &Path, id: Id128) -> Result<Detail, ControlError> {
    ask(folder, Ask::Mail(MailAsk::Cancel { id }))
}
