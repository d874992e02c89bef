//! One stored answer: as the app sent it, without what concerned the connection, and what is known of it.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, SET_COOKIE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::content::Content;
use super::directives::Control;
use super::disk::Spot;
use super::freshness::{Arrival, Life};
use super::room::Room;
use super::storable::{Why, is_personal, judge};
use super::vary::Selecting;
use crate::http::conditional::format_date;

/// What an answer takes beside its bytes: its own fields, and its place in lists.
const OVERHEAD: u64 = 512;
/// What a header line takes beside its bytes.
const LINE: u64 = 96;

/// Headers of an answer that are not kept: a length is counted anew, an age computed, and trailers are not kept.
const NOT_KEPT: [HeaderName; 3] = [CONTENT_LENGTH, AGE, TRAILER];
/// Headers that a 304 does not change (RFC 9111 section 3.2): they belong to the bytes.
const NOT_RENEWED: [HeaderName; 9] = [
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
    SET_COOKIE,
    TRAILER,
];

/// The head of an answer that may be kept.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it says of its use.
    pub control: Control,
    /// Its time.
    pub life: Life,
    /// Which requests it answers.
    pub selecting: Selecting,
}

/// A stored answer.
#[derive(Debug)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Content,
    /// What it says of its use.
    pub control: Control,
    /// Its time.
    pub life: Life,
    /// Which requests it answers.
    pub selecting: Selecting,
    /// Bytes it takes in memory.
    pub bytes: u64,
    /// Where the same is on disk, as far as is known.
    pub on_disk: Option<Arc<Spot>>,
    _room: Room,
}

/// What came of a stored answer with a 304.
#[derive(Debug)]
pub struct Renewed {
    /// The new head.
    pub head: Head,
    /// Whether it may still be kept.
    pub kept: Result<(), Why>,
}

impl Head {
    /// The head of an answer with `status` and `headers`, without those of the connection, to a GET with the headers
    /// `request`.
    ///
    /// # Errors
    /// Why it may not be kept.
    pub fn judged(request: &HeaderMap, status: StatusCode, headers: &HeaderMap, arrival: Arrival) -> Result<Self, Why> {
        let control = Control::of(headers);
        let life = Life::of(status, headers, &control, arrival);
        judge(request, status, headers, &control, &life)?;
        Self::new(request, status, own(headers), control, life, arrival)
    }

    fn new(
        request: &HeaderMap,
        status: StatusCode,
        mut headers: HeaderMap,
        control: Control,
        life: Life,
        arrival: Arrival,
    ) -> Result<Self, Why> {
        let selecting = Selecting::of(&headers, request)?;
        for name in NOT_KEPT {
            headers.remove(name);
        }
        // RFC 9110 section 6.6.1.
        if !headers.contains_key(DATE)
            && let Ok(date) = HeaderValue::try_from(format_date(arrival.at))
        {
            headers.insert(DATE, date);
        }
        Ok(Self { status, headers, control, life, selecting })
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            LINE.saturating_add((name.as_str().len() as u64).saturating_add(value.len() as u64))
        };
        self.headers.iter().map(line).sum::<u64>().saturating_add(self.selecting.bytes()).saturating_add(OVERHEAD)
    }

    /// The answer with its body; `room` is that of the head.
    pub fn with(self, body: impl Into<Content>, room: Room) -> Stored {
        let body = body.into();
        let bytes = self.bytes().saturating_add(body.in_memory());
        let Self { status, headers, control, life, selecting } = self;
        Stored { status, headers, body, control, life, selecting, bytes, on_disk: None, _room: room }
    }
}

impl Stored {
    /// Its head.
    pub fn head(&self) -> Head {
        Head {
            status: self.status,
            headers: self.headers.clone(),
            control: self.control,
            life: self.life,
            selecting: self.selecting.clone(),
        }
    }

    /// Whether it answers a request with the headers `request` at all.
    pub fn is_for(&self, request: &HeaderMap) -> bool {
        self.control.is_for_all() || !is_personal(request)
    }

