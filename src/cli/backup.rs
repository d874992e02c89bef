//! `mainstay backup`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::runtime::Runtime;

use super::backup_arguments::{BackupCommand, Restore};
use super::backup_show::{self as show, Watcher};
use super::say;
use super::serve::plan;
use super::settings::Shell;
use crate::app::backups::Offline;
use crate::app::control::{self, ControlError};
use crate::app::{Folder, Plan, control_backup, master};
use crate::backup::own::SOURCE;
use crate::backup::own::restore::{self, Damage, REPORT, RestoreWorld, choose};
use crate::backup::own::single;
use crate::backup::service::open_target;
use crate::backup::{EntryPath, Filter, Progress, Repository, Retention, Unlock, VerifyLevel, run};
use crate::base::{Secret, disk};
use crate::config::Config;
use crate::crypto::MasterKey;
use crate::crypto::keyring::MasterSource;

/// Threads that carry the network for S3.
const WORKERS: usize = 2;

/// Most bytes of a file with a master key.
const KEY_MAX: u64 = 4096;

/// Runs `command`.
pub(super) fn backup(shell: Shell, command: BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Now { target, output } => now(shell, target.target.as_deref(), output.json),
        BackupCommand::Status { output } => {
            let status = control::backups(&shell.existing_data())?;
            tell(output.json, &status, &show::status(&status))
        }
        BackupCommand::Add { stdin, target, output } => add(shell, &stdin, target.target.as_deref(), output.json),
        BackupCommand::List { target, key, output } => {
            let bench = Bench::new(shell, target.target, key.key_file.as_deref())?;
            let lines: Vec<_> = bench.repository()?.snapshots()?.iter().rev().map(run::line).collect();
            tell(output.json, &lines, &show::list(&lines))
        }
        BackupCommand::Verify { target, read_data, key, output } => {
            verify(&Bench::new(shell, target.target, key.key_file.as_deref())?, read_data, output.json)
        }
        BackupCommand::Prune { target, dry_run, key, output } => {
            prune(&Bench::new(shell, target.target, key.key_file.as_deref())?, dry_run, output.json)
        }
        BackupCommand::Restore(wanted) => {
            let own = wanted.object.is_none() && wanted.folder.is_none() && wanted.stdin_name.is_none();
            let data = shell.data.clone();
            let bench = Bench::new(shell, wanted.from.target.clone(), wanted.key.key_file.as_deref())?;
            match data {
                Some(data) if own => whole(&bench, &data, &wanted),
                None if own => bail!("name the folder to restore into with --data; it must be empty, or not there yet"),
                _ => part(&bench, &wanted),
            }
        }
    }
}

fn now(shell: Shell, target: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let mut watcher = Watcher::new();
    let asked = control_backup::now(&shell.existing_data(), target.map(absolute), &mut |seen| watcher.run(seen));
    let report = match asked {
        Err(ControlError::NotRunning { .. }) => {
            let data = shell.existing_data();
            let plan = plan(data, shell.load(&[])?.config, shell.environment);
            let runtime = runtime()?;
            let offline = Offline::open(&plan, runtime.handle().clone())?;
            let made = offline.backups.run_here(target.map(absolute).as_deref());
            offline.close(&plan);
            made?
        }
        asked => asked?,
    };
    watcher.end();
    tell(as_json, &report, &show::report(&report))?;
    if report.is_complete() {
        return Ok(());
    }
    bail!("the backup is not complete: {}", show::missing(&report).join("; "))
}

fn add(shell: Shell, name: &str, target: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let mut watcher = Watcher::new();
    let mut input = std::io::stdin().lock();
    let data = shell.existing_data();
    let target = target.map(absolute);
    let line = match control_backup::add(&data, name, target.clone(), &mut input, &mut |seen| watcher.run(seen)) {
        Err(ControlError::NotRunning { .. }) => {
            let plan = plan(data, shell.load(&[])?.config, shell.environment);
            let runtime = runtime()?;
            let offline = Offline::open(&plan, runtime.handle().clone())?;
            let added = offline.backups.add_here(name, target.as_deref(), &mut input);
            offline.close(&plan);
            added?
        }
        asked => asked?,
    };
    watcher.end();
    tell(as_json, &line, &show::list(std::slice::from_ref(&line)))
}

