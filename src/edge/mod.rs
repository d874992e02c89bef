//! The edge.

pub mod client;
pub mod config;
pub mod error;
pub mod head;
pub mod host;
pub mod sites;
pub mod upstream;

pub use config::EdgeConfig;
pub use error::{ConfigError, EdgeError};
