//! The life of a request, top to bottom, in [`Proxy::answer`] and, once its site is known, [`Proxy::serve`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::access::AccessLog;
use super::acme::internal;
use super::audience::Caller;
use super::basic::REMOTE_USER;
use super::body::{RequestBody, ResponseBody};
use super::cache::{Reply, Status, Visit, Visited};
use super::client::Client;
use super::compress::{self, Compressors};
use super::doors::OnPlainHttp;
use super::forward::{ForwardAuth, Identity};
use super::guard::Barred;
use super::head::{self, Refusal};
use super::host::Host;
use super::http3;
use super::metrics::EdgeMetrics;
use super::mutual::{self, Secured, Unproven};
use super::pages::{self, Form};
use super::passage::{Asked, Passage};
use super::pool::{Answered, Failure, Lease};
use super::rules::Current;
use super::security;
use super::shape::{self, NoPath};
use super::sites::{Miss, Site};
use super::target::Target;
use super::upgrade::Tunnels;
use crate::base::Clock;
use crate::http::handler::Answer;
use crate::http::{Body, Handler, Peer};

/// Challenges of certificate authorities (RFC 8555 section 8.3) are answered before any redirect or site.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Most bytes read of the body with which a service lets a request through.
const LONGEST_VERDICT: usize = 64 << 10;

/// A request on its way to a site.
struct Question {
    parts: Parts,
    body: Body,
    host: Host,
    client: Client,
    form: Form,
    /// Its connection, where clients are asked for certificates.
    secured: Option<Arc<Secured>>,
    /// Whether its connection is encrypted.
    encrypted: bool,
}

/// What another service says about a request.
enum Verdict {
    /// It goes on.
    In(Identity),
    /// This is the answer.
    Out(Response<Body>),
}

/// Whose words an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// This server's.
    Own,
    /// The app's.
    App,
}

/// One worker's handler of requests.
#[derive(Debug)]
pub struct Proxy {
    /// What it answers by; replaced as a whole.
    pub current: ArcSwap<Current>,
    /// Where WebSockets go.
    pub tunnels: Tunnels,
    /// The request log.
    pub log: AccessLog,
    /// For measuring upstreams.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: EdgeMetrics,
    /// What makes answers smaller.
    pub compressors: Compressors,
    /// Whether HTTP/3 is answered at the port of HTTPS.
    pub http3: Arc<AtomicBool>,
}

impl Handler for Proxy {
    fn call(&self, request: Request<Body>, peer: Peer) -> Answer<'_> {
        Box::pin(async move {
            let current = self.current.load_full();
            let jails = current.rules.jails.as_ref();
            let began = self.clock.monotonic();
            let entry = self.log.is_wanted().then(|| self.log.begin(&request));
            let asked = jails.map(|_| Asked::of(&request));
            let mut passage = Passage { wants_host: entry.is_some() || asked.is_some(), ..Passage::default() };
            let mut response = self.answer(&current, request, peer, &mut passage).await;
            if let Some(port) = passage.http3 {
                http3::announce(port, &mut response);
            }
            if let (Some(jails), Some(asked)) = (jails, &asked) {
                passage.show(jails, asked, response.status(), self.clock.monotonic());
            }
            passage.count(current.rules.beacons.analytics(), &response);
            passage.follow(entry, response, began, &self.clock)
        })
    }
}

impl Proxy {
    /// Closes upstream connections past their time.
    pub fn purge(&self) {
        self.current.load().pools.purge();
    }

    /// Whether nothing is said to a connection from `address`, not even TLS. While an authority may come to see a
    /// certificate, everybody gets as far as that.
    pub fn shuts_out(&self, address: IpAddr) -> bool {
        let current = self.current.load();
        current.rules.bans.is_banned(address) && !current.rules.challenges.expects_handshakes()
    }

