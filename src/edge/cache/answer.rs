//! An answer made from a stored one: whole, without body, a part, or 304 (RFC 9111 sections 4 and 4.3.2).

use std::time::Duration;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::entry::Stored;
use crate::http::Body;
use crate::http::conditional::parse_date;
use crate::http::range::{self, ByteRange};

/// What tells of a body that a 304 does not have.
const OF_THE_BODY: [HeaderName; 5] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE];

/// The answer to a request of `method` with the headers `request`; `now` is monotonic.
pub fn respond(stored: &Stored, method: &Method, request: &HeaderMap, now: Duration) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = stored.status;
    let headers = response.headers_mut();
    headers.clone_from(&stored.headers);
    headers.insert(AGE, HeaderValue::from(stored.life.age(now).as_secs()));
    if stored.status == StatusCode::OK && is_known(&stored.headers, request) {
        return not_modified(response);
    }
    let size = stored.body.len();
    let (mut first, mut end) = (0u64, size);
    if stored.status == StatusCode::OK && method == Method::GET {
        match part(&stored.headers, request, size) {
            Part::Whole => {}
            Part::Bytes(from, to) => {
                (first, end) = (from, to);
                put(headers, CONTENT_RANGE, format!("bytes {from}-{}/{size}", to.saturating_sub(1)));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            Part::Outside => {
                (first, end) = (0, 0);
                for name in OF_THE_BODY {
                    headers.remove(name);
                }
                put(headers, CONTENT_RANGE, format!("bytes */{size}"));
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            }
        }
    }
    if stored.status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(end.saturating_sub(first)));
    }
    if method != Method::HEAD {
        *response.body_mut() = stored.body.part(first, end);
    }
    response
}

/// `response` as 304: without body and what belongs to it.
pub fn not_modified(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in OF_THE_BODY {
        response.headers_mut().remove(name);
    }
    *response.body_mut() = Body::empty();
    response
}

/// Whether the client has what an answer with the headers `answer` brings, as the conditions in `request` tell.
pub fn is_known(answer: &HeaderMap, request: &HeaderMap) -> bool {
    let tags: Vec<&HeaderValue> = request.get_all(IF_NONE_MATCH).iter().collect();
    if !tags.is_empty() {
        let own = answer.get(ETAG).map(HeaderValue::as_bytes);
        return tags.iter().any(|tags| names(tags.as_bytes(), own));
    }
    let date = |headers: &HeaderMap, name: HeaderName| headers.get(name)?.to_str().ok().and_then(parse_date);
    let Some(since) = date(request, IF_MODIFIED_SINCE) else { return false };
    // Without a time of change its own date is one (section 4.3.2).
    let changed = date(answer, LAST_MODIFIED).or_else(|| date(answer, DATE));
    changed.is_some_and(|changed| changed <= since)
}

/// Whether a list of entity tags has `own`, by weak comparison (RFC 9110 section 8.8.3.2).
fn names(mut tags: &[u8], own: Option<&[u8]>) -> bool {
    let own = own.map(|own| own.strip_prefix(b"W/").unwrap_or(own));
    loop {
        let space = tags.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b',')).count();
        tags = tags.get(space..).unwrap_or_default();
        if tags.is_empty() {
            return false;
        }
        if tags.starts_with(b"*") {
            return true;
        }
        tags = tags.strip_prefix(b"W/").unwrap_or(tags);
        // Within the quotes everything else, a comma too, belongs to the tag.
        let end = match tags.strip_prefix(b"\"") {
            Some(rest) => rest.iter().position(|byte| *byte == b'"').map_or(tags.len(), |at| at.saturating_add(2)),
            None => tags.iter().position(|byte| *byte == b',').unwrap_or(tags.len()),
        };
        let (tag, rest) = tags.split_at_checked(end).unwrap_or((tags, &[]));
        if own.is_some_and(|own| own == tag) {
            return true;
        }
        tags = rest;
    }
}

/// What a request asks for of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// From the first byte up to the second, which is excluded.
    Bytes(u64, u64),
    /// A part that is not there.
    Outside,
}

