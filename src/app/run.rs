//! From ready to gone: the signals, the drain, the last commits; or another process in the place of this one.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Running;
use super::handover::learned::{Learning, heard};
use super::handover::predecessor::{Predecessor, Prepared, Taken};
use super::handover::request::{Teller, Upgraded, Wanted};
use super::notify::News;
use super::status::VERSION;
use crate::base::supervise::Role;
use crate::base::{Shutdown, Supervisor, program};
use crate::store::StoreError;

/// How long threads and files have to close after the drain.
const CLOSING: Duration = Duration::from_secs(10);

/// How long tasks have to end once they were told to drop what is left.
const FORCED: Duration = Duration::from_secs(2);

/// How long a process whose place was taken finishes what is open once it is told to stop: if the one in its place has
/// crashed, a service manager waits for this one before it starts the service again.
const PARTING: Duration = Duration::from_secs(5);

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

/// How long what is under way may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the server stops.
    pub drain: Duration,
    /// What is open on the edge, when another process has taken over.
    pub linger: Duration,
}

/// Serves until a signal, a failure or another process in its place (SIGHUP reads the settings again), then drains within
/// `limits`; a second signal ends the drain at once.
///
/// # Errors
/// Why the server had to stop by itself.
pub async fn run(mut running: Running, mut signals: Signals, limits: Limits) -> Result<(), String> {
    let (shutdown, connections) = (running.supervisor.shutdown().clone(), running.connections.shutdown().clone());
    if !running.took_over {
        // Else the process before tells of the change: nobody listens to this one before.
        running.notifier.tell(News::Ready);
    }
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
            () = connections.draining() => break,
            never = heard(&mut running.before) => match never {},
            Some(Wanted { program, mut told }) = running.wanted.recv() => {
                let prepared = tokio::select! {
                    prepared = running.predecessor.prepare(program, &mut told) => prepared,
                    name = signals.stop() => {
                        tracing::info!(signal = name, "stopping instead of being replaced: finishing what is under way");
                        told.end(Err("the server was told to stop meanwhile".to_owned())).await;
                        break;
                    }
                    () = shutdown.draining() => break,
                };
                match prepared {
                    Ok(prepared) => return hand_over(running, prepared, told, signals, limits).await,
                    Err(reason) => {
                        tracing::warn!(reason, "the server is not replaced");
                        running.predecessor.counts.failed.inc();
                        told.end(Err(reason)).await;
                    }
                }
            }
        }
    }
    // Nobody is to wait in a queue that nobody will look into.
    running.predecessor.kept.close();
    shutdown.drain();
    connections.drain();
    running.notifier.tell(News::Stopping);
    let both = async {
        let (services, edge) =
            tokio::join!(running.supervisor.tasks_ended(limits.drain), running.connections.tasks_ended(limits.drain));
        services && edge
    };
    let drained = tokio::select! {
        drained = both => drained,
        name = signals.stop() => {
            tracing::warn!(signal = name, "second signal: dropping what is left");
            false
        }
    };
    shutdown.force();
    connections.force();
    if !drained {
        let (services, edge) =
            tokio::join!(running.supervisor.tasks_ended(FORCED), running.connections.tasks_ended(FORCED));
        if !(services && edge) {
            let tasks = running.supervisor.tasks() + running.connections.tasks();
            tracing::warn!(tasks, "some work was cut off");
        }
    }
    if !(closed(&running, running.analytics.close()).await && joined(&running.connections).await) {
        tracing::error!("some threads did not end in time; the next start will look through their files");
    }
    for path in &running.socket_files {
        // Left behind it would only be replaced at the next start.
        let _ = running.disk.remove_file(path);
    }
    drop(running.folder);
    match shutdown.failure().or(connections.failure()) {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(reason) => Err(reason),
    }
}

