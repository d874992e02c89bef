//! Asking the app for what belongs at a place: a task of its own, so that it goes on when the client that wanted it is gone.
//!
//! What may be kept is gathered while it goes to the client, and stored when it is whole; what is too large for memory goes to
//! disk meanwhile, at the client's pace and never holding it up: when the disk does not keep up, or others wait for it and the
//! client does not, it is fetched once more for the disk alone. What may not be kept goes to the client as it comes, as if there were no cache. A body counts as whole by its length or its last chunk, never because the
//! connection ended.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::sleep;

use super::super::balance::App;
use super::super::body::{RequestBody, ResponseBody};
use super::super::head;
use super::super::pool::{Answered, Failure, Lease};
use super::super::rules::Current;
use super::content::Content;
use super::disk::Spill;
use super::entry::{Head, Renewed, Stored};
use super::flights::{Lead, Outcome};
use super::freshness::{Arrival, Asked};
use super::key::Key;
use super::room::Room;
use super::storable::Why;
use super::teed::{Piece, Teed};
use super::{Cache, Caching};
use crate::base::supervise::Role;
use crate::http::Body;

/// How long an answer is read on that nobody reads any more but the cache.
const ABANDONED: Duration = Duration::from_secs(30);
/// How long those who wait for an answer that goes to disk wait for the client that it goes to.
const PACED: Duration = Duration::from_millis(500);
/// For how long nobody waits for another's fetch where nothing could be kept.
const LEFT_ALONE: Duration = Duration::from_mins(1);
/// What a piece of a body takes beside its bytes.
const PIECE: u64 = 128;
/// Bytes on their way to the client of an answer that goes to disk.
const WINDOW: u32 = 256 << 10;

/// One fetch.
#[derive(Debug)]
pub struct Fetch {
    /// Whose connections are used; also has the cache.
    pub current: Arc<Current>,
    /// The app.
    pub app: Arc<App>,
    /// The copy the client wants.
    pub wish: Option<u64>,
    /// Where the answer belongs.
    pub key: Arc<Key>,
    /// The request's path and query, as the app sees them.
    pub uri: Uri,
    /// The request's headers, as the app would see them without a cache.
    pub headers: Arc<HeaderMap>,
    /// What they say of stored answers.
    pub asked: Asked,
    /// The stored answer that is to be validated.
    pub known: Option<Arc<Stored>>,
    /// Who waits.
    pub lead: Option<Lead>,
    /// What the site keeps.
    pub caching: Arc<Caching>,
}

/// What came of it.
#[derive(Debug)]
pub enum Fetched {
    /// The app's answer, or none; it is not kept, and why.
    App(Result<Answered, Failure>, Option<Why>),
    /// The app's answer, which is being kept, and the place of the copy that gave it.
    Kept(Response<Body>, usize),
    /// What is stored is good, and cookies that came with this news.
    Valid(Arc<Stored>, Vec<HeaderValue>),
    /// What is stored stands in for an error, and which.
    Stale(Arc<Stored>, Option<StatusCode>),
}

/// An answer that may be kept, before its body is known.
struct Promising {
    head: Head,
    room: Room,
    began: u64,
    keeping: Keeping,
}

/// Where its pieces go.
enum Keeping {
    Memory(Vec<Bytes>),
    Disk(Spill),
}

