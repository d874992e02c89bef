//! Access keys over `control.sock`, for `mainstay keys`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::control::{Ask, ControlError, ask};
use super::status::Facts;
use crate::accounts::{AccessKey, AccountsError, By, KeyChange, KeyGrant, KeyRights, NewKey};
use crate::base::{Span, Timestamp};

/// Rights as a command gives them: grants as text; none for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightsWanted {
    /// `BUCKET[/PREFIX]:ACTIONS` each.
    pub grants: Vec<String>,
    /// Whether the key sends mail.
    pub mail: bool,
}

impl RightsWanted {
    fn rights(&self) -> Result<KeyRights, AccountsError> {
        if self.grants.is_empty() && !self.mail {
            return Ok(KeyRights::All);
        }
        let grants = self.grants.iter().map(|text| text.parse::<KeyGrant>());
        Ok(KeyRights::Limited { grants: grants.collect::<Result<_, _>>()?, mail: self.mail })
    }
}

/// What is asked about access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysAsk {
    /// Every key, without secrets.
    List,
    /// A new key, with its secret.
    Create {
        /// What to call it.
        label: String,
        /// What it may do.
        rights: RightsWanted,
        /// After how long it ends, such as `30d`.
        expires: Option<String>,
    },
    /// Other rights or another end for a key.
    Change {
        /// The key.
        id: String,
        /// What it may do from now on; as before when absent.
        rights: Option<RightsWanted>,
        /// After how long it ends; `never`; as before when absent.
        expires: Option<String>,
    },
    /// Another secret for a key.
    Rotate {
        /// The key.
        id: String,
        /// How long the old one signs too, such as `7d`.
        overlap: String,
    },
    /// The end of a key's old secret.
    Retire {
        /// The key.
        id: String,
    },
    /// The end of a key.
    Revoke {
        /// The key.
        id: String,
    },
}

/// Answers what is asked.
///
/// # Errors
/// What the service says, in words.
pub(super) async fn answer(asked: KeysAsk, facts: &Facts) -> Result<Value, String> {
    let (users, by, now) = (&facts.users, By::command_line(), facts.clock.now());
    let told = |error: AccountsError| error.to_string();
    let end = |text: &str| text.parse::<Span>().map(|span| now.after(span.duration())).map_err(|e| e.to_string());
    match asked {
        KeysAsk::List => Ok(users.access_keys().iter().map(|key| line(key, now)).collect()),
        KeysAsk::Create { label, rights, expires } => {
            let expires = expires.as_deref().map(end).transpose()?;
            let wanted = NewKey { label, rights: rights.rights().map_err(told)?, expires };
            Ok(with_secret(&*users.create_access_key(wanted, &by).await.map_err(told)?))
        }
        KeysAsk::Change { id, rights, expires } => {
            let expires = match expires.as_deref() {
                None => None,
                Some("never") => Some(None),
                Some(text) => Some(Some(end(text)?)),
            };
            let rights = rights.map(|rights| rights.rights()).transpose().map_err(told)?;
            let change = KeyChange { label: None, rights, expires };
            Ok(Value::from(line(&*users.change_access_key(&id, change, &by).await.map_err(told)?, now)))
        }
        KeysAsk::Rotate { id, overlap } => {
            let overlap: Span = overlap.parse().map_err(|error| format!("{error}"))?;
            Ok(with_secret(&*users.rotate_access_key(&id, overlap.duration(), &by).await.map_err(told)?))
        }
        KeysAsk::Retire { id } => Ok(Value::from(line(&*users.retire_secret(&id, &by).await.map_err(told)?, now))),
        KeysAsk::Revoke { id } => {
            users.revoke_access_key(&id, &by).await.map_err(told)?;
            Ok(Value::from(format!("{id} is revoked")))
        }
    }
}

fn with_secret(key: &AccessKey) -> Value {
    json!({"id": key.id, "secret": key.secret.expose()})
}

/// A key as a line.
fn line(key: &AccessKey, now: Timestamp) -> String {
    let may = match &key.rights {
        KeyRights::All => "everything".to_owned(),
        KeyRights::Limited { grants, mail } => {
            let mail = mail.then(|| "mail".to_owned());
            grants.iter().map(ToString::to_string).chain(mail).collect::<Vec<_>>().join(" ")
        }
    };
    let used = key.last_used().map_or_else(|| "never used".to_owned(), |at| format!("used {at}"));
    let ends = match key.expires {
        Some(at) if key.has_expired(now) => format!(", ended {at}"),
        Some(at) => format!(", ends {at}"),
        None => String::new(),
    };
    let previous = key.previous.as_ref().filter(|previous| now < previous.until);
    let previous = previous.map(|old| format!(", old secret until {}", old.until)).unwrap_or_default();
    format!("{}  {}: {may} ({used}{ends}{previous})", key.id, key.label)
}

/// A new secret, as a command prints it.
#[derive(Debug, Deserialize)]
pub struct Secret {
    /// The key.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// Asks the server that runs on `folder`. Blocks.
///
/// # Errors
/// [`ControlError`].
pub fn keys<T: serde::de::DeserializeOwned>(folder: &Path, asked: KeysAsk) -> Result<T, ControlError> {
    ask(folder, Ask::Keys(asked))
}
