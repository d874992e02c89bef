//! The edge's settings, and the check that tells contradictions before a socket is opened.

use std::net::IpAddr;

use super::access::LineFormat;
pub use super::acme::config::{AcmeConfig, AuthorityConfig, CertificateConfig, DnsConfig};

use super::acme::config::MAX_LISTED;
pub use super::acme::internal::InternalCaConfig;
pub use super::acme::on_demand::OnDemandConfig;
use super::error::ConfigError;
use super::guard::networks;
pub use super::guard::zones::ZoneConfig;
use super::host::{Pattern, is_name};
use super::jails;
use super::jails::config::PRESETS;
pub use super::jails::config::{BansConfig, JailConfig};
pub use super::site_config::SiteConfig;
use super::sites::Sites;
use super::upstream::{SHAPE, Upstream};
use crate::base::{ByteSize, Listen, Span};
use crate::settings;

/// Most threads the edge starts, whatever the machine has.
pub const MAX_WORKERS: usize = 32;

settings! {
    /// The edge: HTTP and HTTPS towards the world, reverse proxy to your app.
    pub struct EdgeConfig {
        /// Where plain HTTP is answered. With `edge.https` on, sites are redirected there.
        pub http: Listen = Listen::loopback(8080),
        /// Where HTTPS (HTTP/1.1 and HTTP/2) is answered.
        pub https: Listen = Listen::loopback(8443),
        /// Answer HTTP/3 too, at the same address and port as HTTPS but by UDP, which a firewall must let in. It is young: leave it
        /// off unless you want to try it. Read at start only.
        pub http3: bool = false,
        /// The server's own domain. Mainstay's doors answer below it: `console.<domain>`, `s3.<domain>`.
        pub domain: String = String::from("localhost"),
        /// Your app: where requests go that no entry of `edge.sites` names, such as `127.0.0.1:3000`. The flag `--app`
        /// sets the same. Empty shows a page that says so.
        pub app: String = String::new(),
        /// Count the pages and visitors of `app` as `edge.sites.analytics` does those of a site. Its name is `*`.
        pub analytics: bool = false,
        /// Sites by host and path; the most exact host wins (name, then `*.` wildcard, then none), then the longest path.
        pub sites: Vec<SiteConfig> = Vec::new(),
        /// Rate zones that sites name in `rates`, beside those that are there from the start.
        pub zones: Vec<ZoneConfig> = Vec::new(),
        /// Addresses or networks that no site serves; they get 403. Mainstay's own doors have logins of their own.
        pub deny: Vec<String> = Vec::new(),
        /// For a server under attack, or to be safe: at most 10 connections from an address where
        /// `limits.connections_per_ip` sets none, the zone `general` for every site that names no zone, at most 10s for a
        /// request's head and for a pause in its body, and all jails of `bans.on` where it names none.
        pub hardened: bool = false,
        /// Addresses that are banned for a while, and for what.
        pub bans: BansConfig = BansConfig::default(),
        /// Send plain HTTP on to HTTPS (301 for GET and HEAD, 308 otherwise). Has no effect while either listener is off.
        pub redirect_https: bool = true,
        /// Addresses or networks (`10.0.0.0/8`) of proxies in front of this server whose `Forwarded` and `X-Forwarded-*`
        /// headers are believed. From anybody else they are dropped.
        pub trusted_proxies: Vec<String> = Vec::new(),
        /// Addresses or networks of load balancers whose connections begin with a header of the PROXY protocol (version 1 or
        /// 2) that tells whose they are. From them every connection must have one, from anybody else none.
        pub proxy_protocol: Vec<String> = Vec::new(),
        /// Threads, each with its own connections; 0 takes one for each processor core.
        pub workers: u32 = 0,
        /// Request log, a JSON line each: `off`, `stdout`, or a file. The file is moved to `<file>.1` when it reaches
        /// `edge.access_log_size`, so the log never takes more than twice that. Off by default: your app usually logs
        /// its requests already, and `/metrics` counts them.
        pub access_log: String = String::from("off"),
        /// How a line of the request log looks: `json`, or `combined` or `common` as Apache and nginx write them.
        pub access_log_format: LineFormat = LineFormat::Json,
        /// Log one of so many requests; those answered with 400 and above are always logged.
        pub access_log_sample: u32 = 1,
        /// Size at which the request log starts a new file.
        pub access_log_size: ByteSize = ByteSize::mib(64),
        /// Memory for kept answers of all sites with `cache_answers` together, with their heads and addresses. What was used
        /// least recently makes room.
        pub cache_memory: ByteSize = ByteSize::mib(32),
        /// Disk for kept answers: those that no longer fit into `cache_memory`, and those that are too large for it. They lie
        /// sealed in `edge/cache` of the data folder, outlive a restart, are in no backup, and make way when the disk gets
        /// full. 0, the default, keeps answers in memory only; otherwise at least 16 MiB.
        pub cache_disk: ByteSize = ByteSize(0),
        /// Security headers added to a site's responses where the app did not set them itself.
        pub security: SecurityConfig = SecurityConfig::default(),
        /// Certificates in files. They come before those from an authority.
        pub certificates: Vec<CertificateConfig> = Vec::new(),
        /// Certificates from an authority.
        pub acme: AcmeConfig = AcmeConfig::default(),
        /// Certificates from an authority of this server's own, for names at home.
        pub internal_ca: InternalCaConfig = InternalCaConfig::default(),
        /// How much one client may ask for.
        pub limits: LimitsConfig = LimitsConfig::default(),
        /// How long each step may take.
        pub timeouts: TimeoutsConfig = TimeoutsConfig::default(),
    }
}

