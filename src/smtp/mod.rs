//! The SMTP door: message submission (RFC 5321, RFC 6409) with AUTH, into the outbox.
//!
//! What it promises:
//! - `250 … queued` is said after the message and one row for each recipient are synced;
//! - nobody submits without credentials, whoever they claim to be: it relays for its own users only;
//! - a message ends at CR LF dot CR LF and nowhere else, and a lone CR or LF ends the connection, so nothing can be
//!   smuggled past this door or, through it, past the relay;
//! - what one client can make the server hold is bounded by settings and named constants.
//!
//! [`session`] is the dialogue without sockets, [`data`] finds the end of a message, [`connection`] is the loop around
//! them. Start reading at [`session`].

mod auth;
pub mod config;

mod connection;
pub mod data;
pub mod session;

pub use auth::smtp_password;
pub use config::SmtpConfig;
pub use connection::{Door, Place, serve};
