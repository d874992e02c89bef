//! Which site a request belongs to: host first (exact, wildcard, any), then the longest path prefix.
//!
//! A path has two readings: as sent, and as a server that decodes `%2e`, resolves `..` and merges `//` would read it.
//! The raw path is what goes to the app, so a request whose two readings choose different sites is refused: otherwise
//! `/api/%2e%2e/admin` would be sent under the rules of one site and answered by the routes of another.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::sync::Arc;

use super::audience::Audience;
use super::basic::BasicAuth;
use super::cache::Caching;
use super::compress::Compress;
use super::config::{EdgeConfig, SiteConfig};
use super::error::ConfigError;
use super::forward::ForwardAuth;
use super::guard::Gate;
use super::guard::table::RateTable;
use super::guard::zones::{Zone, zones};
use super::health::Watched;
use super::host::{Host, Pattern};
use super::mutual::ClientAuth;
use super::peer::{Peer, PeerRules};
use super::security::{Override, Preset, SecurityHeaders, overrides};
use super::shape::Shape;
use super::target::{Maintenance, Target};

/// Every site of a configuration, ready for lookup.
#[derive(Debug, Default)]
pub struct Sites {
    sites: Vec<Site>,
    peers: Vec<Arc<Peer>>,
    exact: HashMap<String, Vec<Route>>,
    /// Suffixes with their leading dot, longest first.
    below: Vec<(String, Vec<Route>)>,
    any: Vec<Route>,
    /// What the rate zones have counted.
    counters: Option<Arc<RateTable>>,
}

/// One site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its place among all sites.
    pub number: usize,
    /// Its first host and its path, as people know it.
    pub name: Arc<str>,
    /// What answers.
    pub target: Target,
    /// Who sees it while it is being worked on; `None` when it is open.
    pub maintenance: Option<Maintenance>,
    /// Largest request body in bytes.
    pub body: u64,
    /// Which answers are compressed.
    pub compress: Compress,
    /// The security headers added, if any.
    pub security: Option<Arc<SecurityHeaders>>,
    /// Response headers set or taken out.
    pub headers: Vec<Override>,
    /// Who may ask, and how often; `None` without such rules.
    pub gate: Option<Box<Gate>>,
    /// What it changes of requests and answers.
    pub shape: Option<Arc<Shape>>,
    /// Whose certificate clients must show.
    pub client: Option<Arc<ClientAuth>>,
    /// Who enters with a password.
    pub basic: Option<Arc<BasicAuth>>,
    /// Who says whether a request goes on.
    pub forward: Option<Arc<ForwardAuth>>,
    /// Which of its app's answers are kept; `None` keeps none.
    pub caching: Option<Arc<Caching>>,
    /// How its pages are counted; `None` when they are not.
    pub audience: Option<Arc<Audience>>,
}

/// A path prefix without final slash (the root is empty), and the site it leads to. Longest first in every list.
#[derive(Debug)]
struct Route {
    prefix: String,
    site: usize,
}

/// Why no site takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The path means one site as sent and another when normalised.
    Ambiguous,
    /// No site has this host and path.
    Unknown,
}

impl Sites {
    /// The table for `config`.
    ///
    /// # Errors
    /// What [`EdgeConfig::validate`] would say about hosts and upstreams.
    pub fn new(config: &EdgeConfig) -> Result<Self, ConfigError> {
        Self::after(config, None)
    }

