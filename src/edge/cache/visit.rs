//! A request's way through the cache: what is stored answers it, or the app is asked, alone or for many.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONTENT_LOCATION, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LOCATION, RANGE, SET_COOKIE,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::super::balance::App;
use super::super::body::RequestBody;
use super::super::head::X_FORWARDED_HOST;
use super::super::host::Host;
use super::super::pages::{self, Form};
use super::super::pool::{Answered, Failure};
use super::super::rules::Current;
use super::super::sites::Site;
use super::answer::{is_known, not_modified, respond};
use super::directives::Word;
use super::entry::Stored;
use super::fetch::{Fetch, Fetched};
use super::flights::{Lead, Outcome, Turn};
use super::freshness::{Asked, Standing};
use super::key::Key;
use super::shelves::Found;
use super::status::{Forward, Status};
use super::storable::is_personal;
use super::{Cache, Caching};
use crate::base::supervise::Role;
use crate::http::Body;

/// Longest wait for what another request fetches.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Most fetches of others a request waits for, one after the other.
const MOST_WAITS: usize = 8;

/// Headers by which some frameworks let a request be another one than it seems. Whoever sends one would choose what others
/// are shown: such a request goes by.
const IN_DISGUISE: [HeaderName; 5] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// A request on its way to an app whose answers are kept.
#[derive(Debug)]
pub struct Visit<'a> {
    /// What is in force.
    pub current: &'a Arc<Current>,
    /// The site.
    pub site: &'a Site,
    /// What it keeps.
    pub caching: &'a Arc<Caching>,
    /// The app.
    pub app: &'a Arc<App>,
    /// The copy the client wants.
    pub wish: Option<u64>,
    /// The host asked for.
    pub host: &'a Host,
    /// Whether by HTTPS.
    pub secure: bool,
    /// Path and query asked for.
    pub target: String,
    /// The form of an own answer.
    pub form: Form,
}

/// What came of a request.
#[derive(Debug)]
pub struct Visited {
    /// The answer.
    pub reply: Reply,
    /// What the cache did; `None` where there is none.
    pub status: Option<Status>,
    /// Whether the app was asked.
    pub asked_app: bool,
}

/// An answer.
#[derive(Debug)]
pub enum Reply {
    /// The app's.
    App(Result<Answered, Failure>),
    /// One that is ready to be sent, and the place of the copy it comes from now.
    Ready(Response<Body>, Option<usize>),
}

impl Visited {
    /// Without a cache.
    pub const fn plain(outcome: Result<Answered, Failure>) -> Self {
        Self { reply: Reply::App(outcome), status: None, asked_app: true }
    }

    fn passed(outcome: Result<Answered, Failure>, status: Status) -> Self {
        Self { reply: Reply::App(outcome), status: Some(status), asked_app: true }
    }

    fn ready(response: Response<Body>, status: Status, asked_app: bool) -> Self {
        Self { reply: Reply::Ready(response, None), status: Some(status), asked_app }
    }
}

