//! Answers of apps, kept for everybody who asks the same: a shared cache after RFC 9111, for sites with `cache_answers`.
//!
//! Promises: an answer is used only for its site, scheme, host, path and query, and for requests whose headers are the same
//! where `Vary` names them; one that sets a cookie is never kept, one to a request with a cookie or `Authorization` only if
//! it says `public` or `s-maxage`, and only then given to such a request ([`storable`]); one that breaks off is never kept
//! ([`fetch`]); all that is kept, gathered or still being read takes no more than `edge.cache_memory` ([`room`],
//! [`shelves`]). Whatever stands before the app (bans, gates, rates, patterns) stands before the cache, and sites with a
//! log-in cannot have one. Other sites pay a look at an `Option`.
//!
//! Pure, each with its table of cases: [`directives`], [`freshness`], [`storable`], [`vary`], [`key`], [`answer`], [`status`].
//! The way of a request: [`visit`], where to start reading; [`flights`] lets many wait for one; [`fetch`] asks the app, and
//! [`teed`] is the body on its way to both the client and the [`shelves`]. What the app sent is kept, so that compressing,
//! security headers and the site's own are the same for every answer, kept or not.

mod answer;
pub mod directives;
mod entry;
mod fetch;
mod flights;
pub mod freshness;
mod key;
mod room;
mod shelves;
mod status;
pub mod storable;
mod teed;
pub mod vary;
mod visit;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::shelves::Kept;
pub use self::status::Status;
pub use self::visit::{Reply, Visit, Visited};

use self::flights::Flights;
use self::key::Key;
use self::shelves::Shelves;
use super::config::{EdgeConfig, SiteConfig};
use super::error::ConfigError;
use super::sites::Sites;
use crate::base::{Clock, Supervisor};
use crate::monitor::WhichKept;
use crate::telemetry::{Counter, Metrics};

/// Least memory for answers, and for one answer.
const LEAST: (u64, u64) = (1 << 20, 1 << 10);

/// All stored answers, for all workers.
#[derive(Debug)]
pub struct Cache {
    shelves: Arc<Shelves>,
    flights: Arc<Flights>,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    hits: Counter,
    misses: Counter,
    revalidations: Counter,
}

/// What one site keeps.
#[derive(Debug)]
pub struct Caching {
    /// Largest body kept, in bytes.
    most: u64,
    hits: Counter,
    misses: Counter,
}

impl Cache {
    /// An empty one with room for `bytes`.
    pub fn new(bytes: u64, clock: Arc<dyn Clock>, supervisor: Supervisor, metrics: &Metrics) -> Arc<Self> {
        let counter = |name, help| metrics.counter(name, help, &[]);
        let evictions = counter("mainstay_edge_cache_evictions_total", "Stored answers that had to make room.");
        let shelves = Arc::new(Shelves::new(bytes, evictions));
        let budget = Arc::clone(shelves.budget());
        let help = "Bytes of stored answers and of those being fetched or still read.";
        metrics.computed("mainstay_edge_cache_bytes", help, &[], move || budget.used() as f64);
        Arc::new(Self {
            shelves,
            flights: Arc::default(),
            clock,
            supervisor,
            counts: Counts {
                hits: counter("mainstay_edge_cache_hits_total", "Requests answered from the cache alone."),
                misses: counter(
                    "mainstay_edge_cache_misses_total",
                    "Requests of sites with a cache for which the app was asked.",
                ),
                revalidations: counter(
                    "mainstay_edge_cache_revalidations_total",
                    "Stored answers that the app was asked about and found good.",
                ),
            },
        })
    }

    /// Takes over the settings: how much room there is, and which of `sites` keep answers. Those of others go.
    pub fn reload(&self, bytes: u64, sites: &Sites) {
        let keep: Vec<Arc<str>> = sites.caching().map(|(name, _)| Arc::clone(name)).collect();
        if self.shelves.kept().keys().any(|site| !keep.contains(site)) {
            self.shelves.purge(|key| !keep.contains(&key.site));
        }
        self.shelves.resize(bytes);
    }

