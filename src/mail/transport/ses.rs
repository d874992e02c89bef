//! Handing messages to Amazon SES, version 2 of its interface (`SendEmail` with raw content).
//!
//! Source: "Amazon SES API v2 reference". One recipient a call, as with a relay. A quota used up is told apart from a
//! refusal, so that it costs the message no attempt.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, Uri, header};

use std::sync::Arc;

use super::Transport;
use crate::base::Clock;
use crate::http::client::{Client, Reach};
use crate::http::query::Query;
use crate::http::sigv4::{PathRule, Policy, Signer, sign};
use crate::mail::outbox::Outcome;

const PATH: &str = "/v2/email/outbound-emails";

/// SES in one region.
#[derive(Debug)]
pub struct SesApi {
    client: Client,
    signer: Signer,
    region: String,
    uri: Uri,
    host: HeaderValue,
    clock: Arc<dyn Clock>,
}

/// Why SES cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("mail.ses_endpoint `{0}` is no address; write `https://email.eu-central-1.amazonaws.com` or leave it empty")]
pub struct EndpointError(String);

impl SesApi {
    /// SES in `region`, at `endpoint` or, when that is empty, at Amazon's own.
    ///
    /// # Errors
    /// [`EndpointError`]; nothing was called.
    pub fn new(
        client: Client,
        signer: Signer,
        region: &str,
        endpoint: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        let base =
            if endpoint.is_empty() { format!("https://email.{region}.amazonaws.com") } else { endpoint.to_owned() };
        let bad = || EndpointError(base.clone());
        let uri: Uri = format!("{}{PATH}", base.trim_end_matches('/')).parse().map_err(|_no_address| bad())?;
        let authority =
            uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(bad)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_no_header_text| bad())?;
        Ok(Self { client, signer, region: region.to_owned(), host, uri, clock })
    }

    async fn hand_over(&self, from: &str, to: &str, text: &[u8]) -> Outcome {
        let content = serde_json::json!({
            "FromEmailAddress": from,
            "Destination": { "ToAddresses": [to] },
            "Content": { "Raw": { "Data": STANDARD.encode(text) } },
        });
        let content = Bytes::from(content.to_string());
        let mut request = Request::new(content.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let policy = Policy { service: "ses", region: &self.region, path: PathRule::Twice };
        let Ok(query) = Query::parse("") else { return Outcome::Retry("the call has no query".to_owned()) };
        let target = (&Method::POST, self.uri.path(), &query);
        if let Err(error) = sign(&self.signer, policy, target, headers, &content, self.clock.now()) {
            return Outcome::Retry(format!("the call could not be signed: {error}"));
        }
        match self.client.call(request, Reach::Any).await {
            Ok(response) => outcome(&response),
            Err(error) => Outcome::Retry(error.to_string()),
        }
    }
}

/// What an answer means for the message.
fn outcome(response: &Response<Bytes>) -> Outcome {
    let status = response.status();
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    if status.is_success() {
        return Outcome::Delivered(format!("SES {}", text("MessageId")));
    }
    let kind = response.headers().get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // `TooManyRequestsException:http://…`
    let kind = kind.split(':').next().unwrap_or_default();
    let note = format!("{} {kind} {}", status.as_u16(), text("message"));
    match kind {
        "TooManyRequestsException" | "ThrottlingException" | "LimitExceededException" => Outcome::Throttled(note),
        // These concern the account or its set-up, which the operator can mend; the message itself may be fine.
        "AccountSuspendedException" | "SendingPausedException" | "MailFromDomainNotVerifiedException" => {
            Outcome::Retry(note)
        }
        _ if matches!(status.as_u16(), 400 | 404 | 413) => Outcome::Refused(note),
        _ => Outcome::Retry(note),
    }
}

impl Transport for SesApi {
    fn send<'a>(&'a self, from: &'a str, to: &'a str, text: &'a [u8]) -> BoxFuture<'a, Outcome> {
        Box::pin(self.hand_over(from, to, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, body: &'static str) -> Outcome {
        let response = Response::builder().status(status).header("x-amzn-errortype", kind);
        outcome(&response.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(answer(200, "", r#"{"MessageId":"7"}"#), Outcome::Delivered("SES 7".to_owned()));
        assert!(matches!(answer(400, "MessageRejected:http://x/", "{}"), Outcome::Refused(_)));
        assert!(matches!(answer(429, "TooManyRequestsException", "{}"), Outcome::Throttled(_)));
        assert!(matches!(answer(400, "SendingPausedException", "{}"), Outcome::Retry(_)));
        assert!(matches!(answer(403, "InvalidSignatureException", "{}"), Outcome::Retry(_)));
        assert!(matches!(answer(500, "", "oops"), Outcome::Retry(_)));
    }
}
