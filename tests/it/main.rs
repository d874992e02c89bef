//! The whole server on real sockets: every test starts the built binary on free ports with a data folder of its own.
//!
//! [`harness`] starts, asks and stops servers. To test a door, add a module here.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of tests that cannot go on is a failed test")]

mod backups;
mod commands;
mod doors;
mod edge;
mod harness;
mod lifecycle;
