//! What the object store tells about itself.

use crate::telemetry::{Counter, Gauge, Metrics};

/// Handles to the room's metrics.
#[derive(Clone, Debug)]
pub(super) struct ObjectMetrics {
    /// Objects and parts stored.
    pub puts: Counter,
    /// Objects and ranges opened for reading.
    pub gets: Counter,
    /// Objects deleted.
    pub deletes: Counter,
    /// Objects, versions and markers ended, and uploads given up, by lifecycles.
    pub expired: Counter,
    /// Plaintext bytes received.
    pub received: Counter,
    /// Plaintext bytes sent.
    pub sent: Counter,
    /// Stored bytes that failed their check.
    pub integrity_failures: Counter,
    /// Plaintext bytes read by scrubs.
    pub scrubbed: Counter,
    /// Bytes of bodies moved between backends.
    pub moved: Counter,
    /// What scrubs have found damaged and still is.
    pub damaged: Gauge,
    /// Bytes of blob files.
    pub used: Gauge,
    /// Blob files without a reference, as of the last sweep.
    pub orphans: Gauge,
    /// Blob files a sweep has put aside since the start.
    pub quarantined: Counter,
    /// When the last export of the index was made, seconds since the Unix epoch; 0 without one.
    pub exported: Gauge,
}

impl ObjectMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help, &[]);
        Self {
            puts: counter("mainstay_objects_puts_total", "Objects and parts stored."),
            gets: counter("mainstay_objects_gets_total", "Objects and ranges opened for reading."),
            expired: counter("mainstay_objects_expired_total", "Objects, versions and uploads ended by lifecycles."),
            deletes: counter("mainstay_objects_deletes_total", "Objects deleted."),
            received: counter("mainstay_objects_received_bytes_total", "Plaintext bytes of stored objects and parts."),
            sent: counter("mainstay_objects_sent_bytes_total", "Plaintext bytes given out."),
            integrity_failures: counter(
                "mainstay_objects_integrity_failures_total",
                "Stored bytes that failed their check and were not served.",
            ),
            scrubbed: counter("mainstay_objects_scrubbed_bytes_total", "Plaintext bytes read and verified by scrubs."),
            moved: counter("mainstay_objects_moved_bytes_total", "Bytes of bodies moved between backends."),
            damaged: metrics.gauge(
                "mainstay_objects_damaged",
                "Objects on the list of what scrubs have found damaged.",
                &[],
            ),
            used: metrics.gauge("mainstay_objects_used_bytes", "Bytes of blob files, exact after each sweep.", &[]),
            orphans: metrics.gauge(
                "mainstay_objects_orphans",
                "Blob files nothing refers to, as of the last sweep.",
                &[],
            ),
            quarantined: counter("mainstay_objects_quarantined_total", "Blob files a sweep has put aside."),
            exported: metrics.gauge(
                "mainstay_objects_export_timestamp_seconds",
                "When the last sealed export of the object index was made.",
                &[],
            ),
        }
    }
}
