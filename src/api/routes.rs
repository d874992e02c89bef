//! The paths of the console door.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::base::Clock;
use crate::monitor::Checks;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What the console door answers from.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    checks: Checks,
    state: Store,
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    started: Duration,
}

impl Api {
    /// Answers from `checks`, `metrics` and the store of `state.redb`; the time it runs counts from now.
    pub fn new(checks: Checks, state: Store, metrics: Metrics, clock: Arc<dyn Clock>) -> Self {
        let started = clock.monotonic();
        Self(Arc::new(Inner { checks, state, metrics, clock, started }))
    }

    /// The routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/health/db", get(health_db))
            .route("/health/ready", get(health_ready))
            .route("/metrics", get(metrics))
            .fallback(not_found)
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(self.clone())
    }
}

/// The process lives and answers.
async fn health(State(api): State<Api>) -> Response {
    let uptime = api.0.clock.monotonic().saturating_sub(api.0.started).as_secs();
    answer(StatusCode::OK, &json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_seconds": uptime}))
}

/// The store answers a read.
async fn health_db(State(api): State<Api>) -> Response {
    let began = api.0.clock.monotonic();
    let read = api.0.state.read(|tx| tx.get(crate::store::Table::new("accounts.passwords"), b"redis").map(|_| ()));
    let failure = match tokio::time::timeout(Duration::from_secs(5), read).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_elapsed) => Some(String::from("no answer in five seconds")),
    };
    let taken = api.0.clock.monotonic().saturating_sub(began).as_millis() as u64;
    match failure {
        None => answer(StatusCode::OK, &json!({"status": "ok", "milliseconds": taken})),
        Some(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"status": "failed", "reason": reason})),
    }
}

/// Every part works.
async fn health_ready(State(api): State<Api>) -> Response {
    let report = api.0.checks.report().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!(report))
}

async fn metrics(State(api): State<Api>) -> Response {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")], api.0.metrics.exposition()).into_response()
}

async fn not_found(uri: Uri) -> Response {
    problem(StatusCode::NOT_FOUND, "Not Found", &format!("nothing answers at {}", uri.path()))
}

async fn method_not_allowed() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", "this path answers GET and HEAD")
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    const JSON: &str = "application/json";
    let headers = [(header::CONTENT_TYPE, JSON), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}

/// A problem document (RFC 9457).
fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::base::Shutdown;
    use crate::http::{Body, Handler, Peer, RouterHandler, body};
    use crate::testing::{TestClock, memory_store};

    struct Door {
        handler: RouterHandler,
        store: Store,
        shutdown: Shutdown,
    }

    fn door() -> Door {
        let (store, shutdown, metrics) = (memory_store(), Shutdown::new(), Metrics::new());
        metrics.counter("mainstay_x_total", "x", &[]).inc();
        let checks = Checks::new(vec![crate::monitor::Check::store(store.clone())], shutdown.clone());
        let api = Api::new(checks, store.clone(), metrics, Arc::new(TestClock::default()));
        Door { handler: RouterHandler::new(api.router()), store, shutdown }
    }

    impl Door {
        async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
            let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), secure: false, door: "console" };
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = self.handler.call(request, peer).await;
            let (head, bytes) = response.into_parts();
            let kind = head.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            let text = body::read(bytes, 1 << 20).await.unwrap();
            (head.status.as_u16(), kind, String::from_utf8_lossy(text.as_ref()).into_owned())
        }
    }

    #[tokio::test]
    async fn a_healthy_server_says_so() {
        let door = door();
        for path in ["/health", "/health/db"] {
            let (status, kind, text) = door.ask("GET", path).await;
            assert_eq!((status, kind.as_str()), (200, "application/json"), "{text}");
            assert!(text.contains(r#""status":"ok""#), "{text}");
        }
        assert_eq!(door.ask("GET", "/health/ready").await.0, 200);
        assert!(door.ask("GET", "/metrics").await.2.contains("mainstay_x_total 1\n"));
    }

    #[tokio::test]
    async fn a_closed_store_fails_the_checks_but_not_liveness() {
        let door = door();
        door.store.close().await;
        assert_eq!(door.ask("GET", "/health").await.0, 200);
        assert_eq!(door.ask("GET", "/health/db").await.0, 503);
        let (status, _, text) = door.ask("GET", "/health/ready").await;
        assert!(status == 503 && text.contains(r#""reason":"closed""#), "{text}");
    }

    #[tokio::test]
    async fn a_draining_server_is_not_ready() {
        let door = door();
        door.shutdown.drain();
        assert_eq!(door.ask("GET", "/health/ready").await.0, 503);
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_problem_documents() {
        let door = door();
        let (status, kind, text) = door.ask("GET", "/nothing").await;
        assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
        assert!(text.contains("nothing answers at /nothing"), "{text}");
        assert_eq!(door.ask("POST", "/health").await.0, 405);
    }
}