    /// Whether connections from `address` begin with a header that tells whose they are.
    pub fn is_announced_by(&self, address: IpAddr) -> bool {
        self.current.load().rules.announcing.iter().any(|network| network.contains(address))
    }

    /// Whether any site asks clients for certificates.
    pub fn asks_clients(&self) -> bool {
        self.current.load().rules.sites.ask_clients()
    }

    /// Whether a site answers at `name`.
    pub fn serves(&self, name: &str) -> bool {
        name.parse::<Host>().is_ok_and(|host| self.current.load().rules.sites.find(&host, "/").is_ok())
    }

    /// Whether who names `name` in the handshake is asked for a certificate.
    pub fn asks_clients_of(&self, name: &str) -> bool {
        self.current.load().rules.sites.ask_clients_of(name)
    }

    async fn answer(
        &self,
        current: &Arc<Current>,
        request: Request<Body>,
        peer: Peer,
        passage: &mut Passage,
    ) -> Response<Body> {
        let rules = current.rules.as_ref();
        let (parts, body) = request.into_parts();
        let form = Form::of(&parts.headers, parts.version);

        // 1. Who asks for what, or why this is no request.
        let client = Client::behind(peer.address, peer.secure, &rules.trusted, &parts.headers);
        passage.client = Some(client.address.ip());
        let host = match head::check(&parts) {
            Ok(host) => host,
            Err(refusal) => return self.refused(refusal, form),
        };
        if passage.wants_host {
            passage.host = Some(host.clone());
        }

        // 2. Challenges, who is banned, own doors, the way to HTTPS.
        if let Some(token) = parts.uri.path().strip_prefix(CHALLENGES)
            && let Some(authorization) = rules.challenges.file(token)
        {
            return pages::challenge(authorization);
        }
        if !peer.secure && parts.uri.path().starts_with(CHALLENGES) {
            return pages::page(StatusCode::NOT_FOUND, "No challenge is under way.", form);
        }
        if !peer.secure
            && parts.uri.path() == internal::PATH
            && let Some(internal) = &rules.internal
        {
            return pages::root(internal.root().pem);
        }
        if rules.bans.is_banned(client.address.ip()) {
            passage.banned = true;
            self.metrics.banned.inc();
            return pages::banned(form, client.proxied);
        }
        if parts.uri.path() == "*" {
            // Of OPTIONS only, and no place of any site.
            return pages::server();
        }
        let secured = parts.extensions.get::<Arc<Secured>>().cloned();
        if let Err(unproven) = mutual::direct(secured.as_ref(), &host) {
            return self.unproven(unproven, form);
        }
        if peer.secure && !client.proxied && parts.version < Version::HTTP_3 && self.http3.load(Ordering::Relaxed) {
            // As the client sees it: another port may be forwarded to ours.
            passage.http3 = Some(host.port().unwrap_or(443));
        }
        let door = rules.doors.find(&host);
        let stays = door.is_some_and(|door| door.plain == OnPlainHttp::Serve);
        if let Some(port) = rules.redirect_to
            && !client.secure
            && !stays
        {
            return pages::redirect(&parts.method, &secure_address(&host, port, &parts.uri), form);
        }
        if let Some(door) = door {
            passage.by_door = true;
            let peer = Peer { address: client.address, secure: client.secure, ..peer };
            let answer = rules.doors.answer(door, Request::from_parts(parts, body), peer).await;
            return answer.unwrap_or_else(|| pages::internal(form));
        }

        // 3. Which site.
        let site = match rules.sites.find(&host, parts.uri.path()) {
            Ok(site) => site,
            Err(Miss::Ambiguous) => return self.refused(Refusal::Ambiguous, form),
            Err(Miss::Unknown) => return pages::no_site(!rules.sites.is_empty(), form),
        };
        if site.client.is_some() {
            // There it would get 421.
            passage.http3 = None;
        }
        passage.site = rules.traffic.counts(site.number).map(Arc::clone);
        passage.sought = site.audience.as_ref().and_then(|audience| audience.sought(&parts, &host, &client));
        let asked = Question { parts, body, host, client, form, secured, encrypted: peer.secure };
        let (response, whose) = self.serve(current, site, asked, passage).await;
        match &site.shape {
            Some(shape) => shape.page(response, whose == Whose::App),
            None => response,
        }
    }

