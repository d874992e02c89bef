//! Where the server's own errors go: into its error capture, or to the project a DSN names (`issues.own_errors`).
//!
//! Delivery is one task behind the queue of [`OwnErrors`]. It logs its own trouble below level `error` and then leaves
//! what comes alone for a while, so that it cannot feed on itself.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use sentry::Envelope;
use sentry::types::Dsn;

use super::StartError;
use super::start::Plan;
use super::status::VERSION;
use crate::base::Shutdown;
use crate::base::supervise::Role;
use crate::http::client::{Client, Reach};
use crate::issues::{Issues, OWN_PROJECT, OwnErrorsTo};
use crate::telemetry::OwnErrors;
use crate::telemetry::own_errors::Captured;

/// What events say they are from.
const RELEASE: &str = concat!("mainstay@", env!("CARGO_PKG_VERSION"));

/// The address of events that stay here. The SDK makes none without one; nobody looks at it.
const HERE: &str = "http://mainstay@localhost/0";

/// How long delivery rests after it failed.
const REST: Duration = Duration::from_mins(1);

/// How long a call may take, and the longest answer that is read.
const CALL: Duration = Duration::from_secs(15);
const ANSWER: usize = 64 << 10;

/// What makes events of errors from now on, and the queue they end up in; nothing if they are to stay in the log.
pub fn capture(plan: &Plan) -> Option<(OwnErrors, Captured)> {
    let dsn = match &plan.config.issues.own_errors {
        OwnErrorsTo::Off => return None,
        OwnErrorsTo::Here => HERE.parse().ok()?,
        OwnErrorsTo::Elsewhere(dsn) => Dsn::clone(dsn),
    };
    Some(OwnErrors::new(dsn, RELEASE, Arc::clone(&plan.clock), &plan.metrics))
}

/// Starts delivering what is captured. Blocks.
///
/// # Errors
/// [`StartError::OwnErrors`] when the TLS library refuses its own defaults.
pub fn start(plan: &Plan, issues: Issues, captured: Captured) -> Result<(), StartError> {
    let way = match &plan.config.issues.own_errors {
        OwnErrorsTo::Off => return Ok(()),
        OwnErrorsTo::Here => Way::Here(issues),
        OwnErrorsTo::Elsewhere(dsn) => {
            Way::Elsewhere(Client::new(CALL, ANSWER).map_err(StartError::OwnErrors)?, Dsn::clone(dsn))
        }
    };
    let delivering = deliver(way, captured, plan.supervisor.shutdown().clone());
    plan.supervisor.task("own-errors", Role::Ordinary, delivering);
    Ok(())
}

enum Way {
    Here(Issues),
    Elsewhere(Client, Dsn),
}

async fn deliver(way: Way, mut captured: Captured, shutdown: Shutdown) {
    let mut draining = std::pin::pin!(shutdown.draining());
    loop {
        let next = tokio::select! {
            next = captured.next() => next,
            () = draining.as_mut() => break,
        };
        let Some(envelope) = next else { return };
        if let Err(reason) = way.deliver(&envelope).await {
            tracing::warn!(reason, "an error of the server itself could not be captured");
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                () = draining.as_mut() => break,
            }
        }
    }
    // What led to the stop came before it.
    while let Some(envelope) = captured.waiting() {
        if let Err(reason) = way.deliver(&envelope).await {
            tracing::warn!(reason, "the last errors of the server itself could not be captured");
            return;
        }
    }
}

impl Way {
    async fn deliver(&self, envelope: &Envelope) -> Result<(), String> {
        match self {
            Self::Here(issues) => {
                let Some(event) = envelope.event() else { return Ok(()) };
                let event = serde_json::to_vec(event).map_err(|error| error.to_string())?;
                let taken = issues.accept(OWN_PROJECT, vec![Bytes::from(event)], IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
                taken.map(|_ids| ()).map_err(|error| error.to_string())
            }
            Self::Elsewhere(client, dsn) => {
                let mut body = Vec::new();
                envelope.to_writer(&mut body).map_err(|error| error.to_string())?;
                let agent = format!("mainstay/{VERSION}");
                let url = dsn.envelope_api_url();
                let host = format!("{}:{}", dsn.host(), dsn.port());
                let request = Request::post(url.as_str())
                    .header(header::HOST, host)
                    .header(header::USER_AGENT, &agent)
                    .header(header::CONTENT_TYPE, "application/x-sentry-envelope")
                    .header("x-sentry-auth", dsn.to_auth(Some(&agent)).to_string())
                    .body(Bytes::from(body))
                    .map_err(|error| error.to_string())?;
                // The operator wrote the address.
                let answer = client.call(request, Reach::Any).await.map_err(|error| error.to_string())?;
                if answer.status().is_success() { Ok(()) } else { Err(format!("answered {}", answer.status())) }
            }
        }
    }
}

#[cfg(test)]
#[path = "own_errors_tests.rs"]
mod tests;
