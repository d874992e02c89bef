//! Connections to the apps, kept by each worker for itself.
//!
//! A kept connection may have been closed by the app a moment ago (Node.js closes after 5 s of rest), so that a request
//! sent on it finds nobody. Three things keep that from becoming a 502: connections rest for less than the app's limit
//! (`edge.timeouts.upstream_idle`), closed ones are not handed out, and a request that certainly was not answered goes
//! out once more on a fresh connection - if nothing of it was sent, or if its method is idempotent and it had no body.
//! Whoever has a connection on loan moves it on ([`super::line`]); at rest it stands still.
//! Requests to an app that speaks HTTP/2 share its connections, [`STREAMS`] at most on each.
//!
//! Which copy of an app is asked is the business of [`super::balance`], who does well that of [`super::health`]. A request
//! that found no connection goes to the next copy; so does one without a body whose method is idempotent when the
//! connection broke.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::poll_fn;
use http::header::UPGRADE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use tokio::time::Instant;

use super::balance::{App, Load, Tried};
use super::body::RequestBody;
use super::config::EdgeConfig;
use super::connect::{self, Sender};
use super::health::Standing;
use super::line::{Alarm, Line};
use super::metrics::{EdgeMetrics, UpstreamCounts};
use super::peer::Peer;
use super::sites::Sites;
use super::spare::Spare;
use crate::base::Supervisor;

/// Requests at once on one HTTP/2 connection to an app, the number RFC 9113 section 6.5.2 wants servers to take.
const STREAMS: usize = 100;

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
    /// A WebSocket to an app that is spoken to in HTTP/2.
    #[error("an app that speaks HTTP/2 takes no WebSocket here")]
    NoUpgrade,
}

/// One worker's connections, a pool for each peer.
#[derive(Debug)]
pub struct Pools {
    pools: Vec<Arc<Pool>>,
}

struct Pool {
    peer: Arc<Peer>,
    keep: Duration,
    most: usize,
    supervisor: Supervisor,
    metrics: EdgeMetrics,
    counts: UpstreamCounts,
    /// HTTP/1.1 connections at rest, longest first.
    idle: Mutex<Vec<Idle>>,
    /// HTTP/2 connections.
    shared: Mutex<Vec<Shared>>,
    /// Held while an HTTP/2 connection is made, so that many requests wait for one.
    making: tokio::sync::Mutex<()>,
    /// Requests under way.
    active: AtomicUsize,
}

struct Idle {
    line: Line,
    alarm: Alarm,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<RequestBody>,
    /// Requests on it, itself not counted.
    streams: Arc<()>,
    since: Instant,
}

/// A connection on loan, or a place on a shared one. Dropped, the former is closed.
pub struct Lease {
    sender: Sender,
    alarm: Alarm,
    loan: Loan,
    /// Counts the request on its shared connection.
    _stream: Option<Arc<()>>,
}

/// Counts a request as under way until it is dropped.
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

/// What came of a request.
#[derive(Debug)]
pub struct Answered {
    /// The response, its body to come.
    pub response: Response<Incoming>,
    /// The connection it comes on.
    pub lease: Lease,
    /// The place of the copy that answered.
    pub at: usize,
}

impl Pools {
    /// Pools for the peers of `sites`: those of `before` where nothing about them has changed, else empty ones.
    pub fn new(
        sites: &Sites,
        config: &EdgeConfig,
        supervisor: &Supervisor,
        metrics: &EdgeMetrics,
        before: Option<&Self>,
    ) -> Self {
        let keep = config.timeouts.upstream_idle.duration();
        let most = config.limits.idle_upstream_connections as usize;
        let kept = |peer: &Arc<Peer>| {
            let same = |pool: &&Arc<Pool>| Arc::ptr_eq(&pool.peer, peer) && (pool.keep, pool.most) == (keep, most);
            before.and_then(|before| before.pools.iter().find(same)).map(Arc::clone)
        };
        let fresh = |peer: &Arc<Peer>| {
            Arc::new(Pool {
                peer: Arc::clone(peer),
                keep,
                most,
                supervisor: supervisor.clone(),
                metrics: metrics.clone(),
                counts: metrics.of_upstream(&peer.name),
                idle: Mutex::default(),
                shared: Mutex::default(),
                making: tokio::sync::Mutex::default(),
                active: AtomicUsize::new(0),
            })
        };
        Self { pools: sites.peers().iter().map(|one| kept(one).unwrap_or_else(|| fresh(one))).collect() }
    }

    /// Closes connections that have rested long enough.
    pub fn purge(&self) {
        for pool in &self.pools {
            pool.purge();
        }
    }

