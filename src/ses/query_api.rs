//! The query interface of 2010: `SendEmail`, `SendRawEmail`, `GetSendQuota`.
//!
//! Source: "Amazon Simple Email Service API reference", version 2010-12-01.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::error::{SesError, respond};
use super::form::Form;
use super::gate::Verified;
use super::{Content, Door, RATE, UNLIMITED};
use crate::http::Peer;
use crate::mail::compose::Parts;
use crate::mail::{Source, address};

/// Answers one call.
///
/// # Errors
/// [`SesError`]; nothing was queued.
pub(super) async fn answer(door: &Door, who: &Verified, peer: Peer, body: &[u8]) -> Result<Response, SesError> {
    let form = Form::parse(body)?;
    let action = form.get("Action").ok_or_else(|| SesError::Invalid("the form names no Action".to_owned()))?;
    let result = match action {
        "SendEmail" => message_id(door.submit(who, peer, Source::Ses, simple(&form)?).await?),
        "SendRawEmail" => message_id(door.submit(who, peer, Source::Ses, raw(&form)?).await?),
        "GetSendQuota" => {
            let sent = door.outbox.accepted_today().await?;
            format!(
                "<Max24HourSend>{UNLIMITED:.1}</Max24HourSend><MaxSendRate>{RATE:.1}</MaxSendRate>\
                 <SentLast24Hours>{sent}.0</SentLast24Hours>"
            )
        }
        other => return Err(SesError::UnknownOperation(other.chars().take(64).collect())),
    };
    let xml = format!(
        "<{action}Response xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{action}Response>",
        door.outbox.fresh_id()
    );
    Ok(respond(StatusCode::OK, "text/xml", xml))
}

fn message_id(id: crate::base::Id128) -> String {
    format!("<MessageId>{id}</MessageId>")
}

fn simple(form: &Form) -> Result<Content, SesError> {
    let mailboxes = |name: &str| form.list(name).into_iter().map(address::mailbox).collect::<Result<Vec<_>, _>>();
    let needed =
        |name: &str| form.get(name).ok_or_else(|| SesError::Invalid(format!("the parameter {name} is missing")));
    Ok(Content::Parts(Box::new(Parts {
        from: address::mailbox(needed("Source")?)?,
        reply_to: mailboxes("ReplyToAddresses")?,
        to: mailboxes("Destination.ToAddresses")?,
        cc: mailboxes("Destination.CcAddresses")?,
        bcc: mailboxes("Destination.BccAddresses")?,
        subject: form.get("Message.Subject.Data").unwrap_or_default().to_owned(),
        text: form.get("Message.Body.Text.Data").map(str::to_owned),
        html: form.get("Message.Body.Html.Data").map(str::to_owned),
        headers: Vec::new(),
        attachments: Vec::new(),
    })))
}

fn raw(form: &Form) -> Result<Content, SesError> {
    let data = form.get("RawMessage.Data").ok_or_else(|| SesError::Invalid("RawMessage.Data is missing".to_owned()))?;
    let text =
        STANDARD.decode(data).map_err(|_no_base64| SesError::Invalid("RawMessage.Data is not base64".to_owned()))?;
    let to = form.list("Destinations").into_iter().map(|text| Ok(address::mailbox(text)?.email));
    let to = to.collect::<Result<_, SesError>>()?;
    let from = form.get("Source").map(address::mailbox).transpose()?.map(|mailbox| mailbox.email);
    Ok(Content::Raw { text, to, from })
}
