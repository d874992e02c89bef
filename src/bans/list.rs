//! The list in memory: every row, which of them have changed, and which goes first when there is no room.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::row::{Ban, Origin};
use super::{BansError, Changed, Rules, Term, Wanted};
use crate::base::Timestamp;
use crate::base::network::Network;

/// Networks that no rule has to name: this machine.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Every ban, and every ended one that is remembered.
#[derive(Debug)]
pub struct List {
    rows: BTreeMap<Network, Ban>,
    /// Rows that jails made, or that have ended, by their end: what goes first comes first.
    passing: BTreeSet<(u64, Network)>,
    changed: Changed,
    rules: Rules,
    loopback: Vec<Network>,
}

impl List {
    /// An empty list kept by `rules`.
    pub fn new(rules: Rules) -> Self {
        Self {
            rows: BTreeMap::new(),
            passing: BTreeSet::new(),
            changed: Changed::new(),
            rules,
            loopback: LOOPBACK.iter().filter_map(|text| text.parse().ok()).collect(),
        }
    }

    /// Takes a row as the store has it.
    pub fn load(&mut self, network: Network, ban: Ban) {
        self.put(network, ban);
        self.changed.remove(&network);
    }

    /// Whether `network` has an address in common with one that is never banned.
    pub fn is_exempt(&self, network: &Network) -> bool {
        self.loopback.iter().chain(&self.rules.exempt).any(|exempt| exempt.overlaps(network))
    }

    /// A jail bans `network`. Returns until when, and whose row made room; `None` when it is not banned by this.
    pub fn caught(
        &mut self,
        network: Network,
        jail: &str,
        term: &Term,
        reason: String,
        now: Timestamp,
    ) -> Option<(u64, Option<Network>)> {
        let before = self.rows.get(&network);
        if self.is_exempt(&network) || before.is_some_and(|ban| ban.is_active(now)) {
            return None;
        }
        let times = before.map_or(0, |ban| ban.times);
        let pushed_out = self.make_room(&network).ok()?;
        let until_ms = now.after(term.after(times)).millis();
        let origin = Origin::Jail(jail.to_owned());
        self.put(network, Ban { origin, reason, since_ms: now.millis(), until_ms, times: times.saturating_add(1) });
        Some((until_ms, pushed_out))
    }

    /// A ban by hand. Returns it, and whose row made room.
    pub fn add(&mut self, wanted: &Wanted, now: Timestamp) -> Result<(Ban, Option<Network>), BansError> {
        let network = wanted.network;
        if !wanted.force && self.is_exempt(&network) {
            return Err(BansError::Exempt { network });
        }
        let pushed_out = self.make_room(&network)?;
        let ban = Ban {
            origin: Origin::Hand,
            reason: wanted.reason.clone(),
            since_ms: now.millis(),
            until_ms: wanted.span.map_or(u64::MAX, |span| now.after(span).millis()),
            times: self.rows.get(&network).map_or(0, |ban| ban.times).saturating_add(1),
        };
        self.put(network, ban.clone());
        Ok((ban, pushed_out))
    }

    /// Takes over a `ban` of `network` that another process made, unless one is in force that ends no earlier. Returns the
    /// networks whose rows made room, one at most; `None` when it is not taken over.
    pub fn learn(&mut self, network: Network, ban: Ban, now: Timestamp) -> Option<Vec<Network>> {
        let by_jail = matches!(ban.origin, Origin::Jail(_));
        let known = self.rows.get(&network).is_some_and(|known| known.until_ms >= ban.until_ms);
        if known || !ban.is_active(now) || (by_jail && self.is_exempt(&network)) {
            return None;
        }
        let pushed_out = self.make_room(&network).ok()?;
        self.put(network, ban);
        Some(pushed_out.into_iter().collect())
    }

