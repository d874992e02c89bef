//! A client of one bucket of an S3 server: signed requests, streamed bodies, answers told apart by what to do about them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use rustls::ClientConfig;

use super::address::{Address, Credentials};
use crate::base::ids::hex;
use crate::base::{Backoff, Clock, Secret, SystemRandom};
use crate::cli::import::wire::printable;
use crate::crypto::mac;
use crate::http::client::CallError;
use crate::http::origin::{Exchange, Origin};
use crate::http::query::Query;
use crate::http::sigv4::{PathRule, Policy, Signer, sign_payload};
use crate::http::{Body, uri};
use crate::s3::xml::{self, Element};

/// How long a server may say nothing, or take nothing.
const PATIENCE: Duration = Duration::from_mins(2);
/// Most bytes of a document.
const DOCUMENT: usize = 16 << 20;
/// Most bytes of an error's document that are read.
const ERROR: usize = 64 << 10;
/// How often something is tried in all, and how long it is waited in between.
const TRIES: u32 = 6;
const WAITS: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(10));

/// The payload line of a body whose checksum comes in a trailer.
const TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Worth trying again.
    Passing,
    /// No connection comes about: worth trying again, and the end when it stays so.
    Unreachable,
    /// What was asked for is not there.
    Missing,
    /// A condition does not hold.
    Condition,
    /// The server has an object of this name already.
    Taken,
    /// The source's parts cannot be taken as they are.
    Layout,
    /// This object cannot be had or stored.
    Refused,
    /// Nothing can.
    Fatal,
}

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub kind: Kind,
    pub text: String,
}

impl Failure {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// Whom is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

impl Side {
    /// What a broken exchange amounts to.
    pub fn broken(self, error: &CallError) -> Failure {
        let kind = match error {
            CallError::Connect { .. } | CallError::Private { .. } | CallError::Address(_) => Kind::Unreachable,
            CallError::TooSlow { .. } | CallError::Exchange { .. } | CallError::Answer { .. } => Kind::Passing,
        };
        Failure::new(kind, format!("{self}: {error}"))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Target => "the server",
        })
    }
}

/// A bucket.
pub(super) struct Service {
    side: Side,
    origin: Arc<Origin>,
    host: HeaderValue,
    lead: String,
    region: String,
    signer: Signer,
    token: Option<Secret<String>>,
    clock: Arc<dyn Clock>,
}

/// A request.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// The key; empty for the bucket itself.
    pub key: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: HeaderMap,
    pub body: Sent,
}

/// A request's body.
pub(super) enum Sent {
    Whole(Bytes),
    /// In aws-chunked coding, with a checksum in a trailer.
    Chunked(Body),
}

impl<'a> Ask<'a> {
    /// A request without headers and body.
    pub fn new(method: Method, key: &'a str, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { method, key, query, headers: HeaderMap::new(), body: Sent::Whole(Bytes::new()) }
    }

    /// With a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Result<Self, Failure> {
        let value = HeaderValue::from_bytes(value.as_bytes());
        let value = value.map_err(|_no_text| Failure::new(Kind::Refused, format!("its {name} fits no header")))?;
        self.headers.insert(HeaderName::from_static(name), value);
        Ok(self)
    }
}

impl Service {
    pub fn new(
        side: Side,
        address: &Address,
        (credentials, region): (Credentials, &str),
        tls: ClientConfig,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let host = address.host();
        let uri: Uri = format!("{}://{host}", address.scheme()).parse().context("the address is none")?;
        Ok(Self {
            side,
            origin: Arc::new(Origin::new(uri, tls, PATIENCE)?),
            host: host.parse().context("the address is none")?,
            lead: address.lead(),
            region: region.to_owned(),
            signer: Signer { access_key_id: credentials.id, secret: credentials.secret },
            token: credentials.token,
            clock,
        })
    }

    /// Sends a request; an answer of success comes back with its body still to be read.
    pub async fn open(&self, ask: Ask<'_>) -> Result<Exchange, Failure> {
        let request = self.request(ask)?;
        let head = request.method() == Method::HEAD;
        let mut answer = self.origin.send(request).await.map_err(|error| self.side.broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, region) = (answer.status(), answer.headers().get("x-amz-bucket-region").cloned());
        let document = if head { Bytes::new() } else { answer.read(ERROR).await.unwrap_or_default() };
        Err(self.refusal(status, &document, region.as_ref()))
    }

