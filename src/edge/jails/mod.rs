//! Jails: which answers are failures, and when an address has had so many that it is banned.
//!
//! A jail looks at requests once their answer is known, on the worker that answered. One whose status no jail counts costs
//! a look at a bit; nothing is parsed and nothing is written to a log first. The address is the client's own, as
//! [`super::client`] found it. What is banned is kept by [`crate::bans`], which also counts for the jails of failed log-ins
//! (`of = "logins"`), as those happen at other doors.
//!
//! Start reading at [`Jails::look`].

pub mod config;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use regex::{RegexSet, RegexSetBuilder};

use self::config::{BansConfig, JailConfig, PRESETS, Whose};
use super::client::Network;
use super::config::EdgeConfig;
use super::error::ConfigError;
use super::guard::networks;
use super::host::{Host, Pattern};
use crate::bans::{Bans, Counts, Door, LoginJail, MOST_JAILS, Rules, Term, number_of};
use crate::base::network::counted_as;
use crate::telemetry::{Counter, Metrics};

/// Most patterns of one list of a jail.
const MOST_PATTERNS: usize = 200;
/// Largest compiled patterns of one jail, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Most failures that are counted.
const MOST_RETRIES: u32 = 200;
/// Most bytes of a path that are shown as the reason.
const SHOWN: usize = 80;

/// A request and its answer, as jails see them.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Who asked.
    pub client: IpAddr,
    /// The host asked for, when there was one.
    pub host: Option<&'a Host>,
    /// The method.
    pub method: &'a Method,
    /// The path as it was sent.
    pub path: &'a str,
    /// Whether it came with an `Authorization` header.
    pub authorization: bool,
    /// Whether one of Mainstay's own doors answered.
    pub by_door: bool,
    /// The answer's status.
    pub status: u16,
}

/// All jails at work.
#[derive(Debug)]
pub struct Jails {
    jails: Vec<Jail>,
    /// The statuses any of them counts.
    statuses: Statuses,
    counts: Arc<Counts>,
    bans: Bans,
}

/// One jail, ready.
#[derive(Debug)]
struct Jail {
    name: String,
    /// Tells its counts from others'; the same for the same name.
    number: u64,
    statuses: Statuses,
    methods: Vec<Method>,
    hosts: Vec<Pattern>,
    paths: Option<RegexSet>,
    of: Whose,
    authorization: bool,
    most: usize,
    within: Duration,
    term: Term,
    matches: Counter,
}

/// A set of statuses.
#[derive(Clone, Debug, Default)]
struct Statuses([u64; 10]);

impl Statuses {
    fn add(&mut self, status: u16) {
        if let Some(word) = self.0.get_mut(usize::from(status / 64)) {
            *word |= 1 << (status % 64);
        }
    }

    fn has(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1)
    }

    fn join(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
    }
}

impl Jails {
    /// The jails of `config`, which have `bans` made; `None` when none is at work. `before` are those whose counts go on.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn of(
        config: &BansConfig,
        bans: &Bans,
        metrics: &Metrics,
        before: Option<&Self>,
    ) -> Result<Option<Arc<Self>>, ConfigError> {
        let mut jails = Vec::new();
        for jail in at_work(config)?.iter().filter(|jail| jail.of != Whose::Logins) {
            jails.push(Jail::new(jail, metrics)?);
        }
        if jails.is_empty() {
            return Ok(None);
        }
        let mut statuses = Statuses::default();
        for jail in &jails {
            statuses.join(&jail.statuses);
        }
        let counts = before.map(|before| Arc::clone(&before.counts)).unwrap_or_default();
        Ok(Some(Arc::new(Self { jails, statuses, counts, bans: bans.clone() })))
    }

    /// Whether an answer of `status` interests any jail.
    pub fn counts(&self, status: u16) -> bool {
        self.statuses.has(status)
    }

    /// Counts `seen` where it is a failure, and bans who has had too many; `now` is monotonic.
    pub fn look(&self, seen: &Seen<'_>, now: Duration) {
        if !self.counts(seen.status) || self.bans.is_exempt(seen.client) {
            return;
        }
        let path = decoded(seen.path);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for jail in self.jails.iter().filter(|jail| jail.takes(seen, &path)) {
            jail.matches.inc();
            let within_ms = u64::try_from(jail.within.as_millis()).unwrap_or(u64::MAX);
            if !self.counts.add(jail.number, counted_as(seen.client), jail.most, within_ms, now_ms) {
                continue;
            }
            let shown = path.get(..path.floor_char_boundary(SHOWN)).unwrap_or_default();
            let reason = format!("{} failures, the last {} {} of {shown}", jail.most, seen.status, seen.method);
            if let Some(until) = self.bans.caught(seen.client, &jail.name, &jail.term, &reason) {
                let until = crate::base::Timestamp(until);
                tracing::info!(client = %seen.client, jail = jail.name, %until, "an address is banned");
            }
        }
    }
}