settings! {
    /// Security headers. An empty text leaves that header out.
    pub struct SecurityConfig {
        /// `Strict-Transport-Security`: how long browsers must use HTTPS. Sent on HTTPS only, never for `localhost` and IP
        /// addresses; 0s sends none.
        pub hsts: Span = Span::days(180),
        /// Whether `hsts` covers all subdomains too.
        pub hsts_subdomains: bool = false,
        /// `X-Content-Type-Options`.
        pub content_type_options: String = String::from("nosniff"),
        /// `X-Frame-Options`.
        pub frame_options: String = String::from("SAMEORIGIN"),
        /// `Referrer-Policy`.
        pub referrer_policy: String = String::from("strict-origin-when-cross-origin"),
        /// `Permissions-Policy`.
        pub permissions_policy: String = String::from("browsing-topics=()"),
        /// `Content-Security-Policy`, such as `default-src 'self'`. None by default: it must fit the app.
        pub content_security_policy: String = String::new(),
        /// `Content-Security-Policy-Report-Only`: the same, but only reports what it would forbid.
        pub content_security_policy_report_only: String = String::new(),
    }
}

settings! {
    /// How much one client may ask for.
    pub struct LimitsConfig {
        /// Largest request head (request line and headers). Answered with 431 (414 for the address alone).
        pub header_bytes: ByteSize = ByteSize::kib(64),
        /// Most header lines in a request. Answered with 431.
        pub headers: u32 = 100,
        /// Largest request body. Answered with 413.
        pub body: ByteSize = ByteSize::gib(1),
        /// Most connections at once; the next one is closed at once.
        pub connections: u32 = 10_000,
        /// Most connections at once from one address (IPv6: one /64 network); 0 sets no limit. Trusted proxies have none.
        pub connections_per_ip: u32 = 0,
        /// Most counters kept for rate zones, some 32 bytes each; past it those that matter least go first.
        pub rate_keys: u32 = 100_000,
        /// Memory for small files (up to 128 KiB each) of one site with a `root`.
        pub file_cache: ByteSize = ByteSize::mib(32),
        /// Most requests at once on one connection of HTTP/2 or HTTP/3.
        pub streams: u32 = 128,
        /// Most idle connections kept to one upstream by one worker.
        pub idle_upstream_connections: u32 = 64,
    }
}

settings! {
    /// How long each step may take before the connection is given up.
    pub struct TimeoutsConfig {
        /// TLS handshake, as a whole.
        pub tls_handshake: Span = Span::secs(10),
        /// Reading a request head as a whole; also how long an idle connection is kept for the next request.
        pub head: Span = Span::secs(30),
        /// Longest pause while a request body comes in. Answered with 408.
        pub body: Span = Span::secs(30),
        /// Longest time a client may take next to nothing of what it is sent: 4 KiB, in HTTP/2 and HTTP/3 16 KiB of each answer.
        pub write: Span = Span::secs(30),
        /// Connecting to the upstream. Answered with 504.
        pub connect: Span = Span::secs(5),
        /// From the last byte of the request to the upstream's response head. Answered with 504. Once the response has
        /// begun, `read` counts.
        pub response: Span = Span::secs(60),
        /// Longest pause within an upstream's response, after which the connection to the client is closed too; 0s sets no
        /// limit. Event streams pause for long.
        pub read: Span = Span::secs(0),
        /// How long an idle connection to an upstream is kept. Keep it below the app's own limit (Node.js: 5s).
        pub upstream_idle: Span = Span::secs(4),
        /// Longest silence on a WebSocket.
        pub upgrade: Span = Span::hours(1),
    }
}

