//! The server itself: status, certificates, apps behind the edge, and settings.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::base::Timestamp;
use crate::monitor::{CertificateView, WhichKept};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    all: bool,
}

/// `GET /v1/status`.
pub async fn status(api: V1, _call: Call) -> Result<Reply, Problem> {
    let report = api.checks().report().await;
    Reply::ok(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": api.uptime(),
        "ready": report.ready,
        "draining": report.draining,
        "parts": report.parts,
    }))
}

/// `GET /v1/certificates`.
pub fn certificates(api: &V1) -> Result<Reply, Problem> {
    page(api.certificates().all().iter().map(certificate).collect(), None)
}

fn certificate(view: &CertificateView) -> Value {
    let moment = |millis: Option<u64>| millis.map(|millis| Timestamp(millis).to_string());
    json!({
            "name": view.name,
            "origin": view.origin,
            "authority": view.authority,
            "expires_at": moment(view.expires_ms),
            "renew_at": moment(view.renew_at_ms),
            "ordering": view.ordering,
            "last_attempt_at": moment(view.last_attempt_ms),
            "can_renew": view.can_renew,
            "failures": view.failures,
            "next_attempt_at": moment(view.next_attempt_ms),
            "error": view.error,
    })
}

/// `POST /v1/certificates/{name}/renew`.
pub async fn renew(api: V1, call: Call) -> Result<Reply, Problem> {
    let name = call.name(0);
    if !api.certificates().renew(name) {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("no certificate is ordered for `{name}`")));
    }
    api.users().note(&call.by(), "certificate.ordered", name).await?;
    let all = api.certificates().all();
    let view = all.iter().find(|view| view.name.eq_ignore_ascii_case(name));
    Reply::accepted(&view.map(certificate))
}

/// `GET /v1/internal-ca`.
pub fn internal_authority(api: &V1) -> Result<Reply, Problem> {
    let none =
        || Problem::new(StatusCode::NOT_FOUND, "there is no internal authority: edge.internal_ca.names is empty");
    let root = api.certificates().root().ok_or_else(none)?;
    Reply::ok(&json!({
        "subject": root.subject,
        "sha256": root.sha256,
        "names": root.names,
        "not_before": Timestamp(root.not_before_ms).to_string(),
        "not_after": Timestamp(root.not_after_ms).to_string(),
        "pem": root.pem,
    }))
}

/// `GET /v1/upstreams`.
pub fn upstreams(api: &V1) -> Result<Reply, Problem> {
    let moment = |millis: Option<u64>| millis.map(|millis| Timestamp(millis).to_string());
    let all = api.upstreams().all().into_iter().map(|view| {
        json!({
            "upstream": view.upstream,
            "sites": view.sites,
            "state": view.state,
            "active": view.active,
            "requests": view.requests,
            "failed": view.failed,
            "failures": view.failures,
            "again_at": moment(view.again_at_ms),
            "checked": view.checked,
            "last_check_at": moment(view.last_check_ms),
            "error": view.error,
        })
    });
    page(all.collect(), None)
}

/// `GET /v1/cache`.
pub fn cache(api: &V1) -> Result<Reply, Problem> {
    Reply::ok(&api.sites().cache().ok_or_else(edge_is_off)?)
}

fn edge_is_off() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "the edge is off: edge.http and edge.https are empty")
}

/// `POST /v1/cache/purge`.
pub async fn purge(api: V1, call: Call) -> Result<Reply, Problem> {
    let Purge { host, prefix, all } = call.json()?;
    let which = WhichKept::of(host, prefix, all).map_err(Problem::bad)?;
    let purged = api.sites().purge(which.clone()).await.ok_or_else(edge_is_off)?;
    api.users().note(&call.by(), "cache.purged", &which.to_string()).await?;
    Reply::ok(&json!({ "purged": purged }))
}

/// `GET /v1/settings`.
pub fn settings(api: &V1) -> Result<Reply, Problem> {
    let settings = api.settings().all();
    let all = settings.iter().map(|setting| {
        json!({
            "key": setting.key,
            "value": setting.value,
            "default": setting.default,
            "source": setting.source,
            "is_set": setting.is_set(),
            "doc": setting.doc,
        })
    });
    page(all.collect(), None)
}
