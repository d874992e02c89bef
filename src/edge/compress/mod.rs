//! Answers compressed on their way: which ones, for whom, and in which coding (RFC 9110 sections 8.4 and 12.5.3).
//!
//! Promises: what is encoded already, a part of something, marked `no-transform`, small, or an event stream passes
//! untouched; nothing that an app has sent waits here, since a pause of the app flushes what there is; where the setting
//! says so, answers that may hold a secret beside something an attacker chose are left alone (BREACH, 2013); memory is
//! bounded, for past [`coder::MOST_AT_ONCE`] at once answers go out as they are.
//!
//! Start reading at [`Asked::of`] and [`Compressors::apply`]; [`coder`] has the work itself.

pub mod coder;

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, ETAG, RANGE, SET_COOKIE, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use serde::{Deserialize, Serialize};

use self::coder::{Coding, Compressed, Pool};
use crate::http::Body;

/// Fewer bytes are not worth it: with its head such an answer fits into one packet anyway.
const LEAST: u64 = 512;
/// Headers with a digest of the bytes as they are (RFC 9530 and its forerunners).
const DIGESTS: [&str; 3] = ["content-digest", "content-md5", "digest"];
/// Types worth compressing beside `text/*`, `*+json` and `*+xml`.
const TYPES: [&str; 16] = [
    "application/dash+xml",
    "application/geo+json",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/vnd.apple.mpegurl",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
];

/// Which answers of a site are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// None.
    Off,
    /// Files, and answers of apps to who is nobody in particular.
    #[default]
    Public,
    /// All.
    All,
}

/// What the choice depends on; taken from the request before it is passed on.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    coding: Option<Coding>,
    whole: bool,
    personal: bool,
}

/// One worker's compressors.
#[derive(Debug, Default)]
pub struct Compressors(Arc<Pool>);

impl Asked {
    /// What `parts` ask for.
    pub fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        let coding = choose(headers);
        if coding.is_none() {
            // What else was asked then makes no difference.
            return Self { coding, whole: false, personal: true };
        }
        let personal = headers.contains_key(COOKIE) || headers.contains_key(AUTHORIZATION);
        let whole = parts.method != Method::HEAD && !headers.contains_key(RANGE) && !is_fixed(headers);
        Self { coding, whole, personal }
    }
}

impl Compressors {
    /// `response` compressed, if `asked` and the site's setting allow it. `from_app` tells an app's answer from a file.
    pub fn apply(
        &self,
        setting: Compress,
        asked: Asked,
        from_app: bool,
        mut response: Response<Body>,
    ) -> Response<Body> {
        if setting == Compress::Off || !is_fit(&response) {
            return response;
        }
        // Whether compressed or not, a cache must not give this answer to who asks in another way.
        vary(response.headers_mut());
        let secret =
            from_app && setting == Compress::Public && (asked.personal || response.headers().contains_key(SET_COOKIE));
        let Some(coding) = asked.coding.filter(|_| asked.whole && !secret) else { return response };
        let Some(coder) = self.0.take(coding) else { return response };
        let streamed = response.body().size_hint().exact().is_none();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        weaken(headers);
        response.map(|body| Body::new(Compressed::new(body, coder, streamed)))
    }
}

/// Whether an answer is of a kind that may be compressed.
fn is_fit(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let status = response.status();
    let has_content =
        matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NON_AUTHORITATIVE_INFORMATION)
            || (status.is_client_error() && status != StatusCode::RANGE_NOT_SATISFIABLE)
            || status.is_server_error();
    // What most answers fail by comes first.
    has_content
        && headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_worth_it)
        && length(response).is_none_or(|length| length >= LEAST)
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
        && !DIGESTS.iter().any(|name| headers.contains_key(*name))
        && !is_fixed(headers)
}

/// The length, when it is known; that of a `HEAD`'s answer stands in its head alone.
fn length(response: &Response<Body>) -> Option<u64> {
    let told = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    told.or_else(|| response.body().size_hint().exact())
}

/// Whether `no-transform` stands in `headers` (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
fn is_fixed(headers: &HeaderMap) -> bool {
    words(headers, &CACHE_CONTROL).any(|word| word.eq_ignore_ascii_case("no-transform"))
}

fn is_worth_it(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let begins = |part: &str| kind.get(..part.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(part));
    let ends = |part: &str| {
        let end = kind.len().checked_sub(part.len()).and_then(|from| kind.get(from..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(part))
    };
    !kind.eq_ignore_ascii_case("text/event-stream")
        && (begins("text/")
            || ends("+json")
            || ends("+xml")
            || TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known)))
}

/// The coding that `Accept-Encoding` weighs most, of those that weigh the same the best one. `*` is not taken for any: who
/// sends nothing else does not know what it will get.
fn choose(headers: &HeaderMap) -> Option<Coding> {
    let mut best: Option<(u16, Coding)> = None;
    for word in words(headers, &ACCEPT_ENCODING) {
        let (name, parameters) = word.split_once(';').unwrap_or((word, ""));
        let Some(coding) = Coding::named(name.trim()) else { continue };
        let Some(weight) = weight(parameters) else { continue };
        if weight > 0 && best.is_none_or(|known| (weight, coding) > known) {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// The thousandths of `q` (RFC 9110 section 12.4.2); `None` for what is no weight.
fn weight(parameters: &str) -> Option<u16> {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some(1_000);
    }
    let (name, value) = parameters.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1_000),
        _ => None,
    }
}

fn vary(headers: &mut HeaderMap) {
    let named = |word: &str| word == "*" || word.eq_ignore_ascii_case("accept-encoding");
    if !words(headers, &VARY).any(named) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// A strong tag names bytes, which are others now (RFC 9110 section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(ETAG, weak),
        Err(_) => headers.remove(ETAG),
    };
}

/// The words of a list, over all lines of that name.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &'static str) -> Option<&'static str> {
        choose(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accept))])).map(Coding::name)
    }

    #[test]
    fn the_heaviest_coding_is_chosen_then_the_best() {
        for (accept, coding) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("br")),
            ("GZIP;q=1.0, br;q=0.9", Some("gzip")),
            ("br;q=0, gzip ; q=0.001", Some("gzip")),
            ("zstd;q=0", None),
            ("*", None),
            ("identity", None),
            ("", None),
            ("gzip;q=2", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=-1, br;level=1", None),
            ("x-gzip", Some("gzip")),
        ] {
            assert_eq!(chosen(accept), coding, "{accept}");
        }
    }

    #[test]
    fn types_are_compared_without_their_parameters() {
        for (kind, worth) in [
            ("text/html; charset=utf-8", true),
            ("Application/Problem+JSON", true),
            ("image/svg+xml", true),
            ("text/event-stream;charset=utf-8", false),
            ("image/png", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_worth_it(kind), worth, "{kind}");
        }
    }

    proptest::proptest! {
        /// Whatever a client sends, a weight is one of RFC 9110's or none.
        #[test]
        fn weights_are_between_nothing_and_one(text in ".{0,12}") {
            if let Some(weight) = weight(&format!("q={text}")) {
                proptest::prop_assert!(weight <= 1_000);
            }
        }
    }
}
