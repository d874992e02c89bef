//! Pages that are counted: what of a request for one is noted, and the two places of a site that Mainstay itself answers at,
//! a script and what it sends.
//!
//! A page is what a browser shows a person as a document: asked for by GET, not in advance, answered as HTML. What is noted
//! goes to [`crate::analytics`], which counts it elsewhere; a request waits for nothing here. The two places lie below the
//! site's own path, behind its address lists and log-ins: `/.mainstay/vitals.js` and `/.mainstay/vitals`.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, DNT, ETAG, IF_NONE_MATCH, ORIGIN, REFERER, RETRY_AFTER, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::client::Client;
use super::config::SiteConfig;
use super::guard::table::{RateTable, Subject};
use super::host::Host;
use super::pages::{self, Form};
use crate::analytics::beacon::{Beacon, LONGEST};
use crate::analytics::{Analytics, Kind, Note, Visit};
use crate::base::network::counted_as;
use crate::http::body::{self, ReadError};
use crate::http::{Body, conditional};
use crate::limits::gcra::Rate;

/// The script, as it is written.
const SCRIPT: &str = include_str!("../../web/edge/vitals.js");
/// Where the script is, below a site's path.
const SCRIPT_PLACE: &str = "/.mainstay/vitals.js";
/// Where it sends to.
const BEACON_PLACE: &str = "/.mainstay/vitals";
/// How long browsers may keep the script.
const SCRIPT_KEPT: &str = "public, max-age=3600";

/// How much one address may send: a page sends once or twice.
const BEACONS: Rate = Rate { burst: 60, count: 120, period_us: 60_000_000 };
/// Most addresses whose beacons are counted.
const ADDRESSES: u32 = 20_000;

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_GPC: HeaderName = HeaderName::from_static("sec-gpc");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Headers by which browsers say that nobody looks at what they ask for yet, and the words in them.
const IN_ADVANCE: [(HeaderName, &str); 4] = [
    (HeaderName::from_static("sec-purpose"), "prefetch"),
    (HeaderName::from_static("purpose"), "prefetch"),
    (HeaderName::from_static("x-purpose"), "preview"),
    (HeaderName::from_static("x-moz"), "prefetch"),
];

/// A site whose pages are counted.
#[derive(Debug)]
pub struct Audience {
    site: Arc<str>,
    /// Its path, without a final slash.
    prefix: String,
}

/// One of the two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The script.
    Script,
    /// What it sends.
    Beacon,
}

/// A request that may be for a page, kept until its answer is known.
#[derive(Debug)]
pub struct Sought {
    site: Arc<str>,
    visit: Visit,
    /// Whether the browser says that it is for a document; then an answer without a type (304) is one.
    declared: bool,
}

impl Audience {
    /// The audience of `entry`, the site called `name`; `None` when it is not counted.
    pub fn of(entry: &SiteConfig, name: &Arc<str>) -> Option<Arc<Self>> {
        let prefix = entry.path.trim_end_matches('/').to_owned();
        entry.analytics.then(|| Arc::new(Self { site: Arc::clone(name), prefix }))
    }

    /// Which of the two places `path` is.
    pub fn own(&self, path: &str) -> Option<Own> {
        match path.strip_prefix(self.prefix.as_str())? {
            SCRIPT_PLACE => Some(Own::Script),
            BEACON_PLACE => Some(Own::Beacon),
            _ => None,
        }
    }

    /// What is noted of a request, if it may be for a page.
    pub fn sought(&self, parts: &Parts, host: &Host, client: &Client) -> Option<Box<Sought>> {
        let headers = &parts.headers;
        if parts.method != Method::GET || self.own(parts.uri.path()).is_some() || is_in_advance(headers) {
            return None;
        }
        let declared = match text(headers, &SEC_FETCH_DEST) {
            "document" => true,
            "" if text(headers, &ACCEPT).contains("text/html") && !headers.contains_key(X_REQUESTED_WITH) => false,
            _ => return None,
        };
        Some(Box::new(Sought { site: Arc::clone(&self.site), visit: visit(parts, host, client), declared }))
    }
}

