//! What a handler of a page is given: [`Page`] for somebody who is logged in, [`Visitor`] for anybody.

use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::cookies::Cookie;
use super::entry::{self, Entry};
use super::session::Session;
use super::{Answer, Console, Fault, Flash, Frame, Section};
use crate::accounts::{By, NewSession, User};
use crate::crypto::mac;
use crate::http::query::Query;

/// How long a browser keeps a session's token, in seconds: 30 days. When the session ends is the server's to say.
const SESSION_SECONDS: u64 = 30 * 86_400;

/// How long a browser is known, in seconds: a year.
const KNOWN_SECONDS: u64 = 365 * 86_400;

/// Most users a browser is known by.
const KNOWN_MAX: usize = 5;

/// How long a message waits for its page, in seconds.
const FLASH_SECONDS: u64 = 60;

/// Anybody who looks at a page.
#[derive(Clone, Debug)]
pub struct Visitor {
    console: Console,
    entry: Entry,
    query: Query,
}

impl Visitor {
    /// The frame of a page called `title`.
    pub fn frame(&self, title: impl Into<String>, section: Section) -> Frame {
        Frame::new(&self.entry, Arc::clone(self.console.assets()), title, section)
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// What is known about the request.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// A parameter of the address; empty when it is not there.
    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).unwrap_or_default()
    }

    /// Sends the browser to `path`, a path of this console.
    ///
    /// # Errors
    /// None; the type is a handler's.
    pub fn redirect(&self, path: &str) -> Answer {
        Ok(redirect(path))
    }

    /// Sends the browser to `path`, which shows `flash`.
    ///
    /// # Errors
    /// None; the type is a handler's.
    pub fn redirect_saying(&self, path: &str, flash: &Flash) -> Answer {
        let mut response = redirect(path);
        let sealed = self.console.seals().seal_text(self.entry.subject(), &flash.write());
        entry::set(&mut response, Cookie::Flash.set(&sealed, Some(FLASH_SECONDS), self.entry.is_secure()));
        Ok(response)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor
where
    Console: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        Self::of(parts, Console::from_ref(state))
    }
}

impl Visitor {
    pub(super) fn of(parts: &Parts, console: Console) -> Result<Self, Fault> {
        let entry = parts.extensions.get::<Entry>().cloned();
        let entry =
            entry.ok_or_else(|| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "This page is not in the table."))?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())
            .map_err(|error| Fault::bad_request(format!("This address cannot be read: {error}.")))?;
        Ok(Self { console, entry, query })
    }
}

/// Somebody who is logged in and looks at a page. To read only: a handler of a form takes
/// [`Form`](super::Form), which has checked the form's token, and finds this inside.
#[derive(Clone, Debug)]
pub struct Page {
    visitor: Visitor,
    session: Session,
}

impl Page {
    /// The frame of a page called `title` in `section`.
    pub fn frame(&self, title: impl Into<String>, section: Section) -> Frame {
        self.visitor.frame(title, section)
    }

    /// Who is looking.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What is known about the request.
    pub fn entry(&self) -> &Entry {
        &self.visitor.entry
    }

    /// A parameter of the address; empty when it is not there.
    pub fn query(&self, name: &str) -> &str {
        self.visitor.query(name)
    }

    /// Sends the browser to `path`, a path of this console.
    ///
    /// # Errors
    /// None; the type is a handler's.
    pub fn redirect(&self, path: &str) -> Answer {
        self.visitor.redirect(path)
    }

    /// Sends the browser to `path`, which shows `flash`.
    ///
    /// # Errors
    /// None; the type is a handler's.
    pub fn redirect_saying(&self, path: &str, flash: &Flash) -> Answer {
        self.visitor.redirect_saying(path, flash)
    }

    /// Who does what this page does, for the audit log.
    pub fn by(&self) -> By {
        self.session.by(self.entry().origin())
    }