/// The server may have another working directory.
fn absolute(target: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    std::path::absolute(target).map_or_else(|_| target.to_owned(), |path| path.display().to_string())
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all().build().context("the runtime does not start")
}

/// What commands on a repository need.
struct Bench {
    plan: Plan,
    target: String,
    master: MasterKey,
    runtime: Runtime,
}

impl Bench {
    fn new(shell: Shell, target: Option<String>, key_file: Option<&Path>) -> anyhow::Result<Self> {
        let config = shell.load(&[])?.config;
        let data = shell.existing_data();
        let master = master_key(&shell, key_file, &data)?;
        let target = target.unwrap_or_else(|| config.backup.target.clone());
        if target.is_empty() {
            bail!("name where the backups are with --from, or set backup.target");
        }
        Ok(Self { plan: plan(data, config, shell.environment), target, master, runtime: runtime()? })
    }

    fn config(&self) -> &Config {
        &self.plan.config
    }

    fn repository(&self) -> anyhow::Result<Repository> {
        let target = open_target(&self.target, &self.config().backup, &self.plan.disk, self.runtime.handle())?;
        let (clock, random) = (Arc::clone(&self.plan.clock), Arc::clone(&self.plan.random));
        Ok(Repository::open(target, &Unlock::MasterKey(&self.master), None, clock, random)?)
    }
}

/// The master key in `file`; without one, where the server finds it.
fn master_key(shell: &Shell, file: Option<&Path>, data: &Path) -> anyhow::Result<MasterKey> {
    let local = crate::base::LocalDisk;
    let named = data.join("keys").join("master.key");
    let path = match file {
        Some(file) => file,
        None => match master::source(&local, &shell.environment)? {
            MasterSource::Given { key, .. } | MasterSource::Changed { key, .. } => return Ok(key),
            MasterSource::Folder => &named,
        },
    };
    let bytes = disk::read_file(&local, path, KEY_MAX).with_context(|| format!("{}", path.display()))?;
    let Some(bytes) = bytes else {
        bail!("there is no master key at {}; name its file with --key-file", path.display());
    };
    let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    MasterKey::parse(text.expose()).with_context(|| format!("{}", path.display()))
}

fn verify(bench: &Bench, read_data: bool, as_json: bool) -> anyhow::Result<()> {
    let level = if read_data { VerifyLevel::ReadData } else { VerifyLevel::Structure };
    let repository = bench.repository()?;
    let report = show::watched("checking", |progress: &Progress| repository.verify(level, progress))??;
    let text = show::verified(&report);
    tell(as_json, &show::verified_json(&report), &text)?;
    if report.is_well() {
        return Ok(());
    }
    bail!(
        "found wrong: {}; files that need what is damaged: {}",
        report.findings.len(),
        report.files.len() as u64 + report.files_more
    )
}

fn prune(bench: &Bench, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let settings = &bench.config().backup;
    let policy = Retention {
        all: settings.keep_all,
        daily: settings.keep_daily,
        weekly: settings.keep_weekly,
        monthly: settings.keep_monthly,
        yearly: settings.keep_yearly,
    };
    let repository = bench.repository()?;
    let plan = show::watched("planning", |progress: &Progress| repository.plan_prune(&policy, progress))??;
    let (text, value) = show::plan(&plan, dry_run);
    if !dry_run {
        show::watched("removing", |progress: &Progress| repository.prune(plan, progress))??;
    }
    tell(as_json, &value, &text)
}

/// The server's own data into an empty folder.
fn whole(bench: &Bench, data: &Path, wanted: &Restore) -> anyhow::Result<()> {
    let repository = bench.repository()?;
    let snapshot = choose(&repository, SOURCE, named(&wanted.snapshot))?;
    let folder = Folder::for_restore(bench.plan.disk.as_ref(), data)?;
    let given_otherwise = matches!(
        master::source(bench.plan.disk.as_ref(), &bench.plan.environment)?,
        MasterSource::Given { key, .. } if key.id() == bench.master.id()
    );
    let world = world(bench, !given_otherwise);
    let damage = if wanted.partial { Damage::KeepTheRest } else { Damage::Refuse };
    // The data files' writers end one after the other, which is no failure here.
    bench.plan.supervisor.shutdown().drain();
    let restored = show::watched("restoring", |progress: &Progress| {
        restore::into_folder(&repository, &snapshot, folder.path(), &bench.master, &world, damage, progress)
    })?;
    bench.plan.supervisor.join_threads();
    let restored = restored?;
    tell(wanted.output.json, &restored, &show::restored(&restored, folder.path()))?;
    if !restored.losses.is_none() {
        bail!("the backup is damaged; what is lost is listed above, and in {}", folder.path().join(REPORT).display());
    }
    if restored.damaged.is_empty() {
        return Ok(());
    }
    bail!(
        "the backup is damaged: {} objects are lost, the rest is whole: {}",
        restored.lost.len(),
        restored.lost.join(", ")
    )
}

