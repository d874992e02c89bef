//! Work behind the scenes: removing garbage when there is some, sweeping at the start and once a day, what lifecycles end,
//! scrubbing, exports of the index, moving, and what buckets hold by day.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;

use super::error::ObjectError;
use super::expire;
use super::garbage::{self, Collected};
use super::service::{Inner, Objects, blocking};
use super::usage_days;
use crate::base::supervise::{Priority, Role};
use crate::base::{Span, Supervisor};
use crate::jobs::{Job, JobOutcome};

/// The kind of the sweep's job. Part of the stored format.
const SWEEP: &str = "objects.sweep";

impl Objects {
    /// Lets the jobs of this room be done by `jobs`.
    pub(super) fn register_jobs(&self) {
        for (kind, work) in [
            (garbage::KIND, Work::Garbage),
            (SWEEP, Work::Sweep),
            (expire::KIND, Work::Lifecycle),
            (usage_days::KIND, Work::Usage),
        ] {
            // Weak: the service holds the jobs, so the jobs must not hold the service.
            let task = Task { objects: Arc::downgrade(&self.0), work };
            self.0.jobs.register(kind, Arc::new(task));
        }
    }

    /// Starts the first sweep, the scrub, the exports, the moves and the watch over backends, on threads of low priority, and
    /// has the other sweeps come around.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn start(&self, supervisor: &Supervisor) -> std::io::Result<()> {
        self.0.jobs.every(SWEEP, self.0.config.sweep_every);
        self.0.jobs.every(expire::KIND, self.0.config.lifecycle_every);
        self.0.jobs.every(usage_days::KIND, Span::hours(1));
        self.start_scrubbing(supervisor)?;
        self.start_exporting(supervisor)?;
        self.start_moving(supervisor)?;
        self.start_watching(supervisor)?;
        self.start_changing_keys(supervisor)?;
        let this = self.clone();
        supervisor.thread("objects-sweep", Role::Ordinary, Priority::Low, move || {
            if let Err(error) = this.settle_keys() {
                tracing::error!(%error, "the keys beside the blobs are not up to date; the next start tries again");
            }
            if let Err(error) = this.note_buckets() {
                tracing::error!(%error, "the files of buckets are not up to date; the next start tries again");
            }
            if let Err(error) = this.count_usage() {
                tracing::error!(%error, "what buckets hold could not be counted; the next sweep goes on");
            }
            match this.sweep() {
                Ok(swept) => tracing::info!(?swept, "leftovers of the last run are swept"),
                Err(error) => tracing::error!(%error, "the first sweep failed; the next one looks again"),
            }
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Garbage,
    Sweep,
    Lifecycle,
    Usage,
}

struct Task {
    objects: Weak<Inner>,
    work: Work,
}

impl Job for Task {
    fn run<'a>(&'a self, payload: &'a [u8]) -> BoxFuture<'a, JobOutcome> {
        Box::pin(async move {
            let Some(objects) = self.objects.upgrade().map(Objects) else {
                return JobOutcome::Retry("the object store is closed".to_owned());
            };
            let (work, payload) = (self.work, payload.to_vec());
            let done: Result<Collected, ObjectError> = blocking(move || match work {
                Work::Garbage => objects.collect_garbage(),
                Work::Sweep => objects.count_usage().and_then(|()| objects.sweep()).map(|swept| {
                    tracing::info!(?swept, "leftovers are swept");
                    Collected::Gone
                }),
                Work::Usage => objects.note_usage().map(|()| Collected::Gone),
                Work::Lifecycle => objects.expire_on(&payload).map(|()| Collected::Gone),
            })
            .await;
            match done {
                Ok(Collected::Gone) => JobOutcome::Done,
                Ok(Collected::InUse) => JobOutcome::Retry("blobs are still being read".to_owned()),
                Err(error) => JobOutcome::Retry(error.to_string()),
            }
        })
    }
}