    /// What a 304 with `headers`, which came for a request with the headers `request`, makes of it. `None` when it is about
    /// another answer (RFC 9111 section 4.3.4).
    pub fn renewed(&self, request: &HeaderMap, headers: &HeaderMap, arrival: Arrival) -> Option<Renewed> {
        let opaque = |value: &HeaderValue| {
            let bytes = value.as_bytes();
            bytes.strip_prefix(b"W/").unwrap_or(bytes).to_vec()
        };
        if let (Some(own), Some(told)) = (self.headers.get(ETAG), headers.get(ETAG))
            && opaque(own) != opaque(told)
        {
            return None;
        }
        let mut merged = self.headers.clone();
        // Without one of its own, what is validated is as old as the validation.
        merged.remove(DATE);
        for name in headers.keys().filter(|name| !NOT_RENEWED.contains(name)) {
            merged.remove(name);
            for value in headers.get_all(name) {
                merged.append(name.clone(), owned(value));
            }
        }
        let control = Control::of(&merged);
        let life = Life::of(self.status, &merged, &control, arrival);
        let mut kept = judge(request, self.status, &merged, &control, &life);
        if headers.contains_key(SET_COOKIE) {
            kept = Err(Why::SetCookie);
        }
        if Selecting::of(&merged, request).is_err() {
            merged.remove(http::header::VARY);
            kept = Err(Why::Vary);
        }
        let head = Head::new(request, self.status, merged, control, life, arrival).ok()?;
        Some(Renewed { head, kept })
    }
}

/// `headers` in memory of their own: as they came they hold the whole buffer they were read into.
fn own(headers: &HeaderMap) -> HeaderMap {
    headers.iter().map(|(name, value)| (name.clone(), owned(value))).collect()
}

fn owned(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_never| value.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::directives::Word;
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

    fn arrival(second: u64) -> Arrival {
        let at = Duration::from_secs(second);
        Arrival { asked: at, received: at, at: Timestamp::from_seconds(1_800_000_000 + second), default: None }
    }

    fn stored(text: &str) -> Stored {
        let head = Head::judged(&HeaderMap::new(), StatusCode::OK, &headers(text), arrival(0)).unwrap();
        let room = Budget::new(1 << 20).take(head.bytes()).unwrap();
        head.with(Bytes::from_static(b"body"), room)
    }

    #[test]
    fn what_is_kept_has_a_date_and_no_length() {
        let stored = stored("cache-control: max-age=60|content-length: 4|age: 3|trailer: x|x-a: 1|x-a: 2");
        assert_eq!(stored.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(stored.headers[DATE], "Fri, 15 Jan 2027 08:00:00 GMT");
        for name in NOT_KEPT {
            assert!(!stored.headers.contains_key(&name), "{name}");
        }
        assert_eq!(stored.life.age(Duration::from_secs(2)).as_secs(), 5);
    }

    #[test]
    fn a_304_changes_headers_and_time_but_not_what_belongs_to_the_bytes() {
        let stored = stored("cache-control: max-age=60|etag: \"a\"|content-type: text/plain|x-old: 1|x-both: 1");
        let told = headers(
            "cache-control: max-age=90, stale-if-error=5|etag: W/\"a\"|content-type: text/html|content-length: 9|content-md5: eA==|x-both: 2|x-new: 3",
        );
        let Renewed { head, kept } = stored.renewed(&HeaderMap::new(), &told, arrival(70)).unwrap();
        assert_eq!(kept, Ok(()));
        assert_eq!(head.life.lifetime().as_secs(), 90);
        assert_eq!(head.life.age(Duration::from_secs(75)).as_secs(), 5);
        for (name, value) in [("content-type", "text/plain"), ("x-old", "1"), ("x-both", "2"), ("x-new", "3")] {
            assert_eq!(head.headers[name], value, "{name}");
        }
        assert!(!head.headers.contains_key(CONTENT_LENGTH) && !head.headers.contains_key("content-md5"));
        assert!(stored.renewed(&HeaderMap::new(), &headers("etag: \"b\""), arrival(70)).is_none());
    }

    #[test]
    fn a_304_that_ends_it_is_told_and_its_cookie_is_never_kept() {
        let stored = stored("cache-control: max-age=60|etag: \"a\"");
        for (told, why) in [
            ("set-cookie: a=b", Why::SetCookie),
            ("cache-control: private", Why::Private),
            ("cache-control: no-store", Why::NoStore),
            ("vary: *", Why::Vary),
        ] {
            let renewed = stored.renewed(&HeaderMap::new(), &headers(told), arrival(70)).unwrap();
            assert_eq!(renewed.kept, Err(why), "{told}");
            assert!(!renewed.head.headers.contains_key(SET_COOKIE));
        }
    }

    #[test]
    fn who_has_credentials_gets_only_what_is_for_everybody() {
        let (some, all) = (stored("cache-control: max-age=60"), stored("cache-control: max-age=60, public"));
        assert!(all.control.has(Word::Public));
        for personal in ["cookie: a=b", "authorization: Bearer x"] {
            assert!(!some.is_for(&headers(personal)) && all.is_for(&headers(personal)), "{personal}");
        }
        assert!(some.is_for(&headers("accept: */*")));
    }
}
