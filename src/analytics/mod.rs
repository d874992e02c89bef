//! How the pages of sites are visited: counted from the requests that pass the edge anyway, without a cookie.
//!
//! A worker hands over what it has seen ([`Note`]) and goes on; one task reads the notes, counts them by site and day in
//! memory ([`days`]) and writes the counts into `state.redb` every [`SAVE_EVERY`] ([`rows`]). Promises:
//! - nothing that tells a person is written: no address, no user agent, no hash of either. Different visitors are told apart
//!   within a day by a hash under a salt that is drawn for that day, never leaves memory and is gone at midnight UTC, into a
//!   sketch ([`crate::base::hyperloglog`]) that is never written either; the row has their number alone;
//! - who asks not to be tracked (`DNT`, `Sec-GPC`) is counted without that hash;
//! - everything is bounded: notes that wait, names kept of a day (the rest is one number, so that sums stay exact), days kept;
//! - a stop writes everything; a crash loses what came since the last writing. After a start, who had been here before on
//!   that day counts as a new visitor.
//!
//! Start reading at [`service`], then [`days`]. What is seen is read by [`page`] (paths, referrers, campaigns) and [`agent`]
//! (programs, browsers); what browsers measure by [`beacon`] and [`vitals`]; [`report`] is what is shown.

pub mod agent;
pub mod beacon;
pub mod config;
pub mod day;
mod days;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
pub mod note;
pub mod page;
pub mod report;
pub mod rows;
pub mod service;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod vitals;

pub use config::AnalyticsConfig;
pub use day::Day;
pub use note::{Kind, Note, Visit};
pub use report::Report;
pub use service::{Analytics, SAVE_EVERY};
