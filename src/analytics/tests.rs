//! What is counted, what is kept, and what a crash leaves.

use std::sync::Arc;
use std::time::Duration;

use super::beacon::Beacon;
use super::note::{Kind, Note, Visit};
use super::report::Report;
use super::rows::{self, Row};
use super::tally::{Item, List};
use super::vitals::Vitals;
use super::*;
use crate::base::{Clock as _, Shutdown};
use crate::store::record::{decode, encode};
use crate::store::{STATE, Store, StoreError};
use crate::telemetry::Metrics;
use crate::testing::{Fault, FaultyDisk, TestClock, TestRandom, memory_store, store_on, store_with_clock};

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";

struct World {
    store: Store,
    clock: Arc<TestClock>,
    analytics: Analytics,
}

fn opened(store: &Store, clock: &Arc<TestClock>, seed: u64) -> Analytics {
    let config = AnalyticsConfig { days: 3, names: 10 };
    let analytics =
        Analytics::new(store.clone(), clock.clone(), Arc::new(TestRandom::new(seed)), &Metrics::new(), config);
    analytics.watch(vec![Arc::from("shop.example/")]);
    analytics
}

fn world() -> World {
    let (store, clock) = (memory_store(), Arc::new(TestClock::default()));
    let analytics = opened(&store, &clock, 1);
    World { store, clock, analytics }
}

fn shown(path: &str, client: &str, referrer: &str) -> Note {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let visit = Visit::new("www.shop.example:8443", path, query, referrer, BROWSER, client.parse().ok());
    Note { site: Arc::from("shop.example/"), kind: Kind::Shown, visit }
}

async fn report(analytics: &Analytics) -> Report {
    let (today, first) = analytics.kept();
    analytics.report("shop.example/", first, today).await.unwrap()
}

fn named(list: &List) -> Vec<(&str, u64)> {
    list.items.iter().map(|item| (item.name.as_str(), item.count)).collect()
}

#[tokio::test]
async fn views_visits_and_visitors_are_told_apart() {
    let World { analytics, .. } = world();
    for note in [
        shown(
            "/?utm_source=Letter&utm_campaign=spring&token=x",
            "192.0.2.1",
            "https://www.news.example/today?secret=1",
        ),
        shown("/about", "192.0.2.1", "https://shop.example/"),
        shown("/", "192.0.2.2", ""),
        shown("/", "not told", "https://news.example/"),
        Note { kind: Kind::Missing, ..shown("/gone", "192.0.2.2", "") },
        Note { visit: Visit { agent: "curl/8".into(), ..shown("/", "192.0.2.3", "").visit }, ..shown("/", "", "") },
    ] {
        analytics.note(note);
    }
    analytics.finish().await.unwrap();
    let report = report(&analytics).await;
    assert_eq!((report.views, report.visits, report.visitors), (4, 3, 2), "{report:?}");
    assert_eq!(named(&report.pages), [("/", 3), ("/about", 1)]);
    assert_eq!(named(&report.referrers), [("news.example", 2), ("", 1)]);
    assert_eq!((named(&report.sources), named(&report.campaigns)), (vec![("letter", 1)], vec![("spring", 1)]));
    assert_eq!(named(&report.missing), [("/gone", 1)]);
    assert_eq!(named(&report.browsers), [("Firefox", 4)]);
    assert_eq!(report.days.len(), 3);
}

#[tokio::test]
async fn a_visitor_counts_once_a_day_and_again_on_the_next_and_after_a_start() {
    let World { store, clock, analytics } = world();
    let visit = async |analytics: &Analytics| {
        analytics.note(shown("/", "192.0.2.1", ""));
        analytics.note(shown("/", "::ffff:192.0.2.1", ""));
        analytics.finish().await.unwrap();
        report(analytics).await.days.iter().map(|day| day.visitors).collect::<Vec<_>>()
    };
    assert_eq!(visit(&analytics).await, [0, 0, 1]);
    assert_eq!(visit(&analytics).await, [0, 0, 1]);
    clock.advance(Duration::from_hours(24));
    assert_eq!(visit(&analytics).await, [0, 1, 1], "the salt of yesterday is gone");
    let again = opened(&store, &clock, 2);
    assert_eq!(report(&again).await.days[2].visitors, 1, "the number outlives a restart");
    assert_eq!(visit(&again).await, [0, 1, 2], "and nobody is known again");
}

