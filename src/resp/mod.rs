//! The Redis door.

pub mod inline;
pub mod protocol;

#[cfg(test)]
mod protocol_tests;