    /// The table for `config` in place of `before`: what rate zones have counted goes on, unless there is room for another
    /// number of counters now.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn after(config: &EdgeConfig, before: Option<&Self>) -> Result<Self, ConfigError> {
        let counters = before.and_then(|sites| sites.counters.clone());
        let counters = counters.filter(|table| table.has_room_for(config.limits.rate_keys));
        let maker = Maker::new(config, counters, before)?;
        let mut table = Self { counters: Some(Arc::clone(&maker.counters)), ..Self::default() };
        for entry in &config.sites {
            let site = table.add(&maker, entry, "edge.sites.upstream")?;
            let prefix = entry.path.trim_end_matches('/').to_owned();
            if entry.hosts.is_empty() {
                table.any.push(Route { prefix: prefix.clone(), site });
            }
            for host in &entry.hosts {
                let pattern: Pattern = host.parse().map_err(|_bad| ConfigError::Value {
                    key: "edge.sites.hosts",
                    value: host.clone(),
                    allowed: "example.com or *.example.com".to_owned(),
                })?;
                table.routes_of(pattern).push(Route { prefix: prefix.clone(), site });
            }
        }
        if !config.app.is_empty() {
            let mut rates = Vec::new();
            if config.hardened {
                rates.push("general".to_owned());
            }
            let (upstream, analytics) = (config.app.clone(), config.analytics);
            let app = SiteConfig { upstream, analytics, rates, ..SiteConfig::default() };
            let site = table.add(&maker, &app, "edge.app")?;
            // After the sites: a site for every host at `/` wins over `edge.app`.
            table.any.push(Route { prefix: String::new(), site });
        }
        let by_length = |routes: &mut Vec<Route>| routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        table.exact.values_mut().for_each(by_length);
        table.below.iter_mut().for_each(|(_, routes)| by_length(routes));
        table.below.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        by_length(&mut table.any);
        Ok(table)
    }

    /// Whether there is no site at all.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// Whether any site asks clients for certificates.
    pub fn ask_clients(&self) -> bool {
        self.sites.iter().any(|site| site.client.is_some())
    }

    /// Whether a site that a handshake for `name` (empty: for none) may be meant for asks clients for certificates.
    pub fn ask_clients_of(&self, name: &str) -> bool {
        let ask = |routes: &Vec<Route>| {
            routes.iter().filter_map(|route| self.sites.get(route.site)).any(|site| site.client.is_some())
        };
        let below = self.below.iter().filter(|(end, _)| name.len() > end.len() && name.ends_with(end.as_str()));
        self.exact.get(name).is_some_and(ask) || below.map(|(_, routes)| routes).any(ask) || ask(&self.any)
    }

    /// The copies of all apps, each once, by their numbers.
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// What is looked after while they are served.
    pub fn watched(&self) -> Watched {
        let switches = self.sites.iter().filter_map(|site| site.maintenance.as_ref()?.switch().map(Arc::clone));
        Watched { peers: self.peers.clone(), switches: switches.collect() }
    }

    /// The name of every site, and what answers for it, by number.
    pub fn kinds(&self) -> impl Iterator<Item = (Arc<str>, &'static str)> {
        self.sites.iter().map(|site| (Arc::clone(&site.name), site.target.kind()))
    }

    /// The names of the sites whose pages are counted.
    pub fn counted(&self) -> Vec<Arc<str>> {
        self.sites.iter().filter(|site| site.audience.is_some()).map(|site| Arc::clone(&site.name)).collect()
    }

    /// Every site that keeps answers, and how it does.
    pub fn caching(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Caching>)> {
        self.sites.iter().filter_map(|site| Some((&site.name, site.caching.as_ref()?)))
    }

    /// Every site that is an app: its name and the numbers of its copies.
    pub fn apps(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.sites.iter().filter_map(|site| match &site.target {
            Target::App(app) => Some((&*site.name, &*app.copies)),
            _ => None,
        })
    }

    /// The site for `host` and the raw `path` of a request.
    ///
    /// # Errors
    /// [`Miss`].
    pub fn find(&self, host: &Host, path: &str) -> Result<&Site, Miss> {
        let sent = self.reading(host, path);
        if let Some(normal) = normalised(path)
            && self.reading(host, &normal) != sent
        {
            return Err(Miss::Ambiguous);
        }
        sent.and_then(|index| self.sites.get(index)).ok_or(Miss::Unknown)
    }

    /// The site one reading of the path leads to. A host with entries of its own still falls back to wider ones.
    fn reading(&self, host: &Host, path: &str) -> Option<usize> {
        let name = host.name();
        let exact = self.exact.get(name).and_then(|routes| matching(routes, path));
        exact
            .or_else(|| {
                let mut fitting = self
                    .below
                    .iter()
                    .filter(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix.as_str()));
                fitting.find_map(|(_, routes)| matching(routes, path))
            })
            .or_else(|| matching(&self.any, path))
    }

    fn routes_of(&mut self, pattern: Pattern) -> &mut Vec<Route> {
        match pattern {
            Pattern::Exact(name) => self.exact.entry(name).or_default(),
            Pattern::Below(suffix) => {
                let known = self.below.iter().position(|(known, _)| *known == suffix);
                let index = known.unwrap_or_else(|| {
                    self.below.push((suffix, Vec::new()));
                    self.below.len().saturating_sub(1)
                });
                #[expect(clippy::indexing_slicing, reason = "found or pushed two lines up")]
                &mut self.below[index].1
            }
        }
    }

    fn add(&mut self, maker: &Maker<'_>, entry: &SiteConfig, key: &'static str) -> Result<usize, ConfigError> {
        let peers = &mut self.peers;
        let mut number = |rules: PeerRules| {
            if let Some(known) = peers.iter().position(|peer| peer.rules == rules) {
                return Ok(known);
            }
            // What is known of how it does goes on.
            let before = maker.before.and_then(|sites| sites.peers.iter().find(|peer| peer.rules == rules));
            peers.push(before.map_or_else(|| Peer::new(rules), |peer| Ok(Arc::clone(peer)))?);
            Ok(peers.len().saturating_sub(1))
        };
        let target = Target::of(entry, maker.config, key, &mut number)?;
        let forward = ForwardAuth::of(entry, maker.config, &mut number)?;
        let site = maker.site(self.sites.len(), entry, target, forward)?;
        self.sites.push(site);
        Ok(self.sites.len().saturating_sub(1))
    }
}

