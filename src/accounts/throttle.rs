//! How failed attempts are slowed down, without letting anybody lock somebody else out.
//!
//! Counted are failures by account *and* address, and by address alone; never by account alone, since then a stranger
//! could shut its owner out. An address is an IPv4 address or an IPv6 /64, which is what one customer has. The count is
//! the sliding window of [`crate::limits::window`]: past the limit an attempt is refused before anything is looked at,
//! until the oldest failure is as old as the window is long. An attempt counts from its begin, so that many at once gain
//! nothing, and is taken back when it succeeds or was not looked at.
//!
//! In memory: a restart forgets the counts, which costs an attacker's wait and no more. At most [`MOST`] pairs are
//! known; past it those whose failures are over first are forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{AccountsConfig, AccountsError};
use crate::base::Clock;
use crate::base::network::counted_as;
use crate::crypto::mac;
use crate::limits::window::{LIMIT_MAX, Window};

/// Most counters known at once, of at most [`LIMIT_MAX`] times of 8 bytes each.
pub const MOST: usize = 20_000;

/// What failures are counted by: a digest, so that all have one size.
type Key = [u8; 16];

/// When attempts were begun that are failures so far, in milliseconds of the monotonic clock.
type Times = Vec<u64>;

/// The counts. Clones share them.
#[derive(Clone)]
pub(super) struct Throttle {
    counts: Arc<Mutex<HashMap<Key, Times>>>,
    clock: Arc<dyn Clock>,
    per_account: Window,
    per_address: Window,
}

/// An attempt that counts as a failure unless it is taken back.
#[must_use]
pub(super) struct Attempt {
    throttle: Throttle,
    keys: Vec<Key>,
    /// When it was begun.
    at_ms: u64,
}

impl Throttle {
    pub fn new(config: &AccountsConfig, clock: Arc<dyn Clock>) -> Self {
        let length_ms = millis(config.failures_window.duration()).max(1);
        let window = |limit: u32| Window { limit: limit.clamp(1, LIMIT_MAX), length_ms };
        Self {
            counts: Arc::default(),
            clock,
            per_account: window(config.failures_per_account),
            per_address: window(config.failures_per_address),
        }
    }

