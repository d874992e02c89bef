//! Which key a request carries. Four carriers are in use, and SDKs differ in which (develop.sentry.dev,
//! "Authentication"):
//!
//! ```text
//! X-Sentry-Auth: Sentry sentry_key=…, sentry_version=7, sentry_client=…      Python, Rust, the command line
//! Authorization: Sentry sentry_key=…                                         old SDKs
//! ?sentry_key=…&sentry_version=7                                             JavaScript
//! {"dsn":"http://<key>@host/1"} in the envelope's header                     JavaScript through a tunnel
//! ```
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use http::HeaderMap;

use crate::http::uri;

/// Bytes of a key.
const KEY: usize = 32;

/// Parameters of one query or header looked at.
const PARAMETERS_MAX: usize = 64;

/// The key in the request's head: header first, then query. Other parameters, raven's `sentry_secret` among them, are
/// ignored.
pub fn from_head(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).and_then(from_header);
    named("x-sentry-auth").or_else(|| named("authorization")).or_else(|| from_query(query?))
}

/// The key in the value of a header.
fn from_header(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("sentry") {
        return None;
    }
    let pairs = rest.split(',').take(PARAMETERS_MAX).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == "sentry_key").find_map(|(_, value)| key(value.trim_matches('"')))
}

/// The key in a query. The first one counts: the rest of the query is nobody's business here.
fn from_query(query: &str) -> Option<String> {
    let pairs = query.split('&').take(PARAMETERS_MAX).filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| *name == "sentry_key").map(|(_, value)| value).next()?;
    key(&uri::decode_query(value).ok()?)
}

/// The key in a DSN, `http://<key>[:<secret>]@host[:port][/path]/<project>`.
pub fn from_dsn(dsn: &str) -> Option<String> {
    let (_, rest) = dsn.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    key(user.split_once(':').map_or(user, |(key, _)| key))
}

/// A key is 32 hexadecimal digits; JavaScript's SDK takes no other.
fn key(text: &str) -> Option<String> {
    let fits = text.len() == KEY && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A_KEY: &str = "0123456789abcdef0123456789abcdef";

    fn head(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn every_carrier_in_use_is_read() {
        let auth = format!("Sentry sentry_key={A_KEY}, sentry_version=7, sentry_client=sentry.python/2.75.0");
        assert_eq!(from_head(&head("x-sentry-auth", &auth), None).as_deref(), Some(A_KEY));
        assert_eq!(from_head(&head("authorization", &auth), None).as_deref(), Some(A_KEY));
        let query = format!("sentry_version=7&sentry_key={A_KEY}&sentry_client=sentry.javascript.node%2F11.12.0");
        assert_eq!(from_head(&HeaderMap::new(), Some(&query)).as_deref(), Some(A_KEY));
        assert_eq!(from_dsn(&format!("http://{A_KEY}@localhost:8000/1")).as_deref(), Some(A_KEY));
        assert_eq!(from_dsn(&format!("http://{A_KEY}:secret@localhost/errors/1")).as_deref(), Some(A_KEY));
    }

    #[test]
    fn ravens_secret_and_order_do_not_matter() {
        let auth = format!("Sentry sentry_secret=x, sentry_timestamp=1,sentry_key={A_KEY}, sentry_version=6");
        assert_eq!(from_head(&head("x-sentry-auth", &auth), None).as_deref(), Some(A_KEY));
    }

    #[test]
    fn other_texts_are_no_key() {
        assert_eq!(from_head(&head("authorization", "Bearer sentry_key=abc"), None), None);
        assert_eq!(from_head(&head("x-sentry-auth", "Sentry sentry_key=short"), Some("sentry_key=%zz")), None);
        assert_eq!(from_dsn("not a dsn"), None);
    }

    proptest! {
        #[test]
        fn any_header_and_query_is_read_or_ignored(header in "\\PC{0,80}", query in "\\PC{0,80}") {
            if let Some(key) = from_header(&header).or_else(|| from_query(&query)).or_else(|| from_dsn(&query)) {
                prop_assert_eq!(key.len(), KEY);
            }
        }
    }
}
