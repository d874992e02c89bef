//! Who is logged in.

use std::net::IpAddr;

use super::{Console, Fault};

/// Somebody's session.
#[derive(Clone, Debug)]
pub struct Session {
    user: String,
    csrf: String,
}

impl Session {
    /// Whose it is: an e-mail address.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What its forms send back.
    pub fn csrf(&self) -> String {
        self.csrf.clone()
    }

    /// What its messages are bound to.
    pub fn subject(&self) -> String {
        self.csrf.clone()
    }
}

/// The session that `token` opens.
///
/// # Errors
/// The store failed.
#[expect(clippy::unused_async, reason = "the store is asked")]
pub async fn find(_console: &Console, _token: &str, _address: IpAddr, _agent: &str) -> Result<Option<Session>, Fault> {
    Ok(None)
}
