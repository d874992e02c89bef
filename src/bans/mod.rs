//! Who is barred for a while: the list of banned addresses, its memory of repeat offenders, and the one look-up that
//! every request pays.
//!
//! What catches offenders by what they ask for is elsewhere (`edge/jails`); failed log-ins at the doors are counted here
//! ([`logins`]), and here offenders are kept. Promises: a ban that [`Bans::add`] or
//! [`Bans::remove`] acknowledged is in the store and outlives a crash, one that a jail made follows within moments; there
//! are never more than [`Rules::most`] rows, and what a flood of offenders pushes out ends soonest anyway; networks that
//! [`Rules::exempt`] holds are never banned by a jail, and by hand only when forced. IPv6 counts by its /64.
//!
//! Start reading at [`Bans`]; [`list`] is what it keeps in memory, [`fast`] what requests ask, [`row`] what is on disk.

mod counts;
mod fast;
mod list;
pub mod logins;
mod row;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::counts::{Counts, number_of};
use self::fast::Fast;
use self::list::List;
use self::logins::{Caught, Logins};
pub use self::logins::{Door, LoginJail};
pub use self::row::{Ban, Origin};
use crate::base::network::Network;
use crate::base::{Clock, Shutdown, Timestamp};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Time between two looks at what has ended.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Wait after a write that failed.
const BREATH: Duration = Duration::from_secs(5);
/// Most rows of one commit.
const BATCH: usize = 1_000;
/// Longest reason, in bytes.
pub const LONGEST_REASON: usize = 200;
/// Most jails that are counted apart in the metrics.
pub const MOST_JAILS: usize = 64;

/// By what the list is kept.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Most rows: bans, and ended ones that are remembered.
    pub most: u32,
    /// How long an ended ban is remembered, so that the next one is longer.
    pub remember: Duration,
    /// Who is not banned: loopback is always among them.
    pub exempt: Vec<Network>,
    /// What bans for failed log-ins at the doors.
    pub logins: Vec<LoginJail>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { most: 50_000, remember: Duration::from_hours(24 * 30), exempt: Vec::new(), logins: Vec::new() }
    }
}

/// How long a jail bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The first time.
    pub first: Duration,
    /// Each further ban is so many times as long as the one before.
    pub growth: u32,
    /// At most.
    pub longest: Duration,
}

impl Term {
    /// How long a ban is after `before` others.
    pub fn after(&self, before: u32) -> Duration {
        let mut span = self.first.min(self.longest);
        for _ in 0..before {
            if span >= self.longest || self.growth <= 1 {
                break;
            }
            span = span.saturating_mul(self.growth).min(self.longest);
        }
        span
    }
}

/// Why a ban is not made or lifted.
#[derive(Debug, thiserror::Error)]
pub enum BansError {
    /// The network is, holds, or lies in one that is never banned.
    #[error(
        "{network} is or holds an address that is never banned (loopback, edge.trusted_proxies, edge.bans.ignore); force it if it is meant"
    )]
    Exempt {
        /// What was to be banned.
        network: Network,
    },
    /// Every row holds a ban that was made by hand.
    #[error("there is no room: all {most} rows (edge.bans.most) are bans made by hand")]
    Full {
        /// Rows.
        most: u32,
    },
    /// Nothing to lift.
    #[error("{0} is not banned")]
    NotBanned(Network),
    /// A reason that is too long, or holds control characters.
    #[error("a reason has at most {LONGEST_REASON} bytes and no control characters")]
    Reason,
    /// The store does not take it; it may be in force until the next start.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A ban by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who.
    pub network: Network,
    /// For how long; `None` until it is lifted.
    pub span: Option<Duration>,
    /// Why, for people.
    pub reason: String,
    /// Also when the network is never banned otherwise.
    pub force: bool,
}

/// The list. Clones share it.
#[derive(Clone)]
pub struct Bans(Arc<Inner>);

struct Inner {
    list: Mutex<List>,
    /// Changed under the list's lock, read without it.
    fast: Fast,
    logins: Logins,
    /// One write at a time, so that an older row never lands after a newer one.
    writing: tokio::sync::Mutex<()>,
    changed: Notify,
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Bans {
    /// The list as `store` has it. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]. A row that does not fit is told in the log and counts as none.
    pub fn open(store: Store, clock: Arc<dyn Clock>, metrics: &Metrics, rules: Rules) -> Result<Self, StoreError> {
        let logins = Logins::new(rules.logins.clone(), metrics);
        let mut list = List::new(rules);
        for (network, ban) in store.read_blocking(row::all)? {
            list.load(network, ban);
        }
        let fast = Fast::default();
        let now = clock.now();
        list.sweep(now);
        for (network, ban) in list.active(now) {
            fast.set(network, ban.until_ms);
        }
        let inner = Inner {
            list: Mutex::new(list),
            fast,
            logins,
            writing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            store,
            clock,
            metrics: metrics.clone(),
        };
        let bans = Self(Arc::new(inner));
        let counted = Arc::downgrade(&bans.0);
        metrics.computed("mainstay_bans_active", "Addresses and networks banned now.", &[], move || {
            counted.upgrade().map_or(0.0, |inner| inner.fast.len() as f64)
        });
        Ok(bans)
    }

    /// Whether `address` is banned. One look-up in a hash table for each width of network in use (addresses alone: one);
    /// while nobody is banned, none.
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.0.fast.until(address).is_some_and(|until| until > self.0.clock.now().millis())
    }