/// The part of `size` bytes that is asked for (RFC 9110 section 14).
fn part(answer: &HeaderMap, request: &HeaderMap, size: u64) -> Part {
    let asked = request.get(RANGE).and_then(|value| range::parse(value.to_str().ok()?));
    let Some(asked) = asked else { return Part::Whole };
    if let Some(condition) = request.get(IF_RANGE) {
        // A strong comparison: the same tag, or exactly the date that was sent.
        let tag = answer.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        if Some(condition) != tag && Some(condition) != answer.get(LAST_MODIFIED) {
            return Part::Whole;
        }
    }
    let (first, end) = match asked {
        ByteRange::FromTo(first, last) => (first, last.saturating_add(1).min(size)),
        ByteRange::From(first) => (first, size),
        ByteRange::Last(count) => (size.saturating_sub(count), size),
    };
    if first < end { Part::Bytes(first, end) } else { Part::Outside }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::entry::Head;
    use super::super::freshness::Arrival;
    use super::super::room::Budget;
    use super::*;
    use crate::base::Timestamp;

    fn headers(text: &str) -> HeaderMap {
        let line = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        text.split('|').filter(|text| !text.is_empty()).map(line).collect()
    }

    fn answer(status: u16, method: &Method, request: &str) -> Response<Body> {
        let text = "cache-control: max-age=60|content-type: text/plain|etag: \"a,b\"\
                    |last-modified: Sun, 06 Nov 1994 08:49:37 GMT";
        let arrival = Arrival {
            asked: Duration::ZERO,
            received: Duration::ZERO,
            at: Timestamp::from_seconds(1_800_000_000),
            default: None,
        };
        let status = StatusCode::from_u16(status).unwrap();
        let head = Head::judged(&HeaderMap::new(), status, &headers(text), arrival).unwrap();
        let room = Budget::new(1 << 20).take(head.bytes()).unwrap();
        let stored = head.with(Bytes::from_static(b"0123456789"), room);
        respond(&stored, method, &headers(request), Duration::from_secs(7))
    }

    async fn told(status: u16, method: Method, request: &str) -> (u16, Option<String>, String) {
        let response = answer(status, &method, request);
        assert_eq!(response.headers()[AGE], "7");
        let length = response.headers().get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = crate::http::body::read(response.into_body(), 100).await.unwrap();
        (status, length, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn whole_answers_parts_and_heads_are_made() {
        for (method, request, status, length, body) in [
            (Method::GET, "", 200, "10", "0123456789"),
            (Method::HEAD, "", 200, "10", ""),
            (Method::GET, "range: bytes=2-4", 206, "3", "234"),
            (Method::GET, "range: bytes=-2", 206, "2", "89"),
            (Method::GET, "range: bytes=8-99", 206, "2", "89"),
            (Method::GET, "range: bytes=10-", 416, "0", ""),
            (Method::GET, "range: bytes=0-1,3-4", 200, "10", "0123456789"),
            (Method::HEAD, "range: bytes=2-4", 200, "10", ""),
            (Method::GET, "range: bytes=2-4|if-range: \"a,b\"", 206, "3", "234"),
            (Method::GET, "range: bytes=2-4|if-range: \"b\"", 200, "10", "0123456789"),
            (Method::GET, "range: bytes=2-4|if-range: W/\"a,b\"", 200, "10", "0123456789"),
            (Method::GET, "range: bytes=2-4|if-range: Sun, 06 Nov 1994 08:49:37 GMT", 206, "3", "234"),
        ] {
            let told = told(200, method.clone(), request).await;
            assert_eq!(told, (status, Some(length.to_owned()), body.to_owned()), "{method} {request}");
        }
        assert_eq!(told(404, Method::GET, "range: bytes=2-4").await.0, 404);
        assert_eq!(answer(200, &Method::GET, "range: bytes=2-4").headers()[CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(answer(200, &Method::GET, "range: bytes=20-").headers()[CONTENT_RANGE], "bytes */10");
    }

    #[tokio::test]
    async fn who_has_it_already_gets_304() {
        for (request, known) in [
            ("if-none-match: \"a,b\"", true),
            ("if-none-match: W/\"a,b\"", true),
            ("if-none-match: \"x\", \"a,b\"", true),
            ("if-none-match: *", true),
            ("if-none-match: \"x\"|if-none-match: \"a,b\"", true),
            ("if-none-match: \"a\", \"b\"", false),
            ("if-none-match: a,b", false),
            ("if-none-match: \"a", false),
            ("if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("if-modified-since: yesterday", false),
            ("if-none-match: \"x\"|if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT", false),
        ] {
            let (status, length, body) = told(200, Method::GET, request).await;
            assert_eq!((status == 304, length.is_none(), body.is_empty()), (known, known, known), "{request}");
        }
        assert_eq!(told(404, Method::GET, "if-none-match: \"a,b\"").await.0, 404);
    }

    proptest::proptest! {
        #[test]
        fn any_list_of_tags_is_read_to_its_end(tags: Vec<u8>) {
            let _ = names(&tags, Some(b"\"a\"".as_slice()));
        }
    }
}
