//! Kept answers, as clients and the app meet them.

use std::fmt::Write as _;

use tokio::sync::Semaphore;

use super::*;
use crate::monitor::WhichKept;
use crate::testing::TestClock;

/// In an app's answer: what comes after it waits for [`Kept::let_on`].
const WAITS: char = '\u{1}';
/// At its end: the connection is closed.
const CLOSES: char = '\u{2}';

/// An edge whose sites keep answers, before an app that writes each answer from its request and its number.
pub(super) struct Kept {
    pub edge: Edge,
    seen: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    clock: Arc<TestClock>,
    metrics: Metrics,
    supervisor: Supervisor,
    pub app: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.supervisor.shutdown().force();
    }
}

/// Sites that keep answers; `APP` stands for the app's address.
pub(super) const SITES: &str = "[[sites]]\nhosts = [\"a.example\", \"b.example\"]\nupstream = \"APP\"\ncache_answers = true\n\
                     cache_max_object = \"8 KiB\"\ncompress = \"off\"\n\
                     [[sites]]\nhosts = [\"c.example\"]\nupstream = \"APP\"\n";

pub(super) fn config(sites: &str, app: SocketAddr) -> EdgeConfig {
    let mut config: EdgeConfig = toml::from_str(&format!("{PLAIN}{}", sites.replace("APP", &app.to_string()))).unwrap();
    config.http = crate::base::Listen::loopback(0);
    config.workers = 2;
    config
}

