//! The listener against clients on real sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::*;
use crate::base::supervise::Role;
use crate::base::{Shutdown, Span, Supervisor};
use crate::telemetry::Metrics;

/// `/echo` gives the body back, `/panic` panics, `/wait` waits for a nudge, `/first` and `/last` do in the middle of
/// their answer, `/peer` tells the door.
struct TestDoor {
    nudge: Arc<Notify>,
    arrived: Notify,
}

impl Handler for TestDoor {
    fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_> {
        Box::pin(async move {
            match request.uri().path() {
                "/echo" => match body::read(request.into_body(), 1 << 20).await {
                    Ok(bytes) => Response::new(Body::from(bytes)),
                    Err(error) => Response::new(Body::from(error.to_string())),
                },
                "/panic" => panic!("on purpose"),
                "/wait" => {
                    self.arrived.notify_one();
                    self.nudge.notified().await;
                    Response::new(Body::from("waited"))
                }
                "/last" | "/first" => {
                    self.arrived.notify_one();
                    let door = Arc::clone(&self.nudge);
                    let rest = async move {
                        door.notified().await;
                        Ok::<_, std::io::Error>(Bytes::from_static(b"the rest"))
                    };
                    let mut response = Response::new(Body::from_stream(futures_util::stream::once(rest)));
                    if request.uri().path() == "/last" {
                        response.extensions_mut().insert(Lasting);
                    }
                    response
                }
                "/flood" => Response::new(Body::from_stream(futures_util::stream::repeat_with(|| {
                    Ok::<_, std::io::Error>(Bytes::from_static(&[0; 16_384]))
                }))),
                _ => Response::new(Body::from(peer.door)),
            }
        })
    }
}

struct Running {
    address: std::net::SocketAddr,
    door: Arc<TestDoor>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    lasting: Supervisor,
    metrics: Metrics,
}

fn start(config: ServeConfig) -> Running {
    start_without(config, None)
}

fn start_without(config: ServeConfig, shut_out: Option<ShutOut>) -> Running {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let metrics = Metrics::new();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Arc::new(TestDoor { nudge: Arc::default(), arrived: Notify::new() });
    let handler: Arc<dyn Handler> = Arc::clone(&door) as Arc<dyn Handler>;
    let lasting = Supervisor::new(Shutdown::new());
    let tasks = (supervisor.clone(), Some(lasting.clone()));
    let serving = serve(listener, handler, config, tasks, metrics.clone(), "test", shut_out);
    supervisor.task("listener", Role::Ordinary, serving);
    Running { address, door, shutdown, supervisor, lasting, metrics }
}

