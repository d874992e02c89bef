//! The outbox on the engine in memory, every closure run twice.

use std::time::Duration;

use super::*;
use crate::mail::LineEnds;
use crate::testing::{TestClock, TestRandom, memory_store};

pub(in crate::mail) struct Bench {
    pub outbox: Outbox,
    pub clock: Arc<TestClock>,
}

pub(in crate::mail) fn bench(config: MailConfig) -> Bench {
    let clock = Arc::new(TestClock::default());
    let random = Arc::new(TestRandom::new(7));
    let outbox = Outbox::new(memory_store(), Arc::clone(&clock) as Arc<dyn Clock>, random, &Metrics::new(), config);
    Bench { outbox, clock }
}

impl Bench {
    pub fn submission(&self, to: &[&str]) -> Submission {
        let id = self.outbox.fresh_id();
        let text = b"Subject: hi\r\n\r\nbody\r\n";
        Submission {
            id,
            envelope: Envelope {
                from: "shop@example.com".parse().unwrap(),
                to: to.iter().map(|to| to.parse().unwrap()).collect(),
            },
            trace: b"Received: from [127.0.0.1]\r\n".to_vec(),
            message: Message::parse(text, LineEnds::Strict, self.clock.now(), &id.to_string(), "example.com").unwrap(),
            source: Source::Smtp,
            idempotency: None,
            urgent: false,
            useful_for: None,
        }
    }

    pub async fn accept(&self, to: &[&str]) -> Id128 {
        self.outbox.accept(self.submission(to)).await.unwrap().id
    }
}

#[tokio::test]
async fn every_recipient_is_a_delivery_of_its_own() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@example.com", "b@example.com"]).await;
    let claims = bench.outbox.claim(10).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.to.as_str()).collect::<Vec<_>>(), ["a@example.com", "b@example.com"]);
    assert!(bench.outbox.claim(10).await.unwrap().is_empty(), "claimed deliveries are not due");

    bench.outbox.finish(&claims[0], Outcome::Delivered("250 ok".to_owned())).await.unwrap();
    bench.outbox.finish(&claims[1], Outcome::Refused("550 no such user".to_owned())).await.unwrap();
    let record = bench.outbox.message(id).await.unwrap();
    assert_eq!(record.deliveries.iter().map(|row| row.state).collect::<Vec<_>>(), [State::Delivered, State::Failed]);
    assert_eq!(record.deliveries[1].events[0].note, "550 no such user");
    assert!(record.message.finished_ms.is_some());
    assert_eq!((bench.outbox.open().await.unwrap(), bench.outbox.next_due().await.unwrap()), (0, None));
    assert!(bench.outbox.text(id).await.unwrap().starts_with(b"Received: from [127.0.0.1]\r\nSubject: hi\r\n"));
}

