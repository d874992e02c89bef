//! Backups on the terminal: figures, lists, and how far it is.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::backup::own::restore::Restored;
use crate::backup::status::{BackupStatus, Drill, RunProgress, RunReport, SnapshotLine};
use crate::backup::{Counts, Progress, PrunePlan, RestoreReport, VerifyReport};
use crate::base::Timestamp;

/// Time between two looks at the figures.
const LOOK: Duration = Duration::from_millis(500);

/// Tells on standard error how far something is: one line that is written over on a terminal, else a line a step.
pub(super) struct Watcher {
    terminal: bool,
    last: String,
}

impl Watcher {
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: String::new() }
    }

    /// How far a run is.
    pub fn run(&mut self, seen: &RunProgress) {
        self.tell(&seen.doing, seen.counts);
    }

    fn tell(&mut self, doing: &str, counts: Counts) {
        let mut err = std::io::stderr().lock();
        // Nobody watches when this fails.
        if self.terminal {
            let stored = if counts.bytes_stored > 0 {
                format!(", {} new stored", size(counts.bytes_stored))
            } else {
                String::new()
            };
            let _ = write!(err, "\r\x1b[2K{doing}: {} files, {}{stored}", counts.files, size(counts.bytes));
        } else if self.last != doing {
            let _ = writeln!(err, "{doing}");
        }
        let _ = err.flush();
        doing.clone_into(&mut self.last);
    }

    /// Leaves the line.
    pub fn end(&mut self) {
        if self.terminal && !self.last.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
        self.last.clear();
    }
}

/// Runs `op`, which takes long, and tells how far it is.
///
/// # Errors
/// The operating system refuses a thread.
pub(super) fn watched<T: Send>(doing: &str, op: impl FnOnce(&Progress) -> T + Send) -> std::io::Result<T> {
    let progress = Progress::new();
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        let seen = progress.clone();
        // Ends before this function does: there is nothing to supervise.
        let telling = std::thread::Builder::new().name("progress".to_owned()).spawn_scoped(scope, move || {
            let mut watcher = Watcher::new();
            while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                watcher.tell(doing, seen.counts());
            }
            watcher.end();
        })?;
        let done = op(&progress);
        drop(ended);
        // A panic there was of no consequence.
        let _ = telling.join();
        Ok(done)
    })
}

/// `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

fn time(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(super) fn list(lines: &[SnapshotLine]) -> String {
    if lines.is_empty() {
        return String::from("no snapshots\n");
    }
    let mut out = format!(
        "{:<33}  {:<19}  {:>8}  {:>10}  {:>10}  {}\n",
        "SNAPSHOT", "STARTED (UTC)", "FILES", "SIZE", "STORED", "SOURCE"
    );
    for line in lines {
        let Counts { files, bytes, bytes_stored, .. } = line.counts;
        let faults = if line.fault_count > 0 { format!("  ({} faults)", line.fault_count) } else { String::new() };
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:<33}  {:<19}  {files:>8}  {:>10}  {:>10}  {}{faults}",
            line.name,
            time(line.started),
            size(bytes),
            size(bytes_stored),
            line.source,
        );
    }
    out
}

pub(super) fn report(report: &RunReport) -> String {
    let mut out = list(&report.snapshots);
    let took = report.finished.since(report.started);
    let _ = writeln!(
        out,
        "made in {:.1} s at {}; commits stood still for {} ms",
        took.as_secs_f64(),
        report.target,
        report.pause_ms
    );
    if let Some(drill) = &report.drill {
        let _ = writeln!(out, "{}", drilled(drill));
    }
    out
}

fn drilled(drill: &Drill) -> String {
    if drill.failures.is_empty() {
        format!("read back: {} files, {}, all as they were", drill.files, size(drill.bytes))
    } else {
        format!("reading back failed: {}", drill.failures.join("; "))
    }
}

/// What is not in a backup as it should be.
pub(super) fn missing(report: &RunReport) -> Vec<String> {
    let faults = report.snapshots.iter().flat_map(|snapshot| snapshot.faults.iter());
    report.problems.iter().chain(faults).cloned().collect()
}

