use http::{HeaderName, HeaderValue, StatusCode};

use super::super::entry::Head;
use super::super::freshness::Arrival;
use super::*;
use crate::base::Timestamp;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn key(target: &str) -> Arc<Key> {
    Arc::new(Key::of(&"a.example/".into(), true, &"a.example".parse().unwrap(), None, target))
}

fn stored(shelves: &Shelves, request: &HeaderMap, vary: &'static str, size: usize, second: u64) -> Arc<Stored> {
    let at = Duration::from_secs(second);
    let arrival =
        Arrival { asked: at, received: at, at: Timestamp::from_seconds(1_800_000_000 + second), default: None };
    let answer = headers(&[("cache-control", "max-age=60"), ("vary", vary)]);
    let head = Head::judged(request, StatusCode::OK, &answer, arrival).unwrap();
    let room = shelves.room(head.bytes()).unwrap();
    let body = shelves.room(size as u64).unwrap().hold(vec![0; size]);
    Arc::new(head.with(body, room))
}

fn shelves(bytes: u64) -> Shelves {
    Shelves::new(bytes, Counter::default())
}

#[test]
fn memory_stays_bounded_and_what_is_used_stays() {
    let shelves = shelves(100_000);
    let none = HeaderMap::new();
    let hot = key("/hot");
    assert!(shelves.put(&hot, &stored(&shelves, &none, "", 1000, 0), shelves.tick()));
    for number in 0..1000 {
        let key = key(&format!("/{number}"));
        assert!(shelves.put(&key, &stored(&shelves, &none, "", 1000, 0), shelves.tick()));
        assert!(shelves.find(&hot, &none, Duration::ZERO).stored.is_some(), "{number}");
        assert!(shelves.budget.used() <= 100_000);
    }
    let (kept, evicted) = (shelves.kept()["a.example/"], shelves.evicted.value());
    assert!(kept.answers > 40 && kept.bytes <= 100_000 && kept.answers + evicted == 1001, "{kept:?} {evicted}");
    shelves.resize(10_000);
    assert!(shelves.budget.used() <= 10_000 && shelves.find(&hot, &none, Duration::ZERO).stored.is_some());
    assert!(shelves.purge(|_| true) > 2);
    assert_eq!(shelves.budget.used(), 0);
}

#[test]
fn what_is_still_read_is_not_made_room_of() {
    let shelves = shelves(10_000);
    let none = HeaderMap::new();
    let one = stored(&shelves, &none, "", 6000, 0);
    assert!(shelves.put(&key("/a"), &one, shelves.tick()));
    let reader = one.body.clone();
    drop(one);
    assert!(shelves.room(6000).is_none());
    assert!(shelves.find(&key("/a"), &none, Duration::ZERO).stored.is_none());
    drop(reader);
    assert!(shelves.room(6000).is_some());
}

#[test]
fn variants_live_side_by_side_and_are_bounded() {
    let shelves = shelves(1 << 20);
    let place = key("/a");
    let (german, english) = (headers(&[("accept-language", "de")]), headers(&[("accept-language", "en")]));
    let first = stored(&shelves, &german, "accept-language", 1, 0);
    shelves.put(&place, &first, shelves.tick());
    let found = shelves.find(&place, &english, Duration::ZERO);
    assert!(found.stored.is_none() && found.others);
    shelves.put(&place, &stored(&shelves, &english, "accept-language", 2, 1), shelves.tick());
    assert_eq!(shelves.find(&place, &german, Duration::ZERO).stored.unwrap().body.len(), 1);
    assert_eq!(shelves.find(&place, &english, Duration::ZERO).stored.unwrap().body.len(), 2);
    // A newer one in place of the older.
    shelves.put(&place, &stored(&shelves, &german, "accept-language", 3, 2), shelves.tick());
    assert_eq!(shelves.find(&place, &german, Duration::ZERO).stored.unwrap().body.len(), 3);
    for number in 0..40u64 {
        let language = HeaderValue::from_str(&format!("x-{number}")).unwrap();
        let request = HeaderMap::from_iter([(http::header::ACCEPT_LANGUAGE, language)]);
        shelves.put(&place, &stored(&shelves, &request, "accept-language", 1, 10 + number), shelves.tick());
    }
    assert_eq!(shelves.kept()["a.example/"].answers, MOST_VARIANTS as u64);
    assert!(shelves.find(&place, &german, Duration::ZERO).stored.is_none());
}

#[test]
fn what_was_on_its_way_when_the_place_changed_is_not_kept() {
    let shelves = shelves(1 << 20);
    let (none, place) = (HeaderMap::new(), key("/a"));
    let began = shelves.tick();
    shelves.void(&place);
    assert!(!shelves.put(&place, &stored(&shelves, &none, "", 1, 0), began));
    assert!(shelves.put(&place, &stored(&shelves, &none, "", 1, 0), shelves.tick()));
    let began = shelves.tick();
    assert_eq!(shelves.purge(|key| key.is_of("a.example")), 1);
    assert!(!shelves.put(&place, &stored(&shelves, &none, "", 1, 0), began));
    assert!(shelves.find(&place, &none, Duration::ZERO).stored.is_none());
}

#[test]
fn a_place_is_left_alone_for_a_while_or_until_something_is_kept() {
    let shelves = shelves(1 << 20);
    let (none, place) = (HeaderMap::new(), key("/a"));
    shelves.leave_alone(&place, Duration::from_mins(1));
    assert!(shelves.find(&place, &none, Duration::from_secs(59)).alone);
    assert!(!shelves.find(&place, &none, Duration::from_mins(1)).alone);
    let one = stored(&shelves, &none, "", 1, 0);
    shelves.put(&place, &one, shelves.tick());
    assert!(!shelves.find(&place, &none, Duration::ZERO).alone);
    shelves.forget(&place, &one);
    assert!(shelves.find(&place, &none, Duration::ZERO).stored.is_none());
}
