//! Error capture: what went wrong in the operator's apps, grouped into issues.
//!
//! An event is [accepted](Issues::accept) fast: scrubbed of secrets, then spooled together with a job in one commit, and
//! only then answered. The job digests the spool: it normalises, fingerprints (algorithm [`g1`](group)) and files each
//! event in one transaction with its issue and every count. What the room promises:
//! - **Nothing acknowledged is lost**, and each accepted event is counted exactly once, across crashes too.
//! - **Secrets are taken out before anything is written** ([`scrub`]).
//! - **Bounded**: the spool, the events kept of an issue, all events, issues, users and tags of an issue have caps
//!   ([`IssuesConfig`]); in a storm samples are kept (the 1st, 2nd, 4th, 8th … and the newest) while counts stay exact.
//! - **One bad event holds up nobody**: one that cannot be digested is counted and dropped.
//!
//! Other items SDKs send (transactions, sessions, check-ins …) are [counted](Issues::count) and dropped.
//!
//! Start reading at [`service`] (taking in), then [`digest`] (what becomes of it), [`event`], [`group`], `rows.rs`;
//! [`query`], [`view`] and [`chart`] are what pages and commands show.

pub mod category;
pub mod chart;
pub mod config;
pub mod digest;
pub mod error;
pub mod event;
pub mod group;
mod pattern;
pub mod query;
mod rows;
pub mod scrub;
pub mod service;
pub mod shape;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
pub mod view;

pub use category::Category;
pub use chart::{Chart, Of, Step};
pub use config::{IssuesConfig, OwnErrorsTo};
pub use error::IssuesError;
pub use query::{Cursor, Detail, Filter, Kept, Page, Summary};
pub use rows::Status;
pub use service::{Issues, OWN_PROJECT, World};
pub use view::EventView;