#[tokio::test]
async fn the_same_idempotency_name_is_the_same_message() {
    let bench = bench(MailConfig::default());
    let named = |name: &str| Submission { idempotency: Some(name.to_owned()), ..bench.submission(&["a@example.com"]) };
    let first = bench.outbox.accept(named("key 1")).await.unwrap();
    let second = bench.outbox.accept(named("key 1")).await.unwrap();
    let other = bench.outbox.accept(named("key 2")).await.unwrap();
    assert_eq!((first.again, second), (false, Accepted { id: first.id, again: true }));
    assert!(!other.again);
    assert_eq!(bench.outbox.claim(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_deferred_delivery_comes_back_when_due_and_is_given_up_in_the_end() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@example.com"]).await;
    let mut attempts = 0;
    while let Some(due) = bench.outbox.next_due().await.unwrap() {
        bench.clock.jump_to(due);
        let claims = bench.outbox.claim(10).await.unwrap();
        bench.outbox.finish(&claims[0], Outcome::Retry("451 later".to_owned())).await.unwrap();
        attempts += 1;
    }
    let row = bench.outbox.message(id).await.unwrap().deliveries.remove(0);
    assert_eq!((row.state, row.attempts), (State::Failed, attempts));
    assert!(attempts > 6, "{attempts}");
    assert!(row.events.last().unwrap().note.starts_with("given up"));
}

#[tokio::test]
async fn throttling_is_no_attempt() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@example.com"]).await;
    let claims = bench.outbox.claim(1).await.unwrap();
    let state = bench.outbox.finish(&claims[0], Outcome::Throttled("454 slow down".to_owned())).await.unwrap();
    assert_eq!(state, State::Queued);
    assert_eq!(bench.outbox.message(id).await.unwrap().deliveries[0].attempts, 0);
}

#[tokio::test]
async fn what_was_running_when_the_server_was_killed_is_queued_again_and_final_states_stay() {
    let bench = bench(MailConfig::default());
    let id = bench.accept(&["a@example.com", "b@example.com"]).await;
    let claims = bench.outbox.claim(10).await.unwrap();
    bench.outbox.finish(&claims[1], Outcome::Refused("550 no".to_owned())).await.unwrap();

    assert_eq!(bench.outbox.recover().await.unwrap(), 1);
    let again = bench.outbox.claim(10).await.unwrap();
    assert_eq!(again.iter().map(|claim| claim.index).collect::<Vec<_>>(), [0]);
    // A late outcome of a final delivery changes nothing.
    let late = bench.outbox.finish(&claims[1], Outcome::Delivered("250".to_owned())).await.unwrap();
    assert_eq!(late, State::Failed);
    assert!(bench.outbox.message(id).await.unwrap().deliveries[0].events[0].note.contains("twice"));
}

#[tokio::test]
async fn limits_refuse_before_anything_is_queued() {
    let config = MailConfig { max_queue: 2, max_recipients: 3, ..MailConfig::default() };
    let bench = bench(config);
    let four = ["a@e.org", "b@e.org", "c@e.org", "d@e.org"];
    let many = bench.outbox.accept(bench.submission(&four)).await;
    assert!(matches!(many, Err(MailError::TooManyRecipients { count: 4, most: 3 })));
    let full = bench.outbox.accept(bench.submission(&four[..3])).await;
    assert!(matches!(full, Err(MailError::QueueFull { most: 2 })));
    assert!(bench.outbox.messages(None, 10).await.unwrap().is_empty());
    assert_eq!(bench.outbox.open().await.unwrap(), 0);
}

#[tokio::test]
async fn finished_messages_are_forgotten_after_their_time_with_all_their_rows() {
    let bench = bench(MailConfig::default());
    let name = Some("key".to_owned());
    let id = bench.outbox.accept(Submission { idempotency: name, ..bench.submission(&["a@e.org"]) }).await.unwrap().id;
    bench.clock.advance(Duration::from_millis(1));
    let open = bench.accept(&["b@e.org"]).await;
    let claims = bench.outbox.claim(1).await.unwrap();
    bench.outbox.finish(&claims[0], Outcome::Kept).await.unwrap();
    assert_eq!(bench.outbox.forget_old(10).await.unwrap(), 0);
    bench.clock.advance(Duration::from_hours(31 * 24));
    assert_eq!(bench.outbox.forget_old(10).await.unwrap(), 1);
    assert!(matches!(bench.outbox.text(id).await, Err(MailError::NoSuchMessage(_))));
    let left = bench.outbox.messages(None, 10).await.unwrap();
    assert_eq!(left.iter().map(|record| record.id).collect::<Vec<_>>(), [open]);
}

#[tokio::test]
async fn messages_page_from_the_newest() {
    let bench = bench(MailConfig::default());
    let mut ids = Vec::new();
    for _ in 0..5 {
        bench.clock.advance(Duration::from_millis(1));
        ids.insert(0, bench.accept(&["a@e.org"]).await);
    }
    let page = bench.outbox.messages(None, 2).await.unwrap();
    assert_eq!(page.iter().map(|record| record.id).collect::<Vec<_>>(), ids[..2]);
    let rest = bench.outbox.messages(Some(ids[1]), 10).await.unwrap();
    assert_eq!(rest.iter().map(|record| record.id).collect::<Vec<_>>(), ids[2..]);
}