impl Jail {
    fn new(config: &JailConfig, metrics: &Metrics) -> Result<Self, ConfigError> {
        let name = &config.name;
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return wrong("edge.bans.jails.name", name, "1 to 64 letters, digits, - and _");
        }
        let mut statuses = Statuses::default();
        for text in &config.status {
            let Some((low, high)) = range(text) else {
                return wrong("edge.bans.jails.status", text, "a status such as 401, a range such as 400-499, or 4xx");
            };
            (low..=high).for_each(|status| statuses.add(status));
        }
        let method = |text: &String| {
            let known = text.bytes().all(|byte| byte.is_ascii_uppercase()).then(|| text.parse().ok()).flatten();
            known.ok_or(()).or_else(|()| wrong("edge.bans.jails.methods", text, "a method such as POST"))
        };
        let host = |text: &String| {
            text.parse().or_else(|_bad| wrong("edge.bans.jails.hosts", text, "example.com or *.example.com"))
        };
        if config.of != Whose::Logins && !config.doors.is_empty() {
            return wrong("edge.bans.jails.doors", &config.doors.join(", "), "none, unless of = \"logins\"");
        }
        if config.max_retry == 0 || config.max_retry > MOST_RETRIES {
            return wrong("edge.bans.jails.max_retry", &config.max_retry.to_string(), "1 to 200");
        }
        if config.growth == 0 || config.growth > 100 {
            return wrong("edge.bans.jails.growth", &config.growth.to_string(), "1 to 100");
        }
        for (key, span) in [
            ("edge.bans.jails.find_time", config.find_time),
            ("edge.bans.jails.ban_time", config.ban_time),
            ("edge.bans.jails.max_ban_time", config.max_ban_time),
        ] {
            if !(crate::base::Span::secs(1)..=crate::base::Span::days(3650)).contains(&span) {
                return wrong(key, &span.to_string(), "1s to 3650d");
            }
        }
        Ok(Self {
            name: name.clone(),
            number: number_of(name),
            statuses,
            methods: config.methods.iter().map(method).collect::<Result<_, _>>()?,
            hosts: config.hosts.iter().map(host).collect::<Result<_, _>>()?,
            paths: patterns(&config.paths)?,
            of: config.of,
            authorization: config.authorization,
            most: config.max_retry as usize,
            within: config.find_time.duration(),
            term: term(config),
            matches: metrics.counter(
                "mainstay_edge_jail_matches_total",
                "Answers that a jail counted.",
                &[("jail", name)],
            ),
        })
    }

    fn takes(&self, seen: &Seen<'_>, path: &str) -> bool {
        let whose = match self.of {
            Whose::Sites => !seen.by_door,
            Whose::Doors => seen.by_door,
            Whose::All => true,
            // Counted where they happen.
            Whose::Logins => false,
        };
        whose
            && self.statuses.has(seen.status)
            && (seen.authorization || !self.authorization)
            && (self.methods.is_empty() || self.methods.contains(seen.method))
            && (self.hosts.is_empty() || seen.host.is_some_and(|host| self.hosts.iter().any(|one| one.matches(host))))
            && self.paths.as_ref().is_none_or(|paths| paths.is_match(path))
    }
}

/// A path as patterns are held against it.
fn decoded(path: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy()
}

/// Whether a jail of `config` counts `seen`; `None` when its settings are refused. For the fuzzer, which sees nothing
/// private.
#[cfg(any(test, feature = "testing"))]
pub fn takes(config: &JailConfig, seen: &Seen<'_>) -> Option<bool> {
    let jail = Jail::new(config, &Metrics::new()).ok()?;
    Some(jail.takes(seen, &decoded(seen.path)))
}

/// The jails at work: those named in `on`, and the own ones.
fn at_work(config: &BansConfig) -> Result<Vec<JailConfig>, ConfigError> {
    let mut jails: Vec<JailConfig> = Vec::new();
    for name in &config.on {
        let Some(preset) = config::preset(name) else {
            return wrong("edge.bans.on", name, &PRESETS.join(", "));
        };
        if !jails.iter().chain(&config.jails).any(|jail| jail.name == *name) {
            jails.push(preset);
        }
    }
    for (at, jail) in config.jails.iter().enumerate() {
        if config.jails.iter().take(at).any(|other| other.name == jail.name) {
            return wrong("edge.bans.jails.name", &jail.name, "each name once");
        }
        jails.push(jail.clone());
    }
    if jails.len() > MOST_JAILS {
        return wrong("edge.bans.jails", "a longer list", "at most 64 jails");
    }
    Ok(jails)
}

