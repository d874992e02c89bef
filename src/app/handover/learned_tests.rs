//! What one process learns, and another one hears, with both in one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::channel::Channel;
use super::learned::{Hearing, Learning};
use super::message::{Banned, Learned, Page, Word};
use crate::analytics::{Analytics, AnalyticsConfig, Kind, Note, Visit};
use crate::bans::{Ban, Bans, Origin, Rules, Term};
use crate::edge::Changed;
use crate::telemetry::Metrics;
use crate::testing::{TestClock, TestRandom, memory_store};

const SOON: Duration = Duration::from_secs(10);
const TERM: Term = Term { first: Duration::from_mins(1), growth: 1, longest: Duration::from_mins(1) };

/// What a process knows.
struct Known {
    bans: Bans,
    analytics: Analytics,
}

fn known() -> Known {
    let (store, clock, metrics) = (memory_store(), Arc::new(TestClock::default()), Metrics::new());
    let bans = Bans::open(store.clone(), clock.clone(), &metrics, Rules::default()).unwrap();
    let random = Arc::new(TestRandom::new(1));
    let analytics = Analytics::new(store, clock, random, &metrics, AnalyticsConfig::default());
    Known { bans, analytics }
}

impl Known {
    fn learning(&self, before: Option<Hearing>) -> Learning {
        Learning::begin(self.bans.clone(), self.analytics.clone(), None, before)
    }

    fn hearing(&self, channel: Channel) -> Hearing {
        Hearing::new(Arc::new(channel), self.bans.clone(), self.analytics.clone())
    }

    /// As when its edge has started.
    fn serves(&self, hearing: &mut Hearing) {
        self.analytics.watch(vec![Arc::from("shop.example/")]);
        hearing.serves(None);
    }

    fn ban(&self, address: &str) {
        assert!(self.bans.caught(address.parse().unwrap(), "web", &TERM, "why").is_some());
    }

    fn see(&self, path: &str) {
        let visit = Visit::new("shop.example", path, "", "", "Mozilla/5.0 Firefox/144.0", None);
        self.analytics.note(Note { site: Arc::from("shop.example/"), kind: Kind::Shown, visit });
    }

    fn bars(&self, address: &str) -> bool {
        self.bans.is_banned(address.parse().unwrap())
    }

    async fn views(&self) -> u64 {
        self.analytics.finish().await.unwrap();
        let (today, _) = self.analytics.kept();
        self.analytics.report("shop.example/", today, today).await.unwrap().views
    }
}

fn pair() -> (Arc<Channel>, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (Arc::new(ours), Channel::of(theirs))
}

/// Lets `learning` pass on what there is.
async fn passed_on(learning: &mut Learning) {
    learning.beside(tokio::task::yield_now()).await;
    learning.beside(tokio::task::yield_now()).await;
}

#[tokio::test]
async fn what_is_learned_is_known_where_it_counts_before_anybody_is_accepted() {
    let (old, new, (ours, theirs)) = (known(), known(), pair());
    old.see("/counted-here");
    old.analytics.leave().await.unwrap();
    let mut learning = old.learning(None);
    old.ban("192.0.2.1");
    old.see("/a");
    learning.tell(ours);
    passed_on(&mut learning).await;
    let mut hearing = new.hearing(theirs);
    assert!(!new.bars("192.0.2.1"));
    hearing.listen();
    assert!(new.bars("192.0.2.1"));
    new.serves(&mut hearing);
    learning.told();
    old.ban("192.0.2.2");
    old.see("/b");
    learning.end().await;
    hearing.listen();
    assert!(new.bars("192.0.2.2"));
    assert_eq!(new.views().await, 2);
}

