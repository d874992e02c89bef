//! Policies and their counters, for apps that ask.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Verdict;
use super::config::RateLimitsConfig;
use super::policy::{Field, Policy, PolicyError, Subject, policies};
use super::table::{PARTS, Part, Table};
use crate::base::{Clock, Shutdown, Timestamp};
use crate::store::{self, Direction, Store, StoreError, record};
use crate::telemetry::{Counter, Metrics};

/// Time between two saves of what has changed.
pub const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Rejections remembered.
const REJECTIONS: usize = 100;

const STATES: store::Table = store::Table::new("limits.states");

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// No such policy.
    #[error("there is no policy `{0}`")]
    NoSuchPolicy(String),
    /// The settings, or who was named, are not understood.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// What was counted cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an app is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The tightest of the policy's counters.
    pub verdict: Verdict,
    /// Most in the window.
    pub limit: u32,
    /// Failures of this e-mail from this address in the last day.
    pub failures: u32,
    /// Failures of this address in the last day, over all e-mails.
    pub address_failures: u32,
    /// Whether that is more than `limits.suspicious_after`.
    pub suspicious: bool,
}

/// A policy and what came of it since the start.
#[derive(Clone, Debug)]
pub struct PolicyView {
    /// The policy.
    pub policy: Policy,
    /// Attempts let through.
    pub allowed: u64,
    /// Attempts refused.
    pub refused: u64,
}

/// A refused attempt, for the operator's eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// When.
    pub at: Timestamp,
    /// Which policy.
    pub policy: String,
    /// Who: address and user as sent, of an e-mail only its first letter and its domain, of a key its first letters.
    pub who: String,
}

/// The policies and their counters. Clones share them.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    policies: Vec<Counted>,
    suspicious_after: u32,
    table: Mutex<Table>,
    rejections: Mutex<VecDeque<Rejection>>,
    store: Store,
    clock: Arc<dyn Clock>,
}

struct Counted {
    policy: Policy,
    allowed: Counter,
    refused: Counter,
}

impl Limits {
    /// The policies of `config`, with the counters as they were saved in `store`. Blocks.
    ///
    /// # Errors
    /// [`LimitsError::Policy`] for settings that make no policy, [`LimitsError::Store`].
    pub fn open(
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
        config: &RateLimitsConfig,
    ) -> Result<Self, LimitsError> {
        let mut table = Table::new(config.keys as usize);
        let rows =
            store.read_blocking(|tx| tx.scan(STATES, Bound::Unbounded, Bound::Unbounded, Direction::Forward, PARTS))?;
        for (_, value) in rows {
            match record::decode::<Part>(&value) {
                Ok(part) => table.load(part, clock.now().millis()),
                // What was counted is no reason not to start.
                Err(error) => tracing::warn!(%error, "rate limits: a part of what was counted is not readable"),
            }
        }
        let counted = |policy: Policy| {
            let counter = |outcome| {
                let labels = [("policy", policy.name.as_str()), ("outcome", outcome)];
                metrics.counter("mainstay_limits_checks_total", "Attempts that apps asked about.", &labels)
            };
            let (allowed, refused) = (counter("allowed"), counter("refused"));
            Counted { policy, allowed, refused }
        };
        Ok(Self(Arc::new(Inner {
            policies: policies(config)?.into_iter().map(counted).collect(),
            suspicious_after: config.suspicious_after,
            table: Mutex::new(table),
            rejections: Mutex::default(),
            store,
            clock,
        })))
    }

    /// Asks `policy` about `cost` attempts of `subject` at once, which count if they are let through. With a cost of 0
    /// nothing counts.
    ///
    /// # Errors
    /// [`LimitsError::NoSuchPolicy`], [`LimitsError::Policy`].
    pub fn check(&self, policy: &str, subject: &Subject, cost: u32) -> Result<Answer, LimitsError> {
        let found = self.find(policy)?;
        let keys = found.keys(subject)?;
        let now_ms = self.0.clock.now().millis();
        let (verdict, failures, address_failures) = {
            let mut table = self.table();
            let verdict = table.decide(found.policy.rule, &keys, now_ms, cost);
            let mut count =
                |fields: &[Field]| subject.digest("failures", fields).map_or(0, |key| table.failures(&key, now_ms));
            (verdict, count(PAIR), count(ADDRESS))
        };
        if cost > 0 {
            let counter = if verdict.allowed { &found.allowed } else { &found.refused };
            counter.inc();
        }
        if cost > 0 && !verdict.allowed {
            self.remember(found, subject);
        }
        let suspicious = address_failures > self.0.suspicious_after;
        Ok(Answer { verdict, limit: found.policy.limit, failures, address_failures, suspicious })
    }

