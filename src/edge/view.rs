//! How the apps do, for those who show it.

use tokio::time::Instant;

use super::Edge;
use super::health::Standing;
use crate::monitor::{KeptView, Passed, SiteView, UpstreamState, UpstreamView, WhichKept};

impl Edge {
    /// Every site, and how it answered in the last hour.
    pub fn sites(&self) -> Vec<SiteView> {
        let mut sites = self.traffic.load().view();
        let Some(first) = self.crew.first().map(|hand| hand.proxy.current.load_full()) else { return sites };
        let [memory, disk] = self.cache.kept();
        for (name, caching) in first.rules.sites.caching() {
            if let Some(site) = sites.iter_mut().find(|site| site.name == **name) {
                let (memory, disk) = (memory.get(name).copied(), disk.get(name).copied());
                let (memory, disk) = (memory.unwrap_or_default(), disk.unwrap_or_default());
                let [hits, disk_hits, misses] = caching.counted();
                site.kept = Some(KeptView {
                    answers: memory.answers,
                    bytes: memory.bytes,
                    disk_answers: disk.answers,
                    disk_bytes: disk.bytes,
                    hits,
                    disk_hits,
                    misses,
                });
            }
        }
        sites
    }

    /// Takes kept answers away and tells how many those were. What is being fetched now is not kept either. Blocks.
    pub fn purge_cache(&self, which: &WhichKept) -> u64 {
        self.cache.purge(which)
    }

    /// The last requests, the newest first; they are noted from now on, for a minute.
    pub fn passed(&self) -> Vec<Passed> {
        self.tail.look()
    }

    /// Every copy of every app, in the order of the settings.
    pub fn upstreams(&self) -> Vec<UpstreamView> {
        let crew: Vec<_> = self.crew.iter().map(|hand| hand.proxy.current.load_full()).collect();
        let Some(first) = crew.first() else { return Vec::new() };
        let sites = &first.rules.sites;
        let now = Instant::now();
        let view = |(number, peer): (usize, &std::sync::Arc<super::peer::Peer>)| {
            let counts = self.counts.of_upstream(&peer.name);
            let checked = peer.health.checked();
            let (state, left) = match peer.health.standing(now) {
                Standing::Up => (UpstreamState::Up, None),
                Standing::Failing(left) => (UpstreamState::Failing, Some(left)),
                Standing::Down => (UpstreamState::Down, None),
            };
            let used_by = sites.apps().filter(|(_, copies)| copies.contains(&number)).map(|(name, _)| name.to_owned());
            UpstreamView {
                upstream: peer.name.clone(),
                sites: used_by.collect(),
                state,
                active: crew.iter().map(|current| current.pools.active(number) as u64).sum(),
                requests: counts.requests.value(),
                failed: counts.failed.value(),
                failures: peer.health.failures(),
                again_at_ms: left.map(|left| self.clock.now().millis().saturating_add(left.as_millis() as u64)),
                checked: peer.rules.health.check.is_some(),
                last_check_ms: checked.at_ms,
                error: checked.error,
            }
        };
        sites.peers().iter().enumerate().map(view).collect()
    }
}
