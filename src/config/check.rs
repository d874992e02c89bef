//! What only the whole tree can contradict.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::problem::Problem;
use super::source::Origins;
use super::tree::Config;
use crate::base::Listen;
use crate::edge;
use crate::limits::window::LIMIT_MAX;
use crate::objects;
use crate::telemetry::logs;

/// Everything that contradicts itself in `config`.
pub fn check(config: &Config, origins: &Origins) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |key: &str, what: String, instead: &str| {
        let instead = (!instead.is_empty()).then(|| instead.to_owned());
        problems.push(Problem { source: origins.source(key), what, instead });
    };
    if let Err(error) = logs::check_level(&config.log.level) {
        wrong("log.level", error.to_string(), "");
    }
    if let Err(error) = config.edge.validate() {
        let key = match &error {
            edge::ConfigError::Value { key, .. } => key,
            edge::ConfigError::SamePort(_) => "edge.https",
            edge::ConfigError::SiteTwice { .. } => "edge.sites",
        };
        wrong(key, error.to_string(), "");
    }
    let redis = [("redis.listen", config.redis.listen), ("redis.tls_listen", config.redis.tls_listen)];
    if let Some((key, listen)) = redis.into_iter().find(|(_, listen)| !listen.is_loopback())
        && !config.redis.require_auth
    {
        let what = format!("redis.require_auth = false, but others reach {key} = \"{listen}\"");
        wrong("redis.require_auth", what, "ask for the password, or listen on 127.0.0.1 or the Unix socket alone");
    }
    if let Err(error) = crate::limits::policy::policies(&config.limits) {
        wrong("limits.policies", error.to_string(), "");
    }
    let failures = [
        ("accounts.failures_per_account", config.accounts.failures_per_account),
        ("accounts.failures_per_address", config.accounts.failures_per_address),
    ];
    for (key, most) in failures.into_iter().filter(|(_, most)| !(1..=LIMIT_MAX).contains(most)) {
        wrong(key, format!("{key} = {most} is not from 1 to {LIMIT_MAX}"), "");
    }
    for (key, what) in config.analytics.contradictions() {
        wrong(key, what, "");
    }
    for (key, what) in config.mail.contradictions().into_iter().chain(objects::contradictions(&config.objects)) {
        wrong(key, what, "");
    }
    if !config.smtp.listen.is_loopback() {
        let what = format!(
            "smtp.listen = \"{}\" is reachable from elsewhere, and passwords are not encrypted",
            config.smtp.listen
        );
        wrong(
            "smtp.listen",
            what,
            "listen on 127.0.0.1, and let apps elsewhere send through the SES interface over HTTPS",
        );
    }
    let doors = doors(config);
    let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for (key, listen) in &doors {
        let Some(address) = listen.address().filter(|address| address.port() != 0) else { continue };
        if let Some(other) = taken.insert(address, key) {
            let what = format!("{key} = \"{address}\" is taken by {other} already");
            wrong(key, what, "give each its own port, or turn one off with an empty text");
        }
    }
    problems
}

/// Every listener of the tree by its key.
pub fn doors(config: &Config) -> Vec<(&'static str, Listen)> {
    vec![
        ("edge.http", config.edge.http),
        ("edge.https", config.edge.https),
        ("console.listen", config.console.listen),
        ("s3.listen", config.s3.listen),
        ("redis.listen", config.redis.listen),
        ("redis.tls_listen", config.redis.tls_listen),
        ("smtp.listen", config.smtp.listen),
    ]
}