    /// Lifts the ban of `network` and forgets it; whether there was one in force.
    pub fn remove(&mut self, network: Network, now: Timestamp) -> bool {
        let active = self.rows.get(&network).is_some_and(|ban| ban.is_active(now));
        if active {
            self.forget(network);
        }
        active
    }

    /// The row of `network`.
    pub fn get(&self, network: &Network) -> Option<&Ban> {
        self.rows.get(network)
    }

    /// The bans in force.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = (Network, &Ban)> {
        self.after(None, now)
    }

    /// The bans in force behind `after`.
    pub fn after(&self, after: Option<Network>, now: Timestamp) -> impl Iterator<Item = (Network, &Ban)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.range((from, Bound::Unbounded));
        rows.filter(move |(_, ban)| ban.is_active(now)).map(|(network, ban)| (*network, ban))
    }

    /// Forgets what ended so long ago that it is not remembered. Returns what is no longer in force.
    pub fn sweep(&mut self, now: Timestamp) -> Vec<Network> {
        let remember = u64::try_from(self.rules.remember.as_millis()).unwrap_or(u64::MAX);
        let ended: Vec<(u64, Network)> =
            self.passing.range(..(now.millis().saturating_add(1), lowest())).copied().collect();
        for (until, network) in &ended {
            if until.saturating_add(remember) <= now.millis() {
                self.forget(*network);
            }
        }
        ended.into_iter().map(|(_, network)| network).collect()
    }

    /// Keeps the list by `rules` from now on. Returns which jails' bans are lifted by that, or had to go.
    pub fn set_rules(&mut self, rules: Rules) -> Vec<Network> {
        self.rules = rules;
        let by_jail = |ban: &Ban| matches!(ban.origin, Origin::Jail(_));
        let mut lifted: Vec<Network> = self.rows.iter().filter(|(_, ban)| by_jail(ban)).map(|(key, _)| *key).collect();
        lifted.retain(|network| self.is_exempt(network));
        for network in &lifted {
            self.forget(*network);
        }
        while self.rows.len() > self.rules.most as usize
            && let Some((_, network)) = self.passing.first().copied()
        {
            self.forget(network);
            lifted.push(network);
        }
        lifted
    }

    /// At most `most` of the rows that changed since they were last taken, for the store.
    pub fn take_changed(&mut self, most: usize) -> (Changed, Vec<(Network, Option<Ban>)>) {
        let rest = self.changed.iter().nth(most).copied().map(|first| self.changed.split_off(&first));
        let taken = std::mem::replace(&mut self.changed, rest.unwrap_or_default());
        let rows = taken.iter().map(|network| (*network, self.rows.get(network).cloned())).collect();
        (taken, rows)
    }

    /// What was taken is not in the store.
    pub fn unsaved(&mut self, changed: Changed) {
        self.changed.extend(changed);
    }

    /// Room for the row of `network`: the one that ends first goes, unless it is there already.
    fn make_room(&mut self, network: &Network) -> Result<Option<Network>, BansError> {
        if self.rows.contains_key(network) || self.rows.len() < self.rules.most as usize {
            return Ok(None);
        }
        let (_, first) = self.passing.first().copied().ok_or(BansError::Full { most: self.rules.most })?;
        self.forget(first);
        Ok(Some(first))
    }

    fn put(&mut self, network: Network, ban: Ban) {
        if let Some(before) = self.rows.get(&network) {
            self.passing.remove(&(before.until_ms, network));
        }
        // One without an end stays until somebody lifts it.
        if matches!(ban.origin, Origin::Jail(_)) || ban.until_ms != u64::MAX {
            self.passing.insert((ban.until_ms, network));
        }
        self.rows.insert(network, ban);
        self.changed.insert(network);
    }

    fn forget(&mut self, network: Network) {
        if let Some(ban) = self.rows.remove(&network) {
            self.passing.remove(&(ban.until_ms, network));
            self.changed.insert(network);
        }
    }
}

/// The first of all networks.
fn lowest() -> Network {
    Network::around(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 0)
}
