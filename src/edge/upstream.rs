//! Where an app listens and what it speaks, as settings name it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::host::Host;

/// Longest path of a Unix socket (`sun_path` without its end, unix(7)).
const LONGEST_SOCKET: usize = 107;

/// What an app's address looks like, for messages.
pub const SHAPE: &str =
    "http://host:port, https://host, h2c://host:port, h2://host or unix:/path, such as http://127.0.0.1:3000";

/// An app's address: `http://host:port`, where the scheme may be left out, `https://host`, `h2c://host:port`, `h2://host`
/// or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Where it listens.
    pub place: Place,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
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

/// What an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 from the first byte (RFC 9113 section 3.3).
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl Protocol {
    /// Whether there is TLS around it.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether it is HTTP/2.
    pub const fn is_multiplexed(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
            Self::H2c => "h2c://",
            Self::H2 => "h2://",
        }
    }
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
            let place = whole.then(|| Place::Unix(path.into())).ok_or(BadUpstream)?;
            return Ok(Self { place, protocol: Protocol::Http });
        }
        let spoken = [Protocol::Http, Protocol::Https, Protocol::H2c, Protocol::H2];
        let named = spoken.iter().find_map(|protocol| Some((*protocol, text.strip_prefix(protocol.scheme())?)));
        let (protocol, rest) = named.unwrap_or((Protocol::Http, text));
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let host: Host = authority.parse().map_err(|_bad| BadUpstream)?;
        let port = match host.port() {
            Some(0) => return Err(BadUpstream),
            Some(port) => port,
            None if named.is_none() => return Err(BadUpstream),
            None if protocol.is_secure() => 443,
            None => 80,
        };
        Ok(Self { place: Place::Tcp { host: host.name().trim_matches(['[', ']']).to_owned(), port }, protocol })
    }
}

impl Upstream {
    /// What `Host` names when the app's own name is meant; the port is left out where it goes without saying. A Unix
    /// socket has none but `localhost`.
    pub fn authority(&self) -> String {
        match (&self.place, self.protocol.is_secure()) {
            (Place::Tcp { host, port: 443 }, true) | (Place::Tcp { host, port: 80 }, false) => bracketed(host),
            (Place::Tcp { host, port }, _) => format!("{}:{port}", bracketed(host)),
            (Place::Unix(_), _) => "localhost".to_owned(),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Tcp { host, port } => {
                let scheme = if self.protocol == Protocol::Http { "" } else { self.protocol.scheme() };
                write!(f, "{scheme}{}:{port}", bracketed(host))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_be_short_or_full() {
        for (text, shown, authority) in [
            ("127.0.0.1:3000", "127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://localhost:3000/", "localhost:3000", "localhost:3000"),
            ("http://app", "app:80", "app"),
            ("http://[::1]:3000", "[::1]:3000", "[::1]:3000"),
            ("https://app.example", "https://app.example:443", "app.example"),
            ("https://app.example:8443/", "https://app.example:8443", "app.example:8443"),
            ("h2c://127.0.0.1:50051", "h2c://127.0.0.1:50051", "127.0.0.1:50051"),
            ("h2://grpc.example", "h2://grpc.example:443", "grpc.example"),
            ("unix:/run/app.sock", "unix:/run/app.sock", "localhost"),
        ] {
            let upstream = text.parse::<Upstream>().unwrap();
            assert_eq!((upstream.to_string().as_str(), upstream.authority().as_str()), (shown, authority), "{text}");
            assert_eq!(shown.parse::<Upstream>().unwrap(), upstream, "{text}");
        }
        let address: Upstream = "http://[::1]:3000".parse().unwrap();
        assert_eq!(address.place, Place::Tcp { host: "::1".to_owned(), port: 3000 });
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        for text in [
            "",
            "3000",
            "app",
            "ftp://app",
            "https://",
            "https://app/base",
            "http://app/base",
            "http://u@app",
            "app:0",
            "unix:x",
            "unix:",
            "app:x",
        ] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