/// Gives the data folder to the process that is `prepared`, and carries on what is open on the edge until it ends.
///
/// # Errors
/// Nobody has the data folder now: the service manager has to start the server again.
async fn hand_over(
    mut running: Running,
    prepared: Prepared,
    mut told: Teller,
    mut signals: Signals,
    limits: Limits,
) -> Result<(), String> {
    let (release, pid) = (prepared.release.clone(), prepared.pid);
    tracing::info!(release, pid, "another process waits to take over: finishing what uses the data folder");
    told.step(&format!("process {pid} waits to take over; finishing what uses the data folder")).await;
    if let Some(edge) = &running.facts.edge {
        edge.leave_doors_to(running.predecessor.back_door());
    }
    let cache = running.facts.edge.as_ref().map(|edge| Arc::clone(edge.cache()));
    let (bans, analytics) = (running.facts.bans.clone(), running.analytics.clone());
    let mut learning = Learning::begin(bans, analytics, cache.as_deref(), running.before.take());
    let shutdown = running.supervisor.shutdown().clone();
    shutdown.drain();
    let drained = tokio::select! {
        drained = running.supervisor.tasks_ended(limits.drain) => drained,
        name = signals.stop() => {
            tracing::warn!(signal = name, "a signal: dropping what uses the data folder");
            false
        }
    };
    shutdown.force();
    if !drained && !running.supervisor.tasks_ended(FORCED).await {
        tracing::warn!(tasks = running.supervisor.tasks(), "some work was cut off");
    }
    let closed = closed(&running, running.analytics.leave()).await;
    let Running { folder, connections, notifier, predecessor, facts, stores, .. } = running;
    // What is left of the services need not stay in memory for as long as connections do.
    if let Some(cache) = cache {
        cache.empty_memory();
    }
    drop((facts, stores));
    let served = if closed {
        drop(folder);
        told.step(&format!("the data folder is free; process {pid} opens it")).await;
        served_by(prepared, &predecessor, &mut told, &mut learning).await
    } else {
        drop(prepared);
        Err("some threads did not end in time, so the data folder cannot be handed over".to_owned())
    };
    let Served { by, outcome } = match served {
        Ok(served) => served,
        Err(reason) => {
            tracing::error!(reason, "nobody has the data folder; stopping, so that the service is started again");
            told.end(Err(format!("{reason}; the server stops, to be started again by its service manager"))).await;
            predecessor.kept.close();
            finish(&connections, &mut signals, Limits { linger: Duration::ZERO, ..limits }).await;
            return Err(reason);
        }
    };
    notifier.tell(News::Moved(by.pid));
    tracing::info!(release = by.release, pid = by.pid, "another process serves; this one carries on what is open");
    let from = VERSION.to_owned();
    let linger_seconds = limits.linger.as_secs();
    told.end(outcome.map(|()| Upgraded { from, to: by.release, pid: by.pid, linger_seconds })).await;
    predecessor.kept.close();
    learning.beside(finish(&connections, &mut signals, limits)).await;
    learning.end().await;
    tracing::info!("what was open has ended; this process's place was taken before");
    Ok(())
}

/// Who serves now.
struct Served {
    by: Taken,
    /// Whether that is whom it was meant to be.
    outcome: Result<(), String>,
}

/// Lets the process that is `prepared` serve; if it fails, the program of this one again.
///
/// # Errors
/// Nobody serves.
async fn served_by(
    prepared: Prepared,
    predecessor: &Predecessor,
    told: &mut Teller,
    learning: &mut Learning,
) -> Result<Served, String> {
    let release = prepared.release.clone();
    let reason = match given_turn(prepared, learning).await {
        Ok(by) => return Ok(Served { by, outcome: Ok(()) }),
        Err(reason) => reason,
    };
    tracing::error!(release, reason, "the new program does not take over; the program before is started again");
    told.step(&format!("Mainstay {release} does not take over: {reason}")).await;
    told.step("starting the program before again").await;
    let again = match predecessor.prepare_same().await {
        Ok(prepared) => given_turn(prepared, learning).await,
        Err(reason) => Err(reason),
    };
    let failed = format!("Mainstay {release} did not take over: {reason}");
    match again {
        Ok(by) => {
            let outcome = Err(format!("{failed}; the program before goes on as process {}", by.pid));
            Ok(Served { by, outcome })
        }
        Err(again) => Err(format!("{failed}; and the program before does not start again: {again}")),
    }
}

/// Has the process that is `prepared` open the data folder, and tells it what is learned meanwhile.
///
/// # Errors
/// As [`Prepared::give_turn`].
async fn given_turn(prepared: Prepared, learning: &mut Learning) -> Result<Taken, String> {
    learning.tell(prepared.channel());
    let taken = learning.beside(prepared.give_turn()).await;
    if taken.is_ok() {
        learning.told();
    } else {
        learning.not_told();
    }
    taken
}

/// Carries on what is open on the edge: until it has ended, for `limits.linger`, or until a signal and then for
/// `limits.drain`, at most [`PARTING`].
async fn finish(connections: &Supervisor, signals: &mut Signals, limits: Limits) {
    let shutdown = connections.shutdown().clone();
    shutdown.leave();
    let ended = tokio::select! {
        ended = connections.tasks_ended(limits.linger) => ended,
        name = signals.stop() => {
            tracing::info!(signal = name, "stopping: finishing what is under way");
            shutdown.drain();
            connections.tasks_ended(limits.drain.min(PARTING)).await
        }
        () = shutdown.draining() => false,
    };
    shutdown.force();
    if !ended && !connections.tasks_ended(FORCED).await {
        tracing::warn!(tasks = connections.tasks(), "some work was cut off");
    }
    if !joined(connections).await {
        tracing::warn!("some threads of the edge did not end in time");
    }
}

/// Last `counts` and commits, then threads; says whether all ended in time.
async fn closed(running: &Running, counts: impl Future<Output = Result<(), StoreError>>) -> bool {
    let closing = async {
        if let Err(error) = counts.await {
            tracing::error!(%error, "the last counts of pages are lost");
        }
        for store in &running.stores {
            store.close().await;
        }
    };
    tokio::time::timeout(CLOSING, closing).await.is_ok() && joined(&running.supervisor).await
}

/// Waits for the threads of `supervisor`; says whether all ended in time.
async fn joined(supervisor: &Supervisor) -> bool {
    let supervisor = supervisor.clone();
    // The panic of a thread was reported when it happened.
    let joining = tokio::task::spawn_blocking(move || supervisor.join_threads());
    tokio::time::timeout(CLOSING, joining).await.is_ok()
}