#[tokio::test]
async fn old_days_are_removed() {
    let World { store, clock, analytics } = world();
    let today = Day::of(clock.now());
    for _ in 0..5 {
        analytics.note(shown("/", "192.0.2.1", ""));
        analytics.finish().await.unwrap();
        clock.advance(Duration::from_hours(24));
    }
    analytics.finish().await.unwrap();
    let days: Vec<Day> = (0..6).map(|number| Day(today.0 + number)).collect();
    let found = rows::rows(&store, "shop.example/", &days).await.unwrap();
    let there: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, false, false, true, true, false]);
}

#[tokio::test]
async fn what_pages_tell_is_measured_and_shown() {
    let World { analytics, .. } = world();
    let site: Arc<str> = Arc::from("shop.example/");
    for text in [
        r#"{"page":"/a","lcp":1200,"cls":0.3}"#,
        r#"{"page":"/b","view":true}"#,
        r#"{"page":"/c","view":true,"referrer":"https://news.example/"}"#,
    ] {
        let visit = shown("/x", "192.0.2.1", "https://shop.example/").visit;
        visit.told(&site, Beacon::parse(text.as_bytes()).unwrap()).into_iter().for_each(|note| analytics.note(note));
    }
    analytics.finish().await.unwrap();
    let report = report(&analytics).await;
    assert_eq!((report.views, report.visits, report.visitors), (2, 1, 1));
    assert_eq!(named(&report.pages), [("/b", 1), ("/c", 1)]);
    assert_eq!((report.vitals[0].good, report.vitals[2].poor, report.by_page[0].page.as_str()), (1, 1, "/a"));
}

#[tokio::test]
async fn a_flood_of_names_is_bounded_and_its_sum_is_exact() {
    let World { analytics, .. } = world();
    for number in 0..2_000 {
        analytics.note(shown(&format!("/{number}"), "192.0.2.1", &format!("https://h{number}.example/")));
        analytics.note(shown("/", "192.0.2.1", ""));
        if number % 1_000 == 999 {
            analytics.finish().await.unwrap();
        }
    }
    let report = report(&analytics).await;
    assert_eq!((report.pages.items.len(), report.pages.total(), report.views), (10, 4_000, 4_000));
    assert_eq!((report.pages.items[0].name.as_str(), report.pages.items[0].count), ("/", 2_000));
}

#[tokio::test]
async fn the_task_counts_writes_and_ends_with_the_server() {
    let World { store, clock, analytics } = world();
    let shutdown = Shutdown::new();
    analytics.note(shown("/", "192.0.2.1", ""));
    let (task, waiting) = (analytics.clone().run(shutdown.clone()), analytics.clone());
    let stop = async {
        while report(&waiting).await.views == 0 {
            tokio::task::yield_now().await;
        }
        shutdown.drain();
    };
    tokio::join!(task, stop);
    analytics.note(shown("/", "192.0.2.1", ""));
    analytics.close().await.unwrap();
    assert_eq!(report(&opened(&store, &clock, 3)).await.views, 2, "a stop loses nothing");
    analytics.note(shown("/", "192.0.2.1", ""));
    analytics.close().await.unwrap();
    assert_eq!(report(&analytics).await.views, 2, "and afterwards nothing is counted");
}

#[tokio::test]
async fn too_many_notes_at_once_are_dropped_and_counted() {
    let metrics = Metrics::new();
    let (clock, random) = (Arc::new(TestClock::default()), Arc::new(TestRandom::new(1)));
    let analytics = Analytics::new(memory_store(), clock, random, &metrics, AnalyticsConfig::default());
    (0..5_000).for_each(|_| analytics.note(shown("/", "192.0.2.1", "")));
    analytics.finish().await.unwrap();
    assert!(metrics.exposition().contains("mainstay_analytics_dropped_total 904"), "{}", metrics.exposition());
}