impl Sought {
    /// What is counted now that the answer is known: a page, one that is not there, or nothing.
    pub fn answered(self, status: StatusCode, headers: &HeaderMap) -> Option<Note> {
        let kind = text(headers, &CONTENT_TYPE);
        let is_page = match kind.split(';').next().unwrap_or_default().trim() {
            "" => self.declared,
            kind => kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml"),
        };
        let kind = match status {
            StatusCode::NOT_FOUND => Kind::Missing,
            StatusCode::NOT_MODIFIED if self.declared => Kind::Shown,
            status if status.is_success() && is_page => Kind::Shown,
            _ => return None,
        };
        Some(Note { site: self.site, kind, visit: self.visit })
    }
}

/// Who asks at one of the two places.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The host asked for.
    pub host: &'a Host,
    /// Who asks.
    pub client: &'a Client,
    /// How an error is said.
    pub form: Form,
    /// The monotonic time.
    pub now: Duration,
}

/// What answers at the two places, for all sites.
#[derive(Debug)]
pub struct Beacons {
    script: Bytes,
    etag: String,
    rates: RateTable,
    analytics: Analytics,
}

impl Beacons {
    /// What is sent goes to `analytics`.
    pub fn new(analytics: Analytics) -> Self {
        let script = served(SCRIPT);
        let etag = blake3::hash(script.as_bytes()).to_hex().as_str().get(..16).unwrap_or_default().to_owned();
        Self { script: Bytes::from(script), etag, rates: RateTable::new(ADDRESSES), analytics }
    }

    /// Where notes go.
    pub fn analytics(&self) -> &Analytics {
        &self.analytics
    }

    /// The answer at `own` of `audience`.
    ///
    /// # Cancel safety
    /// Dropped before its end, nothing was counted.
    pub async fn answer(
        &self,
        audience: &Audience,
        own: Own,
        parts: &Parts,
        body: Body,
        caller: Caller<'_>,
    ) -> Response<Body> {
        let Caller { host, client, form, now } = caller;
        let refused = |status, words| pages::page(status, words, form);
        match (own, &parts.method) {
            (Own::Script, &Method::GET | &Method::HEAD) => return self.script(parts),
            (Own::Beacon, &Method::POST) => {}
            (own, _) => {
                let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "This method is not served here.");
                let allowed = if own == Own::Script { "GET, HEAD" } else { "POST" };
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                return response;
            }
        }
        if !is_from_here(&parts.headers, host) {
            return refused(StatusCode::FORBIDDEN, "Only pages of this site send here.");
        }
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let who = Subject::Address(counted_as(client.address.ip()));
        let verdict = self.rates.attempt(0, &who, &BEACONS, now_us);
        if !verdict.allowed {
            let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "This address sends too much.");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(verdict.retry_ms.div_ceil(1_000)));
            return response;
        }
        let bytes = match body::read(body, LONGEST).await {
            Ok(bytes) => bytes,
            Err(ReadError::TooLarge { .. }) => return refused(StatusCode::PAYLOAD_TOO_LARGE, "This is too long."),
            Err(ReadError::Broken(_)) => return refused(StatusCode::BAD_REQUEST, "The body ended early."),
        };
        let Ok(beacon) = Beacon::parse(&bytes) else {
            return refused(StatusCode::BAD_REQUEST, "This is not understood.");
        };
        for note in visit(parts, host, client).told(&audience.site, beacon) {
            self.analytics.note(note);
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn script(&self, parts: &Parts) -> Response<Body> {
        let known = conditional::names(text(&parts.headers, &IF_NONE_MATCH), &self.etag);
        let send = !known && parts.method == Method::GET;
        let mut response = Response::new(if send { Body::from(self.script.clone()) } else { Body::empty() });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(SCRIPT_KEPT));
        if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", self.etag)) {
            headers.insert(ETAG, etag);
        }
        response
    }
}

/// What is kept of a request for the counts. Of who asks not to be tracked the address is not.
fn visit(parts: &Parts, host: &Host, client: &Client) -> Visit {
    let headers = &parts.headers;
    // A site that has its pages tell no address (`Referrer-Policy: no-referrer`) still leads to itself.
    let inside = text(headers, &SEC_FETCH_SITE) == "same-origin";
    let itself = format!("https://{}/", host.name());
    let referrer = text(headers, &REFERER);
    let leave_alone = text(headers, &DNT) == "1" || text(headers, &SEC_GPC) == "1";
    Visit::new(
        host.name(),
        parts.uri.path(),
        parts.uri.query().unwrap_or_default(),
        if inside && referrer.is_empty() { &itself } else { referrer },
        text(headers, &USER_AGENT),
        (!leave_alone).then(|| client.address.ip()),
    )
}

