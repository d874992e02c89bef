//! Health, metrics, and the app's HTTP interface.

pub mod config;

pub use config::ConsoleConfig;
