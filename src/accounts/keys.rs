//! S3 access keys at run time: made, changed, given another secret, revoked.
//!
//! Doors look keys up in memory (`access_keys.rs`), so a change is in force when the call returns: first the commit,
//! then the table. A secret is changed without a gap: for a while the old one signs too. A key that may do everything
//! and does not end must stay.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::AccountsError;
use super::access_keys::{ACCESS_KEYS, AccessKey, AccessKeyRecord, PreviousSecret, USES, random_secret};
use super::audit::{self, action};
use super::rights::{GRANTS_MAX, KeyRights};
use super::rows;
use super::types::{self, By};
use super::users::Users;
use crate::base::Timestamp;
use crate::store::{ReadTx, WriteTx};

/// Most access keys.
pub const ACCESS_KEYS_MAX: usize = 1000;

/// Longest time that two secrets of a key sign.
pub const OVERLAP_MAX: Duration = Duration::from_hours(24 * 90);

/// How exactly the last use is written down: at most one write a key in this time.
const TOUCH: Duration = Duration::from_mins(5);

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// What to call it.
    pub label: String,
    /// What it may do.
    pub rights: KeyRights,
    /// When it ends; `None` for never.
    pub expires: Option<Timestamp>,
}

/// What is to be other about a key; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// What to call it.
    pub label: Option<String>,
    /// What it may do.
    pub rights: Option<KeyRights>,
    /// When it ends; `Some(None)` for never.
    pub expires: Option<Option<Timestamp>>,
}

impl Users {
    /// Every access key, the oldest first.
    pub fn access_keys(&self) -> Vec<Arc<AccessKey>> {
        self.keys().all()
    }

    /// The access key called `id`, if there is one. In memory, no waiting.
    pub fn access_key(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.keys().secret(id)
    }

    /// The access key that the server itself signs with: the first that may do everything and does not end.
    pub fn primary_key(&self) -> Option<Arc<AccessKey>> {
        self.keys().primary()
    }

    /// Makes an access key. Doors take it from now on. Its secret can be read back (it signs, so it must), but is meant
    /// to be shown this once.
    ///
    /// # Errors
    /// [`AccountsError::BadLabel`], [`AccountsError::BadEnd`], [`AccountsError::TooMany`].
    ///
    /// # Cancel safety
    /// Dropped before its end, a key nobody knows may have been made; the list shows it.
    pub async fn create_access_key(&self, wanted: NewKey, by: &By) -> Result<Arc<AccessKey>, AccountsError> {
        let now = self.now();
        let mut key = AccessKey::random(self.random(), types::label(&wanted.label)?, now);
        key.rights = checked_rights(wanted.rights)?;
        key.expires = checked_end(wanted.expires, now)?;
        let key = Arc::new(key);
        let (made, by) = (Arc::clone(&key), by.clone());
        let write = move |tx: &mut dyn WriteTx| {
            if rows::rows(tx, ACCESS_KEYS, b"", ACCESS_KEYS_MAX)?.len() >= ACCESS_KEYS_MAX {
                return Err(AccountsError::TooMany { what: "access keys", most: ACCESS_KEYS_MAX });
            }
            rows::put(tx, ACCESS_KEYS, made.id.as_bytes(), &AccessKeyRecord::of(&made))?;
            audit::write(tx, now, &by, action::KEY_ADDED, &format!("{} ({})", made.id, made.label))
        };
        self.store().write(write).await?;
        self.take_over(&key);
        Ok(key)
    }

    /// Changes label, rights or end of access key `id`; in force when the call returns, for addresses signed before too.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchKey`], [`AccountsError::LastKey`], [`AccountsError::BadLabel`], [`AccountsError::BadEnd`],
    /// [`AccountsError::TooMany`] grants.
    ///
    /// # Cancel safety
    /// Dropped before its end, the change may be in force from the next start on only.
    pub async fn change_access_key(
        &self,
        id: &str,
        change: KeyChange,
        by: &By,
    ) -> Result<Arc<AccessKey>, AccountsError> {
        let _alone = self.key_changes().lock().await;
        let now = self.now();
        let mut key = AccessKey::clone(&*self.access_key(id).ok_or(AccountsError::NoSuchKey)?);
        if let Some(label) = change.label {
            key.label = types::label(&label)?;
        }
        if let Some(rights) = change.rights {
            key.rights = checked_rights(rights)?;
        }
        if let Some(expires) = change.expires {
            key.expires = checked_end(expires, now)?;
        }
        self.replace(key, action::KEY_CHANGED, by).await
    }

    /// Gives access key `id` another secret, which signs at once; the one before signs too until `overlap` has passed
    /// (at most [`OVERLAP_MAX`]; nothing: not at all any more), or [`Users::retire_secret`].
    ///
    /// # Errors
    /// [`AccountsError::NoSuchKey`], [`AccountsError::TwoSecrets`] while an older secret still signs.
    ///
    /// # Cancel safety
    /// Dropped before its end, the key may have a new secret from the next start on that nobody was told; the old one
    /// signs as long as asked.
    pub async fn rotate_access_key(
        &self,
        id: &str,
        overlap: Duration,
        by: &By,
    ) -> Result<Arc<AccessKey>, AccountsError> {
        let _alone = self.key_changes().lock().await;
        let now = self.now();
        let mut key = AccessKey::clone(&*self.access_key(id).ok_or(AccountsError::NoSuchKey)?);
        if key.secrets(now).count() > 1 {
            return Err(AccountsError::TwoSecrets);
        }
        let old = std::mem::replace(&mut key.secret, random_secret(self.random()));
        let until = now.after(overlap.min(OVERLAP_MAX));
        key.previous = (!overlap.is_zero()).then_some(PreviousSecret { secret: old, until });
        self.replace(key, action::KEY_ROTATED, by).await
    }

