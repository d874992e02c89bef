//! How copies of apps do: what requests tell (passive), and what asking them tells (active).
//!
//! A copy that takes no connection, or fails `failures` times in a row, gets no requests for `failure_pause`. A copy with a
//! `health_path` is asked every `health_interval`; after `health_fall` bad answers it gets no requests until
//! `health_rise` good ones have come. Both only say who is asked first: when no copy is well, all are tried, so that the
//! only copy is never left out.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use tokio::time::{Instant, sleep, timeout};

use super::body::RequestBody;
use super::connect;
use super::error::ConfigError;
use super::peer::Peer;
use super::pool::Failure;
use super::site_config::SiteConfig;
use super::target::Switch;
use crate::base::supervise::Role;
use crate::base::{Clock, Supervisor};
use crate::telemetry::Metrics;

/// How often the figures are brought up to date when nothing is checked.
const IDLE: Duration = Duration::from_secs(1);
/// Who asks.
const AGENT: &str = concat!("Mainstay/", env!("CARGO_PKG_VERSION"), " health check");

/// When a copy is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// Failed requests in a row.
    pub failures: u32,
    /// For how long it is left out then.
    pub pause: Duration,
    /// What it is asked; `None` asks nothing.
    pub check: Option<CheckRules>,
}

/// What a copy is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRules {
    /// Path and query.
    pub path: Uri,
    /// `Host`; empty takes the copy's own name.
    pub host: String,
    /// From one question to the next.
    pub every: Duration,
    /// Longest wait for the answer.
    pub limit: Duration,
    /// Statuses that are good.
    pub good: RangeInclusive<u16>,
    /// Good answers in a row that bring it back.
    pub rise: u32,
    /// Bad ones that take it out.
    pub fall: u32,
}

impl CheckRules {
    /// What `site` says; `None` without a `health_path`.
    ///
    /// # Errors
    /// A value that cannot be.
    pub fn of(site: &SiteConfig) -> Result<Option<Self>, ConfigError> {
        let wrong = |key, value: &str, allowed: &str| ConfigError::Value {
            key,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        if site.failures == 0 {
            return Err(wrong("edge.sites.failures", "0", "1 and above"));
        }
        if site.health_path.is_empty() {
            return Ok(None);
        }
        let path = Some(&site.health_path).filter(|path| path.starts_with('/')).and_then(|path| path.parse().ok());
        let path = path.ok_or_else(|| wrong("edge.sites.health_path", &site.health_path, "a path such as /healthz"))?;
        if HeaderValue::from_str(&site.health_host).is_err() {
            return Err(wrong("edge.sites.health_host", &site.health_host, "a host name"));
        }
        let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..600).contains(status));
        let (low, high) = site.health_status.split_once('-').unwrap_or((&site.health_status, &site.health_status));
        let good = match (status(low), status(high)) {
            (Some(low), Some(high)) if low <= high => low..=high,
            _ => {
                return Err(wrong("edge.sites.health_status", &site.health_status, "a status or a range: 200-399"));
            }
        };
        if site.health_rise == 0 || site.health_fall == 0 {
            return Err(wrong("edge.sites.health_rise and health_fall", "0", "1 and above"));
        }
        let (every, limit) = (site.health_interval.duration(), site.health_timeout.duration());
        if every < Duration::from_millis(100) || limit.is_zero() {
            return Err(wrong(
                "edge.sites.health_interval",
                &site.health_interval.to_string(),
                "100ms and above, with a health_timeout above 0",
            ));
        }
        Ok(Some(Self {
            path,
            host: site.health_host.clone(),
            every,
            limit,
            good,
            rise: site.health_rise,
            fall: site.health_fall,
        }))
    }
}

/// How one copy does. A request to one that is well costs two loads of an atomic.
#[derive(Debug, Default)]
pub struct Health {
    /// Failed requests in a row.
    failures: AtomicU32,
    /// Whether `out` is worth a look.
    troubled: AtomicBool,
    /// Until when requests pass it by.
    out: Mutex<Option<Instant>>,
    /// Whether checks say that it is down.
    down: AtomicBool,
    checked: Mutex<Checked>,
}

/// What checks have found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// When the last answer came, or did not, in milliseconds since 1970.
    pub at_ms: Option<u64>,
    /// What was wrong with it.
    pub error: Option<String>,
    good: u32,
    bad: u32,
    next: Option<Instant>,
    under_way: bool,
}

/// How a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gets requests.
    Up,
    /// Its requests failed lately; for how long it is left out yet.
    Failing(Duration),
    /// Its checks fail.
    Down,
}

