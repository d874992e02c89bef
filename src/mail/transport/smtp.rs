//! Handing messages to an SMTP relay (RFC 5321), through the `lettre` crate.
//!
//! One recipient a transaction: lettre gives up the whole message when any recipient is refused. After any error lettre
//! drops the connection, so no half transaction is ever reused.

use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::address::Envelope;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::Transport;
use crate::base::Secret;
use crate::mail::outbox::Outcome;

/// How long an idle connection to the relay is kept. Relays close idle ones after minutes; most allow few at once.
const IDLE: Duration = Duration::from_secs(30);

/// A relay.
pub struct SmtpRelay(AsyncSmtpTransport<Tokio1Executor>);

/// Why a relay cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error(
    "mail.relay is no relay address: {0}; write `smtps://host:465`, `smtp://host:587?tls=required` or `smtp://127.0.0.1:25`"
)]
pub struct RelayError(String);

impl SmtpRelay {
    /// The relay at `url`, spoken to as `user` if it asks, greeted as `host`; at most `connections` at once, each answer
    /// awaited for `timeout`.
    ///
    /// # Errors
    /// [`RelayError`]; nothing was connected.
    pub fn new(
        url: &str,
        login: Option<(String, Secret<String>)>,
        host: &str,
        connections: usize,
        timeout: Duration,
    ) -> Result<Self, RelayError> {
        if url.contains('@') {
            return Err(RelayError(
                "user and password do not belong into it, but into settings of their own".to_owned(),
            ));
        }
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|error| RelayError(error.to_string()))?
            .hello_name(ClientId::Domain(host.to_owned()))
            .timeout(Some(timeout))
            .pool_config(PoolConfig::new().max_size(connections as u32).idle_timeout(IDLE));
        let builder = match login {
            Some((user, password)) => builder.credentials(Credentials::new(user, password.expose().clone())),
            None => builder,
        };
        Ok(Self(builder.build()))
    }

    async fn hand_over(&self, from: &str, to: &str, text: &[u8]) -> Outcome {
        let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
            return Outcome::Refused("an address of the envelope is not valid".to_owned());
        };
        let Ok(envelope) = Envelope::new(Some(from), vec![to]) else {
            return Outcome::Refused("the envelope has no recipient".to_owned());
        };
        // The outbox takes in no such message. lettre's stuffing of dots relies on it (RUSTSEC-2026-0561): behind a lone
        // line end it adds no dot, and a relay that takes one for a line end would find the message's end there.
        if has_lone_line_end(text) {
            return Outcome::Refused("the message has a lone carriage return or line feed".to_owned());
        }
        // lettre ends the data with CR LF, dot, CR LF of its own; without this every message would gain an empty line.
        let text = text.strip_suffix(b"\r\n").unwrap_or(text);
        match self.0.send_raw(&envelope, text).await {
            Ok(response) => {
                let lines: Vec<&str> = response.message().collect();
                Outcome::Delivered(format!("{} {}", response.code(), lines.join(" ")))
            }
            Err(error) => classify(&error),
        }
    }
}

/// Whether a CR stands without an LF behind it, or an LF without a CR before it.
fn has_lone_line_end(text: &[u8]) -> bool {
    let mut before = 0;
    for &byte in text {
        if (byte == b'\n') != (before == b'\r') {
            return true;
        }
        before = byte;
    }
    before == b'\r'
}

/// A 5xx answer is final, everything else is tried again; 454 with "throttl" is how SES says that its rate is used up.
fn classify(error: &lettre::transport::smtp::Error) -> Outcome {
    let mut note = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !note.contains(&cause_text) {
            note = format!("{note}: {cause_text}");
        }
        source = cause.source();
    }
    if error.is_permanent() {
        Outcome::Refused(note)
    } else if error.status().is_some_and(|code| code.to_string() == "454") && note.to_lowercase().contains("throttl") {
        Outcome::Throttled(note)
    } else {
        Outcome::Retry(note)
    }
}

impl Transport for SmtpRelay {
    fn send<'a>(&'a self, from: &'a str, to: &'a str, text: &'a [u8]) -> BoxFuture<'a, Outcome> {
        Box::pin(self.hand_over(from, to, text))
    }
}

impl std::fmt::Debug for SmtpRelay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmtpRelay")
    }
}

#[cfg(test)]
#[path = "smtp_tests.rs"]
mod tests;
