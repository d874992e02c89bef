use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::testing::TestClock;

fn own_errors() -> (OwnErrors, Captured, Arc<TestClock>) {
    let clock = Arc::new(TestClock::default());
    let dsn = "http://mainstay@localhost/1".parse().unwrap();
    let time = Arc::clone(&clock) as Arc<dyn Clock>;
    let (own, captured) = OwnErrors::new(dsn, "mainstay@0", time, &Metrics::new());
    (own, captured, clock)
}

fn with_log(own: &OwnErrors, say: impl FnOnce()) {
    let subscriber = tracing_subscriber::registry().with(own.clone());
    tracing::subscriber::with_default(subscriber, say);
}

fn events(captured: &mut Captured) -> Vec<protocol::Event<'static>> {
    std::iter::from_fn(|| captured.waiting()).filter_map(|envelope| envelope.event().cloned()).collect()
}

#[test]
fn a_line_of_level_error_is_an_event_with_what_was_logged_before() {
    let (own, mut captured, _) = own_errors();
    with_log(&own, || {
        tracing::debug!("not worth a thought");
        tracing::warn!(target: "mainstay::edge", site = "a", "slow");
        tracing::error!(target: "mainstay::store", file = "a.redb", password = "hunter2", "cannot write");
    });
    let event = events(&mut captured).remove(0);
    assert_eq!((event.message.as_deref(), event.logger.as_deref()), (Some("cannot write"), Some("mainstay::store")));
    assert_eq!(event.extra["file"], "a.redb");
    assert_eq!(event.release.as_deref(), Some("mainstay@0"));
    let before: Vec<_> = event.breadcrumbs.iter().map(|crumb| crumb.message.clone().unwrap()).collect();
    assert_eq!(before, ["slow"]);
    assert!(!serde_json::to_string(&event).unwrap().contains("hunter2"));
}

#[test]
fn lines_about_panics_are_not_captured_twice() {
    let (own, mut captured, _) = own_errors();
    with_log(&own, || tracing::error!(target: PANIC, "panic: on purpose"));
    assert!(events(&mut captured).is_empty());
}

#[test]
fn one_place_is_captured_a_few_times_a_minute() {
    let (own, mut captured, clock) = own_errors();
    let storm = || {
        for _ in 0..100 {
            with_log(&own, || tracing::error!("again"));
        }
    };
    storm();
    assert_eq!(events(&mut captured).len(), PLACE_MAX as usize);
    clock.advance(Duration::from_mins(1));
    storm();
    with_log(&own, || tracing::error!("another place"));
    assert_eq!(events(&mut captured).len(), PLACE_MAX as usize + 1);
}

#[test]
fn a_full_queue_costs_the_event_and_no_time() {
    let mut pace = Pace::default();
    let admitted = (0..1000).filter(|line| pace.admit(1, (String::new(), *line))).count();
    assert_eq!(admitted, MINUTE_MAX as usize);
    assert!(pace.places.len() <= 1 + MINUTE_MAX as usize);
    let (own, mut captured, clock) = own_errors();
    for _ in 0..20 {
        with_log(&own, || tracing::error!("nobody takes it"));
        clock.advance(Duration::from_secs(20));
    }
    for _ in 0..QUEUE {
        with_log(&own, || tracing::error!("nobody takes it"));
        clock.advance(Duration::from_mins(1));
    }
    assert_eq!(events(&mut captured).len(), QUEUE);
}

#[test]
fn the_innermost_frame_is_the_one_that_panicked() {
    let frame = |function: &str| Frame { function: Some(function.to_owned()), ..Frame::default() };
    let mut frames: Vec<Frame> = [
        "std::rt::lang_start",
        "mainstay::edge::serve",
        "core::option::expect_failed",
        "core::panicking::panic_fmt",
        "rust_begin_unwind",
        "std::panicking::rust_panic_with_hook",
        "mainstay::telemetry::own_errors::OwnErrors::panic",
    ]
    .map(frame)
    .to_vec();
    below_the_hook(&mut frames);
    assert_eq!(frames.last().unwrap().function.as_deref(), Some("mainstay::edge::serve"));
}
