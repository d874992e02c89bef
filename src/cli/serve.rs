//! `mainstay serve`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::arguments::ServeFlags;
use super::settings::Shell;
use crate::accounts::By;
use crate::app::control_people::{LinkWanted, make_link};
use crate::app::handover::launch::{Program, Stage, relaunch};
use crate::app::handover::successor::{Successor, standard_input};
use crate::app::inherited::Inherited;
use crate::app::reload::Source;
use crate::app::run::{Limits, Signals, run};
use crate::app::{Plan, Running, own_errors, start};
use crate::base::{LocalDisk, Shutdown, Supervisor, SystemClock, SystemRandom};
use crate::config::{self, Config, Environment};
use crate::monitor::SettingViews;
use crate::telemetry::own_errors::PANIC;
use crate::telemetry::{Metrics, OwnErrors, logs};

/// Threads of the general runtime: HTTP doors, checks, jobs. The edge and the keyspace have their own.
const WORKERS: usize = 2;

/// Most threads that wait for the disk at once.
const BLOCKING: usize = 32;

/// How long the runtime's last blocking calls may take when everything else is closed.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Runs the server until it is told to stop, in the place of another process if one has started it for that.
pub(super) fn serve(shell: Shell, flags: &ServeFlags) -> anyhow::Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let stage = shell.environment.handover.as_deref().map(Stage::of).transpose().map_err(anyhow::Error::msg)?;
    let no_channel = "the process before left no way to it on the standard input";
    match stage {
        None => serve_as(shell, flags, arguments, None, None),
        Some(Stage::Launch) => relaunch(&arguments, standard_input().context(no_channel)?)
            .context("the program cannot be started in the place of the process before"),
        Some(Stage::Serve) => {
            let (successor, sockets) = Successor::begin(standard_input().context(no_channel)?)?;
            // What it was started by may have had no name.
            let _ = rustix::thread::set_name(c"mainstay");
            let outcome = serve_as(shell, flags, arguments, Some(&successor), Some(sockets));
            if let Err(error) = &outcome {
                successor.failed(&format!("{error:#}"));
            }
            outcome
        }
    }
}

/// Runs the server: on the sockets of a process before, as its successor, or by itself.
fn serve_as(
    shell: Shell,
    flags: &ServeFlags,
    arguments: Vec<OsString>,
    successor: Option<&Successor>,
    sockets: Option<Inherited>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_name("general")
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let entered = runtime.enter();
    // Before anything else, so that no signal is missed.
    let signals = Signals::install().context("the signals cannot be handled")?;
    let loaded = shell.load(&flags.settings())?;
    let data = shell.data();
    let terminal = std::io::stderr().is_terminal();
    let settings = config::view(&loaded.config, &loaded.origins);
    let source = source(&shell, flags.settings());
    let program = Program::of_this_process(arguments, shell.config.clone());
    let settings = SettingViews::new(settings);
    let plan = Plan { settings, source, program, ..plan(data, loaded.config, shell.environment) };
    let coloured = terminal && !plan.environment.no_colour;
    let (own, captured) = own_errors::capture(&plan).unzip();
    let log = logs::start(&plan.config.log, coloured, Arc::clone(&plan.clock), &plan.metrics, own.clone())?;
    log_panics(own);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let inherited = sockets.unwrap_or_else(|| Inherited::take(&plan.environment.socket_names));
    let outcome = start(&plan, inherited, successor).map_err(anyhow::Error::from).and_then(|running| {
        if let Some(captured) = captured {
            own_errors::start(&plan, running.facts.issues.clone(), captured)?;
        }
        if let Some(successor) = successor {
            successor.ready();
            tracing::info!(upgrades = successor.past.done, "this process has taken over from the one before");
        }
        log.flush();
        let link = if terminal { setup_link(&runtime, &running)? } else { None };
        greet(&running, terminal, link.as_deref());
        let limits =
            Limits { drain: plan.config.server.drain.duration(), linger: plan.config.server.linger.duration() };
        runtime.block_on(run(running, signals, limits)).map_err(anyhow::Error::msg)
    });
    drop(entered);
    runtime.shutdown_timeout(LAST_CALLS);
    log.flush();
    outcome
}

