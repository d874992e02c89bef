//! What the edge hands over: a page was asked for, or its script told something.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::beacon::Beacon;
use super::vitals::Measured;

/// Longest text kept of a header, a path or a query until it is read, in bytes.
const LONGEST: usize = 512;

/// Something that happened on a site.
#[derive(Clone, Debug)]
pub struct Note {
    /// The site, by its name.
    pub site: Arc<str>,
    /// What.
    pub kind: Kind,
    /// Whose visit it belongs to.
    pub visit: Visit,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A page was shown.
    Shown,
    /// A page was asked for that is not there.
    Missing,
    /// A browser measured a page.
    Measured(Measured),
}

/// A request, as far as it is looked at. It lives in memory until it is counted, moments later, in this process or in the one
/// that takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The host asked for.
    pub host: String,
    /// The path asked for, as it was sent.
    pub path: String,
    /// The query.
    pub query: String,
    /// The address that led there.
    pub referrer: String,
    /// What the browser calls itself.
    pub agent: String,
    /// Who asked; `None` for who asks not to be tracked.
    pub client: Option<IpAddr>,
}

impl Visit {
    /// A visit of these parts, each bounded.
    pub fn new(host: &str, path: &str, query: &str, referrer: &str, agent: &str, client: Option<IpAddr>) -> Self {
        let [host, path, query, referrer, agent] = [host, path, query, referrer, agent].map(cut);
        Self { host, path, query, referrer, agent, client }
    }

    /// The notes that `beacon`, sent from this visit, stands for.
    pub fn told(self, site: &Arc<str>, beacon: Beacon) -> Vec<Note> {
        let page = cut(&beacon.page);
        // A page that shows another one by itself has led there.
        let inside = format!("https://{}/", self.host);
        let referrer = beacon.referrer.map_or(inside, |referrer| cut(&referrer));
        let visit = Self { path: page, query: String::new(), referrer, ..self };
        let mut notes = Vec::new();
        let note = |kind, visit| Note { site: Arc::clone(site), kind, visit };
        if beacon.measured.iter().any(Option::is_some) {
            notes.push(note(Kind::Measured(beacon.measured), visit.clone()));
        }
        if beacon.view {
            notes.push(note(Kind::Shown, visit));
        }
        notes
    }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
}