#[tokio::test]
async fn what_was_told_to_a_process_that_did_not_come_to_serve_is_told_to_the_next() {
    let (old, failed, new) = (known(), known(), known());
    old.analytics.leave().await.unwrap();
    let mut learning = old.learning(None);
    old.ban("192.0.2.1");
    old.see("/a");
    let (ours, theirs) = pair();
    learning.tell(ours);
    passed_on(&mut learning).await;
    let mut hearing = failed.hearing(theirs);
    hearing.listen();
    assert!(failed.bars("192.0.2.1"));
    drop(hearing);
    old.ban("192.0.2.2");
    learning.not_told();
    let (ours, theirs) = pair();
    learning.tell(ours);
    passed_on(&mut learning).await;
    learning.told();
    let mut hearing = new.hearing(theirs);
    hearing.listen();
    new.serves(&mut hearing);
    assert!(new.bars("192.0.2.1") && new.bars("192.0.2.2"));
    assert_eq!(new.views().await, 1);
}

#[tokio::test]
async fn who_was_replaced_and_passes_on_what_it_hears_is_heard_to_the_end() {
    let (first, second, third) = (known(), known(), known());
    for known in [&first, &second] {
        known.analytics.leave().await.unwrap();
    }
    let (to_second, at_second) = pair();
    let (to_third, at_third) = pair();
    let mut early = first.learning(None);
    early.tell(to_second);
    early.told();
    let mut at_second = second.hearing(at_second);
    second.serves(&mut at_second);
    let mut late = second.learning(Some(at_second));
    late.tell(to_third);
    late.told();
    let mut hearing = third.hearing(at_third);
    third.serves(&mut hearing);
    first.ban("192.0.2.1");
    first.see("/a");
    early.end().await;
    let heard = async {
        while !third.bars("192.0.2.1") {
            hearing.listen();
            tokio::task::yield_now().await;
        }
    };
    late.beside(timeout(SOON, heard)).await.unwrap();
    late.end().await;
    hearing.listen();
    assert_eq!(third.views().await, 1);
}

#[tokio::test]
async fn with_nobody_there_any_more_nothing_is_kept() {
    let (old, (ours, theirs)) = (known(), pair());
    old.analytics.leave().await.unwrap();
    let mut learning = old.learning(None);
    learning.tell(ours);
    learning.told();
    drop(theirs);
    old.ban("192.0.2.1");
    old.see("/a");
    passed_on(&mut learning).await;
    old.see("/b");
    let mut left = Vec::new();
    old.analytics.left(&mut left, 9).now_or_never().unwrap();
    assert!(left.is_empty());
    learning.end().await;
}

#[test]
fn a_word_of_the_longest_items_is_no_longer_than_a_message() {
    let (ours, theirs) = Channel::pair().unwrap();
    let theirs = Channel::of(theirs);
    // As long as they may be, of what JSON writes with a backslash.
    let long = |bytes: usize| "\"".repeat(bytes);
    let ban =
        Ban { origin: Origin::Jail(long(64)), reason: long(200), since_ms: u64::MAX, until_ms: u64::MAX, times: 9 };
    let text = long(512);
    let visit = Visit::new(&text, &text, &text, &text, &text, Some("2001:db8::1".parse().unwrap()));
    let page = Page { site: long(300), kind: Kind::Measured([Some(u32::MAX); 5]), visit };
    let place = serde_json::json!({ "place": { "site": long(300), "place": {
        "secure": false, "host": long(300), "shown": null, "target": long(4_096) } } });
    let changed: Changed = serde_json::from_value(place).unwrap();
    let learned = |bans, pages, changed| Learned {
        bans: vec![Banned { network: "2001:db8:ffff:ffff::/64".to_owned(), ban: ban.clone() }; bans],
        pages: vec![page.clone(); pages],
        changed: vec![changed; 3],
    };
    for (bans, pages) in [(32, 0), (0, 8)] {
        let word = Learned { changed: Vec::new(), ..learned(bans, pages, changed.clone()) };
        assert!(ours.offer(&Word::Learned(word.clone())).unwrap());
        assert!(matches!(theirs.take().unwrap(), Some(Word::Learned(heard)) if heard == word));
    }
    assert!(ours.offer(&Word::Learned(learned(0, 0, changed))).unwrap());
    assert!(theirs.take::<Word>().unwrap().is_some() && theirs.take::<Word>().unwrap().is_none());
}