    /// Takes kept answers away and tells how many; what is being fetched now is not kept either.
    pub fn purge(&self, which: &WhichKept) -> u64 {
        match which {
            WhichKept::All => self.shelves.purge(|_| true),
            WhichKept::Site(name) => self.shelves.purge(|key| *key.site == **name),
            WhichKept::Place { host, prefix } => {
                let host = host.as_deref().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
                let is_of = |key: &Key| host.as_deref().is_none_or(|host| key.is_of(host));
                self.shelves.purge(|key| is_of(key) && key.target.starts_with(prefix.as_str()))
            }
        }
    }

    /// What is kept, by the name of the site.
    pub fn kept(&self) -> HashMap<Arc<str>, Kept> {
        self.shelves.kept()
    }
}

impl Caching {
    /// What `site` keeps; `None` when it keeps nothing. What it was `before` goes on counting.
    ///
    /// # Errors
    /// A size that is none, or a site that must not keep anything.
    pub fn of(
        site: &SiteConfig,
        config: &EdgeConfig,
        before: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, ConfigError> {
        if !site.cache_answers {
            return Ok(None);
        }
        let wrong = |key, value: String, allowed: &str| ConfigError::Value { key, value, allowed: allowed.to_owned() };
        let refused = |allowed: &str| wrong("edge.sites.cache_answers", "true".to_owned(), allowed);
        if !site.root.is_empty() || !site.redirect.is_empty() {
            return Err(refused("false for a site with a root or redirect: only answers of apps are kept"));
        }
        if !site.basic_auth.is_empty() || !site.basic_auth_file.is_empty() || !site.auth_url.is_empty() {
            return Err(refused("false for a site with a log-in: what one person sees would be shown to others"));
        }
        if !site.client_ca_file.is_empty() {
            return Err(refused("false for a site with client certificates: the app answers each of them for itself"));
        }
        let (memory, most) = (config.cache_memory.bytes(), site.cache_max_object.bytes());
        if memory < LEAST.0 {
            return Err(wrong("edge.cache_memory", config.cache_memory.to_string(), "at least 1 MiB"));
        }
        if !(LEAST.1..=memory / 4).contains(&most) {
            let allowed = "1 KiB up to a quarter of edge.cache_memory";
            return Err(wrong("edge.sites.cache_max_object", site.cache_max_object.to_string(), allowed));
        }
        let (hits, misses) = before.map(|before| (before.hits.clone(), before.misses.clone())).unwrap_or_default();
        Ok(Some(Arc::new(Self { most, hits, misses })))
    }

    /// Largest body kept, in bytes.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Requests since the start that were answered without the app, and those for which it was asked.
    pub fn counted(&self) -> (u64, u64) {
        (self.hits.value(), self.misses.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_that_must_not_keep_answers_are_refused() {
        let of = |text: &str| {
            let config: EdgeConfig = toml::from_str(text).unwrap();
            Caching::of(&config.sites[0], &config, None).map(|caching| caching.is_some()).map_err(|e| e.to_string())
        };
        assert_eq!(of("[[sites]]\nupstream = \"x:1\""), Ok(false));
        assert_eq!(of("[[sites]]\nupstream = \"x:1\"\ncache_answers = true"), Ok(true));
        for (text, key) in [
            ("[[sites]]\nroot = \"/srv\"", "cache_answers"),
            ("[[sites]]\nredirect = \"/x\"", "cache_answers"),
            ("[[sites]]\nupstream = \"x:1\"\nbasic_auth = [\"a:b\"]", "log-in"),
            ("[[sites]]\nupstream = \"x:1\"\nbasic_auth_file = \"/x\"", "log-in"),
            ("[[sites]]\nupstream = \"x:1\"\nauth_url = \"http://127.0.0.1:1\"", "log-in"),
            ("[[sites]]\nupstream = \"x:1\"\nclient_ca_file = \"/x\"", "client certificates"),
            ("[[sites]]\nupstream = \"x:1\"\ncache_max_object = \"9 MiB\"", "cache_max_object"),
            ("[[sites]]\nupstream = \"x:1\"\ncache_max_object = 0", "cache_max_object"),
            ("cache_memory = 1000\n[[sites]]\nupstream = \"x:1\"", "edge.cache_memory"),
        ] {
            let error = of(&format!("{text}\ncache_answers = true")).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
