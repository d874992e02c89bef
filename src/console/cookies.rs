//! The console's cookies: what they are called, read and written.
//!
//! Over TLS their names begin with `__Host-`, which browsers take from this very host only, with `Secure`, and for no
//! other: a neighbour under the same domain can neither read nor plant one. Plain HTTP (the loopback listener) cannot
//! have that prefix. All are `HttpOnly` and `SameSite=Lax`.

use axum::http::{HeaderMap, HeaderValue, header};

/// Longest value taken from a client, in bytes.
const VALUE_MAX: usize = 1024;

/// A cookie of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The token of a session.
    Session,
    /// A random name for a browser without a session, which its forms are bound to.
    Visitor,
    /// Dark or light, when chosen.
    Theme,
    /// One message for the next page.
    Flash,
    /// Marks of the users who logged in with this browser.
    Known,
}

impl Cookie {
    /// Its name on a connection that is `secure` or not.
    pub const fn name(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Session, true) => "__Host-mainstay-session",
            (Self::Session, false) => "mainstay-session",
            (Self::Visitor, true) => "__Host-mainstay-visitor",
            (Self::Visitor, false) => "mainstay-visitor",
            (Self::Theme, true) => "__Host-mainstay-theme",
            (Self::Theme, false) => "mainstay-theme",
            (Self::Flash, true) => "__Host-mainstay-flash",
            (Self::Flash, false) => "mainstay-flash",
            (Self::Known, true) => "__Host-mainstay-known",
            (Self::Known, false) => "mainstay-known",
        }
    }

    /// Its value in a request; `None` when it is absent, too long, or there twice.
    pub fn read(self, headers: &HeaderMap, secure: bool) -> Option<&str> {
        let name = self.name(secure);
        let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut found = lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(found, _)| *found == name)
            .map(|(_, value)| value);
        let first = found.next().filter(|value| !value.is_empty() && value.len() <= VALUE_MAX);
        first.filter(|_| found.next().is_none())
    }

    /// The header that sets it to `value` (letters, digits and `-_.` only), for `seconds` or, with `None`, until the
    /// browser is closed.
    pub fn set(self, value: &str, seconds: Option<u64>, secure: bool) -> Option<HeaderValue> {
        let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let name = self.name(secure);
        let age = seconds.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let only = if secure { "; Secure" } else { "" };
        let line = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{only}{age}");
        HeaderValue::from_str(&line).ok().filter(|_| plain)
    }

    /// The header that removes it.
    pub fn clear(self, secure: bool) -> Option<HeaderValue> {
        self.set("", Some(0), secure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn over_tls_only_host_cookies_count() {
        let both = request("mainstay-session=planted; __Host-mainstay-session=mine");
        assert_eq!(Cookie::Session.read(&both, true), Some("mine"));
        assert_eq!(Cookie::Session.read(&request("mainstay-session=planted"), true), None);
        assert_eq!(Cookie::Session.read(&request("a=b; mainstay-session=mine"), false), Some("mine"));
    }

    #[test]
    fn a_cookie_given_twice_is_none() {
        assert_eq!(Cookie::Session.read(&request("mainstay-session=a; mainstay-session=b"), false), None);
        let long = format!("mainstay-session={}", "x".repeat(VALUE_MAX + 1));
        assert_eq!(Cookie::Session.read(&request(&long), false), None);
    }

    #[test]
    fn scripts_never_see_a_cookie() {
        let line = Cookie::Session.set("token", Some(60), true).unwrap();
        let expected = "__Host-mainstay-session=token; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60";
        assert_eq!(line.to_str().unwrap(), expected);
        assert!(Cookie::Theme.set("dark", None, false).unwrap().to_str().unwrap().ends_with("HttpOnly; SameSite=Lax"));
        assert_eq!(Cookie::Flash.set("a; Domain=evil", None, false), None);
    }
}
