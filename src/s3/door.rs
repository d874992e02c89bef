//! The door: one request from its head to its answer.

use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, Version, header};

use super::access::{Allowed, Judge, holds_one};
use super::address::Address;
use super::config::S3Config;
use super::cors::Cors;
use super::error::{Code, S3Error};
use super::form;
use super::gate::Gate;
use super::health;
use super::link_v2;
use super::operation::Operation;
use super::request::Request;
use super::respond;
use crate::accounts::Users;
use crate::bans::{self, Bans};
use crate::base::{Clock, Random, ids, random};
use crate::http::connection::authority;
use crate::http::query::Query;
use crate::http::{Answer, Body, Handler, Peer};
use crate::objects::{Condition, Objects};

/// Whether the server takes requests.
pub type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the operations work with.
#[derive(Debug)]
pub struct Services {
    /// Buckets and objects.
    pub objects: Objects,
    /// The region this server says it is.
    pub region: String,
}

/// The S3 protocol as an HTTP handler.
pub struct S3Door {
    services: Services,
    users: Users,
    bans: Bans,
    ready: Ready,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    domains: Vec<String>,
    cors: Cors,
}

impl S3Door {
    /// A door to `objects` for the holders of the access keys of `users`. `config` is taken as it is: whoever knows the
    /// edge's domain adds it to `domains` and `cors_origins` before. `bans` hears of wrong signatures.
    pub fn new(
        objects: Objects,
        users: Users,
        bans: Bans,
        ready: Ready,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        config: &S3Config,
    ) -> Self {
        Self {
            services: Services { objects, region: config.region.clone() },
            users,
            bans,
            ready,
            clock,
            random,
            domains: config.domains.clone(),
            cors: Cors::new(&config.cors_origins),
        }
    }

    async fn answer(&self, request: http::Request<Body>, peer: Peer) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Some(response) = health::answer(&parts, || (self.ready)()) {
            return response;
        }
        let id = ids::hex(&random::bytes::<8>(self.random.as_ref())).to_ascii_uppercase();
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let unasked = waits_in_vain(&parts, &body);
        let outcome = match self.cors.preflight(&parts) {
            Some(outcome) => outcome,
            None => self.serve(parts, body, peer).await,
        };
        let mut response = outcome.unwrap_or_else(|error| {
            tracing::debug!(request = %id, %method, code = error.code.name(), "an S3 request was refused");
            respond::error(&error, &method, &path, &id)
        });
        let headers = response.headers_mut();
        respond::set(headers, HeaderName::from_static("x-amz-request-id"), &id);
        headers.insert(header::SERVER, HeaderValue::from_static("Mainstay"));
        self.cors.decorate(origin.as_ref(), headers);
        if unasked {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Gate, then parsing, then deciding, then doing: in this order for every request.
    async fn serve(&self, parts: Parts, body: Body, peer: Peer) -> Result<Response<Body>, S3Error> {
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let authority = authority(&parts.headers, &parts.uri).unwrap_or_default().to_owned();
        let bodyless = http_body::Body::is_end_stream(&body);
        let key_of = |id: &str| self.users.access_key(id);
        let origin = format!("{}://{authority}", if peer.secure { "https" } else { "http" });
        let gate = Gate { region: &self.services.region, key_of: &key_of, now: self.clock.now() };
        if form::is_form(&parts) {
            let address = Address::parse(&authority, parts.uri.path(), &self.domains)?;
            let (response, key) = form::serve(&self.services, gate, parts, address, origin, body).await?;
            if let Some(key) = key {
                self.users.note_key_use(&key).await;
            }
            return Ok(response);
        }
        let address = || Address::parse(&authority, parts.uri.path(), &self.domains);
        let admitted = if link_v2::is_one(&parts.headers, &query) {
            gate.admit_link(&parts, &query, &address()?, body)
        } else {
            gate.admit(&parts, &query, &authority, body)
        };
        // Who opens a presigned address or sends a form has not made it.
        let by_header = parts.headers.contains_key(header::AUTHORIZATION);
        let (verified, body) = admitted.inspect_err(|error| {
            if by_header && matches!(error.code, Code::InvalidAccessKeyId | Code::SignatureDoesNotMatch) {
                self.bans.failed_login(peer.address.ip(), bans::Door::S3);
            }
        })?;
        let address = address()?;
        let request = Request::new(parts, query, address, origin, bodyless, verified)?;
        let (mut operation, allowed) = match self.decide(&request).await {
            Ok(decided) => decided,
            Err(error) => {
                body.pass_over(&request).await;
                return Err(error);
            }
        };
        if let Some(key) = request.verified().key() {
            self.users.note_key_use(key).await;
        }
        match allowed {
            Allowed::Whole => operation.run(&self.services, &request, body).await,
            Allowed::NewOnly => {
                let asked = operation.only_new()?;
                let done = operation.run(&self.services, &request, body).await;
                done.map_err(|error| match error.code {
                    Code::PreconditionFailed if asked == Condition::Any => holds_one(),
                    _ => error,
                })
            }
        }
    }

    /// What is asked, and whether its sender may.
    async fn decide(&self, request: &Request) -> Result<(Operation, Allowed), S3Error> {
        let operation = Operation::parse(request)?;
        let allowed = Judge::new(&self.services, request).await?.admit(&operation.needs(request))?;
        Ok((operation, allowed))
    }
}

/// Whether the client waits to be asked for a body that has no bytes: nobody will ask. The AWS CLI and boto3 do so for
/// empty files, and on a connection where the answer came unasked they misread the next one, so it has to be the last.
fn waits_in_vain(parts: &Parts, body: &Body) -> bool {
    let waits = parts.version == Version::HTTP_11 && parts.headers.contains_key(header::EXPECT);
    waits && http_body::Body::is_end_stream(body)
}

impl Handler for S3Door {
    fn call(&self, request: http::Request<Body>, peer: Peer) -> Answer<'_> {
        Box::pin(self.answer(request, peer))
    }
}

impl fmt::Debug for S3Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Door").field("services", &self.services).finish_non_exhaustive()
    }
}
