//! The relay transport against a small SMTP server on loopback that answers as told.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

/// Serves one connection: answers RCPT with `to_rcpt` and the data with `to_data`; gives back the raw data lines.
async fn relay(listener: TcpListener, to_rcpt: &str, to_data: &str) -> String {
    let (socket, _) = listener.accept().await.unwrap();
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut data = None;
    write.write_all(b"220 test ESMTP\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match (&mut data, line.as_str()) {
            (Some(_), ".") => {
                write.write_all(format!("{to_data}\r\n").as_bytes()).await.unwrap();
                break;
            }
            (Some(text), line) => {
                *text = format!("{text}{line}\n");
                continue;
            }
            (None, line) if line.starts_with("RCPT") => to_rcpt,
            (None, "DATA") => {
                data = Some(String::new());
                "354 go on"
            }
            (None, "QUIT") => break,
            _ => "250 ok",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
    }
    data.unwrap_or_default()
}

async fn send(to_rcpt: &'static str, to_data: &'static str, text: &str) -> (Outcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let transport = SmtpRelay::new(&url, None, "mail.example.com", 2, Duration::from_secs(10)).unwrap();
    let server = relay(listener, to_rcpt, to_data);
    let client = async {
        let outcome = transport.send("a@example.com", "b@example.com", text.as_bytes()).await;
        drop(transport);
        outcome
    };
    let (outcome, data) = futures_util::future::join(client, server).await;
    (outcome, data)
}

#[tokio::test]
async fn a_taken_message_is_delivered_with_its_dots_and_nothing_added() {
    let (outcome, data) = send("250 ok", "250 queued as 7", "A: b\r\n\r\n.\r\n..x\r\n.y\r\n").await;
    assert_eq!(outcome, Outcome::Delivered("250 queued as 7".to_owned()));
    assert_eq!(data, "A: b\n\n..\n...x\n..y\n");
}

#[tokio::test]
async fn every_line_that_starts_with_a_dot_is_stuffed_however_it_is_reached() {
    let text = "A: b\r\n.folded\r\n\r\n\r\n.\r\n\r\n..\r\n.\r\n.";
    let (outcome, data) = send("250 ok", "250 ok", text).await;
    assert!(matches!(outcome, Outcome::Delivered(_)), "{outcome:?}");
    assert_eq!(data, "A: b\n..folded\n\n\n..\n\n...\n..\n..\n");
}

#[tokio::test]
async fn a_lone_line_end_never_reaches_the_relay() {
    let transport = SmtpRelay::new("smtp://127.0.0.1:9", None, "h", 1, Duration::from_secs(5)).unwrap();
    for text in ["a\n.\r\n", "a\r\n\n.\r\n", "a\r.\r\n", "a\r\r\n", "a\r"] {
        let outcome = transport.send("a@example.com", "b@example.com", text.as_bytes()).await;
        assert!(matches!(outcome, Outcome::Refused(note) if note.contains("lone")), "{text:?}");
    }
}

#[tokio::test]
async fn a_permanent_refusal_is_final_and_a_transient_one_is_not() {
    assert!(
        matches!(send("550 no such user", "", "A: b\r\n\r\n").await.0, Outcome::Refused(note) if note.contains("550") || note.contains("no such user"))
    );
    assert!(matches!(send("451 try later", "", "A: b\r\n\r\n").await.0, Outcome::Retry(_)));
    assert!(matches!(send("250 ok", "554 no spam", "A: b\r\n\r\n").await.0, Outcome::Refused(_)));
    assert!(matches!(send("454 Throttling failure: rate", "", "A: b\r\n\r\n").await.0, Outcome::Throttled(_)));
}

#[tokio::test]
async fn a_dead_relay_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    drop(listener);
    let transport = SmtpRelay::new(&url, None, "h", 1, Duration::from_secs(5)).unwrap();
    assert!(matches!(transport.send("a@example.com", "b@example.com", b"A: b\r\n\r\n").await, Outcome::Retry(_)));
}

#[test]
fn credentials_in_the_relay_address_are_refused() {
    for url in ["smtp://user:pass@example.com", "example.com:25", "http://example.com"] {
        assert!(SmtpRelay::new(url, None, "h", 1, Duration::from_secs(1)).is_err(), "{url}");
    }
}