impl Health {
    /// How it stands at `now`.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.down.load(Ordering::Relaxed) {
            return Standing::Down;
        }
        if !self.troubled.load(Ordering::Relaxed) {
            return Standing::Up;
        }
        match *self.out.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(until) if now < until => Standing::Failing(until.saturating_duration_since(now)),
            _ => Standing::Up,
        }
    }

    /// Takes note of how a request went; tells whether it is left out from now on. After a pause, the first failure brings
    /// the next one.
    pub fn judge(&self, failure: Option<&Failure>, rules: &HealthRules) -> bool {
        let Some(failure) = failure else {
            if self.troubled.load(Ordering::Relaxed) || self.failures.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
                *self.out.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.troubled.store(false, Ordering::Relaxed);
            }
            return false;
        };
        let failures = match failure {
            Failure::Connect(_) | Failure::ConnectTimeout => {
                self.failures.store(rules.failures, Ordering::Relaxed);
                rules.failures
            }
            Failure::Broken(_) | Failure::ResponseTimeout => {
                self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
            }
            Failure::NoUpgrade => return false,
        };
        if failures < rules.failures {
            return false;
        }
        let now = Instant::now();
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let news = out.is_none_or(|until| until <= now);
        *out = Some(now + rules.pause);
        self.troubled.store(true, Ordering::Relaxed);
        news
    }

    /// Failed requests in a row.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// What checks have found.
    pub fn checked(&self) -> Checked {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a check is due at `now`, which then counts as begun; or when the next one is.
    fn begin(&self, rules: &CheckRules, now: Instant) -> Result<(), Instant> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        match checked.next {
            Some(next) if now < next => Err(next),
            _ if checked.under_way => Err(now + rules.every),
            _ => {
                checked.under_way = true;
                checked.next = Some(now + rules.every);
                Ok(())
            }
        }
    }

    /// Takes note of a check's outcome; tells whether it changed how the copy stands.
    fn conclude(&self, outcome: Result<(), String>, rules: &CheckRules, at_ms: u64) -> Option<bool> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.under_way = false;
        checked.at_ms = Some(at_ms);
        checked.error = outcome.err();
        (checked.good, checked.bad) = match checked.error {
            None => (checked.good.saturating_add(1), 0),
            Some(_) => (0, checked.bad.saturating_add(1)),
        };
        let was_down = self.down.load(Ordering::Relaxed);
        let down = if was_down { checked.good < rules.rise } else { checked.bad >= rules.fall };
        self.down.store(down, Ordering::Relaxed);
        (down != was_down).then_some(down)
    }
}

/// What is looked after while the edge runs.
#[derive(Debug, Default)]
pub struct Watched {
    /// The copies of apps.
    pub peers: Vec<Arc<Peer>>,
    /// The files that put sites into maintenance.
    pub switches: Vec<Arc<Switch>>,
}

/// Asks the copies that want to be asked, and looks for files that switch something.
#[derive(Clone, Debug)]
pub struct Checker {
    /// What there is now; a reload puts something else in its place.
    pub watched: Arc<ArcSwap<Watched>>,
    /// Starts the checks.
    pub supervisor: Supervisor,
    /// For telling when a check ended.
    pub clock: Arc<dyn Clock>,
    /// Where it is told who is up.
    pub metrics: Metrics,
}

impl Checker {
    /// Works until nothing new is accepted any more.
    pub async fn run(self) {
        let shutdown = self.supervisor.shutdown().clone();
        let mut shown: Arc<Watched> = Arc::default();
        loop {
            let now = Instant::now();
            let mut wake = now + IDLE;
            let watched = self.watched.load_full();
            if !watched.switches.is_empty() {
                let watched = Arc::clone(&watched);
                let look = move || watched.switches.iter().for_each(|switch| switch.look());
                let _stopping = tokio::task::spawn_blocking(look).await;
            }
            self.forget_gone(&shown, &watched);
            shown = Arc::clone(&watched);
            for peer in &watched.peers {
                let up = peer.health.standing(now) == Standing::Up;
                let help = "Whether a copy of an app gets requests.";
                self.metrics.gauge("mainstay_edge_upstream_up", help, &[("upstream", &peer.name)]).set(i64::from(up));
                let Some(rules) = &peer.rules.health.check else { continue };
                match peer.health.begin(rules, now) {
                    Ok(()) => {
                        wake = wake.min(now + rules.every);
                        self.ask(peer);
                    }
                    Err(next) => wake = wake.min(next),
                }
            }
            tokio::select! {
                () = sleep(wake.saturating_duration_since(Instant::now())) => {}
                () = shutdown.leaving() => return,
            }
        }
    }

