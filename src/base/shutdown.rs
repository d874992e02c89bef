//! How a running server is told to stop: drain first, force later.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Where the process is in its life. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Another process has taken over: nothing new is accepted, and what is open is served on to its own end.
    Leaving,
    /// Not ready, not accepting; work under way is finished.
    Draining,
    /// The drain's time is over: drop what is left, keep only what is durable.
    Forced,
}

/// The stop signal, shared by everything that runs. Clones are the same signal.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    phase: watch::Sender<Phase>,
    /// Whether the phase is past [`Phase::Running`], to be read at every answer without a lock.
    leaving: AtomicBool,
    failure: Mutex<Option<String>>,
    wakers: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl Shutdown {
    /// A signal in phase [`Phase::Running`].
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            phase: watch::channel(Phase::Running).0,
            leaving: AtomicBool::new(false),
            failure: Mutex::new(None),
            wakers: Mutex::new(Vec::new()),
        }))
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Whether the server has begun to stop.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Whether nothing new is accepted any more: another process has taken over, or the server has begun to stop.
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Acquire)
    }

    /// Leaves what is new to another process.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    /// Begins to stop.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends the drain: whoever waits for it drops what is left.
    pub fn force(&self) {
        self.advance(Phase::Forced);
    }

    /// Begins to stop because `reason` makes going on impossible; the process then ends with exit code 1.
    pub fn fail(&self, reason: impl Into<String>) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.into());
        self.drain();
    }

    /// Why the server had to stop, if it was no ordinary stop.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns once nothing new is to be accepted. Cancel safe.
    pub async fn leaving(&self) {
        self.reached(Phase::Leaving).await;
    }

    /// Returns once the server begins to stop. Cancel safe.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns once the drain's time is over. Cancel safe.
    pub async fn forced(&self) {
        self.reached(Phase::Forced).await;
    }

    /// Calls `wake` at every change of phase, for event loops that wait on something else than futures.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(wake));
    }

    async fn reached(&self, phase: Phase) {
        let mut watch = self.0.phase.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = watch.wait_for(|now| *now >= phase).await;
    }

    fn advance(&self, phase: Phase) {
        let moved = self.0.phase.send_if_modified(|now| {
            let forward = phase > *now;
            if forward {
                *now = phase;
                // Here, where nobody sees the phase yet: who ends because of it must not look like one that has failed.
                self.0.leaving.store(true, Ordering::Release);
            }
            forward
        });
        if moved {
            for wake in self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                wake();
            }
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shutdown").field(&self.phase()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward_and_wake_everyone() {
        let shutdown = Shutdown::new();
        let calls = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&calls);
        shutdown.on_change(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        });
        shutdown.force();
        shutdown.drain();
        shutdown.draining().await;
        shutdown.forced().await;
        assert_eq!(shutdown.phase(), Phase::Forced);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_leaves_does_not_stop_yet() {
        let shutdown = Shutdown::new();
        shutdown.leave();
        shutdown.leaving().await;
        assert!(shutdown.is_leaving() && !shutdown.is_draining());
        shutdown.drain();
        shutdown.draining().await;
        assert!(shutdown.is_leaving());
    }

    #[test]
    fn the_first_failure_is_the_reason() {
        let shutdown = Shutdown::new();
        shutdown.fail("disk");
        shutdown.fail("later");
        assert!(shutdown.is_draining());
        assert_eq!(shutdown.failure().as_deref(), Some("disk"));
    }
}