impl Fetch {
    /// Asks the app and tells what came of it. With a lead it goes on without anybody who listens, for a while; alone it ends
    /// when the client leaves before the answer has begun, which also tells the app.
    pub async fn run(mut self, mut tell: oneshot::Sender<Fetched>) {
        let current = Arc::clone(&self.current);
        let cache = &*current.rules.cache;
        let began = cache.shelves.tick();
        loop {
            let asked = cache.clock.monotonic();
            let outcome = tokio::select! {
                outcome = current.pools.send(&self.app, self.wish, self.question()) => outcome,
                () = tell.closed(), if self.lead.is_none() => return,
            };
            let status = outcome.as_ref().map(|answered| answered.response.status()).ok();
            // A 304 says for how long what is stored is good.
            let meant = match &self.known {
                Some(known) if status == Some(StatusCode::NOT_MODIFIED) => Some(known.status),
                _ => status,
            };
            let default = meant.and_then(|status| self.caching.default(status));
            let arrival = Arrival { asked, received: cache.clock.monotonic(), at: cache.clock.now(), default };
            let failed = status.is_none_or(|status| status.is_server_error());
            if failed
                && let Some(known) = &self.known
                && known.life.outlives_errors(&known.control, &self.asked, arrival.received, self.caching.stale())
            {
                let stale = Fetched::Stale(Arc::clone(known), status);
                self.land(Outcome::Failed);
                let _client_left = tell.send(stale);
                return;
            }
            let answered = match outcome {
                Ok(answered) => answered,
                Err(failure) => {
                    self.land(Outcome::Failed);
                    let _client_left = tell.send(Fetched::App(Err(failure), None));
                    return;
                }
            };
            let Some(known) = self.known.take_if(|_| status == Some(StatusCode::NOT_MODIFIED)) else {
                return self.take(cache, answered, arrival, began, tell).await;
            };
            cache.counts.revalidations.inc();
            if let Some(valid) = self.renew(cache, &known, answered, arrival, began).await {
                let _client_left = tell.send(valid);
                return;
            }
            // About another answer than the one that was asked about: once more, and without conditions.
            cache.forget(&self.key, &known);
        }
    }

