//! What the edge counts beyond what every HTTP listener does (`mainstay_http_*` with `door="edge"`).

use super::pool::Failure;
use crate::telemetry::metrics::LATENCY_SECONDS;
use crate::telemetry::{Counter, Gauge, Histogram, Metrics};

/// The edge's counters. Clones are the same counters.
#[derive(Clone, Debug)]
pub struct EdgeMetrics {
    /// Finished TLS handshakes.
    pub tls_handshakes: Counter,
    /// Handshakes that failed or took too long.
    pub tls_errors: Counter,
    /// Connections from load balancers without a PROXY header that can be read.
    pub unannounced: Counter,
    /// Those of HTTP/3 among the finished ones.
    pub http3_handshakes: Counter,
    /// Connections closed at once for want of a place.
    pub connections_refused: Counter,
    /// Requests answered here because of their head or body (400, 408, 413, 417, 501, 508).
    pub refused: Counter,
    /// Requests that a rate zone stopped (429).
    pub limited: Counter,
    /// Requests from addresses that are not served (403).
    pub denied: Counter,
    /// Requests, and connections for TLS, of who is banned.
    pub banned: Counter,
    /// Headers dropped for an underscore in their name.
    pub dropped_headers: Counter,
    /// Time from sending a request to the app to its response head.
    pub upstream_seconds: Histogram,
    /// Requests sent a second time, on a fresh connection.
    pub upstream_retries: Counter,
    /// Times a copy of an app was left out for a while.
    pub upstream_ejections: Counter,
    /// WebSockets open now.
    pub upgraded: Gauge,
    /// Lines of the request log dropped because the disk was too slow.
    pub log_dropped: Counter,
    connect: Counter,
    broken: Counter,
    timeout: Counter,
    registry: Metrics,
}

/// What is counted of one copy of an app.
#[derive(Clone, Debug)]
pub struct UpstreamCounts {
    /// Requests it was sent.
    pub requests: Counter,
    /// Those it did not answer.
    pub failed: Counter,
}

impl EdgeMetrics {
    /// Registers everything.
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let upstream = |error| {
            let help = "Requests the app did not answer, by reason.";
            metrics.counter("mainstay_edge_upstream_errors_total", help, &[("error", error)])
        };
        Self {
            tls_handshakes: counter("mainstay_edge_tls_handshakes_total", "Finished TLS handshakes."),
            tls_errors: counter("mainstay_edge_tls_errors_total", "TLS handshakes that failed or took too long."),
            unannounced: counter(
                "mainstay_edge_unannounced_total",
                "Connections from edge.proxy_protocol closed for want of a PROXY header.",
            ),
            http3_handshakes: counter(
                "mainstay_edge_http3_handshakes_total",
                "Finished handshakes of HTTP/3, which are among the TLS handshakes.",
            ),
            connections_refused: counter(
                "mainstay_edge_connections_refused_total",
                "Connections closed at once because of edge.limits.connections or connections_per_ip.",
            ),
            refused: counter("mainstay_edge_refused_total", "Requests refused for their head or body."),
            limited: counter("mainstay_edge_limited_total", "Requests that a rate zone stopped (429)."),
            denied: counter("mainstay_edge_denied_total", "Requests from addresses that are not served (403)."),
            banned: counter("mainstay_edge_banned_total", "Requests and TLS connections refused because of a ban."),
            dropped_headers: counter(
                "mainstay_edge_dropped_headers_total",
                "Request headers dropped because their name has an underscore.",
            ),
            upstream_seconds: metrics.histogram(
                "mainstay_edge_upstream_seconds",
                "Time from sending a request to the app to its response head.",
                &[],
                LATENCY_SECONDS,
            ),
            upstream_retries: counter(
                "mainstay_edge_upstream_retries_total",
                "Requests sent again because a kept connection had gone stale.",
            ),
            upstream_ejections: counter(
                "mainstay_edge_upstream_ejections_total",
                "Times a copy of an app got no requests for a while because it failed.",
            ),
            upgraded: metrics.gauge("mainstay_edge_upgraded", "WebSockets open now.", &[]),
            log_dropped: counter("mainstay_edge_log_dropped_total", "Request log lines dropped."),
            connect: upstream("connect"),
            broken: upstream("broken"),
            timeout: upstream("timeout"),
            registry: metrics.clone(),
        }
    }

    /// The counts of the copy called `name`; the same ones for the same name. Names come from settings.
    pub fn of_upstream(&self, name: &str) -> UpstreamCounts {
        let counter = |metric, help| self.registry.counter(metric, help, &[("upstream", name)]);
        UpstreamCounts {
            requests: counter("mainstay_edge_upstream_requests_total", "Requests sent to a copy of an app."),
            failed: counter("mainstay_edge_upstream_failed_total", "Requests a copy of an app did not answer."),
        }
    }

    /// Counts an upstream's failure.
    pub fn failed(&self, failure: &Failure) {
        match failure {
            Failure::Connect(_) => self.connect.inc(),
            Failure::Broken(_) | Failure::NoUpgrade => self.broken.inc(),
            Failure::ConnectTimeout | Failure::ResponseTimeout => self.timeout.inc(),
        }
    }
}
