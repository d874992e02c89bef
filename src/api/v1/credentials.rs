//! API tokens, S3 access keys, and the audit log.

use serde::Deserialize;
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::accounts::{AccessKey, AuditEntry, Scopes, Token};
use crate::base::Timestamp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    label: String,
    scopes: Vec<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccessKey {
    label: String,
}

fn token_json(token: &Token) -> Value {
    json!({
        "id": token.id,
        "label": token.label,
        "scopes": token.scopes.names(),
        "created_at": token.created.to_string(),
        "expires_at": token.expires.map(|at| at.to_string()),
        "last_used_at": token.last_used.map(|at| at.to_string()),
    })
}

fn key_json(key: &AccessKey) -> Value {
    json!({"id": key.id, "label": key.label, "created_at": key.created.to_string()})
}

fn audit_json(entry: &AuditEntry) -> Value {
    json!({
        "sequence": entry.sequence,
        "at": entry.at.to_string(),
        "action": entry.action,
        "actor": entry.actor,
        "subject": entry.subject,
        "address": entry.address,
        "agent": entry.agent,
    })
}

/// `value` with one more field.
fn with(mut value: Value, name: &str, more: &str) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert(name.to_owned(), Value::from(more));
    }
    value
}

/// A moment as RFC 3339 writes it.
fn moment(text: &str) -> Result<Timestamp, Problem> {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    let millis = parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let wrong = || Problem::bad(format!("`{text}` is no moment: write 2026-12-31T23:59:59Z"));
    millis.map(Timestamp).ok_or_else(wrong)
}

/// `GET /v1/token`.
pub fn own_token(call: &Call) -> Result<Reply, Problem> {
    Reply::ok(&token_json(&call.token))
}

/// `GET /v1/tokens`.
pub async fn tokens(api: V1, _call: Call) -> Result<Reply, Problem> {
    page(api.users().tokens().await?.iter().map(token_json).collect(), None)
}

/// `POST /v1/tokens`.
pub async fn create_token(api: V1, call: Call) -> Result<Reply, Problem> {
    let wanted: NewToken = call.json()?;
    let scopes = Scopes::named(wanted.scopes.iter().map(String::as_str))
        .ok_or_else(|| Problem::bad("scopes are one or more of read, write and admin"))?;
    let expires = wanted.expires_at.as_deref().map(moment).transpose()?;
    let (token, text) = api.users().create_token(&wanted.label, scopes, expires, &call.by()).await?;
    Reply::created(&with(token_json(&token), "token", text.expose()))
}

/// `DELETE /v1/tokens/{id}`.
pub async fn revoke_token(api: V1, call: Call) -> Result<Reply, Problem> {
    api.users().revoke_token(call.name(0), &call.by()).await?;
    Ok(Reply::nothing())
}

/// `GET /v1/access-keys`.
pub fn access_keys(api: &V1) -> Result<Reply, Problem> {
    page(api.users().access_keys().iter().map(|key| key_json(key)).collect(), None)
}

/// `POST /v1/access-keys`.
pub async fn create_access_key(api: V1, call: Call) -> Result<Reply, Problem> {
    let wanted: NewAccessKey = call.json()?;
    let key = api.users().create_access_key(&wanted.label, &call.by()).await?;
    Reply::created(&with(key_json(&key), "secret", key.secret.expose()))
}

/// `DELETE /v1/access-keys/{id}`.
pub async fn revoke_access_key(api: V1, call: Call) -> Result<Reply, Problem> {
    api.users().revoke_access_key(call.name(0), &call.by()).await?;
    Ok(Reply::nothing())
}

/// `GET /v1/audit`.
pub async fn audit(api: V1, call: Call) -> Result<Reply, Problem> {
    let (before, limit) = (call.param("cursor")?.unwrap_or(u64::MAX), call.limit()?);
    let entries = api.users().audit_before(before, limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|entry| entry.sequence.to_string());
    page(entries.iter().map(audit_json).collect(), next)
}
