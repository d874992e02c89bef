//! Other settings while the edge runs.
//!
//! What a request or a connection began with, it ends with; the next one finds the new settings. Nothing that is open is
//! closed, and WebSockets go on. New settings are made ready completely before the first worker sees them, so that
//! settings that turn out to be wrong change nothing.

use std::fmt;
use std::sync::Arc;

use super::Edge;
use super::acme::Names;
use super::client::Network;
use super::config::EdgeConfig;
use super::error::EdgeError;
use super::jails::{self, Jails};
use super::pool::Pools;
use super::proxy::Proxy;
use super::rules::{Current, Rules};
use super::sites::Sites;
use super::traffic::Traffic;
use super::worker::{DOOR, Serving};
use crate::http::{ServeConfig, Server};

/// The settings of `edge` that only a start reads.
pub const FIXED: [&str; 9] = [
    "edge.http",
    "edge.https",
    "edge.http3",
    "edge.domain",
    "edge.workers",
    "edge.access_log",
    "edge.access_log_format",
    "edge.access_log_sample",
    "edge.access_log_size",
];

impl Edge {
    /// Works by `config` from now on, but for what is [`FIXED`]. Calls must not overlap.
    ///
    /// # Errors
    /// [`EdgeError`]: what is wrong; everything stays as it was.
    ///
    /// # Cancel safety
    /// Dropped before its end, certificates may be those of `config` already, and the rest those before it.
    pub async fn reload(&self, config: &EdgeConfig) -> Result<(), EdgeError> {
        config.validate()?;
        let config = &self.with_what_stays(config).in_force();
        let before = self.crew.first().map(|hand| hand.proxy.current.load_full());
        let sites = Sites::after(config, before.as_ref().map(|current| &current.rules.sites))?;
        let jails = before.as_ref().and_then(|current| current.rules.jails.clone());
        let jails = Jails::of(&config.bans, &self.bans, &self.metrics, jails.as_deref())?;
        // The last step that can fail.
        self.keeper.reload(config, Names::of(config, &self.labels)).await?;
        let rules = self.rules(config, sites, jails);
        self.watched.store(Arc::new(rules.sites.watched()));
        self.bans.set_rules(jails::rules(config));
        if let Err(error) = self.cache.reload(config, &rules.sites) {
            // As with a full disk: answers are kept in memory only.
            tracing::warn!(%error, "answers are not kept on disk");
        }
        self.traffic.store(Arc::clone(&rules.traffic));
        for hand in &self.crew {
            let current = self.current(config, &rules, Some(&hand.proxy.current.load().pools));
            hand.proxy.current.store(Arc::new(current));
            hand.serving.store(Arc::new(self.serving(config, &hand.proxy)));
        }
        self.places.resize(config.limits.connections, config.limits.connections_per_ip, trusted(config));
        Ok(())
    }

    fn with_what_stays(&self, config: &EdgeConfig) -> EdgeConfig {
        let started = self.started.clone();
        EdgeConfig {
            http: started.http,
            https: started.https,
            http3: started.http3,
            domain: started.domain,
            workers: started.workers,
            access_log: started.access_log,
            access_log_format: started.access_log_format,
            access_log_sample: started.access_log_sample,
            access_log_size: started.access_log_size,
            ..config.clone()
        }
    }

    /// What all workers answer by. From now on sites that are gone are out of the metrics.
    pub(super) fn rules(&self, config: &EdgeConfig, sites: Sites, jails: Option<Arc<Jails>>) -> Arc<Rules> {
        let traffic = Arc::new(Traffic::of(&sites, &self.metrics, Some(&self.traffic.load())));
        self.beacons.analytics().watch(sites.counted());
        Arc::new(Rules {
            traffic,
            sites,
            bans: self.bans.clone(),
            jails,
            doors: Arc::clone(&self.doors),
            challenges: self.keeper.challenges(),
            internal: self.keeper.internal(),
            cache: Arc::clone(&self.cache),
            beacons: Arc::clone(&self.beacons),
            trusted: trusted(config),
            announcing: config.proxy_protocol.iter().filter_map(|text| text.parse().ok()).collect(),
            redirect_to: self.https.filter(|_| config.redirect_https).map(|address| address.port()),
            tunnel_idle: config.timeouts.upgrade.duration(),
        })
    }

    /// What one worker answers by. It keeps its connections to apps that stay what they were in `before`.
    pub(super) fn current(&self, config: &EdgeConfig, rules: &Arc<Rules>, before: Option<&Pools>) -> Current {
        let pools = Pools::new(&rules.sites, config, &self.supervisor, &self.counts, before);
        Current { rules: Arc::clone(rules), pools }
    }

    pub(super) fn serving(&self, config: &EdgeConfig, proxy: &Arc<Proxy>) -> Serving {
        let limits = ServeConfig {
            max_connections: config.limits.connections,
            head_timeout: config.timeouts.head,
            body_timeout: config.timeouts.body,
            write_timeout: config.timeouts.write,
            max_head: config.limits.header_bytes,
            max_headers: config.limits.headers,
            max_streams: config.limits.streams,
        };
        let server = Server::new(Arc::clone(proxy) as _, limits, self.supervisor.clone(), &self.metrics, DOOR);
        Serving { tls_timeout: config.timeouts.tls_handshake.duration(), server }
    }
}

/// The proxies in front that are believed.
pub(super) fn trusted(config: &EdgeConfig) -> Vec<Network> {
    config.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect()
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("tls_timeout", &self.tls_timeout).finish_non_exhaustive()
    }
}
