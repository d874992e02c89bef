//! What requests are answered by. A reload puts another in its place as a whole.

use std::sync::Arc;
use std::time::Duration;

use super::acme::challenges::Challenges;
use super::acme::internal::Internal;
use super::audience::Beacons;
use super::cache::Cache;
use super::client::Network;
use super::doors::Doors;
use super::jails::Jails;
use super::pool::Pools;
use super::sites::Sites;
use super::traffic::Traffic;
use crate::bans::Bans;

/// What all workers share and no request changes. A reload puts others in their place.
#[derive(Debug)]
pub struct Rules {
    /// Which site answers what.
    pub sites: Sites,
    /// What is counted of each site.
    pub traffic: Arc<Traffic>,
    /// Who is banned.
    pub bans: Bans,
    /// Who gets banned for what; `None` while no jail is at work.
    pub jails: Option<Arc<Jails>>,
    /// Mainstay's own doors.
    pub doors: Arc<Doors>,
    /// Answers to an authority's challenges.
    pub challenges: Arc<Challenges>,
    /// The internal authority, whose root is given out.
    pub internal: Option<Arc<Internal>>,
    /// Answers of apps that are kept.
    pub cache: Arc<Cache>,
    /// What counts pages.
    pub beacons: Arc<Beacons>,
    /// Proxies in front that are believed.
    pub trusted: Vec<Network>,
    /// Load balancers whose connections begin with a header that tells whose they are.
    pub announcing: Vec<Network>,
    /// The port plain HTTP is sent on to; `None` serves it.
    pub redirect_to: Option<u16>,
    /// Longest silence on a WebSocket.
    pub tunnel_idle: Duration,
}

/// What one worker answers by now. A request goes to its end with what it began with.
#[derive(Debug)]
pub struct Current {
    /// Shared by all workers.
    pub rules: Arc<Rules>,
    /// This worker's connections to apps.
    pub pools: Pools,
}
