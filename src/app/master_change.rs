//! A change of the master key, behind the scenes: what the key before has wrapped is wrapped anew, then that key is forgotten.
//!
//! One thread of low priority does it, from the change on and after every start until it is through; each round begins anew
//! and finds what is done. [`crate::crypto::rotation`] has the steps and why none of them loses anything.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backup::service::{Backups, ServiceError};
use crate::base::supervise::{Priority, Role};
use crate::base::{Shutdown, Supervisor};
use crate::crypto::rotation::Changed;
use crate::crypto::{Keyring, KeyringError};
use crate::objects::{ObjectError, Objects};

/// How long until what was in the way is tried again.
const AGAIN: Duration = Duration::from_secs(20);

/// Most looks that find something that is still wrapped by the key before, until the next round.
const LOOKS: usize = 4;

/// How the master key stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterStatus {
    /// Id of the key in use.
    pub active: String,
    /// Where it comes from, when the operator gives it.
    pub given: Option<String>,
    /// Ids of the keys that something refers to still.
    pub older: Vec<String>,
    /// What is in the way of forgetting them.
    pub waits_for: Option<String>,
    /// Wrapped keys that were wrapped anew since the start.
    pub rewrapped: u64,
    /// Wrapped keys that no master key opens, the ones before neither: what they are for is damaged.
    pub damaged: u64,
    /// Ids of the keys that were forgotten since the start.
    pub forgotten: Vec<String>,
}

/// The change. Clones are the same.
#[derive(Clone)]
pub struct MasterChange(Arc<Inner>);

struct Inner {
    keyring: Arc<Keyring>,
    objects: Objects,
    backups: Backups,
    told: Mutex<MasterStatus>,
    wake: SyncSender<()>,
    /// Taken by the thread.
    woken: Mutex<Option<Receiver<()>>>,
}

/// What is in the way.
#[derive(Debug, thiserror::Error)]
enum InTheWay {
    #[error("stored objects: {0}")]
    Objects(#[from] ObjectError),
    #[error("the repository of backups must open with the new key too: {0}")]
    Backups(#[from] ServiceError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("the server is stopping")]
    Stopping,
    #[error("more is still wrapped by the key before")]
    More,
}

impl MasterChange {
    /// The change of `keyring`'s master key; nothing is done before [`MasterChange::start`].
    pub fn new(keyring: Arc<Keyring>, objects: Objects, backups: Backups) -> Self {
        let (wake, woken) = sync_channel(1);
        let woken = Mutex::new(Some(woken));
        Self(Arc::new(Inner { keyring, objects, backups, told: Mutex::default(), wake, woken }))
    }

    /// Starts the thread, which goes on with a change that is not through.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn start(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        let woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(woken) = woken else { return Ok(()) };
        let (this, shutdown, wake) = (self.clone(), supervisor.shutdown().clone(), self.0.wake.clone());
        shutdown.on_change(move || {
            // A full queue wakes the thread too.
            let _ = wake.try_send(());
        });
        supervisor.thread("master-key", Role::Ordinary, Priority::Low, move || this.serve(&woken, &shutdown))
    }

    /// Makes a new master key in the data folder; the rest goes on behind the scenes. Blocks.
    ///
    /// # Errors
    /// As [`Keyring::rotate`].
    pub fn rotate(&self) -> Result<Changed, KeyringError> {
        let changed = self.0.keyring.rotate();
        let _ = self.0.wake.try_send(());
        let changed = changed?;
        tracing::info!(active = changed.active, previous = changed.previous, "the master key is changed");
        Ok(changed)
    }

    /// How it stands.
    pub fn status(&self) -> MasterStatus {
        let masters = self.0.keyring.masters();
        let mut told = self.told().clone();
        if masters.older.is_empty() {
            told.waits_for = None;
        }
        MasterStatus { active: masters.active, given: masters.given.map(str::to_owned), older: masters.older, ..told }
    }

    fn serve(&self, woken: &Receiver<()>, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            let over = if self.0.keyring.is_changing() {
                match self.round(&|| !shutdown.is_draining()) {
                    Ok(()) | Err(InTheWay::Stopping) => woken.recv().is_err(),
                    Err(reason) => {
                        tracing::warn!(%reason, "the master key before cannot be forgotten yet; it is tried again soon");
                        self.told().waits_for = Some(reason.to_string());
                        // Woken or not: the next round looks.
                        let _ = woken.recv_timeout(AGAIN);
                        false
                    }
                }
            } else {
                woken.recv().is_err()
            };
            if over {
                return;
            }
        }
    }

    /// Has nothing refer to older master keys, and forgets them.
    fn round(&self, go_on: &dyn Fn() -> bool) -> Result<(), InTheWay> {
        self.rewrap(go_on)?;
        self.0.backups.let_in()?;
        let forgotten = self.0.keyring.forget()?;
        let mut told = self.told();
        tracing::info!(
            active = self.0.keyring.master_id(),
            forgotten = forgotten.join(" "),
            rewrapped = told.rewrapped,
            "nothing needs the master key before any more but backups made with it; where it is given to the server, it may go"
        );
        told.waits_for = None;
        told.forgotten.extend(forgotten);
        Ok(())
    }

    fn rewrap(&self, go_on: &dyn Fn() -> bool) -> Result<(), InTheWay> {
        for _ in 0..LOOKS {
            let done = self.0.objects.rewrap(go_on)?;
            let mut told = self.told();
            told.rewrapped += done.done();
            told.damaged = done.damaged();
            if !go_on() {
                return Err(InTheWay::Stopping);
            }
            if done.done() == 0 {
                return Ok(());
            }
        }
        Err(InTheWay::More)
    }

    fn told(&self) -> MutexGuard<'_, MasterStatus> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MasterChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterChange").field("keyring", &self.0.keyring).finish_non_exhaustive()
    }
}
