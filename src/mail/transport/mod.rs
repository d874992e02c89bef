//! How a message leaves.

pub mod ses;
pub mod smtp;

use futures_util::future::BoxFuture;

use super::outbox::Outcome;

/// A way out. One call is one message to one recipient, so that one refusal concerns nobody else.
pub trait Transport: Send + Sync + std::fmt::Debug {
    /// Hands `text` (every line ends in CR LF) from `from` to the recipient `to`.
    ///
    /// # Cancel safety
    /// Dropped before its end, the message may have been handed over.
    fn send<'a>(&'a self, from: &'a str, to: &'a str, text: &'a [u8]) -> BoxFuture<'a, Outcome>;
}

/// Keeps every message for viewing and sends nothing: for development, and until a relay is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Development;

impl Transport for Development {
    fn send<'a>(&'a self, _from: &'a str, _to: &'a str, _text: &'a [u8]) -> BoxFuture<'a, Outcome> {
        Box::pin(std::future::ready(Outcome::Kept))
    }
}
