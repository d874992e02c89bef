//! Rate limits: how often something may be done, by whom.
//!
//! [`gcra`] and [`window`] are the algorithms, pure functions of a state and the time; [`Limits`] keeps states by named
//! policy for apps that ask (`POST /v1/limits/<policy>/check`), with the failures of the last day and a verdict about
//! addresses that fail too often.
//!
//! Promises: a refused attempt does not count; an attempt that several counters look at counts in all of them or in
//! none; what is counted is named by a digest, so that no address and no e-mail is kept; memory is capped by
//! `limits.keys`, and past it the states that matter least go first. States outlive a restart; the last
//! [`SAVE_EVERY`] of them may be lost in a crash.
//!
//! Start reading at [`service`], then [`policy`].

pub mod config;
pub mod failures;
pub mod gcra;
pub mod policy;
pub mod service;
mod table;
pub mod window;

pub use config::{Algorithm, PolicyConfig, RateLimitsConfig};
pub use policy::{Policy, PolicyError, Subject};
pub use service::{Answer, Limits, LimitsError, PolicyView, Rejection, SAVE_EVERY};

/// What came of one attempt against one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is let through. If not, it has not counted.
    pub allowed: bool,
    /// How many more would be let through now.
    pub remaining: u32,
    /// How long until an attempt of the same cost would be let through, in milliseconds; 0 when it is now.
    pub retry_ms: u64,
    /// How long until the counter is as if never used, in milliseconds.
    pub reset_ms: u64,
}
