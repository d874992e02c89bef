//! Whether an answer may be kept for everybody (RFC 9111 section 3).
//!
//! Narrower than the standard in this: an answer with `Set-Cookie` is never kept; one to a request with a cookie or with
//! `Authorization` only if it says `public` or `s-maxage`; one that says nothing about it only if its time without change,
//! or the site's settings tell how long it is good; one that is stale at once only with something to validate it by.

use http::header::{AUTHORIZATION, CONTENT_RANGE, COOKIE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::directives::{Control, Word};
use super::freshness::{Life, is_explicit, is_guessable};
use super::vary;

/// Statuses that are understood beside those for which a time may be guessed.
const REDIRECTS: [u16; 3] = [302, 303, 307];

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request says `no-store`.
    Asked,
    /// Its status is none that is kept.
    Status,
    /// It says `no-store`.
    NoStore,
    /// It says `private`.
    Private,
    /// It sets a cookie.
    SetCookie,
    /// The request came with credentials, and the answer is not for everybody.
    Personal,
    /// It depends on everything, or on too many headers.
    Vary,
    /// It is a part of something.
    Part,
    /// Nothing tells how long it is good.
    Lifetime,
    /// It is larger than the site's answers may be.
    Size,
    /// Only the end of the connection would tell its own.
    Unframed,
    /// There is no room.
    Full,
}

impl Why {
    /// Its name in `Cache-Status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "request-no-store",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Personal => "credentials",
            Self::Vary => "vary",
            Self::Part => "part",
            Self::Lifetime => "no-lifetime",
            Self::Size => "too-large",
            Self::Unframed => "no-length",
            Self::Full => "full",
        }
    }
}

/// Whether a redirect with `status` is kept when it says for how long.
pub fn is_redirect(status: StatusCode) -> bool {
    REDIRECTS.contains(&status.as_u16())
}

/// Whether a request comes with what tells people apart.
pub fn is_personal(request: &HeaderMap) -> bool {
    request.contains_key(COOKIE) || request.contains_key(AUTHORIZATION)
}