/// Checks the settings of bans.
///
/// # Errors
/// The first that is wrong.
pub fn validate(config: &BansConfig) -> Result<(), ConfigError> {
    networks("edge.bans.ignore", &config.ignore)?;
    if config.most == 0 || config.most > 1_000_000 {
        return wrong("edge.bans.most", &config.most.to_string(), "1 to 1000000");
    }
    at_work(config)?.iter().try_for_each(|jail| match jail.of {
        Whose::Logins => logins(jail).map(drop),
        _ => Jail::new(jail, &Metrics::new()).map(drop),
    })
}

/// By what the list of bans is kept under `config`: proxies in front are never banned.
pub fn rules(config: &EdgeConfig) -> Rules {
    let config = &config.in_force();
    let proxies = config.trusted_proxies.iter().chain(&config.proxy_protocol);
    let texts = config.bans.ignore.iter().chain(proxies);
    let exempt: Vec<Network> = texts.filter_map(|text| text.parse().ok()).collect();
    // Settings that are wrong get no further than `validate`.
    let jails = at_work(&config.bans).unwrap_or_default();
    let logins = jails.iter().filter(|jail| jail.of == Whose::Logins).filter_map(|jail| logins(jail).ok()).collect();
    Rules { most: config.bans.most, remember: config.bans.remember.duration(), exempt, logins }
}

/// `config` as what counts failed log-ins.
fn logins(config: &JailConfig) -> Result<LoginJail, ConfigError> {
    // Name, numbers and times have the same rules.
    Jail::new(&JailConfig { doors: Vec::new(), of: Whose::All, ..config.clone() }, &Metrics::new())?;
    let plain = JailConfig::default();
    if config.status != plain.status
        || config.authorization
        || [&config.methods, &config.hosts, &config.paths].iter().any(|list| !list.is_empty())
    {
        let allowed = "no status, methods, hosts, paths and authorization with of = \"logins\"";
        return wrong("edge.bans.jails", &config.name, allowed);
    }
    let names = || Door::ALL.map(Door::name).join(", ");
    let door = |text: &String| text.parse().or_else(|_none| wrong("edge.bans.jails.doors", text, &names()));
    Ok(LoginJail {
        name: config.name.clone(),
        doors: config.doors.iter().map(door).collect::<Result<_, _>>()?,
        most: config.max_retry as usize,
        within: config.find_time.duration(),
        term: term(config),
    })
}

fn term(config: &JailConfig) -> Term {
    Term {
        first: config.ban_time.duration(),
        growth: config.growth,
        longest: config.max_ban_time.duration().max(config.ban_time.duration()),
    }
}

fn patterns(texts: &[String]) -> Result<Option<RegexSet>, ConfigError> {
    let key = "edge.bans.jails.paths";
    if texts.is_empty() {
        return Ok(None);
    }
    if texts.len() > MOST_PATTERNS {
        return wrong(key, "a longer list", "at most 200 patterns");
    }
    let built = RegexSetBuilder::new(texts).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build();
    built.map(Some).or_else(|error| {
        let error = error.to_string();
        wrong(key, &texts.join(", "), &format!("regular expressions ({})", error.lines().last().unwrap_or_default()))
    })
}

/// The statuses `text` means.
fn range(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..600).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let low = status(&format!("{class}00"))?;
        return Some((low, low + 99));
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    status(low).zip(status(high)).filter(|(low, high)| low <= high)
}

