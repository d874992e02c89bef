//! The keyspace behind the Redis door: values by type, expiry, transactions, blocking pops, publish and subscribe.
//!
//! What it promises:
//! - one thread owns it, so every command is a unit; no command reads a clock or draws randomness it was not given;
//! - every change is also an [effect](effect), a deterministic record of it on one key with absolute values, which
//!   replays to the same keyspace;
//! - replies and error texts are those of Redis 7.2, whatever the protocol they are written in ([`Reply`]);
//! - nothing grows without a cap named in [`KvConfig`].
//!
//! Start reading at [`keyspace`] (what is kept and how a key is found and changed), then [`execute`] (how a command
//! runs) and one family under [`commands`]. [`table`] and [`entry`] hold the memory layout, [`effect`] the record of
//! changes, [`memory`] makes room and [`cold`] holds what had to leave it, [`walk`] what a checkpoint sees, [`persist`] how it is all kept.

pub mod acl;
mod apply;
pub mod browse;
mod client;
pub mod clock;
pub mod cold;
mod collect;
pub mod commands;
pub mod config;
mod deliver;
pub mod dump;
pub mod effect;
mod entry;
mod error;
pub mod eviction;
pub mod execute;
mod expiry;
pub mod functions;
mod glimpse;
pub mod glob;
pub mod handle;
pub mod keyspace;
pub mod max_memory;
pub mod memory;
pub mod notify;
pub mod number;
mod packed;
pub mod persist;
mod pubsub;
pub mod rdb;
mod reply;
pub mod script;
mod table;
mod transaction;
mod value;
mod wait;
pub mod walk;
mod watch;

pub use browse::{Listed, Piece};
pub use client::{Client, ClientId, Due};
pub use collect::Collector;
pub use commands::{Command, Flags};
pub use config::KvConfig;
pub use deliver::{Delivery, Message};
pub use effect::{BadEffect, Effect, Effects};
pub use error::{Fault, up_to_zero};
pub use execute::Flow;
pub use glimpse::{Cut, Glimpse, Start};
pub use handle::{CallError, Handle};
pub use keyspace::{Counts, DatabaseInfo, Keyspace};
pub use reply::{Reply, Value};
pub use script::{Host, Progress, Verdict};
pub use walk::Walk;

#[cfg(test)]
mod tests;