    /// Takes the copies that are no longer among `now` out of the metrics.
    fn forget_gone(&self, before: &Watched, now: &Watched) {
        for gone in before.peers.iter().filter(|peer| !now.peers.iter().any(|other| other.name == peer.name)) {
            self.metrics.forget(("upstream", &gone.name));
        }
    }

    fn ask(&self, peer: &Arc<Peer>) {
        let (peer, supervisor, clock) = (Arc::clone(peer), self.supervisor.clone(), Arc::clone(&self.clock));
        self.supervisor.task("edge health check", Role::Ordinary, async move {
            let Some(rules) = &peer.rules.health.check else { return };
            let outcome = match timeout(rules.limit, check(&peer, rules, &supervisor)).await {
                Ok(Ok(status)) if rules.good.contains(&status.as_u16()) => Ok(()),
                Ok(Ok(status)) => Err(format!("answered {status}")),
                Ok(Err(failure)) => Err(failure.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            let error = outcome.as_ref().err().cloned().unwrap_or_default();
            match peer.health.conclude(outcome, rules, clock.now().millis()) {
                Some(true) => tracing::warn!(upstream = %peer.name, error, "an app's health checks fail"),
                Some(false) => tracing::info!(upstream = %peer.name, "an app's health checks are good again"),
                None => {}
            }
        });
    }
}

/// Asks once, on a connection of its own.
async fn check(peer: &Peer, rules: &CheckRules, supervisor: &Supervisor) -> Result<StatusCode, Failure> {
    let mut sender = connect::open(peer, supervisor).await?;
    let host = if rules.host.is_empty() { peer.rules.upstream.authority() } else { rules.host.clone() };
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = rules.path.clone();
    if let Ok(host) = HeaderValue::from_str(&host) {
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let response = sender.ask(request).await.map_err(|error| Failure::Broken(error.into_error()))?;
    Ok(response.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: HealthRules = HealthRules { failures: 3, pause: Duration::from_secs(10), check: None };

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_leave_a_copy_out_for_a_while() {
        let health = Health::default();
        let slow = Failure::ResponseTimeout;
        for news in [false, false, true, false] {
            assert_eq!(health.judge(Some(&slow), &RULES), news);
        }
        assert!(matches!(health.standing(Instant::now()), Standing::Failing(_)));
        tokio::time::advance(RULES.pause).await;
        assert_eq!(health.standing(Instant::now()), Standing::Up);
        assert!(health.judge(Some(&slow), &RULES), "the first failure after it is enough");
        health.judge(None, &RULES);
        assert_eq!(health.standing(Instant::now()), Standing::Up);
        assert!(!health.judge(Some(&slow), &RULES));
        assert!(health.judge(Some(&Failure::ConnectTimeout), &RULES), "no connection is enough");
    }

    #[test]
    fn checks_take_a_copy_out_and_bring_it_back_after_so_many_answers() {
        let site = SiteConfig { health_path: "/up".to_owned(), ..SiteConfig::default() };
        let rules = CheckRules::of(&site).unwrap().unwrap();
        assert_eq!((rules.rise, rules.fall), (2, 3));
        let health = Health::default();
        let bad = || Err("answered 500".to_owned());
        for (outcome, change) in [
            (bad(), None),
            (bad(), None),
            (bad(), Some(true)),
            (Ok(()), None),
            (bad(), None),
            (Ok(()), None),
            (Ok(()), Some(false)),
        ] {
            assert_eq!(health.conclude(outcome, &rules, 0), change);
        }
        assert_eq!(health.standing(Instant::now()), Standing::Up);
    }

    #[test]
    fn health_settings_that_make_no_sense_are_named() {
        for (set, key) in [
            ("health_path = \"up\"", "health_path"),
            ("health_path = \"/\"\nhealth_status = \"400-200\"", "health_status"),
            ("health_path = \"/\"\nhealth_status = \"ok\"", "health_status"),
            ("health_path = \"/\"\nhealth_rise = 0", "health_rise"),
            ("health_path = \"/\"\nhealth_interval = \"1ms\"", "health_interval"),
            ("failures = 0", "failures"),
        ] {
            let error = CheckRules::of(&toml::from_str(set).unwrap()).unwrap_err().to_string();
            assert!(error.contains(key), "{set}: {error}");
        }
    }
}
