//! Named tasks and threads, and what happens when one dies.
//!
//! A *critical* task or thread is a part the server cannot be without (a listener, a writer). When it ends or panics
//! before the server stops, the server stops too, with exit code 1, and the service manager starts it afresh. An
//! *ordinary* one (a connection, a job) may end; its panic is logged and counted and concerns nobody else.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Shutdown;

/// Whether the server can go on without a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its end before the stop is the server's end.
    Critical,
    /// Its end concerns nobody else.
    Ordinary,
}

/// How much of the processor a thread may claim beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Answers clients.
    Normal,
    /// Works in the background: `nice` 10.
    Low,
}

/// Starts tasks and threads, and knows when all have ended. Clones share one account.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    shutdown: Shutdown,
    tasks: TaskTracker,
    threads: Mutex<Vec<(String, JoinHandle<()>)>>,
    panics: AtomicU64,
}

/// Counts as a task until it is dropped.
#[derive(Debug)]
pub struct Hold {
    _counted: TaskTrackerToken,
}

/// Bytes of stack of a thread; only what is used takes memory. Twice the usual: a script's nested tables are written out by
/// recursion, a thousand deep.
const STACK: usize = 4 << 20;

impl Supervisor {
    /// A supervisor whose critical parts end `shutdown` when they end.
    pub fn new(shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner {
            shutdown,
            tasks: TaskTracker::new(),
            threads: Mutex::new(Vec::new()),
            panics: AtomicU64::new(0),
        }))
    }

    /// The stop signal everything started here should listen to.
    pub fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }

    /// Panics caught so far, for the metrics.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Tasks alive now, for the metrics.
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// Counts as a task of this supervisor until it is dropped: for one that is another's, as long as it needs what ends here.
    pub fn hold(&self) -> Hold {
        Hold { _counted: self.0.tasks.token() }
    }

    /// Starts `future` on the current runtime under `name`.
    pub fn task(&self, name: &'static str, role: Role, future: impl Future<Output = ()> + Send + 'static) {
        let guard = Guard { inner: Arc::clone(&self.0), name, role, finished: false };
        // An async block that awaits it would have room for it twice, in every connection.
        let tracked = self.0.tasks.track_future(future.map(move |()| guard.finish()));
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        tokio::spawn(tracked);
    }

    /// Starts `work` on its own thread called `name` (the kernel shows 15 bytes of it).
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn thread(
        &self,
        name: &'static str,
        role: Role,
        priority: Priority,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let inner = Arc::clone(&self.0);
        let handle = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
            if priority == Priority::Low {
                // Linux keeps `nice` per thread; a refusal only costs the courtesy.
                let _ = rustix::process::nice(10);
            }
            let guard = Guard { inner, name, role, finished: false };
            if catch_unwind(AssertUnwindSafe(work)).is_ok() {
                guard.finish();
            }
        })?;
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), handle));
        Ok(())
    }

    /// Waits until every task has ended, at most `limit`; says whether all did. Cancel safe.
    pub async fn tasks_ended(&self, limit: Duration) -> bool {
        self.0.tasks.close();
        tokio::time::timeout(limit, self.0.tasks.wait()).await.is_ok()
    }

    /// Joins every thread. Blocks; call it after the stop signal, off the async threads.
    pub fn join_threads(&self) {
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for (_, handle) in threads {
            // A panic was already reported by the guard.
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("tasks", &self.tasks())
            .field("panics", &self.panics())
            .finish_non_exhaustive()
    }
}

/// Reports the end of a task, also when it ends by panic or is dropped with its runtime.
struct Guard {
    inner: Arc<Inner>,
    name: &'static str,
    role: Role,
    finished: bool,
}

impl Guard {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let stopping = self.inner.shutdown.is_leaving();
        if !self.finished && (std::thread::panicking() || !stopping) {
            self.inner.panics.fetch_add(1, Ordering::Relaxed);
            // The panic itself was reported, with its stack.
            tracing::error!(target: "mainstay::panic", task = self.name, "a task panicked");
        }
        if self.role == Role::Critical && !stopping {
            tracing::error!(task = self.name, "a part the server cannot be without has ended; stopping");
            self.inner.shutdown.fail(format!("{} ended", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_ordinary_task_concerns_nobody_else() {
        let supervisor = Supervisor::new(Shutdown::new());
        supervisor.task("bad", Role::Ordinary, async { panic!("on purpose") });
        assert!(supervisor.tasks_ended(Duration::from_secs(5)).await);
        assert_eq!(supervisor.panics(), 1);
        assert!(!supervisor.shutdown().is_draining());
    }

    #[tokio::test]
    async fn what_is_held_counts_as_a_task() {
        let supervisor = Supervisor::new(Shutdown::new());
        let hold = supervisor.hold();
        assert!(!supervisor.tasks_ended(Duration::ZERO).await);
        drop(hold);
        assert!(supervisor.tasks_ended(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn the_end_of_a_critical_task_stops_the_server() {
        let supervisor = Supervisor::new(Shutdown::new());
        supervisor.task("listener", Role::Critical, async {});
        supervisor.shutdown().draining().await;
        assert_eq!(supervisor.shutdown().failure().as_deref(), Some("listener ended"));
    }

    #[tokio::test]
    async fn a_panicking_critical_thread_stops_the_server() {
        let supervisor = Supervisor::new(Shutdown::new());
        supervisor.thread("writer", Role::Critical, Priority::Low, || panic!("on purpose")).unwrap();
        supervisor.shutdown().draining().await;
        supervisor.join_threads();
        assert_eq!(supervisor.panics(), 1);
    }
}
