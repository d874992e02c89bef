//! One run: the server's own data, then the folders, then what is too old, then a look back whether it can be read.

use std::io::{self, Read};
use std::path::Path;

use super::own::{self, Contents};
use super::service::{Backups, ServiceError};
use super::status::{RunReport, SnapshotLine};
use super::{
    BackupError, EntryPath, Excludes, Meta, NewSnapshot, Progress, Repository, Retention, SnapshotInfo, add_folder,
    drill,
};
use crate::base::Timestamp;

/// Most faults of a snapshot that a list names.
const FAULTS_SHOWN: usize = 20;

/// Makes a backup at `target`.
///
/// # Errors
/// The server's own data is not backed up. What goes wrong behind it is a problem in the report.
pub(super) fn run(backups: &Backups, target: &str) -> Result<RunReport, ServiceError> {
    let clock = &backups.0.world.clock;
    let started = clock.now();
    // What is wrapped is read at other moments than the keyring that says by which keys.
    let _masters = backups.0.world.keyring.hold();
    backups.doing(target, "opening the repository");
    let repository = backups.repository_or_new(target)?;
    let mut report = RunReport {
        target: target.to_owned(),
        started,
        finished: started,
        snapshots: Vec::new(),
        pause_ms: 0,
        problems: Vec::new(),
        drill: None,
    };
    let (info, contents) = own_data(backups, target, &repository, &mut report)?;
    let mut made = vec![info];
    for folder in &backups.0.config.folders {
        match one_folder(backups, target, &repository, folder) {
            Ok(info) => made.push(info),
            Err(ServiceError::Backup(BackupError::Cancelled)) => return Err(BackupError::Cancelled.into()),
            Err(error) => report.problems.push(format!("the folder {folder}: {error}")),
        }
    }
    report.snapshots = made.iter().map(line).collect();
    if let Err(error) = tidy(backups, target, &repository) {
        report.problems.push(format!("old snapshots stay: {error}"));
    }
    let progress = backups.doing(target, "reading a part back");
    let random = backups.0.world.random.as_ref();
    report.drill = Some(drill::drill(&repository, &made, &contents, random, clock.now(), &progress));
    if let Some(drill) = &report.drill {
        report.problems.extend(drill.failures.iter().map(|failure| format!("reading back failed: {failure}")));
    }
    report.finished = clock.now();
    Ok(report)
}

fn own_data(
    backups: &Backups,
    target: &str,
    repository: &Repository,
    report: &mut RunReport,
) -> Result<(SnapshotInfo, Contents), ServiceError> {
    let world = &backups.0.world;
    let progress = backups.doing(target, "the server's own data");
    let started = world.clock.now();
    let mut writer = repository.begin(new_snapshot(backups, own::SOURCE.to_owned(), started), progress)?;
    let moment = world.own.moment(world.clock.as_ref()).map_err(ServiceError::Own)?;
    report.pause_ms = u64::try_from(moment.pause.as_millis()).unwrap_or(u64::MAX);
    let contents = own::add(&world.own, moment, &world.host.version, &mut writer)?;
    let finished = writer.finish()?;
    for pack in &finished.missing_packs {
        report.problems.push(format!(
            "the pack {pack} was missing at the target; what it held was stored again if it was still there"
        ));
    }
    backups.0.records.saw(target, &finished.head)?;
    Ok((finished.info, contents))
}

fn one_folder(
    backups: &Backups,
    target: &str,
    repository: &Repository,
    folder: &str,
) -> Result<SnapshotInfo, ServiceError> {
    let progress = backups.doing(target, format!("the folder {folder}"));
    let excludes = Excludes { patterns: backups.0.config.exclude.clone() };
    let started = backups.0.world.clock.now();
    let mut writer = repository.begin(new_snapshot(backups, format!("folder:{folder}"), started), progress.clone())?;
    add_folder(&mut writer, Path::new(folder), &excludes, &progress)?;
    let finished = writer.finish()?;
    backups.0.records.saw(target, &finished.head)?;
    Ok(finished.info)
}

fn tidy(backups: &Backups, target: &str, repository: &Repository) -> Result<(), ServiceError> {
    let progress = backups.doing(target, "removing what is too old");
    let plan = repository.plan_prune(&retention(backups), &progress)?;
    repository.prune(plan, &progress)?;
    Ok(())
}

fn retention(backups: &Backups) -> Retention {
    let config = &backups.0.config;
    Retention {
        all: config.keep_all,
        daily: config.keep_daily,
        weekly: config.keep_weekly,
        monthly: config.keep_monthly,
        yearly: config.keep_yearly,
    }
}

/// Makes a snapshot of a stream.
///
/// # Errors
/// The stream failed or gave nothing, or the target refused: there is no snapshot.
pub(super) fn add(
    backups: &Backups,
    name: &str,
    target: &str,
    stream: &mut dyn Read,
) -> Result<SnapshotLine, ServiceError> {
    let progress: Progress = backups.doing(target, format!("what was piped in as {name}"));
    let failed = |what: String| ServiceError::Stream { name: name.to_owned(), what };
    // Before anything is written: a command that failed at once says nothing.
    let mut first = [0; 1];
    let count = stream.read(&mut first).map_err(|error| failed(error.to_string()))?;
    if count == 0 {
        return Err(failed("nothing came".to_owned()));
    }
    let masters = backups.0.world.keyring.hold();
    let repository = backups.repository_or_new(target)?;
    drop(masters);
    let started = backups.0.world.clock.now();
    let mut writer = repository.begin(new_snapshot(backups, format!("stdin:{name}"), started), progress)?;
    let mut whole = io::Cursor::new(first).chain(stream);
    match writer.add(&EntryPath::new(name)?, &Meta::plain_file(0, started), &mut whole) {
        Ok(_) => {}
        Err(BackupError::Source { source, .. }) => return Err(failed(source.to_string())),
        Err(other) => return Err(other.into()),
    }
    let finished = writer.finish()?;
    backups.0.records.saw(target, &finished.head)?;
    Ok(line(&finished.info))
}

fn new_snapshot(backups: &Backups, source: String, started: Timestamp) -> NewSnapshot {
    NewSnapshot { source, host: backups.0.world.host.clone(), started }
}

/// The snapshot, as lists show it.
pub fn line(info: &SnapshotInfo) -> SnapshotLine {
    SnapshotLine {
        name: info.name.to_string(),
        source: info.source.clone(),
        started: info.started,
        finished: info.finished,
        counts: info.counts,
        fault_count: info.fault_count,
        faults: info
            .faults
            .iter()
            .take(FAULTS_SHOWN)
            .map(|fault| format!("{}: {}", fault.path, fault.reason))
            .collect(),
    }
}
