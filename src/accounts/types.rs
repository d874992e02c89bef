//! Users, sessions and who did something, as callers see them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::AccountsError;
use crate::base::{Id128, Secret, Timestamp};

/// Most characters of a label.
pub const LABEL_MAX: usize = 100;

/// Most characters kept of a `User-Agent`.
const AGENT_MAX: usize = 200;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

/// A person's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: u64,
    /// Its e-mail address.
    pub email: Email,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// When its password was last set; 0 for one that was invited and has none yet.
    pub password_set: Timestamp,
    /// Whether a login needs a code too.
    pub second_factor: bool,
}

/// An e-mail address in lower case: one `@`, something on either side, no spaces, at most 254 bytes (RFC 5321,
/// 4.5.3.1.3). Whether mail arrives there is another matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    pub fn local(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

impl FromStr for Email {
    type Err = AccountsError;

    fn from_str(text: &str) -> Result<Self, AccountsError> {
        let text = text.trim();
        let whole = text.len() <= 254 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let sides = text.split_once('@').filter(|(local, domain)| {
            let local = !local.is_empty() && local.len() <= 64;
            local && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.') && !domain.ends_with('.')
        });
        if !whole || sides.is_none() {
            return Err(AccountsError::BadEmail);
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The client's address, as far as there is one.
    pub address: Option<IpAddr>,
    /// What it calls itself; at most 200 characters, none of them control characters.
    pub agent: String,
}

impl Client {
    /// A client at `address` that calls itself `agent`, which is shortened and cleaned.
    pub fn new(address: IpAddr, agent: &str) -> Self {
        let address = Some(address.to_canonical());
        Self { address, agent: agent.chars().filter(|c| !c.is_control()).take(AGENT_MAX).collect() }
    }

    pub(super) fn address_text(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// Who does something, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Somebody who has not shown who they are.
    Nobody,
    /// A person.
    User {
        /// The user's number.
        id: u64,
        /// The user's address.
        email: Email,
    },
    /// A program with an API token.
    Token {
        /// The token's id.
        id: String,
        /// What it is called.
        label: String,
    },
    /// Whoever may use the command line on the server.
    CommandLine,
    /// A user of the Redis door.
    Redis(String),
    /// The server itself.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::User { email, .. } => write!(f, "user {email}"),
            Self::Token { id, label } => write!(f, "token {id} ({label})"),
            Self::CommandLine => f.write_str("command line"),
            Self::Redis(user) => write!(f, "Redis user {user}"),
            Self::Server => f.write_str("server"),
        }
    }
}

/// Who does something, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub client: Client,
}

impl By {
    /// A person, from `client`.
    pub fn user(user: &User, client: &Client) -> Self {
        Self { actor: Actor::User { id: user.id, email: user.email.clone() }, client: client.clone() }
    }

    /// The command line.
    pub fn command_line() -> Self {
        Self { actor: Actor::CommandLine, client: Client::default() }
    }

    pub(super) fn redis(user: &str) -> Self {
        Self { actor: Actor::Redis(user.to_owned()), client: Client::default() }
    }

    pub(super) fn nobody(client: &Client) -> Self {
        Self { actor: Actor::Nobody, client: client.clone() }
    }

    pub(super) fn server() -> Self {
        Self { actor: Actor::Server, client: Client::default() }
    }
}

/// A person's login, found by its token.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its public name, for lists; not what the cookie holds.
    pub id: Id128,
    /// Whose it is.
    pub user: User,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub last_used: Timestamp,
    /// When its owner last gave the password. See [`Users::is_confirmed`](super::Users::is_confirmed).
    pub confirmed_at: Timestamp,
    /// The address it was last used from.
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
    /// What every form of this session must send back: 64 hexadecimal digits, derived from the session's token.
    pub csrf: Secret<String>,
}

/// A session and the token that opens it, which is shown this once.
#[derive(Debug)]
pub struct NewSession {
    /// The cookie's value: letters, digits, `-` and `_`.
    pub token: Secret<String>,
    /// The session.
    pub session: Session,
}

/// What a one-time link with a new password leads to.
#[derive(Debug)]
pub struct PasswordSet {
    /// In.
    pub session: NewSession,
    /// Whether it is the account's first password: its owner was invited.
    pub first: bool,
}

/// What a right password leads to.
#[derive(Debug)]
pub enum Login {
    /// In.
    Done(NewSession),
    /// The account has a second factor: the code goes, with this short-lived token, to
    /// [`Users::login_with_code`](super::Users::login_with_code). The token is no session; it may stand in a form.
    Code(Secret<String>),
}

/// A session in a list.
#[derive(Clone, Debug)]
pub struct SessionSummary {
    /// Its public name.
    pub id: Id128,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub last_used: Timestamp,
    /// The address it was last used from.
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
}

/// Checks a label: 1 to [`LABEL_MAX`] characters, none of them control characters; spaces at the ends are dropped.
pub(super) fn label(text: &str) -> Result<String, AccountsError> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > LABEL_MAX || text.chars().any(char::is_control) {
        return Err(AccountsError::BadLabel);
    }
    Ok(text.to_owned())
}
