//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::bell::Drowsy;
use super::load::{Flight, Load};
use super::patience::{PatientBody, PatientIo};
use super::pieces::{self, Pieces};
use super::{Body, Handler, Lasting, Peer, ServeConfig};
use crate::base::Supervisor;
use crate::base::supervise::{Hold, Role};
use crate::telemetry::metrics::LATENCY_SECONDS;
use crate::telemetry::{Counter, Gauge, Histogram, Metrics};

/// How long a connection that was told to end (idle, or the server stops) may take over it.
const FAREWELL: Duration = Duration::from_secs(5);
/// The part of the longest rest that is kept for it at most: an idle client that does not go has gone when the rest is over.
const FAREWELL_PART: u32 = 6;

/// How old a connection must be before a stop of the server takes its silence for rest. One that was just accepted has a
/// client that is about to ask, and that has no other server to go to.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Flow-control windows of HTTP/2: what one stream, and one connection, may make us hold unread.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// A listener's way to serve connections: handler, limits, metrics. Connections may come from anywhere (TCP, TLS, a
/// Unix socket).
pub struct Server {
    handler: Arc<dyn Handler>,
    config: ServeConfig,
    http: auto::Builder<Tasks>,
    pub(super) supervisor: Supervisor,
    /// Has connections whose answers may go on when those of `supervisor` are over.
    pub(super) lasting: Option<Supervisor>,
    pub(super) counts: Counts,
}

/// What a listener counts.
pub(super) struct Counts {
    pub connections: Gauge,
    pub refused: Counter,
    pub malformed: Counter,
    panics: Counter,
    /// By status class, 1xx to 5xx.
    responses: [Counter; 5],
    seconds: Histogram,
}

impl Counts {
    fn new(metrics: &Metrics, door: &'static str) -> Self {
        let labels = [("door", door)];
        let responses = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| {
            let help = "HTTP responses by status class.";
            metrics.counter("mainstay_http_requests_total", help, &[("door", door), ("status", class)])
        });
        Self {
            connections: metrics.gauge("mainstay_http_connections", "HTTP connections open now.", &labels),
            refused: metrics.counter(
                "mainstay_http_connections_refused_total",
                "Connections answered 503 because max_connections were open.",
                &labels,
            ),
            malformed: metrics.counter(
                "mainstay_http_malformed_heads_total",
                "Requests refused because their head breaks the protocol.",
                &labels,
            ),
            panics: metrics.counter("mainstay_http_panics_total", "Requests answered 500 after a panic.", &labels),
            responses,
            seconds: metrics.histogram(
                "mainstay_http_request_seconds",
                "Time from a request's head to the end of its response.",
                &labels,
                LATENCY_SECONDS,
            ),
        }
    }

    /// Counts a response of `status`.
    pub fn response(&self, status: StatusCode) {
        if let Some(counter) = self.responses.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }
}

impl Server {
    /// A server that answers with `handler`; `door` labels its metrics.
    pub fn new(
        handler: Arc<dyn Handler>,
        config: ServeConfig,
        supervisor: Supervisor,
        metrics: &Metrics,
        door: &'static str,
    ) -> Arc<Self> {
        Arc::new(Self::made(handler, config, supervisor, None, metrics, door))
    }

