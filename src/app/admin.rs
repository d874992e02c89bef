//! The first account, for machines that are set up by a program: from the environment.

use std::io;

use tokio::runtime::Handle as Runtime;

use super::StartError;
use super::start::Plan;
use crate::accounts::{AccountsError, Users};
use crate::base::{Secret, disk};

const EMAIL: &str = "MAINSTAY_ADMIN_EMAIL";
const PASSWORD: &str = "MAINSTAY_ADMIN_PASSWORD (or MAINSTAY_ADMIN_PASSWORD_FILE)";
const BOTH: &str = "MAINSTAY_ADMIN_EMAIL and MAINSTAY_ADMIN_PASSWORD (or MAINSTAY_ADMIN_PASSWORD_FILE)";

/// Largest file with a password.
const PASSWORD_FILE: u64 = 4096;

/// Makes the first account as the environment of `plan` says; does nothing when it says nothing, or there is one. Blocks.
///
/// # Errors
/// [`StartError::Admin`], [`StartError::AdminFile`]: there is no account then.
pub(super) fn claim(plan: &Plan, users: &Users) -> Result<(), StartError> {
    if users.is_claimed() {
        return Ok(());
    }
    let environment = &plan.environment;
    let password = match (&environment.admin_password, &environment.admin_password_file) {
        (Some(password), None) => Some(password.clone()),
        (None, Some(path)) => {
            let failed = |source| StartError::AdminFile { path: path.clone(), source };
            let bytes = disk::read_file(plan.disk.as_ref(), path, PASSWORD_FILE).map_err(failed)?;
            let bytes = bytes.ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
            let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
            Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => None,
        (Some(_), Some(_)) => {
            let what = "MAINSTAY_ADMIN_PASSWORD and MAINSTAY_ADMIN_PASSWORD_FILE";
            return Err(StartError::Admin { from: what, source: AccountsError::TwoPasswords });
        }
    };
    let (email, password) = match (&environment.admin_email, password) {
        (None, None) => return Ok(()),
        (Some(email), Some(password)) => (email, password),
        _ => return Err(AccountsError::HalfPair(BOTH).into()),
    };
    let claimed = Runtime::current().block_on(users.claim_from_environment(email, &password));
    claimed.map_err(|source| {
        let from = if matches!(source, AccountsError::BadEmail) { EMAIL } else { PASSWORD };
        StartError::Admin { from, source }
    })
}
