//! The keyspace and its door.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use super::start::{Ground, Plan};
use crate::accounts::RedisUsers;
use crate::bans::Bans;
use crate::base::process::memory_limit;
use crate::config::Config;
use crate::kv::cold::{self, Cold};
use crate::kv::persist::{Live, Pace, PersistError, Persistence, Place, folder};
use crate::kv::{Handle, Keyspace};
use crate::monitor::Check;
use crate::resp::{self, Parts};

/// The Unix socket's path; `None` when it is off.
pub fn socket(config: &Config, data: &Path) -> Option<PathBuf> {
    let name = &config.redis.socket;
    (!name.is_empty()).then(|| data.join(name))
}

/// A keyspace that is being served.
pub struct Served {
    /// The way to its thread.
    pub handle: Handle,
    /// Its files.
    pub live: Live,
    /// Its listener for TLS, which waits for certificates.
    pub tls: Option<resp::TlsGate>,
    /// Another descriptor of its Unix socket, if that was made now.
    pub made: Option<UnixListener>,
}

/// Where the keyspace's files are.
///
/// # Errors
/// [`StartError::Keyring`].
pub fn place(plan: &Plan, ground: &Ground) -> Result<Place, StartError> {
    Ok(Place {
        disk: Arc::clone(&plan.disk),
        random: Arc::clone(&plan.random),
        folder: folder(ground.folder.path()),
        key: ground.keyring.key("kv/journal")?,
        segment_bytes: plan.config.kv.journal_segment.bytes(),
        on_damage: plan.config.kv.on_damage,
    })
}

/// Recovers the keyspace and opens its doors; does nothing when all are off. Blocks.
///
/// # Errors
/// [`StartError::Keyspace`], [`StartError::Redis`], [`StartError::Keyring`].
pub fn start(plan: &Plan, ground: &Ground, doors: resp::Doors, bans: Bans) -> Result<Option<Served>, StartError> {
    if doors.tcp.is_empty() && doors.unix.is_none() && doors.tls.is_none() {
        return Ok(None);
    }
    let config = &plan.config.kv;
    let mut keyspace = Keyspace::new(config.clone(), Arc::clone(&plan.random));
    let place = place(plan, ground)?;
    keyspace.limit_memory(config.max_memory.on(memory_limit()));
    let cold_folder = place.folder.join("cold");
    place.disk.create_dir(&place.folder).map_err(|source| PersistError::Disk {
        action: "create",
        path: place.folder.clone(),
        source,
    })?;
    let cold = Cold::open(Arc::clone(&place.disk), &cold_folder, cold::SEGMENT, plan.random.as_ref());
    keyspace.spill_to(cold.map_err(PersistError::Cold)?);
    let pace = Pace { sync: config.sync, checkpoint_after: config.checkpoint_after.bytes() };
    let (clock, supervisor) = (Arc::clone(&plan.clock), &plan.supervisor);
    let (persistence, report) = Persistence::open(&place, pace, &mut keyspace, clock, supervisor)?;
    tracing::info!(
        checkpoint_bytes = report.checkpoint_bytes,
        journal_bytes = report.journal_bytes,
        dropped_bytes = report.dropped_bytes,
        "the keyspace is back"
    );
    let live = persistence.live().clone();
    let store = RedisUsers::new(ground.state.clone(), Arc::clone(&plan.clock));
    let users = resp::load_users(Some(&store))?;
    let parts = Parts {
        users,
        user_store: Some(store),
        bans,
        keyspace,
        persistence,
        config: plan.config.redis.clone(),
        password: plan.config.redis.require_auth.then(|| ground.keys.redis_password()),
        clock: Arc::clone(&plan.clock),
        disk: Arc::clone(&plan.disk),
        shutdown: plan.supervisor.shutdown().clone(),
        loaded: report,
    };
    let resp::Opened { handle, tls, made } = resp::start(doors, parts, &plan.supervisor, &plan.metrics)?;
    Ok(Some(Served { handle, live, tls, made }))
}

/// Whether the keyspace's thread answers.
pub fn check(handle: Handle) -> Check {
    Check::new("keyspace", move || {
        let handle = handle.clone();
        Box::pin(async move { handle.call(|_| ()).await.map_err(|error| error.to_string()) })
    })
}
