//! Message heads: what is refused, what is dropped, what is written anew.
//!
//! hyper parses, but does not judge for a proxy: it hands on `Transfer-Encoding: gzip, chunked`, a missing or second
//! `Host`, and every header the `Connection` field names. All of that is decided here, once, and nowhere else.
//!
//! Framing is never copied. The app receives a body's length or chunks as this server counted them, so that no two
//! readings of a client's framing headers can exist behind it. (`Content-Length` beside `Transfer-Encoding`: hyper
//! drops the length, reads chunks and closes the connection after the answer, as RFC 9112 section 6.1 asks; the app
//! sees chunks only. A `Content-Length` given twice with different values, a `Transfer-Encoding` that does not end in
//! `chunked` or comes with HTTP/1.0, a space before a colon, folded lines and NUL never get past hyper: 400.)
//!
//! Going to the app: `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`, `X-Real-IP` and `Forwarded` hold one value each,
//! this server's own finding; `Via` gets an entry (RFC 9110 section 7.6.3), which also tells a loop. Responses get none.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TRANSFER_ENCODING, UPGRADE, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::client::Client;
use super::host::Host;

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields that concern one connection only (RFC 9110 section 7.6.1), in either direction. `Trailer` stays: it announces
/// fields that are passed on.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "proxy-authenticate",
    "proxy-authorization",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

/// Fields of a request that this server writes itself or answers itself.
const WRITTEN_HERE: [&str; 3] = ["content-length", "expect", "x-real-ip"];

/// Names that begin like this are dropped: the first are this server's to write, the second a proxy's own
/// (and `Proxy` alone becomes the variable `HTTP_PROXY` in CGI), the others tell of a certificate that was checked here.
const DROPPED_PREFIXES: [&str; 4] = ["x-forwarded-", "proxy", "client-cert", "x-client-cert"];

/// What this server calls itself in `Via`.
const PSEUDONYM: &str = "mainstay";
/// A request that has come through here this often is going in circles.
const MAX_PASSES: usize = 5;

/// Why a request is answered here, without asking the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No host, or an empty one.
    HostMissing,
    /// More than one `Host` line.
    HostTwice,
    /// A host that is none.
    HostMalformed,
    /// `Host` and the target or `:authority` differ.
    HostMismatch,
    /// A transfer coding other than one `chunked`.
    TransferEncoding,
    /// A target that is neither a path, nor an address of the host, nor `*` with OPTIONS.
    Target,
    /// A path with two readings (see [`super::sites`]).
    Ambiguous,
    /// CONNECT, also in its extended form (RFC 8441), and TRACE.
    Method,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// `Via` says the request has been here before, again and again.
    Loop,
    /// A body longer than the site takes.
    TooLarge,
    /// The body stopped coming.
    BodyTimeout,
}

impl Refusal {
    /// Status, and a sentence for whoever wrote the client.
    pub const fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::HostMissing => (StatusCode::BAD_REQUEST, "The request names no host."),
            Self::HostTwice => (StatusCode::BAD_REQUEST, "The request has more than one Host header."),
            Self::HostMalformed => (StatusCode::BAD_REQUEST, "The request's host is malformed."),
            Self::HostMismatch => (StatusCode::BAD_REQUEST, "The request names two different hosts."),
            Self::TransferEncoding => {
                (StatusCode::NOT_IMPLEMENTED, "The only transfer coding understood here is chunked, once.")
            }
            Self::Target => (StatusCode::BAD_REQUEST, "The request target is malformed."),
            Self::Ambiguous => (StatusCode::BAD_REQUEST, "The path means different places when normalised."),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "This method is not served here."),
            Self::Expectation => (StatusCode::EXPECTATION_FAILED, "The expectation is not understood."),
            Self::Loop => {
                (StatusCode::LOOP_DETECTED, "The request is going in circles: the app's address leads back here.")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large."),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "The request body stopped coming."),
        }
    }
}

/// Checks a request's head and finds the one host it names.
///
/// # Errors
/// The first [`Refusal`] that applies.
pub fn check(parts: &Parts) -> Result<Host, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    let host = host_of(parts)?;
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(first) = codings.next()
        && (!first.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(Refusal::TransferEncoding);
    }
    let path = parts.uri.path();
    if !(path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS)) {
        return Err(Refusal::Target);
    }
    let mut expectations = parts.headers.get_all(EXPECT).iter();
    if expectations.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    let passes = parts.headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok());
    if passes.map(|value| value.matches(PSEUDONYM).count()).sum::<usize>() >= MAX_PASSES {
        return Err(Refusal::Loop);
    }
    Ok(host)
}

