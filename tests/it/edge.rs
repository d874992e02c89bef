//! The edge in front of an app.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::harness::{Server, get};

/// An app that answers one request with what it was sent; its address.
fn app() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::Builder::new()
        .spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let length = head.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
            stream.write_all(&head).unwrap();
        })
        .unwrap();
    address
}

#[test]
fn the_app_is_reached_through_the_edge() {
    let app = app();
    let environment = [("MAINSTAY_EDGE__APP", app.as_str()), ("MAINSTAY_EDGE__REDIRECT_HTTPS", "false")];
    let server = Server::start_with(&environment);
    let (status, answer) = get(&server.address("edge.http"), "/hello?a=1");
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("GET /hello?a=1 HTTP/1.1"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("x-forwarded-for: 127.0.0.1"), "{answer}");
}

#[test]
fn plain_http_is_sent_on_to_https() {
    let server = Server::start();
    let (status, answer) = get(&server.address("edge.http"), "/");
    assert_eq!(status, 301, "{answer}");
    let port = server.address("edge.https").rsplit(':').next().unwrap().to_owned();
    assert!(answer.to_ascii_lowercase().contains(&format!(":{port}/")), "{answer}");
}
