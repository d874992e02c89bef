//! The security headers a site's responses get where the app set none.

use http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, Entry, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::config::SecurityConfig;
use super::error::ConfigError;
use super::head;
use super::host::Host;

/// What `strict` sends beside or in place of `edge.security`.
const STRICT: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "browsing-topics=(), camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Usual values. Copies of them cost nothing; those of others are counted, by all workers in one place.
const USUAL: [&str; 6] =
    ["nosniff", "SAMEORIGIN", "DENY", "strict-origin-when-cross-origin", "no-referrer", "browsing-topics=()"];

/// `text` as a header's value, if it can be one.
fn value_of(text: &str) -> Option<HeaderValue> {
    let usual = USUAL.iter().find(|usual| **usual == text);
    usual.map(|usual| HeaderValue::from_static(usual)).or_else(|| HeaderValue::from_str(text).ok())
}

/// A set of security headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// What `edge.security` says.
    #[default]
    Standard,
    /// For apps that load everything from themselves.
    Strict,
}

/// The preset, ready to be copied into responses.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    always: Vec<(HeaderName, HeaderValue)>,
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// The headers `config` names. Values that are no header values were refused by
    /// [`EdgeConfig::validate`](super::EdgeConfig::validate).
    pub fn new(config: &SecurityConfig) -> Self {
        let always = [
            (X_CONTENT_TYPE_OPTIONS, &config.content_type_options),
            (X_FRAME_OPTIONS, &config.frame_options),
            (REFERRER_POLICY, &config.referrer_policy),
            (HeaderName::from_static("permissions-policy"), &config.permissions_policy),
            (CONTENT_SECURITY_POLICY, &config.content_security_policy),
            (CONTENT_SECURITY_POLICY_REPORT_ONLY, &config.content_security_policy_report_only),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name, value_of(value)?)))
        .collect();
        let seconds = config.hsts.duration().as_secs();
        let subdomains = if config.hsts_subdomains { "; includeSubDomains" } else { "" };
        let hsts = HeaderValue::from_str(&format!("max-age={seconds}{subdomains}")).ok().filter(|_| seconds > 0);
        Self { always, hsts }
    }

    /// The same with what `strict` asks for. A policy the settings name for all sites stays.
    #[must_use]
    pub fn strict(&self) -> Self {
        let mut strict = self.clone();
        for (name, value) in STRICT {
            let name = HeaderName::from_static(name);
            let own_policy = name == CONTENT_SECURITY_POLICY && self.always.iter().any(|(known, _)| *known == name);
            if !own_policy {
                strict.always.retain(|(known, _)| *known != name);
                strict.always.push((name, HeaderValue::from_static(value)));
            }
        }
        strict
    }

    /// Adds what is missing to a response for `host`; `secure` tells whether the client came over TLS.
    pub fn add(&self, headers: &mut HeaderMap, host: &Host, secure: bool) {
        for (name, value) in &self.always {
            if let Entry::Vacant(place) = headers.entry(name) {
                place.insert(value.clone());
            }
        }
        if let Some(hsts) = &self.hsts
            && secure
            && !host.is_local()
            && !headers.contains_key(STRICT_TRANSPORT_SECURITY)
        {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

/// A change of one header.
#[derive(Clone, Debug)]
pub struct Override {
    name: HeaderName,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Set(HeaderValue),
    Add(HeaderValue),
    Remove,
}

impl Override {
    /// Which header.
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The change in words; a value may be a secret and is left out.
    pub fn describe(&self) -> String {
        match &self.change {
            Change::Set(_) => format!("{} is set", self.name),
            Change::Add(_) => format!("{} is added", self.name),
            Change::Remove => format!("{} is taken out", self.name),
        }
    }
}

/// Reads `Name: value` lines: without a value the header is taken out, with a `+` in front another one is added.
///
/// # Errors
/// A line that is no header, or one that this server alone may write.
pub fn overrides(key: &'static str, lines: &[String]) -> Result<Vec<Override>, ConfigError> {
    let read = |line: &String| {
        let (name, value) = line.split_once(':')?;
        let (name, adds) = name.trim().strip_prefix('+').map_or((name.trim(), false), |name| (name, true));
        let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !head::is_framing(name))?;
        let value = value.trim();
        let change = match (value.is_empty(), adds) {
            (true, true) => return None,
            (true, false) => Change::Remove,
            (false, true) => Change::Add(HeaderValue::from_str(value).ok()?),
            (false, false) => Change::Set(HeaderValue::from_str(value).ok()?),
        };
        Some(Override { name, change })
    };
    let wrong = |line: &String| ConfigError::Value {
        key,
        value: line.clone(),
        allowed: "`Name: value` in plain ASCII, of a header that is not about the connection".to_owned(),
    };
    lines.iter().map(|line| read(line).ok_or_else(|| wrong(line))).collect()
}

/// Writes `overrides` into a head. Lines of one name come together.
pub fn apply(overrides: &[Override], headers: &mut HeaderMap) {
    for (at, one) in overrides.iter().enumerate() {
        let set = |other: &Override| other.name == one.name && matches!(other.change, Change::Set(_));
        let again = overrides.iter().take(at).any(set);
        match &one.change {
            Change::Set(value) if again => drop(headers.append(&one.name, value.clone())),
            Change::Set(value) => drop(headers.insert(&one.name, value.clone())),
            Change::Add(value) => drop(headers.append(&one.name, value.clone())),
            Change::Remove => drop(headers.remove(&one.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(config: &SecurityConfig, host: &str, secure: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        SecurityHeaders::new(config).add(&mut headers, &host.parse().unwrap(), secure);
        headers
    }

    #[test]
    fn the_apps_own_headers_win() {
        let headers = added(&SecurityConfig::default(), "example.com", true);
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=15552000");
    }

    #[test]
    fn hsts_is_for_domains_over_tls_only() {
        for (host, secure) in [("example.com", false), ("localhost", true), ("127.0.0.1:8443", true), ("[::1]", true)] {
            let headers = added(&SecurityConfig::default(), host, secure);
            assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY), "{host}");
        }
    }

    #[test]
    fn an_empty_text_leaves_a_header_out() {
        let config = SecurityConfig {
            content_type_options: String::new(),
            hsts: crate::base::Span::secs(0),
            ..SecurityConfig::default()
        };
        let headers = added(&config, "example.com", true);
        assert!(!headers.contains_key(X_CONTENT_TYPE_OPTIONS) && !headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn strict_takes_the_place_of_the_standard_but_not_of_a_policy_of_ones_own() {
        let mut config = SecurityConfig::default();
        let strict = |config: &SecurityConfig| {
            let mut headers = HeaderMap::new();
            SecurityHeaders::new(config).strict().add(&mut headers, &"example.com".parse().unwrap(), true);
            headers
        };
        let headers = strict(&config);
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'self'"));
        config.content_security_policy = "default-src 'none'".to_owned();
        assert_eq!(strict(&config)[CONTENT_SECURITY_POLICY], "default-src 'none'");
    }

    #[test]
    fn overrides_set_append_and_remove() {
        let lines = ["Server:", "Link: <a>", "Link: <b>", "X-A: 1", "+Vary: b"].map(str::to_owned);
        let mut headers = HeaderMap::new();
        for name in ["server", "link", "x-a", "vary"] {
            headers.insert(name, HeaderValue::from_static("app"));
        }
        apply(&overrides("k", &lines).unwrap(), &mut headers);
        assert!(!headers.contains_key("server"));
        assert_eq!(headers.get_all("link").iter().collect::<Vec<_>>(), ["<a>", "<b>"]);
        assert_eq!(headers["x-a"], "1");
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["app", "b"]);
    }
}