/// Whether a browser asks for what nobody looks at yet.
fn is_in_advance(headers: &HeaderMap) -> bool {
    IN_ADVANCE.iter().any(|(name, word)| text(headers, name).contains(word))
}

/// Whether a page of the same origin sends: browsers say so of themselves, and a page cannot have them say anything else.
fn is_from_here(headers: &HeaderMap, host: &Host) -> bool {
    match text(headers, &SEC_FETCH_SITE) {
        "same-origin" => true,
        "" => {
            let origin = text(headers, &ORIGIN);
            let named = origin.split_once("://").and_then(|(_, authority)| authority.parse::<Host>().ok());
            named.is_some_and(|named| named.same(host))
        }
        _ => false,
    }
}

/// A header's value; empty when it is not there, or no text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// `script` without what only its readers need. It is this server's own: no text in it looks like what is taken out.
fn served(script: &str) -> String {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let mut out = lines.collect::<Vec<_>>().join("\n");
    for (long, short) in [(" => ", "=>"), (" = ", "="), (", ", ","), (" && ", "&&"), (" || ", "||")] {
        out = out.replace(long, short);
    }
    out
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0";

    fn audience(path: &str) -> Arc<Audience> {
        let entry = SiteConfig { path: path.to_owned(), analytics: true, ..SiteConfig::default() };
        Audience::of(&entry, &Arc::from("shop.example/")).unwrap()
    }

    fn parts(method: &str, path: &str, lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(path).header(USER_AGENT, BROWSER);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn client() -> Client {
        Client { address: "192.0.2.1:7".parse().unwrap(), secure: true, proxied: false }
    }

    fn host() -> Host {
        "shop.example".parse().unwrap()
    }

    /// What a request answered with `status` and `kind` counts as.
    fn counted(lines: &[(&str, &str)], status: u16, kind: &'static str) -> Option<Kind> {
        let sought = audience("/").sought(&parts("GET", "/a", lines), &host(), &client())?;
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        sought.answered(StatusCode::from_u16(status).unwrap(), &headers).map(|note| note.kind)
    }

    #[test]
    fn a_page_is_what_a_browser_shows_as_a_document() {
        let document = [("sec-fetch-dest", "document")];
        let old = [("accept", "text/html,*/*")];
        for (lines, status, kind, wanted) in [
            (document.as_slice(), 200, "text/html; charset=utf-8", Some(Kind::Shown)),
            (&document, 304, "", Some(Kind::Shown)),
            (&document, 404, "text/plain", Some(Kind::Missing)),
            (&document, 200, "application/pdf", None),
            (&document, 302, "text/html", None),
            (&document, 500, "text/html", None),
            (&old, 200, "Text/HTML", Some(Kind::Shown)),
            (&old, 304, "", None),
            (&old, 200, "application/json", None),
            (&[("sec-fetch-dest", "iframe"), ("accept", "text/html")], 200, "text/html", None),
            (&[("sec-fetch-dest", "image")], 404, "text/html", None),
            (&[("accept", "*/*")], 200, "text/html", None),
            (&[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], 200, "text/html", None),
            (&[("sec-fetch-dest", "document"), ("sec-purpose", "prefetch;prerender")], 200, "text/html", None),
            (&[("sec-fetch-dest", "document"), ("purpose", "prefetch")], 200, "text/html", None),
        ] {
            assert_eq!(counted(lines, status, kind), wanted, "{lines:?} {status} {kind}");
        }
        assert!(audience("/").sought(&parts("POST", "/a", &document), &host(), &client()).is_none());
    }

    #[test]
    fn who_asks_not_to_be_tracked_brings_no_address() {
        for (name, value, told) in [("dnt", "1", false), ("sec-gpc", "1", false), ("dnt", "0", true)] {
            let parts = parts("GET", "/", &[("sec-fetch-dest", "document"), (name, value)]);
            let sought = audience("/").sought(&parts, &host(), &client()).unwrap();
            assert_eq!(sought.visit.client.is_some(), told, "{name}: {value}");
        }
    }

    #[test]
    fn the_two_places_lie_below_the_sites_path() {
        for (site, path, wanted) in [
            ("/", "/.mainstay/vitals.js", Some(Own::Script)),
            ("/", "/.mainstay/vitals", Some(Own::Beacon)),
            ("/", "/.mainstay/other", None),
            ("/blog/", "/blog/.mainstay/vitals", Some(Own::Beacon)),
            ("/blog", "/.mainstay/vitals", None),
        ] {
            assert_eq!(audience(site).own(path), wanted, "{site} {path}");
        }
    }

    #[test]
    fn the_script_is_small() {
        let script = served(SCRIPT);
        assert!(script.len() < 2_048, "{}", script.len());
        assert!(!script.contains("\n//") && script.starts_with("(()=>{"), "{script}");
    }

    struct Trial {
        beacons: Beacons,
        metrics: crate::telemetry::Metrics,
    }

    fn trial() -> Trial {
        use crate::testing::{TestClock, TestRandom, memory_store};
        let metrics = crate::telemetry::Metrics::new();
        let (clock, random) = (Arc::new(TestClock::default()), Arc::new(TestRandom::new(1)));
        let analytics =
            Analytics::new(memory_store(), clock, random, &metrics, crate::analytics::AnalyticsConfig::default());
        Trial { beacons: Beacons::new(analytics), metrics }
    }

    impl Trial {
        async fn post(&self, lines: &[(&str, &str)], body: &str) -> u16 {
            let audience = audience("/");
            let parts = parts("POST", BEACON_PLACE, lines);
            let form = Form::of(&parts.headers, parts.version);
            let (host, client) = (host(), client());
            let caller = Caller { host: &host, client: &client, form, now: Duration::from_secs(1) };
            let body = Body::from(body.to_owned());
            self.beacons.answer(&audience, Own::Beacon, &parts, body, caller).await.status().as_u16()
        }
    }

    const GOOD: &str = r#"{"page":"/","lcp":1}"#;

    #[tokio::test]
    async fn only_pages_of_the_same_origin_send_and_only_what_is_understood() {
        let (trial, long) = (trial(), "x".repeat(LONGEST + 1));
        for (lines, body, wanted) in [
            ([("sec-fetch-site", "same-origin")].as_slice(), GOOD, 204),
            (&[("origin", "https://shop.example")], GOOD, 204),
            (&[("origin", "https://shop.example:444")], GOOD, 403),
            (&[("origin", "https://evil.example")], GOOD, 403),
            (&[("origin", "null")], GOOD, 403),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://shop.example")], GOOD, 403),
            (&[("sec-fetch-site", "none")], GOOD, 403),
            (&[], GOOD, 403),
            (&[("sec-fetch-site", "same-origin")], "{}", 400),
            (&[("sec-fetch-site", "same-origin")], long.as_str(), 413),
        ] {
            assert_eq!(trial.post(lines, body).await, wanted, "{lines:?}");
        }
        assert!(trial.metrics.exposition().contains("mainstay_analytics_dropped_total 0"));
    }

    #[tokio::test]
    async fn an_address_that_sends_too_much_is_told_to_wait() {
        let trial = trial();
        let mut answers = Vec::new();
        for _ in 0..=BEACONS.burst {
            answers.push(trial.post(&[("sec-fetch-site", "same-origin")], GOOD).await);
        }
        assert_eq!((answers.first(), answers.last()), (Some(&204), Some(&429)));
    }

    #[tokio::test]
    async fn the_script_is_kept_and_asked_for_again_by_its_tag() {
        let Trial { beacons, .. } = trial();
        let first = beacons.script(&parts("GET", SCRIPT_PLACE, &[]));
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.headers()[CACHE_CONTROL], "public, max-age=3600");
        assert_eq!(body::read(first.into_body(), 4_096).await.unwrap(), served(SCRIPT));
        let again = beacons.script(&parts("GET", SCRIPT_PLACE, &[("if-none-match", &etag)]));
        assert_eq!(again.status(), 304);
    }
}
