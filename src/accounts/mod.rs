//! Who may come in: people, and the credentials programs use.
//!
//! - [`AccessKeys`] holds the S3 access keys and the Redis password, looked up in memory by the doors.
//! - [`Users`] has people's accounts: the first one is made through a one-time link (`links.rs`), a login is a password
//!   (`password.rs`) and, where wanted, a code (`second_factor.rs`), and leads to a session (`sessions.rs`). It also has
//!   the API tokens (`tokens.rs`), changes the access keys (`keys.rs`; what they may do is `rights.rs`) and keeps the audit log (`audit.rs`).
//!
//! Promises: nobody is let in, and nothing about who exists is told, without a secret that was made at random or hashed
//! slowly; what is carried is stored as a hash only (but for the first credentials, see `tokens.rs`, sealed as every
//! value in `state.redb`); what was ended or revoked opens nothing from the moment the call returns; failures slow down
//! who fails, never somebody else (`throttle.rs`).
//!
//! Start reading at `login.rs`; `rows.rs` has what is stored.

pub mod access_keys;
pub mod audit;
mod bearer;
pub mod config;
pub mod error;
pub mod keys;
pub mod links;
mod login;
pub mod password;
pub mod redis_users;
pub mod rights;
mod rows;
pub mod second_factor;
pub mod sessions;
mod throttle;
pub mod tokens;
pub mod types;
pub mod users;
#[cfg(test)]
mod users_tests;

pub use access_keys::{AccessKey, AccessKeys, FirstCredentials, PreviousSecret};
pub use audit::AuditEntry;
pub use config::AccountsConfig;
pub use error::AccountsError;
pub use keys::{KeyChange, NewKey};
pub use password::PasswordFault;
pub use redis_users::RedisUsers;
pub use rights::{Actions, GRANTS_MAX, GrantError, KeyGrant, KeyRights};
pub use second_factor::NewSecondFactor;
pub use tokens::{Scopes, Token};
pub use types::{
    Actor, By, Client, Email, LABEL_MAX, Login, NewSession, PasswordSet, Role, Session, SessionSummary, User,
};
pub use users::Users;