/// What sites have in common.
struct Maker<'a> {
    config: &'a EdgeConfig,
    standard: Arc<SecurityHeaders>,
    strict: Arc<SecurityHeaders>,
    zones: Vec<Zone>,
    counters: Arc<RateTable>,
    /// What there was before: how copies of apps do, and what is counted, goes on.
    before: Option<&'a Sites>,
}

impl<'a> Maker<'a> {
    fn new(
        config: &'a EdgeConfig,
        counters: Option<Arc<RateTable>>,
        before: Option<&'a Sites>,
    ) -> Result<Self, ConfigError> {
        let standard = SecurityHeaders::new(&config.security);
        Ok(Self {
            config,
            strict: Arc::new(standard.strict()),
            standard: Arc::new(standard),
            zones: zones(&config.zones)?,
            counters: counters.unwrap_or_else(|| Arc::new(RateTable::new(config.limits.rate_keys))),
            before,
        })
    }

    fn site(
        &self,
        number: usize,
        entry: &SiteConfig,
        target: Target,
        forward: Option<Box<ForwardAuth>>,
    ) -> Result<Site, ConfigError> {
        let body = if entry.body.bytes() == 0 { self.config.limits.body } else { entry.body };
        let security = match entry.security {
            Preset::Standard => &self.standard,
            Preset::Strict => &self.strict,
        };
        let host = entry.hosts.first().map_or("*", String::as_str);
        let name: Arc<str> = format!("{host}{}", entry.path).into();
        let known = self.before.and_then(|sites| sites.caching().find(|(known, _)| **known == name));
        let caching = Caching::of(entry, self.config, known.map(|(_, caching)| caching))?;
        Ok(Site {
            number,
            audience: Audience::of(entry, &name),
            name,
            target,
            maintenance: Maintenance::of(entry)?,
            body: body.bytes(),
            compress: entry.compress,
            security: entry.security_headers.then(|| Arc::clone(security)),
            headers: overrides("edge.sites.headers", &entry.headers)?,
            gate: Gate::of(entry, &self.config.deny, &self.zones, &self.counters)?,
            shape: Shape::of(entry)?.map(Arc::from),
            client: ClientAuth::of(entry)?,
            basic: BasicAuth::of(entry)?,
            forward: forward.map(Arc::from),
            caching,
        })
    }
}

