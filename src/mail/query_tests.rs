//! Looking at the outbox, and deciding about it, on the engine in memory.

use std::time::Duration;

use super::super::outbox::tests::{Bench, bench};
use super::super::outbox::{Outcome, Submission};
use super::super::{LineEnds, MailConfig, Message};
use super::*;
use crate::base::Clock as _;

async fn listed(bench: &Bench, standing: Option<Standing>, before: Option<&str>, most: usize) -> Page {
    let before = before.map(|id| id.parse().unwrap());
    bench.outbox.list(Filter { standing, text: None }, before, most).await.unwrap()
}

fn ids(page: &Page) -> Vec<&str> {
    page.messages.iter().map(|message| message.id.as_str()).collect()
}

/// One message of each standing; their ids, newest first.
async fn one_of_each(bench: &Bench) -> Vec<(Standing, Id128)> {
    let outcomes = [
        (Standing::Deferred, Some(Outcome::Retry("451 later".to_owned()))),
        (Standing::Sent, Some(Outcome::Delivered("250 ok".to_owned()))),
        (Standing::Failed, Some(Outcome::Refused("550 no".to_owned()))),
        (Standing::Kept, Some(Outcome::Kept)),
        (Standing::Cancelled, None),
        (Standing::Queued, None),
    ];
    let mut out = Vec::new();
    for (standing, outcome) in outcomes {
        bench.clock.advance(Duration::from_millis(1));
        let id = bench.accept(&["ada@example.com"]).await;
        if let Some(outcome) = outcome {
            let claims = bench.outbox.claim(1).await.unwrap();
            bench.outbox.finish(&claims[0], outcome).await.unwrap();
        } else if standing == Standing::Cancelled {
            bench.outbox.cancel(id).await.unwrap();
        }
        out.insert(0, (standing, id));
    }
    out
}

#[tokio::test]
async fn messages_are_listed_by_where_their_deliveries_stand() {
    let bench = bench(MailConfig::default());
    let all = one_of_each(&bench).await;
    for (standing, id) in &all {
        let page = listed(&bench, Some(*standing), None, 50).await;
        assert_eq!((ids(&page), page.next.clone()), (vec![id.to_string().as_str()], None), "{standing:?}");
        assert_eq!(page.messages[0].standings, [(*standing, 1)]);
        assert_eq!(page.messages[0].next_attempt.is_some(), standing.is_open());
    }
    let counts = bench.outbox.counts().await.unwrap();
    assert!(Standing::ALL.iter().all(|standing| counts.of(*standing) == 1), "{counts:?}");
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let bench = bench(MailConfig::default());
    let all: Vec<String> = one_of_each(&bench).await.iter().map(|(_, id)| id.to_string()).collect();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = listed(&bench, None, before.as_deref(), 4).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, all);
    assert!(listed(&bench, Some(Standing::Queued), Some(&all[0]), 4).await.messages.is_empty());
}

#[tokio::test]
async fn text_is_looked_for_in_subject_sender_and_recipients() {
    let bench = bench(MailConfig::default());
    bench.accept(&["a@example.com", "Grace@example.com"]).await;
    for (text, found) in [("GRACE", 1), ("shop@", 1), ("Hi", 1), ("nobody", 0), ("", 1)] {
        let filter = Filter { standing: None, text: Some(text.to_owned()) };
        assert_eq!(bench.outbox.list(filter, None, 9).await.unwrap().messages.len(), found, "{text}");
    }
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_by_hand_and_a_sent_one_is_not() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@e.org", "b@e.org"]).await;
    let claims = bench.outbox.claim(2).await.unwrap();
    bench.outbox.finish(&claims[0], Outcome::Delivered("250".to_owned())).await.unwrap();
    bench.outbox.finish(&claims[1], Outcome::Refused("550".to_owned())).await.unwrap();
    bench.clock.advance(Duration::from_hours(100));

    let detail = bench.outbox.retry(id).await.unwrap();
    assert_eq!(
        detail.deliveries.iter().map(|row| row.standing).collect::<Vec<_>>(),
        [Standing::Sent, Standing::Deferred]
    );
    assert_eq!(detail.finished, None);
    let again = bench.outbox.claim(9).await.unwrap();
    assert_eq!(again.iter().map(|claim| claim.to.as_str()).collect::<Vec<_>>(), ["b@e.org"]);
    assert!(matches!(bench.outbox.retry(id).await, Err(MailError::Nothing { action: "retry", .. })));
    bench.outbox.finish(&again[0], Outcome::Retry("451".to_owned())).await.unwrap();
    assert_eq!(bench.outbox.detail(id).await.unwrap().deliveries[1].standing, Standing::Deferred, "not given up");
}

