//! The request log: a JSON line each, written by a thread of its own.
//!
//! Workers append lines to one buffer in memory; the thread takes the buffer whole and writes it. When the disk is
//! slower than the requests, lines are dropped and counted: a log never holds up an answer. Lines are not synced.
//!
//! A line: `{"time":"2026-11-20T19:04:05.123Z","client":"192.0.2.1","method":"GET","host":"example.com","path":"/",
//! "status":200,"bytes":512,"ms":1.25,"upstream_ms":1.1,"agent":"curl/8"}`. `bytes` counts body bytes handed to the
//! connection, `upstream_ms` is null when no app was asked. Of a site with `cache_answers` it also has `"cache":"hit"`, or
//! why the app was asked (`miss`, `vary-miss`, `stale`, `request`, `method`, `bypass`), or `collapsed`. Values of query parameters that look like credentials are
//! replaced, since a presigned URL in a log is a key in a log.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};

use super::config::EdgeConfig;
use super::error::EdgeError;
use super::tail::Tail;
use super::traffic::{Ended, SiteCounts};
use crate::base::disk::parent;
use crate::base::supervise::{Priority, Role};
use crate::base::{Clock, Disk, DiskFile, OpenMode, Supervisor};
use crate::http::Body;
use crate::monitor::Passed;
use crate::telemetry::Counter;

/// Most bytes of lines that wait for the writer.
const BUFFER: usize = 1 << 20;
/// How long lines may wait, so that a write carries many.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest path and longest user agent in a line, in bytes.
const LONGEST: usize = 2048;

/// Longest path of a request shown in the console, in bytes.
const TAIL_PATH: usize = 200;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineFormat {
    /// A JSON object.
    #[default]
    Json,
    /// Apache's common log format.
    Common,
    /// The same with `Referer` and `User-Agent`.
    Combined,
}

/// `text` between quotes: what would end them, or the line, is written as nginx writes it (`\xXX`).
fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if byte < b' ' || byte == b'"' || byte == b'\\' || byte == 0x7f {
            // Writing into memory cannot fail.
            let _ = write!(out, "\\x{byte:02X}");
        } else {
            out.push(byte);
        }
    }
}

/// Where lines go. The last clone dropped ends the writer, after its last line.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    format: LineFormat,
    /// One of so many is logged.
    one_of: u64,
    number: AtomicU64,
    /// The writer, when the log is on.
    shared: Option<Arc<Shared>>,
    tail: Tail,
    clock: Arc<dyn Clock>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    closed: bool,
}

impl AccessLog {
    /// Starts the writer `edge.access_log` asks for, if it does. Requests are also noted in `tail` while somebody looks.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub fn start(
        config: &EdgeConfig,
        disk: &Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        supervisor: &Supervisor,
        dropped: &Counter,
        tail: Tail,
    ) -> Result<Self, EdgeError> {
        let target = match config.access_log.as_str() {
            "" | "off" => None,
            "stdout" => Some(Target::Stdout),
            path => Some(Target::File(
                LogFile::open(Arc::clone(disk), PathBuf::from(path), config.access_log_size.bytes())
                    .map_err(|source| EdgeError::System { what: "cannot open edge.access_log", source })?,
            )),
        };
        let shared = target.is_some().then(Arc::<Shared>::default);
        if let Some((mut target, lines)) = target.zip(shared.clone()) {
            supervisor
                .thread("edge-log", Role::Ordinary, Priority::Normal, move || lines.write_to(&mut target))
                .map_err(|source| EdgeError::System { what: "cannot start the request log's thread", source })?;
        }
        let (format, one_of) = (config.access_log_format, u64::from(config.access_log_sample.max(1)));
        let number = AtomicU64::new(0);
        Ok(Self(Arc::new(Sender {
            format,
            one_of,
            number,
            shared,
            tail,
            clock: Arc::clone(clock),
            dropped: dropped.clone(),
        })))
    }

    /// Whether anybody wants to know of requests.
    pub fn is_wanted(&self) -> bool {
        self.0.shared.is_some() || self.0.tail.is_watched()
    }

    /// Begins the entry of a request.
    pub fn begin(&self, request: &http::Request<Body>) -> Entry {
        let target = request.uri().path_and_query().map_or("*", http::uri::PathAndQuery::as_str);
        let agent = request.headers().get(http::header::USER_AGENT);
        Entry {
            log: self.clone(),
            began: self.0.clock.monotonic(),
            client: None,
            method: request.method().clone(),
            host: String::new(),
            path: redacted(cut(target)),
            agent: agent.map(HeaderValue::as_bytes).map(|agent| cut(&String::from_utf8_lossy(agent)).to_owned()),
            version: request.version(),
            referer: (self.0.format == LineFormat::Combined).then(|| referer(request.headers())).flatten(),
            status: 0,
            bytes: 0,
            upstream: None,
            cache: None,
        }
    }
}