/// The first route whose prefix ends where a segment of `path` ends.
fn matching(routes: &[Route], path: &str) -> Option<usize> {
    let fits = |route: &&Route| {
        path.strip_prefix(route.prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    routes.iter().find(fits).map(|route| route.site)
}

/// How a lenient server would read `path`: one level of percent-decoding, `\` as `/`, matrix parameters cut off, empty
/// and dot segments resolved, upper case kept. `None` when that is the path itself.
fn normalised(path: &str) -> Option<String> {
    let plain = !path.contains(['%', '\\', ';'])
        && !path.contains("//")
        && !path.split('/').any(|segment| segment == "." || segment == "..");
    if plain {
        return None;
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap_or("") {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = if decoded.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{slash}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::super::upstream::Place;
    use super::*;

    fn table() -> Sites {
        let config: EdgeConfig = toml::from_str(
            r#"
            app = "127.0.0.1:1"
            sites = [
                { hosts = ["example.com"], path = "/", upstream = "127.0.0.1:2" },
                { hosts = ["example.com"], path = "/api", upstream = "127.0.0.1:3" },
                { hosts = ["example.com"], path = "/api/v2/", upstream = "127.0.0.1:4" },
                { hosts = ["*.example.com"], upstream = "127.0.0.1:5" },
                { hosts = ["*.deep.example.com"], upstream = "127.0.0.1:6" },
                { path = "/status", upstream = "127.0.0.1:7" },
            ]
            "#,
        )
        .unwrap();
        Sites::new(&config).unwrap()
    }

    fn copies(site: &Site) -> &[usize] {
        let Target::App(app) = &site.target else { panic!("{site:?} is no app") };
        &app.copies
    }

    fn port(host: &str, path: &str) -> Result<u16, Miss> {
        let table = table();
        let site = table.find(&host.parse().unwrap(), path)?;
        let Place::Tcp { port, .. } = &table.peers()[copies(site)[0]].rules.upstream.place else { panic!("no port") };
        Ok(*port)
    }

    #[test]
    fn exact_host_then_wildcard_then_any() {
        assert_eq!(port("example.com", "/"), Ok(2));
        assert_eq!(port("EXAMPLE.com.:80", "/"), Ok(2));
        assert_eq!(port("www.example.com", "/"), Ok(5));
        assert_eq!(port("a.deep.example.com", "/"), Ok(6));
        assert_eq!(port("notexample.com", "/"), Ok(1));
        assert_eq!(port("other", "/status/x"), Ok(7));
    }

    #[test]
    fn the_longest_path_wins_on_whole_segments() {
        for (path, site) in [("/api", 3), ("/api/", 3), ("/apis", 2), ("/api/v2", 4), ("/api/v2/x", 4), ("/api/v22", 3)]
        {
            assert_eq!(port("example.com", path), Ok(site), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_meanings_is_refused() {
        for path in [
            "/api/../x",
            "/api/%2e%2e/x",
            "/api/%2E./x",
            "//api",
            "/x/..%2fapi",
            "/%61pi",
            "/x\\..\\api",
            "/./api",
            "/api;x/y",
        ] {
            assert_eq!(port("example.com", path), Err(Miss::Ambiguous), "{path}");
        }
    }

    #[test]
    fn odd_paths_that_stay_in_their_site_are_the_apps_business() {
        for path in ["/a/../b", "/@scope%2fname", "/a//b", "/%20", "/api/v2/a%2Fb", "/%ff", "/a;b=c"] {
            assert!(port("example.com", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn one_upstream_has_one_pool() {
        let config: EdgeConfig = toml::from_str(
            r#"
            app = "127.0.0.1:1"
            sites = [{ path = "/a", upstream = "127.0.0.1:1" }, { path = "/b", upstream = "127.0.0.1:2" }]
            "#,
        )
        .unwrap();
        let sites = Sites::new(&config).unwrap();
        assert_eq!(sites.peers().len(), 2);
        let numbers: Vec<&[usize]> = sites.sites.iter().map(copies).collect();
        assert_eq!(numbers, [[0], [1], [0]]);
    }

    #[test]
    fn the_app_alone_is_counted_where_that_is_wanted() {
        for (wanted, counted) in [(false, &[][..]), (true, &["*/"])] {
            let config = EdgeConfig { app: "127.0.0.1:1".into(), analytics: wanted, ..EdgeConfig::default() };
            let names: Vec<_> = Sites::new(&config).unwrap().counted();
            assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), counted);
        }
    }

    #[test]
    fn without_sites_nothing_is_found() {
        let sites = Sites::new(&EdgeConfig::default()).unwrap();
        assert!(sites.is_empty());
        assert_eq!(sites.find(&"x".parse().unwrap(), "/").unwrap_err(), Miss::Unknown);
    }

    proptest::proptest! {
        /// Whatever is accepted for `/` of example.com does not come to lie below `/api` when normalised.
        #[test]
        fn no_path_reaches_another_sites_routes(path in "/[a./%2eEfF\\\\pi;]{0,24}") {
            if let Ok(2) = port("example.com", &path) {
                let read = normalised(&path).unwrap_or(path);
                proptest::prop_assert!(read != "/api" && !read.starts_with("/api/"));
            }
        }
    }
}
