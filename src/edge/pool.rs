//! Connections to the apps, kept by each worker for itself: HTTP/1.1 over TCP and Unix sockets.
//!
//! A kept connection may have been closed by the app a moment ago (Node.js closes after 5 s of rest), so that a request
//! sent on it finds nobody. Three things keep that from becoming a 502: connections rest for less than the app's limit
//! (`edge.timeouts.upstream_idle`), closed ones are not handed out, and a request that certainly was not answered goes
//! out once more on a fresh connection - if nothing of it was sent, or if its method is idempotent and it had no body.
//!
//! Of several copies of an app the one with the fewest requests under way is taken, as this worker sees it. A copy that
//! takes no connection, or fails [`FAILURES`] times in a row, is left out for [`PENALTY`]; when all are, all are tried, so
//! that the only one is never left out. A request that found no connection goes to the next copy.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::body::RequestBody;
use super::config::EdgeConfig;
use super::metrics::EdgeMetrics;
use super::sites::Sites;
use super::upstream::Upstream;
use crate::base::Supervisor;
use crate::base::supervise::Role;

/// Largest response head taken from an app.
const MAX_RESPONSE_HEAD: usize = 256 << 10;
/// Most header lines in an app's response.
const MAX_RESPONSE_HEADERS: usize = 200;

/// Failures in a row that make a copy be left out.
const FAILURES: u32 = 3;
/// For how long.
const PENALTY: Duration = Duration::from_secs(10);

/// Why an app did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// No connection in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The connection broke, or what came was no HTTP.
    #[error("the connection broke before a response: {0}")]
    Broken(#[source] hyper::Error),
    /// No response head in time.
    #[error("no response in time")]
    ResponseTimeout,
}

/// One worker's connections, an upstream each.
#[derive(Debug)]
pub struct Pools {
    pools: Vec<Arc<Pool>>,
    response: Duration,
    /// Where the next search for the least busy copy begins.
    turn: AtomicUsize,
}

/// The copies of an app that an attempt was made at, by their place.
#[derive(Clone, Copy, Debug, Default)]
struct Tried(u64);

impl Tried {
    fn add(&mut self, at: usize) {
        self.0 |= 1u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    fn has(self, at: usize) -> bool {
        self.0 & 1u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0) != 0
    }

