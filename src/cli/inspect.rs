//! Commands that look at a server or its data folder.

use std::fmt::Write as _;

use anyhow::bail;

use super::say;
use super::serve::plan;
use super::settings::Shell;
use crate::app::connect::Connect;
use crate::app::control::{self, ControlError};
use crate::app::{Folder, StartError, start};
use crate::base::{ByteSize, LocalDisk};
use crate::monitor::CacheView;

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
    if let Some(cache) = &status.cache {
        out.push_str(&kept(cache));
    }
    say(&out)
}

/// The lines of what the edge keeps of apps' answers.
fn kept(cache: &CacheView) -> String {
    let CacheView { hits, misses, memory, disk, .. } = cache;
    let used = |answers: u64, bytes: u64, limit: u64| {
        let plural = if answers == 1 { "" } else { "s" };
        format!("{answers} answer{plural}, {} of {}", ByteSize(bytes), ByteSize(limit))
    };
    let held = used(memory.answers, memory.bytes, memory.limit_bytes);
    let mut out = format!("  {:<15} {held}; {hits} of {} requests answered\n", "cache", hits.saturating_add(*misses));
    if let Some(disk) = disk {
        let held = used(disk.answers, disk.bytes, disk.limit_bytes);
        let state = disk.error.as_deref().unwrap_or(disk.state.title());
        let refuses = if disk.error.is_some() { "nothing is stored: " } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(out, "  {:<15} {held}; read {} times; {refuses}{state}", "cache on disk", disk.hits);
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{DiskState, DiskView, MemoryView};

    #[test]
    fn kept_answers_are_told_with_the_disk_and_why_it_refuses() {
        let memory = MemoryView { answers: 1, bytes: 2 << 20, limit_bytes: 32 << 20 };
        let mut cache = CacheView { sites: 1, hits: 3, misses: 4, memory, disk: None };
        assert_eq!(kept(&cache), "  cache           1 answer, 2 MiB of 32 MiB; 3 of 7 requests answered\n");
        let (limit_bytes, error) = (4 << 30, Some("no storage space".to_owned()));
        let state = DiskState::Refusing;
        cache.disk = Some(DiskView { answers: 2, bytes: 0, limit_bytes, hits: 5, passed: 6, state, error });
        let told = kept(&cache);
        let last = told.lines().last().unwrap();
        assert_eq!(
            last,
            "  cache on disk   2 answers, 0 B of 4 GiB; read 5 times; nothing is stored: no storage space"
        );
    }
}
