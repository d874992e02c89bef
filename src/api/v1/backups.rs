//! Backups: how they stand, what there is, and starting one.

use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::backup::Counts;
use crate::backup::service::Backups;
use crate::backup::status::{BackupStatus, Drill, FailedRun, RunProgress, RunReport, SnapshotLine};

fn counts(counts: Counts) -> Value {
    json!({
        "files": counts.files,
        "bytes": counts.bytes,
        "bytes_new": counts.bytes_new,
        "bytes_stored": counts.bytes_stored,
    })
}

fn snapshot(line: &SnapshotLine) -> Value {
    json!({
        "name": line.name,
        "source": line.source,
        "started_at": line.started.to_string(),
        "finished_at": line.finished.to_string(),
        "counts": counts(line.counts),
        "fault_count": line.fault_count,
        "faults": line.faults,
    })
}

fn drill(drill: &Drill) -> Value {
    json!({"at": drill.at.to_string(), "files": drill.files, "bytes": drill.bytes, "failures": drill.failures})
}

fn running(run: &RunProgress) -> Value {
    json!({
        "target": run.target,
        "started_at": run.started.to_string(),
        "doing": run.doing,
        "counts": counts(run.counts),
    })
}

fn made(run: &RunReport) -> Value {
    json!({
        "target": run.target,
        "started_at": run.started.to_string(),
        "finished_at": run.finished.to_string(),
        "complete": run.is_complete(),
        "snapshots": run.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "pause_ms": run.pause_ms,
        "problems": run.problems,
        "drill": run.drill.as_ref().map(drill),
    })
}

fn failed(run: &FailedRun) -> Value {
    json!({"at": run.at.to_string(), "target": run.target, "reason": run.reason})
}

fn standing(backups: &Backups) -> Value {
    let BackupStatus { target, every_ms, next, running: now, last, failed: fault, proven, overdue } = backups.status();
    json!({
        "target": target,
        "every_ms": every_ms,
        "next_at": next.map(|at| at.to_string()),
        "running": now.as_ref().map(running),
        "last": last.as_ref().map(made),
        "failed": fault.as_ref().map(failed),
        "proven": proven.as_ref().map(drill),
        "overdue": overdue,
    })
}

/// `GET /v1/backups`.
pub fn status(api: &V1) -> Result<Reply, Problem> {
    Reply::ok(&standing(api.backups()))
}

/// `GET /v1/backups/snapshots`. A repository holds as many as its retention keeps; the cursor is the name of the last
/// one of the page before.
pub async fn snapshots(api: V1, call: Call) -> Result<Reply, Problem> {
    let (source, after): (Option<String>, Option<String>) = (call.param("source")?, call.param("cursor")?);
    let limit = call.limit()?;
    let mut lines = api.backups().list().await?;
    if let Some(after) = after {
        let place = lines.iter().position(|line| line.name == after);
        let place = place.ok_or_else(|| Problem::bad(format!("there is no snapshot `{after}` to go on from")))?;
        lines.drain(..=place);
    }
    lines.retain(|line| source.as_ref().is_none_or(|source| line.source == *source));
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|line| line.name.clone());
    page(lines.iter().map(snapshot).collect(), next)
}

/// `POST /v1/backups`.
pub async fn start(api: V1, call: Call) -> Result<Reply, Problem> {
    api.backups().start_now()?;
    let target = api.backups().status().target.unwrap_or_default();
    api.users().note(&call.by(), "backup.started", &target).await?;
    Reply::accepted(&standing(api.backups()))
}
