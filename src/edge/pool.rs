//! Connections to the apps, kept by each worker for itself: HTTP/1.1 over TCP.
//!
//! A kept connection may have been closed by the app a moment ago (Node.js closes after 5 s of rest), so that a request
//! sent on it finds nobody. Three things keep that from becoming a 502: connections rest for less than the app's limit
//! (`edge.timeouts.upstream_idle`), closed ones are not handed out, and a request that certainly was not answered goes
//! out once more on a fresh connection - if nothing of it was sent, or if its method is idempotent and it had no body.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
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
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection on loan. Dropped, it is closed.
pub struct Lease {
    sender: SendRequest<RequestBody>,
    pool: Arc<Pool>,
}

impl Pools {
    /// Empty pools for the upstreams of `sites`.
    pub fn new(sites: &Sites, config: &EdgeConfig, supervisor: &Supervisor, metrics: &EdgeMetrics) -> Self {
        let pool = |upstream| {
            Arc::new(Pool {
                upstream,
                connect: config.timeouts.connect.duration(),
                keep: config.timeouts.upstream_idle.duration(),
                most: config.limits.idle_upstream_connections as usize,
                supervisor: supervisor.clone(),
                metrics: metrics.clone(),
                idle: Mutex::new(Vec::new()),
            })
        };
        Self { pools: sites.upstreams().into_iter().map(pool).collect(), response: config.timeouts.response.duration() }
    }

    /// Closes connections that have rested long enough.
    pub fn purge(&self) {
        for pool in &self.pools {
            pool.purge(&mut pool.idle.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Sends `request` to upstream number `index` and waits for the response's head.
    ///
    /// # Errors
    /// [`Failure`]; the request may have reached the app unless it is [`Failure::Connect`] or
    /// [`Failure::ConnectTimeout`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection; the request may have reached the app.
    pub async fn send(
        &self,
        index: usize,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let pool = self.pools.get(index).ok_or_else(|| Failure::Connect(io::ErrorKind::NotFound.into()))?;
        if let Some(mut lease) = pool.take() {
            let spare = spare(&request);
            request = match self.exchange(&mut lease, request).await {
                Ok(response) => return Ok((response, lease)),
                Err((failure, unsent)) => match unsent.or(spare) {
                    Some(again) if matches!(failure, Failure::Broken(_)) => again,
                    _ => return Err(failure),
                },
            };
            pool.metrics.upstream_retries.inc();
        }
        let mut lease = pool.connect().await?;
        match self.exchange(&mut lease, request).await {
            Ok(response) => Ok((response, lease)),
            Err((failure, _)) => Err(failure),
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
                return Some(Lease { sender: last.sender, pool: Arc::clone(self) });
            }
            // Else it is closed, or its last request is still being sent although the answer has come: no longer of use.
        }
        None
    }

    fn purge(&self, idle: &mut Vec<Idle>) {
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < self.keep);
    }

    async fn connect(self: &Arc<Self>) -> Result<Lease, Failure> {
        let connecting = TcpStream::connect((self.upstream.host(), self.upstream.port()));
        let stream = match timeout(self.connect, connecting).await {
            Ok(stream) => stream.map_err(Failure::Connect)?,
            Err(_) => return Err(Failure::ConnectTimeout),
        };
        // Heads and first chunks must not wait for the other side's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
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
        Ok(Lease { sender, pool: Arc::clone(self) })
    }
}

impl Lease {
    /// Puts the connection back for the next request. Call it when the response's body has ended.
    pub fn give_back(self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.pool.most && !self.sender.is_closed() {
            idle.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
