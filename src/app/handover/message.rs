//! What the two processes say to each other. A field that a release does not know it ignores, so that fields can be added.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::analytics::{Kind, Visit};
use crate::app::inherited::Passed;
use crate::bans::Ban;
use crate::edge::Changed;

/// Version of the conversation; the new program is told it when it is started.
pub const VERSION: u32 = 1;

/// A listening socket, whose descriptor is beside the message, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The setting whose place it takes.
    pub key: String,
    /// Whether it is a Unix socket.
    pub unix: bool,
    /// What the setting said when it was bound; absent when a service manager made it.
    pub bound: Option<String>,
}

/// How many upgrades there have been since the service was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Those that were made.
    pub done: u64,
    /// Those that were refused or failed.
    pub failed: u64,
}

/// The first message.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The sockets.
    pub sockets: Vec<Socket>,
    /// What has been.
    pub past: Past,
}

impl Manifest {
    /// Of `sockets`.
    pub fn of(sockets: &[Passed], past: Past) -> Self {
        let told = |passed: &Passed| Socket { key: passed.key.clone(), unix: passed.unix, bound: passed.bound.clone() };
        Self { sockets: sockets.iter().map(told).collect(), past }
    }

    /// The sockets with their `descriptors`; `None` when there is not one for each.
    pub fn with(self, descriptors: Vec<OwnedFd>) -> Option<Vec<Passed>> {
        let fits = descriptors.len() == self.sockets.len();
        let passed = |(Socket { key, unix, bound }, socket)| Passed { key, unix, bound, socket };
        fits.then(|| self.sockets.into_iter().zip(descriptors).map(passed).collect())
    }
}

/// What the predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Here are the sockets.
    Sockets(Manifest),
    /// The data folder is free.
    Go,
    /// What it has learned since, again and again until it ends.
    Learned(Learned),
}

/// What a process learns on the connections it still has when another one has the data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Who is banned.
    pub bans: Vec<Banned>,
    /// Which pages were seen.
    pub pages: Vec<Page>,
    /// Which kept answers are no longer good.
    pub changed: Vec<Changed>,
}

/// A ban that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    /// Of whom.
    pub network: String,
    /// The ban.
    pub ban: Ban,
}

/// A page that was seen, or what a browser measured of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The site.
    pub site: String,
    /// What happened.
    pub kind: Kind,
    /// Whose visit it belongs to.
    pub visit: Visit,
}

/// What the successor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It has the sockets and waits for its turn.
    Waiting {
        /// Its release.
        release: String,
        /// Its process id.
        pid: u32,
    },
    /// Every door answers.
    Ready,
    /// It ends, for this reason.
    Failed(String),
}