    /// Notes that an attempt of `subject` failed. Returns what [`Limits::check`] says now.
    ///
    /// # Errors
    /// As [`Limits::check`]; [`PolicyError::Missing`] without an address.
    pub fn failed(&self, policy: &str, subject: &Subject) -> Result<Answer, LimitsError> {
        self.find(policy)?.keys(subject)?;
        let address = subject.digest("failures", ADDRESS)?;
        let now_ms = self.0.clock.now().millis();
        {
            let mut table = self.table();
            table.fail(address, now_ms);
            if let Ok(pair) = subject.digest("failures", PAIR) {
                table.fail(pair, now_ms);
            }
        }
        self.check(policy, subject, 0)
    }

    /// An attempt of `subject` has succeeded: its counters of `policy` begin anew, and the failures of this e-mail from
    /// this address are forgotten. Those of the address with other e-mails are not, or one account of their own would
    /// wash an attacker clean.
    ///
    /// # Errors
    /// As [`Limits::check`].
    pub fn reset(&self, policy: &str, subject: &Subject) -> Result<(), LimitsError> {
        let keys = self.find(policy)?.keys(subject)?;
        let mut table = self.table();
        for key in &keys {
            table.forget(key);
        }
        if let Ok(pair) = subject.digest("failures", PAIR) {
            table.forget(&pair);
        }
        Ok(())
    }

    /// Every policy, by name.
    pub fn policies(&self) -> Vec<PolicyView> {
        let view = |counted: &Counted| PolicyView {
            policy: counted.policy.clone(),
            allowed: counted.allowed.value(),
            refused: counted.refused.value(),
        };
        self.0.policies.iter().map(view).collect()
    }

    /// The last refused attempts, the newest first; at most a hundred, since the start.
    pub fn rejections(&self) -> Vec<Rejection> {
        self.0.rejections.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Counters kept.
    pub fn counters(&self) -> usize {
        self.table().len()
    }

    /// Saves what changes, until the server stops, and then once more.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            let stops = tokio::select! {
                () = tokio::time::sleep(SAVE_EVERY) => false,
                () = shutdown.draining() => true,
            };
            if let Err(error) = self.save().await {
                tracing::warn!(%error, "rate limits: what was counted cannot be saved");
            }
            if stops {
                return;
            }
        }
    }

    /// Saves what has changed.
    ///
    /// # Errors
    /// [`StoreError`]; the next save tries again.
    ///
    /// # Cancel safety
    /// Dropped before its end, a part may be saved only after its next change.
    pub async fn save(&self) -> Result<(), StoreError> {
        let parts = self.table().take_changed(self.0.clock.now().millis());
        if parts.is_empty() {
            return Ok(());
        }
        let numbers: Vec<u8> = parts.iter().map(|(number, _)| *number).collect();
        let rows: Vec<(u8, Vec<u8>)> = parts
            .iter()
            .map(|(number, part)| (*number, if part.0.is_empty() { Vec::new() } else { record::encode(part) }))
            .collect();
        let write = move |tx: &mut dyn store::WriteTx| {
            for (number, value) in &rows {
                if value.is_empty() {
                    tx.delete(STATES, &[*number])?;
                } else {
                    tx.put(STATES, &[*number], value)?;
                }
            }
            Ok::<(), StoreError>(())
        };
        let saved = self.0.store.write(write).await;
        if saved.is_err() {
            let mut table = self.table();
            for number in numbers {
                table.unsaved(number);
            }
        }
        saved
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, policy: &str) -> Result<&Counted, LimitsError> {
        let found = self.0.policies.iter().find(|counted| counted.policy.name == policy);
        found.ok_or_else(|| LimitsError::NoSuchPolicy(policy.chars().take(64).collect()))
    }

    fn remember(&self, found: &Counted, subject: &Subject) {
        let rejection = Rejection { at: self.0.clock.now(), policy: found.policy.name.clone(), who: shown(subject) };
        let mut kept = self.0.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(REJECTIONS - 1);
        kept.push_front(rejection);
    }
}

const ADDRESS: &[Field] = &[Field::Ip];
const PAIR: &[Field] = &[Field::Ip, Field::Email];

impl Counted {
    fn keys(&self, subject: &Subject) -> Result<Vec<super::policy::Key>, PolicyError> {
        self.policy.by.iter().map(|fields| subject.digest(&self.policy.name, fields)).collect()
    }
}

