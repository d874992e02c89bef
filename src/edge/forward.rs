//! Forward authentication: another service says whether a request goes on (`auth_request` in nginx, `forwardAuth` elsewhere).
//!
//! The service is asked with a GET without a body: the client's headers, and what was asked for in `X-Original-URL`,
//! `X-Original-Method` (as Authelia's nginx integration reads them), `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and
//! `-For` (as its other one does). 2xx lets the request through with the headers named in `auth_copy` set from the answer;
//! a client's own headers of these names never reach the app. Any other answer below 500 (401, 403, a redirect to a log-in)
//! goes to the client as it is; without an answer nobody enters.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, SET_COOKIE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::balance::App;
use super::body::RequestBody;
use super::client::Client;
use super::config::EdgeConfig;
use super::error::ConfigError;
use super::head;
use super::host::Host;
use super::peer::PeerRules;
use super::site_config::SiteConfig;

const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Whom a site asks.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The service.
    pub service: Arc<App>,
    path: Uri,
    copied: Vec<HeaderName>,
}

impl ForwardAuth {
    /// Whom `site` asks; `None` when it asks nobody. `number` numbers the service among the apps.
    ///
    /// # Errors
    /// An address or a header that is none.
    pub fn of(
        site: &SiteConfig,
        config: &EdgeConfig,
        number: impl FnOnce(PeerRules) -> Result<usize, ConfigError>,
    ) -> Result<Option<Box<Self>>, ConfigError> {
        if site.auth_url.is_empty() {
            return Ok(None);
        }
        let key = "edge.sites.auth_url";
        let wrong = |key: &'static str, value: &str, allowed: &str| ConfigError::Value {
            key,
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        };
        let shape = "an address such as http://127.0.0.1:9091/api/authz/auth-request";
        let (scheme, rest) = site.auth_url.split_once("://").ok_or_else(|| wrong(key, &site.auth_url, shape))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The service is no copy of the app: it has the site's times, and none of its checks.
        let plain = SiteConfig {
            upstream_host: "$upstream".to_owned(),
            connect_timeout: site.connect_timeout,
            response_timeout: site.response_timeout,
            upstream_ca: site.auth_ca.clone(),
            ..SiteConfig::default()
        };
        let rules = PeerRules::of(&plain, config, key, &format!("{scheme}://{authority}"))?;
        let upstream = rules.upstream.clone();
        let service = Arc::new(App::of(&plain, vec![number(rules)?], &[upstream])?);
        let path = format!("/{path}").parse().map_err(|_bad| wrong(key, &site.auth_url, shape))?;
        let header = |name: &String| {
            let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
            parsed.filter(|name| !head::is_framing(name) && !head::is_forwarding(name)).ok_or_else(|| {
                wrong("edge.sites.auth_copy", name, "the name of a header that is not about the connection")
            })
        };
        let copied = site.auth_copy.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Some(Box::new(Self { service, path, copied })))
    }

    /// The question about the request `parts` holds.
    pub fn question(&self, parts: &Parts, host: &Host, client: &Client) -> Request<RequestBody> {
        let mut asked = Request::new(()).into_parts().0;
        asked.headers = parts.headers.clone();
        asked.version = parts.version;
        let _underscores = head::for_upstream(&mut asked, host, client, false);
        let mut headers = asked.headers;
        for name in [&CONTENT_LENGTH, &CONTENT_TYPE, &UPGRADE] {
            headers.remove(name);
        }
        self.strip(&mut headers);
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let scheme = if client.secure { "https" } else { "http" };
        for (name, text) in [
            (X_ORIGINAL_URL, format!("{scheme}://{}{target}", host.as_str())),
            (X_ORIGINAL_METHOD, parts.method.to_string()),
            (X_FORWARDED_METHOD, parts.method.to_string()),
            (X_FORWARDED_URI, target.to_owned()),
        ] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
        if let Some(own) = &self.service.host {
            headers.insert(HOST, own.clone());
        }
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Takes out what only the service may say.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.copied {
            headers.remove(name);
        }
    }

    /// What the answer `from` of a service that lets a request through says about who it is.
    pub fn identity(&self, from: &HeaderMap) -> Identity {
        let copied = self
            .copied
            .iter()
            .flat_map(|name| from.get_all(name).iter().map(move |value| (name.clone(), value.clone())));
        Identity { headers: copied.collect(), cookies: from.get_all(SET_COOKIE).iter().cloned().collect() }
    }

    /// The address asked, for people.
    pub fn shown(&self) -> String {
        self.path.to_string()
    }
}

/// Who the service says it is.
#[derive(Debug, Default)]
pub struct Identity {
    headers: Vec<(HeaderName, HeaderValue)>,
    cookies: Vec<HeaderValue>,
}

impl Identity {
    /// Tells the app.
    pub fn tell(self, headers: &mut HeaderMap) -> Vec<HeaderValue> {
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        self.cookies
    }
}
