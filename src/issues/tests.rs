//! The service as a whole, on a store in memory that runs every closure twice.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::base::{Clock, Shutdown, Supervisor};
use crate::jobs::Jobs;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::testing::{TestClock, TestRandom, memory_store};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Error capture whose time and jobs a test moves.
pub(crate) struct Rig {
    pub(crate) issues: Issues,
    pub(crate) jobs: Jobs,
    clock: Arc<TestClock>,
}

/// Error capture on `store`.
pub(crate) fn issues(store: &Store, config: IssuesConfig) -> Rig {
    let clock = Arc::new(TestClock::default());
    let (random, metrics) = (Arc::new(TestRandom::new(7)), Metrics::new());
    let supervisor = Supervisor::new(Shutdown::new());
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let jobs = Jobs::new(store.clone(), Arc::clone(&time), random.clone(), supervisor, &metrics);
    let world = World { store: store.clone(), jobs: jobs.clone(), clock: time, random, metrics };
    Rig { issues: Issues::new(world, config), jobs, clock }
}

impl Rig {
    async fn send(&self, event: &Value) -> Result<(), IssuesError> {
        self.issues.accept(1, vec![Bytes::from(event.to_string())], PEER).await.map(|_| ())
    }

    async fn digest(&self) {
        self.jobs.run_due().await.unwrap();
    }

    async fn list(&self) -> Vec<Summary> {
        self.issues.list(Filter::default()).await.unwrap().issues
    }
}

fn raised(function: &str, value: &str) -> Value {
    json!({"platform": "python", "release": "app@1", "user": {"id": value}, "tags": {"role": "web"},
        "exception": {"values": [{"type": "ValueError", "value": value, "stacktrace": {"frames": [
            {"module": "app", "function": function, "in_app": true, "vars": {"password": "hunter2"}}]}}]}})
}

#[tokio::test]
async fn events_become_one_issue_with_exact_counts() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    for user in ["1", "2", "2"] {
        rig.send(&raised("load", user)).await.unwrap();
    }
    rig.digest().await;
    let list = rig.list().await;
    assert_eq!(list.len(), 1);
    let issue = &list[0];
    assert_eq!((issue.title.as_str(), issue.culprit.as_str()), ("ValueError: 2", "app in load"));
    assert_eq!((issue.count, issue.users, issue.status), (3, 2, Status::Open));
    let detail = rig.issues.show(issue.id).await.unwrap();
    assert_eq!(detail.stack, ["load (app)"]);
    assert!(detail.tags.contains(&("role".to_owned(), vec![("web".to_owned(), 3)])));
}

#[tokio::test]
async fn the_same_message_from_two_functions_is_two_issues() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    rig.send(&raised("load", "x")).await.unwrap();
    rig.send(&raised("save", "x")).await.unwrap();
    rig.digest().await;
    assert_eq!(rig.list().await.len(), 2);
}

#[tokio::test]
async fn a_secret_never_reaches_the_store() {
    let store = memory_store();
    let rig = issues(&store, IssuesConfig::default());
    rig.send(&raised("load", "x")).await.unwrap();
    let spooled = store.read(|tx| {
        use std::ops::Bound::Unbounded;
        tx.scan(rows::SPOOL, Unbounded, Unbounded, crate::store::Direction::Forward, 10)
    });
    let spooled = spooled.await.unwrap();
    assert!(!spooled.is_empty());
    assert!(spooled.iter().all(|(_, value)| memchr::memmem::find(value, b"hunter2").is_none()));
}

#[tokio::test]
async fn a_storm_is_counted_exactly_and_kept_in_samples() {
    let config = IssuesConfig { events_per_issue: 4, ..IssuesConfig::default() };
    let rig = issues(&memory_store(), config);
    for _ in 0..40 {
        rig.send(&raised("load", "x")).await.unwrap();
    }
    rig.digest().await;
    let issue = rig.list().await.remove(0);
    assert_eq!(issue.count, 40);
    // The newest four, and the 1st, 2nd, 4th, 8th, 16th and 32nd.
    assert_eq!(rig.issues.show(issue.id).await.unwrap().events.len(), 10);
}

#[tokio::test]
async fn a_resolved_issue_opens_again_and_an_ignored_one_stays_ignored() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    rig.send(&raised("load", "x")).await.unwrap();
    rig.digest().await;
    let id = rig.list().await[0].id;
    for (status, after, regressions) in [(Status::Resolved, Status::Open, 1), (Status::Ignored, Status::Ignored, 1)] {
        rig.issues.set_status(id, status).await.unwrap();
        rig.send(&raised("load", "x")).await.unwrap();
        rig.digest().await;
        let issue = rig.list().await.remove(0);
        assert_eq!((issue.status, issue.regressions), (after, regressions));
    }
    let missing = rig.issues.set_status(99, Status::Open).await;
    assert!(matches!(missing, Err(IssuesError::NoSuchIssue { id: 99 })));
}

#[tokio::test]
async fn a_full_spool_refuses_and_takes_in_again_once_digested() {
    let config = IssuesConfig { max_spool_events: 2, ..IssuesConfig::default() };
    let rig = issues(&memory_store(), config);
    rig.send(&raised("load", "x")).await.unwrap();
    rig.send(&raised("load", "x")).await.unwrap();
    assert!(matches!(rig.send(&raised("load", "x")).await, Err(IssuesError::SpoolFull { events: 2, .. })));
    assert!(rig.issues.health().await.is_err());
    rig.digest().await;
    rig.send(&raised("load", "x")).await.unwrap();
}

