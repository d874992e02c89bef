//! From ready to gone: the signals, the drain, the last commits.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Running;
use super::notify::News;
use crate::base::supervise::Role;
use crate::base::{Shutdown, program};

/// How long threads and files have to close after the drain.
const CLOSING: Duration = Duration::from_secs(10);

/// How long tasks have to end once they were told to drop what is left.
const FORCED: Duration = Duration::from_secs(2);

/// How long after the start what it used is let go of.
const SETTLED: Duration = Duration::from_secs(2);

/// Time between two times the program's pages are let go of.
const RELEASE: Duration = Duration::from_mins(5);

/// The signals that stop the server, or have it read its settings again. Made first of all: as process 1 of a container the kernel ignores SIGTERM until
/// somebody handles it.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether a terminal was there at the start.
    terminal: bool,
}

/// What a signal wants.
#[derive(Clone, Copy, Debug)]
enum Told {
    Stop(&'static str),
    Reload,
}

impl Signals {
    /// Takes the signals over. Must run inside a runtime.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            terminal: io::stderr().is_terminal(),
        })
    }

    /// The next of them. Cancel safe.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            // Also sent when the terminal goes away, with which the server was meant to go.
            _ = self.hang_up.recv() => {
                if self.terminal && !io::stderr().is_terminal() { Told::Stop("SIGHUP") } else { Told::Reload }
            }
        }
    }

    /// The next that stops, by name. Cancel safe.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Told::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}

/// Lets go of the program's pages that only the start needed, and later of what a backup or a settings page has left.
async fn release_program(shutdown: Shutdown) {
    let mut pause = SETTLED;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.draining() => return,
        }
        match tokio::task::spawn_blocking(program::release).await {
            Ok(Ok(_bytes)) => pause = RELEASE,
            Ok(Err(error)) => return tracing::debug!(%error, "the program's pages stay as they are"),
            Err(_stopped) => return,
        }
    }
}

/// Serves until a signal or a failure (SIGHUP reads the settings again), then drains for at most `limit`; a second signal ends the drain at once.
///
/// # Errors
/// Why the server had to stop by itself.
pub async fn run(running: Running, mut signals: Signals, limit: Duration) -> Result<(), String> {
    let shutdown = running.supervisor.shutdown().clone();
    running.notifier.tell(News::Ready);
    running.supervisor.task("program memory", Role::Ordinary, release_program(shutdown.clone()));
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::Stop(name) => {
                    tracing::info!(signal = name, "stopping: finishing what is under way");
                    break;
                }
                Told::Reload => {
                    let reloader = Arc::clone(&running.facts.reloader);
                    running.supervisor.task("reload", Role::Ordinary, async move {
                        // It has logged what came of it.
                        let _ = reloader.reload().await;
                    });
                }
            },
            () = shutdown.draining() => break,
        }
    }
    shutdown.drain();
    running.notifier.tell(News::Stopping);
    let drained = tokio::select! {
        drained = running.supervisor.tasks_ended(limit) => drained,
        name = signals.stop() => {
            tracing::warn!(signal = name, "second signal: dropping what is left");
            false
        }
    };
    shutdown.force();
    if !drained && !running.supervisor.tasks_ended(FORCED).await {
        tracing::warn!(tasks = running.supervisor.tasks(), "some work was cut off");
    }
    close(running).await;
    match shutdown.failure() {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(reason) => Err(reason),
    }
}

/// Last counts and commits, threads, sockets; then the folder's lock.
async fn close(running: Running) {
    let closing = async {
        if let Err(error) = running.analytics.finish().await {
            tracing::error!(%error, "the last counts of pages are lost");
        }
        for store in &running.stores {
            store.close().await;
        }
        let supervisor = running.supervisor.clone();
        // The panic of a thread was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || supervisor.join_threads()).await;
    };
    if tokio::time::timeout(CLOSING, closing).await.is_err() {
        tracing::error!("some threads did not end in time; the next start will look through their files");
    }
    for path in &running.socket_files {
        // Left behind it would only be replaced at the next start.
        let _ = running.disk.remove_file(path);
    }
    drop(running.folder);
}
