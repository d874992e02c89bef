//! Failed log-ins at the doors: who gave wrong credentials so often, at one door or at several, that a jail bans for it.
//!
//! A door tells of a failure when it has refused it ([`super::Bans::failed_login`]) and asks for every connection that
//! comes in ([`super::Bans::shuts_out`]). What is right is never counted, so that nothing is paid for it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Term;
use super::counts::{Counts, number_of};
use crate::base::network::counted_as;
use crate::telemetry::{Counter, Metrics};

/// Where somebody can log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Redis protocol, with TLS or without.
    Redis,
    /// The keyspace over HTTP.
    RedisHttp,
    /// Message submission.
    Smtp,
    /// The SES interface.
    Ses,
    /// The S3 protocol.
    S3,
    /// The console's pages.
    Console,
    /// `/v1`.
    Api,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Redis, Self::RedisHttp, Self::Smtp, Self::Ses, Self::S3, Self::Console, Self::Api];

    /// Its name, for settings, metrics and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RedisHttp => "redis-http",
            Self::Smtp => "smtp",
            Self::Ses => "ses",
            Self::S3 => "s3",
            Self::Console => "console",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no door's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such door")]
pub struct NoDoor;

impl FromStr for Door {
    type Err = NoDoor;

    fn from_str(text: &str) -> Result<Self, NoDoor> {
        Self::ALL.into_iter().find(|door| door.name() == text).ok_or(NoDoor)
    }
}

/// A jail that counts failed log-ins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginJail {
    /// Its name.
    pub name: String,
    /// The doors that count; none means every one.
    pub doors: Vec<Door>,
    /// So many failures ban.
    pub most: usize,
    /// The time in which they are counted.
    pub within: Duration,
    /// How long a ban is.
    pub term: Term,
}

/// An address that a jail has caught.
#[derive(Debug)]
pub struct Caught {
    /// By which jail.
    pub jail: String,
    /// For how long.
    pub term: Term,
    /// Why, for people.
    pub reason: String,
}

/// The jails that count failed log-ins, and what they have counted.
pub struct Logins {
    jails: ArcSwap<Vec<LoginJail>>,
    counts: Counts,
    failed: [Counter; Door::ALL.len()],
    refused: Counter,
}

impl Logins {
    /// `jails`, which have counted nothing yet.
    pub fn new(jails: Vec<LoginJail>, metrics: &Metrics) -> Self {
        let help = "Log-ins with wrong credentials, by door.";
        let failed = |door: Door| metrics.counter("mainstay_failed_logins_total", help, &[("door", door.name())]);
        Self {
            jails: ArcSwap::from_pointee(jails),
            counts: Counts::default(),
            failed: Door::ALL.map(failed),
            refused: metrics.counter(
                "mainstay_bans_refused_total",
                "Connections of banned addresses that a door has closed at once.",
                &[],
            ),
        }
    }

    /// Counts by `jails` from now on; what those of the same name have counted goes on.
    pub fn set(&self, jails: Vec<LoginJail>) {
        self.jails.store(std::sync::Arc::new(jails));
    }

    /// Whether any jail counts failures at all.
    pub fn is_idle(&self) -> bool {
        self.jails.load().is_empty()
    }

    /// A banned address was shut out.
    pub fn shut_out(&self) {
        self.refused.inc();
    }

    /// A failure at `door`, whoever's it is.
    pub fn failed(&self, door: Door) {
        if let Some(counter) = self.failed.get(door as usize) {
            counter.inc();
        }
    }

    /// Counts a failure of `who` at `door`; what catches them for it.
    pub fn count(&self, who: IpAddr, door: Door, now: Duration) -> Vec<Caught> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let jails = self.jails.load();
        let concerned = jails.iter().filter(|jail| jail.doors.is_empty() || jail.doors.contains(&door));
        let reached = concerned.filter(|jail| {
            let number = number_of(&jail.name);
            self.counts.add(number, counted_as(who), jail.most, millis(jail.within), millis(now))
        });
        let caught = reached.map(|jail| Caught {
            jail: jail.name.clone(),
            term: jail.term,
            reason: format!("{} failed log-ins, the last at the door {door}", jail.most),
        });
        caught.collect()
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("jails", &self.jails.load().len()).finish_non_exhaustive()
    }
}