/// The settings as they are read while the server runs: from the file, with what the environment and the flags said at the
/// start.
fn source(shell: &Shell, flags: Vec<(&'static str, &'static str, String)>) -> Source {
    let environment = Environment { settings: shell.environment.settings.clone(), ..Environment::default() };
    let shell = Shell { environment, config: shell.config.clone(), data: None };
    Source::new(move || {
        let loaded = shell.load(&flags).map_err(|error| format!("{error:#}"))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let views = config::view(&loaded.config, &loaded.origins);
        Ok((loaded.config, views))
    })
}

/// A plan with the machine's own clock, randomness and disk.
pub(super) fn plan(data: PathBuf, config: Config, environment: Environment) -> Plan {
    let metrics = Metrics::new();
    let supervisor = Supervisor::new(Shutdown::new());
    let connections = Supervisor::new(Shutdown::new());
    Plan {
        data,
        config,
        settings: SettingViews::default(),
        source: Source::default(),
        environment,
        clock: Arc::new(SystemClock::new()),
        random: Arc::new(SystemRandom),
        disk: Arc::new(LocalDisk),
        metrics,
        supervisor,
        connections,
        program: Program::default(),
    }
}

/// A panic becomes one log line and one captured error; the supervisor decides what it means.
fn log_panics(own: Option<OwnErrors>) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(target: PANIC, place, "panic: {}", text.unwrap_or("without a message"));
        if let Some(own) = &own {
            own.panic(panic);
        }
    }));
}

/// The address that sets up a server that has no account yet. Made at every start somebody looks at.
fn setup_link(runtime: &tokio::runtime::Runtime, running: &Running) -> anyhow::Result<Option<String>> {
    let facts = &running.facts;
    if facts.users.is_claimed() || facts.connect.console.is_none() {
        return Ok(None);
    }
    let link = runtime.block_on(make_link(&facts.users, &facts.connect, &LinkWanted::SetUp, &By::command_line()))?;
    Ok(Some(link))
}

/// Tells what listens where; on a terminal, at the first start, also the credentials. Elsewhere secrets would land in a
/// journal.
fn greet(running: &Running, terminal: bool, setup_link: Option<&str>) {
    let facts = &running.facts;
    let data = facts.data.display().to_string();
    if !terminal {
        for door in &facts.doors {
            tracing::info!(setting = door.setting, address = door.address, "listening");
        }
        if !facts.users.is_claimed() {
            tracing::info!("this server has no account yet: `mainstay setup-link` prints the link that makes one");
        }
        tracing::info!(data, "ready; `mainstay env` prints how apps reach this server");
        return;
    }
    let mut out = format!("\nMainstay {} is ready. Data in {data}\n\n", crate::app::status::VERSION);
    // Writing into a String cannot fail.
    for door in &facts.doors {
        let _ = writeln!(out, "  {:<15} {:<28} {}", door.setting, door.address, door.speaks);
    }
    if running.first_start {
        out.push_str("\nFor your app's .env (again with `mainstay env`):\n\n");
        for (name, value) in facts.env() {
            let _ = writeln!(out, "{name}={value}");
        }
        out.push_str("\nThe master key is in the data folder. Keep a copy elsewhere: `mainstay key export`\n");
    } else {
        out.push_str("\n`mainstay env` prints how apps reach this server.\n");
    }
    if let Some(link) = setup_link {
        let _ = writeln!(out, "\nThis server has no account yet. Make yours within 24 hours:\n\n  {link}");
    }
    // Nobody reads it when this fails.
    let _ = writeln!(std::io::stderr(), "{out}");
}