impl Visit<'_> {
    /// The answer to `request`, which is as the app is to see it.
    ///
    /// # Cancel safety
    /// A fetch that others wait for goes on.
    pub async fn answer(self, request: Request<RequestBody>) -> Visited {
        let shown = request.headers().get(X_FORWARDED_HOST);
        let key = Key::of(&self.site.name, self.secure, self.host, shown, &self.target);
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.change(&key, request).await;
        }
        let goes_by = !Key::is_plain(self.host, &self.target)
            || !request.body().is_end_stream()
            || [UPGRADE, IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| request.headers().contains_key(name))
            || IN_DISGUISE.iter().any(|name| request.headers().contains_key(name));
        if goes_by {
            let outcome = self.current.pools.send(self.app, self.wish, request).await;
            return Visited::passed(outcome, Status::forwarded(Forward::Bypass));
        }
        let (parts, _) = request.into_parts();
        let visited = self.read(&Arc::new(key), parts).await;
        let counts = &self.cache().counts;
        let (here, all) =
            if visited.asked_app { (&self.caching.misses, &counts.misses) } else { (&self.caching.hits, &counts.hits) };
        here.inc();
        all.inc();
        visited
    }

    fn cache(&self) -> &Arc<Cache> {
        &self.current.rules.cache
    }

    /// A request that may change things: if it does, what is stored of them goes (RFC 9111 section 4.4).
    async fn change(&self, key: &Key, request: Request<RequestBody>) -> Visited {
        let is_safe = *request.method() == Method::OPTIONS;
        let outcome = self.current.pools.send(self.app, self.wish, request).await;
        if let Ok(answered) = &outcome
            && !is_safe
            && (answered.response.status().is_success() || answered.response.status().is_redirection())
        {
            self.void(key, answered.response.headers());
        }
        Visited::passed(outcome, Status::forwarded(Forward::Method))
    }

    fn void(&self, key: &Key, headers: &HeaderMap) {
        let sites = &self.current.rules.sites;
        let named = [LOCATION, CONTENT_LOCATION];
        let named = named.iter().filter_map(|name| headers.get(name)).filter_map(|value| key.same_origin(value));
        for target in named.chain([key.target.to_string()]) {
            let path = target.split('?').next().unwrap_or_default();
            let Some(site) = sites.find(self.host, path).ok().filter(|site| site.caching.is_some()) else { continue };
            let place = key.beside(&site.name, &target);
            self.cache().void(&Arc::new(place.twin()));
            self.cache().void(&Arc::new(place));
        }
    }

    /// A GET or HEAD.
    async fn read(&self, key: &Arc<Key>, parts: Parts) -> Visited {
        let cache = self.cache();
        let asked = Asked::of(&parts.headers);
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut collapsed = None;
        for round in 0.. {
            let now = cache.clock.monotonic();
            let Found { mut stored, mut others, alone } = cache.shelves.find(key, &parts.headers, now);
            let mut from_disk = false;
            if stored.is_none() {
                let (found, unlike) = cache.tier.look(key, &parts.headers, is_plain(&parts)).await;
                others |= unlike;
                (from_disk, stored) = (found.is_some(), found);
            }
            let now = cache.clock.monotonic();
            let is_other = stored.as_ref().is_some_and(|stored| !stored.is_for(&parts.headers));
            let known = stored.filter(|_| !is_other);
            let mut forward = match (is_other, others) {
                (true, _) => Forward::Bypass,
                (false, true) => Forward::VaryMiss,
                (false, false) => Forward::Miss,
            };
            if let Some(known) = &known {
                let hit = if from_disk { Status::HIT_ON_DISK } else { Status::HIT };
                let status = collapsed.map_or(hit, |forward| Status::forwarded(forward).collapsed());
                match known.life.standing(&known.control, &asked, now) {
                    Standing::Fresh => {
                        self.count_disk(from_disk);
                        return self.hit(known, &parts, status);
                    }
                    Standing::Renewing => {
                        self.count_disk(from_disk);
                        self.renew_behind(key, &parts, asked, known);
                        return self.hit(known, &parts, status);
                    }
                    Standing::Stale => {}
                }
                let is_fresh = known.life.age(now) < known.life.lifetime();
                let refused = is_fresh && !known.control.has(Word::NoCache);
                forward = if refused { Forward::Request } else { Forward::Stale };
            }
            if asked.control.has(Word::OnlyIfCached) {
                let text = "Nothing of this is stored here, and the request takes nothing else.";
                let page = pages::page(StatusCode::GATEWAY_TIMEOUT, text, self.form);
                return Visited::ready(page, Status::forwarded(forward), false);
            }
            if is_other || passes(&parts, &asked, known.is_some(), alone) {
                let request = Request::from_parts(parts, RequestBody::empty());
                let outcome = self.current.pools.send(self.app, self.wish, request).await;
                return Visited::passed(outcome, Status::forwarded(forward));
            }
            // What is stale at once would be so for those who wait, and what is made for somebody is mostly for nobody else.
            let alone = alone
                || match &known {
                    Some(known) => known.life.lifetime().is_zero(),
                    None => is_personal(&parts.headers),
                };
            let turn = if alone {
                Turn::Alone
            } else if asked.reload {
                cache.flights.lead(key).map_or(Turn::Alone, Turn::Lead)
            } else {
                cache.flights.join(key)
            };
            let lead = match turn {
                // Another's fetch may have ended since this one looked: then it is no turn at all.
                Turn::Lead(lead) if round == 0 && !asked.reload && self.is_news(key, &parts, known.as_ref()) => {
                    lead.land(Outcome::Stored);
                    collapsed = Some(forward);
                    continue;
                }
                Turn::Lead(lead) => Some(lead),
                Turn::Alone => None,
                Turn::Wait(waiting) => match timeout_at(deadline, waiting.outcome()).await {
                    Ok(Outcome::Stored) if round < MOST_WAITS => {
                        collapsed = Some(forward);
                        continue;
                    }
                    Ok(Outcome::Failed) => {
                        let (now, stale) = (cache.clock.monotonic(), self.caching.stale());
                        if let Some(known) = known
                            .as_ref()
                            .filter(|known| known.life.outlives_errors(&known.control, &asked, now, stale))
                        {
                            return self.hit(known, &parts, Status::forwarded(forward).collapsed());
                        }
                        None
                    }
                    Ok(_) | Err(_) => None,
                },
            };
            return self.fetch(key, parts, asked, known, lead, forward).await;
        }
        // Not reached: a round without an answer waits, or is the first, and those are counted.
        lost(Forward::Miss)
    }

    /// Whether something else than `known` is stored by now.
    fn is_news(&self, key: &Arc<Key>, parts: &Parts, known: Option<&Arc<Stored>>) -> bool {
        let cache = self.cache();
        let found = cache.shelves.find(key, &parts.headers, cache.clock.monotonic()).stored;
        match (found, known) {
            (Some(found), Some(known)) => !Arc::ptr_eq(&found, known),
            (Some(_), None) => true,
            (None, known) => {
                let known = known.and_then(|known| known.on_disk.as_ref());
                cache.tier.is_news(key, &parts.headers, known)
            }
        }
    }

    fn count_disk(&self, from_disk: bool) {
        if from_disk {
            self.caching.disk_hits.inc();
            self.cache().counts.disk_hits.inc();
        }
    }

    /// What is stored answers.
    fn hit(&self, stored: &Stored, parts: &Parts, status: Status) -> Visited {
        let response = respond(stored, &parts.method, &parts.headers, self.cache().clock.monotonic());
        Visited::ready(response, status, false)
    }

    /// Has what is stored asked for again while it answers.
    fn renew_behind(&self, key: &Arc<Key>, parts: &Parts, asked: Asked, known: &Arc<Stored>) {
        if let Some(lead) = self.cache().flights.lead(key) {
            let headers = Arc::new(parts.headers.clone());
            let fetch = self.fetching(key, parts, headers, asked, Some(Arc::clone(known)), Some(lead));
            // Nobody listens.
            let (tell, _) = oneshot::channel();
            self.cache().supervisor.task("edge cache renewal", Role::Ordinary, fetch.run(tell));
        }
    }

    async fn fetch(
        &self,
        key: &Arc<Key>,
        mut parts: Parts,
        asked: Asked,
        known: Option<Arc<Stored>>,
        lead: Option<Lead>,
        forward: Forward,
    ) -> Visited {
        let headers = Arc::new(std::mem::take(&mut parts.headers));
        let fetch = self.fetching(key, &parts, Arc::clone(&headers), asked, known, lead);
        let (tell, told) = oneshot::channel();
        self.cache().supervisor.task("edge cache fetch", Role::Ordinary, fetch.run(tell));
        let status = Status::forwarded(forward);
        let now = || self.cache().clock.monotonic();
        match told.await {
            Ok(Fetched::App(outcome, why)) => Visited::passed(outcome, status.apart(why)),
            Ok(Fetched::Kept(response, at)) => {
                // The client's conditions were not the app's to judge.
                let known = response.status() == StatusCode::OK && is_known(response.headers(), &headers);
                let response = if known { not_modified(response) } else { response };
                Visited { reply: Reply::Ready(response, Some(at)), status: Some(status.stored()), asked_app: true }
            }
            Ok(Fetched::Valid(stored, cookies)) => {
                let mut response = respond(&stored, &parts.method, &headers, now());
                for cookie in cookies {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                Visited::ready(response, status.told(Some(StatusCode::NOT_MODIFIED)), true)
            }
            Ok(Fetched::Stale(stored, told)) => {
                Visited::ready(respond(&stored, &parts.method, &headers, now()), status.told(told), true)
            }
            Err(_dropped) => lost(forward),
        }
    }

    fn fetching(
        &self,
        key: &Arc<Key>,
        parts: &Parts,
        headers: Arc<HeaderMap>,
        asked: Asked,
        known: Option<Arc<Stored>>,
        lead: Option<Lead>,
    ) -> Fetch {
        Fetch {
            current: Arc::clone(self.current),
            app: Arc::clone(self.app),
            wish: self.wish,
            key: Arc::clone(key),
            uri: parts.uri.clone(),
            headers,
            asked,
            known,
            lead,
            caching: Arc::clone(self.caching),
        }
    }
}

/// The server stops.
fn lost(forward: Forward) -> Visited {
    let failure = Failure::Connect(io::Error::other("the request was given up"));
    Visited::passed(Err(failure), Status::forwarded(forward))
}

/// Whether a request that something stored answers gets it as a whole.
fn is_plain(parts: &Parts) -> bool {
    let conditions = [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE];
    parts.method == Method::GET && !conditions.iter().any(|name| parts.headers.contains_key(name))
}

/// Whether a request that nothing stored answers goes to the app as it is, and its answer to the client.
fn passes(parts: &Parts, asked: &Asked, known: bool, alone: bool) -> bool {
    let has = |name: HeaderName| parts.headers.contains_key(name);
    let conditional = has(IF_NONE_MATCH) || has(IF_MODIFIED_SINCE);
    parts.method == Method::HEAD
        || asked.control.has(Word::NoStore)
        // The whole would be much to fetch for a part of it; and where nothing is kept, conditions are the app's.
        || (!known && (has(RANGE) || (conditional && alone)))
}