pub(super) fn status(status: &BackupStatus) -> String {
    let mut out = match &status.target {
        Some(target) => format!("backups go to {target}\n"),
        None => String::from("no backups are made by themselves: backup.target is not set\n"),
    };
    if let Some(running) = &status.running {
        let _ = writeln!(out, "one is under way: {}", running.doing);
    }
    match &status.last {
        Some(last) => {
            let _ =
                writeln!(out, "the last was made at {} UTC: {} snapshots", time(last.finished), last.snapshots.len());
        }
        None => out.push_str("none was made yet\n"),
    }
    if let Some(failed) = &status.failed {
        let _ = writeln!(out, "one failed at {} UTC: {}", time(failed.at), failed.reason);
    }
    if let Some(proven) = &status.proven {
        let _ = writeln!(out, "last proven restore at {} UTC: {}", time(proven.at), drilled(proven));
    }
    if let Some(next) = status.next {
        let _ =
            writeln!(out, "the next is due at {} UTC{}", time(next), if status.overdue { " (overdue)" } else { "" });
    }
    out
}

pub(super) fn verified(report: &VerifyReport) -> String {
    let mut out = format!(
        "{} snapshots, {} packs ({} read in full), {} chunks\n",
        report.snapshots, report.packs, report.packs_read, report.chunks
    );
    for finding in &report.findings {
        let _ = writeln!(out, "wrong: {finding}");
    }
    for file in &report.files {
        let _ = writeln!(out, "damaged: {file}");
    }
    if report.is_well() {
        out.push_str(if report.packs_read == report.packs {
            "all is well\n"
        } else {
            "all is well that was read; --read-data reads every byte\n"
        });
    }
    out
}

pub(super) fn verified_json(report: &VerifyReport) -> Value {
    json!({
        "well": report.is_well(), "snapshots": report.snapshots, "packs": report.packs, "packs_read": report.packs_read,
        "chunks": report.chunks, "findings": report.findings, "files": report.files, "files_more": report.files_more,
    })
}

/// The plan in words and as JSON.
pub(super) fn plan(plan: &PrunePlan, dry_run: bool) -> (String, Value) {
    let verb = if dry_run { "would go" } else { "went" };
    let mut out = String::new();
    for snapshot in &plan.drop {
        let _ = writeln!(out, "{} of {} ({} UTC) {verb}", snapshot.name, snapshot.source, time(snapshot.started));
    }
    let _ = writeln!(
        out,
        "{} snapshots {verb}, {} stay; {} {} now, {} a day later",
        plan.drop.len(),
        plan.keep.len(),
        size(plan.bytes_freed),
        if dry_run { "would be freed" } else { "freed" },
        size(plan.bytes_marked)
    );
    let drop: Vec<String> = plan.drop.iter().map(|snapshot| snapshot.name.to_string()).collect();
    let keep: Vec<String> = plan.keep.iter().map(ToString::to_string).collect();
    let value = json!({
        "dry_run": dry_run, "dropped": drop, "kept": keep,
        "bytes_freed": plan.bytes_freed, "bytes_marked": plan.bytes_marked,
    });
    (out, value)
}

pub(super) fn restored(restored: &Restored, folder: &Path) -> String {
    let mut out = format!(
        "snapshot {} is restored in {}: {} rows, {} files{}\nstart it: mainstay serve --data {}\n",
        restored.snapshot,
        folder.display(),
        restored.rows,
        restored.files,
        if restored.keyspace { ", the keyspace" } else { "" },
        folder.display(),
    );
    for name in &restored.damaged {
        let _ = writeln!(out, "damaged: {name}");
    }
    for name in &restored.lost {
        let _ = writeln!(out, "lost: {name}");
    }
    for line in restored.losses.lines() {
        let _ = writeln!(out, "{line}");
    }
    out
}

pub(super) fn tree(report: &RestoreReport, to: &Path) -> String {
    let mut out = format!(
        "{} files, {} folders, {} links, {} are in {}\n",
        report.files,
        report.folders,
        report.links,
        size(report.bytes),
        to.display()
    );
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

pub(super) fn tree_json(report: &RestoreReport) -> Value {
    json!({
        "files": report.files, "folders": report.folders, "links": report.links, "bytes": report.bytes,
        "damaged": report.damaged, "damaged_more": report.damaged_more, "notes": report.notes,
    })
}
