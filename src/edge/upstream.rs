//! Where an app listens, as settings name it.

use std::fmt;
use std::str::FromStr;

use super::host::Host;

/// An app's address: `http://host:port`. The scheme may be left out; TLS to an app is not spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
}

/// A text is no upstream address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form http://host:port")]
pub struct BadUpstream;

impl Upstream {
    /// Name or address to connect to, IPv6 without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, BadUpstream> {
        let text = text.trim();
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let host: Host = authority.parse().map_err(|_bad| BadUpstream)?;
        let port = match host.port() {
            Some(0) => return Err(BadUpstream),
            Some(port) => port,
            None if rest.len() == text.len() => return Err(BadUpstream),
            None => 80,
        };
        Ok(Self { host: host.name().to_owned(), port })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_short_or_full() {
        for (text, shown) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://localhost:3000/", "localhost:3000"),
            ("http://app", "app:80"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), shown);
        }
        assert_eq!("http://[::1]:3000".parse::<Upstream>().unwrap().host(), "::1");
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for text in ["", "3000", "app", "https://app", "http://app/base", "http://u@app", "app:0", "unix:/x", "app:x"] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
