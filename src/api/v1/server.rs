//! The server itself: status, certificates, apps behind the edge, and settings.

use serde_json::json;

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::base::Timestamp;

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
    let moment = |millis: Option<u64>| millis.map(|millis| Timestamp(millis).to_string());
    let all = api.certificates().all().into_iter().map(|view| {
        json!({
            "name": view.name,
            "origin": view.origin,
            "authority": view.authority,
            "expires_at": moment(view.expires_ms),
            "renew_at": moment(view.renew_at_ms),
            "ordering": view.ordering,
            "last_attempt_at": moment(view.last_attempt_ms),
            "failures": view.failures,
            "next_attempt_at": moment(view.next_attempt_ms),
            "error": view.error,
        })
    });
    page(all.collect(), None)
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
