//! How the sites of the edge are asked and answer, as everybody sees it who shows them. The edge tells; nothing is kept here.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::Timestamp;

/// A stretch of a site's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiteSample {
    /// Requests by class of status: 1xx to 5xx.
    pub requests: [u32; 5],
    /// Bytes of the answers.
    pub bytes: u64,
    /// Within how many seconds half, 95 % and 99 % of them were answered; `None` when there were none.
    pub seconds: [Option<f32>; 3],
}

impl SiteSample {
    /// Requests of every class.
    pub fn total(&self) -> u64 {
        self.requests.iter().map(|count| u64::from(*count)).sum()
    }
}

/// One site.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteView {
    /// Its first host and its path.
    pub name: String,
    /// What answers: `app`, `files` or `redirect`.
    pub kind: &'static str,
    /// Requests since the start by class of status: 1xx to 5xx.
    pub requests: [u64; 5],
    /// Bytes of the answers since the start.
    pub bytes: u64,
    /// The last hour, the oldest first.
    pub samples: Vec<SiteSample>,
    /// How long each sample is.
    pub every: Duration,
}

/// One request of late, without secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// When it was answered.
    pub at: Timestamp,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: String,
    /// The host.
    pub host: String,
    /// Path and query; values that look like credentials are taken out.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

type Tell<T> = Box<dyn Fn() -> Vec<T> + Send + Sync>;

struct Teller {
    sites: Tell<SiteView>,
    passed: Tell<Passed>,
}

/// The sites. Clones are the same.
#[derive(Clone, Default)]
pub struct SitesSeen(Arc<OnceLock<Teller>>);

impl SitesSeen {
    /// From now on `sites` tells of them and `passed` of the last requests; the first to be named stay.
    pub fn told_by(
        &self,
        sites: impl Fn() -> Vec<SiteView> + Send + Sync + 'static,
        passed: impl Fn() -> Vec<Passed> + Send + Sync + 'static,
    ) {
        let _first_stays = self.0.set(Teller { sites: Box::new(sites), passed: Box::new(passed) });
    }

    /// Every site; none while there is no edge.
    pub fn all(&self) -> Vec<SiteView> {
        self.0.get().map(|teller| (teller.sites)()).unwrap_or_default()
    }

    /// The last requests, the newest first. They are noted while somebody looks.
    pub fn passed(&self) -> Vec<Passed> {
        self.0.get().map(|teller| (teller.passed)()).unwrap_or_default()
    }
}

impl fmt::Debug for SitesSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SitesSeen")
    }
}