    /// As [`Self::new`]; connections that are served with a [`Hold`] may go on as tasks of `lasting`.
    pub(super) fn made(
        handler: Arc<dyn Handler>,
        config: ServeConfig,
        supervisor: Supervisor,
        lasting: Option<Supervisor>,
        metrics: &Metrics,
        door: &'static str,
    ) -> Self {
        let mut http =
            auto::Builder::new(Tasks { supervisor: supervisor.clone(), patience: config.write_timeout.duration() });
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.head_timeout.duration())
            // hyper panics below 8 KiB.
            .max_buf_size(config.max_head.as_usize().max(8 << 10))
            .max_headers(config.max_headers as usize);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_streams)
            .max_header_list_size(u32::try_from(config.max_head.bytes()).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(64 << 10)
            // A client that opens and resets streams for sport ("rapid reset") loses its connection.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(256)
            .keep_alive_interval(config.head_timeout.duration())
            .keep_alive_timeout(config.head_timeout.duration());
        let counts = Counts::new(metrics, door);
        Self { handler, config, http, supervisor, lasting, counts }
    }

    /// The limits it was made with.
    pub const fn config(&self) -> &ServeConfig {
        &self.config
    }

    /// Serves one connection until it ends: by the client, by a limit, or after the server's stop. `place` is given
    /// back when the connection closes, also after it was upgraded to another protocol.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection and drops the handler's futures.
    pub async fn connection<I, P>(self: Arc<Self>, io: I, peer: Peer, place: P)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Unpin + Send + 'static,
    {
        self.carried::<I, P, ()>(io, peer, place, None, None).await;
    }

    /// As [`Self::connection`], as a task of the supervisor for lasting answers: `hold` is let go of when all that is under way
    /// are such ([`Lasting`]) and the server stops but for them.
    ///
    /// # Cancel safety
    /// As for [`Self::connection`].
    pub(super) async fn lasting_connection<I, P>(self: Arc<Self>, io: I, peer: Peer, place: P, hold: Option<Hold>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Unpin + Send + 'static,
    {
        self.carried::<I, P, ()>(io, peer, place, None, hold).await;
    }

    /// As [`Self::connection`]; every request has `known`, which is about the connection, among its extensions.
    ///
    /// # Cancel safety
    /// As for [`Self::connection`].
    pub async fn connection_of<I, P, K>(self: Arc<Self>, io: I, peer: Peer, place: P, known: Option<Arc<K>>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Unpin + Send + 'static,
        K: Send + Sync + 'static,
    {
        self.carried(io, peer, place, known, None).await;
    }

    async fn carried<I, P, K>(
        self: Arc<Self>,
        io: I,
        peer: Peer,
        place: P,
        known: Option<Arc<K>>,
        mut hold: Option<Hold>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Unpin + Send + 'static,
        K: Send + Sync + 'static,
    {
        let io = TokioIo::new(PatientIo::new(io, self.config.write_timeout.duration(), place));
        let load = Arc::new(Load::new());
        let service = {
            let (server, load) = (Arc::clone(&self), Arc::clone(&load));
            service_fn(move |mut request: Request<Incoming>| {
                if let Some(known) = &known {
                    request.extensions_mut().insert(Arc::clone(known));
                }
                if request.version() == Version::HTTP_2 {
                    load.has_streams();
                }
                Arc::clone(&server).answer(request, peer, load.begin())
            })
        };
        let shutdown = self.supervisor.shutdown();
        let mut connection = pin!(self.http.serve_connection_with_upgrades(io, service));
        let stop = pin!(shutdown.draining());
        let rest = self.config.head_timeout.duration();
        let farewell = FAREWELL.min(rest / FAREWELL_PART);
        let idle = pin!(load.idle(rest.saturating_sub(farewell)));
        // Another process answers new connections. HTTP/2 has a way to send a client there that loses no request (RFC 9113
        // section 6.8); in HTTP/1 only the next answer can say it, since a client may ask at any moment.
        let sent_away = pin!(async {
            shutdown.leaving().await;
            load.streamed().await;
        });
        // A request wakes this task several times, and none of these.
        let (mut stop, mut idle, mut sent_away) = (Drowsy::new(stop), Drowsy::new(idle), Drowsy::new(sent_away));
        let mut is_sent_away = false;
        let drain_limit = loop {
            tokio::select! {
                biased;
                outcome = connection.as_mut() => return self.ended(outcome),
                () = &mut stop => break None,
                () = &mut idle => break Some(farewell),
                () = &mut sent_away, if !is_sent_away => {
                    is_sent_away = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if drain_limit.is_none() {
            tokio::select! {
                outcome = connection.as_mut() => return self.ended(outcome),
                () = load.asked(FIRST_REQUEST) => {}
                () = shutdown.forced() => return,
            }
        }
        // No request under way is cut off: HTTP/1 answers it and closes, HTTP/2 says GOAWAY and finishes its streams.
        connection.as_mut().graceful_shutdown();
        let mut farewell = pin!(async {
            match drain_limit {
                Some(limit) => sleep(limit).await,
                None => load.idle(FAREWELL).await,
            }
        });
        tokio::select! {
            outcome = connection.as_mut() => self.ended(outcome),
            () = farewell.as_mut() => {}
            () = self.cut(&load, &mut hold) => {}
        }
    }

    /// Returns when what is under way is to be cut off.
    async fn cut(&self, load: &Load, hold: &mut Option<Hold>) {
        let forced = self.supervisor.shutdown().forced();
        let Some(lasting) = self.lasting.as_ref().filter(|_| hold.is_some()) else { return forced.await };
        tokio::select! {
            biased;
            () = load.lasting() => {}
            () = forced => return,
        }
        // The last answer of this connection: it was told to take no further request.
        *hold = None;
        lasting.shutdown().forced().await;
    }

    fn ended(&self, outcome: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
        let Err(error) = outcome else { return };
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            self.counts.malformed.inc();
        }
        // Clients leave all the time; it is no news to the operator.
        tracing::debug!(%error, "an HTTP connection ended early");
    }

    /// The answer to `request`, which is kept once only in the future: that is moved about, and lies in every connection.
    pub(super) fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
        peer: Peer,
        mut flight: Flight,
    ) -> impl Future<Output = Result<Response<Tracked>, Infallible>> + Send
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Unpin
            + 'static,
    {
        let (began, version) = (Instant::now(), request.version());
        let limit = self.config.body_timeout.duration();
        let asked = check_authority(&request).map(|()| {
            request.map(|body| {
                if http_body::Body::is_end_stream(&body) {
                    Body::empty()
                } else {
                    Body::new(PatientBody::new(body, limit))
                }
            })
        });
        async move {
            let mut response = match asked {
                Ok(request) => {
                    let answer = AssertUnwindSafe(self.handler.call(request, peer)).catch_unwind().await;
                    answer.unwrap_or_else(|_panic| self.panicked(peer))
                }
                Err(problem) => self.malformed(problem, version),
            };
            if version < Version::HTTP_2
                && self.supervisor.shutdown().is_leaving()
                && response.status() != StatusCode::SWITCHING_PROTOCOLS
            {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            self.counts.response(response.status());
            // A stream of HTTP/2 is a task of its own, which is not another's.
            if version < Version::HTTP_2 && response.extensions().get::<Lasting>().is_some() {
                flight.lasts();
            }
            let streamed = version == Version::HTTP_2;
            Ok(response.map(|inner| Tracked {
                inner,
                pieces: Pieces::default(),
                flight,
                streamed,
                began,
                server: self,
            }))
        }
    }

    fn malformed(&self, problem: &'static str, version: Version) -> Response<Body> {
        self.counts.malformed.inc();
        let mut response = plain(StatusCode::BAD_REQUEST, problem);
        if version < Version::HTTP_2 {
            // Whoever wrote such a head may mean something else by what follows it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn panicked(&self, peer: Peer) -> Response<Body> {
        self.counts.panics.inc();
        // The panic itself was reported, with its stack.
        tracing::error!(target: "mainstay::panic", door = peer.door, "a request handler panicked");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// RFC 9112 3.2, RFC 9113 8.3.1 and RFC 9114 4.3.1: exactly one authority, and one that is none is a bad request. Two are how one
/// machine's check is another one's bypass.
fn check_authority<B>(request: &Request<B>) -> Result<(), &'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host header\n");
    }
    if first.is_some_and(|host| !host.is_empty() && !is_authority(host)) {
        return Err("the Host header names no host\n");
    }
    match (request.version(), first, request.uri().authority()) {
        (Version::HTTP_11, None, _) => Err("Host header is missing\n"),
        (Version::HTTP_2 | Version::HTTP_3, None, None) => Err(":authority is missing\n"),
        (Version::HTTP_2 | Version::HTTP_3, Some(host), Some(authority))
            if host.as_bytes() != authority.as_str().as_bytes() =>
        {
            Err("Host and :authority differ\n")
        }
        _ => Ok(()),
    }
}

/// Whether `host` is a host, with or without a port. Names before an `@` have no place in it (RFC 9110 4.2.4).
fn is_authority(host: &HeaderValue) -> bool {
    // Nearly every one, without a copy being made of it.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    host.as_bytes().iter().all(is_plain)
        || host.to_str().is_ok_and(|text| !text.contains('@') && text.parse::<http::uri::Authority>().is_ok())
}

/// The authority (host and port) a request names; checked by [`Server`] to be one.
pub fn authority<'a>(headers: &'a HeaderMap, uri: &'a http::Uri) -> Option<&'a str> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(http::uri::Authority::as_str),
    }
}

/// A response of a status and a line of text.
pub fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Starts HTTP/2's streams as supervised tasks.
#[derive(Clone)]
struct Tasks {
    supervisor: Supervisor,
    /// How long a client may take over a piece of a response.
    patience: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let stream = pieces::taken(future, self.patience);
        self.supervisor.task("http stream", Role::Ordinary, async move {
            if !stream.await {
                tracing::debug!("an HTTP/2 response was taken too slowly");
            }
        });
    }
}

/// A response body that knows when it is over.
pub(super) struct Tracked {
    inner: Body,
    pieces: Pieces,
    flight: Flight,
    /// Whether it goes over an HTTP/2 stream.
    streamed: bool,
    began: Instant,
    server: Arc<Server>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let body = Pin::new(&mut this.inner);
        if this.streamed { this.pieces.poll(body, context) } else { body.poll_frame(context) }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.left() == 0 && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.with_left(&self.inner.size_hint())
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let now = Instant::now();
        self.flight.rests(now);
        self.server.counts.seconds.observe(now.saturating_duration_since(self.began).as_secs_f64());
    }
}
