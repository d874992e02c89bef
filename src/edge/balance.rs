//! Which copy of an app gets a request.
//!
//! Copies that do well come first in every policy; among them the policy chooses. An app with one copy costs nothing here.

use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::site_config::SiteConfig;
use super::upstream::Upstream;
use crate::base::network::counted_as;

/// Most copies of one app.
pub const MOST_COPIES: usize = 64;

/// How requests are spread over the copies of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// To the one with the fewest requests under way.
    #[default]
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// To the less busy of two taken by chance.
    RandomTwo,
    /// A browser stays with its copy, by a cookie.
    Cookie,
    /// An address stays with its copy.
    Address,
}

impl Balance {
    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeastConnections => "least-connections",
            Self::RoundRobin => "round-robin",
            Self::RandomTwo => "random-two",
            Self::Cookie => "cookie",
            Self::Address => "address",
        }
    }
}

/// An app: its copies, and how requests are spread over them.
#[derive(Debug)]
pub struct App {
    /// Numbers of its copies among [`super::sites::Sites::peers`], at least one.
    pub copies: Box<[usize]>,
    /// `Host` sent in place of the client's.
    pub host: Option<HeaderValue>,
    balance: Balance,
    /// A number for each copy that does not depend on its place in the list.
    ids: Box<[u64]>,
    cookie: String,
    turn: AtomicUsize,
}

/// The copies that an attempt was made at, by their place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried(u64);

impl Tried {
    /// One more.
    pub fn add(&mut self, at: usize) {
        self.0 |= Self::bit(at);
    }

    /// Whether it is one of them.
    pub fn has(self, at: usize) -> bool {
        self.0 & Self::bit(at) != 0
    }

    /// How many.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn bit(at: usize) -> u64 {
        1u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

/// How a copy is off when one is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Whether it is left out.
    pub out: bool,
    /// Requests under way.
    pub active: usize,
}

