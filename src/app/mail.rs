//! Mail put together: the outbox, its delivery, and the two doors into it.

use std::path::Path;
use std::sync::Arc;

use axum::Router;

use super::StartError;
use super::doors::{Doors, SMTP};
use super::start::{Ground, Plan};
use crate::bans::Bans;
use crate::base::supervise::Role;
use crate::base::{Secret, disk};
use crate::http::client::Client;
use crate::http::sigv4::Signer;
use crate::mail::transport::Development;
use crate::mail::transport::ses::SesApi;
use crate::mail::transport::smtp::SmtpRelay;
use crate::mail::{Delivery, MailConfig, Outbox, Transport, TransportKind};
use crate::{http, ses, smtp};

/// Largest answer of SES that is read.
const SES_ANSWER: usize = 64 << 10;

/// Largest file with a password.
const PASSWORD_FILE: u64 = 4096;

/// Starts delivery and the SMTP door. Gives back the SES door's routes, for the console's listener, and
/// the outbox. Blocks.
///
/// # Errors
/// [`StartError::Mail`] when a setting of the transport is wrong or names a file that does not read.
pub fn start(plan: &Plan, ground: &Ground, doors: &mut Doors, bans: &Bans) -> Result<(Router, Outbox), StartError> {
    let config = &plan.config.mail;
    let host = plan.config.edge.domain.clone();
    let (clock, random, metrics) = (Arc::clone(&plan.clock), Arc::clone(&plan.random), &plan.metrics);
    let outbox = Outbox::new(ground.state.clone(), Arc::clone(&clock), random, metrics, config.clone());
    let transport = transport(plan, config, &host)?;
    Delivery::new(outbox.clone(), transport, Arc::clone(&clock), metrics).start(&plan.supervisor);

    let (keys, region) = (Arc::clone(&ground.keys), plan.config.s3.region.clone());
    if let Some(listener) = doors.take(SMTP) {
        let listener = http::adopt(listener).map_err(|source| StartError::Thread { what: SMTP.name, source })?;
        let settings = plan.config.smtp.clone();
        let (keys, clock) = (Arc::clone(&keys), Arc::clone(&clock));
        let place = smtp::Place { region: region.clone(), host: host.clone() };
        let door = smtp::Door::new(outbox.clone(), keys, clock, settings, place, bans.clone(), metrics);
        let serving = smtp::serve(listener, Arc::new(door), plan.supervisor.clone());
        plan.supervisor.task(SMTP.name, Role::Critical, serving);
    }
    let door = ses::Door::new(outbox.clone(), keys, clock, region, host, bans.clone(), metrics);
    Ok((Arc::new(door).router(), outbox))
}

fn transport(plan: &Plan, config: &MailConfig, host: &str) -> Result<Arc<dyn Transport>, StartError> {
    let wrong = |key: &'static str, reason: String| StartError::Mail { key, reason };
    let limit = config.attempt_timeout.duration();
    match config.transport {
        TransportKind::Development => Ok(Arc::new(Development)),
        TransportKind::Smtp => {
            let login = if config.relay_user.is_empty() {
                None
            } else {
                let password = secret(plan, "mail.relay_password_file", &config.relay_password_file)?;
                Some((config.relay_user.clone(), password))
            };
            let relay = SmtpRelay::new(&config.relay, login, host, config.concurrency, limit)
                .map_err(|error| wrong("mail.relay", error.to_string()))?;
            Ok(Arc::new(relay))
        }
        TransportKind::Ses => {
            let file = &config.ses_secret_access_key_file;
            let signer = Signer {
                access_key_id: config.ses_access_key_id.clone(),
                secret: secret(plan, "mail.ses_secret_access_key_file", file)?,
            };
            let client = Client::new(limit, SES_ANSWER).map_err(|error| wrong("mail.transport", error.to_string()))?;
            let (region, endpoint) = (&config.ses_region, &config.ses_endpoint);
            let api = SesApi::new(client, signer, region, endpoint, Arc::clone(&plan.clock))
                .map_err(|error| wrong("mail.ses_endpoint", error.to_string()))?;
            Ok(Arc::new(api))
        }
    }
}

/// The first line of the file that setting `key` names.
fn secret(plan: &Plan, key: &'static str, file: &str) -> Result<Secret<String>, StartError> {
    let wrong = |reason: String| StartError::Mail { key, reason };
    let bytes = disk::read_file(plan.disk.as_ref(), Path::new(file), PASSWORD_FILE)
        .map_err(|error| wrong(format!("cannot read {file}: {error}")))?
        .ok_or_else(|| wrong(format!("there is no file {file}")))?;
    let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    let line = text.expose().lines().next().unwrap_or_default().trim().to_owned();
    if line.is_empty() { Err(wrong(format!("{file} is empty"))) } else { Ok(Secret::new(line)) }
}
