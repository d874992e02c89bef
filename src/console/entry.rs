//! What every request to a page goes through, and what is known about it then.
//!
//! Before a handler: who is looking (session cookie), how (dark, light), and whether a request that changes something
//! comes from a page of this console (`Origin`, `Sec-Fetch-Site`; the token in the form is [`super::form`]'s to check).
//! After it: a [`Fault`] becomes a page, and every answer gets the headers of [`super::headers`].

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::cookies::Cookie;
use super::flash::Flash;
use super::foreign::Foreign;
use super::frame::Theme;
use super::session::{self, Session};
use super::{Console, Fault, errors, headers};
use crate::accounts::Client;
use crate::base::{Id128, Secret};
use crate::http::Peer;

/// How long a browser without a session keeps its name, in seconds: a day.
const VISITOR_SECONDS: u64 = 86_400;

/// What is known about a request. Handlers see it through [`Page`](super::Page) and [`Visitor`](super::Visitor).
#[derive(Clone, Debug)]
pub struct Entry(Arc<Known>);

#[derive(Debug)]
struct Known {
    session: Option<Session>,
    /// What forms are bound to: the session, or a visitor's name.
    subject: Secret<String>,
    csrf: String,
    fresh_visitor: bool,
    theme: Theme,
    flash: Option<Flash>,
    /// The marks of [`Seals::known_mark`](super::seals::Seals::known_mark), as the browser sent them.
    known: String,
    secure: bool,
    origin: Origin,
    target: String,
    reads: bool,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The browser's address.
    pub address: IpAddr,
    /// What it calls itself.
    pub agent: String,
}

impl Origin {
    /// The same for [`crate::accounts::Users`].
    pub fn client(&self) -> Client {
        Client::new(self.address, &self.agent)
    }
}

impl Entry {
    /// Looks at a request.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn read(console: &Console, request: &Parts<'_>) -> Result<Self, Fault> {
        let headers = request.headers;
        let secure = request.peer.is_some_and(|peer| peer.secure);
        let address = request.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let origin = Origin { address, agent: text(headers, &header::USER_AGENT).unwrap_or_default().to_owned() };
        let session = match Cookie::Session.read(headers, secure) {
            Some(token) => session::find(console, token, &origin).await?,
            None => None,
        };
        let visitor = Cookie::Visitor.read(headers, secure).filter(|name| name.parse::<Id128>().is_ok());
        let fresh_visitor = session.is_none() && visitor.is_none();
        let visitor = visitor.map_or_else(|| Id128::random(console.random()).to_string(), str::to_owned);
        let (subject, csrf) = match &session {
            Some(session) => (session.csrf().to_owned(), session.csrf().to_owned()),
            None => (visitor.clone(), console.seals().form_token(&visitor)),
        };
        let flash = Cookie::Flash.read(headers, secure).and_then(|sealed| console.seals().open_text(&subject, sealed));
        Ok(Self(Arc::new(Known {
            session,
            subject: Secret::new(subject),
            csrf,
            fresh_visitor,
            theme: Cookie::Theme.read(headers, secure).map(Theme::from_name).unwrap_or_default(),
            flash: flash.as_deref().and_then(Flash::read),
            known: Cookie::Known.read(headers, secure).unwrap_or_default().to_owned(),
            secure,
            origin,
            target: request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            reads: reads(request.method),
        })))
    }

    /// Who is looking; `None` for somebody who is not logged in.
    pub fn session(&self) -> Option<&Session> {
        self.0.session.as_ref()
    }

    /// What the forms of this page send back.
    pub fn csrf(&self) -> &str {
        &self.0.csrf
    }

    /// How it shall look.
    pub fn theme(&self) -> Theme {
        self.0.theme
    }

    /// The message for this page.
    pub fn flash(&self) -> Option<&Flash> {
        self.0.flash.as_ref()
    }

    /// The marks of users who logged in with this browser before, the last first.
    pub fn known_marks(&self) -> impl Iterator<Item = &str> {
        self.0.known.split('.').filter(|mark| !mark.is_empty())
    }

    /// Whether the browser's own connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.secure
    }

    /// Where the request comes from.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.0.target.split('?').next().unwrap_or("/")
    }

    /// Whether the request only reads (GET, HEAD).
    pub fn reads(&self) -> bool {
        self.0.reads
    }

    /// What forms and messages are bound to.
    pub(super) fn subject(&self) -> &str {
        self.0.subject.expose()
    }
}

/// The parts of a request that [`Entry::read`] looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'r> {
    pub method: &'r Method,
    pub uri: &'r Uri,
    pub headers: &'r HeaderMap,
    pub peer: Option<Peer>,
}

