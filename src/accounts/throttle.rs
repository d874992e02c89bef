//! How failed attempts are slowed down, without letting anybody lock somebody else out.
//!
//! Counted are failures by account *and* address, and by address alone; never by account alone, since then a stranger
//! could shut its owner out. An address is an IPv4 address or an IPv6 /64, which is what one customer has. A span of
//! failures begins with the first and ends a fixed time later; past the limit an attempt is refused before anything is
//! looked at. An attempt counts from its begin, so that many at once gain nothing, and is taken back when it succeeds or
//! was not looked at.
//!
//! In memory: a restart forgets the counts, which costs an attacker's wait and no more. At most [`MOST`] pairs are
//! known; past it the spans that end first are forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{AccountsConfig, AccountsError};
use crate::base::Clock;
use crate::base::network::counted_as;
use crate::crypto::mac;

/// Most spans of failures known at once, 40 bytes each.
pub const MOST: usize = 20_000;

/// What failures are counted by: a digest, so that all have one size.
type Key = [u8; 16];

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    /// Monotonic time.
    ends: Duration,
}

/// The counts. Clones share them.
#[derive(Clone)]
pub(super) struct Throttle {
    counts: Arc<Mutex<HashMap<Key, Failures>>>,
    clock: Arc<dyn Clock>,
    per_account: u32,
    per_address: u32,
    window: Duration,
}

/// An attempt that counts as a failure unless it is taken back.
#[must_use]
pub(super) struct Attempt {
    throttle: Throttle,
    keys: Vec<Key>,
}

impl Throttle {
    pub fn new(config: &AccountsConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            counts: Arc::default(),
            clock,
            per_account: config.failures_per_account.max(1),
            per_address: config.failures_per_address.max(1),
            window: config.failures_window.duration(),
        }
    }

    /// Begins an attempt on `account` (an e-mail address, or what else is tried to be guessed) from `address`; without
    /// an account, failures count by address alone. An attempt from no address is never refused.
    ///
    /// # Errors
    /// [`AccountsError::Throttled`]; the attempt does not count then.
    pub fn begin(&self, account: Option<&str>, address: Option<IpAddr>) -> Result<Attempt, AccountsError> {
        let Some(network) = address.map(network) else {
            return Ok(Attempt { throttle: self.clone(), keys: Vec::new() });
        };
        let pair = account.map(|account| (key(&[account.as_bytes(), &network]), self.per_account));
        let limits: Vec<(Key, u32)> = pair.into_iter().chain([(key(&[b"", &network]), self.per_address)]).collect();
        let now = self.clock.monotonic();
        let mut counts = self.lock();
        for (key, most) in &limits {
            if let Some(found) = counts.get(key).filter(|found| found.ends > now && found.count >= *most) {
                return Err(AccountsError::Throttled { wait: found.ends.saturating_sub(now) });
            }
        }
        for (key, _) in &limits {
            let found = counts.entry(*key).or_insert(Failures { count: 0, ends: Duration::ZERO });
            if found.ends <= now {
                *found = Failures { count: 0, ends: now.saturating_add(self.window) };
            }
            found.count = found.count.saturating_add(1);
        }
        if counts.len() > MOST {
            make_room(&mut counts, now);
        }
        Ok(Attempt { throttle: self.clone(), keys: limits.into_iter().map(|(key, _)| key).collect() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The attempt was not looked at: it does not count.
    pub fn take_back(self) {
        let mut counts = self.throttle.lock();
        for key in &self.keys {
            if let Some(found) = counts.get_mut(key) {
                found.count = found.count.saturating_sub(1);
            }
        }
    }

    /// The attempt succeeded: earlier failures of the account from this address are forgotten too. Those of the address
    /// on other accounts are not, or an attacker with an account of their own would never have to wait.
    pub fn succeeded(self) {
        if let [pair, _address] = self.keys.as_slice() {
            self.throttle.lock().remove(pair);
        }
        self.take_back();
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("known", &self.lock().len()).finish_non_exhaustive()
    }
}

/// Forgets spans that have ended, and then a tenth of the rest, those that end first.
fn make_room(counts: &mut HashMap<Key, Failures>, now: Duration) {
    counts.retain(|_, found| found.ends > now);
    if counts.len() <= MOST {
        return;
    }
    let mut ends: Vec<Duration> = counts.values().map(|found| found.ends).collect();
    let (_, &mut last, _) = ends.select_nth_unstable(MOST / 10);
    counts.retain(|_, found| found.ends > last);
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
