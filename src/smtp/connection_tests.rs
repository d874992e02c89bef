//! The door over a real socket.

use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;
use crate::accounts::FirstCredentials;
use crate::base::{Secret, Shutdown};
use crate::mail::MailConfig;
use crate::testing::{TestClock, TestRandom, memory_store};

const SECRET: &str = "a-secret-of-some-length";

struct Bench {
    client: BufReader<TcpStream>,
    outbox: Outbox,
    supervisor: Supervisor,
}

async fn bench(mail: MailConfig) -> Bench {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::default());
    let random = Arc::new(TestRandom::new(3));
    let metrics = Metrics::new();
    let store = memory_store();
    let first = FirstCredentials { id: Some("AKIDEXAMPLE".to_owned()), secret: Some(Secret::new(SECRET.to_owned())) };
    let keys = Arc::new(AccessKeys::open(&store, random.as_ref(), clock.as_ref(), first).unwrap());
    let outbox = Outbox::new(store, Arc::clone(&clock), random, &metrics, mail);
    let config = SmtpConfig { max_clients: 1, max_errors: 3, ..SmtpConfig::default() };
    let place = Place { region: "us-east-1".to_owned(), host: "mail.example.com".to_owned() };
    let bans = Bans::open(memory_store(), Arc::clone(&clock), &metrics, bans::Rules::default()).unwrap();
    let door = Door::new(outbox.clone(), keys, clock, config, place, bans, &metrics);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let supervisor = Supervisor::new(Shutdown::new());
    supervisor.task("smtp", Role::Critical, serve(listener, Arc::new(door), supervisor.clone()));
    let client = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut bench = Bench { client, outbox, supervisor };
    assert!(bench.answer().await.starts_with("220 mail.example.com"));
    bench
}

impl Bench {
    async fn answer(&mut self) -> String {
        let mut text = String::new();
        loop {
            let start = text.len();
            self.client.read_line(&mut text).await.unwrap();
            if text.as_bytes().get(start + 3) != Some(&b'-') {
                return text;
            }
        }
    }

    async fn say(&mut self, text: &str) -> String {
        self.client.write_all(text.as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn log_in(&mut self) {
        use base64::Engine as _;
        self.say("EHLO client\r\n").await;
        let password = smtp_password(&Secret::new(SECRET.to_owned()), "us-east-1");
        let login = format!("\0AKIDEXAMPLE\0{}", password.expose());
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        assert!(self.say(&format!("AUTH PLAIN {login}\r\n")).await.starts_with("235"));
    }

    async fn envelope(&mut self) {
        assert!(self.say("MAIL FROM:<shop@example.com>\r\n").await.starts_with("250"));
        assert!(self.say("RCPT TO:<ada@example.com>\r\n").await.starts_with("250"));
        assert!(self.say("DATA\r\n").await.starts_with("354"));
    }
}

#[tokio::test]
async fn a_message_is_queued_when_the_250_is_said() {
    let mut bench = bench(MailConfig::default()).await;
    bench.log_in().await;
    bench.envelope().await;
    let answer = bench.say("Subject: hi\r\nBcc: eve@example.com\r\n\r\n..dot\r\n.\r\n").await;
    assert!(answer.starts_with("250 2.0.0 OK: queued as "), "{answer}");
    let message = bench.outbox.messages(None, 1).await.unwrap().remove(0);
    assert!(answer.contains(&message.id.to_string()));
    let text = String::from_utf8(bench.outbox.text(message.id).await.unwrap()).unwrap();
    assert!(text.starts_with("Received: from [127.0.0.1]") && text.ends_with("\r\n\r\n.dot\r\n"), "{text}");
    assert!(!text.contains("eve@"), "{text}");
}

#[tokio::test]
async fn pipelined_commands_are_answered_in_order() {
    let mut bench = bench(MailConfig::default()).await;
    bench.log_in().await;
    let all = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n";
    assert!(bench.say(all).await.starts_with("250 2.1.0"));
    assert!(bench.answer().await.starts_with("250 2.1.5"));
    assert!(bench.answer().await.starts_with("354"));
    assert!(bench.say("A: b\r\n\r\n.\r\nQUIT\r\n").await.starts_with("250"));
    assert!(bench.answer().await.starts_with("221"));
}

#[tokio::test]
async fn wrong_passwords_are_refused_until_the_connection_is_closed() {
    let mut bench = bench(MailConfig::default()).await;
    bench.say("EHLO client\r\n").await;
    for _ in 0..3 {
        assert!(bench.say("AUTH PLAIN AEFLSURFWEFNUExFAHdyb25n\r\n").await.starts_with("535"));
    }
    assert!(bench.say("AUTH PLAIN AEFLSURFWEFNUExFAHdyb25n\r\n").await.starts_with("535"));
    assert!(bench.answer().await.starts_with("421"));
    assert_eq!(bench.answer().await, "");
}

#[tokio::test]
async fn a_smuggled_second_message_ends_the_connection_and_queues_nothing() {
    let mut bench = bench(MailConfig::default()).await;
    bench.log_in().await;
    bench.envelope().await;
    let smuggled = "A: b\r\n\r\nhi\n.\r\nMAIL FROM:<x@example.com>\r\nRCPT TO:<y@example.com>\r\nDATA\r\nevil\r\n.\r\n";
    assert!(bench.say(smuggled).await.starts_with("521"));
    assert_eq!(bench.answer().await, "");
    assert!(bench.outbox.messages(None, 1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_too_large_is_refused_and_the_next_one_taken() {
    let mut bench = bench(MailConfig { max_message: crate::base::ByteSize(600), ..MailConfig::default() }).await;
    bench.log_in().await;
    bench.envelope().await;
    let long = format!("A: b\r\n\r\n{}\r\n.\r\n", "x".repeat(900));
    assert!(bench.say(&long).await.starts_with("552"));
    bench.envelope().await;
    assert!(bench.say("A: b\r\n\r\nshort\r\n.\r\n").await.starts_with("250"));
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_a_drain_says_goodbye() {
    let mut bench = bench(MailConfig::default()).await;
    let address = bench.client.get_ref().peer_addr().unwrap();
    let mut second = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut text = String::new();
    second.read_line(&mut text).await.unwrap();
    assert!(text.starts_with("421"), "{text}");
    bench.supervisor.shutdown().drain();
    assert!(bench.answer().await.starts_with("421 4.3.2 Service shutting down"));
}

#[test]
fn the_budget_for_messages_is_shared_and_given_back() {
    let room = Arc::new(Semaphore::new(3));
    let (mut first, mut second) = (None, None);
    assert!(grow(&mut first, 2 * SHARE, &room));
    assert!(grow(&mut first, 2 * SHARE, &room));
    assert!(grow(&mut second, 1, &room));
    assert!(!grow(&mut second, SHARE + 1, &room));
    drop(first);
    assert!(grow(&mut second, 3 * SHARE, &room));
}
