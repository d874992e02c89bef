//! Trying backends out: each once at the start, so that wrong credentials are known before the first client meets them, and
//! those that do not do well again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload};

use super::{Backend, BackendError, Trouble};
use crate::base::Supervisor;
use crate::base::shutdown::Phase;
use crate::base::supervise::{Priority, Role};
use crate::objects::scrub::Bell;
use crate::objects::service::Objects;

/// How often those that do not do well are tried.
const LOOK: Duration = Duration::from_secs(30);

/// What is written for that, behind the prefix.
const TRIAL: &str = "mainstay-trial";

/// What is in it.
const TRIAL_BYTES: &[u8] = b"Written by Mainstay to see whether it can keep bodies of objects here.\n";

impl Backend {
    /// Writes a few bytes there, reads and deletes them: whether it can be used. Blocks.
    ///
    /// # Errors
    /// It cannot; that is also told to whoever asks for the server's status.
    pub(in crate::objects) fn try_out(&self) -> Result<(), BackendError> {
        let doing = "trying whether bodies can be kept there";
        let path = self.named(TRIAL);
        let tried = self.ask(doing, async {
            self.store.put(&path, PutPayload::from_static(TRIAL_BYTES)).await?;
            let read: Bytes = self.store.get(&path).await?.bytes().await?;
            // Most of what is read of bodies are ranges, which not every service answers as one.
            let rest: Bytes = self.store.get_range(&path, 8..TRIAL_BYTES.len() as u64).await?;
            self.store.delete(&path).await?;
            Ok((read, rest))
        });
        let done = match tried {
            Ok((read, rest)) if read == TRIAL_BYTES && TRIAL_BYTES.ends_with(&rest) => Ok(()),
            Ok(_other) => Err(BackendError {
                backend: self.name.clone(),
                doing,
                trouble: Trouble::Refused,
                source: "what was written does not come back as it was".into(),
            }),
            // What was just written is not there: it cannot be used, though it answers.
            Err(error) if !error.is_passing() => Err(BackendError { trouble: Trouble::Refused, ..error }),
            Err(error) => Err(error),
        };
        match &done {
            Ok(()) => self.health.is_well(&self.name),
            Err(_) => self.health.heard(&self.name, &done),
        }
        done
    }
}

impl Objects {
    /// Whether every backend can be used, as far as is known.
    ///
    /// # Errors
    /// What is wrong, for each that cannot.
    pub fn backends_are_well(&self) -> Result<(), String> {
        let trouble: Vec<String> = self.0.backends.all().iter().filter_map(|backend| backend.trouble()).collect();
        if trouble.is_empty() { Ok(()) } else { Err(trouble.join("; ")) }
    }

    /// Starts the thread that tries backends out until the server stops.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(in crate::objects) fn start_watching(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        if self.0.backends.is_empty() {
            return Ok(());
        }
        let (this, shutdown) = (self.clone(), supervisor.shutdown().clone());
        let bell = Arc::new(Bell::default());
        let (rung, signal, waiting) = (Arc::clone(&bell), shutdown.clone(), self.0.backends.threads.clone());
        shutdown.on_change(move || {
            rung.ring();
            // Whoever still waits for a backend by then holds up the end of the process.
            if signal.phase() == Phase::Forced
                && let Some(threads) = &waiting
            {
                threads.give_up();
            }
        });
        supervisor.thread("objects-backends", Role::Ordinary, Priority::Low, move || {
            let mut known = false;
            while !shutdown.is_draining() {
                for backend in this.0.backends.all() {
                    if (known && backend.trouble().is_none()) || shutdown.is_draining() {
                        continue;
                    }
                    match backend.try_out() {
                        Ok(()) if !known => tracing::info!(backend = %backend.name(), "a backend can be used"),
                        // Told by its health.
                        Ok(()) | Err(_) => {}
                    }
                }
                known = true;
                bell.wait(LOOK);
            }
        })
    }
}
