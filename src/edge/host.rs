//! Host names as requests bring them (RFC 9110 section 7.2) and as sites name them.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The one host a request names, checked: `name`, `1.2.3.4` or `[::1]`, with or without a port, never with user info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As the client wrote it, which is what the app gets to see.
    text: String,
    /// For comparing: lower case, without port and final dot.
    name: String,
    port: Option<u16>,
}

/// A request's host is missing parts or has ones it must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed host")]
pub struct BadHost;

impl Host {
    /// As the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Lower case, without port and final dot; an IPv6 address keeps its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, when one was written.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether this is an IP address or `localhost`, where promises about a domain make no sense.
    pub fn is_local(&self) -> bool {
        self.is_address() || self.name == "localhost" || self.name.ends_with(".localhost")
    }

    /// Whether this is an IP address.
    pub fn is_address(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<IpAddr>().is_ok()
    }

    /// Whether both name the same host and port.
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name && self.port == other.port
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let (name, rest) = if let Some(bracketed) = text.strip_prefix('[') {
            let (inside, rest) = bracketed.split_once(']').ok_or(BadHost)?;
            let _: Ipv6Addr = inside.parse().map_err(|_no_address| BadHost)?;
            (format!("[{}]", inside.to_ascii_lowercase()), rest)
        } else {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let name = name.strip_suffix('.').unwrap_or(name);
            if !is_name(name) {
                return Err(BadHost);
            }
            (name.to_ascii_lowercase(), rest)
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_too_big| BadHost)?)
            }
            _ => return Err(BadHost),
        };
        Ok(Self { text: text.to_owned(), name, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `name` is a host name of at most 253 bytes whose labels have 1 to 63 letters, digits, `-` and `_`.
pub fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What hosts a site answers: `example.com`, or `*.example.com` for everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One name.
    Exact(String),
    /// Every name that ends in this text, which begins with a dot.
    Below(String),
}

impl Pattern {
    /// Whether `host` is meant.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Exact(name) => *name == host.name,
            Self::Below(suffix) => host.name.ends_with(suffix.as_str()),
        }
    }
}

impl FromStr for Pattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(domain) = text.strip_prefix("*.") {
            return if is_name(domain) { Ok(Self::Below(format!(".{domain}"))) } else { Err(BadHost) };
        }
        let host: Host = text.parse()?;
        if host.port.is_some() { Err(BadHost) } else { Ok(Self::Exact(host.name)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_port_and_final_dot() {
        for (text, name, port) in [
            ("Example.COM", "example.com", None),
            ("example.com.", "example.com", None),
            ("example.com:8443", "example.com", Some(8443)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.name(), host.port(), host.as_str()), (name, port, text));
        }
    }

    #[test]
    fn malformed_hosts_are_refused() {
        for text in [
            "",
            ":",
            ":80",
            "a b",
            "user@host",
            "a:b",
            "a:",
            "a:99999",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[x]",
            "a..b",
            ".a",
            "a/b",
            "a\\b",
            "a%2eb",
            "a,b",
            "a?b",
            "a#b",
            "é",
            "[::1]:",
            "a:+1",
            "[::1]]:1",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_a_name_or_everything_below_one() {
        assert_eq!("*.Example.com".parse(), Ok(Pattern::Below(".example.com".to_owned())));
        assert_eq!("example.com".parse(), Ok(Pattern::Exact("example.com".to_owned())));
        for text in ["*", "*.", "a.*", "*a.b", "*.*.a", "a:80"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_host_or_refused_and_a_host_parses_from_itself(text in "\\PC{0,40}") {
            if let Ok(host) = text.parse::<Host>() {
                proptest::prop_assert_eq!(host.as_str().parse::<Host>().unwrap(), host.clone());
                proptest::prop_assert!(!host.name().contains(['@', '/', ' ']));
            }
        }
    }
}