fn wrong<T>(key: &'static str, value: &str, allowed: &str) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestClock, memory_store};

    fn jails(settings: &str) -> (Jails, Bans) {
        let config: EdgeConfig = toml::from_str(settings).unwrap();
        config.validate().unwrap();
        let bans = Bans::open(memory_store(), Arc::new(TestClock::default()), &Metrics::new(), rules(&config)).unwrap();
        let jails = Jails::of(&config.bans, &bans, &Metrics::new(), None).unwrap().unwrap();
        (Arc::into_inner(jails).unwrap(), bans)
    }

    const CLIENT: &str = "203.0.113.7";

    fn seen<'a>(method: &'a Method, path: &'a str, status: u16) -> Seen<'a> {
        let client = CLIENT.parse().unwrap();
        Seen { client, host: None, method, path, authorization: false, by_door: false, status }
    }

    /// How many of `seen` it takes to be banned, at most 300.
    fn needed(settings: &str, seen: &Seen<'_>) -> Option<usize> {
        let (jails, bans) = jails(settings);
        (1..300).find(|_| {
            jails.look(seen, Duration::from_secs(1));
            bans.is_banned(seen.client)
        })
    }

    #[test]
    fn the_jails_that_are_there_from_the_start_catch_what_they_say() {
        let all = "[bans]\non = [\"password\", \"login\", \"scan\", \"notfound\", \"limited\", \"doors\"]\n";
        for (seen, wanted) in [
            (seen(&Method::POST, "/login", 401), Some(5)),
            (seen(&Method::POST, "/api/auth/sign-in", 403), Some(5)),
            (seen(&Method::POST, "/login", 200), None),
            (seen(&Method::GET, "/api/me", 401), None),
            (Seen { authorization: true, ..seen(&Method::GET, "/api/me", 401) }, Some(10)),
            (seen(&Method::GET, "/.env", 404), Some(3)),
            (seen(&Method::GET, "/app/%2egit/config", 403), Some(3)),
            (seen(&Method::GET, "/wp-login.php", 404), Some(3)),
            (seen(&Method::GET, "/wp-login.php", 200), None),
            (seen(&Method::GET, "/.well-known/security.txt", 404), Some(100)),
            (seen(&Method::GET, "/pictures/environment.png", 404), Some(100)),
            (seen(&Method::GET, "/", 429), Some(60)),
            (Seen { by_door: true, ..seen(&Method::POST, "/login", 401) }, Some(20)),
            (seen(&Method::GET, "/", 500), None),
        ] {
            assert_eq!(needed(all, &seen), wanted, "{seen:?}");
        }
    }

    #[test]
    fn a_jail_of_ones_own_counts_what_it_names_and_takes_the_place_of_another() {
        let own = "[bans]\non = [\"login\"]\n[[bans.jails]]\nname = \"login\"\nstatus = [\"2xx\"]\nmethods = [\"PUT\"]\n\
                   paths = ['^/x$']\nhosts = [\"*.example.com\"]\nmax_retry = 2\n";
        let host: Host = "shop.example.com".parse().unwrap();
        let right = Seen { host: Some(&host), ..seen(&Method::PUT, "/x", 204) };
        assert_eq!(needed(own, &right), Some(2));
        let other: Host = "example.org".parse().unwrap();
        for wrong in [
            Seen { host: Some(&other), ..right },
            Seen { host: None, ..right },
            Seen { path: "/xy", ..right },
            Seen { method: &Method::POST, path: "/login", status: 401, ..right },
            Seen { status: 304, ..right },
            Seen { by_door: true, ..right },
        ] {
            assert_eq!(needed(own, &wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn jails_of_log_ins_are_for_the_doors_and_none_of_the_edges_answers() {
        let settings = "[bans]\non = [\"logins\"]\n[[bans.jails]]\nname = \"mail\"\nof = \"logins\"\ndoors = [\"smtp\"]\n\
                        max_retry = 2\nfind_time = \"1m\"\n";
        let config: EdgeConfig = toml::from_str(settings).unwrap();
        config.validate().unwrap();
        let logins = rules(&config).logins;
        let shown: Vec<_> = logins.iter().map(|jail| (jail.name.as_str(), jail.doors.clone(), jail.most)).collect();
        assert_eq!(shown, [("logins", Vec::new(), 10), ("mail", vec![Door::Smtp], 2)]);
        let bans = Bans::open(memory_store(), Arc::new(TestClock::default()), &Metrics::new(), rules(&config)).unwrap();
        assert!(Jails::of(&config.bans, &bans, &Metrics::new(), None).unwrap().is_none());
        for wrong in
            ["doors = [\"ftp\"]", "status = [\"404\"]", "paths = ['x']", "max_retry = 0", "authorization = true"]
        {
            let text = format!("[[bans.jails]]\nname = \"a\"\nof = \"logins\"\n{wrong}\n");
            assert!(toml::from_str::<EdgeConfig>(&text).unwrap().validate().is_err(), "{wrong}");
        }
        let text = "[[bans.jails]]\nname = \"a\"\ndoors = [\"smtp\"]\n";
        assert!(toml::from_str::<EdgeConfig>(text).unwrap().validate().is_err(), "a jail of answers has no doors");
    }

    #[test]
    fn who_is_exempt_is_never_caught() {
        let config = "trusted_proxies = [\"198.51.100.0/24\"]\n[bans]\non = [\"scan\"]\n";
        for address in ["127.0.0.1", "10.1.1.1", "198.51.100.9", "fe80::1"] {
            let seen = Seen { client: address.parse().unwrap(), ..seen(&Method::GET, "/.env", 404) };
            assert_eq!(needed(config, &seen), None, "{address}");
        }
    }

    proptest::proptest! {
        /// Whatever is asked for, a look neither fails nor bans anybody else.
        #[test]
        fn no_path_brings_a_look_down(path in "\\PC{0,100}", status in 100..600_u16) {
            let (jails, bans) = jails("[bans]\non = [\"scan\", \"login\"]\n");
            for _ in 0..3 {
                jails.look(&seen(&Method::GET, &path, status), Duration::ZERO);
            }
            proptest::prop_assert!(!bans.is_banned("203.0.113.8".parse().unwrap()));
        }
    }
}
