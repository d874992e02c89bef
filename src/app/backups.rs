//! Backups put together, for a running server and for commands without one.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::start::{Ground, Plan, Services, open_ground, open_services};
use super::status::VERSION;
use super::{Folder, StartError, redis};
use crate::backup::HostFacts;
use crate::backup::own::{Keyspace, OwnData};
use crate::backup::service::{Backups, World};
use crate::kv::persist::Live;
use crate::store::Store;

/// Backups of what `ground` and `services` hold; `live` is the keyspace, if it is being served. Blocks.
///
/// # Errors
/// [`StartError::Backup`], [`StartError::Keyring`].
pub fn new(
    plan: &Plan,
    ground: &Ground,
    services: &Services,
    live: Option<Live>,
    runtime: Handle,
) -> Result<Backups, StartError> {
    let keyspace = match live {
        Some(live) => Keyspace::Live(live),
        None => Keyspace::AtRest(redis::place(plan, ground)?),
    };
    let own = OwnData {
        data: ground.folder.path().to_owned(),
        disk: Arc::clone(&plan.disk),
        stores: vec![services.captured.clone(), services.index.clone(), ground.state.clone()],
        objects: services.objects.clone(),
        keyspace,
    };
    let world = World {
        own,
        state: ground.state.clone(),
        keyring: Arc::clone(&ground.keyring),
        clock: Arc::clone(&plan.clock),
        random: Arc::clone(&plan.random),
        disk: Arc::clone(&plan.disk),
        runtime,
        host: host(),
        supervisor: plan.supervisor.clone(),
    };
    Ok(Backups::new(world, plan.config.backup.clone(), &plan.metrics)?)
}

/// A data folder opened for a backup, without a server.
#[derive(Debug)]
pub struct Offline {
    /// Its backups.
    pub backups: Backups,
    stores: Vec<Store>,
    /// Locked as long as this lives.
    _folder: Folder,
}

impl Offline {
    /// Opens the folder of `plan`. Blocks.
    ///
    /// # Errors
    /// [`StartError`]: nothing is open then.
    pub fn open(plan: &Plan, runtime: Handle) -> Result<Self, StartError> {
        let folder = Folder::open(plan.disk.as_ref(), &plan.data)?;
        if !folder.has_data {
            return Err(StartError::NoFolder { path: plan.data.clone() });
        }
        let ground = open_ground(plan, folder)?;
        let services = open_services(plan, &ground)?;
        let backups = new(plan, &ground, &services, None, runtime)?;
        let stores = vec![services.index, services.captured, ground.state];
        Ok(Self { backups, stores, _folder: ground.folder })
    }

    /// Closes everything. Blocks.
    pub fn close(self, plan: &Plan) {
        // The writers may end now.
        plan.supervisor.shutdown().drain();
        self.stores.iter().for_each(Store::close_blocking);
        plan.supervisor.join_threads();
    }
}

/// The machine, as snapshots name it.
fn host() -> HostFacts {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    HostFacts {
        name: line("/proc/sys/kernel/hostname"),
        system: format!("{} {}", line("/proc/sys/kernel/ostype"), line("/proc/sys/kernel/osrelease")).trim().to_owned(),
        version: VERSION.to_owned(),
    }
}
