//! Certificates: which one answers which name, where each comes from, and what keeps it fresh.
//!
//! For a name the first of these is used: a certificate in files (`edge.certificates`), one from an authority
//! (`edge.acme`), one of the internal authority (`edge.internal_ca`), the one the server signed itself. A certificate in use is replaced by its successor and by nothing
//! else: a failed renewal, a broken file or an authority that is down leave it where it is.
//!
//! Start reading at `keeper.rs`, which holds everything; `order.rs` is one order from end to end, `rows.rs` what the
//! store keeps, `schedule.rs` when what is due, `dns/` the proof for wildcards,
//! `on_demand.rs` names that nobody wrote down.

mod authority;
pub mod challenges;
pub mod config;
pub mod dns;
mod failure;
mod files;
pub mod internal;
mod keeper;
mod names;
pub mod on_demand;
mod order;
mod rows;
mod schedule;
mod transport;
pub mod x509;

pub use self::keeper::Keeper;
pub use self::names::Names;
