//! The settings of bans and jails.

use serde::{Deserialize, Serialize};

use crate::base::Span;
use crate::settings;

settings! {
    /// Who is banned: an address that a jail catches gets 403 from every site and door of the edge, and no TLS handshake,
    /// until its time is over; the listeners of Redis, SMTP, S3 and the console close its connections at once.
    /// `mainstay bans`, `/v1/bans` and the console show, make and lift bans.
    pub struct BansConfig {
        /// Which of the jails that are there from the start are at work. `password`: wrong passwords of HTTP Basic and
        /// wrong tokens (401 to a request with `Authorization`), 10 in 10m. `login`: POST to a log-in page answered 401 or
        /// 403, 5 in 10m. `scan`: places that only a scanner asks for (`/.env`, `/wp-login.php` ..) and that are not there,
        /// 3 in 10m. `notfound`: 404, 100 in 1m. `limited`: 429, 60 in 1m. `doors`: failed log-ins at Mainstay's own doors
        /// (401, 403, 429), 20 in 10m. `logins`: wrong credentials at any door, however it was reached (Redis, SMTP, S3, SES,
        /// console, `/v1`), 10 in 10m. Each bans for 1h, and twice as long each further time.
        pub on: Vec<String> = Vec::new(),
        /// Jails of your own, always at work. One with the name of another takes its place.
        pub jails: Vec<JailConfig> = Vec::new(),
        /// Addresses or networks that no jail bans: private ones by default, since what stands there may be a proxy or a
        /// gateway with everybody behind it. Loopback, `edge.trusted_proxies` and `edge.proxy_protocol` are never banned
        /// either.
        pub ignore: Vec<String> =
            ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"]
                .map(String::from)
                .to_vec(),
        /// Most bans kept, ended ones that are remembered included; past it what ends first goes. Those made by hand
        /// without an end stay.
        pub most: u32 = 50_000,
        /// How long an ended ban is remembered, so that the next one is longer.
        pub remember: Span = Span::days(30),
    }
}

settings! {
    /// A jail: which answers are failures, and how many of them ban an address (IPv6: its /64).
    pub struct JailConfig {
        /// Its name.
        pub name: String = String::new(),
        /// Statuses that count: `401`, a range such as `400-499`, or `4xx`.
        pub status: Vec<String> = ["401", "403"].map(String::from).to_vec(),
        /// Methods that count, such as `POST`; none means every one.
        pub methods: Vec<String> = Vec::new(),
        /// Hosts that count, exact or with a wildcard as in `edge.sites.hosts`; none means every one.
        pub hosts: Vec<String> = Vec::new(),
        /// Regular expressions of which one must be found in the path (decoded, without the query), such as `^/login$`;
        /// none means every path.
        pub paths: Vec<String> = Vec::new(),
        /// Whose answers count: those of `sites`, of Mainstay's own `doors` (`console.<domain>`, `s3.<domain>`), or of
        /// `all`. Or `logins`: no answers of the edge but failed log-ins at the doors themselves, over TCP too; then neither
        /// `status`, `methods`, `hosts`, `paths` nor `authorization` is given.
        pub of: Whose = Whose::Sites,
        /// With `of = "logins"`, the doors that count: `redis`, `redis-http`, `smtp`, `ses`, `s3`, `console`, `api`; none
        /// means every one.
        pub doors: Vec<String> = Vec::new(),
        /// Count only requests that came with an `Authorization` header.
        pub authorization: bool = false,
        /// So many failures within `find_time` ban, 1 to 200.
        pub max_retry: u32 = 5,
        /// The time in which they are counted.
        pub find_time: Span = Span::mins(10),
        /// How long the first ban is.
        pub ban_time: Span = Span::hours(1),
        /// Each further ban is so many times as long; 1 leaves it.
        pub growth: u32 = 2,
        /// The longest ban.
        pub max_ban_time: Span = Span::days(7),
    }
}

/// Whose answers a jail counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// Those of sites, and of no site at all.
    #[default]
    Sites,
    /// Those of Mainstay's own doors.
    Doors,
    /// Both.
    All,
    /// No answers of the edge: failed log-ins at the doors.
    Logins,
}

/// The names of the jails that are there from the start.
pub const PRESETS: [&str; 7] = ["password", "login", "scan", "notfound", "limited", "doors", "logins"];

/// What is asked for by those who look for holes, and by nobody else. An app that has such a place answers it, and only
/// answers that it is not there count.
const PROBES: [&str; 9] = [
    r"(?i)/\.(env|git|svn|hg|aws|ssh|docker|ds_store|htpasswd|htaccess|vscode|npmrc)(\W|$)",
    r"(?i)/(wp-login|wp-config|xmlrpc|setup-config|wlwmanifest|phpinfo|info|shell|eval-stdin|adminer|c99|r57)\.(php|xml)",
    r"(?i)^/(wp-admin|wp-content|wp-includes|phpmyadmin|pma|myadmin|cgi-bin|boaform|hnap1|solr|jenkins|manager/html)(/|$)",
    r"(?i)^/(actuator|vendor/phpunit|_ignition|telescope|autodiscover|owa|ecp|geoserver|druid|nacos)(/|$)",
    r"(?i)\.(sql|bak|old|swp|pem|key)$",
    r"(?i)\.(aspx?|jspx?|cgi|php[0-9]?)$",
    r"(?i)/etc/(passwd|shadow)",
    r"\.\./",
    r"(?i)(select.+from|union.+select|<script|\$\{jndi:)",
];

/// Paths of log-ins.
const LOGINS: &str =
    r"(?i)/(log-?in|sign-?in|auth|authenticate|sessions?|token|password|wp-login\.php|user/login)(/|\.|$)";

/// The jail called `name` that is there from the start.
pub fn preset(name: &str) -> Option<JailConfig> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let base = JailConfig { name: name.to_owned(), ..JailConfig::default() };
    Some(match name {
        "password" => JailConfig { status: texts(&["401"]), authorization: true, max_retry: 10, ..base },
        "login" => JailConfig { methods: texts(&["POST"]), paths: texts(&[LOGINS]), ..base },
        "scan" => JailConfig {
            status: texts(&["400", "403", "404", "405", "410"]),
            paths: texts(&PROBES),
            max_retry: 3,
            ..base
        },
        "notfound" => JailConfig { status: texts(&["404"]), max_retry: 100, find_time: Span::mins(1), ..base },
        "limited" => JailConfig { status: texts(&["429"]), max_retry: 60, find_time: Span::mins(1), ..base },
        "doors" => JailConfig { status: texts(&["401", "403", "429"]), of: Whose::Doors, max_retry: 20, ..base },
        "logins" => JailConfig { of: Whose::Logins, max_retry: 10, ..base },
        _ => return None,
    })
}
