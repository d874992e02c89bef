//! The whole edge on real sockets: raw bytes in, and what an origin gets to see of them.

mod acme;
mod announced;
mod audience;
mod authority;
mod balancing;
mod banning;
mod caching;
mod caching_disk;
mod compressing;
mod driving;
mod files;
mod guarding;
mod proxying;
mod reloading;
mod shaping;
mod smuggling;
mod strangers;
mod tls;
mod upstreams;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::base::{LocalDisk, Shutdown, SystemClock, SystemRandom};
use crate::testing::memory_store;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// An app that answers each request by a script and keeps what it was sent.
struct Origin {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// `reply` makes the raw answer from the raw request; an empty answer closes the connection.
    async fn start(supervisor: &Supervisor, reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin =
            Self { address: listener.local_addr().unwrap(), requests: Arc::default(), connections: Arc::default() };
        let (requests, connections) = (Arc::clone(&origin.requests), Arc::clone(&origin.connections));
        let (tasks, reply) = (supervisor.clone(), Arc::new(reply));
        supervisor.task("test origin", Role::Ordinary, async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, reply) = (Arc::clone(&requests), Arc::clone(&reply));
                tasks.task("test origin connection", Role::Ordinary, async move {
                    while let Some(request) = read_request(&mut stream).await {
                        requests.lock().unwrap().push(request.clone());
                        let answer = reply(&request);
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                        if answer.starts_with("HTTP/1.1 101") {
                            let (mut read, mut write) = stream.split();
                            let _ = tokio::io::copy(&mut read, &mut write).await;
                            return;
                        }
                    }
                });
            }
        });
        origin
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request with its body, as raw text.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let complete = if head.contains("transfer-encoding: chunked") {
                (body.starts_with("0\r\n") || body.contains("\r\n0\r\n")) && body.ends_with("\r\n\r\n")
            } else {
                body.len() >= length.unwrap_or(0)
            };
            if complete {
                return Some(text);
            }
        }
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}

/// A running edge in front of an origin.
struct Trial {
    edge: Edge,
    origin: Origin,
    supervisor: Supervisor,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.supervisor.shutdown().force();
    }
}

fn ok(_: &str) -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

/// An edge with `settings` (TOML) beside one worker and free ports; the origin is `edge.app`.
async fn trial(settings: &str, reply: impl Fn(&str) -> String + Send + Sync + 'static) -> Trial {
    trial_with_doors(settings, Vec::new(), reply).await
}

async fn trial_with_doors(
    settings: &str,
    doors: Vec<Door>,
    reply: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Trial {
    let supervisor = Supervisor::new(Shutdown::new());
    let origin = Origin::start(&supervisor, reply).await;
    let mut config: EdgeConfig = toml::from_str(settings).unwrap();
    config.http = crate::base::Listen::loopback(0);
    if config.https.address().is_some() {
        config.https = crate::base::Listen::loopback(0);
    }
    config.workers = 1;
    if config.app.is_empty() {
        config.app = origin.address.to_string();
    }
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let world = world(folder.path(), &supervisor, &metrics);
    let listeners = Listeners::bind(&config).unwrap();
    let edge = Edge::start(&config, listeners, doors, world).await.unwrap();
    Trial { edge, origin, supervisor, metrics, _folder: folder }
}

fn world(folder: &std::path::Path, supervisor: &Supervisor, metrics: &Metrics) -> World {
    World {
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        disk: Arc::new(LocalDisk),
        data_dir: folder.to_owned(),
        bans: Bans::open(memory_store(), Arc::new(SystemClock::new()), metrics, crate::bans::Rules::default()).unwrap(),
        analytics: Analytics::new(
            memory_store(),
            Arc::new(SystemClock::new()),
            Arc::new(SystemRandom),
            metrics,
            crate::analytics::AnalyticsConfig::default(),
        ),
        store: memory_store(),
        cache_key: Key::from_bytes([7; 32]),
        reserve: (0, 0),
        metrics: metrics.clone(),
        supervisor: supervisor.clone(),
        connections: supervisor.clone(),
        runtime: Handle::current(),
    }
}

/// An edge without an origin of its own.
async fn start(config: &EdgeConfig, listeners: Listeners, folder: &std::path::Path, supervisor: &Supervisor) -> Edge {
    Edge::start(config, listeners, Vec::new(), world(folder, supervisor, &Metrics::new())).await.unwrap()
}

/// Settings that serve sites without TLS.
const PLAIN: &str = "https = \"\"\n";

impl Trial {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.edge.http().unwrap()).await.unwrap()
    }

    /// Sends `bytes` and returns everything that comes back until the edge closes.
    async fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The edge may refuse and close before it has read everything.
        let _ = stream.write_all(bytes.as_ref()).await;
        read_all(&mut stream).await
    }

    /// Waits until the metrics show `line`.
    async fn shows(&self, line: &str) {
        let seen = async {
            while !self.metrics.exposition().contains(line) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{line} not in {}", self.metrics.exposition()));
    }

    /// The only request the origin saw.
    fn only_request(&self) -> String {
        let requests = self.origin.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

async fn read_all(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is the edge closing on unread bytes.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the edge neither answers nor closes");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&answer).contains(end) {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(count) if count > 0 => answer.extend_from_slice(&chunk[..count]),
                _ => break,
            }
        }
    };
    timeout(PATIENCE, read).await.expect("the edge is silent");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
