//! What the server tells about itself: log lines and metrics.
//!
//! [`metrics`] is the registry every room gets in `new`; [`logs`] installs the log. Secrets and forged lines are kept
//! out of the log in one place, [`redact`].

pub mod log_writer;
pub mod logs;
pub mod metrics;
pub mod redact;

pub use logs::{LogConfig, LogFormat};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
