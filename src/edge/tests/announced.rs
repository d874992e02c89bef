//! Connections that a load balancer announces by the PROXY protocol.

use super::*;
use crate::bans::Wanted;
use crate::base::network::Network;

const BALANCED: &str = "https = \"\"\nproxy_protocol = [\"127.0.0.1\"]\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";

/// The binary form, for a client 192.0.2.7.
fn binary(command: u8) -> Vec<u8> {
    let fixed = [command, 0x11, 0, 12, 192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 187];
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &fixed].concat()
}

#[tokio::test]
async fn the_app_sees_whom_the_balancer_speaks_for() {
    let trial = trial(BALANCED, ok).await;
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary(0x21), "192.0.2.7"),
        (binary(0x20), "127.0.0.1"),
    ] {
        let answer = trial.talk([header.as_slice(), REQUEST.as_bytes()].concat()).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let seen = trial.origin.requests().pop().unwrap();
        assert!(seen.contains(&format!("x-forwarded-for: {client}\r\n")), "{seen}");
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte_and_must_come() {
    let trial = trial(BALANCED, ok).await;
    let mut stream = trial.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 200);
    let endless = "PROXY TCP4 ".repeat(20);
    for nothing in [REQUEST, "PROXY TCP4 203.0.113.9\r\n\r\n", &endless, "PROXY"] {
        let mut stream = trial.connect().await;
        let _ = stream.write_all(nothing.as_bytes()).await;
        let _ = stream.shutdown().await;
        assert_eq!(read_all(&mut stream).await, "", "{nothing}");
    }
    trial.shows("mainstay_edge_unannounced_total 4").await;
    assert_eq!(trial.origin.requests().len(), 1);
}

#[tokio::test]
async fn silence_ends_and_who_is_no_balancer_announces_nobody() {
    let silent = trial("proxy_protocol = [\"127.0.0.1\"]\n[timeouts]\ntls_handshake = \"100ms\"\n", ok).await;
    let mut stream = TcpStream::connect(silent.edge.https().unwrap()).await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    silent.shows("mainstay_edge_unannounced_total 1").await;
    let other = trial("https = \"\"\nproxy_protocol = [\"192.0.2.1\"]\n", ok).await;
    let line = "PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n";
    assert_eq!(status(&other.talk(format!("{line}{REQUEST}")).await), 400);
    assert!(other.origin.requests().is_empty());
}

#[tokio::test]
async fn limits_and_bans_are_of_the_client_and_not_of_the_balancer() {
    let trial = trial("proxy_protocol = [\"127.0.0.1\"]\n[limits]\nconnections_per_ip = 1\n", ok).await;
    let open = async |client: &str| {
        let mut stream = trial.connect().await;
        let line = format!("PROXY TCP4 {client} 198.51.100.1 56324 80\r\n");
        stream.write_all(format!("{line}GET / HTTP/1.1\r\nHost: x.example\r\n\r\n").as_bytes()).await.unwrap();
        let begun = read_until(&mut stream, "\r\n\r\n").await;
        (stream, begun)
    };
    let (_first, begun) = open("203.0.113.1").await;
    assert!(begun.starts_with("HTTP/1.1 "), "{begun}");
    assert_eq!(open("203.0.113.1").await.1, "");
    let (_other, begun) = open("203.0.113.2").await;
    assert!(begun.starts_with("HTTP/1.1 "), "{begun}");

    let network = Network::client("203.0.113.7").unwrap();
    trial.edge.bans.add(&Wanted { network, span: None, reason: String::new(), force: false }).await.unwrap();
    let mut stream = TcpStream::connect(trial.edge.https().unwrap()).await.unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    trial.shows("mainstay_edge_banned_total 1").await;
}
