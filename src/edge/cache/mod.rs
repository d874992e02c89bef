//! Answers of apps, kept for everybody who asks the same: a shared cache after RFC 9111, for sites with `cache_answers`, in
//! memory and, with `edge.cache_disk`, on disk.
//!
//! Promises: an answer is used only for its site, scheme, host, path and query, and for requests whose headers are the same
//! where `Vary` names them; one that sets a cookie is never kept, one to a request with a cookie or `Authorization` only if
//! it says `public` or `s-maxage`, and only then given to such a request ([`storable`]); one that breaks off is never kept
//! ([`fetch`]); all that is kept, gathered or still being read in memory takes no more than `edge.cache_memory` ([`room`],
//! [`shelves`]), all files no more than `edge.cache_disk` ([`disk`]). Whatever stands before the app (bans, gates, rates, patterns) stands before the cache, and sites with a
//! log-in cannot have one. Other sites pay a look at an `Option`.
//!
//! Pure, each with its table of cases: [`directives`], [`freshness`], [`storable`], [`vary`], [`key`], [`answer`], [`status`], [`defaults`].
//! The way of a request: [`visit`], where to start reading; [`flights`] lets many wait for one; [`fetch`] asks the app, and
//! [`teed`] is the body on its way to both the client and the [`shelves`]. What the app sent is kept, so that compressing,
//! security headers and the site's own are the same for every answer, kept or not.

mod answer;
mod changes;
mod content;
mod defaults;
pub mod directives;
mod disk;
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
use std::time::Duration;

use http::StatusCode;

pub use self::changes::{Changed, Changes};
pub use self::shelves::Kept;
pub use self::status::Status;
pub use self::visit::{Reply, Visit, Visited};

use self::defaults::Defaults;
use self::disk::{Place, Tier};
use self::entry::Stored;
use self::flights::Flights;
use self::key::Key;
use self::shelves::Shelves;
use super::World;
use super::config::{EdgeConfig, SiteConfig};
use super::error::{ConfigError, EdgeError};
use super::sites::Sites;
use crate::base::{ByteSize, Clock, Supervisor};
use crate::monitor::{CacheView, MemoryView, WhichKept};
use crate::telemetry::Counter;

/// Least memory for answers, and for one answer.
const LEAST: (u64, u64) = (1 << 20, 1 << 10);
/// Least disk for answers.
const LEAST_DISK: u64 = 16 << 20;
/// The part of memory, or disk, that one answer may take.
const PART: u64 = 4;
/// The part of memory that one answer may take where there is a disk for larger ones.
const PART_BESIDE_DISK: u64 = 16;

/// All stored answers, for all workers.
#[derive(Debug)]
pub struct Cache {
    shelves: Arc<Shelves>,
    tier: Arc<Tier>,
    flights: Arc<Flights>,
    changes: Arc<Changes>,
    clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    hits: Counter,
    disk_hits: Counter,
    misses: Counter,
    revalidations: Counter,
}

/// What one site keeps.
#[derive(Debug)]
pub struct Caching {
    /// Largest body kept, in bytes.
    most: u64,
    /// Largest body kept in memory, in bytes.
    in_memory: u64,
    defaults: Defaults,
    /// For how long past its time an answer stands in for an error, where it does not say so.
    stale: Duration,
    hits: Counter,
    disk_hits: Counter,
    misses: Counter,
}

impl Cache {
    /// An empty one for `sites`, but for what is on disk.
    ///
    /// # Errors
    /// The disk's thread cannot be started.
    pub fn open(config: &EdgeConfig, sites: &Sites, world: &World) -> Result<Arc<Self>, EdgeError> {
        let cache = Self::new(config.cache_memory.bytes(), world);
        cache.reload(config, sites)?;
        Ok(cache)
    }