impl EdgeConfig {
    /// The settings with what `hardened` brings.
    #[must_use]
    pub fn in_force(&self) -> Self {
        let mut config = self.clone();
        if config.hardened {
            let limits = &mut config.limits;
            limits.connections_per_ip =
                if limits.connections_per_ip == 0 { HARDENED_CONNECTIONS } else { limits.connections_per_ip };
            config.timeouts.head = config.timeouts.head.min(HARDENED_WAIT);
            config.timeouts.body = config.timeouts.body.min(HARDENED_WAIT);
            if config.bans.on.is_empty() {
                config.bans.on = PRESETS.map(String::from).to_vec();
            }
            for site in config.sites.iter_mut().filter(|site| site.rates.is_empty()) {
                site.rates.push("general".to_owned());
            }
        }
        config
    }

    /// Checks everything that can be checked without opening a socket.
    ///
    /// # Errors
    /// The first setting that is wrong, by its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !is_name(&self.domain) || self.domain.parse::<IpAddr>().is_ok() {
            return Err(wrong("edge.domain", &self.domain, "a domain name such as example.com"));
        }
        if !self.app.is_empty() && self.app.parse::<Upstream>().is_err() {
            return Err(wrong("edge.app", &self.app, SHAPE));
        }
        networks("edge.trusted_proxies", &self.trusted_proxies)?;
        networks("edge.proxy_protocol", &self.proxy_protocol)?;
        networks("edge.deny", &self.deny)?;
        if self.workers as usize > MAX_WORKERS {
            return Err(wrong("edge.workers", &self.workers.to_string(), "0 to 32"));
        }
        if self.access_log_size.bytes() < MIN_LOG_SIZE {
            return Err(wrong("edge.access_log_size", &self.access_log_size.to_string(), "at least 64 KiB"));
        }
        if self.access_log_sample == 0 {
            return Err(wrong("edge.access_log_sample", "0", "1 and above"));
        }
        self.validate_ports()?;
        self.validate_sites()?;
        // What sites are made of is read by the same code that serves them.
        Sites::new(self)?;
        if self.certificates.len() > MAX_LISTED {
            return Err(wrong("edge.certificates", "a longer list", "at most 100"));
        }
        self.certificates.iter().try_for_each(CertificateConfig::validate)?;
        self.acme.validate()?;
        self.internal_ca.validate()?;
        jails::validate(&self.bans)?;
        self.security.validate()?;
        self.limits.validate()?;
        self.timeouts.validate()
    }

    fn validate_ports(&self) -> Result<(), ConfigError> {
        if self.http3 && self.https.address().is_none() {
            return Err(wrong("edge.http3", "true", "true with edge.https on, whose port it takes"));
        }
        match (self.http.address(), self.https.address()) {
            (Some(http), Some(https)) if http == https && http.port() != 0 => Err(ConfigError::SamePort(http)),
            _ => Ok(()),
        }
    }

    fn validate_sites(&self) -> Result<(), ConfigError> {
        let mut seen = std::collections::BTreeSet::new();
        for site in &self.sites {
            if !is_plain_path(&site.path) {
                return Err(wrong(
                    "edge.sites.path",
                    &site.path,
                    "a plain path that begins with /, without . or .. parts",
                ));
            }
            for host in &site.hosts {
                if host.parse::<Pattern>().is_err() {
                    return Err(wrong("edge.sites.hosts", host, "example.com or *.example.com"));
                }
            }
            let path = site.path.trim_end_matches('/').to_owned();
            let hosts = if site.hosts.is_empty() { vec![String::new()] } else { site.hosts.clone() };
            for host in hosts {
                if !seen.insert((host.to_ascii_lowercase(), path.clone())) {
                    return Err(ConfigError::SiteTwice { host, path: site.path.clone() });
                }
            }
        }
        Ok(())
    }
}

/// Connections from one address under `edge.hardened`.
const HARDENED_CONNECTIONS: u32 = 10;
/// Longest wait for a head or for more of a body under `edge.hardened`.
const HARDENED_WAIT: Span = Span::secs(10);
const MIN_LOG_SIZE: u64 = 64 << 10;