#[tokio::test]
async fn more_events_than_allowed_wait_for_the_next_minute() {
    let rig = issues(&memory_store(), IssuesConfig { events_per_minute: 1, ..IssuesConfig::default() });
    rig.send(&raised("load", "x")).await.unwrap();
    assert!(matches!(rig.send(&raised("load", "x")).await, Err(IssuesError::TooFast { wait_seconds: 60, .. })));
    rig.clock.advance(Duration::from_mins(1));
    rig.send(&raised("load", "x")).await.unwrap();
}

#[tokio::test]
async fn the_issue_not_seen_for_longest_goes_first() {
    let config = IssuesConfig { max_issues: 2, ..IssuesConfig::default() };
    let rig = issues(&memory_store(), config);
    for function in ["a", "b", "a", "c"] {
        rig.clock.advance(Duration::from_secs(1));
        rig.send(&raised(function, "x")).await.unwrap();
        rig.digest().await;
    }
    let culprits: Vec<String> = rig.list().await.into_iter().map(|issue| issue.culprit).collect();
    assert_eq!(culprits, ["app in c", "app in a"]);
}

#[tokio::test]
async fn issues_not_seen_for_long_are_swept() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    rig.send(&raised("a", "x")).await.unwrap();
    rig.digest().await;
    rig.clock.advance(Duration::from_hours(24 * 91));
    rig.digest().await;
    assert!(rig.list().await.is_empty());
}

#[tokio::test]
async fn counts_of_other_items_reach_the_store_within_a_minute() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    rig.issues.count(1, Category::Session, 3);
    rig.digest().await;
    assert_eq!(rig.issues.received(1).await.unwrap(), [(String::from("session"), 3)]);
}

#[tokio::test]
async fn a_list_is_filtered_and_goes_on_where_a_page_ended() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    for function in ["alpha", "beta", "gamma"] {
        rig.clock.advance(Duration::from_secs(1));
        rig.send(&raised(function, "x")).await.unwrap();
        rig.digest().await;
    }
    let page = |filter: Filter| {
        let issues = rig.issues.clone();
        async move {
            let page = issues.list(filter).await.unwrap();
            let culprits: Vec<String> = page.issues.iter().map(|issue| issue.culprit.clone()).collect();
            (culprits, page.next)
        }
    };
    let (first, next) = page(Filter { limit: 2, ..Filter::default() }).await;
    assert_eq!(first, ["app in gamma", "app in beta"]);
    let after = next.map(|cursor| cursor.to_string().parse().unwrap());
    assert_eq!(page(Filter { after, ..Filter::default() }).await, (vec![String::from("app in alpha")], None));
    let with = |text: &str| Filter { text: text.to_owned(), ..Filter::default() };
    assert_eq!(page(with("BETA role:web")).await.0, ["app in beta"]);
    assert!(page(with("nothing like it")).await.0.is_empty());
    rig.issues.set_status(1, Status::Ignored).await.unwrap();
    assert_eq!(page(Filter { status: Some(Status::Ignored), ..Filter::default() }).await.0, ["app in alpha"]);
    assert_eq!(page(Filter { level: Some("error".into()), ..Filter::default() }).await.0.len(), 3);
    assert!(page(Filter { level: Some("info".into()), ..Filter::default() }).await.0.is_empty());
    assert!(page(Filter { project: Some(2), ..Filter::default() }).await.0.is_empty());
    assert_eq!("1-x".parse::<Cursor>(), Err(query::NoCursor));
}

#[tokio::test]
async fn an_event_is_shown_in_full_and_names_its_neighbours() {
    let rig = issues(&memory_store(), IssuesConfig { events_per_issue: 1, ..IssuesConfig::default() });
    for user in ["1", "2", "3", "4", "5", "6"] {
        rig.send(&raised("load", user)).await.unwrap();
    }
    rig.digest().await;
    let event = rig.issues.event(1, None).await.unwrap();
    assert_eq!((event.number, event.older, event.newer), (6, Some(4), None));
    assert_eq!((event.title.as_str(), event.user[0].1.as_str()), ("ValueError: 6", "6"));
    assert_eq!(event.exceptions[0].frames[0].vars, [("password".to_owned(), scrub::FILTERED.to_owned())]);
    let event = rig.issues.event(1, Some(4)).await.unwrap();
    assert_eq!((event.older, event.newer), (Some(2), Some(6)));
    assert!(rig.issues.event_json(1, 4).await.unwrap().starts_with(b"{"));
    assert!(matches!(rig.issues.event(1, Some(5)).await, Err(IssuesError::NoSuchEvent { id: 1, number: 5 })));
    assert!(matches!(rig.issues.event(9, None).await, Err(IssuesError::NoSuchIssue { id: 9 })));
}

#[tokio::test]
async fn charts_count_an_issue_and_everything() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    for function in ["a", "b", "a"] {
        rig.send(&raised(function, "x")).await.unwrap();
        rig.digest().await;
        rig.clock.advance(Duration::from_hours(1));
    }
    let chart = async |of| rig.issues.chart(of, Step::Hour, 4).await.unwrap().counts;
    assert_eq!(chart(Of::Everything).await, [1, 1, 1, 0]);
    assert_eq!(chart(Of::Project(1)).await, [1, 1, 1, 0]);
    assert_eq!(chart(Of::Project(2)).await, [0; 4]);
    assert_eq!(chart(Of::Issue(1)).await, [1, 0, 1, 0]);
    assert_eq!(rig.issues.chart(Of::Issue(1), Step::Day, 2).await.unwrap().counts, [0, 2]);
    assert_eq!(rig.issues.hourly(vec![2, 1], 4).await.unwrap()[0].counts, [0, 1, 0, 0]);
}
