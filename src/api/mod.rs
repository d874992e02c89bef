//! Health, metrics, and the app's HTTP interface.
//!
//! Answered on `console.listen`, without credentials and without secrets: `/health` (the process lives), `/health/db`
//! (the store answers), `/health/ready` (every part works; else 503), `/metrics` (Prometheus text format). Anything else
//! is a problem document (RFC 9457). [`routes`] has these paths; [`v1`] is the interface for programs, with tokens.

pub mod config;
pub mod routes;
pub mod v1;

pub use config::ConsoleConfig;
pub use routes::Api;