/// Whether an answer with `status`, `headers`, their `control` and `life` may be kept, when a GET with the headers
/// `request` brought it.
///
/// # Errors
/// The first reason why not.
pub fn judge(
    request: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    control: &Control,
    life: &Life,
) -> Result<(), Why> {
    if Control::of(request).has(Word::NoStore) {
        return Err(Why::Asked);
    }
    let guessable = is_guessable(status);
    if !guessable && !is_redirect(status) {
        return Err(Why::Status);
    }
    // `no-store` is for caches that do not know the status (section 5.2.2.3); those that are let through here are known.
    if control.has(Word::NoStore) && !control.has(Word::MustUnderstand) {
        return Err(Why::NoStore);
    }
    if control.has(Word::Private) {
        return Err(Why::Private);
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(Why::SetCookie);
    }
    if headers.contains_key(CONTENT_RANGE) {
        return Err(Why::Part);
    }
    if is_personal(request) && !control.is_for_all() {
        return Err(Why::Personal);
    }
    vary::names(headers)?;
    let explicit = is_explicit(headers, control);
    let validated = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    // A time comes from the answer, from its site's settings, or from a guess where the status allows one.
    let timed = !life.lifetime().is_zero();
    let worth = timed || (validated && (explicit || (guessable && control.has(Word::NoCache))));
    if worth { Ok(()) } else { Err(Why::Lifetime) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::super::freshness::Arrival;
    use super::*;
    use crate::base::Timestamp;

    fn headers(text: &str) -> HeaderMap {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        text.split('|').filter(|text| !text.is_empty()).map(line).collect()
    }

    fn judged(request: &str, status: u16, answer: &str) -> Result<(), Why> {
        judged_with(None, request, status, answer)
    }

    fn judged_with(default: Option<Duration>, request: &str, status: u16, answer: &str) -> Result<(), Why> {
        let (request, headers) = (headers(request), headers(answer));
        let (control, status) = (Control::of(&headers), StatusCode::from_u16(status).unwrap());
        let arrival = Arrival {
            asked: Duration::ZERO,
            received: Duration::ZERO,
            at: Timestamp::from_seconds(1_800_000_000),
            default,
        };
        let life = Life::of(status, &headers, &control, arrival);
        judge(&request, status, &headers, &control, &life)
    }

    #[test]
    fn a_lifetime_of_the_site_changes_nothing_of_what_is_ones_own() {
        let default = Some(Duration::from_mins(1));
        for (request, status, answer, judgement) in [
            ("", 200, "", Ok(())),
            ("", 302, "location: /x", Ok(())),
            ("", 200, "set-cookie: a=b", Err(Why::SetCookie)),
            ("", 200, "cache-control: private", Err(Why::Private)),
            ("", 200, "cache-control: no-store", Err(Why::NoStore)),
            ("", 200, "cache-control: no-cache", Err(Why::Lifetime)),
            ("cookie: a=b", 200, "", Err(Why::Personal)),
            ("cookie: a=b", 200, "cache-control: public", Ok(())),
            ("", 200, "vary: *", Err(Why::Vary)),
            ("", 500, "", Err(Why::Status)),
        ] {
            assert_eq!(judged_with(default, request, status, answer), judgement, "{request}; {status}; {answer}");
        }
    }

    #[test]
    fn only_what_is_for_everybody_is_kept() {
        const OLD: &str = "last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
        let kept = [
            ("", 200, "cache-control: max-age=5"),
            ("", 200, "cache-control: s-maxage=5"),
            ("", 200, "expires: Sat, 06 Nov 2094 08:49:37 GMT"),
            ("", 200, OLD),
            ("", 200, "cache-control: max-age=0|etag: \"a\""),
            ("", 200, "cache-control: no-cache|etag: \"a\""),
            ("", 200, "cache-control: max-age=5, no-store, must-understand"),
            ("", 302, "cache-control: max-age=5"),
            ("", 404, "cache-control: max-age=5"),
            ("", 410, "cache-control: max-age=5"),
            ("", 204, "cache-control: max-age=5"),
            ("cookie: a=b", 200, "cache-control: max-age=5, public"),
            ("cookie: a=b", 200, "cache-control: s-maxage=5"),
            ("authorization: Basic YTpi", 200, "cache-control: public, max-age=5"),
            ("", 200, "cache-control: max-age=5|vary: accept, accept-encoding"),
        ];
        for (request, status, answer) in kept {
            assert_eq!(judged(request, status, answer), Ok(()), "{request}; {status}; {answer}");
        }
        for (request, status, answer, why) in [
            ("cache-control: no-store", 200, "cache-control: max-age=5", Why::Asked),
            ("", 200, "cache-control: max-age=5, no-store", Why::NoStore),
            ("", 200, "cache-control: max-age=5, private", Why::Private),
            ("", 200, "cache-control: max-age=5, private=\"x-user\"", Why::Private),
            ("", 200, "cache-control: public, max-age=5|set-cookie: a=b", Why::SetCookie),
            ("", 200, "cache-control: max-age=5|content-range: bytes 0-1/2", Why::Part),
            ("", 206, "cache-control: max-age=5", Why::Status),
            ("", 304, "cache-control: max-age=5", Why::Status),
            ("", 500, "cache-control: max-age=5", Why::Status),
            ("", 299, "cache-control: max-age=5, no-store, must-understand", Why::Status),
            ("cookie: a=b", 200, "cache-control: max-age=5", Why::Personal),
            ("authorization: Basic YTpi", 200, "cache-control: max-age=5, must-revalidate", Why::Personal),
            ("cookie: a=b", 200, OLD, Why::Personal),
            ("", 200, "cache-control: max-age=5|vary: *", Why::Vary),
            ("", 200, "", Why::Lifetime),
            ("", 200, "etag: \"a\"", Why::Lifetime),
            ("", 200, "cache-control: max-age=0", Why::Lifetime),
            ("", 200, "cache-control: public", Why::Lifetime),
            ("", 200, "cache-control: no-cache", Why::Lifetime),
            ("", 302, OLD, Why::Lifetime),
        ] {
            assert_eq!(judged(request, status, answer), Err(why), "{request}; {status}; {answer}");
        }
    }
}
