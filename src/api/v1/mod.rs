//! `/v1`: the server's administration for programs, as JSON.
//!
//! One table ([`table::ROUTES`]) has every route with its method, path, scope and shapes; requests are matched with it,
//! and `/v1/openapi.json` is written from it. A request passes `answer.rs` top to bottom: path, method, token, scope,
//! query, body; what is not understood is refused, never ignored. Every error is a problem document. No answer allows
//! another origin (no CORS), and none is kept by caches.
//!
//! Start reading at `answer.rs`, then `table.rs`.

mod analytics;
mod answer;
mod backups;
mod bans;
mod credentials;
mod faults;
mod limits;
mod openapi;
mod post;
mod problem;
mod route;
mod schemas;
mod scrub;
mod server;
mod storage;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};

use crate::accounts::Users;
use crate::analytics::Analytics;
use crate::backup::service::Backups;
use crate::bans::Bans;
use crate::base::{Clock, Timestamp, ids};
use crate::crypto::mac;
use crate::http::{Body, Peer};
use crate::issues::Issues;
use crate::limits::Limits;
use crate::mail::Outbox;
use crate::monitor::{Certificates, Checks, SettingViews, SitesSeen, Upstreams};
use crate::objects::Objects;

/// What the interface answers from.
pub struct World {
    /// People and credentials.
    pub users: Users,
    /// Buckets and objects.
    pub objects: Objects,
    /// Outbound mail.
    pub mail: Outbox,
    /// Captured errors.
    pub issues: Issues,
    /// Rate limits.
    pub limits: Limits,
    /// Who is banned at the edge.
    pub bans: Bans,
    /// How the pages of sites are visited.
    pub analytics: Analytics,
    /// Backups.
    pub backups: Backups,
    /// The parts that can fail.
    pub checks: Checks,
    /// The edge's certificates.
    pub certificates: Certificates,
    /// The apps behind the edge.
    pub upstreams: Upstreams,
    /// The sites of the edge, and what is kept of their answers.
    pub sites: SitesSeen,
    /// The settings.
    pub settings: SettingViews,
    /// Where S3 is reached, such as `http://127.0.0.1:9000`; `None` when it is off.
    pub s3_endpoint: Option<String>,
    /// The region S3 requests name.
    pub region: String,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The interface. Clones are the same.
#[derive(Clone)]
pub struct V1(Arc<Inner>);

struct Inner {
    world: World,
    started: Duration,
    document: String,
    etag: String,
}

impl V1 {
    /// Answers from `world`; the time it runs counts from now.
    pub fn new(world: World) -> Self {
        let started = world.clock.monotonic();
        let document = format!("{}\n", openapi::document());
        let digest = ids::hex(&mac::sha256(document.as_bytes()));
        let etag = format!("\"{}\"", digest.get(..32).unwrap_or(&digest));
        Self(Arc::new(Inner { world, started, document, etag }))
    }

    /// The routes below `/v1`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/openapi.json", get(document).fallback(|| async { problem::Problem::method("GET") }))
            .route("/v1", any(v1))
            .route("/v1/", any(v1))
            .route("/v1/{*rest}", any(v1))
            .with_state(self.clone())
    }

    fn users(&self) -> &Users {
        &self.0.world.users
    }

    fn objects(&self) -> &Objects {
        &self.0.world.objects
    }

    fn mail(&self) -> &Outbox {
        &self.0.world.mail
    }

    fn backups(&self) -> &Backups {
        &self.0.world.backups
    }

    fn issues(&self) -> &Issues {
        &self.0.world.issues
    }

    fn limits(&self) -> &Limits {
        &self.0.world.limits
    }

    fn bans(&self) -> &Bans {
        &self.0.world.bans
    }

    fn analytics(&self) -> &Analytics {
        &self.0.world.analytics
    }

    fn checks(&self) -> &Checks {
        &self.0.world.checks
    }

    fn certificates(&self) -> &Certificates {
        &self.0.world.certificates
    }

    fn sites(&self) -> &SitesSeen {
        &self.0.world.sites
    }

    fn upstreams(&self) -> &Upstreams {
        &self.0.world.upstreams
    }

    fn settings(&self) -> &SettingViews {
        &self.0.world.settings
    }

    fn s3_endpoint(&self) -> Option<&str> {
        self.0.world.s3_endpoint.as_deref()
    }

    fn region(&self) -> &str {
        &self.0.world.region
    }

    fn now(&self) -> Timestamp {
        self.0.world.clock.now()
    }

    /// Seconds since the start.
    fn uptime(&self) -> u64 {
        self.0.world.clock.monotonic().saturating_sub(self.0.started).as_secs()
    }
}

impl std::fmt::Debug for V1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("V1").finish_non_exhaustive()
    }
}

async fn v1(State(v1): State<V1>, Extension(peer): Extension<Peer>, request: Request<Body>) -> Response {
    answer::answer(v1, peer, request).await
}

/// The document: for anyone, since it is the same on every server.
async fn document(State(v1): State<V1>, headers: HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == v1.0.etag || tag.trim() == "*");
    let fresh = [(header::ETAG, v1.0.etag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if is_known {
        return (StatusCode::NOT_MODIFIED, fresh).into_response();
    }
    (fresh, [(header::CONTENT_TYPE, "application/json")], v1.0.document.clone()).into_response()
}