    /// The answer of one site, and whose words it holds.
    async fn serve(
        &self,
        current: &Arc<Current>,
        site: &Site,
        asked: Question,
        passage: &mut Passage,
    ) -> (Response<Body>, Whose) {
        let Question { mut parts, body, host, client, form, secured, encrypted } = asked;
        let own = |response| (response, Whose::Own);

        // 4. Who may come in.
        if let Some(gate) = &site.gate
            && let Err(barred) = gate.admit(client.address.ip(), &parts.headers, self.clock.monotonic())
        {
            return own(self.barred(barred, form));
        }
        let mut certificate = None;
        if let Some(auth) = &site.client {
            match mutual::admit(auth, secured.as_ref(), &host, encrypted, self.clock.now()) {
                Ok(told) => certificate = Some(told),
                Err(unproven) => return own(self.unproven(unproven, form)),
            }
        }
        if let Some(maintenance) = &site.maintenance
            && maintenance.shuts_out(client.address.ip())
        {
            return own(pages::maintenance(form));
        }
        if let Some(shape) = &site.shape
            && let Some((status, location)) = shape.redirect(&parts.uri)
        {
            let mut response = shape::redirected(status, location);
            dress(site, response.headers_mut(), &host, client.secure);
            return own(response);
        }
        let mut person = None;
        if let Some(basic) = &site.basic {
            // Boxed, so that requests without a log-in do not carry its state; so is the next.
            match Box::pin(basic.admit(&parts.headers, self.clock.monotonic())).await {
                Ok(name) => person = Some(name),
                Err(shut) => return own(basic.refuse(shut, form)),
            }
            parts.headers.remove(AUTHORIZATION);
        }
        let mut identity = None;
        if let Some(forward) = &site.forward {
            match Box::pin(self.ask_service(current, forward, &parts, &host, &client, form)).await {
                Verdict::In(found) => identity = Some(found),
                Verdict::Out(mut response) => {
                    dress(site, response.headers_mut(), &host, client.secure);
                    return (response, Whose::App);
                }
            }
        }
        if let Some(audience) = &site.audience
            && let Some(own) = audience.own(parts.uri.path())
        {
            let caller = Caller { host: &host, client: &client, form, now: self.clock.monotonic() };
            // Boxed, so that requests to apps do not carry its state.
            let answered = Box::pin(current.rules.beacons.answer(audience, own, &parts, body, caller)).await;
            let asked = compress::Asked::of(&parts);
            let mut response = self.compressors.apply(site.compress, asked, false, answered);
            dress(site, response.headers_mut(), &host, client.secure);
            return (response, Whose::Own);
        }
        // Where answers are kept, they are found by what the client asked for.
        let place = site.caching.as_ref().map(|caching| (caching, place_of(&parts.uri)));
        if let Some(shape) = &site.shape {
            match shape.rewritten(&parts.uri) {
                Ok(Some(target)) => parts.uri = target.into(),
                Ok(None) => {}
                Err(NoPath) => return own(self.refused(Refusal::Target, form)),
            }
        }
        if body.size_hint().lower() > site.body {
            return own(self.refused(Refusal::TooLarge, form));
        }
        let app = match &site.target {
            Target::App(app) => app,
            Target::Files(files) => {
                // Boxed, so that requests to apps do not carry its state.
                let mut response = Box::pin(files.answer(&parts, form, self.clock.monotonic())).await;
                response = self.compressors.apply(site.compress, compress::Asked::of(&parts), false, response);
                dress(site, response.headers_mut(), &host, client.secure);
                return own(response);
            }
            Target::Redirect(redirect) => {
                let mut response = redirect.answer(&parts.uri, form);
                dress(site, response.headers_mut(), &host, client.secure);
                return own(response);
            }
        };

        // 5. The head the app sees.
        let compressed = compress::Asked::of(&parts);
        let wish = app.wish(client.address.ip(), &parts.headers);
        let upgrade = head::is_websocket(&parts).then(|| parts.extensions.remove()).flatten();
        let dropped = head::for_upstream(&mut parts, &host, &client, upgrade.is_some());
        if dropped > 0 {
            self.metrics.dropped_headers.add(dropped);
        }
        if let Some(host) = &app.host {
            parts.headers.insert(HOST, host.clone());
        }
        // The client's own are gone.
        parts.headers.extend(certificate.into_iter().flatten());
        if site.basic.is_some() {
            parts.headers.remove(REMOTE_USER);
        }
        if let Some(person) = person {
            parts.headers.insert(REMOTE_USER, person);
        }
        if let Some(forward) = &site.forward {
            forward.strip(&mut parts.headers);
        }
        let cookies = identity.map(|identity| identity.tell(&mut parts.headers)).unwrap_or_default();
        if let Some(shape) = &site.shape {
            shape.dress_request(&mut parts.headers);
        }
        let Ok(target) = origin_form(parts.uri) else { return own(self.refused(Refusal::Target, form)) };
        let mut outgoing = Request::new(RequestBody::new(body, site.body));
        *outgoing.method_mut() = parts.method;
        *outgoing.uri_mut() = target;
        *outgoing.headers_mut() = parts.headers;
        if let Some(length) = outgoing.body().size_hint().exact()
            && !outgoing.body().is_end_stream()
        {
            outgoing.headers_mut().insert(CONTENT_LENGTH, length.into());
        }

        // 6. The app, or what it answered before.
        let progress = outgoing.body().progress();
        let asked = self.clock.monotonic();
        let Visited { reply, status, asked_app } = match place {
            None => Visited::plain(current.pools.send(app, wish, outgoing).await),
            Some((caching, target)) => {
                let (host, secure) = (&host, client.secure);
                let visit = Visit { current, site, caching, app, wish, host, secure, target, form };
                // Boxed, so that requests without a cache do not carry its state.
                Box::pin(visit.answer(outgoing)).await
            }
        };
        let took = self.clock.monotonic().saturating_sub(asked);
        passage.upstream = asked_app.then_some(took);
        passage.cache = status.map(Status::word);

        // 7. The answer.
        let (mut response, at) = match reply {
            Reply::Ready(response, at) => (response, at),
            Reply::App(Err(failure)) => match progress.refusal() {
                Some(refusal) => return own(self.refused(refusal, form)),
                None => return own(self.failed(&failure, form)),
            },
            Reply::App(Ok(Answered { response, lease, at })) => {
                match (response.status() == StatusCode::SWITCHING_PROTOCOLS, upgrade) {
                    (true, Some(client)) => (self.switch(response, client, current.rules.tunnel_idle), Some(at)),
                    (true, None) => return own(pages::unavailable(StatusCode::BAD_GATEWAY, form)),
                    (false, _) => (Self::stream(response, lease), Some(at)),
                }
            }
        };
        if asked_app {
            self.metrics.upstream_seconds.observe(took.as_secs_f64());
        }
        if let Some(status) = status {
            status.mark(response.headers_mut());
        }
        response = self.compressors.apply(site.compress, compressed, true, response);
        let bound = at.and_then(|at| app.binding(at, wish, client.secure));
        for cookie in bound.into_iter().chain(cookies) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        dress(site, response.headers_mut(), &host, client.secure);
        (response, Whose::App)
    }

