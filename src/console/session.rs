//! Who is logged in.

use super::entry::Origin;
use super::{Console, Fault};
use crate::accounts::{self, By};
use crate::base::Secret;

/// Somebody's session, as pages see it.
#[derive(Clone, Debug)]
pub struct Session(accounts::Session);

impl Session {
    /// Whose it is: an e-mail address.
    pub fn user(&self) -> &str {
        self.0.user.email.as_str()
    }

    /// The session for [`accounts::Users`].
    pub const fn account(&self) -> &accounts::Session {
        &self.0
    }

    /// Its owner as one who does something, for the audit log.
    pub fn by(&self, origin: &Origin) -> By {
        By::user(&self.0.user, &origin.client())
    }

    /// What its forms send back, and its messages are bound to.
    pub fn csrf(&self) -> &str {
        self.0.csrf.expose()
    }
}

impl From<accounts::Session> for Session {
    fn from(session: accounts::Session) -> Self {
        Self(session)
    }
}

/// The session that `token` opens.
///
/// # Errors
/// The store failed.
pub async fn find(console: &Console, token: &str, origin: &Origin) -> Result<Option<Session>, Fault> {
    let token = Secret::new(token.to_owned());
    let found = console.world().users.session(&token, &origin.client()).await;
    found.map(|session| session.map(Session)).map_err(|error| Fault::failed("list of sessions", &error))
}
