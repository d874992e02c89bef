//! Durable background work, on the store.
