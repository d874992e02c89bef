//! Who the client really is, when proxies stand in front of this server.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;

use super::head::{X_FORWARDED_FOR, X_FORWARDED_PROTO};
pub use crate::base::network::Network;

/// Most hops looked at, from the right; a longer list is somebody playing.
const MAX_HOPS: usize = 32;

/// The client behind the connection, and whether it spoke TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The rightmost address that is no trusted proxy. The port is 0 when a proxy did not tell it.
    pub address: SocketAddr,
    /// Whether the client's own connection is encrypted.
    pub secure: bool,
    /// Whether the connection's other end is a trusted proxy.
    pub proxied: bool,
}

impl Client {
    /// Reads the client off a request that came from `peer`.
    ///
    /// Only when `peer` is trusted are the headers looked at: `Forwarded` (RFC 7239) if present, else
    /// `X-Forwarded-For`. The walk goes from right to left, since everything left of the last trusted proxy's own entry
    /// is the client's to invent.
    pub fn behind(peer: SocketAddr, secure: bool, trusted: &[Network], headers: &HeaderMap) -> Self {
        let direct = Self { address: peer, secure, proxied: false };
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        if trusted.is_empty() || !is_trusted(peer.ip()) {
            return direct;
        }
        let mut found = Self { proxied: true, ..direct };
        for (address, hop_secure) in hops(headers).into_iter().rev() {
            found.address = address;
            found.secure = hop_secure.unwrap_or(found.secure);
            if !is_trusted(address.ip()) {
                break;
            }
        }
        found
    }
}

/// The chain the headers tell, oldest first, cut at the first entry from the right that is no address.
fn hops(headers: &HeaderMap) -> Vec<(SocketAddr, Option<bool>)> {
    let forwarded = joined(headers, &FORWARDED);
    let mut chain = Vec::new();
    if forwarded.is_empty() {
        let proto = joined(headers, &X_FORWARDED_PROTO);
        let secure = proto.last().and_then(|proto| scheme(proto));
        for entry in joined(headers, &X_FORWARDED_FOR).iter().rev().take(MAX_HOPS) {
            let Some(address) = node(entry) else { break };
            chain.push((address, secure));
        }
    } else {
        for entry in forwarded.iter().rev().take(MAX_HOPS) {
            let mut address = None;
            let mut secure = None;
            for pair in entry.split(';') {
                match pair.trim().split_once('=') {
                    Some((name, value)) if name.eq_ignore_ascii_case("for") => address = node(value),
                    Some((name, value)) if name.eq_ignore_ascii_case("proto") => secure = scheme(value),
                    _ => {}
                }
            }
            let Some(address) = address else { break };
            chain.push((address, secure));
        }
    }
    chain.reverse();
    chain
}

/// The comma-separated entries of all lines of `name`, in order.
fn joined<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.to_str().unwrap_or("").split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .collect()
}

fn scheme(text: &str) -> Option<bool> {
    match text.trim().trim_matches('"') {
        scheme if scheme.eq_ignore_ascii_case("https") => Some(true),
        scheme if scheme.eq_ignore_ascii_case("http") => Some(false),
        _ => None,
    }
}

/// An address with or without port: `1.2.3.4`, `1.2.3.4:5`, `2001:db8::1`, `"[2001:db8::1]:5"`.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim().trim_matches('"');
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip| SocketAddr::new(ip, 0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn behind(peer: &str, trusted: &[&str], lines: &[(&'static str, &'static str)]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let client = Client::behind(SocketAddr::new(peer.parse().unwrap(), 9), false, &trusted, &headers);
        (client.address.ip().to_string(), client.secure)
    }

    #[test]
    fn headers_of_strangers_are_not_believed() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")];
        assert_eq!(behind("9.9.9.9", &[], &lines), ("9.9.9.9".to_owned(), false));
        assert_eq!(behind("9.9.9.9", &["10.0.0.0/8"], &lines), ("9.9.9.9".to_owned(), false));
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_address() {
        let trusted = ["10.0.0.0/8"];
        for (lines, client) in [
            (vec![("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.7")], "1.2.3.4"),
            (vec![("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")], "1.2.3.4"),
            (vec![("x-forwarded-for", "10.0.0.9, 10.0.0.7")], "10.0.0.9"),
            (vec![("x-forwarded-for", "1.2.3.4, unknown, 10.0.0.7")], "10.0.0.7"),
            (vec![("x-forwarded-for", "garbage")], "10.0.0.1"),
            (vec![("forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:99\";proto=https")], "2001:db8::7"),
            (vec![("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "6.6.6.6")], "1.2.3.4"),
            (vec![], "10.0.0.1"),
        ] {
            assert_eq!(behind("10.0.0.1", &trusted, &lines).0, client, "{lines:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_tells_whether_the_client_spoke_tls() {
        let lines = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert!(behind("10.0.0.1", &["10.0.0.0/8"], &lines).1);
        assert!(behind("10.0.0.1", &["10.0.0.0/8"], &[("forwarded", "for=1.2.3.4;proto=https")]).1);
    }

    proptest::proptest! {
        #[test]
        fn no_header_brings_the_walk_down(forwarded in "[ -~]{0,80}", list in "[ -~]{0,80}") {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", HeaderValue::from_str(&forwarded).unwrap());
            headers.insert("x-forwarded-for", HeaderValue::from_str(&list).unwrap());
            let peer: SocketAddr = "10.0.0.1:1".parse().unwrap();
            let client = Client::behind(peer, false, &["10.0.0.0/8".parse().unwrap()], &headers);
            proptest::prop_assert!(client.proxied);
        }
    }
}