    /// Requests under way to the peer of that number.
    pub fn active(&self, number: usize) -> usize {
        self.pools.get(number).map_or(0, |pool| pool.active.load(Ordering::Relaxed))
    }

    /// Sends `request` to one of the copies of `app`, the one its client wishes if that can be, and waits for the
    /// response's head.
    ///
    /// # Errors
    /// [`Failure`]; the request may have reached the app unless it is [`Failure::Connect`] or
    /// [`Failure::ConnectTimeout`].
    ///
    /// # Cancel safety
    /// Dropping it closes the connection; the request may have reached the app.
    pub async fn send(&self, app: &App, wish: Option<u64>, request: Request<RequestBody>) -> Result<Answered, Failure> {
        let count = app.copies.len();
        let body = request.body().progress();
        let mut request = Some(request);
        let pool_at = |at: usize| app.copies.get(at).and_then(|number| self.pools.get(*number));
        let mut tried = Tried::default();
        loop {
            let now = Instant::now();
            let load = |at: usize| {
                let pool = pool_at(at);
                Load {
                    out: pool.is_none_or(|pool| pool.peer.health.standing(now) != Standing::Up),
                    active: pool.map_or(0, |pool| pool.active.load(Ordering::Relaxed)),
                }
            };
            let chosen = app.choose(wish, tried, load).and_then(|at| Some((at, pool_at(at)?)));
            let (at, pool) = chosen.ok_or_else(|| Failure::Connect(io::ErrorKind::NotFound.into()))?;
            tried.add(at);
            pool.counts.requests.inc();
            let others = tried.count() < count;
            let outcome = pool.send(&mut request, others, now).await;
            // A client that stops in the middle of its request says nothing about the app.
            if !body.failed() {
                pool.judge(outcome.as_ref().err());
            }
            match outcome {
                Ok((response, lease)) => return Ok(Answered { response, lease, at }),
                Err(_) if others && request.is_some() => pool.metrics.upstream_retries.inc(),
                Err(failure) => return Err(failure),
            }
        }
    }
}

impl Pool {
    /// Sends `request` to this copy, `now`. It is there again after an error if it may be sent to another one, which after
    /// the connection broke it may only if there are `others`.
    ///
    /// It is passed by reference, as in [`Self::exchange`], since each future between would have room for it otherwise.
    async fn send(
        self: &Arc<Self>,
        request: &mut Option<Request<RequestBody>>,
        others: bool,
        now: Instant,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let many = self.peer.rules.upstream.protocol.is_multiplexed();
        if many && request.take_if(|request| request.headers().contains_key(UPGRADE)).is_some() {
            return Err(Failure::NoUpgrade);
        }
        if let Some(mut lease) = if many { self.share() } else { self.take(now) } {
            match self.exchange(&mut lease, request, true, now).await {
                Ok(response) => return Ok((response, lease)),
                Err(failure) if request.is_none() => return Err(failure),
                Err(_) => self.metrics.upstream_retries.inc(),
            }
        }
        let mut lease = if many { self.make_shared().await? } else { self.make().await? };
        let response = self.exchange(&mut lease, request, others, Instant::now()).await?;
        Ok((response, lease))
    }