    const fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

struct Pool {
    upstream: Upstream,
    connect: Duration,
    keep: Duration,
    most: usize,
    supervisor: Supervisor,
    metrics: EdgeMetrics,
    /// Longest at rest first.
    idle: Mutex<Vec<Idle>>,
    /// Connections on loan.
    active: AtomicUsize,
    health: Mutex<Health>,
}

/// How a copy of an app has done lately.
#[derive(Debug, Default)]
struct Health {
    /// In a row.
    failures: u32,
    /// Until when it is left out.
    out: Option<Instant>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection on loan. Dropped, it is closed.
pub struct Lease {
    sender: SendRequest<RequestBody>,
    loan: Loan,
}

/// Counts a connection as on loan until it is dropped.
struct Loan(Arc<Pool>);

impl Loan {
    fn new(pool: &Arc<Pool>) -> Self {
        pool.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pools {
    /// Pools for the upstreams of `sites`: those of `before` where nothing about them has changed, else empty ones.
    pub fn new(
        sites: &Sites,
        config: &EdgeConfig,
        supervisor: &Supervisor,
        metrics: &EdgeMetrics,
        before: Option<&Self>,
    ) -> Self {
        let connect = config.timeouts.connect.duration();
        let keep = config.timeouts.upstream_idle.duration();
        let most = config.limits.idle_upstream_connections as usize;
        let kept = |upstream: &Upstream| {
            let same = |pool: &&Arc<Pool>| {
                pool.upstream == *upstream && (pool.connect, pool.keep, pool.most) == (connect, keep, most)
            };
            before.and_then(|before| before.pools.iter().find(same)).map(Arc::clone)
        };
        let fresh = |upstream: &Upstream| {
            Arc::new(Pool {
                upstream: upstream.clone(),
                connect,
                keep,
                most,
                supervisor: supervisor.clone(),
                metrics: metrics.clone(),
                idle: Mutex::new(Vec::new()),
                active: AtomicUsize::new(0),
                health: Mutex::default(),
            })
        };
        Self {
            pools: sites.upstreams().iter().map(|one| kept(one).unwrap_or_else(|| fresh(one))).collect(),
            response: config.timeouts.response.duration(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Closes connections that have rested long enough.
    pub fn purge(&self) {
        for pool in &self.pools {
            pool.purge(&mut pool.idle.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Sends `request` to one of `copies` (numbers of upstreams) and waits for the response's head.
    ///
    /// # Errors
    /// [`Failure`]; the request may have reached the app unless it is [`Failure::Connect`] or
    /// [`Failure::ConnectTimeout`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection; the request may have reached the app.
    pub async fn send(
        &self,
        copies: &[usize],
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let body = (copies.len() > 1).then(|| request.body().progress());
        let mut tried = Tried::default();
        loop {
            let (at, pool) =
                self.choose(copies, tried).ok_or_else(|| Failure::Connect(io::ErrorKind::NotFound.into()))?;
            let outcome = self.send_to(pool, request).await;
            // A client that stops in the middle of its request says nothing about the app.
            if body.as_ref().is_some_and(|body| !body.failed()) {
                pool.judge(outcome.as_ref().err().map(|(failure, _)| failure));
            }
            tried.add(at);
            match outcome {
                Ok(answered) => return Ok(answered),
                Err((_, Some(unsent))) if tried.count() < copies.len() => request = unsent,
                Err((failure, _)) => return Err(failure),
            }
            pool.metrics.upstream_retries.inc();
        }
    }

    /// The copy for the next attempt, with its place in `copies`: not tried yet, in good health if any is, fewest
    /// requests under way; among equals the one after the last chosen.
    fn choose(&self, copies: &[usize], tried: Tried) -> Option<(usize, &Arc<Pool>)> {
        if let [only] = copies {
            return self.pools.get(*only).map(|pool| (0, pool));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let places = (0..copies.len()).map(|step| turn.wrapping_add(step) % copies.len());
        let left = places.filter(|at| !tried.has(*at));
        left.filter_map(|at| Some((at, self.pools.get(*copies.get(at)?)?)))
            .min_by_key(|(_, pool)| (pool.is_out(now), pool.active.load(Ordering::Relaxed)))
    }

    /// Sends `request` to one copy. It comes back with the error when no connection came about.
    async fn send_to(
        &self,
        pool: &Arc<Pool>,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), (Failure, Option<Request<RequestBody>>)> {
        if let Some(mut lease) = pool.take() {
            let spare = spare(&request);
            request = match self.exchange(&mut lease, request).await {
                Ok(response) => return Ok((response, lease)),
                Err((failure, unsent)) => match unsent.or(spare) {
                    Some(again) if matches!(failure, Failure::Broken(_)) => again,
                    _ => return Err((failure, None)),
                },
            };
            pool.metrics.upstream_retries.inc();
        }
        let mut lease = match pool.connect().await {
            Ok(lease) => lease,
            Err(failure) => return Err((failure, Some(request))),
        };
        match self.exchange(&mut lease, request).await {
            Ok(response) => Ok((response, lease)),
            Err((failure, _)) => Err((failure, None)),
        }
    }

    /// One request on one connection. The request comes back with the error when nothing of it was sent.
    async fn exchange(
        &self,
        lease: &mut Lease,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (Failure, Option<Request<RequestBody>>)> {
        let progress = request.body().progress();
        let mut answer = std::pin::pin!(lease.sender.try_send_request(request));
        let mut seen = progress.bytes();
        loop {
            match timeout(self.response, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message().filter(|_| !progress.touched());
                    return Err((Failure::Broken(error.into_error()), unsent));
                }
                // The time counts from the last byte of the request: an upload may take longer than an answer.
                Err(_) if progress.bytes() > seen => seen = progress.bytes(),
                Err(_) => return Err((Failure::ResponseTimeout, None)),
            }
        }
    }
}

/// A copy of a request that may be sent twice (RFC 9110 section 9.2.2) and has no body.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    // An upgrade is bound to its connection.
    let upgrade = request.headers().contains_key(http::header::UPGRADE);
    if upgrade || !request.body().is_end_stream() || !idempotent.contains(request.method()) {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

impl Pool {
    /// The connection used last: it has the most time left. When it has none left, neither has any other.
    fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(last) = idle.pop() {
            if last.since.elapsed() >= self.keep {
                idle.clear();
            } else if last.sender.is_ready() {
                return Some(Lease { sender: last.sender, loan: Loan::new(self) });
            }
            // Else it is closed, or its last request is still being sent although the answer has come: no longer of use.
        }
        None
    }

    fn purge(&self, idle: &mut Vec<Idle>) {
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.keep);
    }

    /// Whether the copy is left out at `now`.
    fn is_out(&self, now: Instant) -> bool {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).out.is_some_and(|until| now < until)
    }

    /// Takes note of how a request went. After a penalty, the first failure brings the next one.
    fn judge(&self, failure: Option<&Failure>) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failure else {
            *health = Health::default();
            return;
        };
        health.failures = match failure {
            Failure::Connect(_) | Failure::ConnectTimeout => FAILURES,
            Failure::Broken(_) | Failure::ResponseTimeout => health.failures.saturating_add(1),
        };
        if health.failures >= FAILURES {
            let now = Instant::now();
            if health.out.is_none_or(|until| until <= now) {
                self.metrics.upstream_ejections.inc();
                tracing::warn!(upstream = %self.upstream, %failure, "a copy of an app gets no requests for 10s");
            }
            health.out = Some(now + PENALTY);
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Lease, Failure> {
        let sender = match &self.upstream {
            Upstream::Tcp { host, port } => {
                let stream = self.in_time(TcpStream::connect((host.as_str(), *port))).await?;
                // Heads and first chunks must not wait for the other side's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                self.speak(stream).await?
            }
            Upstream::Unix(path) => self.speak(self.in_time(UnixStream::connect(path)).await?).await?,
        };
        Ok(Lease { sender, loan: Loan::new(self) })
    }

    async fn in_time<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> Result<S, Failure> {
        match timeout(self.connect, connecting).await {
            Ok(stream) => stream.map_err(Failure::Connect),
            Err(_) => Err(Failure::ConnectTimeout),
        }
    }

    /// Begins HTTP/1.1 on a connection.
    async fn speak<S>(&self, stream: S) -> Result<SendRequest<RequestBody>, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD)
            .max_headers(MAX_RESPONSE_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::Broken)?;
        self.supervisor.task("edge upstream", Role::Ordinary, async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an app ended early");
            }
        });
        Ok(sender)
    }
}

impl Lease {
    /// Puts the connection back for the next request. Call it when the response's body has ended.
    pub fn give_back(self) {
        let pool = &self.loan.0;
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < pool.most && !self.sender.is_closed() {
            idle.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pool", &self.loan.0).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