    /// The request as the app gets it: conditions are those of the stored answer, not of the client.
    fn question(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE] {
            headers.remove(name);
        }
        if let Some(known) = &self.known {
            if let Some(etag) = known.headers.get(http::header::ETAG) {
                headers.insert(IF_NONE_MATCH, etag.clone());
            }
            if let Some(modified) = known.headers.get(LAST_MODIFIED) {
                headers.insert(IF_MODIFIED_SINCE, modified.clone());
            }
        }
        request
    }

    /// The app says that what is stored is good. `None`: it says so of something else, or there is no room.
    async fn renew(
        &mut self,
        cache: &Cache,
        known: &Arc<Stored>,
        answered: Answered,
        arrival: Arrival,
        began: u64,
    ) -> Option<Fetched> {
        let (mut parts, body) = answered.response.into_parts();
        // It has no body, so that the connection is free at once.
        drop(ResponseBody::new(body, answered.lease));
        head::for_client(&mut parts.headers, false);
        let Renewed { head, kept } = known.renewed(&self.headers, &parts.headers, arrival)?;
        let room = cache.shelves.room(head.bytes())?;
        let on_disk = match (&kept, &known.body) {
            (Ok(()), Content::Disk(opened)) => Some(cache.tier.renew(opened, &head, began).await),
            _ => None,
        };
        let valid = Arc::new(head.with(known.body.clone(), room));
        let outcome = match kept {
            Ok(()) if on_disk.unwrap_or_else(|| cache.put(&self.key, &valid, began)) => Outcome::Stored,
            // The cookie is one client's; what is stored has not changed by it.
            Ok(()) | Err(Why::SetCookie) => Outcome::Apart,
            Err(_) => {
                cache.forget(&self.key, known);
                self.leave_alone(cache);
                Outcome::Apart
            }
        };
        self.land(outcome);
        let cookies = parts.headers.get_all(SET_COOKIE).iter().cloned().collect();
        Some(Fetched::Valid(valid, cookies))
    }

    /// An answer of its own: kept if it may be.
    async fn take(
        mut self,
        cache: &Cache,
        answered: Answered,
        arrival: Arrival,
        began: u64,
        tell: oneshot::Sender<Fetched>,
    ) {
        let Answered { response, lease, at } = answered;
        let framed = is_framed(&response);
        let (mut parts, body) = response.into_parts();
        head::for_client(&mut parts.headers, false);
        let length = body.size_hint().exact();
        let promising = Head::judged(&self.headers, parts.status, &parts.headers, arrival).and_then(|head| {
            if !framed {
                return Err(Why::Unframed);
            }
            if length.is_some_and(|length| length > self.caching.most()) {
                return Err(Why::Size);
            }
            let room = cache.shelves.room(head.bytes()).ok_or(Why::Full)?;
            let keeping = if length.is_some_and(|length| length > self.caching.in_memory()) {
                Keeping::Disk(cache.tier.begin(&self.key, &head, began).ok_or(Why::Full)?)
            } else {
                Keeping::Memory(Vec::new())
            };
            Ok(Promising { head, room, began, keeping })
        });
        let promising = match promising {
            Ok(promising) => promising,
            Err(why) => {
                if let Some(known) = self.known.take().filter(|_| !parts.status.is_server_error()) {
                    cache.forget(&self.key, &known);
                }
                self.leave_alone(cache);
                self.land(Outcome::Apart);
                let response = Response::from_parts(parts, body);
                let _client_left = tell.send(Fetched::App(Ok(Answered { response, lease, at }), Some(why)));
                return;
            }
        };
        parts.version = Version::HTTP_11;
        let (pieces, teed) = Teed::new(length);
        let response = Response::from_parts(parts, Body::new(teed));
        self.gather(cache, promising, body, lease, pieces, || {
            let _client_left = tell.send(Fetched::Kept(response, at));
        })
        .await;
    }

    /// Hands the body on, piece by piece, and stores it when it is whole. `begin` shows the answer to the client.
    async fn gather(
        mut self,
        cache: &Cache,
        mut promising: Promising,
        body: Incoming,
        lease: Lease,
        pieces: mpsc::UnboundedSender<Piece>,
        begin: impl FnOnce(),
    ) {
        let mut body = ResponseBody::new(body, lease);
        let (mut total, window) = (0u64, Arc::new(Semaphore::new(WINDOW as usize)));
        if body.is_end_stream() {
            // Before the client has it, so that its next request finds it; so is the last piece below.
            self.store(cache, promising);
            let _client_left = pieces.send(Piece::End);
            return begin();
        }
        begin();
        let abandoned = async {
            pieces.closed().await;
            sleep(ABANDONED).await;
        };
        let others = self.lead.as_ref().map(Lead::others);
        let hurried = async {
            match others {
                Some(others) => others.await,
                None => pending().await,
            }
            sleep(PACED).await;
        };
        tokio::pin!(abandoned, hurried);
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = &mut abandoned => {
                    if matches!(promising.keeping, Keeping::Disk(_)) {
                        self.leave_alone(cache);
                    }
                    return;
                }
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    total = total.saturating_add(data.len() as u64);
                    let is_left = pieces.is_closed();
                    let Some(piece) = self.keep(cache, &mut promising, &data, total, is_left).await else {
                        let is_behind = matches!(&promising.keeping, Keeping::Disk(spill) if spill.is_behind());
                        drop(promising);
                        let _client_left =
                            pieces.send(Piece::Data(data)).and_then(|()| pieces.send(Piece::Rest(Box::new(body))));
                        if is_behind && self.lead.is_some() {
                            return self.fetch_again(cache);
                        }
                        self.leave_alone(cache);
                        self.land(Outcome::Apart);
                        return;
                    };
                    let is_last = body.is_end_stream();
                    if is_last {
                        self.store(cache, promising);
                        let _client_left = pieces.send(Piece::Data(piece)).and_then(|()| pieces.send(Piece::End));
                        return;
                    }
                    let pace = match &promising.keeping {
                        Keeping::Disk(_) => paced(&window, &pieces, &piece, hurried.as_mut()).await,
                        Keeping::Memory(_) => Pace::Free,
                    };
                    let _client_left = match pace {
                        Pace::Client(permit) => pieces.send(Piece::Paced(piece, permit)),
                        Pace::Free => pieces.send(Piece::Data(piece)),
                        Pace::Behind => {
                            drop(promising);
                            let _client_left =
                                pieces.send(Piece::Data(piece)).and_then(|()| pieces.send(Piece::Rest(Box::new(body))));
                            return self.fetch_again(cache);
                        }
                    };
                }
                // Trailers are for this client (RFC 9110 section 6.5.1 lets others go without).
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _client_left = pieces.send(Piece::Trailers(trailers));
                    }
                }
                Some(Err(error)) => {
                    self.land(Outcome::Apart);
                    let _client_left = pieces.send(Piece::Broken(error));
                    return;
                }
                None => {
                    self.store(cache, promising);
                    let _client_left = pieces.send(Piece::End);
                    return;
                }
            }
        }
    }

    /// `data` in memory that counts, handed to where the answer is kept; `None` when that cannot be, `total` being all so far.
    async fn keep(
        &self,
        cache: &Cache,
        promising: &mut Promising,
        data: &Bytes,
        total: u64,
        is_left: bool,
    ) -> Option<Bytes> {
        let hold = || {
            let room = cache.shelves.room((data.len() as u64).saturating_add(PIECE))?;
            Some(room.hold(data.to_vec()))
        };
        if total > self.caching.most() {
            return None;
        }
        if let Keeping::Memory(gathered) = &mut promising.keeping {
            if total <= self.caching.in_memory()
                && let Some(piece) = hold()
            {
                gathered.push(piece.clone());
                return Some(piece);
            }
            let spill = cache.tier.begin(&self.key, &promising.head, promising.began)?;
            for piece in gathered.drain(..) {
                spill.put(piece, None);
            }
            promising.keeping = Keeping::Disk(spill);
        }
        let Keeping::Disk(spill) = &mut promising.keeping else { return None };
        let leave = spill.leave(data.len(), is_left).await?;
        let piece = hold()?;
        spill.put(piece.clone(), Some(leave));
        Some(piece)
    }

    /// Fetches the same once more for those who wait, at the disk's pace: no client reads it.
    fn fetch_again(mut self, cache: &Cache) {
        self.known = None;
        let (tell, _) = oneshot::channel();
        cache.supervisor.task("edge cache fetch", Role::Ordinary, self.boxed(tell));
    }

    /// [`Self::run`], which may come to this itself.
    fn boxed(self, tell: oneshot::Sender<Fetched>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run(tell))
    }

    /// Stores a whole answer, and lets those who wait for it have it.
    fn store(&mut self, cache: &Cache, promising: Promising) {
        let Promising { head, room, began, keeping } = promising;
        let gathered = match keeping {
            Keeping::Memory(gathered) => gathered,
            Keeping::Disk(spill) => return spill.end(head, self.lead.take()),
        };
        let body = match gathered.as_slice() {
            [] => Some(Bytes::new()),
            [piece] => Some(piece.clone()),
            several => {
                let total: usize = several.iter().map(Bytes::len).sum();
                cache.shelves.room(total as u64).map(|room| room.hold(several.concat()))
            }
        };
        let stored = body.is_some_and(|body| cache.put(&self.key, &Arc::new(head.with(body, room)), began));
        self.land(if stored { Outcome::Stored } else { Outcome::Apart });
    }

    fn leave_alone(&self, cache: &Cache) {
        cache.shelves.leave_alone(&self.key, cache.clock.monotonic().saturating_add(LEFT_ALONE));
    }

    /// Tells those who wait.
    fn land(&mut self, outcome: Outcome) {
        if let Some(lead) = self.lead.take() {
            lead.land(outcome);
        }
    }
}

