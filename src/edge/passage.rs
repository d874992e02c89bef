//! What becomes known of a request on its way, for those who look at it afterwards: the request log, the site's counters, the jails.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;

use super::access::{Entry, Logged, Told};
use super::audience::Sought;
use super::host::Host;
use super::jails::{Jails, Seen};
use super::traffic::{Ended, SiteCounts};
use crate::analytics::Analytics;
use crate::base::Clock;
use crate::http::Body;

/// One request, as far as it has come.
#[derive(Debug, Default)]
pub struct Passage {
    /// Whether anybody wants to know `host`.
    pub wants_host: bool,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The host asked for, when it named one.
    pub host: Option<Host>,
    /// The port at which the same host answers HTTP/3, when the client is to know.
    pub http3: Option<u16>,
    /// Whether it was refused because of a ban.
    pub banned: bool,
    /// Whether one of Mainstay's own doors answered.
    pub by_door: bool,
    /// The counters of the site that answered.
    pub site: Option<Arc<SiteCounts>>,
    /// How long the app took to its response head.
    pub upstream: Option<Duration>,
    /// What the cache did, in a word.
    pub cache: Option<&'static str>,
    /// What is counted if the answer is a page, of a site whose pages are.
    pub sought: Option<Box<Sought>>,
}

/// What was asked, kept for the jails.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    target: Uri,
    authorization: bool,
}

impl Asked {
    /// What `request` asks.
    pub fn of(request: &Request<Body>) -> Self {
        Self {
            method: request.method().clone(),
            target: request.uri().clone(),
            authorization: request.headers().contains_key(AUTHORIZATION),
        }
    }
}

impl Passage {
    /// Shows the request, answered with `status`, to `jails`; `now` is monotonic.
    pub fn show(&self, jails: &Jails, asked: &Asked, status: StatusCode, now: Duration) {
        // What is refused because of a ban must not lengthen it.
        let Some(client) = self.client.filter(|_| !self.banned && jails.counts(status.as_u16())) else { return };
        let seen = Seen {
            client,
            host: self.host.as_ref(),
            method: &asked.method,
            path: asked.target.path(),
            authorization: asked.authorization,
            by_door: self.by_door,
            status: status.as_u16(),
        };
        jails.look(&seen, now);
    }

    /// Has the page that `response` is counted by `analytics`, if it is one that is.
    pub fn count(&mut self, analytics: &Analytics, response: &Response<Body>) {
        let note = self.sought.take().and_then(|sought| sought.answered(response.status(), response.headers()));
        if let Some(note) = note {
            analytics.note(note);
        }
    }

    /// Has `entry` and the site's counters told of `response` when its body ends. It came at `began`, monotonic.
    pub fn follow(
        self,
        mut entry: Option<Entry>,
        response: Response<Body>,
        began: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Response<Body> {
        let status = response.status().as_u16();
        if let Some(entry) = &mut entry {
            entry.client = self.client;
            if let Some(host) = &self.host {
                host.as_str().clone_into(&mut entry.host);
            }
            entry.upstream = self.upstream;
            entry.cache = self.cache;
            entry.status = status;
        }
        if entry.is_none() && self.site.is_none() {
            return response;
        }
        let ended = Ended { status, bytes: 0, took: Duration::ZERO, upstream: self.upstream };
        let told = Told { entry, site: self.site, ended, began, clock: Arc::clone(clock) };
        if response.body().is_end_stream() {
            drop(told);
            return response;
        }
        response.map(|inner| Body::new(Logged { inner, told }))
    }
}
