//! What the server tells about itself: log lines and metrics.
//!
//! [`metrics`] is the registry every room gets in `new`.

pub mod metrics;

pub use metrics::{Counter, Gauge, Histogram, Metrics};
