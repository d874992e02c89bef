//! API tokens, S3 access keys, and the audit log.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::V1;
use super::problem::Problem;
use super::route::{Call, Reply, page};
use crate::accounts::{
    AccessKey, AccountsError, Actions, AuditEntry, GrantError, KeyChange, KeyGrant, KeyRights, NewKey, Scopes, Token,
};
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
    #[serde(default)]
    grants: Option<Vec<WantedGrant>>,
    #[serde(default)]
    mail: bool,
    #[serde(default)]
    expires_at: Option<String>,
}

/// A field that is `null` is set to nothing, one that is not there stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "not there, there and null, there and something")]
struct AccessKeyChange {
    #[serde(default)]
    label: Option<String>,
    #[serde(default, deserialize_with = "given")]
    grants: Option<Option<Vec<WantedGrant>>>,
    #[serde(default)]
    mail: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    expires_at: Option<Option<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default = "week")]
    overlap_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedGrant {
    bucket: String,
    #[serde(default)]
    prefix: String,
    actions: Vec<String>,
}

const fn week() -> u64 {
    7 * 24 * 60 * 60
}

#[expect(clippy::option_option, reason = "not there, there and null, there and something")]
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn grants(wanted: Vec<WantedGrant>) -> Result<Vec<KeyGrant>, Problem> {
    let grant = |grant: WantedGrant| {
        let actions = Actions::named(grant.actions.iter().map(String::as_str)).ok_or(GrantError::Actions)?;
        KeyGrant::new(&grant.bucket, &grant.prefix, actions)
    };
    wanted.into_iter().map(grant).collect::<Result<_, _>>().map_err(|error| AccountsError::Grant(error).into())
}

/// Rights out of grants and mail; no grants at all stand for everything.
fn rights(wanted: Option<Vec<WantedGrant>>, mail: bool) -> Result<KeyRights, Problem> {
    match wanted {
        None => Ok(KeyRights::All),
        Some(wanted) => Ok(KeyRights::Limited { grants: grants(wanted)?, mail }),
    }
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
    let grant = |grant: &KeyGrant| json!({"bucket": grant.bucket(), "prefix": grant.prefix(), "actions": grant.actions().names()});
    json!({
        "id": key.id,
        "label": key.label,
        "created_at": key.created.to_string(),
        "grants": (!key.rights.is_all()).then(|| key.rights.grants().iter().map(grant).collect::<Vec<_>>()),
        "mail": key.rights.mail(),
        "expires_at": key.expires.map(|at| at.to_string()),
        "last_used_at": key.last_used().map(|at| at.to_string()),
        "old_secret_until": key.previous.as_ref().map(|old| old.until.to_string()),
    })
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
    let expires = wanted.expires_at.as_deref().map(moment).transpose()?;
    let wanted = NewKey { label: wanted.label, rights: rights(wanted.grants, wanted.mail)?, expires };
    let key = api.users().create_access_key(wanted, &call.by()).await?;
    Reply::created(&with(key_json(&key), "secret", key.secret.expose()))
}

/// `PATCH /v1/access-keys/{id}`.
pub async fn change_access_key(api: V1, call: Call) -> Result<Reply, Problem> {
    let wanted: AccessKeyChange = call.json()?;
    let now = api.users().access_key(call.name(0)).ok_or(AccountsError::NoSuchKey)?;
    let rights = match (wanted.grants, wanted.mail) {
        (None, None) => None,
        (Some(grants), mail) => Some(rights(grants, mail.unwrap_or_else(|| now.rights.mail()))?),
        (None, Some(_)) if now.rights.is_all() => {
            return Err(Problem::bad("mail goes with grants: a key without grants may do everything"));
        }
        (None, Some(mail)) => Some(KeyRights::Limited { grants: now.rights.grants().to_vec(), mail }),
    };
    let expires = wanted.expires_at.map(|at| at.as_deref().map(moment).transpose()).transpose()?;
    let change = KeyChange { label: wanted.label, rights, expires };
    Reply::ok(&key_json(&*api.users().change_access_key(call.name(0), change, &call.by()).await?))
}

/// `POST /v1/access-keys/{id}/rotate`.
pub async fn rotate_access_key(api: V1, call: Call) -> Result<Reply, Problem> {
    let wanted: Rotation = call.json()?;
    let overlap = Duration::from_secs(wanted.overlap_seconds);
    let key = api.users().rotate_access_key(call.name(0), overlap, &call.by()).await?;
    Reply::ok(&with(key_json(&key), "secret", key.secret.expose()))
}

/// `DELETE /v1/access-keys/{id}/old-secret`.
pub async fn retire_secret(api: V1, call: Call) -> Result<Reply, Problem> {
    api.users().retire_secret(call.name(0), &call.by()).await?;
    Ok(Reply::nothing())
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
