//! When exports are made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::error::ObjectError;
use super::super::scrub::Bell;
use super::super::service::Objects;
use super::Export;
use crate::base::supervise::{Priority, Role};
use crate::base::{Shutdown, Supervisor, Timestamp};

/// How long nothing is looked at, at most: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_mins(10);

/// The wait after an error.
const TROUBLE: Duration = Duration::from_mins(5);

/// How many times as long as an export took, beyond [`SHORT`], has passed before the next.
const REST: u32 = 100;

/// What an export may take at any rate.
const SHORT: Duration = Duration::from_secs(5);

/// What is known of the last export, and what wakes the thread that makes them.
#[derive(Debug, Default)]
pub(in crate::objects) struct Kept {
    last: Mutex<Option<Last>>,
    bell: Arc<Bell>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    taken: Timestamp,
    took: Duration,
    bytes: u64,
}

impl Objects {
    /// Starts the thread that makes exports until the server stops.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(in crate::objects) fn start_exporting(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        let (this, shutdown, bell) =
            (self.clone(), supervisor.shutdown().clone(), Arc::clone(&self.0.export_kept.bell));
        shutdown.on_change(move || bell.ring());
        supervisor.thread("objects-export", Role::Ordinary, Priority::Low, move || this.export_until(&shutdown))
    }

    fn export_until(&self, shutdown: &Shutdown) {
        while !shutdown.is_draining() {
            let wait = self.export_step(&|| !shutdown.is_draining()).unwrap_or_else(|error| {
                tracing::error!(%error, "the index of the object store is not exported; it is tried again soon");
                TROUBLE
            });
            self.0.export_kept.bell.wait(wait);
        }
    }

    /// Makes an export when one is due; tells how long to wait before the next call. Blocks.
    pub(in crate::objects) fn export_step(&self, go_on: &dyn Fn() -> bool) -> Result<Duration, ObjectError> {
        let every = self.0.config.export_every.duration();
        if every.is_zero() {
            return Ok(LOOK);
        }
        let now = self.0.clock.now();
        if let Some(last) = self.last_export()? {
            let due = last.taken.after(every.max(last.took.saturating_sub(SHORT).saturating_mul(REST)));
            // One of a later day is of a clock that was set back since.
            if now < due && now >= last.taken {
                return Ok(due.since(now).clamp(Duration::from_millis(1), LOOK));
            }
        }
        self.export_now(go_on)?;
        Ok(Duration::ZERO)
    }

    /// Makes an export now; `None` when `go_on` said no in between. Blocks.
    ///
    /// # Errors
    /// The index, the disk, or the disk has no room above its reserve: the exports that are there stay.
    pub(in crate::objects) fn export_now(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Export>, ObjectError> {
        let expected = self.last_export()?.map_or(0, |last| last.bytes);
        self.0.room.admit_now(expected)?;
        let _writing = self.0.exports.writing();
        let (taken, began) = (self.0.clock.now(), self.0.clock.monotonic());
        let written = self.0.exports.write(self.0.store.snapshot()?, taken, go_on);
        let Some(export) = written.map_err(|error| match error {
            ObjectError::Disk(error) => self.0.room.explain(error),
            other => other,
        })?
        else {
            return Ok(None);
        };
        let took = self.0.clock.monotonic().saturating_sub(began);
        let (number, bytes) = (export.number, export.bytes);
        tracing::debug!(number, bytes, ?took, "the index of the object store is exported");
        self.0.metrics.exported.set(i64::try_from(taken.seconds()).unwrap_or(i64::MAX));
        *self.0.export_kept.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Last { taken, took, bytes });
        Ok(Some(export))
    }

    /// The last export: the one made by this process, else the newest that opens.
    fn last_export(&self) -> Result<Option<Last>, ObjectError> {
        let mut last = self.0.export_kept.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none()
            && let Some(newest) = self.0.exports.list()?.first()
            && let Ok(reader) = self.0.exports.read(newest)
        {
            *last = Some(Last { taken: reader.taken(), took: Duration::ZERO, bytes: newest.bytes });
            self.0.metrics.exported.set(i64::try_from(reader.taken().seconds()).unwrap_or(i64::MAX));
        }
        Ok(*last)
    }
}
