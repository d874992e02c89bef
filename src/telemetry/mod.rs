//! What the server tells about itself: log lines and metrics.
//!
//! [`metrics`] is the registry every room gets in `new`; [`logs`] installs the log; [`own_errors`] makes events of panics
//! and errors. Secrets and forged lines are kept out in one place, [`redact`].

pub mod log_writer;
pub mod logs;
pub mod metrics;
pub mod own_errors;
pub mod redact;

pub use logs::{LogConfig, LogFormat};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use own_errors::OwnErrors;
