//! Outbound mail.

use serde_json::{Map, Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::base::Id128;
use crate::mail::{Detail, Filter, Standing, Summary};

fn summary(message: &Summary) -> Value {
    let states: Map<String, Value> =
        message.standings.iter().map(|(state, count)| (state.name().to_owned(), json!(count))).collect();
    json!({
        "id": message.id,
        "created_at": message.created,
        "source": message.source,
        "from": message.from,
        "to": message.to,
        "recipients": message.recipients,
        "subject": message.subject,
        "size": message.size,
        "states": states,
        "attempts": message.attempts,
        "next_attempt_at": message.next_attempt,
    })
}

fn detail(found: &Detail) -> Result<Reply, Problem> {
    let deliveries: Vec<Value> = found
        .deliveries
        .iter()
        .map(|delivery| {
            json!({
                "to": delivery.to,
                "state": delivery.standing.name(),
                "sending": delivery.sending,
                "attempts": delivery.attempts,
                "next_attempt_at": delivery.next_attempt,
                "events": delivery.events,
            })
        })
        .collect();
    Reply::ok(&json!({
        "message": summary(&found.message),
        "give_up_at": found.give_up,
        "finished_at": found.finished,
        "masked": found.masked,
        "deliveries": deliveries,
    }))
}

/// `GET /v1/mail`.
pub async fn messages(api: V1, call: Call) -> Result<Reply, Problem> {
    let state: Option<String> = call.param("state")?;
    let standing = state.map(|name| {
        Standing::named(&name).ok_or_else(|| {
            let all = Standing::ALL.map(Standing::name).join(", ");
            Problem::bad(format!("a state is one of {all}, not `{name}`"))
        })
    });
    let filter = Filter { standing: standing.transpose()?, text: call.param("text")? };
    let found = api.mail().list(filter, call.param("cursor")?, call.limit()?).await?;
    page(found.messages.iter().map(summary).collect(), found.next)
}

/// `GET /v1/mail/{id}`.
pub async fn message(api: V1, call: Call) -> Result<Reply, Problem> {
    detail(&api.mail().detail(call.parsed(0)?).await?)
}

/// `GET /v1/mail/{id}/raw`.
pub async fn raw(api: V1, call: Call) -> Result<Reply, Problem> {
    Ok(Reply::message(api.mail().raw(call.parsed(0)?).await?))
}

/// `POST /v1/mail/{id}/retry`.
pub async fn retry(api: V1, call: Call) -> Result<Reply, Problem> {
    let id: Id128 = call.parsed(0)?;
    let done = api.mail().retry(id).await?;
    api.users().note(&call.by(), "mail.retried", &id.to_string()).await?;
    detail(&done)
}

/// `POST /v1/mail/{id}/cancel`.
pub async fn cancel(api: V1, call: Call) -> Result<Reply, Problem> {
    let id: Id128 = call.parsed(0)?;
    let done = api.mail().cancel(id).await?;
    api.users().note(&call.by(), "mail.cancelled", &id.to_string()).await?;
    detail(&done)
}
