//! Requests made to be read in two ways. Judged by what the origin receives.

use super::*;

/// What every request the origin sees must be like, whatever the client sent.
fn assert_clean(request: &str) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let lines: Vec<(String, &str)> = head
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)).unwrap())
        .collect();
    let all =
        |wanted: &str| lines.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!(all("host").len(), 1, "{request}");
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "{request}");
    assert!(codings.is_empty() || codings == ["chunked"], "{request}");
    if lengths.is_empty() && codings.is_empty() {
        assert_eq!(body, "", "bytes behind a request without body: {request}");
    }
    for (name, value) in &lines {
        assert!(!name.contains(['_', ' ', '\t']) && !value.contains(['\r', '\n', '\0']), "{request}");
        assert!(
            !["connection", "keep-alive", "te", "upgrade", "proxy-connection"].contains(&name.as_str()),
            "{request}"
        );
    }
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{request}");
}

/// (name, request, statuses that are fine, most requests the origin may see)
const CORPUS: &[(&str, &str, &[u16], usize)] = &[
    ("no host", "GET / HTTP/1.1\r\n\r\n", &[400], 0),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400], 0),
    ("user info in host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", &[400], 0),
    ("space in host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &[400], 0),
    ("host and absolute form differ", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400], 0),
    ("http/1.0 without host", "GET / HTTP/1.0\r\n\r\n", &[400], 0),
    ("connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", &[405], 0),
    ("space before colon", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", &[400], 0),
    ("tab before colon", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", &[400], 0),
    ("folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n", &[400], 0),
    ("first line begins with space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", &[400], 0),
    ("nul in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", &[400], 0),
    ("nul in name", "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", &[400], 0),
    ("bare cr in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: 5\r\n\r\n", &[400], 0),
    ("no colon", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding chunked\r\n\r\n", &[400], 0),
    ("empty name", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", &[400], 0),
    ("two spaces in request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", &[400], 0),
    ("http/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", &[400, 505], 0),
    ("http/0.9", "GET /\r\n\r\n", &[400, 505], 0),
    ("unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", &[400, 501], 0),
    ("te list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[400, 501], 0),
    (
        "te identity then chunked",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
        0,
    ),
    (
        "te chunked then identity",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        &[400, 501],
        0,
    ),
    (
        "te chunked twice",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
        0,
    ),
    ("te xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400, 501], 0),
    (
        "te vertical tab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
        0,
    ),
    ("te quoted", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", &[400, 501], 0),
    ("te in http/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400, 501], 0),
    ("cl differing", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", &[400], 0),
    ("cl list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", &[400], 0),
    ("cl signed", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", &[400], 0),
    ("cl negative", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", &[400], 0),
    ("cl hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", &[400], 0),
    ("cl overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", &[400, 413], 0),
    ("cl empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", &[400], 0),
    // Read as chunks, and the connection ends with the answer: what follows is never a request (RFC 9112, 6.1).
    (
        "cl.te",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        &[200, 400],
        1,
    ),
    (
        "te.cl",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        &[200, 400],
        1,
    ),
    (
        "chunk size overflow",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nffffffffffffffff1\r\nx\r\n0\r\n\r\n",
        &[400, 502],
        1,
    ),
    (
        "chunk size signed",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        &[400, 502],
        1,
    ),
    (
        "chunk without end",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        &[400, 502],
        1,
    ),
    (
        "chunk extension with lf",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        &[400, 502, 200],
        1,
    ),
    ("body of a get", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", &[200], 1),
    ("bare lf", "GET / HTTP/1.1\nHost: a\nConnection: close\n\n", &[200, 400], 1),
    (
        "underscores",
        "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        &[200],
        1,
    ),
    (
        "connection names framing",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close, content-length, host, x\r\nX: 1\r\n\r\nhi",
        &[200],
        1,
    ),
    (
        "upgrade to h2c",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        &[200],
        1,
    ),
    ("expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-maybe\r\nContent-Length: 0\r\n\r\n", &[417], 0),
    ("fragment in target", "GET /a#b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[200, 400], 1),
    ("control byte in target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", &[400], 0),
];

#[tokio::test]
async fn the_origin_sees_one_clean_request_or_none() {
    for (name, request, fine, most) in CORPUS {
        let trial = trial(PLAIN, ok).await;
        let answer = trial.talk(request).await;
        assert!(fine.contains(&status(&answer)), "{name}: {answer:?}");
        let seen = trial.origin.requests();
        assert!(seen.len() <= *most, "{name}: {seen:?}");
        for request in &seen {
            assert_clean(request);
            assert!(!request.contains("/evil"), "{name}: {request}");
        }
    }
}

#[tokio::test]
async fn a_refused_head_ends_its_connection_so_nothing_behind_it_is_read() {
    let trial = trial(PLAIN, ok).await;
    let answer = trial.talk("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&answer), 400);
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(trial.origin.requests().is_empty());
}

#[tokio::test]
async fn heads_have_a_size_and_a_count() {
    let trial = trial("https = \"\"\n[limits]\nheader_bytes = \"8 KiB\"\nheaders = 20\n", ok).await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(status(&trial.talk(long).await), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(21));
    assert_eq!(status(&trial.talk(many).await), 431);
    assert!(trial.origin.requests().is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_apart() {
    let reply = |request: &str| {
        let path = request.split(' ').nth(1).unwrap_or("").to_owned();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len())
    };
    let trial = trial(PLAIN, reply).await;
    let answer = trial
        .talk("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.find("/1").unwrap() < answer.find("/2").unwrap(), "{answer}");
    let seen = trial.origin.requests();
    assert_eq!(seen.len(), 2);
    assert_clean(&seen[0]);
    assert_clean(&seen[1]);
    assert!(seen[0].ends_with("abc"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]
    /// Random mixtures of framing lines never show the origin more than one reading.
    #[test]
    fn mixtures_of_framing_lines_stay_clean(
        lines in proptest::collection::vec(
            proptest::sample::select(&[
                "Content-Length: 3", "Content-Length: 0", "Content-Length:3", "content-length: 03", "Transfer-Encoding: chunked",
                "Transfer-Encoding: CHUNKED", "transfer-encoding:\tchunked", "Transfer-Encoding: identity", "Connection: close",
                "Connection: transfer-encoding", "TE: trailers", "Trailer: x", "Expect: 100-continue", "X_Y: 1",
            ][..]),
            0..5,
        ),
        body in proptest::sample::select(&["", "abc", "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "0\r\nx: 1\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"][..]),
    ) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let trial = trial("https = \"\"\n[timeouts]\nhead = \"100ms\"\nbody = \"100ms\"\n", ok).await;
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{}{}\r\n{body}", lines.join("\r\n"), if lines.is_empty() { "" } else { "\r\n" });
            trial.talk(request).await;
            for request in trial.origin.requests() {
                assert_clean(&request);
            }
        });
    }
}