#[tokio::test]
async fn a_deferred_delivery_is_due_at_once_after_retry_and_stands_in_the_queue_once() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@e.org"]).await;
    let claims = bench.outbox.claim(1).await.unwrap();
    bench.outbox.finish(&claims[0], Outcome::Retry("451".to_owned())).await.unwrap();
    assert!(bench.outbox.claim(1).await.unwrap().is_empty());
    bench.outbox.retry(id).await.unwrap();
    assert_eq!(bench.outbox.claim(9).await.unwrap().len(), 1);
    assert_eq!(bench.outbox.next_due().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_cancelled_is_final_and_what_is_under_way_cannot_be() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@e.org", "b@e.org"]).await;
    let claims = bench.outbox.claim(1).await.unwrap();
    let detail = bench.outbox.cancel(id).await.unwrap();
    assert_eq!((detail.deliveries[0].sending, detail.deliveries[1].standing), (true, Standing::Cancelled));
    assert!(matches!(bench.outbox.cancel(id).await, Err(MailError::Nothing { action: "cancel", .. })));
    bench.outbox.finish(&claims[0], Outcome::Delivered("250".to_owned())).await.unwrap();
    let counts = bench.outbox.counts().await.unwrap();
    assert_eq!((counts.sent, counts.cancelled, counts.open()), (1, 1, 0));
    assert!(bench.outbox.detail(id).await.unwrap().finished.is_some());
}

#[tokio::test]
async fn urgent_mail_goes_ahead_of_what_waits() {
    let bench = bench(MailConfig::default());
    bench.accept(&["a@e.org"]).await;
    bench.clock.advance(Duration::from_secs(1));
    let urgent = Submission { urgent: true, ..bench.submission(&["now@e.org"]) };
    let id = bench.outbox.accept(urgent).await.unwrap().id;
    let due = bench.outbox.detail(id).await.unwrap().message.next_attempt;
    assert_eq!(due, Some(bench.clock.now().to_string()));
    assert_eq!(bench.outbox.claim(1).await.unwrap()[0].to, "now@e.org");
}

#[tokio::test]
async fn a_message_is_given_up_when_it_is_of_no_use_any_more() {
    let bench = bench(MailConfig::default());
    let useful_for = Some(Duration::from_mins(10));
    let brief = Submission { useful_for, source: Source::Token, ..bench.submission(&["a@e.org"]) };
    let id = bench.outbox.accept(brief).await.unwrap().id;
    bench.clock.advance(Duration::from_mins(11));
    let claims = bench.outbox.claim(1).await.unwrap();
    let state = bench.outbox.finish(&claims[0], Outcome::Retry("451".to_owned())).await.unwrap();
    assert_eq!(state, State::Failed);
    assert!(matches!(bench.outbox.retry(id).await, Err(MailError::Nothing { .. })), "the link works no more");
}