fn impatient() -> ServeConfig {
    let moment = Span::millis(50);
    ServeConfig { head_timeout: moment, body_timeout: moment, write_timeout: moment, ..ServeConfig::default() }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes`, then gives all that comes back until the server closes.
    async fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

#[tokio::test]
async fn a_request_is_answered_and_counted() {
    let running = start(ServeConfig::default());
    let text = running.exchange("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\ntest"), "{text}");
    assert!(running.metrics.exposition().contains("mainstay_http_requests_total{door=\"test\",status=\"2xx\"} 1"));
}

#[tokio::test]
async fn who_is_shut_out_gets_no_connection_and_no_further_answer_on_an_old_one() {
    let shut = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = Arc::clone(&shut);
    let shut_out: ShutOut = Arc::new(move |_| asked.load(std::sync::atomic::Ordering::SeqCst));
    let running = start_without(ServeConfig::default(), Some(shut_out));
    let one = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut stream = running.connect().await;
    stream.write_all(one.as_bytes()).await.unwrap();
    let mut room = [0; 12];
    stream.read_exact(&mut room).await.unwrap();
    assert_eq!(&room, b"HTTP/1.1 200");
    shut.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(running.exchange("").await, "");
    stream.write_all(one.as_bytes()).await.unwrap();
    let rest = read_all(&mut stream).await;
    assert!(rest.contains("HTTP/1.1 403 Forbidden\r\n"), "{rest}");
}

#[tokio::test]
async fn a_panicking_handler_is_a_500_and_the_connection_goes_on() {
    let running = start(ServeConfig::default());
    let one = "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n";
    let text = running.exchange(&format!("{one}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert!(text.starts_with("HTTP/1.1 500 ") && text.contains("HTTP/1.1 200 OK"), "{text}");
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let running = start(ServeConfig::default());
    for head in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n"] {
        let mut stream = running.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 400");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let running = start(impatient());
    for beginning in ["", "G", "GET / HTTP/1.1\r\nhost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = running.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        // The read ends only because the server closes; without its timeouts this test would hang.
        read_all(&mut stream).await;
    }
}

#[tokio::test]
async fn a_kept_alive_connection_is_closed_after_its_rest() {
    let running = start(impatient());
    let text = running.exchange("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let running = start(impatient());
    let text = running.exchange("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(text.contains("body could not be read"), "{text}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let running = start(impatient());
    let mut stream = running.connect().await;
    stream.write_all(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let open = running.metrics.gauge("mainstay_http_connections", "", &[("door", "test")]);
    while open.value() == 0 {
        tokio::task::yield_now().await;
    }
    // The client's socket is open and full; only the server's own patience ends this.
    while open.value() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_told_no_in_the_middle_of_its_body_still_reads_the_answer() {
    let running = start(ServeConfig::default());
    let mut stream = running.connect().await;
    let head = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 16 << 20);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 16 << 20]).await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let running = start(ServeConfig { max_connections: 1, ..ServeConfig::default() });
    let mut first = running.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.door.arrived.notified().await;
    assert!(read_all(&mut running.connect().await).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_closes_the_rest() {
    let running = start(ServeConfig::default());
    let mut resting = running.connect().await;
    resting.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut busy = running.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.door.arrived.notified().await;
    running.shutdown.drain();
    read_all(&mut resting).await;
    running.door.nudge.notify_one();
    assert!(read_all(&mut busy).await.ends_with("waited"));
    assert!(running.supervisor.tasks_ended(Duration::from_secs(5)).await);
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn who_has_left_closes_no_connection_of_http_1_before_it_has_said_so() {
    let running = start(ServeConfig::default());
    let mut stream = running.connect().await;
    let one = b"GET /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    stream.write_all(one).await.unwrap();
    let mut first = String::new();
    while !first.ends_with("hi") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        first.push(char::from(byte[0]));
    }
    assert!(!first.contains("connection: close"), "{first}");
    running.shutdown.leave();
    stream.write_all(one).await.unwrap();
    let second = read_all(&mut stream).await;
    assert!(second.contains("connection: close\r\n") && second.ends_with("hi"), "{second}");
}

#[tokio::test]
async fn who_has_left_sends_clients_of_http_2_away() {
    let running = start(ServeConfig::default());
    let io = hyper_util::rt::TokioIo::new(running.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let client = Supervisor::new(Shutdown::new());
    client.task("client", Role::Ordinary, async move {
        let _ = connection.await;
    });
    let request = || Request::post("http://a/echo").body(Body::from("hello")).unwrap();
    let response = sender.send_request(request()).await.unwrap();
    assert_eq!(body::read(Body::new(response.into_body()), 100).await.unwrap(), "hello");
    running.shutdown.leave();
    // The client's end of the connection ends by itself.
    assert!(client.tasks_ended(Duration::from_secs(5)).await);
    assert!(sender.send_request(request()).await.is_err());
}

#[tokio::test]
async fn a_connection_accepted_just_before_a_drain_is_answered() {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let handler: Arc<dyn Handler> = Arc::new(TestDoor { nudge: Arc::default(), arrived: Notify::new() });
    let server = Server::new(handler, ServeConfig::default(), supervisor.clone(), &Metrics::new(), "test");
    let (mut client, io) = tokio::io::duplex(1024);
    let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), secure: false, door: "test" };
    shutdown.drain();
    supervisor.task("connection", Role::Ordinary, server.connection(io, peer, ()));
    // It has been looked at, and nothing has come.
    tokio::task::yield_now().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\ntest"), "{text}");
}

#[tokio::test]
async fn a_forced_stop_does_not_wait() {
    let running = start(ServeConfig::default());
    let mut busy = running.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    running.door.arrived.notified().await;
    running.shutdown.force();
    assert_eq!(read_all(&mut busy).await, "");
    assert!(running.supervisor.tasks_ended(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let running = start(ServeConfig::default());
    let io = hyper_util::rt::TokioIo::new(running.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    running.supervisor.task("client", Role::Ordinary, async move {
        let _ = connection.await;
    });
    let request = Request::post("http://a/echo").body(Body::from("hello")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(body::read(Body::new(response.into_body()), 100).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_lasting_answer_goes_on_when_the_rest_of_the_server_is_gone() {
    for (path, goes_on) in [("/last", true), ("/first", false)] {
        let server = start(ServeConfig::default());
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        server.door.arrived.notified().await;
        server.shutdown.drain();
        if goes_on {
            assert!(server.supervisor.tasks_ended(Duration::from_secs(10)).await);
        }
        server.shutdown.force();
        assert!(server.supervisor.tasks_ended(Duration::from_secs(10)).await);
        server.door.nudge.notify_one();
        let mut answer = String::new();
        // A connection that is cut off may be reset.
        let _ = client.read_to_string(&mut answer).await;
        assert_eq!(answer.contains("the rest"), goes_on, "{path}: {answer}");
        server.lasting.shutdown().force();
        assert!(server.lasting.tasks_ended(Duration::from_secs(10)).await);
    }
}
