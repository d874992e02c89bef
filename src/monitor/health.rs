//! Whether each part works.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};

use crate::base::Shutdown;
use crate::store::{Store, StoreHealth};

/// Longest time one part may take to answer; then it counts as not working.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks one part whether it works; `Err` says why not.
type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What it means for the server when a part fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is not ready.
    Needed,
    /// Somebody has to look; it is no less ready, and a restart would mend nothing.
    Told,
}

/// One part of the server that can fail by itself.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    weight: Weight,
    probe: Probe,
}

impl Check {
    /// A part called `name`. `probe` reads only, and costs little: strangers may ask for it.
    pub fn new(
        name: &'static str,
        probe: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, weight: Weight::Needed, probe: Arc::new(probe) }
    }

    /// The same, but the server is ready also while it fails: shown as failing wherever parts are shown, and no reason to
    /// send requests elsewhere or to start the server again.
    #[must_use]
    pub fn only_told(self) -> Self {
        Self { weight: Weight::Told, ..self }
    }

    /// The store behind a data file.
    pub fn store(store: Store) -> Self {
        Self::new(store.file(), move || {
            let store = store.clone();
            Box::pin(async move {
                match store.health().await {
                    StoreHealth::Well => Ok(()),
                    StoreHealth::Full => Err(String::from("the disk is full: reading only")),
                    StoreHealth::ReadOnly { reason } => Err(format!("reading only until restart: {reason}")),
                    StoreHealth::Closed => Err(String::from("closed")),
                }
            })
        })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

/// What one part answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The part.
    pub name: String,
    /// Whether it works.
    pub ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What all parts answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether every part that requests need works and the server is not stopping.
    pub ready: bool,
    /// Whether the server is stopping.
    pub draining: bool,
    /// Each part.
    pub parts: Vec<Part>,
}

impl Report {
    /// Whether every part works, needed or not.
    pub fn is_well(&self) -> bool {
        self.ready && self.parts.iter().all(|part| part.ready)
    }
}

/// All parts. Clones share them.
#[derive(Clone, Debug)]
pub struct Checks {
    parts: Arc<[Check]>,
    shutdown: Shutdown,
    patience: Duration,
}

impl Checks {
    /// The `parts` of a server that stops with `shutdown`.
    pub fn new(parts: Vec<Check>, shutdown: Shutdown) -> Self {
        Self { parts: parts.into(), shutdown, patience: PATIENCE }
    }

    /// Asks every part, all at once, for at most five seconds. Cancel safe.
    pub async fn report(&self) -> Report {
        let parts = join_all(self.parts.iter().map(|check| async move {
            let answer = tokio::time::timeout(self.patience, (check.probe)()).await;
            let reason = answer.unwrap_or_else(|_elapsed| Err(String::from("no answer in five seconds"))).err();
            Part { name: check.name.to_owned(), ready: reason.is_none(), reason }
        }))
        .await;
        let draining = self.shutdown.is_draining();
        let mut weighed = self.parts.iter().zip(&parts);
        let works = weighed.all(|(check, part)| part.ready || check.weight == Weight::Told);
        Report { ready: !draining && works, draining, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory_store;

    fn failing() -> Check {
        Check::new("disk", || Box::pin(async { Err(String::from("gone")) }))
    }

    #[tokio::test]
    async fn one_failing_part_makes_the_whole_not_ready() {
        let store = memory_store();
        let good = Checks::new(vec![Check::store(store.clone())], Shutdown::new());
        assert!(good.report().await.ready);
        let bad = Checks::new(vec![Check::store(store.clone()), failing()], Shutdown::new()).report().await;
        assert!(!bad.ready && bad.parts[0].ready);
        assert_eq!(bad.parts[1].reason.as_deref(), Some("gone"));
        store.close().await;
        assert_eq!(good.report().await.parts[0].reason.as_deref(), Some("closed"));
    }

    #[tokio::test]
    async fn a_failing_part_that_is_only_told_of_leaves_the_server_ready() {
        let report = Checks::new(vec![failing().only_told()], Shutdown::new()).report().await;
        assert!(report.ready && !report.is_well());
        assert_eq!(report.parts[0].reason.as_deref(), Some("gone"));
    }

    #[tokio::test]
    async fn a_part_that_does_not_answer_is_not_ready() {
        let stuck = Check::new("stuck", || Box::pin(std::future::pending()));
        let checks = Checks { patience: Duration::ZERO, ..Checks::new(vec![stuck], Shutdown::new()) };
        assert!(!checks.report().await.ready);
    }

    #[tokio::test]
    async fn a_stopping_server_is_not_ready() {
        let shutdown = Shutdown::new();
        let checks = Checks::new(Vec::new(), shutdown.clone());
        assert!(checks.report().await.ready);
        shutdown.drain();
        assert!(!checks.report().await.ready);
    }
}