/// `Host`, the target's authority or `:authority`: one of them, or several that agree (RFC 9112 section 3.2, RFC 9113
/// section 8.3.1).
fn host_of(parts: &Parts) -> Result<Host, Refusal> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::HostTwice);
    }
    let parse = |text: &str| {
        if text.is_empty() { Err(Refusal::HostMissing) } else { text.parse().map_err(|_bad| Refusal::HostMalformed) }
    };
    let named: Option<Host> = match line {
        Some(value) => Some(parse(value.to_str().map_err(|_bytes| Refusal::HostMalformed)?)?),
        None => None,
    };
    let target: Option<Host> = parts.uri.authority().map(|authority| parse(authority.as_str())).transpose()?;
    match (named, target) {
        (Some(named), Some(target)) if !named.same(&target) => Err(Refusal::HostMismatch),
        (None, Some(target)) if parts.version >= Version::HTTP_2 => Ok(target),
        (Some(named), _) => Ok(named),
        (None, _) => Err(Refusal::HostMissing),
    }
}

/// Whether the request asks to become a WebSocket (RFC 6455 section 4.1), the only upgrade passed on.
pub fn is_websocket(parts: &Parts) -> bool {
    let one = |name: HeaderName, token: &str| {
        parts
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && one(CONNECTION, "upgrade")
        && one(UPGRADE, "websocket")
}

/// Whether a field frames the message or concerns the connection, so that only this server may write it.
pub fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == HOST || HOP_BY_HOP.contains(&name.as_str())
}

/// Whether a field tells the app what this server found out about the client, so that only it may write it.
pub fn is_forwarding(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") || *name == FORWARDED || *name == X_REAL_IP || *name == VIA
}

/// Turns a client's head into what the app receives. `parts.headers` then holds no framing; the body's own length
/// decides. Returns how many headers with `_` in their name were dropped (they become the same variable as the name
/// with `-` in CGI-like apps, so `Content_Length` would pass for the real one).
pub fn for_upstream(parts: &mut Parts, host: &Host, client: &Client, websocket: bool) -> u64 {
    let told = if client.proxied { told_host(&parts.headers) } else { None };
    let shown = told.as_ref().unwrap_or(host);
    let headers = &mut parts.headers;
    let mut underscores: u64 = 0;

    strip(headers, |name| {
        let underscore = name.contains('_');
        underscores = underscores.saturating_add(u64::from(underscore));
        underscore || WRITTEN_HERE.contains(&name) || DROPPED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    });
    join_cookies(headers);

    if headers.get(HOST).is_none_or(|known| *known != *host.as_str()) {
        put(headers, HOST, host.as_str());
    }
    let ip = client.address.ip().to_canonical();
    let address = text_of(ip);
    let scheme = if client.secure { "https" } else { "http" };
    put(headers, X_FORWARDED_FOR, &address);
    put(headers, X_REAL_IP, &address);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    put(headers, X_FORWARDED_HOST, shown.as_str());
    match (shown.port(), client.secure) {
        (None, true) => drop(headers.insert(X_FORWARDED_PORT, HeaderValue::from_static("443"))),
        (None, false) => drop(headers.insert(X_FORWARDED_PORT, HeaderValue::from_static("80"))),
        (Some(port), _) => put(headers, X_FORWARDED_PORT, itoa::Buffer::new().format(port)),
    }
    put(headers, FORWARDED, &forwarded(ip, &address, shown.as_str(), scheme));
    headers.append(VIA, HeaderValue::from_static(via(parts.version)));
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    parts.version = Version::HTTP_11;
    underscores
}

/// Takes out of a response what concerns the connection to the app only. `Server` and `Date` stay the app's.
///
/// `upgraded` keeps the two fields that make a 101 one.
pub fn for_client(headers: &mut HeaderMap, upgraded: bool) {
    let upgrade = headers.get(UPGRADE).cloned().filter(|_| upgraded);
    strip(headers, |_| false);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
}

/// Removes the fields `Connection` names, those every proxy must remove, and those that are `unwanted`. One look at the names
/// that are there: looking for each that might be costs a hash of it.
fn strip(headers: &mut HeaderMap, mut unwanted: impl FnMut(&str) -> bool) {
    let is_hop_by_hop = |name: &[u8]| HOP_BY_HOP.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !is_hop_by_hop(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| unwanted(name.as_str()) || HOP_BY_HOP.contains(&name.as_str())).cloned().collect();
    for name in nominated.iter().chain(&gone) {
        headers.remove(name);
    }
}

/// HTTP/2 may split `Cookie` into crumbs, HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The host a trusted proxy says the client asked for.
fn told_host(headers: &HeaderMap) -> Option<Host> {
    headers.get_all(X_FORWARDED_HOST).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// One element of RFC 7239 for the client at `ip`, which is `address` as text.
fn forwarded(ip: IpAddr, address: &str, host: &str, scheme: &str) -> String {
    match ip {
        IpAddr::V4(_) => ["for=", address, ";host=\"", host, "\";proto=", scheme].concat(),
        IpAddr::V6(_) => ["for=\"[", address, "]\";host=\"", host, "\";proto=", scheme].concat(),
    }
}

/// `ip` as text. IPv4 without the formatting machinery, which a request would feel.
fn text_of(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = String::with_capacity(15);
    for octet in ip.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// What `Via` says of a request that came in `version`.
const fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 mainstay",
        Version::HTTP_2 => "2.0 mainstay",
        Version::HTTP_3 => "3.0 mainstay",
        _ => "1.1 mainstay",
    }
}

/// Sets `name` to a text that was checked to be plain before; anything else leaves the field out.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