    fn new(bytes: u64, world: &World) -> Arc<Self> {
        let World { clock, supervisor, metrics, .. } = world;
        let counter = |name, help| metrics.counter(name, help, &[]);
        let evictions = counter("mainstay_edge_cache_evictions_total", "Stored answers that had to make room.");
        let shelves = Arc::new(Shelves::new(bytes, evictions));
        let budget = Arc::clone(shelves.budget());
        let help = "Bytes of stored answers and of those being fetched or still read.";
        metrics.computed("mainstay_edge_cache_bytes", help, &[], move || budget.used() as f64);
        let place = Place {
            disk: Arc::clone(&world.disk),
            folder: world.data_dir.join("edge").join("cache"),
            key: world.cache_key.clone(),
            clock: Arc::clone(clock),
            random: Arc::clone(&world.random),
            supervisor: supervisor.clone(),
            reserve: world.reserve,
        };
        let tier = Tier::new(place, &shelves, bytes, metrics);
        Arc::new(Self {
            shelves,
            tier,
            flights: Arc::default(),
            changes: Arc::default(),
            clock: Arc::clone(clock),
            // A fetch goes on when another process has the data folder, and with it the disk's answers.
            supervisor: world.connections.clone(),
            counts: Counts {
                hits: counter("mainstay_edge_cache_hits_total", "Requests answered from the cache alone."),
                disk_hits: counter(
                    "mainstay_edge_cache_disk_hits_total",
                    "Requests answered from the cache alone, for which it read from disk.",
                ),
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
    ///
    /// # Errors
    /// The disk's thread cannot be started; the disk is not used then.
    pub fn reload(&self, config: &EdgeConfig, sites: &Sites) -> Result<(), EdgeError> {
        let keep: Vec<Arc<str>> = sites.caching().map(|(name, _)| Arc::clone(name)).collect();
        if self.shelves.kept().keys().any(|site| !keep.contains(site)) {
            self.shelves.purge(|key| !keep.contains(&key.site));
        }
        self.shelves.resize(config.cache_memory.bytes());
        self.tier.reload(if keep.is_empty() { 0 } else { config.cache_disk.bytes() }, &keep)
    }

    /// Takes kept answers away and tells how many; what is being fetched now is not kept either. Blocks while there are some on
    /// disk.
    pub fn purge(&self, which: &WhichKept) -> u64 {
        let in_memory = self.shelves.purge(|key| wants(which, key));
        in_memory.saturating_add(self.tier.purge(which))
    }

    /// Lets go of what is in memory. What is on disk stays.
    pub fn empty_memory(&self) {
        self.shelves.purge(|_| true);
    }

    /// From now on places that change are noted, for the process that takes over what is on disk.
    pub fn note_changes(&self) -> Arc<Changes> {
        self.changes.begin();
        Arc::clone(&self.changes)
    }

    /// Takes away what another process has found to be no longer good. Blocks while that is everything and there is some on disk.
    pub fn learn(&self, changed: Changed) {
        match changed {
            Changed::All => {
                self.purge(&WhichKept::All);
                self.changes.note_all();
            }
            Changed::Place { site, place } => self.void(&Arc::new(Key::from_parts(&site.into(), place))),
        }
    }

    /// What is kept in memory, and on disk, by the name of the site.
    pub fn kept(&self) -> [HashMap<Arc<str>, Kept>; 2] {
        [self.shelves.kept(), self.tier.kept()]
    }

    /// All of it in numbers, for those who show it.
    pub fn view(&self) -> CacheView {
        let [memory, disk] = self.kept();
        let answers = |tier: HashMap<Arc<str>, Kept>| tier.values().map(|kept| kept.answers).sum();
        let (budget, counts) = (self.shelves.budget(), &self.counts);
        CacheView {
            sites: self.tier.sites(),
            hits: counts.hits.value(),
            misses: counts.misses.value(),
            memory: MemoryView { answers: answers(memory), bytes: budget.used(), limit_bytes: budget.most() },
            disk: self.tier.view(answers(disk), counts.disk_hits.value()),
        }
    }

    /// Keeps in memory what was fetched from `began` on. False: it is not kept.
    fn put(&self, key: &Arc<Key>, stored: &Arc<Stored>, began: u64) -> bool {
        let kept = self.shelves.put(key, stored, began);
        if kept {
            // What is there on disk is older.
            self.tier.forget(key, &stored.selecting);
        }
        kept
    }

    /// Takes `stored` away from `key`.
    fn forget(&self, key: &Key, stored: &Arc<Stored>) {
        self.shelves.forget(key, stored);
        if let Some(spot) = &stored.on_disk {
            self.tier.remove(spot);
        }
    }

    /// What is at `key` has changed: nothing of it, and nothing that is on its way, is used any more.
    fn void(&self, key: &Arc<Key>) {
        self.shelves.void(key);
        self.tier.void(key);
        self.changes.note(key);
    }
}

/// Whether `line` says for how long answers are good.
pub fn is_default(line: &str) -> bool {
    Defaults::of(&[line.to_owned()]).is_ok()
}

/// Whether what is stored at `key` is of `which`.
fn wants(which: &WhichKept, key: &Key) -> bool {
    match which {
        WhichKept::All => true,
        WhichKept::Site(name) => *key.site == **name,
        WhichKept::Place { host, prefix } => {
            let host = host.as_deref().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
            host.is_none_or(|host| key.is_of(&host)) && key.target.starts_with(prefix.as_str())
        }
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
        let (memory, disk) = (config.cache_memory.bytes(), config.cache_disk.bytes());
        let most = site.cache_max_object.bytes();
        if memory < LEAST.0 {
            return Err(wrong("edge.cache_memory", config.cache_memory.to_string(), "at least 1 MiB"));
        }
        if disk != 0 && disk < LEAST_DISK {
            return Err(wrong("edge.cache_disk", config.cache_disk.to_string(), "0, or at least 16 MiB"));
        }
        let largest = memory.max(disk) / PART;
        if !(LEAST.1..=largest).contains(&most) {
            let allowed = format!(
                "1 KiB up to a quarter of edge.cache_memory or edge.cache_disk, whichever is larger: {}",
                ByteSize(largest)
            );
            return Err(wrong("edge.sites.cache_max_object", site.cache_max_object.to_string(), &allowed));
        }
        let in_memory = most.min(memory / if disk == 0 { PART } else { PART_BESIDE_DISK });
        let defaults = Defaults::of(&site.cache_default)?;
        let (hits, disk_hits, misses) = before
            .map(|before| (before.hits.clone(), before.disk_hits.clone(), before.misses.clone()))
            .unwrap_or_default();
        let stale = site.cache_stale.duration();
        Ok(Some(Arc::new(Self { most, in_memory, defaults, stale, hits, disk_hits, misses })))
    }

    /// Largest body kept, in bytes.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Largest body kept in memory, in bytes.
    pub const fn in_memory(&self) -> u64 {
        self.in_memory
    }

    /// How long an answer with `status` is good that does not say it; `None` leaves it to the standard.
    pub fn default(&self, status: StatusCode) -> Option<Duration> {
        self.defaults.get(status)
    }

    /// For how long past its time an answer stands in for an error, where it does not say so.
    pub const fn stale(&self) -> Duration {
        self.stale
    }

    /// Whether any answer that does not say it is good for a while.
    pub fn has_defaults(&self) -> bool {
        !self.defaults.is_empty()
    }

    /// Requests since the start that were answered without the app, those of them from disk, and those for which the app was
    /// asked.
    pub fn counted(&self) -> [u64; 3] {
        [self.hits.value(), self.disk_hits.value(), self.misses.value()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_memory_may_go_to_disk() {
        let of = |disk: &str, most: &str| {
            let text = format!(
                "cache_disk = \"{disk}\"\n[[sites]]\nupstream = \"x:1\"\ncache_answers = true\ncache_max_object = \"{most}\""
            );
            let config: EdgeConfig = toml::from_str(&text).unwrap();
            let caching = Caching::of(&config.sites[0], &config, None).unwrap().unwrap();
            (caching.most() >> 20, caching.in_memory() >> 20)
        };
        assert_eq!(of("0", "8 MiB"), (8, 8));
        assert_eq!(of("1 GiB", "1 MiB"), (1, 1));
        assert_eq!(of("1 GiB", "256 MiB"), (256, 2));
    }

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
            ("cache_disk = 1000\n[[sites]]\nupstream = \"x:1\"", "edge.cache_disk"),
            (
                "cache_disk = \"64 MiB\"\n[[sites]]\nupstream = \"x:1\"\ncache_max_object = \"17 MiB\"",
                "up to a quarter",
            ),
            ("[[sites]]\nupstream = \"x:1\"\ncache_default = [\"500: 1m\"]", "cache_default"),
        ] {
            let error = of(&format!("{text}\ncache_answers = true")).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