    /// Whether a door that is not the edge closes a connection from `address` at once. As cheap as [`Self::is_banned`];
    /// loopback comes in always.
    pub fn shuts_out(&self, address: IpAddr) -> bool {
        let out = !address.to_canonical().is_loopback() && self.is_banned(address);
        if out {
            self.0.logins.shut_out();
        }
        out
    }

    /// Somebody at `address` gave wrong credentials at `door`, which has refused them. Whether the address is banned now,
    /// so that its connection had better end. Waits for nothing but the list's lock, and for that only to ban.
    pub fn failed_login(&self, address: IpAddr, door: Door) -> bool {
        let logins = &self.0.logins;
        logins.failed(door);
        if address.to_canonical().is_loopback() {
            return false;
        }
        if logins.is_idle() {
            return self.is_banned(address);
        }
        for Caught { jail, term, reason } in logins.count(address, door, self.0.clock.monotonic()) {
            if let Some(until) = self.caught(address, &jail, &term, &reason) {
                tracing::info!(client = %address, jail, %door, until = %Timestamp(until), "an address is banned");
            }
        }
        self.is_banned(address)
    }

    /// Whether a jail must leave `address` alone.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.list().is_exempt(&Network::of_client(address))
    }

    /// Bans `address` because `jail` caught it, for longer each time. Returns until when (milliseconds since 1970), or
    /// `None` when it is exempt, banned already, or there is no room. In force at once, in the store soon after.
    pub fn caught(&self, address: IpAddr, jail: &str, term: &Term, reason: &str) -> Option<u64> {
        let (network, now) = (Network::of_client(address), self.0.clock.now());
        let until = {
            let mut list = self.list();
            let (until, pushed_out) = list.caught(network, jail, term, cut(reason), now)?;
            self.0.fast.set(network, until);
            if let Some(gone) = pushed_out {
                self.0.fast.remove(gone);
            }
            until
        };
        self.0.metrics.counter("mainstay_bans_total", "Bans made, by jail.", &[("jail", jail)]).inc();
        self.0.changed.notify_one();
        Some(until)
    }

    /// Bans who `wanted` names. Returns once it would survive power loss.
    ///
    /// # Errors
    /// [`BansError`]; only with [`BansError::Store`] it may be in force.
    ///
    /// # Cancel safety
    /// Dropped before its end, it is in force and may be in the store.
    pub async fn add(&self, wanted: &Wanted) -> Result<Ban, BansError> {
        if wanted.reason.len() > LONGEST_REASON || wanted.reason.chars().any(char::is_control) {
            return Err(BansError::Reason);
        }
        let ban = {
            let mut list = self.list();
            let (ban, pushed_out) = list.add(wanted, self.0.clock.now())?;
            self.0.fast.set(wanted.network, ban.until_ms);
            if let Some(gone) = pushed_out {
                self.0.fast.remove(gone);
            }
            ban
        };
        self.0.metrics.counter("mainstay_bans_total", "Bans made, by jail.", &[("jail", "hand")]).inc();
        self.save().await?;
        Ok(ban)
    }

    /// Waits until there is something that is not in the store. For who passes bans on when the store is another process's; until
    /// then [`Self::run`] waits for it.
    ///
    /// # Cancel safety
    /// Nothing is missed.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// At most `most` bans in force that are not in the store. They count as passed on from now on; fewer than `most` are all.
    pub fn take_unsaved(&self, most: usize) -> Vec<(Network, Ban)> {
        let (mut list, now, mut taken) = (self.list(), self.0.clock.now(), Vec::new());
        while taken.len() < most {
            let (changed, rows) = list.take_changed(most - taken.len());
            if changed.is_empty() {
                break;
            }
            // What has ended meanwhile is nobody's news.
            let active = rows.into_iter().filter_map(|(network, ban)| Some((network, ban?)));
            taken.extend(active.filter(|(_, ban)| ban.is_active(now)));
        }
        taken
    }

    /// Takes over a `ban` of `network` that another process made while this one had the store. In force at once, in the store
    /// soon after; not taken over is what has ended, who is exempt, and what ends before a ban that is in force.
    pub fn learn(&self, network: Network, ban: Ban) {
        let until = ban.until_ms;
        {
            let mut list = self.list();
            let Some(pushed_out) = list.learn(network, ban, self.0.clock.now()) else { return };
            self.0.fast.set(network, until);
            for gone in pushed_out {
                self.0.fast.remove(gone);
            }
        }
        self.0.changed.notify_one();
    }

    /// Lifts the ban of exactly `network` and forgets what was before. Returns once that would survive power loss.
    ///
    /// # Errors
    /// [`BansError::NotBanned`], [`BansError::Store`].
    ///
    /// # Cancel safety
    /// Dropped before its end, it is lifted and may come back with the next start.
    pub async fn remove(&self, network: Network) -> Result<(), BansError> {
        {
            let mut list = self.list();
            if !list.remove(network, self.0.clock.now()) {
                return Err(BansError::NotBanned(network));
            }
            self.0.fast.remove(network);
        }
        Ok(self.save().await?)
    }

    /// Lifts every ban. Returns how many there were, once that would survive power loss.
    ///
    /// # Errors
    /// [`BansError::Store`].
    ///
    /// # Cancel safety
    /// Dropped before its end, they are lifted and may come back with the next start.
    pub async fn remove_all(&self) -> Result<usize, BansError> {
        let count = {
            let mut list = self.list();
            let active: Vec<Network> = list.active(self.0.clock.now()).map(|(network, _)| network).collect();
            for network in &active {
                list.remove(*network, self.0.clock.now());
                self.0.fast.remove(*network);
            }
            active.len()
        };
        self.save().await?;
        Ok(count)
    }

    /// The bans in force, by network, at most `limit` of those behind `after`.
    pub fn list_after(&self, after: Option<Network>, limit: usize) -> Vec<(Network, Ban)> {
        let (list, now) = (self.list(), self.0.clock.now());
        list.after(after, now).take(limit).map(|(network, ban)| (network, ban.clone())).collect()
    }

    /// The newest bans in force, at most `limit`.
    pub fn newest(&self, limit: usize) -> Vec<(Network, Ban)> {
        let (list, now) = (self.list(), self.0.clock.now());
        let mut all: Vec<(Network, &Ban)> = list.active(now).collect();
        all.sort_by_key(|(_, ban)| std::cmp::Reverse(ban.since_ms));
        all.into_iter().take(limit).map(|(network, ban)| (network, ban.clone())).collect()
    }

    /// The ban that holds `address` now: the narrowest, when several do.
    pub fn holding(&self, address: IpAddr) -> Option<(Network, Ban)> {
        let network = self.0.fast.found(address)?;
        let (list, now) = (self.list(), self.0.clock.now());
        list.get(&network).filter(|ban| ban.is_active(now)).map(|ban| (network, ban.clone()))
    }

    /// Bans in force.
    pub fn count(&self) -> usize {
        self.0.fast.len()
    }

    /// Keeps the list by `rules` from now on. Jails' bans of who is exempt now are lifted.
    pub fn set_rules(&self, rules: Rules) {
        self.0.logins.set(rules.logins.clone());
        {
            let mut list = self.list();
            for network in list.set_rules(rules) {
                self.0.fast.remove(network);
            }
        }
        self.0.changed.notify_one();
    }

    /// Writes what changes and forgets what has ended, until the server stops, and then once more.
    pub async fn run(self, shutdown: Shutdown) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let stops = tokio::select! {
                () = self.0.changed.notified() => false,
                _ = sweep.tick() => { self.sweep(); false }
                () = shutdown.draining() => true,
            };
            let saved = self.save().await;
            if stops {
                if let Err(error) = saved {
                    tracing::error!(%error, "bans cannot be saved");
                }
                return;
            }
            if let Err(error) = saved {
                tracing::warn!(%error, "bans cannot be saved; they are in force and tried again");
                self.0.changed.notify_one();
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// Forgets what has ended.
    fn sweep(&self) {
        let mut list = self.list();
        for network in list.sweep(self.0.clock.now()) {
            self.0.fast.remove(network);
        }
    }

    /// Writes every row that has changed.
    ///
    /// # Errors
    /// [`StoreError`]; the next save tries again.
    ///
    /// # Cancel safety
    /// Dropped before its end, a row may be written only after its next change.
    pub async fn save(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.writing.lock().await;
        loop {
            let (changed, rows) = self.list().take_changed(BATCH);
            if changed.is_empty() {
                return Ok(());
            }
            if let Err(error) = row::write(&self.0.store, rows).await {
                self.list().unsaved(changed);
                return Err(error);
            }
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most [`LONGEST_REASON`] bytes of `reason`, without control characters.
fn cut(reason: &str) -> String {
    let text: String = reason.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    text.get(..text.floor_char_boundary(LONGEST_REASON)).unwrap_or_default().to_owned()
}

/// Networks whose rows changed.
type Changed = BTreeSet<Network>;

impl std::fmt::Debug for Bans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bans").field("active", &self.count()).finish_non_exhaustive()
    }
}

/// The moment of `until_ms`, `None` when it is never.
pub const fn moment(until_ms: u64) -> Option<Timestamp> {
    if until_ms == u64::MAX { None } else { Some(Timestamp(until_ms)) }
}
