//! Captured errors.

use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::issues::{Filter, Status};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    status: Status,
}

/// `GET /v1/issues`.
pub async fn issues(api: V1, call: Call) -> Result<Reply, Problem> {
    let text = |name: &str| call.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let status = text("status").map(|name| {
        let status = [Status::Open, Status::Resolved, Status::Ignored].into_iter().find(|status| status.name() == name);
        status.ok_or_else(|| Problem::bad(format!("status is open, resolved or ignored, not `{name}`")))
    });
    let filter = Filter {
        status: status.transpose()?,
        level: text("level"),
        project: call.param("project")?,
        text: text("text").unwrap_or_default(),
        after: call.param("cursor")?,
        limit: call.limit()?,
    };
    let found = api.issues().list(filter).await?;
    page(found.issues.iter().map(|issue| json!(issue)).collect(), found.next.map(|next| next.to_string()))
}

/// `GET /v1/issues/{id}`.
pub async fn issue(api: V1, call: Call) -> Result<Reply, Problem> {
    let found = api.issues().show(call.parsed(0)?).await?;
    let tags: serde_json::Map<String, Value> = found
        .tags
        .into_iter()
        .map(|(name, values)| {
            let values = values.into_iter().map(|(value, count)| json!({"value": value, "count": count}));
            (name, values.collect())
        })
        .collect();
    Reply::ok(&json!({"issue": found.issue, "tags": tags, "stack": found.stack, "events": found.events}))
}

/// `PATCH /v1/issues/{id}`.
pub async fn change(api: V1, call: Call) -> Result<Reply, Problem> {
    let (id, change): (u64, Change) = (call.parsed(0)?, call.json()?);
    let changed = api.issues().set_status(id, change.status).await?;
    let action = match change.status {
        Status::Open => "issue.opened",
        Status::Resolved => "issue.resolved",
        Status::Ignored => "issue.ignored",
    };
    api.users().note(&call.by(), action, &id.to_string()).await?;
    Reply::ok(&changed)
}

/// `GET /v1/issues/{id}/events/{number}`.
pub async fn event(api: V1, call: Call) -> Result<Reply, Problem> {
    let id = call.parsed(0)?;
    let number = if call.name(1) == "latest" { None } else { Some(call.parsed(1)?) };
    let view = api.issues().event(id, number).await?;
    let event: Value = serde_json::from_slice(&api.issues().event_json(id, view.number).await?)
        .map_err(|_no_json| Problem::bad("the stored event does not read"))?;
    Reply::ok(&json!({
        "issue": view.issue, "number": view.number, "older": view.older, "newer": view.newer, "event": event,
    }))
}