/// One request's line, written when it is dropped: at the end of the response's body, or when the client leaves.
#[derive(Debug)]
pub struct Entry {
    log: AccessLog,
    began: Duration,
    /// Who asked.
    pub client: Option<IpAddr>,
    method: http::Method,
    /// The host asked for; empty when the request named none.
    pub host: String,
    path: String,
    agent: Option<String>,
    version: http::Version,
    /// Where the client came from, for the format that has it.
    referer: Option<String>,
    /// The response's status; 0 when there was none.
    pub status: u16,
    bytes: u64,
    /// How long the app took to its response head.
    pub upstream: Option<Duration>,
    /// What the cache did, where there is one.
    pub cache: Option<&'static str>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Sender { format, one_of, number, shared, tail, clock, dropped } = &*self.log.0;
        let took = clock.monotonic().saturating_sub(self.began);
        if tail.is_watched() {
            tail.note(self.passed(clock.now(), took));
        }
        let Some(shared) = shared else { return };
        // Every request is counted, so that errors do not change which of the others are logged.
        let turn = number.fetch_add(1, Ordering::Relaxed) % one_of;
        if turn != 0 && self.status < 400 {
            return;
        }
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lines.len() >= BUFFER {
            dropped.inc();
            return;
        }
        let was_empty = state.lines.is_empty();
        // Writing into memory cannot fail.
        let _ = match format {
            LineFormat::Json => self.write(&mut state.lines, clock.now(), took),
            LineFormat::Common | LineFormat::Combined => self.write_plain(&mut state.lines, clock.now(), *format),
        };
        drop(state);
        if was_empty {
            shared.filled.notify_one();
        }
    }
}

/// `Referer` as the log has it.
fn referer(headers: &http::HeaderMap) -> Option<String> {
    let value = headers.get(http::header::REFERER)?.as_bytes();
    Some(redacted(cut(&String::from_utf8_lossy(value))))
}

impl Entry {
    fn passed(&self, at: crate::base::Timestamp, took: Duration) -> Passed {
        Passed {
            at,
            client: self.client,
            method: self.method.to_string(),
            host: self.host.clone(),
            path: self.path.get(..self.path.floor_char_boundary(TAIL_PATH)).unwrap_or_default().to_owned(),
            status: self.status,
            bytes: self.bytes,
            took,
        }
    }