impl SecurityConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("edge.security.content_type_options", &self.content_type_options),
            ("edge.security.frame_options", &self.frame_options),
            ("edge.security.referrer_policy", &self.referrer_policy),
            ("edge.security.permissions_policy", &self.permissions_policy),
            ("edge.security.content_security_policy", &self.content_security_policy),
            ("edge.security.content_security_policy_report_only", &self.content_security_policy_report_only),
        ] {
            if http::HeaderValue::from_str(value).is_err() {
                return Err(wrong(key, value, "a header value in plain ASCII"));
            }
        }
        Ok(())
    }
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let head = self.header_bytes.bytes();
        // hyper's buffer cannot be smaller than 8 KiB, and its addresses not longer than 64 KiB.
        if !(8 << 10..=1 << 20).contains(&head) {
            return Err(wrong("edge.limits.header_bytes", &self.header_bytes.to_string(), "8 KiB to 1 MiB"));
        }
        for (key, value, most) in [
            ("edge.limits.headers", self.headers, 1_000),
            ("edge.limits.connections", self.connections, 1_000_000),
            ("edge.limits.rate_keys", self.rate_keys, 10_000_000),
            ("edge.limits.streams", self.streams, 1_000),
        ] {
            if value == 0 || value > most {
                return Err(wrong(key, &value.to_string(), &format!("1 to {most}")));
            }
        }
        if self.body.bytes() == 0 {
            return Err(wrong("edge.limits.body", "0", "a size above 0"));
        }
        Ok(())
    }
}

impl TimeoutsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, span) in [
            ("edge.timeouts.tls_handshake", self.tls_handshake),
            ("edge.timeouts.head", self.head),
            ("edge.timeouts.body", self.body),
            ("edge.timeouts.write", self.write),
            ("edge.timeouts.connect", self.connect),
            ("edge.timeouts.response", self.response),
            ("edge.timeouts.upgrade", self.upgrade),
        ] {
            if !(Span::millis(100)..=Span::days(7)).contains(&span) {
                return Err(wrong(key, &span.to_string(), "100ms to 7d"));
            }
        }
        Ok(())
    }
}

/// Whether `path` reads the same however it is normalised.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#\\".contains(&byte))
        && path.split('/').all(|segment| segment != "." && segment != "..")
}

