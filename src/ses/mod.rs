//! The SES door: Amazon's Simple Email Service as its SDKs speak it, into the outbox.
//!
//! Two protocols under one path, `/ses`: the query interface of 2010 (`POST /ses/`, form in, XML out; [`query_api`]) and
//! v2 (`/ses/v2/email/…`, JSON; [`rest_api`]). Actions beyond sending and the account's quota answer with the
//! protocol's own unknown-operation error.
//!
//! Every request is signed (Signature Version 4, service `ses`) and answered after the message is synced. A retry of the
//! SDKs carries the same `amz-sdk-invocation-id`, by which it is recognised: one mail, the same message id.
//!
//! Start reading at [`Door::router`].

mod error;
mod form;
mod gate;
mod query_api;
mod rest_api;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::{get, post};

use crate::accounts::AccessKeys;
use crate::bans::Bans;
use crate::base::{Clock, Id128};
use crate::http::{Body, Peer};
use crate::mail::compose::Parts;
use crate::mail::message::{self, Envelope, LineEnds, Message};
use crate::mail::{MailError, Outbox, Source, Submission, address};
use crate::telemetry::{Counter, Metrics};

use error::SesError;
use gate::Verified;

/// The daily quota clients are told: none (SES API reference, `GetSendQuota`: -1 is unlimited).
const UNLIMITED: f64 = -1.0;

/// Messages a second clients are told they may send: what the queue takes on a slow disk with room to spare.
const RATE: f64 = 100.0;

/// The SES door.
#[derive(Debug)]
pub struct Door {
    outbox: Outbox,
    keys: Arc<AccessKeys>,
    clock: Arc<dyn Clock>,
    region: String,
    host: String,
    bans: Bans,
    accepted: Counter,
    refused: Counter,
}

/// Text of a message: parts to compose, or all of it.
enum Content {
    Parts(Box<Parts>),
    Raw {
        text: Vec<u8>,
        /// Empty: those of the header fields `To`, `Cc` and `Bcc`.
        to: Vec<lettre::Address>,
        /// `None`: that of the header field `From`.
        from: Option<lettre::Address>,
    },
}

impl Door {
    /// A door into `outbox` for the holders of `keys`; `region` is the one their signatures name, `host` stands in
    /// message ids; `bans` hears of wrong signatures.
    pub fn new(
        outbox: Outbox,
        keys: Arc<AccessKeys>,
        clock: Arc<dyn Clock>,
        region: String,
        host: String,
        bans: Bans,
        metrics: &Metrics,
    ) -> Self {
        let accepted = metrics.counter("mainstay_ses_messages_total", "Messages taken in over SES", &[]);
        let refused = metrics.counter("mainstay_ses_refused_total", "SES requests refused", &[]);
        Self { outbox, keys, clock, region, host, bans, accepted, refused }
    }

    /// The door's routes, to be merged into the router of its listener; paths are part of what clients sign.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/ses", post(query))
            .route("/ses/", post(query))
            .route("/ses/v2/email/outbound-emails", post(send_v2))
            .route("/ses/v2/email/account", get(account_v2))
            .route("/ses/v2/{*rest}", axum::routing::any(unknown_v2))
            .with_state(self)
    }

    async fn submit(&self, who: &Verified, peer: Peer, source: Source, content: Content) -> Result<Id128, SesError> {
        let accepted = self.outbox.accept(self.submission(who, peer, source, content)?).await?;
        self.accepted.inc();
        Ok(accepted.id)
    }

    fn submission(
        &self,
        who: &Verified,
        peer: Peer,
        source: Source,
        content: Content,
    ) -> Result<Submission, MailError> {
        let (id, now) = (self.outbox.fresh_id(), self.clock.now());
        let name = id.to_string();
        let (envelope, message) = match content {
            Content::Parts(parts) => (parts.envelope()?, parts.message(now, &name, &self.host)?),
            Content::Raw { text, to, from } => {
                let message = Message::parse(&text, LineEnds::Lenient, now, &name, &self.host)?;
                (raw_envelope(&text, &message, to, from)?, message)
            }
        };
        let trace = message::received(peer.address.ip(), &self.host, "HTTP", &name, now);
        let idempotency = who.idempotency();
        Ok(Submission { id, envelope, trace, message, source, idempotency, urgent: false, useful_for: None })
    }
}

/// Sender and recipients of a raw message: as given, else from its header fields.
fn raw_envelope(
    text: &[u8],
    message: &Message,
    to: Vec<lettre::Address>,
    from: Option<lettre::Address>,
) -> Result<Envelope, MailError> {
    let from = match from {
        Some(from) => from,
        None => address::mailbox(&message.header("From").ok_or(MailError::Missing("From field"))?)?.email,
    };
    let mut unique: Vec<lettre::Address> = Vec::new();
    let listed = if to.is_empty() { recipients_of(text)? } else { to };
    for recipient in listed {
        if !unique.contains(&recipient) {
            unique.push(recipient);
        }
    }
    if unique.is_empty() { Err(MailError::Missing("recipient")) } else { Ok(Envelope { from, to: unique }) }
}

/// The addresses in `To`, `Cc` and `Bcc` of a message as it arrived (`Bcc` is gone from what is sent on).
fn recipients_of(text: &[u8]) -> Result<Vec<lettre::Address>, MailError> {
    let head = String::from_utf8_lossy(text).replace("\r\n", "\n");
    let head = head.split("\n\n").next().unwrap_or_default().replace("\n ", " ").replace("\n\t", " ");
    let mut out = Vec::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        if ["to", "cc", "bcc"].iter().any(|field| name.trim_end().eq_ignore_ascii_case(field)) {
            out.extend(address::addresses(value)?);
        }
    }
    Ok(out)
}

async fn query(State(door): State<Arc<Door>>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    let answer = async {
        let (who, body) = gate::verify(&door, request).await?;
        query_api::answer(&door, &who, peer, &body).await
    };
    answer.await.unwrap_or_else(|error: SesError| {
        door.refused.inc();
        error.into_xml()
    })
}

async fn send_v2(State(door): State<Arc<Door>>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    let answer = async {
        let (who, body) = gate::verify(&door, request).await?;
        rest_api::send(&door, &who, peer, &body).await
    };
    answer.await.unwrap_or_else(|error| refuse_json(&door, &error))
}

async fn account_v2(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = async {
        gate::verify(&door, request).await?;
        rest_api::account(&door).await
    };
    answer.await.unwrap_or_else(|error: SesError| refuse_json(&door, &error))
}

async fn unknown_v2(State(door): State<Arc<Door>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let error = match gate::verify(&door, request).await {
        Ok(_) => SesError::UnknownOperation(path),
        Err(error) => error,
    };
    refuse_json(&door, &error)
}

fn refuse_json(door: &Door, error: &SesError) -> Response<Body> {
    door.refused.inc();
    error.to_json()
}
