//! How the sites of the edge are asked and answer, as everybody sees it who shows them. The edge tells; nothing is kept here.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CacheView;
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
    /// The answers of its app that are kept; `None` when none are.
    pub kept: Option<KeptView>,
}

/// What a site keeps of its app's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptView {
    /// Answers in memory.
    pub answers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Answers on disk.
    pub disk_answers: u64,
    /// The bytes of their files.
    pub disk_bytes: u64,
    /// Requests since the start that were answered without the app.
    pub hits: u64,
    /// Those of them for which the disk was read.
    pub disk_hits: u64,
    /// Requests since the start for which the app was asked.
    pub misses: u64,
}

/// Which kept answers are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhichKept {
    /// All.
    All,
    /// Those of the site of that name.
    Site(String),
    /// Those of one place.
    Place {
        /// The host, without a port; every host when absent.
        host: Option<String>,
        /// How the path begins; empty for every path.
        prefix: String,
    },
}

/// In words, for the audit log.
impl fmt::Display for WhichKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Site(name) => f.write_str(name),
            Self::Place { host, prefix } => write!(f, "{}{prefix}", host.as_deref().unwrap_or("*")),
        }
    }
}

impl WhichKept {
    /// What `host`, `prefix` and `all` mean together.
    ///
    /// # Errors
    /// They mean nothing, in words.
    pub fn of(host: Option<String>, prefix: Option<String>, all: bool) -> Result<Self, &'static str> {
        match (host, prefix, all) {
            (None, None, true) => Ok(Self::All),
            (None, None, false) => Err("which answers are to go is not said: a host, the beginning of a path, or all"),
            (_, _, true) => Err("all is all: a host or a path beside it would be none"),
            (Some(host), _, _) if host.is_empty() || host.contains('/') => {
                Err("the host is no name such as example.com")
            }
            (_, Some(prefix), _) if !prefix.starts_with('/') => Err("the beginning of a path begins with /"),
            (host, prefix, false) => Ok(Self::Place { host, prefix: prefix.unwrap_or_default() }),
        }
    }
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
type TellCache = Box<dyn Fn() -> CacheView + Send + Sync>;
type Purge = Box<dyn Fn(&WhichKept) -> u64 + Send + Sync>;

struct Teller {
    sites: Tell<SiteView>,
    passed: Tell<Passed>,
    cache: TellCache,
    purge: Purge,
}

/// The sites. Clones are the same.
#[derive(Clone, Default)]
pub struct SitesSeen(Arc<OnceLock<Teller>>);

impl SitesSeen {
    /// From now on `sites` tells of them, `passed` of the last requests, `cache` of all kept answers, and `purge`, which
    /// may block, takes some of those away; the first to be named stay.
    pub fn told_by(
        &self,
        sites: impl Fn() -> Vec<SiteView> + Send + Sync + 'static,
        passed: impl Fn() -> Vec<Passed> + Send + Sync + 'static,
        cache: impl Fn() -> CacheView + Send + Sync + 'static,
        purge: impl Fn(&WhichKept) -> u64 + Send + Sync + 'static,
    ) {
        let (sites, passed) = (Box::new(sites), Box::new(passed));
        let teller = Teller { sites, passed, cache: Box::new(cache), purge: Box::new(purge) };
        let _first_stays = self.0.set(teller);
    }

    /// Takes kept answers away and tells how many; `None` while there is no edge.
    ///
    /// # Cancel safety
    /// What was begun goes on.
    pub async fn purge(&self, which: WhichKept) -> Option<u64> {
        let this = self.clone();
        // Their files go, too.
        let purging = tokio::task::spawn_blocking(move || this.0.get().map(|teller| (teller.purge)(&which)));
        purging.await.ok().flatten()
    }

    /// All kept answers; `None` while there is no edge.
    pub fn cache(&self) -> Option<CacheView> {
        self.0.get().map(|teller| (teller.cache)())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_go_must_be_said() {
        let of = |host: &str, prefix: &str, all| {
            let text = |text: &str| (text != "-").then(|| text.to_owned());
            WhichKept::of(text(host), text(prefix), all)
        };
        assert_eq!(of("-", "-", true), Ok(WhichKept::All));
        let place = WhichKept::Place { host: Some("a.example".to_owned()), prefix: "/x".to_owned() };
        assert_eq!(of("a.example", "/x", false), Ok(place));
        assert_eq!(of("-", "/", false), Ok(WhichKept::Place { host: None, prefix: "/".to_owned() }));
        for (host, prefix, all) in [
            ("-", "-", false),
            ("a", "-", true),
            ("-", "/", true),
            ("", "-", false),
            ("a/b", "-", false),
            ("-", "x", false),
        ] {
            assert!(of(host, prefix, all).is_err(), "{host} {prefix} {all}");
        }
    }
}
