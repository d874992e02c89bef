//! Commands that look at a server or its data folder.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::say;
use super::serve::plan;
use super::settings::Shell;
use crate::app::connect::Connect;
use crate::app::control::{self, ControlError};
use crate::app::{Folder, StartError, master, start};
use crate::base::{LocalDisk, SystemRandom};
use crate::crypto::Keyring;

/// Prints how apps reach the server.
pub(super) fn env(shell: Shell, json: bool) -> anyhow::Result<()> {
    let lines = match control::env(&shell.existing_data()) {
        Err(ControlError::NotRunning { .. }) => offline_env(shell)?,
        answered => answered?,
    };
    if json {
        let object: serde_json::Map<_, _> = lines.into_iter().map(|(name, value)| (name, value.into())).collect();
        return say(&format!("{}\n", serde_json::to_string_pretty(&object)?));
    }
    say(&lines.iter().fold(String::new(), |out, (name, value)| out + name + "=" + value + "\n"))
}

/// The same from a folder no server runs on; doors with port 0 have no address then.
fn offline_env(shell: Shell) -> anyhow::Result<Vec<(String, String)>> {
    let config = shell.load(&[])?.config;
    let data = shell.existing_data();
    let folder = Folder::open(&LocalDisk, &data)?;
    if !folder.has_data {
        return Err(StartError::NoFolder { path: data }.into());
    }
    let connect = Connect::configured(&config, folder.path());
    let plan = plan(data, config, shell.environment);
    let ground = start::open_ground(&plan, folder)?;
    let lines = connect.lines(&ground.keys, ground.users.first_token().as_ref());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    plan.supervisor.shutdown().drain();
    runtime.block_on(ground.state.close());
    plan.supervisor.join_threads();
    Ok(lines)
}

/// Prints what the server says about itself.
pub(super) fn status(shell: &Shell, json: bool) -> anyhow::Result<()> {
    let status = control::status(&shell.existing_data())?;
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    let state = match (status.draining, status.ready) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let mut out = format!(
        "mainstay {} is {state} (process {}, up {})\ndata {}\n",
        status.version,
        status.pid,
        crate::base::Span::secs(status.uptime_seconds),
        status.data.display()
    );
    // Writing into a String cannot fail.
    for door in &status.doors {
        let _ = writeln!(out, "  {:<15} {:<28} {}", door.setting, door.address, door.speaks);
    }
    for part in &status.parts {
        let answer = part.reason.as_deref().unwrap_or("works");
        let _ = writeln!(out, "  {:<15} {answer}", part.name);
    }
    say(&out)
}

/// Succeeds when the server is ready.
pub(super) fn healthcheck(shell: &Shell) -> anyhow::Result<()> {
    let status = control::status(&shell.existing_data())?;
    if status.ready {
        return Ok(());
    }
    let failing: Vec<String> = status
        .parts
        .iter()
        .filter_map(|part| part.reason.as_ref().map(|reason| format!("{}: {reason}", part.name)))
        .collect();
    let reason = if failing.is_empty() { String::from("the server is stopping") } else { failing.join("; ") };
    bail!("not ready: {reason}")
}

/// Prints the master key. Works beside a running server: the keyring is only read.
pub(super) fn key_export(shell: &Shell) -> anyhow::Result<()> {
    let data = shell.existing_data();
    if !data.exists() {
        return Err(StartError::NoFolder { path: data }.into());
    }
    let source = master::source(&LocalDisk, &shell.environment)?;
    // `has_data`: a missing ring is an error here, never made.
    let keyring = Keyring::open(Arc::new(LocalDisk), Arc::new(SystemRandom), &data, source, true)
        .context("the master key cannot be exported")?;
    say(&format!("{}\n", keyring.export().expose()))
}
