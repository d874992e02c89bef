//! The Redis door.

pub mod config;
pub mod encoder;
pub mod inline;
pub mod protocol;

#[cfg(test)]
mod protocol_tests;