    /// Sends a request and reads the answer's body, of which only the head matters.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<HeaderMap, Failure> {
        let mut answer = self.open(ask).await?;
        answer.read(DOCUMENT).await.map_err(|error| self.side.broken(&error))?;
        Ok(answer.headers().clone())
    }

    /// Sends a request that is answered with a document whose outermost element is `root`.
    pub async fn document(&self, ask: Ask<'_>, root: &str) -> Result<Element, Failure> {
        let mut answer = self.open(ask).await?;
        let bytes = answer.read(DOCUMENT).await.map_err(|error| self.side.broken(&error))?;
        // An answer that was begun before the work was done tells of its failure in the document.
        if let Ok(error) = xml::parse(&bytes, "Error") {
            return Err(self.told(StatusCode::INTERNAL_SERVER_ERROR, &error, None));
        }
        let text = format!("{} does not answer as S3 does: its document is no {root}", self.side);
        xml::parse(&bytes, root).map_err(|_other| Failure::new(Kind::Passing, text))
    }

    /// Tries `attempt` again while its failure may pass.
    pub async fn patiently<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        for _ in 1..TRIES {
            match attempt().await {
                Err(Failure { kind: Kind::Passing | Kind::Unreachable, .. }) => {
                    tokio::time::sleep(backoff.next(&SystemRandom)).await;
                }
                done => return done,
            }
        }
        attempt().await
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Body>, Failure> {
        let wrong = || Failure::new(Kind::Refused, "its key fits no address");
        let mut path = self.lead.clone();
        if !ask.key.is_empty() || path.is_empty() {
            path.push('/');
            path.push_str(&uri::encode_path(ask.key));
        }
        let encode =
            |(name, value): &(&str, &str)| format!("{}={}", uri::encode_component(name), uri::encode_component(value));
        let text = ask.query.iter().map(encode).collect::<Vec<_>>().join("&");
        let query = Query::parse(&text).map_err(|_no_query| wrong())?;
        let mut headers = ask.headers;
        headers.insert(header::HOST, self.host.clone());
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose())
                .map_err(|_no_text| Failure::new(Kind::Fatal, "the session token fits no header"))?;
            value.set_sensitive(true);
            headers.insert("x-amz-security-token", value);
        }
        let (payload, body) = match ask.body {
            Sent::Whole(bytes) => (hex(&mac::sha256(&bytes)), Body::from(bytes)),
            Sent::Chunked(body) => (TRAILER.to_owned(), body),
        };
        headers.insert("x-amz-content-sha256", payload.parse().map_err(|_no_text| wrong())?);
        let policy = Policy { service: "s3", region: &self.region, path: PathRule::Once };
        let target = (&ask.method, path.as_str(), &query);
        sign_payload(&self.signer, policy, target, &mut headers, &payload, self.clock.now())
            .map_err(|error| Failure::new(Kind::Fatal, format!("the access key cannot sign: {error}")))?;
        let address = if text.is_empty() { path } else { format!("{path}?{text}") };
        let mut request = Request::new(body);
        *request.method_mut() = ask.method;
        *request.uri_mut() = address.parse().map_err(|_no_address| wrong())?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What an answer that is no success amounts to.
    fn refusal(&self, status: StatusCode, document: &[u8], region: Option<&HeaderValue>) -> Failure {
        let error = xml::parse(document, "Error").unwrap_or_default();
        self.told(status, &error, region)
    }

    fn told(&self, status: StatusCode, error: &Element, region: Option<&HeaderValue>) -> Failure {
        let code = error.word_of("Code").filter(|code| !code.is_empty());
        let said = |name| error.word_of(name).filter(|text| !text.is_empty()).map(|text| printable(text.as_bytes()));
        let mut text = match (code, said("Message")) {
            (Some(code), Some(message)) => {
                format!("{} answers {}: {}", self.side, printable(code.as_bytes()), message.trim_end_matches('.'))
            }
            (Some(code), None) => format!("{} answers {}", self.side, printable(code.as_bytes())),
            _ => format!("{} answers {status}", self.side),
        };
        if let Some(endpoint) = said("Endpoint").filter(|_| status.is_redirection()) {
            text = format!("{text}; the bucket is at {endpoint}");
        }
        if let Some(region) = region.filter(|_| status.is_redirection() || status == StatusCode::BAD_REQUEST) {
            text = format!("{text}; its region is {} (--region)", printable(region.as_bytes()));
        }
        Failure::new(kind(status, code.unwrap_or_default()), text)
    }
}

/// What to do about an error of this status and code (S3 API reference, "Error responses").
fn kind(status: StatusCode, code: &str) -> Kind {
    match (status.as_u16(), code) {
        (
            _,
            "NoSuchBucket"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "AuthorizationHeaderMalformed"
            | "AccountProblem"
            | "NotSignedUp"
            | "XMinioAdminBucketQuotaExceeded"
            | "StorageFull"
            | "InsufficientStorage",
        )
        | (300..=399 | 507, _) => Kind::Fatal,
        (_, "SlowDown" | "RequestTimeout" | "BadDigest" | "IncompleteBody" | "NoSuchUpload" | "OperationAborted")
        | (408 | 425 | 429 | 500 | 502 | 503 | 504, _) => Kind::Passing,
        (404, _) => Kind::Missing,
        (412, _) => Kind::Condition,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whether_to_try_again_to_go_on_or_to_stop() {
        for (status, code, expected) in [
            (503, "SlowDown", Kind::Passing),
            (500, "", Kind::Passing),
            (400, "BadDigest", Kind::Passing),
            (404, "NoSuchKey", Kind::Missing),
            (404, "NoSuchBucket", Kind::Fatal),
            (412, "PreconditionFailed", Kind::Condition),
            (403, "SignatureDoesNotMatch", Kind::Fatal),
            (403, "AccessDenied", Kind::Refused),
            (301, "PermanentRedirect", Kind::Fatal),
            (507, "", Kind::Fatal),
            (501, "NotImplemented", Kind::Refused),
        ] {
            assert_eq!(kind(StatusCode::from_u16(status).unwrap(), code), expected, "{status} {code}");
        }
    }
}
