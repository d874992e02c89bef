//! Snapshots of everything, encrypted and deduplicated.
