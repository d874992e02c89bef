//! What becomes known of a request on its way, for those who look at it afterwards: the request log and the jails.

use std::net::IpAddr;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode, Uri};

use super::access::{Entry, Logged};
use super::host::Host;
use super::jails::{Jails, Seen};
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
    /// Whether it was refused because of a ban.
    pub banned: bool,
    /// Whether one of Mainstay's own doors answered.
    pub by_door: bool,
    /// How long the app took to its response head.
    pub upstream: Option<Duration>,
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

    /// Puts what is known into `entry`, whose line is written when the body of `response` ends.
    pub fn log(self, mut entry: Entry, response: Response<Body>) -> Response<Body> {
        entry.client = self.client;
        if let Some(host) = &self.host {
            host.as_str().clone_into(&mut entry.host);
        }
        entry.upstream = self.upstream;
        entry.status = response.status().as_u16();
        response.map(|inner| Body::new(Logged { inner, entry }))
    }
}
