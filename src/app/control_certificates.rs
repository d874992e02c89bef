//! What can be asked about certificates over `control.sock`.

use std::path::Path;

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::edge::Keeper;
use crate::monitor::CertificateView;

pub(super) fn list(facts: &Facts) -> Result<Vec<CertificateView>, &'static str> {
    keeper(facts).map(Keeper::view)
}

pub(super) fn renew(facts: &Facts, name: &str) -> Result<bool, String> {
    if keeper(facts)?.renew(name) {
        return Ok(true);
    }
    Err(format!(
        "no certificate is ordered for {name}: see `mainstay certs`, edge.acme.names and edge.acme.agree_terms"
    ))
}

fn keeper(facts: &Facts) -> Result<&Keeper, &'static str> {
    facts.edge.as_ref().map(|edge| edge.keeper().as_ref()).ok_or("the edge is off: edge.http and edge.https are empty")
}

/// Asks the server that runs on `folder` for its certificates. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn all(folder: &Path) -> Result<Vec<CertificateView>, ControlError> {
    ask(folder, Ask::Certificates)
}

/// Tells the server that runs on `folder` to order a certificate for `name` now. Blocks.
///
/// # Errors
/// [`ControlError`]: the server orders none for that name.
pub fn order_now(folder: &Path, name: String) -> Result<(), ControlError> {
    ask::<bool>(folder, Ask::RenewCertificate { name }).map(drop)
}
