//! The health addresses of MinIO, which compose files and probes name.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::respond;
use crate::http::Body;

/// Answers `GET` and `HEAD` of `/minio/health/…` without authentication; `None` for any other request. `ready` says
/// whether the server takes requests; being alive needs no more than this answer.
pub fn answer(parts: &Parts, ready: impl FnOnce() -> bool) -> Option<Response<Body>> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return None;
    }
    let well = match parts.uri.path().strip_prefix("/minio/health/")? {
        "live" => true,
        "ready" | "cluster" | "cluster/read" => ready(),
        _ => return None,
    };
    let (status, text) = if well { (StatusCode::OK, "online") } else { (StatusCode::SERVICE_UNAVAILABLE, "offline") };
    let mut response = respond::empty(status);
    let name = HeaderName::from_static("x-minio-server-status");
    response.headers_mut().insert(name, HeaderValue::from_static(text));
    Some(response)
}