    /// Has the secret of access key `id` from before its last change sign no more. Fine when there is none.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchKey`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the secret may be refused from the next start on only.
    pub async fn retire_secret(&self, id: &str, by: &By) -> Result<Arc<AccessKey>, AccountsError> {
        let _alone = self.key_changes().lock().await;
        let mut key = AccessKey::clone(&*self.access_key(id).ok_or(AccountsError::NoSuchKey)?);
        key.previous = None;
        self.replace(key, action::KEY_RETIRED, by).await
    }

    /// Writes `key` in place of the one with its id, then has the doors know it. Whoever calls this has the lock on
    /// changes since before they read the key, or two changes at once would undo one another.
    async fn replace(&self, key: AccessKey, action: &'static str, by: &By) -> Result<Arc<AccessKey>, AccountsError> {
        let key = Arc::new(key);
        let (changed, by, now) = (Arc::clone(&key), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if rows::get::<AccessKeyRecord>(tx, ACCESS_KEYS, changed.id.as_bytes())?.is_none() {
                return Err(AccountsError::NoSuchKey);
            }
            if !changed.is_lasting() && !another_lasts(tx, &changed.id)? {
                return Err(AccountsError::LastKey);
            }
            rows::put(tx, ACCESS_KEYS, changed.id.as_bytes(), &AccessKeyRecord::of(&changed))?;
            audit::write(tx, now, &by, action, &format!("{} ({})", changed.id, changed.label))
        };
        self.store().write(write).await?;
        self.take_over(&key);
        Ok(key)
    }

    fn take_over(&self, key: &Arc<AccessKey>) {
        self.keys().change(|table: &mut HashMap<_, _>| {
            table.insert(key.id.clone(), Arc::clone(key));
        });
    }

    /// Writes down that `key` was used now; at most once in five minutes, and a failure is only logged.
    ///
    /// # Cancel safety
    /// Dropped before its end, this use may not be written down.
    pub async fn note_key_use(&self, key: &AccessKey) {
        let (now, last) = (self.now(), key.used.load(Ordering::Relaxed));
        let stale = now.since(Timestamp(last)) >= TOUCH;
        // Of many requests at once, the one that changes the number writes.
        let ours = key.used.compare_exchange(last, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !stale || !ours {
            return;
        }
        let id = key.id.clone();
        let write = move |tx: &mut dyn WriteTx| {
            if tx.get(ACCESS_KEYS, id.as_bytes())?.is_some() {
                tx.put(USES, id.as_bytes(), &now.millis().to_be_bytes())?;
            }
            Ok::<_, AccountsError>(())
        };
        if let Err(error) = self.store().write(write).await {
            tracing::warn!(%error, "the use of an access key is not written down");
        }
    }

    /// Revokes access key `id`; doors refuse it from now on, and addresses signed with it are void.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchKey`], [`AccountsError::LastKey`].
    ///
    /// # Cancel safety
    /// Dropped before its end, doors refuse it; it may come back with the next start.
    pub async fn revoke_access_key(&self, id: &str, by: &By) -> Result<(), AccountsError> {
        let _alone = self.key_changes().lock().await;
        let key = self.keys().secret(id).ok_or(AccountsError::NoSuchKey)?;
        if !self.keys().all().iter().any(|other| other.id != id && other.is_lasting()) {
            return Err(AccountsError::LastKey);
        }
        // Refused first and gone second, so that a caller who leaves in between leaves nothing open.
        self.keys().change(|table| {
            table.remove(id);
        });
        let (revoked, by, now) = (Arc::clone(&key), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if !another_lasts(tx, &revoked.id)? {
                return Err(AccountsError::LastKey);
            }
            if !tx.delete(ACCESS_KEYS, revoked.id.as_bytes())? {
                return Err(AccountsError::NoSuchKey);
            }
            tx.delete(USES, revoked.id.as_bytes())?;
            audit::write(tx, now, &by, action::KEY_REVOKED, &format!("{} ({})", revoked.id, revoked.label))
        };
        let written = self.store().write(write).await;
        if let Err(AccountsError::LastKey | AccountsError::Store(_)) = &written {
            self.take_over(&key);
        }
        written
    }
}

/// Whether a key other than `id` may do everything and does not end.
fn another_lasts(tx: &dyn ReadTx, id: &str) -> Result<bool, AccountsError> {
    for (other, value) in rows::rows(tx, ACCESS_KEYS, b"", ACCESS_KEYS_MAX)? {
        if other != id.as_bytes() && rows::decode::<AccessKeyRecord>(ACCESS_KEYS, &value)?.is_lasting() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn checked_rights(rights: KeyRights) -> Result<KeyRights, AccountsError> {
    if rights.grants().len() > GRANTS_MAX {
        return Err(AccountsError::TooMany { what: "grants of a key", most: GRANTS_MAX });
    }
    Ok(rights)
}

fn checked_end(expires: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, AccountsError> {
    match expires {
        Some(expires) if expires <= now => Err(AccountsError::BadEnd),
        expires => Ok(expires),
    }
}