fn wrong(key: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> EdgeConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_defaults_are_valid() {
        EdgeConfig::default().validate().unwrap();
    }

    #[test]
    fn sites_are_written_as_tables() {
        let config = parsed(
            r#"
            domain = "example.com"
            [[sites]]
            hosts = ["example.com", "*.example.com"]
            path = "/api"
            upstream = "http://127.0.0.1:3000"
            body = "10 MiB"
            "#,
        );
        config.validate().unwrap();
        assert_eq!(config.sites[0].body, ByteSize::mib(10));
    }

    #[test]
    fn every_wrong_value_is_told_by_its_key() {
        for (text, key) in [
            ("domain = \"a b\"", "edge.domain"),
            ("domain = \"127.0.0.1\"", "edge.domain"),
            ("app = \"ftp://x\"", "edge.app"),
            ("app = \"ftp://x\"", "edge.app"),
            ("trusted_proxies = [\"10.0.0.0/33\"]", "edge.trusted_proxies"),
            ("proxy_protocol = [\"10.0.0.x\"]", "edge.proxy_protocol"),
            ("workers = 999", "edge.workers"),
            ("access_log_size = 1", "edge.access_log_size"),
            ("http = \"127.0.0.1:80\"\nhttps = \"127.0.0.1:80\"", "edge.https"),
            ("[[sites]]\nupstream = \"\"", "edge.sites.upstream"),
            ("[[sites]]\nupstream = \"x:1\"\npath = \"api\"", "edge.sites.path"),
            ("[[sites]]\nupstream = \"x:1\"\npath = \"/a/../b\"", "edge.sites.path"),
            ("[[sites]]\nupstream = \"x:1\"\nhosts = [\"a.*.b\"]", "edge.sites.hosts"),
            ("[[sites]]\nupstream = \"x:1\"\n[[sites]]\nupstream = \"y:1\"\npath = \"/\"", "edge.sites"),
            ("deny = [\"x\"]", "edge.deny"),
            ("http3 = true\nhttps = \"\"", "edge.http3"),
            ("[[zones]]\nname = \"\"", "edge.zones.name"),
            ("[[zones]]\nname = \"a\"\n[[zones]]\nname = \"a\"", "edge.zones.name"),
            ("[[zones]]\nname = \"a\"\nrequests = 0", "edge.zones.requests"),
            ("[[zones]]\nname = \"a\"\nkey = \"cookie\"", "edge.zones.key"),
            ("[[zones]]\nname = \"a\"\nper = \"1ms\"", "edge.zones.per"),
            ("[[sites]]\nupstream = \"x:1\"\nrates = [\"none\"]", "edge.sites.rates"),
            ("[[sites]]\nupstream = \"x:1\"\nallow = [\"x\"]", "edge.sites.allow"),
            ("[[sites]]\nupstream = \"x:1\"\ndeny = [\"1.2.3.4/99\"]", "edge.sites.deny"),
            ("[[sites]]\nupstream = \"x:1\"\nheaders = [\"no colon\"]", "edge.sites.headers"),
            ("[[sites]]\nupstream = \"x:1\"\nheaders = [\"Connection: close\"]", "edge.sites.headers"),
            ("[[sites]]\nupstream = \"x:1\"\nroot = \"/srv\"", "edge.sites.root"),
            ("[[sites]]\nroot = \"srv\"", "edge.sites.root"),
            ("[[sites]]\nroot = \"/srv\"\nindex = \"../x\"", "edge.sites.index"),
            ("[[sites]]\nroot = \"/srv\"\nindex = \"\"", "edge.sites.index"),
            ("[[sites]]\nroot = \"/srv\"\nfallback = \"/\"", "edge.sites.fallback"),
            ("[[sites]]\nroot = \"/srv\"\ncache = [\"7d\"]", "edge.sites.cache"),
            ("[[sites]]\nupstreams = [\"x:1\", \"x\"]", "edge.sites.upstreams"),
            ("[[sites]]\nupstreams = [\"x:1\", \"x:1\"]", "edge.sites.upstreams"),
            ("[[sites]]\nupstreams = [\"x:1\"]\nroot = \"/srv\"", "edge.sites.root"),
            ("[[sites]]\nupstream = \"x:1\"\nupstreams = [\"y:1\"]", "edge.sites.upstreams"),
            ("[[sites]]\nredirect = \"nowhere\"", "edge.sites.redirect"),
            ("[[sites]]\nredirect = \"/x\"\nredirect_status = 200", "edge.sites.redirect_status"),
            ("[[sites]]\nupstream = \"x:1\"\nmaintenance_except = [\"x\"]", "edge.sites.maintenance_except"),
            ("[bans]\non = [\"none\"]", "edge.bans.on"),
            ("[bans]\nignore = [\"x\"]", "edge.bans.ignore"),
            ("[bans]\nmost = 0", "edge.bans.most"),
            ("[[bans.jails]]\nname = \"\"", "edge.bans.jails.name"),
            ("[[bans.jails]]\nname = \"a\"\n[[bans.jails]]\nname = \"a\"", "edge.bans.jails.name"),
            ("[[bans.jails]]\nname = \"a\"\nstatus = [\"9xx\"]", "edge.bans.jails.status"),
            ("[[bans.jails]]\nname = \"a\"\nmethods = [\"get\"]", "edge.bans.jails.methods"),
            ("[[bans.jails]]\nname = \"a\"\nhosts = [\"a.*\"]", "edge.bans.jails.hosts"),
            ("[[bans.jails]]\nname = \"a\"\npaths = [\"(\"]", "edge.bans.jails.paths"),
            ("[[bans.jails]]\nname = \"a\"\nmax_retry = 0", "edge.bans.jails.max_retry"),
            ("[[bans.jails]]\nname = \"a\"\nban_time = \"0s\"", "edge.bans.jails.ban_time"),
            ("[limits]\nrate_keys = 0", "edge.limits.rate_keys"),
            ("[security]\nframe_options = \"a\\nb\"", "edge.security.frame_options"),
            ("[limits]\nheader_bytes = 100", "edge.limits.header_bytes"),
            ("[limits]\nheaders = 0", "edge.limits.headers"),
            ("[limits]\nbody = 0", "edge.limits.body"),
            ("[timeouts]\nhead = \"0s\"", "edge.timeouts.head"),
        ] {
            let error = parsed(text).validate().unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
