//! The endpoints: who asks, what they sent, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;

use super::decode::{self, COMPRESSED_MAX, Encoding};
use super::{Refusal, auth, envelope, legacy, reports};
use crate::accounts::AccessKeys;
use crate::base::{Id128, ids};
use crate::crypto::mac;
use crate::http::{Body, Peer, body};
use crate::issues::{Category, Issues, IssuesError};

/// Kibibytes of bodies read and decoded at once; each request reserves what its body may have.
const IN_FLIGHT_KIB: usize = 64 << 10;

/// How long a request waits for its place.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest value of `X-Sentry-Error`, in bytes.
const ERROR_MAX: usize = 300;

/// The door. Clones are the same.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issues: Issues,
    keys: Arc<AccessKeys>,
    places: Semaphore,
}

/// What a request came with, besides its body.
struct Asked {
    project: u64,
    /// The key in its head, if any.
    key: Option<String>,
    encoding: Encoding,
    /// The body's length, if it was told.
    length: Option<usize>,
    peer: Peer,
}

/// What an envelope or event came to.
struct Taken {
    /// The id in the envelope's header.
    header_id: Option<Id128>,
    events: Vec<Bytes>,
    /// Other items.
    counted: Vec<(Category, u64)>,
}

impl Ingest {
    /// A door to `issues` for those who have a project's key.
    pub fn new(issues: Issues, keys: Arc<AccessKeys>) -> Self {
        Self(Arc::new(Inner { issues, keys, places: Semaphore::new(IN_FLIGHT_KIB) }))
    }

    /// The routes, for the console door's router.
    pub fn router(&self) -> Router {
        let endpoint = |form| {
            any(
                move |State(door): State<Self>,
                      Path(project): Path<String>,
                      Extension(peer): Extension<Peer>,
                      request| { async move { answered(form, door, &project, peer, request).await } },
            )
        };
        Router::new()
            .route("/api/{project}/envelope", endpoint(Form::Envelope))
            .route("/api/{project}/envelope/", endpoint(Form::Envelope))
            .route("/api/{project}/store", endpoint(Form::Store))
            .route("/api/{project}/store/", endpoint(Form::Store))
            .route("/api/{project}/security", endpoint(Form::Reports))
            .route("/api/{project}/security/", endpoint(Form::Reports))
            .with_state(self.clone())
    }

    async fn envelope(&self, asked: Asked, body: Body) -> Result<Id128, Refusal> {
        // Without a key in the head only the envelope's header can have it.
        if asked.key.is_some() {
            self.check(asked.project, asked.key.as_deref())?;
        }
        let keys = Arc::clone(&self.0.keys);
        let (project, with_head) = (asked.project, asked.key.is_some());
        self.take(asked, body, move |bytes| {
            let envelope = envelope::parse(&bytes)?;
            if !with_head {
                check(&keys, project, envelope.dsn.as_deref().and_then(auth::from_dsn).as_deref())?;
            }
            let header_id = envelope.event_id.as_deref().and_then(crate::issues::event::id);
            let mut taken = Taken { header_id, events: Vec::new(), counted: Vec::new() };
            for item in &envelope.items {
                match Category::of_item(&item.kind) {
                    Category::Error => taken.events.push(bytes.slice_ref(item.payload)),
                    category => taken.counted.push((category, item.count)),
                }
            }
            Ok(taken)
        })
        .await
    }

    async fn store(&self, asked: Asked, body: Body) -> Result<Id128, Refusal> {
        self.check(asked.project, asked.key.as_deref())?;
        self.take(asked, body, |bytes| {
            let event = legacy::event(&bytes)?.into_owned();
            Ok(Taken { header_id: None, events: vec![event.into()], counted: Vec::new() })
        })
        .await
    }

    async fn reports(&self, asked: Asked, body: Body) -> Result<Id128, Refusal> {
        self.check(asked.project, asked.key.as_deref())?;
        self.take(asked, body, |bytes| {
            let events = reports::events(&bytes)?.into_iter().map(Bytes::from).collect();
            Ok(Taken { header_id: None, events, counted: Vec::new() })
        })
        .await
    }