async fn kept(reply: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Kept {
    kept_by(SITES, reply).await
}

/// The same with other `sites`, which may begin with settings of the edge.
pub(super) async fn kept_by(sites: &str, reply: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Kept {
    let supervisor = Supervisor::new(Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let (seen, gate) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Semaphore::new(0)));
    let (noted, waits, tasks, reply) = (Arc::clone(&seen), Arc::clone(&gate), supervisor.clone(), Arc::new(reply));
    supervisor.task("test app", Role::Ordinary, async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (noted, waits, reply) = (Arc::clone(&noted), Arc::clone(&waits), Arc::clone(&reply));
            tasks.task("test app connection", Role::Ordinary, async move {
                while let Some(request) = read_request(&mut stream).await {
                    let number = {
                        let mut noted = noted.lock().unwrap();
                        noted.push(request.clone());
                        noted.len()
                    };
                    let answer = reply(&request, number);
                    let (text, closes) = answer.strip_suffix(CLOSES).map_or((&*answer, false), |text| (text, true));
                    for (at, part) in text.split(WAITS).enumerate() {
                        if at > 0 {
                            waits.acquire().await.unwrap().forget();
                        }
                        if stream.write_all(part.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    let (config, folder, metrics) = (config(sites, app), tempfile::tempdir().unwrap(), Metrics::new());
    let clock = Arc::new(TestClock::default());
    let world = World { clock: Arc::clone(&clock) as _, ..world(folder.path(), &supervisor, &metrics) };
    let edge = Edge::start(&config, Listeners::bind(&config).unwrap(), Vec::new(), world).await.unwrap();
    Kept { edge, seen, gate, clock, metrics, supervisor, app, folder }
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Told {
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line.split_at(name.len() + 2).1)
    }

    /// What the cache did.
    pub fn cache(&self) -> &str {
        self.header("cache-status").and_then(|status| status.strip_prefix("mainstay; ")).unwrap_or("none")
    }
}

impl Kept {
    /// Asks for `target` of a host, such as `a.example/x`, with more header lines.
    pub async fn ask_as(&self, method: &str, address: &str, lines: &[&str]) -> Told {
        let (host, path) = address.split_once('/').unwrap();
        let mut request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for line in lines {
            let _ = write!(request, "{line}\r\n");
        }
        let mut stream = TcpStream::connect(self.edge.http().unwrap()).await.unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        told(&read_all(&mut stream).await)
    }

    pub async fn ask(&self, address: &str) -> Told {
        self.ask_as("GET", address, &[]).await
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests the app saw.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until the app has seen so many.
    async fn sees(&self, count: usize) {
        let seen = async {
            while self.count() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("the app saw {:?}", self.requests()));
    }

    /// Lets waiting answers of the app go on.
    fn let_on(&self, count: usize) {
        self.gate.add_permits(count);
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Asks until the answer comes from disk.
    pub async fn until_on_disk(&self, address: &str) -> Told {
        let asking = async {
            loop {
                let told = self.ask(address).await;
                if told.cache() == "hit; detail=disk" {
                    return told;
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{address} is never on disk"))
    }

    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.exposition();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} not in {text}")) as u64
    }

    /// Stops this edge and starts another on the same folder, with the same app; returns when so many answers are back from
    /// disk.
    pub async fn again(&mut self, sites: &str, answers: u64) {
        self.supervisor.shutdown().drain();
        self.supervisor.shutdown().force();
        let before = self.supervisor.clone();
        tokio::task::spawn_blocking(move || before.join_threads()).await.unwrap();
        (self.supervisor, self.metrics) = (Supervisor::new(Shutdown::new()), Metrics::new());
        let config = config(sites, self.app);
        let world =
            World { clock: Arc::clone(&self.clock) as _, ..world(self.folder.path(), &self.supervisor, &self.metrics) };
        self.edge = Edge::start(&config, Listeners::bind(&config).unwrap(), Vec::new(), world).await.unwrap();
        let back = async {
            while self.metric("mainstay_edge_cache_disk_answers") != answers {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, back).await.expect("answers are not back");
    }
}

fn told(answer: &str) -> Told {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    Told { status: status(answer), head: head.to_owned(), body: body.to_owned() }
}

/// An answer with `headers`, lines each, that says which request it answers.
fn answer(headers: &str, number: usize) -> String {
    let body = format!("answer {number}");
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_is_asked_for_once_and_gets_older() {
    let kept = kept(|_, number| answer("Cache-Control: max-age=60\r\nContent-Type: text/plain\r\n", number)).await;
    let first = kept.ask("a.example/x").await;
    assert_eq!((first.cache(), &*first.body), ("fwd=miss; stored", "answer 1"));
    kept.pass(59);
    let second = kept.ask("a.example/x").await;
    assert_eq!((second.cache(), &*second.body, second.header("age")), ("hit", "answer 1", Some("59")));
    assert_eq!(second.header("content-type"), Some("text/plain"));
    assert_eq!(second.header("x-content-type-options"), Some("nosniff"));
    let head = kept.ask_as("HEAD", "a.example/x", &[]).await;
    assert_eq!((head.cache(), &*head.body, head.header("content-length")), ("hit", "", Some("8")));
    kept.pass(1);
    assert_eq!(kept.ask("a.example/x").await.cache(), "fwd=stale; stored");
    assert_eq!(kept.count(), 2);
    let metrics = kept.metrics.exposition();
    for line in ["mainstay_edge_cache_hits_total 2", "mainstay_edge_cache_misses_total 2"] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn no_two_hosts_addresses_or_sites_share_anything() {
    let kept = kept(|request, _| {
        let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
        let target = request.split(' ').nth(1).unwrap();
        let body = format!("{host}{target}");
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
    .await;
    let places = ["a.example/x", "b.example/x", "a.example:8080/x", "a.example/x?y", "a.example/x?z", "a.example/X"];
    for _ in 0..2 {
        for place in places {
            assert_eq!(kept.ask(place).await.body, place);
        }
    }
    assert_eq!(kept.count(), places.len());
    // What browsers never write goes by: an app may write it into its pages.
    for place in ["A.example/x", "a.example./x"] {
        assert_eq!(kept.ask(place).await.cache(), "fwd=bypass");
    }
    assert_eq!(kept.ask("c.example/x").await.cache(), "none");
    // Headers that a client makes up do not reach the app under these names, or the request goes by.
    kept.ask_as("GET", "a.example/p", &["X-Forwarded-Host: evil.example", "X-Forwarded-Scheme: evil"]).await;
    assert!(!kept.requests().last().unwrap().contains("evil"));
    let disguised = kept.ask_as("GET", "a.example/q", &["X-Original-URL: /admin"]).await;
    assert_eq!(disguised.cache(), "fwd=bypass");
    let fat = kept.ask_as("GET", "a.example/r", &["Content-Length: 1", "", "x"]).await;
    assert_eq!(fat.cache(), "fwd=bypass");
}

#[tokio::test]
async fn what_is_one_persons_is_never_kept() {
    let kept = kept(|request, number| {
        let headers = match request.split(' ').nth(1).unwrap() {
            "/cookie" => "Cache-Control: public, max-age=60\r\nSet-Cookie: session=secret\r\n",
            "/private" => "Cache-Control: private, max-age=60\r\n",
            "/no-store" => "Cache-Control: no-store\r\n",
            "/all" => "Cache-Control: public, max-age=60\r\n",
            _ => "Cache-Control: max-age=60\r\n",
        };
        answer(headers, number)
    })
    .await;
    for (path, why) in [("cookie", "set-cookie"), ("private", "private"), ("no-store", "no-store")] {
        for _ in 0..2 {
            assert_eq!(kept.ask(&format!("a.example/{path}")).await.cache(), format!("fwd=miss; detail={why}"));
        }
    }
    for line in ["Cookie: a=b", "Authorization: Basic YTpi"] {
        let name = line.split(':').next().unwrap();
        let told = kept.ask_as("GET", &format!("a.example/{name}"), &[line]).await;
        assert_eq!(told.cache(), "fwd=miss; detail=credentials", "{line}");
        assert_eq!(kept.ask(&format!("a.example/{name}")).await.cache(), "fwd=miss; stored", "{line}");
        // What was made for nobody in particular is not shown to somebody, unless it says that it is for all.
        assert_eq!(kept.ask_as("GET", &format!("a.example/{name}"), &[line]).await.cache(), "fwd=bypass", "{line}");
    }
    kept.ask_as("GET", "a.example/all", &["Cookie: a=b"]).await;
    assert_eq!(kept.ask_as("GET", "a.example/all", &["Authorization: Basic YTpi"]).await.cache(), "hit");
}

#[tokio::test]
async fn answers_differ_by_what_vary_names() {
    let kept = kept(|_, number| answer("Cache-Control: max-age=60\r\nVary: Accept-Language\r\n", number)).await;
    for (language, agent, cache, body) in [
        ("de", "a", "fwd=miss; stored", "answer 1"),
        ("en", "a", "fwd=vary-miss; stored", "answer 2"),
        ("de", "b", "hit", "answer 1"),
        ("en", "b", "hit", "answer 2"),
    ] {
        let lines = [format!("Accept-Language: {language}"), format!("User-Agent: {agent}")];
        let told = kept.ask_as("GET", "a.example/x", &[&lines[0], &lines[1]]).await;
        assert_eq!((told.cache(), &*told.body), (cache, body), "{language} {agent}");
    }
}

#[tokio::test]
async fn a_stale_answer_is_validated_and_made_new() {
    let kept = kept(|request, number| {
        if request.contains("if-none-match: \"v1\"") {
            return "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nCache-Control: max-age=30\r\nX-News: 1\r\n\r\n"
                .to_owned();
        }
        answer("Cache-Control: max-age=60\r\nETag: \"v1\"\r\n", number)
    })
    .await;
    kept.ask("a.example/x").await;
    kept.pass(61);
    let told = kept.ask_as("GET", "a.example/x", &["If-None-Match: \"other\""]).await;
    assert_eq!((told.cache(), &*told.body, told.status), ("fwd=stale; fwd-status=304", "answer 1", 200));
    assert!(!kept.requests()[1].contains("other"));
    kept.pass(29);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.cache(), told.header("x-news"), told.header("age")), ("hit", Some("1"), Some("29")));
    // The client's own conditions and ranges are held against what is stored.
    let told = kept.ask_as("GET", "a.example/x", &["If-None-Match: \"v1\""]).await;
    assert_eq!((told.status, &*told.body, told.header("content-length")), (304, "", None));
    let told = kept.ask_as("GET", "a.example/x", &["Range: bytes=0-2"]).await;
    assert_eq!((told.status, &*told.body, told.header("content-range")), (206, "ans", Some("bytes 0-2/8")));
    assert_eq!(kept.count(), 2);
    // A reload in the browser asks the app.
    let told = kept.ask_as("GET", "a.example/x", &["Cache-Control: no-cache"]).await;
    assert_eq!(told.cache(), "fwd=request; fwd-status=304");
    assert!(kept.metrics.exposition().contains("mainstay_edge_cache_revalidations_total 2"));
}

#[tokio::test]
async fn a_304_with_a_cookie_brings_it_to_one_client_alone() {
    let kept = kept(|request, number| {
        if request.contains("if-none-match") {
            return "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nSet-Cookie: session=secret\r\n\r\n".to_owned();
        }
        answer("Cache-Control: max-age=60\r\nETag: \"v1\"\r\n", number)
    })
    .await;
    kept.ask("a.example/x").await;
    kept.pass(61);
    for count in 2..4 {
        let told = kept.ask("a.example/x").await;
        assert_eq!((told.header("set-cookie"), kept.count()), (Some("session=secret"), count));
    }
}

#[tokio::test]
async fn a_first_request_with_conditions_fills_the_cache() {
    let kept = kept(|request, number| {
        assert!(!request.contains("if-none-match"), "{request}");
        answer("Cache-Control: max-age=60\r\nETag: \"v1\"\r\n", number)
    })
    .await;
    let told = kept.ask_as("GET", "a.example/x", &["If-None-Match: \"v1\""]).await;
    assert_eq!((told.status, told.cache(), &*told.body), (304, "fwd=miss; stored", ""));
    assert_eq!(kept.ask("a.example/x").await.body, "answer 1");
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn twenty_at_once_are_one_for_the_app() {
    let kept = kept(|_, number| format!("{WAITS}{}", answer("Cache-Control: max-age=60\r\n", number))).await;
    let all = futures_util::future::join_all((0..20).map(|_| kept.ask("a.example/x")));
    let release = async {
        kept.sees(1).await;
        // The others have come by now, or find what is stored: one is asked for either way.
        kept.let_on(1);
    };
    let (all, ()) = tokio::join!(all, release);
    assert!(all.iter().all(|told| told.body == "answer 1"), "{all:?}");
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_nobody_elses_fetch() {
    let kept = kept(|_, number| format!("{WAITS}{}", answer("Cache-Control: max-age=60\r\n", number))).await;
    let mut first = TcpStream::connect(kept.edge.http().unwrap()).await.unwrap();
    first.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    kept.sees(1).await;
    drop(first);
    let release = async {
        // Long enough for the edge to see that the first is gone.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        kept.let_on(1);
    };
    let (told, ()) = tokio::join!(kept.ask("a.example/x"), release);
    assert_eq!((&*told.body, kept.count()), ("answer 1", 1));
}

#[tokio::test]
async fn who_waited_for_what_is_not_kept_asks_the_app() {
    let kept = kept(|_, number| format!("{WAITS}{}", answer("Cache-Control: private\r\n", number))).await;
    kept.let_on(100);
    let all = futures_util::future::join_all((0..10).map(|_| kept.ask("a.example/x"))).await;
    let mut bodies: Vec<_> = all.iter().map(|told| told.body.clone()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), kept.count()), (10, 10), "everybody has an answer of their own");
}

#[tokio::test]
async fn what_breaks_off_is_never_kept() {
    let kept = kept(|request, number| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
        match request.split(' ').nth(1).unwrap() {
            "/length" => format!("{head}Content-Length: 100\r\n\r\nanswer {number}{CLOSES}"),
            "/chunks" => format!("{head}Transfer-Encoding: chunked\r\n\r\n8\r\nanswer {number}\r\n{CLOSES}"),
            "/nothing" => format!("{head}\r\nanswer {number}{CLOSES}"),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n4\r\nansw\r\n4\r\ner {number}\r\n0\r\n\r\n"),
        }
    })
    .await;
    for path in ["length", "chunks", "nothing"] {
        let address = format!("a.example/{path}");
        let (first, second) = (kept.ask(&address).await, kept.ask(&address).await);
        assert!(first.body.contains("answer") && second.body.contains("answer"), "{path}");
        assert_ne!(first.body, second.body, "{path}");
    }
    let before = kept.count();
    let whole = kept.ask("a.example/whole").await;
    assert!(whole.body.contains("answ") && whole.cache() == "fwd=miss; stored", "{whole:?}");
    let again = kept.ask("a.example/whole").await;
    assert_eq!((again.cache(), again.header("content-length"), kept.count()), ("hit", Some("8"), before + 1));
}

#[tokio::test]
async fn what_is_too_large_passes_whole_and_is_not_kept() {
    const SIZE: usize = 200_000;
    let kept = kept(|request, _| {
        let (head, body) = ("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n", "x".repeat(SIZE));
        match request.split(' ').nth(1).unwrap() {
            "/length" => format!("{head}Content-Length: {SIZE}\r\n\r\n{body}"),
            _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n{SIZE:x}\r\n{body}\r\n0\r\n\r\n"),
        }
    })
    .await;
    for path in ["length", "chunks"] {
        for _ in 0..2 {
            let told = kept.ask(&format!("a.example/{path}")).await;
            assert_eq!(told.body.matches('x').count(), SIZE, "{path}");
            assert_ne!(told.cache(), "hit");
        }
    }
    assert_eq!(kept.count(), 4);
}

#[tokio::test]
async fn an_answer_streams_while_it_is_gathered() {
    let kept = kept(|_, _| {
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 8\r\n\r\nfirst{WAITS}end")
    })
    .await;
    let mut stream = TcpStream::connect(kept.edge.http().unwrap()).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    read_until(&mut stream, "first").await;
    kept.let_on(1);
    assert_eq!(read_all(&mut stream).await, "end");
    assert_eq!(kept.ask("a.example/x").await.body, "firstend");
}

#[tokio::test]
async fn a_stale_answer_serves_while_the_app_is_asked() {
    let kept = kept(|_, number| {
        let wait = if number > 1 { String::from(WAITS) } else { String::new() };
        wait + &answer("Cache-Control: max-age=60, stale-while-revalidate=30\r\n", number)
    })
    .await;
    kept.ask("a.example/x").await;
    kept.pass(70);
    for _ in 0..3 {
        let told = kept.ask("a.example/x").await;
        assert_eq!((told.cache(), &*told.body, told.header("age")), ("hit", "answer 1", Some("70")));
    }
    kept.sees(2).await;
    kept.let_on(1);
    let renewed = async { while kept.ask("a.example/x").await.body != "answer 2" {} };
    timeout(PATIENCE, renewed).await.unwrap();
    assert_eq!(kept.count(), 2);
}

#[tokio::test]
async fn a_stale_answer_stands_in_for_an_error_for_as_long_as_the_app_allowed() {
    let gone = Arc::new(AtomicUsize::new(0));
    let app = Arc::clone(&gone);
    let kept = kept(move |_, number| match number {
        1 => answer("Cache-Control: max-age=60, stale-if-error=30\r\n", number),
        // Not by number: a request that met a connection at rest is sent once more.
        _ if app.load(Ordering::SeqCst) > 0 => String::from(CLOSES),
        _ => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
    })
    .await;
    kept.ask("a.example/x").await;
    kept.pass(80);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.status, told.cache(), &*told.body), (200, "fwd=stale; fwd-status=503", "answer 1"));
    gone.store(1, Ordering::SeqCst);
    let told = kept.ask("a.example/x").await;
    assert_eq!((told.status, told.cache(), &*told.body), (200, "fwd=stale", "answer 1"));
    gone.store(0, Ordering::SeqCst);
    kept.pass(20);
    assert_eq!(kept.ask("a.example/x").await.status, 503);
}

#[tokio::test]
async fn what_changes_things_takes_away_what_was_kept_of_them() {
    let kept = kept(|request, number| {
        let mut words = request.split(' ');
        match (words.next().unwrap(), words.next().unwrap()) {
            ("POST", "/failing") => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ("POST", _) => "HTTP/1.1 303 See Other\r\nLocation: /list\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => answer("Cache-Control: max-age=60\r\n", number),
        }
    })
    .await;
    for path in ["item", "list", "failing", "other"] {
        kept.ask(&format!("a.example/{path}")).await;
        assert_eq!(kept.ask(&format!("a.example/{path}")).await.cache(), "hit");
    }
    for path in ["item", "failing"] {
        let told = kept.ask_as("POST", &format!("a.example/{path}"), &["Content-Length: 0"]).await;
        assert_eq!(told.cache(), "fwd=method");
    }
    for (path, cache) in
        [("item", "fwd=miss; stored"), ("list", "fwd=miss; stored"), ("failing", "hit"), ("other", "hit")]
    {
        assert_eq!(kept.ask(&format!("a.example/{path}")).await.cache(), cache, "{path}");
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_change_is_not_kept_after_it() {
    let kept = kept(|request, number| {
        if request.starts_with("POST") {
            return "HTTP/1.1 204 No Content\r\n\r\n".to_owned();
        }
        let wait = if number == 1 { String::from(WAITS) } else { String::new() };
        wait + &answer("Cache-Control: max-age=60\r\n", number)
    })
    .await;
    let change = async {
        kept.sees(1).await;
        kept.ask_as("POST", "a.example/x", &["Content-Length: 0"]).await;
        kept.let_on(1);
    };
    let (old, ()) = tokio::join!(kept.ask("a.example/x"), change);
    assert_eq!(old.body, "answer 1");
    assert_eq!(kept.ask("a.example/x").await.body, "answer 3");
    assert_eq!(kept.ask("a.example/x").await.cache(), "hit");
}

#[tokio::test]
async fn purges_and_reloads_take_answers_away() {
    let kept = kept(|_, number| answer("Cache-Control: max-age=60\r\n", number)).await;
    let places = ["a.example/x/1", "a.example/y", "b.example/x/1"];
    let fill = async || {
        for place in places {
            kept.ask(place).await;
        }
    };
    fill().await;
    let which = |host: &str, prefix: &str| WhichKept::Place { host: Some(host.to_owned()), prefix: prefix.to_owned() };
    assert_eq!(kept.edge.purge_cache(&which("A.example", "/x/")), 1);
    assert_eq!(kept.edge.purge_cache(&which("b.example", "")), 1);
    assert_eq!(kept.ask("a.example/y").await.cache(), "hit");
    fill().await;
    let view = kept.edge.sites().into_iter().find(|site| site.name == "a.example/").unwrap().kept.unwrap();
    assert_eq!((view.answers, view.hits, view.misses), (3, 2, 5));
    assert_eq!(kept.edge.purge_cache(&WhichKept::Site("c.example/".to_owned())), 0);
    assert_eq!(kept.edge.purge_cache(&WhichKept::All), 3);
    fill().await;
    // Other settings leave what is kept, the end of the cache for a site does not.
    kept.edge.reload(&config(&format!("{SITES}allow = [\"127.0.0.1\"]\n"), kept.app)).await.unwrap();
    assert_eq!(kept.ask("a.example/y").await.cache(), "hit");
    kept.edge.reload(&config(&SITES.replace("cache_answers = true", ""), kept.app)).await.unwrap();
    assert_eq!(kept.ask("a.example/y").await.cache(), "none");
    kept.edge.reload(&config(SITES, kept.app)).await.unwrap();
    assert_eq!(kept.ask("a.example/y").await.cache(), "fwd=miss; stored");
}

#[tokio::test]
async fn who_wants_it_from_the_cache_only_gets_it_from_there_or_not() {
    let kept = kept(|_, number| answer("Cache-Control: max-age=60\r\n", number)).await;
    let only = ["Cache-Control: only-if-cached"];
    assert_eq!(kept.ask_as("GET", "a.example/x", &only).await.status, 504);
    kept.ask("a.example/x").await;
    assert_eq!(kept.ask_as("GET", "a.example/x", &only).await.body, "answer 1");
    assert_eq!(kept.count(), 1);
}
