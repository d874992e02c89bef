//! Mainstay: one binary in place of the pile of services a small server needs.
//!
//! Rooms, from the ground up; a room imports only rooms above it in this list (`tests/architecture.rs` holds the
//! table). ARCHITECTURE.md walks through them.

pub mod base;

pub mod analytics;
pub mod bans;
pub mod crypto;
pub mod http;
pub mod jobs;
pub mod limits;
pub mod resolver;
pub mod store;
pub mod telemetry;

pub mod accounts;
pub mod backup;
pub mod issues;
pub mod kv;
pub mod mail;
pub mod monitor;
pub mod objects;

pub mod api;
pub mod console;
pub mod edge;
pub mod ingest;
pub mod resp;
pub mod s3;
pub mod ses;
pub mod smtp;
pub mod upstash;

pub mod app;
pub mod cli;
pub mod config;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
