//! The scrub: how it stands, what is damaged, and beginning a pass.

use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply};
use crate::objects::{Damage, ScrubCounts, ScrubStatus};

/// Most damaged objects of an answer; `damaged` counts all.
const SHOWN: usize = 200;

fn counts(counts: ScrubCounts) -> Value {
    json!({
        "buckets": counts.buckets,
        "objects": counts.objects,
        "uploads": counts.uploads,
        "bytes": counts.bytes,
        "damaged": counts.damaged,
        "unlisted": counts.unlisted,
    })
}

fn damage(damage: &Damage) -> Value {
    let what = &damage.damaged;
    json!({
        "bucket": what.bucket,
        "key": what.key,
        "version": what.version,
        "upload_part": what.upload_part,
        "what": what.what,
        "found_at": damage.found_at.to_string(),
    })
}

fn standing(status: &ScrubStatus) -> Value {
    json!({
        "every_ms": status.every_ms,
        "rate": status.rate,
        "pass": status.pass,
        "running": status.running.map(|running| json!({
            "began_at": running.began.to_string(),
            "expected_bytes": running.expected_bytes,
            "counts": counts(running.counts),
        })),
        "last": status.last.map(|last| json!({
            "began_at": last.began.to_string(),
            "ended_at": last.ended.to_string(),
            "counts": counts(last.counts),
        })),
        "next_at": status.next.map(|next| next.to_string()),
        "damaged": status.damage.len(),
        "damage": status.damage.iter().take(SHOWN).map(damage).collect::<Vec<_>>(),
    })
}

/// `GET /v1/scrub`.
pub async fn status(api: V1, _call: Call) -> Result<Reply, Problem> {
    Reply::ok(&standing(&api.objects().scrub_status().await?))
}

/// `POST /v1/scrub`. A pass under way goes on.
pub async fn start(api: V1, call: Call) -> Result<Reply, Problem> {
    if api.objects().start_scrub().await? {
        api.users().note(&call.by(), "scrub.started", "objects").await?;
    }
    Reply::accepted(&standing(&api.objects().scrub_status().await?))
}
