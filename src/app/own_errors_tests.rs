use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::base::Supervisor;
use crate::issues::tests::{Rig, issues};
use crate::issues::{Filter, IssuesConfig, IssuesError};
use crate::telemetry::Metrics;
use crate::testing::{TestClock, memory_store};

fn own_errors(dsn: &str) -> (OwnErrors, Captured) {
    OwnErrors::new(dsn.parse().unwrap(), RELEASE, Arc::new(TestClock::default()), &Metrics::new())
}

/// Delivers what is captured until the queue's other end is gone.
async fn delivered(rig: &Rig, own: OwnErrors, captured: Captured) {
    drop(own);
    deliver(Way::Here(rig.issues.clone()), captured, Shutdown::new()).await;
    rig.jobs.run_due().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_a_supervised_task_becomes_an_issue_of_project_0() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    let (own, captured) = own_errors(HERE);
    // The hook is the process's: panics of other tests may come along, and go on to the one before.
    let before = Arc::new(std::panic::take_hook());
    let (hook, next) = (own.clone(), Arc::clone(&before));
    std::panic::set_hook(Box::new(move |panic| {
        hook.panic(panic);
        next(panic);
    }));
    let supervisor = Supervisor::new(Shutdown::new());
    supervisor.task("bad", Role::Ordinary, async { panic!("a panic made on purpose, password=hunter2") });
    assert!(supervisor.tasks_ended(Duration::from_secs(5)).await);
    let ours = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| before(panic)));

    drop(ours);
    delivered(&rig, own, captured).await;
    let wanted = Filter { text: String::from("purpose,"), project: Some(OWN_PROJECT), ..Filter::default() };
    let found = rig.issues.list(wanted).await.unwrap().issues.remove(0);
    assert_eq!((found.level.as_str(), found.count), ("fatal", 1));
    assert!(found.title.starts_with("panic: a panic made on purpose"), "{}", found.title);
    assert!(!found.title.contains("hunter2"), "{}", found.title);
    assert!(found.culprit.contains("a_panic_of_a_supervised_task"), "{}", found.culprit);
    let event = rig.issues.event(found.id, None).await.unwrap();
    assert_eq!(event.release, RELEASE);
    assert!(event.exceptions[0].frames[0].line > 0, "{:?}", event.exceptions[0].frames[0]);
}

#[tokio::test]
async fn a_logged_error_becomes_an_issue_scrubbed_like_any_other() {
    let rig = issues(&memory_store(), IssuesConfig::default());
    let (own, captured) = own_errors(HERE);
    let subscriber = tracing_subscriber::registry().with(own.clone());
    tracing::subscriber::with_default(subscriber, || {
        for number in 0..3 {
            tracing::error!(target: "mainstay::edge", number, card = "4111 1111 1111 1111", "upstream {number} is gone");
        }
    });
    delivered(&rig, own, captured).await;
    let found = rig.issues.list(Filter::default()).await.unwrap().issues.remove(0);
    assert_eq!((found.project, found.count, found.culprit.as_str()), (OWN_PROJECT, 3, "mainstay::edge"));
    let event = rig.issues.event(found.id, None).await.unwrap();
    assert!(event.extra.contains(&(String::from("card"), String::from("[Filtered]"))), "{:?}", event.extra);
}

#[tokio::test]
async fn a_full_error_capture_is_not_told_about_itself() {
    let rig = issues(&memory_store(), IssuesConfig { max_spool_events: 0, ..IssuesConfig::default() });
    let (own, mut captured) = own_errors(HERE);
    let subscriber = tracing_subscriber::registry().with(own.clone());
    let _log = tracing::subscriber::set_default(subscriber);
    tracing::error!("cannot write");
    let envelope = captured.waiting().unwrap();
    let way = Way::Here(rig.issues.clone());
    let shutdown = Shutdown::new();
    shutdown.drain();
    assert!(way.deliver(&envelope).await.unwrap_err().contains("wait to be digested"));
    assert!(matches!(rig.issues.health().await, Err(IssuesError::SpoolFull { .. })));
    tracing::error!("cannot write");
    // Its failure is logged, below the level that is captured.
    deliver(way, captured, shutdown).await;
}

#[tokio::test]
async fn a_dsn_gets_the_envelope_with_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dsn = format!("http://0123456789abcdef0123456789abcdef@{}/7", listener.local_addr().unwrap());
    let (own, mut captured) = own_errors(&dsn);
    let subscriber = tracing_subscriber::registry().with(own.clone());
    tracing::subscriber::with_default(subscriber, || tracing::error!("sent away"));
    let envelope = captured.waiting().unwrap();
    let way = Way::Elsewhere(Client::new(CALL, ANSWER).unwrap(), dsn.parse().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"}\n") && !heard.ends_with(b"}}") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        String::from_utf8(heard).unwrap()
    };
    let (sent, heard) = futures_util::future::join(way.deliver(&envelope), server).await;
    sent.unwrap();
    assert!(heard.starts_with("POST /api/7/envelope/ HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("sentry_key=0123456789abcdef0123456789abcdef"), "{heard}");
    assert!(heard.contains("sent away"), "{heard}");
}
