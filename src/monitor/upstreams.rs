//! How the apps behind the edge do, as everybody sees it who shows them. The edge tells; nothing is kept here.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

/// How a copy of an app stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamState {
    /// It gets requests.
    Up,
    /// Requests to it failed: for a while it gets them only when no other copy is up.
    Failing,
    /// Its health checks fail: as long as they do, it gets requests only when no other copy is up.
    Down,
}

impl UpstreamState {
    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }
}

/// One copy of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Its address, as settings name it.
    pub upstream: String,
    /// The sites that send requests to it: host and path.
    pub sites: Vec<String>,
    /// How it stands.
    pub state: UpstreamState,
    /// Requests under way to it.
    pub active: u64,
    /// Requests it was sent since the start.
    pub requests: u64,
    /// Those it did not answer.
    pub failed: u64,
    /// Failed requests in a row.
    pub failures: u32,
    /// When it gets requests again, while it is failing, in milliseconds since 1970.
    pub again_at_ms: Option<u64>,
    /// Whether it is asked for its health.
    pub checked: bool,
    /// When it was last asked.
    pub last_check_ms: Option<u64>,
    /// What was wrong with the answer.
    pub error: Option<String>,
}

type Tell = Box<dyn Fn() -> Vec<UpstreamView> + Send + Sync>;

/// The apps. Clones are the same.
#[derive(Clone, Default)]
pub struct Upstreams(Arc<OnceLock<Tell>>);

impl Upstreams {
    /// From now on `tell` says how they do; the first to be named stays.
    pub fn told_by(&self, tell: impl Fn() -> Vec<UpstreamView> + Send + Sync + 'static) {
        let _first_stays = self.0.set(Box::new(tell));
    }

    /// How each does; none while there is no edge.
    pub fn all(&self) -> Vec<UpstreamView> {
        self.0.get().map(|tell| tell()).unwrap_or_default()
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams")
    }
}