    /// A line as Apache's `common` and `combined` and nginx's `combined` have it.
    fn write_plain(&self, out: &mut Vec<u8>, now: crate::base::Timestamp, format: LineFormat) -> std::io::Result<()> {
        match self.client {
            Some(client) => write!(out, "{client}")?,
            None => write!(out, "-")?,
        }
        let time = now.to_jiff().strftime("%d/%b/%Y:%H:%M:%S +0000");
        write!(out, " - - [{time}] \"{} ", self.method)?;
        escaped(out, &self.path);
        let version = match self.version {
            http::Version::HTTP_10 => "HTTP/1.0",
            http::Version::HTTP_2 => "HTTP/2.0",
            http::Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        };
        write!(out, " {version}\" {} {}", self.status, self.bytes)?;
        if format == LineFormat::Combined {
            for text in [&self.referer, &self.agent] {
                out.extend_from_slice(b" \"");
                escaped(out, text.as_deref().filter(|text| !text.is_empty()).unwrap_or("-"));
                out.push(b'"');
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>, now: crate::base::Timestamp, took: Duration) -> std::io::Result<()> {
        write!(out, "{{\"time\":\"{now}\",\"client\":")?;
        match self.client {
            Some(client) => write!(out, "\"{client}\"")?,
            None => write!(out, "null")?,
        }
        for (name, text) in [
            ("method", Some(self.method.as_str())),
            ("host", Some(self.host.as_str())),
            ("path", Some(self.path.as_str())),
        ] {
            write!(out, ",\"{name}\":")?;
            serde_json::to_writer(&mut *out, &text)?;
        }
        let ms = |span: Duration| span.as_micros() as f64 / 1000.0;
        write!(out, ",\"status\":{},\"bytes\":{},\"ms\":{}", self.status, self.bytes, ms(took))?;
        match self.upstream {
            Some(upstream) => write!(out, ",\"upstream_ms\":{}", ms(upstream))?,
            None => write!(out, ",\"upstream_ms\":null")?,
        }
        if let Some(cache) = self.cache {
            write!(out, ",\"cache\":\"{cache}\"")?;
        }
        write!(out, ",\"agent\":")?;
        serde_json::to_writer(&mut *out, &self.agent)?;
        writeln!(out, "}}")
    }
}

/// A response body that is counted to its end.
#[derive(Debug)]
pub struct Logged {
    /// The body.
    pub inner: Body,
    /// What is told of the answer at its end.
    pub told: Told,
}

/// Who is told of an answer when it, and with it this, ends.
#[derive(Debug)]
pub struct Told {
    /// The log's entry, complete but for the bytes.
    pub entry: Option<Entry>,
    /// The site's counters.
    pub site: Option<Arc<SiteCounts>>,
    /// The answer; bytes and time are filled in.
    pub ended: Ended,
    /// When the request came, on the monotonic clock.
    pub began: Duration,
    /// For the time it took.
    pub clock: Arc<dyn Clock>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.bytes = self.ended.bytes;
        }
        if let Some(site) = &self.site {
            let took = self.clock.monotonic().saturating_sub(self.began);
            site.count(&Ended { took, ..self.ended });
        }
    }
}

impl http_body::Body for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.told.ended.bytes = self.told.ended.bytes.saturating_add(bytes);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            shared.filled.notify_one();
        }
    }
}

impl Shared {
    /// Writes lines until the last sender is gone.
    fn write_to(&self, target: &mut Target) {
        let mut batch = Vec::new();
        let mut closed = false;
        while !closed {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |state: &mut State| state.lines.is_empty() && !state.closed;
            let state = self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let waited =
                self.filled.wait_timeout_while(state, PAUSE, |state| state.lines.len() < BUFFER / 2 && !state.closed);
            let mut state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
            closed = state.closed;
            batch.clear();
            std::mem::swap(&mut batch, &mut state.lines);
            drop(state);
            if let Err(error) = target.write(&batch) {
                tracing::warn!(%error, "the request log cannot be written");
            }
        }
    }
}

enum Target {
    Stdout,
    File(LogFile),
}

impl Target {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file that moves aside when it is full. During an upgrade two processes write to it: each looks where it ends before it
/// writes, and whether the other has moved it aside.
struct LogFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    limit: u64,
    file: Box<dyn DiskFile>,
}

impl LogFile {
    fn open(disk: Arc<dyn Disk>, path: PathBuf, limit: u64) -> std::io::Result<Self> {
        let file = disk.open(&path, OpenMode::OpenOrCreate)?;
        Ok(Self { disk, path, limit, file })
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let mut end = self.file.len()?;
        if end > 0 && end.saturating_add(lines.len() as u64) > self.limit {
            let there = self.disk.entry(&self.path)?.map(|entry| entry.len);
            if there == Some(end) {
                self.disk.rename(&self.path, &older(&self.path))?;
            }
            self.file = self.disk.open(&self.path, OpenMode::OpenOrCreate)?;
            self.disk.sync_dir(parent(&self.path))?;
            end = self.file.len()?;
        }
        self.file.write_at(end, lines)
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// At most [`LONGEST`] bytes of `text`.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)
}

/// Parts of parameter names whose values stay out of the log.
const SECRET_PARTS: [&str; 12] =
    ["token", "secret", "passw", "signature", "credential", "key", "auth", "code", "session", "sig", "otp", "jwt"];

/// `target` with the values of parameters that look like credentials replaced.
fn redacted(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let mut out = String::with_capacity(target.len());
    out.push_str(path);
    for (index, pair) in query.split('&').enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                out.push_str(name);
                out.push_str("=redacted");
            }
            _ => out.push_str(pair),
        }
    }
    out
}

