//! Where an app listens, as settings name it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::host::Host;

/// Longest path of a Unix socket (`sun_path` without its end, unix(7)).
const LONGEST_SOCKET: usize = 107;

/// An app's address: `http://host:port`, where the scheme may be left out, or `unix:/path`. TLS to an app is not spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A TCP port.
    Tcp {
        /// Name or address to connect to, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket's whole path.
    Unix(PathBuf),
}

/// A text is no upstream address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form http://host:port or unix:/path")]
pub struct BadUpstream;

impl FromStr for Upstream {
    type Err = BadUpstream;

    fn from_str(text: &str) -> Result<Self, BadUpstream> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            let whole = path.starts_with('/') && path.len() <= LONGEST_SOCKET && !path.contains('\0');
            return if whole { Ok(Self::Unix(path.into())) } else { Err(BadUpstream) };
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let host: Host = authority.parse().map_err(|_bad| BadUpstream)?;
        let port = match host.port() {
            Some(0) => return Err(BadUpstream),
            Some(port) => port,
            None if rest.len() == text.len() => return Err(BadUpstream),
            None => 80,
        };
        Ok(Self::Tcp { host: host.name().trim_matches(['[', ']']).to_owned(), port })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
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
            ("unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), shown);
        }
        let address: Upstream = "http://[::1]:3000".parse().unwrap();
        assert_eq!(address, Upstream::Tcp { host: "::1".to_owned(), port: 3000 });
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for text in
            ["", "3000", "app", "https://app", "http://app/base", "http://u@app", "app:0", "unix:x", "unix:", "app:x"]
        {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