#[tokio::test]
async fn a_link_that_works_is_masked_until_it_does_not() {
    let bench = bench(MailConfig::default());
    let link = "https://console.example.com/reset/dGhpcyBpcyBhIHNlY3JldCB0b2tlbg?next=/docs";
    let text = format!("Subject: reset\r\n\r\nopen {link} now\r\n");
    let message = Message::parse(text.as_bytes(), LineEnds::Strict, Timestamp(0), "i", "h").unwrap();
    let base = bench.submission(&["a@e.org"]);
    let useful_for = Some(Duration::from_mins(10));
    let id = bench.outbox.accept(Submission { message, source: Source::Token, useful_for, ..base }).await.unwrap().id;

    let seen = bench.outbox.content(id).await.unwrap().text.unwrap();
    assert_eq!(seen.trim(), "open https://console.example.com/reset/•••?next=/docs now");
    assert!(matches!(bench.outbox.raw(id).await, Err(MailError::Masked { .. })));
    assert!(matches!(bench.outbox.file(id, 0).await, Err(MailError::Masked { .. })));
    bench.clock.advance(Duration::from_mins(11));
    assert!(bench.outbox.raw(id).await.is_ok());
    assert!(bench.outbox.content(id).await.unwrap().text.unwrap().contains("dGhp"));
}

#[tokio::test]
async fn what_is_only_kept_for_viewing_is_not_masked() {
    let bench = bench(MailConfig::default());
    let base = bench.submission(&["a@e.org"]);
    let id = bench.outbox.accept(Submission { source: Source::Token, ..base }).await.unwrap().id;
    let claims = bench.outbox.claim(1).await.unwrap();
    bench.outbox.finish(&claims[0], Outcome::Kept).await.unwrap();
    assert!(bench.outbox.raw(id).await.is_ok());
    assert!(!bench.outbox.detail(id).await.unwrap().masked);
}

#[test]
fn masking_leaves_no_long_run_in_any_link() {
    for (text, seen) in [
        ("http://h:8000/a?t=0123456789abcdef0123&x=1", "http://h:8000/a?t=•••&x=1"),
        (
            "<a href=\"https://h/%30123456789abcdef\">0123456789abcdef</a>",
            "<a href=\"https://h/•••\">0123456789abcdef</a>",
        ),
        ("https://a-very-long-host-name.example.com is fine", "https://a-very-long-host-name.example.com is fine"),
        ("no link://", "no link://"),
        ("https://h/ü/0123456789abcdef", "https://h/ü/•••"),
    ] {
        assert_eq!(mask(text), seen);
    }
}

#[tokio::test]
async fn every_hour_says_what_happened_in_it() {
    let bench = bench(MailConfig::default());
    bench.clock.jump_to(Timestamp::from_seconds(1_795_200_000));
    one_of_each(&bench).await;
    bench.clock.advance(Duration::from_hours(2));
    let hours = bench.outbox.hours(3).await.unwrap();
    assert_eq!(hours.len(), 3);
    let first = hours[0].happened;
    assert_eq!((first.accepted, first.sent, first.failed, first.deferred, first.kept), (6, 1, 1, 1, 1));
    assert_eq!(hours[2].happened, counts::HourRow::default());
    assert_eq!(hours[2].start - hours[0].start, 7200);
}

#[tokio::test]
async fn forgotten_messages_are_not_counted_and_their_hours_are_gone() {
    let bench = bench(MailConfig::default());
    bench.clock.jump_to(Timestamp::from_seconds(1_795_200_000));
    bench.accept(&["a@e.org"]).await;
    let claims = bench.outbox.claim(1).await.unwrap();
    bench.outbox.finish(&claims[0], Outcome::Kept).await.unwrap();
    bench.clock.advance(Duration::from_hours(31 * 24 + 2));
    assert_eq!(bench.outbox.forget_old(10).await.unwrap(), 1);
    assert_eq!(bench.outbox.counts().await.unwrap(), Counts::default());
    assert!(bench.outbox.hours(744).await.unwrap().iter().all(|hour| hour.happened == counts::HourRow::default()));
}