impl App {
    /// The app of `site` with `copies`, whose addresses are `upstreams`.
    ///
    /// # Errors
    /// A name of a cookie, or a host, that is none.
    pub fn of(site: &SiteConfig, copies: Vec<usize>, upstreams: &[Upstream]) -> Result<Self, ConfigError> {
        let wrong = |key, value: &str, allowed: &str| ConfigError::Value {
            key,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        let cookie = site.sticky_cookie.clone();
        let is_token = !cookie.is_empty() && HeaderName::from_bytes(cookie.as_bytes()).is_ok();
        if !is_token {
            return Err(wrong("edge.sites.sticky_cookie", &cookie, "a name of letters, digits and -"));
        }
        let host = match site.upstream_host.as_str() {
            "" => None,
            "$upstream" => {
                let [upstream] = upstreams else {
                    let allowed = "a host name; $upstream is for an app with one copy";
                    return Err(wrong("edge.sites.upstream_host", "$upstream", allowed));
                };
                HeaderValue::from_str(&upstream.authority()).ok()
            }
            host => {
                let value =
                    host.parse::<super::host::Host>().ok().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
                Some(value.ok_or_else(|| wrong("edge.sites.upstream_host", host, "a host name, or $upstream"))?)
            }
        };
        let ids = upstreams.iter().map(|upstream| id(&upstream.to_string())).collect();
        let turn = AtomicUsize::new(0);
        Ok(Self { copies: copies.into_boxed_slice(), host, balance: site.balance, ids, cookie, turn })
    }

    /// How requests are spread over its copies.
    pub const fn balance(&self) -> Balance {
        self.balance
    }

    /// What a request says about the copy it wants.
    pub fn wish(&self, address: IpAddr, headers: &HeaderMap) -> Option<u64> {
        match self.balance {
            _ if self.copies.len() < 2 => None,
            Balance::Address => Some(id(&counted_as(address))),
            Balance::Cookie => {
                let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
                let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
                let (_, value) = pairs.find(|(name, _)| *name == self.cookie)?;
                u64::from_str_radix(value, 16).ok()
            }
            _ => None,
        }
    }

    /// The `Set-Cookie` that binds a client to the copy at `at`, when its wish was another one.
    pub fn binding(&self, at: usize, wish: Option<u64>, secure: bool) -> Option<HeaderValue> {
        if self.balance != Balance::Cookie || self.copies.len() < 2 {
            return None;
        }
        let id = self.ids.get(at).copied().filter(|id| Some(*id) != wish)?;
        let secure = if secure { "; Secure" } else { "" };
        HeaderValue::from_str(&format!("{}={id:016x}; Path=/; HttpOnly; SameSite=Lax{secure}", self.cookie)).ok()
    }

    /// The place of the copy for the next attempt: one not yet `tried`, well if any is. `load` tells how the copy at a place
    /// is off.
    pub fn choose(&self, wish: Option<u64>, tried: Tried, load: impl Fn(usize) -> Load) -> Option<usize> {
        let count = self.copies.len();
        if count == 1 {
            return (tried.count() == 0).then_some(0);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let left = || (0..count).map(move |step| turn.wrapping_add(step) % count).filter(move |at| !tried.has(*at));
        let least = || left().min_by_key(|at| load(*at));
        match (self.balance, wish) {
            (Balance::LeastConnections, _) | (Balance::Address, None) => least(),
            (Balance::RoundRobin, _) => left().min_by_key(|at| load(*at).out),
            (Balance::RandomTwo, _) => {
                let well: Vec<usize> = left().filter(|at| !load(*at).out).collect();
                if well.len() < 3 {
                    return least();
                }
                let chance = id(&turn);
                let first = chance as usize % well.len();
                let second = (first + 1 + (chance >> 32) as usize % (well.len() - 1)) % well.len();
                [first, second].into_iter().filter_map(|at| well.get(at).copied()).min_by_key(|at| load(*at))
            }
            // Highest weight (rendezvous hashing): a copy that comes or goes moves only its own share.
            (Balance::Address, Some(wish)) => {
                left().min_by_key(|at| (load(*at).out, Reverse(id(&(wish, self.ids.get(*at))))))
            }
            (Balance::Cookie, wish) => {
                let bound = left().find(|at| wish.is_some() && self.ids.get(*at).copied() == wish);
                bound.filter(|at| !load(*at).out).or_else(least)
            }
        }
    }
}

/// A number for `of`, the same in every process.
fn id(of: &impl std::hash::Hash) -> u64 {
    foldhash::quality::FixedState::with_seed(0x6d61_696e_7374_6179).hash_one(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(balance: &str, count: usize) -> App {
        let site: SiteConfig = toml::from_str(&format!("balance = \"{balance}\"")).unwrap();
        let upstreams: Vec<Upstream> = (0..count).map(|at| format!("10.0.0.{at}:80").parse().unwrap()).collect();
        App::of(&site, (0..count).collect(), &upstreams).unwrap()
    }

    fn idle(_: usize) -> Load {
        Load { out: false, active: 0 }
    }

    #[test]
    fn an_address_keeps_its_copy_and_only_those_of_a_lost_copy_move() {
        let app = app("address", 4);
        let place = |host: u8, load: &dyn Fn(usize) -> Load| {
            let wish = app.wish(IpAddr::from([192, 0, 2, host]), &HeaderMap::new());
            app.choose(wish, Tried::default(), load).unwrap()
        };
        let before: Vec<usize> = (0..200).map(|host| place(host, &idle)).collect();
        assert_eq!(before, (0..200).map(|host| place(host, &idle)).collect::<Vec<_>>());
        let counts: Vec<usize> = (0..4).map(|copy| before.iter().filter(|at| **at == copy).count()).collect();
        assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
        let without_2 = |at: usize| Load { out: at == 2, active: 0 };
        for (host, copy) in before.iter().enumerate() {
            let now = place(host as u8, &without_2);
            assert!(if *copy == 2 { now != 2 } else { now == *copy });
        }
    }

    #[test]
    fn a_cookie_binds_until_the_copy_is_lost() {
        let app = app("cookie", 3);
        let binding = app.binding(1, None, true).unwrap();
        let text = binding.to_str().unwrap();
        assert!(text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure") && !text.contains("10.0.0"), "{text}");
        let mut headers = HeaderMap::new();
        let pair = text.split(';').next().unwrap();
        headers.insert(COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).unwrap());
        let wish = app.wish("192.0.2.1".parse().unwrap(), &headers);
        assert!(wish.is_some());
        for _ in 0..5 {
            assert_eq!(app.choose(wish, Tried::default(), idle), Some(1));
        }
        assert_eq!(app.binding(1, wish, false), None);
        let lost = app.choose(wish, Tried::default(), |at| Load { out: at == 1, active: 0 }).unwrap();
        assert!(lost != 1 && app.binding(lost, wish, false).is_some());
    }

    #[test]
    fn round_robin_takes_turns_and_two_by_chance_spares_the_busy() {
        let round = app("round-robin", 3);
        let taken: Vec<_> = (0..6).filter_map(|_| round.choose(None, Tried::default(), idle)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
        let two = app("random-two", 4);
        let mut counts = [0; 4];
        for _ in 0..400 {
            let at =
                two.choose(None, Tried::default(), |at| Load { out: at == 3, active: usize::from(at == 0) }).unwrap();
            counts[at] += 1;
        }
        // The busy one would have to meet itself, the one left out is never asked.
        assert!(counts[0] == 0 && counts[3] == 0 && counts[1] > 100 && counts[2] > 100, "{counts:?}");
    }

    #[test]
    fn when_all_are_out_all_are_tried_once() {
        for balance in ["least-connections", "round-robin", "random-two", "cookie", "address"] {
            let app = app(balance, 3);
            let mut tried = Tried::default();
            while let Some(at) = app.choose(Some(7), tried, |_| Load { out: true, active: 0 }) {
                assert!(!tried.has(at));
                tried.add(at);
            }
            assert_eq!(tried.count(), 3, "{balance}");
        }
    }
}