/// Enough of `subject` to know an attack by, and no more.
fn shown(subject: &Subject) -> String {
    let cut = |text: &str, most| text.chars().take(most).collect::<String>();
    let email = subject.email.as_ref().map(|email| match email.rsplit_once('@') {
        Some((name, domain)) => format!("{}…@{}", cut(name, 1), cut(domain, 64)),
        None => String::from("…"),
    });
    let key = subject.key.as_ref().map(|key| format!("{}…", cut(key, 4)));
    let parts =
        [subject.ip.as_ref().map(IpAddr::to_string), email, subject.user.as_ref().map(|user| cut(user, 64)), key];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestClock, memory_store};

    struct World {
        store: Store,
        clock: Arc<TestClock>,
        limits: Limits,
    }

    fn open(store: &Store, clock: &Arc<TestClock>) -> Limits {
        Limits::open(store.clone(), clock.clone(), &Metrics::new(), &RateLimitsConfig::default()).unwrap()
    }

    fn world() -> World {
        let (store, clock) = (memory_store(), Arc::new(TestClock::default()));
        let limits = open(&store, &clock);
        World { store, clock, limits }
    }

    fn who(ip: &str, email: &str) -> Subject {
        Subject { ip: Some(ip.parse().unwrap()), email: Some(email.to_owned()), ..Subject::default() }
    }

    #[test]
    fn five_logins_in_a_quarter_of_an_hour() {
        let World { clock, limits, .. } = world();
        let ada = who("192.0.2.1", "ada@example.com");
        for left in (0..5).rev() {
            assert_eq!(limits.check("login", &ada, 1).unwrap().verdict.remaining, left);
        }
        let refused = limits.check("login", &ada, 1).unwrap();
        assert_eq!((refused.verdict.allowed, refused.verdict.retry_ms), (false, 900_000));
        assert!(limits.check("login", &who("192.0.2.2", "ada@example.com"), 1).unwrap().verdict.allowed);
        assert_eq!(limits.rejections()[0].who, "192.0.2.1 a…@example.com");
        let login = limits.policies().into_iter().find(|view| view.policy.name == "login").unwrap();
        assert_eq!((login.allowed, login.refused), (6, 1));
        limits.reset("login", &ada).unwrap();
        assert!(limits.check("login", &ada, 1).unwrap().verdict.allowed);
        clock.advance(Duration::from_mins(15));
        assert_eq!(limits.check("login", &ada, 0).unwrap().verdict.remaining, 5);
    }

    #[test]
    fn an_address_that_fails_with_many_names_is_suspicious_and_success_does_not_clean_it() {
        let World { clock, limits, .. } = world();
        for number in 0..20 {
            let answer = limits.failed("login", &who("192.0.2.1", &format!("user{number}@example.com"))).unwrap();
            assert!(!answer.suspicious && answer.failures == 1);
        }
        let ada = who("192.0.2.1", "ada@example.com");
        assert!(limits.failed("login", &ada).unwrap().suspicious);
        limits.reset("login", &ada).unwrap();
        let answer = limits.check("login", &ada, 1).unwrap();
        assert_eq!((answer.failures, answer.address_failures, answer.suspicious), (0, 21, true));
        assert!(!limits.check("login", &who("192.0.2.2", "ada@example.com"), 1).unwrap().suspicious);
        clock.advance(Duration::from_hours(24));
        assert!(!limits.check("login", &ada, 1).unwrap().suspicious);
    }

    #[tokio::test]
    async fn counters_outlive_a_restart() {
        let World { store, clock, limits } = world();
        let ada = who("192.0.2.1", "ada@example.com");
        limits.check("login", &ada, 5).unwrap();
        limits.failed("login", &ada).unwrap();
        limits.save().await.unwrap();
        let again = open(&store, &clock);
        let answer = again.check("login", &ada, 1).unwrap();
        assert_eq!((answer.verdict.allowed, answer.failures), (false, 1));
        again.reset("login", &ada).unwrap();
        again.save().await.unwrap();
        assert_eq!(open(&store, &clock).check("login", &ada, 0).unwrap().verdict.remaining, 5);
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let World { limits, .. } = world();
        let ada = who("192.0.2.1", "ada@example.com");
        assert!(matches!(limits.check("none", &ada, 1), Err(LimitsError::NoSuchPolicy(_))));
        assert!(matches!(limits.check("api", &ada, 1), Err(LimitsError::Policy(PolicyError::Missing("key")))));
    }
}
