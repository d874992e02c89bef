//! The server itself: status and settings.

use serde_json::json;

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};

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

/// `GET /v1/settings`.
pub fn settings(api: &V1) -> Result<Reply, Problem> {
    let all = api.settings().iter().map(|setting| {
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