impl<'r> Parts<'r> {
    pub fn of(request: &'r Request) -> Self {
        let peer = request.extensions().get::<Peer>().copied();
        Self { method: request.method(), uri: request.uri(), headers: request.headers(), peer }
    }
}

/// Goes around every page.
pub async fn enter(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let entry = match Entry::read(&console, &Parts::of(&request)).await {
        Ok(entry) => entry,
        Err(fault) => return guarded(errors::bare(&fault)),
    };
    let mut response = if reads(request.method()) || is_from_here(request.uri(), request.headers()) {
        request.extensions_mut().insert(entry.clone());
        next.run(request).await
    } else {
        tracing::warn!(path = entry.path(), address = %entry.origin().address, "a form from a foreign page was refused");
        errors::page(&console, &entry, &Fault::forged())
    };
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let page = errors::page(&console, &entry, &fault);
        let (kept, body) = (response.headers().clone(), page.into_parts());
        response = Response::from_parts(body.0, body.1);
        response.headers_mut().extend(kept.into_iter().filter_map(|(name, value)| {
            name.filter(|name| *name == header::RETRY_AFTER || *name == header::SET_COOKIE).map(|name| (name, value))
        }));
    }
    finish(&entry, &mut response);
    guarded(response)
}

/// Cookies that belong to a page as such: the visitor's name, and the message that was shown.
fn finish(entry: &Entry, response: &mut Response) {
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if entry.0.fresh_visitor && is_page {
        set(response, Cookie::Visitor.set(entry.subject(), Some(VISITOR_SECONDS), entry.is_secure()));
    }
    if entry.flash().is_some() && is_page {
        set(response, Cookie::Flash.clear(entry.is_secure()));
    }
}

/// Around everything the console's door serves: an address where nothing is gets a page, when a browser asks.
pub async fn around(State(console): State<Console>, request: Request, next: Next) -> Response {
    let wants_page = reads(request.method())
        && text(request.headers(), &header::ACCEPT).is_some_and(|accept| accept.contains("text/html"));
    if !wants_page {
        return next.run(request).await;
    }
    let (method, uri, headers) = (request.method().clone(), request.uri().clone(), request.headers().clone());
    let peer = request.extensions().get::<Peer>().copied();
    let response = next.run(request).await;
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    let fault = match response.status() {
        StatusCode::NOT_FOUND if is_problem => Fault::not_found("page"),
        StatusCode::METHOD_NOT_ALLOWED if is_problem => {
            Fault::new(StatusCode::METHOD_NOT_ALLOWED, "This address takes forms only; there is no page to look at.")
        }
        _ => return response,
    };
    let parts = Parts { method: &method, uri: &uri, headers: &headers, peer };
    match Entry::read(&console, &parts).await {
        Ok(entry) => {
            let mut response = errors::page(&console, &entry, &fault);
            finish(&entry, &mut response);
            guarded(response)
        }
        Err(fault) => guarded(errors::bare(&fault)),
    }
}

/// Adds a cookie to a response.
pub(super) fn set(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn guarded(mut response: Response) -> Response {
    if response.extensions().get::<Foreign>().is_some() {
        headers::guard_foreign(response.headers_mut());
    } else {
        headers::guard(response.headers_mut());
    }
    response
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a request that changes something comes from a page of the host it goes to. Browsers say so in
/// `Sec-Fetch-Site` (over TLS and on loopback) and `Origin` (always, on POST); what says neither is no browser, and has
/// no cookie that it did not take knowingly. The form's token is checked all the same.
fn is_from_here(uri: &Uri, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").is_none_or(|site| site.as_bytes() == b"same-origin");
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let host = uri.authority().map(Authority::as_str).or_else(|| text(headers, &header::HOST));
        let from = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")));
        matches!((host, from), (Some(host), Some(from)) if host.eq_ignore_ascii_case(from))
    });
    site && origin
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_here(headers: &[(&'static str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        is_from_here(&Uri::from_static("/login"), &headers)
    }

    #[test]
    fn only_pages_of_the_same_host_send_forms() {
        let host = ("host", "127.0.0.1:8000");
        assert!(from_here(&[host, ("origin", "http://127.0.0.1:8000"), ("sec-fetch-site", "same-origin")]));
        assert!(from_here(&[host]), "curl with a token");
        for foreign in ["http://evil.example", "http://127.0.0.1:3000", "null", "http://127.0.0.1:8000.evil.example"] {
            assert!(!from_here(&[host, ("origin", foreign)]), "{foreign}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!from_here(&[host, ("origin", "http://127.0.0.1:8000"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(!from_here(&[("origin", "http://127.0.0.1:8000")]), "without a host there is nothing to compare with");
    }
}
