//! What a stored answer is found by: site, scheme, host, path and query, as the client asked.

use std::sync::Arc;

use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::super::host::Host;

/// Longest path and query under which anything is kept, in bytes.
pub const LONGEST: usize = 4096;

/// The place of answers. Nothing with another key is ever used for a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The site, so that one whose settings end the cache has nothing left here.
    pub site: Arc<str>,
    secure: bool,
    /// With its port, if one was asked for.
    pub host: Box<str>,
    /// The host that a proxy in front says it was asked for, when that is another one: apps write it into pages.
    shown: Option<Box<str>>,
    /// Path and query.
    pub target: Box<str>,
}

/// A key as it is written to disk, without its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    secure: bool,
    host: String,
    shown: Option<String>,
    target: String,
}

impl Key {
    /// Its parts, for the disk.
    pub fn parts(&self) -> Parts {
        Parts {
            secure: self.secure,
            host: self.host.to_string(),
            shown: self.shown.as_deref().map(str::to_owned),
            target: self.target.to_string(),
        }
    }

    /// The key with these `parts`.
    pub fn from_parts(site: &Arc<str>, parts: Parts) -> Self {
        let Parts { secure, host, shown, target } = parts;
        Self { site: Arc::clone(site), secure, host: host.into(), shown: shown.map(Into::into), target: target.into() }
    }

    /// The key of a request. `shown` is what the app is told as the host asked for.
    pub fn of(site: &Arc<str>, secure: bool, host: &Host, shown: Option<&HeaderValue>, target: &str) -> Self {
        let shown = shown.filter(|shown| shown.as_bytes() != host.as_str().as_bytes());
        let shown = shown.map(|shown| String::from_utf8_lossy(shown.as_bytes()).into());
        let host = host.port().map_or_else(|| host.name().into(), |port| format!("{}:{port}", host.name()).into());
        Self { site: Arc::clone(site), secure, host, shown, target: target.into() }
    }

    /// Whether a request for `target` on `host` is written as browsers write it: no upper case and no final dot in the name,
    /// which an app may write into its pages, and not very long.
    pub fn is_plain(host: &Host, target: &str) -> bool {
        let port = host.as_str().strip_prefix(host.name());
        let named = port.is_some_and(|port| port.is_empty() || port.starts_with(':'));
        named && target.len() <= LONGEST && target.starts_with('/')
    }

    /// The same place under the other scheme.
    pub fn twin(&self) -> Self {
        Self { secure: !self.secure, ..self.clone() }
    }

    /// The key of `target` of `site` on the same host.
    pub fn beside(&self, site: &Arc<str>, target: &str) -> Self {
        Self { site: Arc::clone(site), target: target.into(), ..self.clone() }
    }

    /// Path and query that `reference` (a `Location`) means, if it is on the same host and under the same scheme (RFC 9111
    /// section 4.4).
    pub fn same_origin(&self, reference: &HeaderValue) -> Option<String> {
        let text = reference.to_str().ok()?.split('#').next()?.trim();
        if let Some((scheme, rest)) = text.split_once("://")
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            if !scheme.eq_ignore_ascii_case(if self.secure { "https" } else { "http" }) {
                return None;
            }
            return self.on_this_host(rest);
        }
        if let Some(rest) = text.strip_prefix("//") {
            return self.on_this_host(rest);
        }
        if text.starts_with('/') {
            return Some(text.to_owned());
        }
        let path = self.target.split('?').next().unwrap_or_default();
        if text.is_empty() {
            return Some(self.target.to_string());
        }
        if text.starts_with('?') {
            return Some(format!("{path}{text}"));
        }
        let (folder, _) = path.rsplit_once('/')?;
        Some(without_dots(&format!("{folder}/{text}")))
    }

    /// What comes after the host in `rest`, if that is this one.
    fn on_this_host(&self, rest: &str) -> Option<String> {
        let uri: Uri = format!("http://{rest}").parse().ok()?;
        let host: Host = uri.authority()?.as_str().parse().ok()?;
        let plain = if self.secure { 443 } else { 80 };
        let is = |text: &str| {
            let own = text.parse::<Host>().ok();
            own.is_some_and(|own| {
                own.name() == host.name() && own.port().unwrap_or(plain) == host.port().unwrap_or(plain)
            })
        };
        let same = is(&self.host) || self.shown.as_deref().is_some_and(is);
        same.then(|| uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned())
    }

    /// Whether `host`, without a port, was asked for.
    pub fn is_of(&self, host: &str) -> bool {
        let is = |text: &str| text.parse::<Host>().is_ok_and(|own| own.name() == host);
        is(&self.host) || self.shown.as_deref().is_some_and(is)
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> u64 {
        let shown = self.shown.as_ref().map_or(0, |shown| shown.len());
        self.host.len().saturating_add(shown).saturating_add(self.target.len()) as u64
    }
}

/// `path` (and query) with its `.` and `..` resolved.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(host: &str, shown: Option<&'static str>, target: &str) -> Key {
        let site: Arc<str> = "example.com/".into();
        let shown = shown.map(HeaderValue::from_static);
        Key::of(&site, true, &host.parse().unwrap(), shown.as_ref(), target)
    }

    #[test]
    fn whatever_differs_makes_another_key() {
        let one = key("example.com", Some("example.com"), "/a?b");
        assert_eq!(one, key("example.com", None, "/a?b"));
        for other in [
            key("www.example.com", None, "/a?b"),
            key("example.com:8443", None, "/a?b"),
            key("example.com", Some("evil.example"), "/a?b"),
            key("example.com", None, "/a"),
            key("example.com", None, "/a?B"),
            key("example.com", None, "/%61?b"),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(one, one.twin());
        assert_ne!(one, one.beside(&"example.com/x".into(), "/a?b"));
        assert!(key("[::1]:8443", None, "/a").is_of("[::1]"));
    }

    #[test]
    fn only_what_browsers_write_is_plain() {
        let plain = |host: &str, target: &str| Key::is_plain(&host.parse().unwrap(), target);
        assert!(plain("example.com", "/a?b") && plain("example.com:8443", "/") && plain("[::1]:8443", "/"));
        assert!(!plain("Example.com", "/") && !plain("example.com.", "/") && !plain("example.com", "*"));
        assert!(!plain("example.com", &"/a".repeat(4096)));
    }

    #[test]
    fn what_a_location_means_is_found_on_the_same_host_alone() {
        let key = key("example.com", None, "/shop/cart?x");
        for (location, target) in [
            ("/orders/1", Some("/orders/1")),
            ("https://example.com/orders/1?y#z", Some("/orders/1?y")),
            ("https://EXAMPLE.com:443/a", Some("/a")),
            ("https://example.com", Some("/")),
            ("//example.com/a", Some("/a")),
            ("item", Some("/shop/item")),
            ("../a/./b?..", Some("/a/b?..")),
            ("?y", Some("/shop/cart?y")),
            ("", Some("/shop/cart?x")),
            ("http://example.com/a", None),
            ("https://other.example/a", None),
            ("https://example.com:444/a", None),
            ("//other.example/a", None),
        ] {
            let found = key.same_origin(&HeaderValue::from_str(location).unwrap());
            assert_eq!(found.as_deref(), target, "{location}");
        }
    }
}
