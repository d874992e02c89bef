//! What a running server tells about itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connect::Connect;
use super::handover::request::Upgrades;
use super::master_change::MasterChange;
use super::reload::Reloader;
use crate::accounts::{AccessKeys, Users};
use crate::analytics::Analytics;
use crate::backup::service::Backups;
use crate::bans::Bans;
use crate::base::Clock;
use crate::edge::Edge;
use crate::issues::Issues;
use crate::mail::Outbox;
use crate::monitor::{CacheView, Checks, Part};
use crate::objects::Objects;

/// This release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where one door listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorStatus {
    /// The setting that says where, such as `s3.listen`.
    pub setting: String,
    /// Where it listens: an address, or the path of a Unix socket.
    pub address: String,
    /// What it speaks, for people.
    pub speaks: String,
}

impl DoorStatus {
    /// The door of `setting`, listening at `address`.
    pub fn new(setting: &str, address: impl std::fmt::Display, speaks: &str) -> Self {
        Self { setting: setting.to_owned(), address: address.to_string(), speaks: speaks.to_owned() }
    }
}

/// A running server, as `mainstay status --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's release.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its data folder.
    pub data: PathBuf,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether every part that requests need works and the server is not stopping.
    pub ready: bool,
    /// Whether the server is stopping.
    pub draining: bool,
    /// The doors that are on.
    pub doors: Vec<DoorStatus>,
    /// Each part that can fail by itself.
    pub parts: Vec<Part>,
    /// Kept answers of apps; absent while no site keeps any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheView>,
}

/// What [`Status`] and `mainstay env` are made from.
#[derive(Debug)]
pub struct Facts {
    /// The data folder.
    pub data: PathBuf,
    /// The doors that are on.
    pub doors: Vec<DoorStatus>,
    /// Where apps reach them.
    pub connect: Connect,
    /// The credentials.
    pub keys: Arc<AccessKeys>,
    /// People's accounts.
    pub users: Users,
    /// The parts.
    pub checks: Checks,
    /// Error capture.
    pub issues: Issues,
    /// Backups.
    pub backups: Backups,
    /// Buckets and objects.
    pub objects: Objects,
    /// The change of the master key.
    pub master: MasterChange,
    /// Who is banned.
    pub bans: Bans,
    /// Who visits pages.
    pub analytics: Analytics,
    /// The edge; `None` while it is off.
    pub edge: Option<Arc<Edge>>,
    /// Reads the settings again.
    pub reloader: Arc<Reloader>,
    /// Replaces the server.
    pub upgrades: Upgrades,
    /// Outbound mail.
    pub outbox: Outbox,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The clock's monotonic time at the start.
    pub started: Duration,
}

impl Facts {
    /// The server now. Cancel safe.
    pub async fn status(&self) -> Status {
        let report = self.checks.report().await;
        Status {
            version: VERSION.to_owned(),
            pid: std::process::id(),
            data: self.data.clone(),
            uptime_seconds: self.clock.monotonic().saturating_sub(self.started).as_secs(),
            ready: report.ready,
            draining: report.draining,
            doors: self.doors.clone(),
            parts: report.parts,
            cache: self.edge.as_ref().map(|edge| edge.cache().view()).filter(|cache| cache.sites > 0),
        }
    }

    /// The lines of `mainstay env`: full of secrets.
    pub fn env(&self) -> Vec<(String, String)> {
        self.connect.lines(&self.keys, self.users.first_token().as_ref())
    }
}
