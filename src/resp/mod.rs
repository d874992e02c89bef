//! The Redis door.