    /// Reads and decodes the body, and hands what `understand` finds in it to the service.
    async fn take(
        &self,
        asked: Asked,
        body: Body,
        understand: impl FnOnce(Bytes) -> Result<Taken, Refusal> + Send + 'static,
    ) -> Result<Id128, Refusal> {
        let Asked { project, encoding, length, peer, .. } = asked;
        let most = length.unwrap_or(COMPRESSED_MAX);
        if most > COMPRESSED_MAX {
            return Err(Refusal::TooLarge { what: "the body", most: COMPRESSED_MAX });
        }
        let reserved = u32::try_from(most / 1024 + 1).unwrap_or(u32::MAX);
        let place = tokio::time::timeout(PATIENCE, self.0.places.acquire_many(reserved)).await;
        let _place = place.ok().and_then(Result::ok).ok_or(Refusal::Busy)?;
        let bytes = body::read(body, COMPRESSED_MAX).await?;
        let decoding = move || match encoding {
            Encoding::Identity => understand(bytes),
            encoding => understand(decode::decode(encoding, &bytes)?.into()),
        };
        let decoded = tokio::task::spawn_blocking(decoding).await;
        let taken = decoded.unwrap_or(Err(Refusal::Failed(IssuesError::Stopping)))?;
        for (category, count) in taken.counted {
            self.0.issues.count(project, category, count);
        }
        let ids = self.0.issues.accept(project, taken.events, peer.address.ip()).await?;
        Ok(taken.header_id.or(ids.first().copied()).unwrap_or(Id128::from_bytes([0; 16])))
    }

    fn check(&self, project: u64, key: Option<&str>) -> Result<(), Refusal> {
        check(&self.0.keys, project, key)
    }
}

fn check(keys: &AccessKeys, project: u64, key: Option<&str>) -> Result<(), Refusal> {
    let key = key.ok_or(Refusal::NoKey)?;
    let ours = keys.project_key(project).ok_or(Refusal::WrongKey)?;
    if mac::equal(key.as_bytes(), ours.expose().as_bytes()) { Ok(()) } else { Err(Refusal::WrongKey) }
}

/// What a path takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Envelope,
    Store,
    Reports,
}

/// The answer to a request for the path of a project.
async fn answered(form: Form, door: Ingest, project: &str, peer: Peer, request: http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(answer) = other_method(&parts.method, &parts.headers) {
        return answer;
    }
    let taken = match (asked(project, peer, &parts), form) {
        (Ok(asked), Form::Envelope) => door.envelope(asked, body).await,
        (Ok(asked), Form::Store) => door.store(asked, body).await,
        (Ok(asked), Form::Reports) => door.reports(asked, body).await,
        (Err(refusal), _) => Err(refusal),
    };
    answer(taken)
}

fn asked(project: &str, peer: Peer, parts: &http::request::Parts) -> Result<Asked, Refusal> {
    let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Asked {
        project: project.parse().map_err(|_no_number| Refusal::WrongKey)?,
        key: auth::from_head(&parts.headers, parts.uri.query()),
        encoding: Encoding::named(text(header::CONTENT_ENCODING).unwrap_or_default()).ok_or(Refusal::Encoding)?,
        length: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        peer,
    })
}

/// The answer to a method other than POST. A preflight gets back the very headers it asks for: SDKs let apps add any.
fn other_method(method: &Method, headers: &HeaderMap) -> Option<Response> {
    const METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");
    if method == Method::POST {
        return None;
    }
    let mut answer = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let detail = json!({"detail": "this path answers POST"});
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, METHODS)], json_body(&detail)).into_response()
    };
    let out = answer.headers_mut();
    if method == Method::OPTIONS {
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    Some(readable_anywhere(answer))
}

fn answer(answered: Result<Id128, Refusal>) -> Response {
    let response = match answered {
        Ok(id) => json_body(&json!({"id": ids::hex(id.as_bytes())})),
        Err(refusal) => refused(&refusal),
    };
    readable_anywhere(response)
}

fn refused(refusal: &Refusal) -> Response {
    if let Refusal::Failed(source) = refusal {
        tracing::error!(error = %source, "an event could not be stored");
    }
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let detail = refusal.to_string();
    let mut response = (status, json_body(&json!({"detail": detail}))).into_response();
    // Visible ASCII alone: a header must not carry anything else.
    let shown: String = detail.chars().filter(|c| matches!(c, ' '..='~')).take(ERROR_MAX).collect();
    let headers = [
        ("x-sentry-error", Some(shown)),
        ("x-sentry-rate-limits", refusal.rate_limits()),
        ("retry-after", refusal.retry_after()),
    ];
    for (name, value) in headers {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn json_body(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], value.to_string())
        .into_response()
}

/// Lets scripts of any page read the answer: the key is public anyway, and an SDK that cannot read the limits goes on
/// sending.
fn readable_anywhere(mut response: Response) -> Response {
    const EXPOSED: HeaderValue = HeaderValue::from_static("x-sentry-error, x-sentry-rate-limits, retry-after");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
