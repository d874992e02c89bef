//! The door for errors: the ingest protocol that Sentry's SDKs speak.
//!
//! `POST /api/<project>/envelope/` and `POST /api/<project>/store/`, with and without the last slash
//! (develop.sentry.dev, "Envelopes" and "Authentication"). What it promises:
//! - an event answered 200 is synced; it is scrubbed before anything of it is written;
//! - no body makes it hold more than its caps: compressed, decompressed, items, depth ([`decode`], [`envelope`]);
//! - item kinds it does not know are counted and skipped, never refused, since SDKs do not send again;
//! - refusals name the categories they are about, so that an SDK goes on sending the others;
//! - what browsers report of a `Content-Security-Policy` comes in beside, under `/api/<project>/security/` ([`reports`]);
//! - every answer, refusals too, can be read by a page of any origin ([`door`]).
//!
//! Start reading at [`door`], then [`auth`], [`decode`] and [`envelope`], in the order a request meets them.

pub mod auth;
pub mod decode;
pub mod door;
pub mod envelope;
pub mod error;
pub mod legacy;
pub mod reports;

pub use door::Ingest;
pub use error::Refusal;