    /// Goes on only when the password was given a moment ago; else the browser is sent to give it, and then to `back`.
    ///
    /// # Errors
    /// The fault that leads there.
    pub fn confirmed(&self, back: &str) -> Result<(), Fault> {
        let confirmed = self.visitor.console.world().users.is_confirmed(self.session.account());
        if confirmed { Ok(()) } else { Err(Fault::confirm(back)) }
    }

    pub(super) fn of(visitor: Visitor) -> Result<Self, Fault> {
        if let Some(session) = visitor.entry.session().cloned() {
            return Ok(Self { visitor, session });
        }
        // A form of a session that has ended: its page is what to come back to, not the form's address.
        let back = if visitor.entry.reads() { visitor.entry.target() } else { "/" };
        Err(Fault::log_in(back))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page
where
    Console: FromRef<S>,
{
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let visitor = Visitor::of(parts, Console::from_ref(state))?;
        if !visitor.entry.reads() {
            // Only `Form` and `Upload` hand out the page of a request that changes something.
            return Err(Fault::forged());
        }
        Self::of(visitor)
    }
}

/// As a redirect to `path`, with the cookie of `fresh`: what follows a login, or a password given again.
pub fn enter(console: &Console, entry: &Entry, fresh: &NewSession, path: &str) -> Response {
    let mut response = redirect(path);
    keep(console, entry, fresh, &mut response);
    response
}

/// Gives the browser the session `fresh`, and the mark by which it is known from now on.
pub fn keep(console: &Console, entry: &Entry, fresh: &NewSession, response: &mut Response) {
    let secure = entry.is_secure();
    let mark = mark(console, &fresh.session.user);
    let others = entry.known_marks().filter(|other| *other != mark).take(KNOWN_MAX - 1);
    let known: Vec<&str> = std::iter::once(mark.as_str()).chain(others).collect();
    entry::set(response, Cookie::Known.set(&known.join("."), Some(KNOWN_SECONDS), secure));
    entry::set(response, Cookie::Session.set(fresh.token.expose(), Some(SESSION_SECONDS), secure));
}

/// Whether `user` logged in with this browser since their password was set.
pub fn is_known(console: &Console, entry: &Entry, user: &User) -> bool {
    let mark = mark(console, user);
    entry.known_marks().any(|known| mac::equal(known.as_bytes(), mark.as_bytes()))
}

fn mark(console: &Console, user: &User) -> String {
    console.seals().known_mark(user.id, user.password_set)
}

/// The cookie that shows `flash` to the session `fresh`.
pub fn flash_for(console: &Console, entry: &Entry, fresh: &NewSession, flash: &Flash) -> Option<HeaderValue> {
    let sealed = console.seals().seal_text(fresh.session.csrf.expose(), &flash.write());
    Cookie::Flash.set(&sealed, Some(FLASH_SECONDS), entry.is_secure())
}

/// The page that `template` makes.
///
/// # Errors
/// The template failed, which only a bug can do.
pub fn show(template: &impl Template) -> Answer {
    show_as(StatusCode::OK, template)
}

/// As [`show`], with another status.
///
/// # Errors
/// The template failed, which only a bug can do.
pub fn show_as(status: StatusCode, template: &impl Template) -> Answer {
    const HTML: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    let text = template.render().map_err(|error| Fault::failed("page", &error))?;
    Ok((status, HTML, text).into_response())
}

/// A path of this console, or `/` when `path` leads elsewhere.
pub fn local(path: &str) -> &str {
    let here = path.starts_with('/') && !path.starts_with("//");
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if here && plain && path.len() <= 2048 { path } else { "/" }
}

/// Sends the browser to a path of this console.
pub(super) fn redirect(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, local(path).to_owned())]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_away() {
        assert_eq!(local("/buckets?after=a%20b"), "/buckets?after=a%20b");
        for away in ["//evil.example", "https://evil.example", "/\\evil.example", "", "javascript:x", "/\r\nx: y", "/ü"]
        {
            assert_eq!(local(away), "/", "{away:?}");
        }
    }
}
