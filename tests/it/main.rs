//! The whole server on real sockets: every test starts the built binary on free ports with a data folder of its own.
//!
//! [`harness`] starts, asks and stops servers. To test a door, add a module here.

mod commands;
mod doors;
mod edge;
mod harness;
mod lifecycle;