#[test]
fn sites_are_found_by_name_or_host() {
    let World { analytics, .. } = world();
    for name in ["shop.example", "shop.example/"] {
        assert_eq!(analytics.site(name).as_deref(), Some("shop.example/"));
    }
    assert!(analytics.site("other.example").is_none() && analytics.site("shop").is_none());
}

fn row(views: u64) -> Row {
    let mut vitals = Vitals::default();
    vitals.add(&[Some(1_000), None, Some(50), Some(0), None]);
    let list = |name: &str| List { items: vec![Item { name: name.to_owned(), count: views }], others: 1 };
    Row {
        site: "a/".to_owned(),
        views,
        visits: 2,
        visitors: 1,
        pages: list("/"),
        referrers: list(""),
        vitals: vitals.clone(),
        by_page: vec![("/".to_owned(), vitals)],
        ..Row::default()
    }
}

#[test]
fn a_rows_bytes_stay_the_same() {
    let row = row(3);
    let bytes = encode(&row);
    // Version 1, "a/", 3, 2, 1, [("/", 3)] and 1, [("", 3)] and 1, six empty lists.
    let expected = b"\x01\x02a/\x03\x02\x01\x01\x01/\x03\x01\x01\x00\x03\x01\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(bytes.get(..expected.len()), Some(expected.as_slice()), "{bytes:?}");
    // Then bands and steps of five metrics: LCP one good in step 73, INP none, CLS one good in step 42, FCP one in step 0.
    let vitals = b"\x01\0\0\x01\x49\x01\0\0\0\0\x01\0\0\x01\x2a\x01\x01\0\0\x01\0\x01\0\0\0\0";
    let after = &bytes[expected.len()..];
    assert_eq!(after.get(..vitals.len()), Some(vitals.as_slice()), "{after:?}");
    assert_eq!(decode::<Row>(&bytes), Ok(row));
}

#[test]
fn a_power_cut_at_any_step_leaves_each_day_as_it_was_at_one_writing_or_the_next() {
    let days = [Day(20_000), Day(20_001)];
    let keys = days.map(|day| rows::key(day, "a/"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let write = |store: &Store, views: u64| {
        runtime.block_on(rows::write(store, keys.iter().map(|key| (*key, row(views))).collect()))
    };
    let run = |disk: &FaultyDisk| -> u64 {
        let Ok(store) = store_on(disk, &STATE, 2) else { return 0 };
        let mut acknowledged = 0;
        for views in 1..=4 {
            if write(&store, views).is_err() {
                return acknowledged;
            }
            acknowledged = views;
        }
        store.close_blocking();
        acknowledged
    };
    let whole = FaultyDisk::new();
    assert_eq!(run(&whole), 4);
    for step in 1..=whole.operations() {
        let disk = FaultyDisk::new();
        disk.cut_power_at(step);
        let acknowledged = run(&disk);
        let store = store_on(&disk.crash(step), &STATE, 99).unwrap();
        let found = runtime.block_on(rows::rows(&store, "a/", &days)).unwrap();
        let views: Vec<u64> = found.into_iter().map(|row| row.map_or(0, |row| row.views)).collect();
        assert!(views[0] == views[1], "both or none: {views:?}");
        assert!(views[0] == acknowledged || views[0] == acknowledged + 1, "cut at {step}: {views:?}, {acknowledged}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_again() {
    let disk = FaultyDisk::new();
    let clock = Arc::new(TestClock::default());
    let store = store_with_clock(&disk, &STATE, 1, clock.clone()).unwrap();
    let analytics = opened(&store, &clock, 1);
    analytics.note(shown("/", "192.0.2.1", ""));
    disk.fail_from(1, Fault::NoSpace);
    assert!(matches!(analytics.finish().await, Err(StoreError::Full { .. })));
    disk.heal();
    // The store looks for room once in a while only.
    clock.advance(Duration::from_secs(2));
    analytics.finish().await.unwrap();
    assert_eq!(report(&opened(&store, &clock, 2)).await.views, 1);
}
