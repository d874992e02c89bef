//! The keyspace over HTTP, in the shape of Upstash's REST interface, for clients that cannot open a socket.
//!
//! Below `/redis` on the console door: `POST /` with one command as a JSON array, `POST /pipeline` with many,
//! `POST /multi-exec` with a transaction, and any other path as one command, a segment an argument. The token is the
//! password of the Redis door, as `Authorization: Bearer`; never in the address, where logs keep it. An answer is
//! `{"result": …}` or, with status 400, `{"error": "…"}`. `Upstash-Encoding: base64` encodes strings, which is the only
//! way for values that are not UTF-8.
//!
//! A reply leaves when its change is in the journal, as on the Redis door. Commands that belong to a connection
//! (`SUBSCRIBE`, `WATCH`, `CLIENT`, …) or that wait (`BLPOP`) have none here and are refused.
//!
//! Source: the documentation of Upstash's REST API, and the requests of `@upstash/redis` 1.39.

mod reply;
mod request;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use serde_json::json;

use crate::bans::{Bans, Door};
use crate::base::Secret;
use crate::crypto::mac;
use crate::http::body::{self, ReadError};
use crate::http::{Body, Peer};
use crate::kv::Handle;
use crate::kv::handle::{CallError, ChangeError};

/// Largest body of a request.
pub const BODY_MAX: usize = 16 << 20;

/// Most commands of a pipeline or transaction.
pub const COMMANDS_MAX: usize = 10_000;

/// The path all of this is below.
pub const PATH: &str = "/redis";

/// The interface. Clones are the same.
#[derive(Clone)]
pub struct Upstash(Arc<Inner>);

struct Inner {
    keyspace: Handle,
    token: Secret<String>,
    bans: Bans,
}

/// An answer that is an error.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => Self::bad(refusal.told()),
            ChangeError::Call(error) => error.into(),
        }
    }
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, text: format!("ERR {error}") }
    }
}

impl Upstash {
    /// Answers from `keyspace` whoever knows `token`; `bans` hears of those who give another.
    pub fn new(keyspace: Handle, token: Secret<String>, bans: Bans) -> Self {
        Self(Arc::new(Inner { keyspace, token, bans }))
    }

    /// The routes below [`PATH`].
    pub fn router(&self) -> Router {
        Router::new()
            .route(PATH, any(answer))
            .route("/redis/", any(answer))
            .route("/redis/{*rest}", any(answer))
            .with_state(self.clone())
    }

    /// Exactly one `Authorization` header, with the right token.
    fn admit(&self, headers: &HeaderMap, peer: Peer) -> Result<(), Refused> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let given = values.next().and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let wanted = self.0.token.expose().as_bytes();
        if values.next().is_none() && given.is_some_and(|given| mac::equal(wanted, given.as_bytes())) {
            return Ok(());
        }
        if headers.contains_key(header::AUTHORIZATION) {
            self.0.bans.failed_login(peer.address.ip(), Door::RedisHttp);
        }
        let text = "WRONGPASS invalid or missing auth token: send `Authorization: Bearer <password of the Redis door>`";
        Err(Refused { status: StatusCode::UNAUTHORIZED, text: String::from(text) })
    }

    async fn run(&self, request: Request<Body>, peer: Peer) -> Result<(StatusCode, Vec<u8>), Refused> {
        let (head, body) = request.into_parts();
        self.admit(&head.headers, peer)?;
        if head.method != Method::POST && head.method != Method::GET && head.method != Method::HEAD {
            return Err(Refused { status: StatusCode::METHOD_NOT_ALLOWED, text: String::from("ERR send POST or GET") });
        }
        if let Some(format) = head.headers.get("upstash-response-format").filter(|format| *format != "json") {
            let format = String::from_utf8_lossy(format.as_bytes()).into_owned();
            return Err(Refused::bad(format!("ERR answers are JSON here, not `{format}`; RESP is the Redis door's")));
        }
        let base64 = match head.headers.get("upstash-encoding").map(header::HeaderValue::as_bytes) {
            None => false,
            Some(encoding) if encoding.eq_ignore_ascii_case(b"base64") => true,
            Some(_) => return Err(Refused::bad("ERR Upstash-Encoding is base64 or not there")),
        };
        let sent = body::read(body, BODY_MAX).await.map_err(|error| match error {
            ReadError::TooLarge { limit } => Refused {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                text: format!("ERR max request size exceeded: {limit} bytes"),
            },
            ReadError::Broken(_) => Refused::bad("ERR the body ended early"),
        })?;
        let below = head.uri.path().strip_prefix(PATH).unwrap_or_default().trim_matches('/');
        let keyspace = &self.0.keyspace;
        match below {
            "" => run::one(keyspace, request::command(&sent)?, base64).await,
            "pipeline" => run::pipeline(keyspace, request::commands(&sent)?, base64).await,
            "multi-exec" => run::transaction(keyspace, request::commands(&sent)?, base64).await,
            path => {
                let command = request::from_path(path, head.uri.query().unwrap_or_default(), &sent)?;
                run::one(keyspace, command, base64).await
            }
        }
    }
}

impl std::fmt::Debug for Upstash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstash").finish_non_exhaustive()
    }
}

async fn answer(State(upstash): State<Upstash>, Extension(peer): Extension<Peer>, request: Request<Body>) -> Response {
    let (status, text) = match upstash.run(request, peer).await {
        Ok(answer) => answer,
        Err(refused) => (refused.status, json!({"error": refused.text}).to_string().into_bytes()),
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (status, headers, text).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}
