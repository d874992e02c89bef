//! Backups of a small server on a disk, without a process around it.

use std::path::Path;
use std::sync::Arc;

use super::config::BackupConfig;
use super::own::{Keyspace, OwnData};
use super::service::{Backups, World};
use super::*;
use crate::base::{Disk, LocalDisk, Shutdown, Supervisor, SystemRandom};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey};
use crate::jobs::Jobs;
use crate::kv::persist::{OnDamage, Place};
use crate::objects::{Objects, ObjectsConfig};
use crate::telemetry::Metrics;
use crate::testing::{TestClock, TestRandom, memory_store};

/// Backups of an empty server in a folder that is left to the system; a tokio runtime must be there.
pub fn backups(shutdown: &Shutdown) -> Backups {
    let folder = tempfile::tempdir().unwrap();
    let made = on(folder.path(), BackupConfig::default(), &Supervisor::new(shutdown.clone()));
    drop(folder);
    made
}

/// Backups of an empty server in `folder`.
pub fn on(folder: &Path, config: BackupConfig, supervisor: &Supervisor) -> Backups {
    let disk: Arc<dyn Disk> = Arc::new(LocalDisk);
    let random: Arc<SystemRandom> = Arc::new(SystemRandom);
    let clock = Arc::new(TestClock::default());
    let metrics = Metrics::new();
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let keyring = Arc::new(Keyring::open(Arc::clone(&disk), random.clone(), folder, master, false).unwrap());
    let index = memory_store();
    let jobs = Jobs::new(index.clone(), clock.clone(), random.clone(), supervisor.clone(), &metrics);
    let objects = Objects::open(
        Arc::clone(&disk),
        folder.join("objects"),
        index.clone(),
        Arc::clone(&keyring),
        jobs,
        clock.clone(),
        random.clone(),
        &metrics,
        ObjectsConfig::default(),
    )
    .unwrap();
    let state = memory_store();
    let place = Place {
        disk: Arc::clone(&disk),
        random: random.clone(),
        folder: folder.join("kv"),
        key: keyring.key("kv/journal").unwrap(),
        segment_bytes: 1 << 20,
        on_damage: OnDamage::Refuse,
    };
    let own = OwnData {
        data: folder.to_owned(),
        disk: Arc::clone(&disk),
        stores: vec![index, state.clone()],
        objects,
        keyspace: Keyspace::AtRest(place),
    };
    let runtime = tokio::runtime::Handle::current();
    let host = HostFacts::default();
    let world = World { own, state, keyring, clock, random, disk, runtime, host, supervisor: supervisor.clone() };
    Backups::new(world, config, &metrics).unwrap()
}
