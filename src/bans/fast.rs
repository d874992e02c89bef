//! What every request asks: whether its address is banned, and until when.
//!
//! A hash table by network in parts with a lock each, and the widths of networks in use, so that a request looks only for
//! those. Bounded by the list it is made from.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::base::network::Network;

/// Parts with a lock each.
const PARTS: usize = 16;

/// Ends of bans by network.
#[derive(Debug)]
pub struct Fast {
    parts: [RwLock<HashMap<Network, u64>>; PARTS],
    hasher: RandomState,
    count: AtomicUsize,
    /// How many networks there are of each width; taken before a part's lock by whoever changes anything.
    by_width: Mutex<HashMap<u32, usize>>,
    /// The widths there are, narrow networks first.
    widths: ArcSwap<Vec<u32>>,
}

impl Default for Fast {
    fn default() -> Self {
        Self {
            parts: Default::default(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            by_width: Mutex::default(),
            widths: ArcSwap::default(),
        }
    }
}

impl Fast {
    /// The end of the ban that holds `address`, in milliseconds since 1970: the latest, when several do. It may be over.
    pub fn until(&self, address: IpAddr) -> Option<u64> {
        let widths = self.widths.load();
        widths.iter().filter_map(|bits| self.end_of(&Network::around(address, *bits))).max()
    }

    /// The narrowest network that holds `address`.
    pub fn found(&self, address: IpAddr) -> Option<Network> {
        let widths = self.widths.load();
        let networks = widths.iter().map(|bits| Network::around(address, *bits));
        networks.into_iter().find(|network| self.end_of(network).is_some())
    }

    /// Networks.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bans `network` until `until_ms`.
    pub fn set(&self, network: Network, until_ms: u64) {
        let mut by_width = self.by_width.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.part(&network).write().unwrap_or_else(PoisonError::into_inner).insert(network, until_ms);
        if before.is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
            let count = by_width.entry(network.bits()).or_insert(0);
            *count = count.saturating_add(1);
            if *count == 1 {
                self.publish(&by_width);
            }
        }
    }

    /// Lets `network` in.
    pub fn remove(&self, network: Network) {
        let mut by_width = self.by_width.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.part(&network).write().unwrap_or_else(PoisonError::into_inner).remove(&network);
        if before.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            if let Some(count) = by_width.get_mut(&network.bits()) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    by_width.remove(&network.bits());
                    self.publish(&by_width);
                }
            }
        }
    }

    fn publish(&self, by_width: &HashMap<u32, usize>) {
        let mut widths: Vec<u32> = by_width.keys().copied().collect();
        widths.sort_unstable_by(|a, b| b.cmp(a));
        self.widths.store(std::sync::Arc::new(widths));
    }

    fn end_of(&self, network: &Network) -> Option<u64> {
        self.part(network).read().unwrap_or_else(PoisonError::into_inner).get(network).copied()
    }

    fn part(&self, network: &Network) -> &RwLock<HashMap<Network, u64>> {
        let [first, ..] = &self.parts;
        self.parts.get(self.hasher.hash_one(network) as usize % PARTS).unwrap_or(first)
    }
}