    /// Who the service of `forward` says it is, or the answer that the client gets.
    async fn ask_service(
        &self,
        current: &Current,
        forward: &ForwardAuth,
        parts: &Parts,
        host: &Host,
        client: &Client,
        form: Form,
    ) -> Verdict {
        let question = forward.question(parts, host, client);
        let Answered { response, lease, .. } = match current.pools.send(&forward.service, None, question).await {
            Ok(answered) => answered,
            Err(failure) => return Verdict::Out(self.failed(&failure, form)),
        };
        let status = response.status();
        if status.is_success() {
            let identity = forward.identity(response.headers());
            // Read to its end, so that the connection is good for the next question.
            let mut body = ResponseBody::new(response.into_body(), lease);
            let mut left = LONGEST_VERDICT;
            while let Some(Ok(frame)) = body.frame().await {
                let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
                let Some(rest) = left.checked_sub(bytes) else { break };
                left = rest;
            }
            return Verdict::In(identity);
        }
        if status.is_informational() || status.is_server_error() {
            tracing::warn!(%status, "a site's auth_url does not say who may enter");
            return Verdict::Out(pages::unavailable(StatusCode::BAD_GATEWAY, form));
        }
        Verdict::Out(Self::stream(response, lease))
    }

    /// An ordinary response: head cleaned, body passed on as it comes.
    fn stream(response: Response<Incoming>, lease: Lease) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        head::for_client(&mut parts.headers, false);
        parts.version = Version::HTTP_11;
        Response::from_parts(parts, Body::new(ResponseBody::new(body, lease)))
    }

    /// A 101: both connections leave HTTP.
    fn switch(
        &self,
        mut response: Response<Incoming>,
        client: hyper::upgrade::OnUpgrade,
        idle: Duration,
    ) -> Response<Body> {
        self.tunnels.start(client, hyper::upgrade::on(&mut response), idle);
        let (mut parts, _) = response.into_parts();
        head::for_client(&mut parts.headers, true);
        Response::from_parts(parts, Body::empty())
    }

    fn barred(&self, barred: Barred, form: Form) -> Response<Body> {
        match barred {
            Barred::Address => self.metrics.denied.inc(),
            Barred::Rate { .. } => self.metrics.limited.inc(),
        }
        barred.answer(form)
    }

    fn unproven(&self, unproven: Unproven, form: Form) -> Response<Body> {
        self.metrics.refused.inc();
        pages::unproven(unproven, form)
    }

    fn refused(&self, refusal: Refusal, form: Form) -> Response<Body> {
        self.metrics.refused.inc();
        pages::refusal(refusal, form)
    }

    fn failed(&self, failure: &Failure, form: Form) -> Response<Body> {
        self.metrics.failed(failure);
        tracing::debug!(%failure, "an app did not answer");
        let status = match failure {
            Failure::Connect(_) | Failure::Broken(_) | Failure::NoUpgrade => StatusCode::BAD_GATEWAY,
            Failure::ConnectTimeout | Failure::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        };
        pages::unavailable(status, form)
    }
}

/// Adds the security headers and those of the site.
fn dress(site: &Site, headers: &mut HeaderMap, host: &Host, secure: bool) {
    if let Some(preset) = &site.security {
        preset.add(headers, host, secure);
    }
    if !site.headers.is_empty() {
        security::apply(&site.headers, headers);
    }
}

/// Path and query of `uri` as text.
fn place_of(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(String::new, |target| target.as_str().to_owned())
}

/// The same place over HTTPS on `port`.
fn secure_address(host: &Host, port: u16, uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| if target.path() == "*" { "/" } else { target.as_str() });
    match port {
        443 => format!("https://{}{target}", host.name()),
        port => format!("https://{}:{port}{target}", host.name()),
    }
}

/// Path and query exactly as the client sent them, without scheme and host.
fn origin_form(uri: Uri) -> Result<Uri, http::uri::InvalidUriParts> {
    if uri.authority().is_none() {
        return Ok(uri);
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.path_and_query().cloned();
    Uri::from_parts(parts)
}
