//! What answers the requests of a site.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode, Uri};

use super::balance::{App, MOST_COPIES};
use super::client::Network;
use super::config::{EdgeConfig, SiteConfig};
use super::error::ConfigError;
use super::files::Files;
use super::guard::networks;
use super::pages::{self, Form};
use super::peer::PeerRules;
use crate::http::Body;

/// What answers.
#[derive(Clone, Debug)]
pub enum Target {
    /// An app.
    App(Arc<App>),
    /// A folder.
    Files(Arc<Files>),
    /// Another address.
    Redirect(Arc<Redirect>),
}

/// A redirect.
#[derive(Debug)]
pub struct Redirect {
    status: StatusCode,
    /// What stands before and after the path and query; without the second the address is whole.
    before: String,
    after: Option<String>,
}

/// Who sees a site that is being worked on, and whether it is.
#[derive(Clone, Debug)]
pub struct Maintenance {
    always: bool,
    switch: Option<Arc<Switch>>,
    except: Vec<Network>,
}

/// A file that switches something on by being there. It is looked for once a second, not by requests.
#[derive(Debug)]
pub struct Switch {
    path: PathBuf,
    there: AtomicBool,
}

impl Switch {
    fn new(path: &str) -> Arc<Self> {
        let switch = Self { path: PathBuf::from(path), there: AtomicBool::new(false) };
        switch.look();
        Arc::new(switch)
    }

    /// Looks whether the file is there: blocks.
    pub fn look(&self) {
        self.there.store(self.path.exists(), Ordering::Relaxed);
    }
}

impl Target {
    /// What it is, in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::App(_) => "app",
            Self::Files(_) => "files",
            Self::Redirect(_) => "redirect",
        }
    }

    /// What `site` names; `key` is the setting an app comes from, and `number` numbers an upstream.
    ///
    /// # Errors
    /// Nothing, more than one thing, or something that cannot be.
    pub fn of(
        site: &SiteConfig,
        config: &EdgeConfig,
        key: &'static str,
        mut number: impl FnMut(PeerRules) -> Result<usize, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let app = site.upstreams.first().unwrap_or(&site.upstream);
        match (app.as_str(), site.root.as_str(), site.redirect.as_str()) {
            (upstream, "", "") => {
                let (mut copies, mut upstreams) = (Vec::new(), Vec::new());
                let alone = [upstream.to_owned()];
                let several = !site.upstreams.is_empty();
                let key = if several { "edge.sites.upstreams" } else { key };
                for text in if several { site.upstreams.as_slice() } else { &alone } {
                    let rules = PeerRules::of(site, config, key, text)?;
                    let address = rules.upstream.clone();
                    let copy = number(rules)?;
                    let one_too_many = copies.contains(&copy) || copies.len() >= MOST_COPIES;
                    if several && (!site.upstream.is_empty() || one_too_many) {
                        return Err(wrong(key, text, "each copy once, 64 at most, and no `upstream` beside them"));
                    }
                    copies.push(copy);
                    upstreams.push(address);
                }
                Ok(Self::App(Arc::new(App::of(site, copies, &upstreams)?)))
            }
            ("", _, "") => Ok(Self::Files(Arc::new(Files::new(site, config.limits.file_cache.bytes())?))),
            ("", "", _) => Ok(Self::Redirect(Arc::new(Redirect::of(site)?))),
            ("", root, _) | (_, root, "") => Err(wrong("edge.sites.root", root, "one of upstream, root and redirect")),
            (_, _, redirect) => Err(wrong("edge.sites.redirect", redirect, "one of upstream, root and redirect")),
        }
    }
}

impl Redirect {
    fn of(site: &SiteConfig) -> Result<Self, ConfigError> {
        let text = &site.redirect;
        let leads = text.starts_with("http://") || text.starts_with("https://") || text.starts_with('/');
        if !leads || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "edge.sites.redirect",
                text,
                "an address such as https://www.example.com$uri, or a path",
            ));
        }
        if ![301, 302, 303, 307, 308].contains(&site.redirect_status) {
            let status = site.redirect_status.to_string();
            return Err(wrong("edge.sites.redirect_status", &status, "301, 302, 303, 307 or 308"));
        }
        let status = StatusCode::from_u16(site.redirect_status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
        let (before, after) = match text.split_once("$uri") {
            Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
            None => (text.clone(), None),
        };
        Ok(Self { status, before, after })
    }

    /// The answer for `uri`.
    pub fn answer(&self, uri: &Uri, form: Form) -> Response<Body> {
        let asked = uri.path_and_query().map_or("/", |target| if target.path() == "*" { "/" } else { target.as_str() });
        let location = match &self.after {
            None => self.before.clone(),
            Some(after) => format!("{}{asked}{after}", self.before),
        };
        // A browser takes `//host` and `/\\host` for another server's address.
        if location.starts_with("//") || location.starts_with("/\\") {
            return pages::page(StatusCode::NOT_FOUND, "There is nothing at this address.", form);
        }
        let Ok(location) = HeaderValue::from_str(&location) else {
            return pages::refusal(super::head::Refusal::Target, form);
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().insert(LOCATION, location);
        response
    }
}

impl Maintenance {
    /// Of `site`; `None` when it is open.
    ///
    /// # Errors
    /// An exception that is no network.
    pub fn of(site: &SiteConfig) -> Result<Option<Self>, ConfigError> {
        let except = networks("edge.sites.maintenance_except", &site.maintenance_except)?;
        let file = site.maintenance_file.as_str();
        if !file.is_empty() && !file.starts_with('/') {
            return Err(wrong("edge.sites.maintenance_file", file, "a whole path, such as /run/app/maintenance"));
        }
        let switch = (!file.is_empty()).then(|| Switch::new(file));
        let any = site.maintenance || switch.is_some();
        Ok(any.then_some(Self { always: site.maintenance, switch, except }))
    }

    /// Whether the site is being worked on now.
    pub fn is_on(&self) -> bool {
        self.always || self.switch.as_ref().is_some_and(|switch| switch.there.load(Ordering::Relaxed))
    }

    /// The file that switches it on, if one does.
    pub fn switch(&self) -> Option<&Arc<Switch>> {
        self.switch.as_ref()
    }

    /// Whether `address` sees the page in place of the site.
    pub fn shuts_out(&self, address: std::net::IpAddr) -> bool {
        self.is_on() && !self.except.iter().any(|network| network.contains(address))
    }
}

fn wrong(key: &'static str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_owned(), allowed: allowed.to_owned() }
}