/// At whose pace an answer goes on.
enum Pace {
    /// The client's, which has taken most of what it was sent.
    Client(OwnedSemaphorePermit),
    /// Nobody's but the disk's: the client is gone.
    Free,
    /// The client is too slow for those who wait.
    Behind,
}

/// Waits until the client has taken most of what it was sent, at most until `hurried` ends.
async fn paced(
    window: &Arc<Semaphore>,
    pieces: &mpsc::UnboundedSender<Piece>,
    piece: &Bytes,
    hurried: Pin<&mut impl Future<Output = ()>>,
) -> Pace {
    let permits = u32::try_from(piece.len()).unwrap_or(WINDOW).min(WINDOW);
    tokio::select! {
        biased;
        // First: where nobody reads, nobody is too slow.
        () = pieces.closed() => Pace::Free,
        permit = Arc::clone(window).acquire_many_owned(permits) => permit.map_or(Pace::Free, Pace::Client),
        () = hurried => Pace::Behind,
    }
}

/// Whether an answer's end shows in itself (RFC 9112 section 6.3): without length and chunks only the connection ends.
fn is_framed(response: &Response<Incoming>) -> bool {
    response.body().size_hint().exact().is_some()
        || response.version() == Version::HTTP_2
        || response.headers().contains_key(TRANSFER_ENCODING)
}