    /// Begins an attempt on `account` (an e-mail address, or what else is tried to be guessed) from `address`; without
    /// an account, failures count by address alone. An attempt from no address is never refused.
    ///
    /// # Errors
    /// [`AccountsError::Throttled`]; the attempt does not count then.
    pub fn begin(&self, account: Option<&str>, address: Option<IpAddr>) -> Result<Attempt, AccountsError> {
        let at_ms = millis(self.clock.monotonic());
        let mut attempt = Attempt { throttle: self.clone(), keys: Vec::new(), at_ms };
        let Some(network) = address.map(network) else { return Ok(attempt) };
        let pair = account.map(|account| (key(&[account.as_bytes(), &network]), self.per_account));
        let mut counts = self.lock();
        for (key, window) in pair.into_iter().chain([(key(&[b"", &network]), self.per_address)]) {
            let verdict = window.decide(counts.entry(key).or_default(), at_ms, 1);
            if !verdict.allowed {
                attempt.forget(&mut counts);
                return Err(AccountsError::Throttled { wait: Duration::from_millis(verdict.retry_ms) });
            }
            attempt.keys.push(key);
        }
        if counts.len() > MOST {
            make_room(&mut counts, at_ms, self.per_address.length_ms);
        }
        Ok(attempt)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Times>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The attempt was not looked at: it does not count.
    pub fn take_back(self) {
        self.forget(&mut self.throttle.lock());
    }

    /// The attempt succeeded: earlier failures of the account from this address are forgotten too. Those of the address
    /// on other accounts are not, or an attacker with an account of their own would never have to wait.
    pub fn succeeded(self) {
        let mut counts = self.throttle.lock();
        if let [pair, _address] = self.keys.as_slice() {
            counts.remove(pair);
        }
        self.forget(&mut counts);
    }

    /// Removes this one attempt from what it was counted in.
    fn forget(&self, counts: &mut HashMap<Key, Times>) {
        for key in &self.keys {
            let Some(times) = counts.get_mut(key) else { continue };
            if let Some(place) = times.iter().rposition(|time| *time == self.at_ms) {
                times.remove(place);
            }
            if times.is_empty() {
                counts.remove(key);
            }
        }
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("known", &self.lock().len()).finish_non_exhaustive()
    }
}

/// Forgets counters whose failures are all over, and then a tenth of the rest, those over first.
fn make_room(counts: &mut HashMap<Key, Times>, now_ms: u64, length_ms: u64) {
    let last = |times: &Times| times.last().copied().unwrap_or(0);
    counts.retain(|_, times| last(times).saturating_add(length_ms) > now_ms);
    if counts.len() <= MOST {
        return;
    }
    let mut lasts: Vec<u64> = counts.values().map(last).collect();
    let (_, &mut bound, _) = lasts.select_nth_unstable(MOST / 10);
    counts.retain(|_, times| last(times) > bound);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The address, or of an IPv6 one the /64 it lies in.
fn network(address: IpAddr) -> [u8; 16] {
    match counted_as(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn key(parts: &[&[u8]]) -> Key {
    let mut whole = mac::Sha256::new();
    for part in parts {
        whole.update(&(part.len() as u64).to_be_bytes());
        whole.update(part);
    }
    let mut out = Key::default();
    out.copy_from_slice(whole.finish().get(..16).unwrap_or(&[0; 16]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    fn throttle() -> (Throttle, Arc<TestClock>) {
        let clock = Arc::new(TestClock::default());
        (Throttle::new(&AccountsConfig::default(), clock.clone()), clock)
    }

    fn try_from(throttle: &Throttle, account: &str, address: &str) -> Result<Attempt, AccountsError> {
        throttle.begin(Some(account), Some(address.parse().unwrap()))
    }

    fn fail(throttle: &Throttle, account: &str, address: &str, times: u32) {
        for _ in 0..times {
            let _counted = try_from(throttle, account, address).unwrap();
        }
    }

    #[test]
    fn an_address_waits_after_five_failures_on_an_account_and_may_try_again_after_the_span() {
        let (throttle, clock) = throttle();
        fail(&throttle, "a", "192.0.2.1", 5);
        clock.advance(Duration::from_mins(1));
        let Err(AccountsError::Throttled { wait }) = try_from(&throttle, "a", "192.0.2.1") else { panic!("taken") };
        assert_eq!(wait, Duration::from_mins(14));
        clock.advance(wait);
        fail(&throttle, "a", "192.0.2.1", 5);
    }

    #[test]
    fn failures_leave_one_by_one_as_they_grow_old() {
        let (throttle, clock) = throttle();
        for _ in 0..5 {
            fail(&throttle, "a", "192.0.2.1", 1);
            clock.advance(Duration::from_mins(1));
        }
        let Err(AccountsError::Throttled { wait }) = try_from(&throttle, "a", "192.0.2.1") else { panic!("taken") };
        assert_eq!(wait, Duration::from_mins(10));
        clock.advance(wait);
        fail(&throttle, "a", "192.0.2.1", 1);
        assert!(try_from(&throttle, "a", "192.0.2.1").is_err(), "the other four still count");
    }

    #[test]
    fn an_attempt_that_one_counter_refuses_counts_in_none() {
        let (throttle, _) = throttle();
        fail(&throttle, "a", "192.0.2.1", 5);
        for _ in 0..100 {
            assert!(try_from(&throttle, "a", "192.0.2.1").is_err());
        }
        for account in 0..25 {
            fail(&throttle, &account.to_string(), "192.0.2.1", 1);
        }
        for account in 100..200 {
            assert!(try_from(&throttle, &account.to_string(), "192.0.2.1").is_err());
        }
        assert_eq!(throttle.lock().len(), 27, "what was refused is not kept");
    }

    #[test]
    fn nobody_is_locked_out_by_the_failures_of_another_address() {
        let (throttle, _) = throttle();
        fail(&throttle, "a", "192.0.2.1", 5);
        fail(&throttle, "a", "192.0.2.2", 1);
        fail(&throttle, "b", "192.0.2.1", 1);
    }

    #[test]
    fn an_address_that_tries_many_accounts_waits_too() {
        let (throttle, _) = throttle();
        for account in 0..30 {
            fail(&throttle, &account.to_string(), "192.0.2.1", 1);
        }
        assert!(try_from(&throttle, "another", "192.0.2.1").is_err());
    }

    #[test]
    fn the_addresses_of_one_ipv6_customer_are_one() {
        let (throttle, _) = throttle();
        for host in 0..5 {
            fail(&throttle, "a", &format!("2001:db8:0:1::{host}"), 1);
        }
        assert!(try_from(&throttle, "a", "2001:db8:0:1:ffff::").is_err());
        fail(&throttle, "a", "2001:db8:0:2::", 1);
        fail(&throttle, "a", "192.0.2.9", 5);
        assert!(try_from(&throttle, "a", "::ffff:192.0.2.9").is_err());
    }

    #[test]
    fn success_forgives_the_account_but_not_the_address() {
        let (throttle, _) = throttle();
        fail(&throttle, "a", "192.0.2.1", 4);
        try_from(&throttle, "a", "192.0.2.1").unwrap().succeeded();
        fail(&throttle, "a", "192.0.2.1", 5);
        for account in 0..21 {
            fail(&throttle, &account.to_string(), "192.0.2.1", 1);
        }
        assert!(try_from(&throttle, "b", "192.0.2.1").is_err(), "4 + 5 + 21 failures");
    }

    #[test]
    fn what_was_not_looked_at_does_not_count() {
        let (throttle, _) = throttle();
        for _ in 0..100 {
            try_from(&throttle, "a", "192.0.2.1").unwrap().take_back();
        }
    }

    #[test]
    fn a_flood_of_addresses_stays_within_the_cap() {
        let (throttle, clock) = throttle();
        for number in 0..(MOST as u32 + 5000) {
            clock.advance(Duration::from_millis(1));
            let _counted = throttle.begin(Some("a"), Some(IpAddr::V4(number.into()))).unwrap();
            assert!(throttle.lock().len() <= MOST);
        }
    }
}
