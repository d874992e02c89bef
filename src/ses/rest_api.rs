//! v2: `SendEmail` (simple and raw) and `GetAccount`.
//!
//! Source: "Amazon SES API v2 reference". Fields that only steer Amazon's own bookkeeping (configuration sets, tags,
//! feedback addresses) are accepted and have no effect; templates are refused.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use lettre::message::Mailbox;
use serde::Deserialize;

use super::error::{SesError, respond};
use super::gate::Verified;
use super::{Content, Door, RATE, UNLIMITED};
use crate::http::Peer;
use crate::mail::compose::{File, Parts};
use crate::mail::{MailError, Source, address};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail {
    from_email_address: Option<String>,
    #[serde(default)]
    destination: Destination,
    #[serde(default)]
    reply_to_addresses: Vec<String>,
    content: EmailContent,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Destination {
    to_addresses: Vec<String>,
    cc_addresses: Vec<String>,
    bcc_addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EmailContent {
    simple: Option<Simple>,
    raw: Option<Raw>,
    template: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Simple {
    subject: Text,
    body: BodyParts,
    #[serde(default)]
    headers: Vec<Field>,
    #[serde(default)]
    attachments: Vec<Attached>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Text {
    data: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BodyParts {
    text: Option<Text>,
    html: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Field {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attached {
    file_name: String,
    raw_content: String,
    content_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    data: String,
}

/// Answers `SendEmail`.
///
/// # Errors
/// [`SesError`]; nothing was queued.
pub(super) async fn send(door: &Door, who: &Verified, peer: Peer, body: &[u8]) -> Result<Response, SesError> {
    let call: SendEmail = serde_json::from_slice(body).map_err(|error| SesError::Invalid(error.to_string()))?;
    let content = content(call)?;
    let id = door.submit(who, peer, Source::SesV2, content).await?;
    let body = serde_json::json!({ "MessageId": id.to_string() }).to_string();
    Ok(respond(StatusCode::OK, "application/json", body))
}

/// Answers `GetAccount`: what SDKs ask before they send.
///
/// # Errors
/// [`SesError::Mail`].
pub(super) async fn account(door: &Door) -> Result<Response, SesError> {
    let sent = door.outbox.accepted_today().await?;
    let body = serde_json::json!({
        "ProductionAccessEnabled": true,
        "SendingEnabled": true,
        "EnforcementStatus": "HEALTHY",
        "SendQuota": { "Max24HourSend": UNLIMITED, "MaxSendRate": RATE, "SentLast24Hours": sent },
    });
    Ok(respond(StatusCode::OK, "application/json", body.to_string()))
}

fn content(call: SendEmail) -> Result<Content, SesError> {
    let to = mailboxes(&call.destination.to_addresses)?;
    let cc = mailboxes(&call.destination.cc_addresses)?;
    let bcc = mailboxes(&call.destination.bcc_addresses)?;
    let from = call.from_email_address.as_deref().map(address::mailbox).transpose()?;
    match (call.content.simple, call.content.raw, call.content.template) {
        (Some(simple), None, None) => Ok(Content::Parts(Box::new(Parts {
            from: from.ok_or(MailError::Missing("FromEmailAddress"))?,
            reply_to: mailboxes(&call.reply_to_addresses)?,
            to,
            cc,
            bcc,
            subject: simple.subject.data,
            text: simple.body.text.map(|text| text.data),
            html: simple.body.html.map(|text| text.data),
            headers: simple.headers.into_iter().map(|field| (field.name, field.value)).collect(),
            attachments: simple.attachments.into_iter().map(file).collect::<Result<_, _>>()?,
        }))),
        (None, Some(raw), None) => {
            let text = STANDARD
                .decode(&raw.data)
                .map_err(|_no_base64| SesError::Invalid("Content.Raw.Data is not base64".to_owned()))?;
            let to = [to, cc, bcc].concat().into_iter().map(|mailbox| mailbox.email).collect();
            Ok(Content::Raw { text, to, from: from.map(|mailbox| mailbox.email) })
        }
        (None, None, Some(_)) => Err(SesError::UnknownOperation("SendEmail with a template".to_owned())),
        _ => Err(SesError::Invalid("Content must hold exactly one of Simple, Raw and Template".to_owned())),
    }
}

fn mailboxes(texts: &[String]) -> Result<Vec<Mailbox>, SesError> {
    Ok(texts.iter().map(|text| address::mailbox(text)).collect::<Result<_, _>>()?)
}

fn file(attached: Attached) -> Result<File, SesError> {
    let content = STANDARD
        .decode(&attached.raw_content)
        .map_err(|_no_base64| SesError::Invalid("an attachment's RawContent is not base64".to_owned()))?;
    let content_type = attached.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    Ok(File { name: attached.file_name, content_type, content })
}