    /// One request on one connection, begun `now`. When the connection broke, the request is there again if nothing of it was
    /// sent, or with `again` if it may be sent twice.
    async fn exchange(
        &self,
        lease: &mut Lease,
        request: &mut Option<Request<RequestBody>>,
        again: bool,
        now: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let Some(sent) = request.take() else { return Err(Failure::Connect(io::ErrorKind::InvalidInput.into())) };
        let spare = if again { Spare::of(&sent) } else { None };
        let progress = sent.body().progress();
        let limit = self.peer.rules.times.response;
        let (mut seen, mut end) = (progress.bytes(), now + limit);
        let mut answer = pin!(lease.sender.send(sent));
        let outcome = poll_fn(|context| {
            loop {
                if let Poll::Ready(outcome) = lease.sender.poll(context, |context| answer.as_mut().poll(context)) {
                    return Poll::Ready(Some(outcome));
                }
                ready!(lease.late(context, end));
                // The time counts from the last byte of the request: an upload may take longer than an answer.
                if progress.bytes() == seen {
                    return Poll::Ready(None);
                }
                (seen, end) = (progress.bytes(), Instant::now() + limit);
            }
        });
        match outcome.await {
            Some(Ok(response)) => {
                if !progress.ended() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    lease.detach();
                }
                Ok(response)
            }
            Some(Err(mut error)) => {
                let unsent = error.take_message().filter(|_| !progress.touched());
                *request = unsent.or_else(|| spare?.request());
                Err(Failure::Broken(error.into_error()))
            }
            None => Err(Failure::ResponseTimeout),
        }
    }

    /// The connection used last: it has the most time left. When it has none left, neither has any other.
    fn take(self: &Arc<Self>, now: Instant) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut last) = idle.pop() {
            if now.saturating_duration_since(last.since) >= self.keep {
                idle.clear();
            } else if last.line.is_ready() {
                return Some(self.lease(Sender::One(last.line), last.alarm, None));
            }
            // Else it is closed, or its last request is still being sent although the answer has come: no longer of use.
        }
        None
    }

    /// A place on an HTTP/2 connection that has one.
    fn share(self: &Arc<Self>) -> Option<Lease> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|one| !one.sender.is_closed());
        let one = shared.iter_mut().find(|one| Arc::strong_count(&one.streams) <= STREAMS)?;
        one.since = Instant::now();
        Some(self.lease(Sender::Many(one.sender.clone()), Alarm::default(), Some(Arc::clone(&one.streams))))
    }

    fn lease(self: &Arc<Self>, sender: Sender, alarm: Alarm, stream: Option<Arc<()>>) -> Lease {
        Lease { sender, alarm, loan: Loan::new(self), _stream: stream }
    }

    /// A new connection. Boxed, so that requests that find one do not carry its state.
    async fn make(self: &Arc<Self>) -> Result<Lease, Failure> {
        let sender = Box::pin(connect::open(&self.peer, &self.supervisor)).await?;
        Ok(self.lease(sender, Alarm::default(), None))
    }

    /// A place on an HTTP/2 connection, which is made when no other request has just made one.
    async fn make_shared(self: &Arc<Self>) -> Result<Lease, Failure> {
        let _one_at_a_time = self.making.lock().await;
        if let Some(lease) = self.share() {
            return Ok(lease);
        }
        let sender = Box::pin(connect::open(&self.peer, &self.supervisor)).await?;
        let streams = Arc::new(());
        let stream = Some(Arc::clone(&streams));
        if let Sender::Many(sender) = &sender {
            let one = Shared { sender: sender.clone(), streams, since: Instant::now() };
            self.shared.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        }
        Ok(self.lease(sender, Alarm::default(), stream))
    }

    fn purge(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|idle| idle.since.elapsed() < self.keep && !idle.line.is_closed());
        drop(idle);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|one| {
            let rests = Arc::strong_count(&one.streams) == 1 && one.since.elapsed() >= self.keep;
            !one.sender.is_closed() && !rests
        });
    }

    fn judge(&self, failure: Option<&Failure>) {
        let rules = &self.peer.rules.health;
        if failure.is_some() {
            self.counts.failed.inc();
        }
        if self.peer.health.judge(failure, rules)
            && let Some(failure) = failure
        {
            self.metrics.upstream_ejections.inc();
            let pause = crate::base::Span::millis(rules.pause.as_millis() as u64);
            tracing::warn!(upstream = %self.peer.name, %failure, %pause, "a copy of an app is asked last for a while");
        }
    }
}

impl Lease {
    /// Longest pause within a response of this copy; `None` sets no limit.
    pub fn read_limit(&self) -> Option<Duration> {
        self.loan.0.peer.rules.times.read
    }

    /// Polls `wanted`, which waits for what comes from the connection, and moves the connection on if need be.
    pub fn poll_next<T>(
        &mut self,
        context: &mut Context<'_>,
        wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.sender.poll_next(context, wanted)
    }

    /// Ready once it is `at`. To be asked after [`Self::poll_next`] had nothing.
    pub fn late(&mut self, context: &mut Context<'_>, at: Instant) -> Poll<()> {
        let waker = self.sender.waker().unwrap_or_else(|| context.waker());
        self.alarm.poll(&mut Context::from_waker(waker), at)
    }

    /// Has a task move the connection on, whoever reads.
    fn detach(&mut self) {
        if let Sender::One(line) = &mut self.sender {
            line.detach(&self.loan.0.supervisor);
        }
    }

    /// Puts the connection back for the next request. Call it when the response's body has ended.
    pub fn give_back(self) {
        let Self { sender: Sender::One(mut line), alarm, loan, .. } = self else { return };
        let pool = &loan.0;
        if line.rest() {
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < pool.most {
                idle.push(Idle { line, alarm, since: Instant::now() });
            }
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
        f.debug_struct("Pool").field("peer", &self.peer.name).finish_non_exhaustive()
    }
}
