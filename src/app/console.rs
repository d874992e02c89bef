//! The admin's pages, given everything they show.

use std::sync::Arc;
use std::time::Duration;

use super::connect::Connect;
use super::start::{Ground, Plan};
use super::{StartError, doors, history, pages};
use crate::analytics::Analytics;
use crate::backup::service::Backups;
use crate::bans::Bans;
use crate::console::{Console, Door, World};
use crate::issues::Issues;
use crate::kv::Handle;
use crate::limits::Limits;
use crate::mail::Outbox;
use crate::monitor::{Certificates, Checks, SitesSeen, Upstreams};
use crate::objects::Objects;

/// The services that the pages show besides those of the ground.
#[derive(Debug)]
pub(super) struct Shown {
    /// The Redis door's keyspace.
    pub keyspace: Option<Handle>,
    /// Rate limits.
    pub limits: Limits,
    /// Who is banned at the edge.
    pub bans: Bans,
    /// Who visits pages.
    pub analytics: Analytics,
    /// Buckets and objects.
    pub objects: Objects,
    /// Outbound mail.
    pub outbox: Outbox,
    /// Captured errors.
    pub issues: Issues,
    /// Backups.
    pub backups: Backups,
    /// The parts.
    pub checks: Checks,
    /// The edge's certificates.
    pub certificates: Certificates,
    /// The apps behind the edge.
    pub upstreams: Upstreams,
    /// The sites of the edge.
    pub sites: SitesSeen,
}

/// The pages. `started` is the clock's monotonic time at the start.
///
/// # Errors
/// [`StartError::Keyring`].
pub(super) fn open(
    plan: &Plan,
    ground: &Ground,
    connect: &Connect,
    shown: Shown,
    started: Duration,
) -> Result<Console, StartError> {
    let Shown {
        keyspace,
        limits,
        bans,
        analytics,
        objects,
        outbox,
        issues,
        backups,
        checks,
        certificates,
        upstreams,
        sites,
    } = shown;
    let (keys, users, reached) = (Arc::clone(&ground.keys), ground.users.clone(), connect.clone());
    let listed = doors::table(connect).into_iter();
    let world = World {
        keyspace,
        limits,
        bans,
        analytics,
        objects,
        outbox,
        issues,
        backups,
        share: pages::share(plan, ground, connect),
        brand: pages::brand(plan, connect),
        reference: crate::config::reference::reference(),
        users: ground.users.clone(),
        settings: plan.settings.clone(),
        env: Arc::new(move || reached.lines(&keys, users.first_token().as_ref())),
        checks,
        certificates,
        upstreams,
        sites,
        history: history::start(&plan.metrics, Arc::clone(&plan.clock), &plan.supervisor),
        metrics: plan.metrics.clone(),
        doors: listed.map(|door| Door { speaks: door.speaks, address: door.address }).collect(),
        data: ground.folder.path().to_owned(),
        disk: Arc::clone(&plan.disk),
        started,
        clock: Arc::clone(&plan.clock),
        random: Arc::clone(&plan.random),
    };
    Ok(Console::new(world, ground.keyring.key("console/forms")?))
}
