//! What a proxied exchange looks like from both ends.

use super::*;
use crate::http::{Body, Handler, Peer};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_app_sees_the_request_and_who_asked() {
    let trial = trial(PLAIN, ok).await;
    let answer = trial.talk(get("/a%2Fb/../c?x=1%20")).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    let seen = trial.only_request();
    assert!(seen.starts_with("GET /a%2Fb/../c?x=1%20 HTTP/1.1\r\n"), "{seen}");
    for line in ["host: example.com", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "via: 1.1 mainstay"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
}

#[tokio::test]
async fn a_question_about_the_server_as_a_whole_is_answered_here() {
    let trial = trial(PLAIN, ok).await;
    let answer = trial.talk("OPTIONS * HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 204);
    assert!(answer.contains("allow: GET, HEAD") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(trial.origin.requests().is_empty());
}

#[tokio::test]
async fn bodies_pass_in_both_framings() {
    let echo = |request: &str| {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let trial = trial(PLAIN, echo).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let answer = trial.talk(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    assert!(answer.contains("\r\n5\r\nhello\r\n0\r\n"), "{answer}");
    trial.talk(format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n")).await;
    let seen = trial.origin.requests();
    assert!(seen[0].contains("content-length: 5\r\n") && seen[0].ends_with("hello"), "{}", seen[0]);
    assert!(seen[1].contains("transfer-encoding: chunked\r\n") && seen[1].ends_with("0\r\n\r\n"), "{}", seen[1]);
    assert!(!seen[1].contains("x=y"));
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let reply = |_: &str| {
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n"
            .to_owned()
    };
    let trial = trial(PLAIN, reply).await;
    let answer = trial
        .talk(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nX-Up: 3\r\n\r\n",
        )
        .await;
    assert!(answer.contains("x-sum: 7"), "{answer}");
    assert!(trial.only_request().contains("x-up: 3"), "{}", trial.only_request());
}

#[tokio::test]
async fn answers_without_body_stay_without() {
    let reply = |request: &str| {
        match request.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 500\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        }
        .to_owned()
    };
    let trial = trial(PLAIN, reply).await;
    for (method, path, length) in
        [("GET", "/204", None), ("GET", "/304", None), ("HEAD", "/", Some("content-length: 500"))]
    {
        let answer = trial.talk(get(path).replacen("GET", method, 1)).await;
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        if let Some(length) = length {
            assert!(answer.contains(length), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_once_the_app_is_there() {
    let trial = trial(PLAIN, ok).await;
    let mut stream = trial.connect().await;
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        )
        .await
        .unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(b"hi").await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 200);
    assert!(!trial.only_request().contains("expect"));
}

#[tokio::test]
async fn without_the_app_a_client_gets_502_and_no_100() {
    let trial = trial("https = \"\"\napp = \"127.0.0.1:1\"\n", ok).await;
    let answer = trial
        .talk("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(status(&answer), 502);
    assert!(trial.metrics.exposition().contains("mainstay_edge_upstream_errors_total{error=\"connect\"} 1"));
}

#[tokio::test]
async fn without_any_app_a_page_says_how_to_connect_one() {
    let supervisor = Supervisor::new(Shutdown::new());
    let folder = tempfile::tempdir().unwrap();
    let config = EdgeConfig {
        http: crate::base::Listen::loopback(0),
        https: crate::base::Listen::OFF,
        workers: 1,
        ..EdgeConfig::default()
    };
    let edge = start(&config, Listeners::bind(&config).unwrap(), folder.path(), &supervisor).await;
    let mut stream = TcpStream::connect(edge.http().unwrap()).await.unwrap();
    stream.write_all(get("/").as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(status(&answer) == 503 && answer.contains("--app"), "{answer}");
    supervisor.shutdown().force();
}

#[tokio::test]
async fn a_connection_to_the_app_serves_many_requests() {
    let trial = trial(PLAIN, ok).await;
    let mut stream = trial.connect().await;
    for _ in 0..5 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut stream, "ok").await;
    }
    assert_eq!(trial.origin.requests().len(), 5);
    assert_eq!(trial.origin.connections.load(Ordering::SeqCst), 1);
    assert!(trial.metrics.exposition().contains("mainstay_edge_upstream_retries_total 0"));
}

#[tokio::test]
async fn a_stale_connection_costs_a_get_nothing_and_a_post_is_not_sent_twice() {
    // Answers the first request of each connection, and closes when a second one comes.
    let first = Arc::new(Mutex::new(true));
    let reply = move |request: &str| {
        let mut first = first.lock().unwrap();
        let close = !*first && !request.contains("/fresh");
        *first = close;
        if close { String::new() } else { ok(request) }
    };
    let trial = trial(PLAIN, reply).await;
    let one =
        |method: &str| format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(status(&trial.talk(one("GET")).await), 200);
    assert_eq!(status(&trial.talk(one("GET")).await), 200, "closed, then sent again");
    assert_eq!(trial.origin.requests().len(), 3);
    assert_eq!(status(&trial.talk(one("POST")).await), 502, "may have been carried out");
    assert_eq!(trial.origin.requests().len(), 4);
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_given_up() {
    let trial = trial("https = \"\"\n[timeouts]\nresponse = \"100ms\"\n", |_: &str| "HTTP".to_owned()).await;
    assert_eq!(status(&trial.talk(get("/")).await), 504);
}

#[tokio::test]
async fn an_app_that_speaks_nonsense_is_a_502() {
    for reply in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let trial = trial(PLAIN, move |_: &str| reply.to_owned()).await;
        assert_eq!(status(&trial.talk(get("/")).await), 502, "{reply}");
    }
}

#[tokio::test]
async fn bodies_beyond_the_sites_limit_are_refused_in_either_framing() {
    let trial = trial("https = \"\"\n[limits]\nbody = 4\n", ok).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    assert_eq!(status(&trial.talk(format!("{head}Content-Length: 5\r\n\r\nhello")).await), 413);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(status(&trial.talk(chunked).await), 413);
    assert_eq!(status(&trial.talk(format!("{head}Content-Length: 4\r\n\r\nfour")).await), 200);
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_end() {
    let trial = trial("https = \"\"\n[timeouts]\nhead = \"100ms\"\nbody = \"100ms\"\n", ok).await;
    trial.talk("GET / HTTP/1.1\r\nHost:").await;
    trial.talk("").await;
    let answer = trial.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
    assert_eq!(status(&answer), 408);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let reply = |_: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n{}", "x".repeat(64_000_000));
    let trial = trial("https = \"\"\n[timeouts]\nwrite = \"200ms\"\n", reply).await;
    let mut stream = trial.connect().await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 200").await;
    trial.shows("mainstay_http_connections{door=\"edge\"} 0").await;
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let trial = trial(PLAIN, |_: &str| {
        // The body does not end: only streaming shows its first event.
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            .to_owned()
    })
    .await;
    let mut stream = trial.connect().await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "data: 1").await.contains("text/event-stream"));
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_after_the_101() {
    let reply = |request: &str| {
        assert!(request.contains("upgrade: websocket") && request.contains("connection: upgrade"), "{request}");
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
            .to_owned()
    };
    let trial = trial(PLAIN, reply).await;
    let mut stream = trial.connect().await;
    let ask =
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(status(&answer) == 101 && answer.contains("sec-websocket-accept: x"), "{answer}");
    stream.write_all(b"echo me").await.unwrap();
    assert!(read_until(&mut stream, "me").await.contains("echo me"));
    trial.shows("mainstay_edge_upgraded 1").await;
    // Stopping lets it be; the end of the stop's time does not.
    trial.supervisor.shutdown().drain();
    stream.write_all(b"still here").await.unwrap();
    assert!(read_until(&mut stream, "here").await.contains("still here"));
    trial.supervisor.shutdown().force();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_silent_websocket_ends() {
    let reply =
        |_: &str| "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned();
    let trial = trial("https = \"\"\n[timeouts]\nupgrade = \"100ms\"\n", reply).await;
    let mut stream = trial.connect().await;
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 101);
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_server_stops() {
    let trial = trial(PLAIN, ok).await;
    let mut stream = trial.connect().await;
    let ask = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut stream, "100 Continue\r\n\r\n").await;
    trial.supervisor.shutdown().drain();
    stream.write_all(b"hi").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(status(&answer) == 200 && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let trial = trial(PLAIN, |_: &str| "HTTP".to_owned()).await;
    let mut stream = trial.connect().await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    while trial.origin.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stream);
    trial.shows("mainstay_http_connections{door=\"edge\"} 0").await;
    assert!(trial.metrics.exposition().contains("mainstay_edge_upstream_seconds_count 0"));
}

#[tokio::test]
async fn an_app_that_is_the_edge_itself_is_told_by_a_508() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let supervisor = Supervisor::new(Shutdown::new());
    let folder = tempfile::tempdir().unwrap();
    let config = EdgeConfig { app: address.to_string(), workers: 1, ..EdgeConfig::default() };
    let edge =
        start(&config, Listeners::adopt(&config, vec![listener], Vec::new()).unwrap(), folder.path(), &supervisor)
            .await;
    let mut stream = TcpStream::connect(edge.http().unwrap()).await.unwrap();
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 508);
    supervisor.shutdown().force();
}

#[tokio::test]
async fn addresses_have_a_number_of_connections() {
    let trial = trial("https = \"\"\n[limits]\nconnections_per_ip = 1\n", ok).await;
    let mut first = trial.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut first, "ok").await;
    assert_eq!(trial.talk(get("/")).await, "");
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut first, "ok").await;
}

#[tokio::test]
async fn a_path_that_means_two_sites_is_refused() {
    let settings = "https = \"\"\n[[sites]]\npath = \"/api\"\nupstream = \"127.0.0.1:1\"\n";
    let trial = trial(settings, ok).await;
    for path in ["/x/../api", "/%61pi/x", "//api"] {
        assert_eq!(status(&trial.talk(get(path)).await), 400, "{path}");
    }
    assert_eq!(status(&trial.talk(get("/x")).await), 200);
    assert_eq!(status(&trial.talk(get("/api")).await), 502);
}

struct Show;

impl Handler for Show {
    fn call(&self, request: http::Request<Body>, peer: Peer) -> crate::http::Answer<'_> {
        Box::pin(async move {
            let text = format!("{} {} {:?}", peer.door, request.uri(), request.headers());
            let body = crate::http::body::read(request.into_body(), 1 << 20).await.unwrap();
            http::Response::new(Body::from(format!("{text} {}", body.len())))
        })
    }
}

#[tokio::test]
async fn a_door_gets_the_head_as_the_client_sent_it() {
    let door = Door { label: "s3", below: true, plain: OnPlainHttp::Serve, handler: Arc::new(Show) };
    let trial = trial_with_doors("domain = \"example.com\"", vec![door], ok).await;
    let body = "x".repeat(300_000);
    let answer = trial
        .talk(format!(
            "PUT /a//b%2Fc/../d?x HTTP/1.1\r\nHost: bucket.s3.example.com:9\r\nConnection: close\r\nX_Odd: 1\r\n\
             X-Forwarded-For: 6.6.6.6\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    for part in ["s3 /a//b%2Fc/../d?x", "\"host\": \"bucket.s3.example.com:9\"", "x_odd", "6.6.6.6", " 300000"] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    assert!(!answer.contains("nosniff"));
    assert!(trial.origin.requests().is_empty());
}

#[tokio::test]
async fn plain_http_leads_to_https_with_path_and_port() {
    let trial = trial("", ok).await;
    let port = trial.edge.https().unwrap().port();
    let answer = trial.talk(get("/a?b=%20")).await;
    assert_eq!(status(&answer), 301);
    assert!(answer.contains(&format!("location: https://example.com:{port}/a?b=%20\r\n")), "{answer}");
    assert_eq!(status(&trial.talk(get("/").replacen("GET", "POST", 1)).await), 308);
    assert_eq!(status(&trial.talk(get("/.well-known/acme-challenge/x")).await), 404);
    assert!(trial.origin.requests().is_empty());
}
