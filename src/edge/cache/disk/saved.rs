//! What a file tells of its answer: its place, its head, and its time by the calendar, since no other clock outlives a
//! restart.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::directives::Control;
use super::super::entry::Head;
use super::super::freshness::Life;
use super::super::key::{Key, Parts};
use super::super::vary::Selecting;
use crate::base::Timestamp;

/// The sealed record, in postcard.
#[derive(Serialize, Deserialize)]
struct Record {
    site: String,
    key: Parts,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// The request's headers that it depends on.
    selecting: Vec<(String, Option<Vec<u8>>)>,
    /// When it came, in milliseconds since the Unix epoch.
    at: u64,
    /// How old it was then, in milliseconds.
    age: u64,
    /// How old it may become, in milliseconds.
    lifetime: u64,
    /// Bytes of the body.
    size: u64,
}

/// What a file told.
#[derive(Debug)]
pub struct Saved {
    /// The site; only answers of sites that keep some are of use.
    pub site: String,
    key: Parts,
    status: StatusCode,
    headers: HeaderMap,
    /// The request's headers that it depends on.
    pub selecting: Selecting,
    /// When it came.
    pub at: Timestamp,
    age: Duration,
    lifetime: Duration,
    /// Bytes of its body.
    pub size: u64,
}

/// When an answer with `life` came, by the calendar, at `now` on both clocks.
pub fn came_at(life: &Life, wall: Timestamp, now: Duration) -> Timestamp {
    let resident = u64::try_from(now.saturating_sub(life.received()).as_millis()).unwrap_or(u64::MAX);
    Timestamp(wall.millis().saturating_sub(resident))
}

/// The record of an answer at `key`, which came `at`, with a body of `size` bytes.
pub fn write(key: &Key, head: &Head, at: Timestamp, size: u64) -> Option<Vec<u8>> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let header = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
    let record = Record {
        site: key.site.to_string(),
        key: key.parts(),
        status: head.status.as_u16(),
        headers: head.headers.iter().map(header).collect(),
        selecting: head.selecting.pairs(),
        at: at.millis(),
        age: millis(head.life.initial_age()),
        lifetime: millis(head.life.lifetime()),
        size,
    };
    postcard::to_allocvec(&record).ok()
}

impl Saved {
    /// Reads a record; `None` when it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let record: Record = postcard::from_bytes(bytes).ok()?;
        let header = |(name, value): (String, Vec<u8>)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(&value).ok()?))
        };
        let mut headers = HeaderMap::new();
        for line in record.headers {
            let (name, value) = header(line)?;
            headers.try_append(name, value).ok()?;
        }
        Some(Self {
            site: record.site,
            key: record.key,
            status: StatusCode::from_u16(record.status).ok()?,
            headers,
            selecting: Selecting::from_pairs(record.selecting)?,
            at: Timestamp(record.at),
            age: Duration::from_millis(record.age),
            lifetime: Duration::from_millis(record.lifetime),
            size: record.size,
        })
    }

    /// Its place; `site` is the one it names.
    pub fn key(&self, site: &Arc<str>) -> Key {
        Key::from_parts(site, self.key.clone())
    }

    /// Its time, at `now` on both clocks.
    pub fn life(&self, wall: Timestamp, now: Duration) -> Life {
        // A calendar that went back tells nothing of how old it is: then it is good for being validated only.
        let lifetime = if wall < self.at { Duration::ZERO } else { self.lifetime };
        Life::restored(self.age.saturating_add(wall.since(self.at)), lifetime, now)
    }

    /// Its head, with a time that is known better.
    pub fn head(self, life: Life) -> Head {
        let control = Control::of(&self.headers);
        Head { status: self.status, headers: self.headers, control, life, selecting: self.selecting }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::freshness::Arrival;
    use super::*;

    const WALL: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn key() -> Key {
        let site: Arc<str> = "a.example/".into();
        Key::of(&site, true, &"a.example:8443".parse().unwrap(), Some(&HeaderValue::from_static("b.example")), "/x?y")
    }

    fn head(vary: &'static str) -> Head {
        let second = Duration::from_secs;
        let arrival = Arrival { asked: second(5), received: second(6), at: WALL, default: None };
        let lines = [("cache-control", "max-age=60"), ("age", "9"), ("vary", vary), ("x-a", "1"), ("x-a", "2")];
        let line = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let request = HeaderMap::from_iter([line(("accept", "text/html"))]);
        Head::judged(&request, StatusCode::OK, &lines.into_iter().map(line).collect(), arrival).unwrap()
    }

    #[test]
    fn an_answer_comes_back_as_old_as_it_is() {
        let (key, head) = (key(), head("accept, x-none"));
        let at = came_at(&head.life, WALL.after(Duration::from_secs(20)), Duration::from_secs(26));
        assert_eq!(at, WALL);
        let saved = Saved::read(&write(&key, &head, at, 7).unwrap()).unwrap();
        assert_eq!((saved.key(&key.site), saved.size, &*saved.site), (key, 7, "a.example/"));
        // Another process, whose own clock began a second ago.
        let now = Duration::from_secs(1);
        let life = saved.life(WALL.after(Duration::from_secs(30)), now);
        assert_eq!((life.age(now).as_secs(), life.lifetime().as_secs()), (10 + 30, 60));
        let selecting = head.selecting.clone();
        let back = saved.head(life);
        assert_eq!((back.status, &back.headers, &back.selecting), (StatusCode::OK, &head.headers, &selecting));
        assert!(back.control.span(super::super::super::directives::Number::MaxAge).is_some());
    }

    #[test]
    fn a_calendar_that_went_back_leaves_it_for_validation_only() {
        let saved = Saved::read(&write(&key(), &head(""), WALL, 7).unwrap()).unwrap();
        let life = saved.life(Timestamp(WALL.millis() - 1), Duration::ZERO);
        assert!(life.lifetime().is_zero());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Saved::read(&bytes);
        }

        #[test]
        fn any_change_is_read_or_refused(at: prop::sample::Index, mask in 1u8..) {
            let mut bytes = write(&key(), &head("accept"), WALL, 7).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            if let Some(saved) = Saved::read(&bytes) {
                let life = saved.life(WALL, Duration::ZERO);
                let _ = saved.head(life);
            }
        }
    }
}
