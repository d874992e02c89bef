//! Which numbers the dashboard follows.

use std::sync::Arc;

use crate::base::Clock;
use crate::base::Supervisor;
use crate::base::process;
use crate::base::supervise::Role;
use crate::monitor::history::{History, Reading, Track};
use crate::telemetry::Metrics;

/// Label names and values that a series must have.
type Labels = &'static [(&'static str, &'static str)];

/// Each name the dashboard knows, and the counter it is made from.
const COUNTED: &[(&str, &str, Labels)] = &[
    ("requests.edge", "mainstay_http_requests_total", &[("door", "edge")]),
    ("requests.s3", "mainstay_http_requests_total", &[("door", "s3")]),
    ("requests.console", "mainstay_http_requests_total", &[("door", "console")]),
    ("kv.commands", "mainstay_redis_commands_total", &[]),
    ("kv.hits", "mainstay_redis_hits_total", &[]),
    ("kv.misses", "mainstay_redis_misses_total", &[]),
    ("objects.received", "mainstay_objects_received_bytes_total", &[]),
    ("objects.sent", "mainstay_objects_sent_bytes_total", &[]),
    ("mail.delivered", "mainstay_mail_attempts_total", &[("outcome", "delivered")]),
    ("mail.deferred", "mainstay_mail_attempts_total", &[("outcome", "deferred")]),
    ("mail.failed", "mainstay_mail_attempts_total", &[("outcome", "failed")]),
    ("issues.events", "mainstay_issues_events_total", &[]),
    ("store.commits", "mainstay_store_commits_total", &[]),
];

/// Follows the server's numbers in the background.
pub fn start(metrics: &Metrics, clock: Arc<dyn Clock>, supervisor: &Supervisor) -> History {
    let counted = COUNTED.iter().map(|(name, family, labels)| {
        let metrics = metrics.clone();
        Track::new(name, Reading::Rate, move || metrics.sum(family, labels))
    });
    let memory = metrics.clone();
    let own = [
        Track::new("kv.memory", Reading::Level, move || memory.sum("mainstay_redis_memory_bytes", &[])),
        Track::new("process.memory", Reading::Level, process::resident_bytes),
        Track::new("process.cpu", Reading::Rate, process::cpu_seconds),
    ];
    let history = History::new(counted.chain(own).collect(), clock);
    supervisor.task("history", Role::Ordinary, history.clone().run(supervisor.shutdown().clone()));
    history
}