fn is_secret(name: &str) -> bool {
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{LocalDisk, Shutdown};
    use crate::testing::TestClock;

    #[test]
    fn credentials_in_queries_are_not_written() {
        assert_eq!(
            redacted("/b/o?X-Amz-Signature=abc&X-Amz-Credential=AK%2F1&partNumber=1&%74oken=x&flag&access_token="),
            "/b/o?X-Amz-Signature=redacted&X-Amz-Credential=redacted&partNumber=1&%74oken=redacted&flag&access_token=redacted"
        );
        assert_eq!(redacted("/plain"), "/plain");
    }

    /// The log files after `count` requests, the newer first.
    fn written(count: usize, limit: u64) -> (String, String) {
        written_as(count, limit, LineFormat::Json, 1)
    }

    fn written_as(count: usize, limit: u64, format: LineFormat, sample: u32) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let supervisor = Supervisor::new(Shutdown::new());
        let clock: Arc<dyn Clock> = Arc::new(TestClock::default());
        let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
        let config = EdgeConfig {
            access_log: path.display().to_string(),
            access_log_size: crate::base::ByteSize(limit),
            access_log_format: format,
            access_log_sample: sample,
            ..EdgeConfig::default()
        };
        for _ in 0..count {
            let log =
                AccessLog::start(&config, &disk, &clock, &supervisor, &Counter::default(), Tail::new(clock.clone()))
                    .unwrap();
            let request = http::Request::builder().uri("/a?token=x").header("user-agent", "a\"b").body(Body::empty());
            let mut entry = log.begin(&request.unwrap());
            entry.client = Some("192.0.2.1".parse().unwrap());
            entry.host = "example.com".to_owned();
            entry.status = 200;
            entry.upstream = Some(Duration::from_micros(1100));
            drop((entry, log));
            supervisor.join_threads();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        (read(&path), read(&older(&path)))
    }

    #[test]
    fn a_line_holds_the_request() {
        let (text, _) = written(1, 1000);
        assert_eq!(
            text,
            "{\"time\":\"2026-01-01T00:00:00.000Z\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\"host\":\"example.com\",\
             \"path\":\"/a?token=redacted\",\"status\":200,\"bytes\":0,\"ms\":0,\"upstream_ms\":1.1,\"agent\":\"a\\\"b\"}\n"
        );
    }

    #[test]
    fn other_programs_read_the_combined_format() {
        let (text, _) = written_as(1, 1000, LineFormat::Combined, 1);
        let line =
            "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /a?token=redacted HTTP/1.1\" 200 0 \"-\" \"a\\x22b\"\n";
        assert_eq!(text, line);
        let (text, _) = written_as(1, 1000, LineFormat::Common, 1);
        assert!(text.ends_with("HTTP/1.1\" 200 0\n"), "{text}");
    }

    #[test]
    fn one_of_so_many_is_logged_and_every_error() {
        let supervisor = Supervisor::new(Shutdown::new());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (clock, disk): (Arc<dyn Clock>, Arc<dyn Disk>) = (Arc::new(TestClock::default()), Arc::new(LocalDisk));
        let config =
            EdgeConfig { access_log: path.display().to_string(), access_log_sample: 10, ..EdgeConfig::default() };
        let log = AccessLog::start(&config, &disk, &clock, &supervisor, &Counter::default(), Tail::new(clock.clone()))
            .unwrap();
        for number in 0..30 {
            let mut entry = log.begin(&http::Request::builder().uri("/").body(Body::empty()).unwrap());
            entry.status = if number % 10 == 5 { 404 } else { 200 };
        }
        drop(log);
        supervisor.join_threads();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.matches(":200,").count(), text.matches(":404,").count()), (3, 3), "{text}");
    }

    #[test]
    fn a_full_file_moves_aside_and_only_one_old_one_is_kept() {
        let (new, old) = written(5, 450);
        assert_eq!((new.lines().count(), old.lines().count()), (1, 2));
    }
}