fn world(bench: &Bench, keep_master: bool) -> RestoreWorld {
    let plan = &bench.plan;
    RestoreWorld {
        disk: Arc::clone(&plan.disk),
        clock: Arc::clone(&plan.clock),
        random: Arc::clone(&plan.random),
        supervisor: plan.supervisor.clone(),
        store: plan.config.store.clone(),
        journal_segment: plan.config.kv.journal_segment,
        keep_master,
    }
}

fn named(snapshot: &str) -> Option<&str> {
    (snapshot != "latest").then_some(snapshot)
}

/// One object, one dump, or a folder.
fn part(bench: &Bench, wanted: &Restore) -> anyhow::Result<()> {
    let repository = bench.repository()?;
    let to = wanted.to.as_deref().context("name where to with --to")?;
    let name = named(&wanted.snapshot);
    if let Some(folder) = &wanted.folder {
        let snapshot = choose(&repository, &format!("folder:{folder}"), name)?;
        let only: Result<Vec<EntryPath>, _> = wanted.path.iter().map(|path| EntryPath::new(path.as_bytes())).collect();
        let filter = Filter { only: only? };
        let report = show::watched("restoring", |progress: &Progress| {
            repository.restore_tree(&snapshot, &filter, to, progress)
        })??;
        tell(wanted.output.json, &show::tree_json(&report), &show::tree(&report, to))?;
        let names: Vec<String> = report.damaged.iter().map(|(path, reason)| format!("{path}: {reason}")).collect();
        if !names.is_empty() {
            bail!("{} files are not restored: {}", names.len() as u64 + report.damaged_more, names.join("; "));
        }
        return Ok(());
    }
    let mut out = Out::open(to)?;
    let copied = if let Some(object) = &wanted.object {
        let (bucket, key) = object.split_once('/').context("an object is named bucket/key")?;
        let snapshot = choose(&repository, SOURCE, name)?;
        single::one_object(&repository, &snapshot, (bucket.parse()?, key.parse()?), &bench.master, &mut out)
    } else {
        let stream = wanted.stdin_name.as_deref().unwrap_or_default();
        let snapshot = choose(&repository, &format!("stdin:{stream}"), name)?;
        single::one_stream(&repository, &snapshot, stream, &mut out)
    };
    let bytes = out.end(copied, bench)?;
    if matches!(out, Out::Standard(_)) {
        return Ok(());
    }
    let done = serde_json::json!({ "bytes": bytes, "to": to });
    tell(wanted.output.json, &done, &format!("{bytes} bytes are in {}\n", to.display()))
}

/// Where one thing is written to.
enum Out {
    Standard(std::io::Stdout),
    File(File, std::path::PathBuf),
}

impl Out {
    /// A file must not be there yet.
    fn open(to: &Path) -> anyhow::Result<Self> {
        if to == Path::new("-") {
            return Ok(Self::Standard(std::io::stdout()));
        }
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
        Ok(Self::File(opened.with_context(|| format!("{}", to.display()))?, to.to_owned()))
    }

    /// Makes the bytes durable; a file that is not whole is removed.
    fn end(&mut self, copied: Result<u64, restore::RestoreError>, bench: &Bench) -> anyhow::Result<u64> {
        self.flush()?;
        if let Self::File(file, path) = self {
            match &copied {
                Ok(_) => file.sync_all()?,
                Err(_) => bench.plan.disk.remove_file(path)?,
            }
        }
        Ok(copied?)
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File(out, _) => out.flush(),
        }
    }
}

/// Prints `value` as JSON, or `text`.
fn tell(as_json: bool, value: &impl serde::Serialize, text: &str) -> anyhow::Result<()> {
    if as_json { say(&format!("{}\n", serde_json::to_string_pretty(value)?)) } else { say(text) }
}
