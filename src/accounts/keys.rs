//! S3 access keys at run time: made, listed, revoked.
//!
//! Doors look keys up in memory (`access_keys.rs`), so a change is in force when the call returns: first the commit,
//! then the table. Keys are changed without a gap by making the new one first; the last one cannot be revoked.

use std::collections::HashMap;
use std::sync::Arc;

use super::AccountsError;
use super::access_keys::{ACCESS_KEYS, AccessKey, AccessKeyRecord};
use super::audit::{self, action};
use super::rows;
use super::types::{self, By};
use super::users::Users;
use crate::store::WriteTx;

/// Most access keys.
pub const ACCESS_KEYS_MAX: usize = 1000;

impl Users {
    /// Every access key, the oldest first; the first one is what `mainstay env` prints.
    pub fn access_keys(&self) -> Vec<Arc<AccessKey>> {
        self.keys().all()
    }

    /// Makes an access key called `label`. Doors take it from now on. Its secret can be read back (it signs, so it
    /// must), but is meant to be shown this once.
    ///
    /// # Errors
    /// [`AccountsError::BadLabel`], [`AccountsError::TooMany`].
    ///
    /// # Cancel safety
    /// Dropped before its end, a key nobody knows may have been made; the list shows it.
    pub async fn create_access_key(&self, label: &str, by: &By) -> Result<Arc<AccessKey>, AccountsError> {
        let key = Arc::new(AccessKey::random(self.random(), types::label(label)?, self.now()));
        let (made, by, now) = (Arc::clone(&key), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if rows::rows(tx, ACCESS_KEYS, b"", ACCESS_KEYS_MAX)?.len() >= ACCESS_KEYS_MAX {
                return Err(AccountsError::TooMany { what: "access keys", most: ACCESS_KEYS_MAX });
            }
            rows::put(tx, ACCESS_KEYS, made.id.as_bytes(), &AccessKeyRecord::of(&made))?;
            audit::write(tx, now, &by, action::KEY_ADDED, &format!("{} ({})", made.id, made.label))
        };
        self.store().write(write).await?;
        let added = Arc::clone(&key);
        self.keys().change(move |table: &mut HashMap<_, _>| {
            table.insert(added.id.clone(), Arc::clone(&added));
        });
        Ok(key)
    }

    /// Revokes access key `id`; doors refuse it from now on, and addresses signed with it are void.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchKey`], [`AccountsError::LastKey`].
    ///
    /// # Cancel safety
    /// Dropped before its end, doors refuse it; it may come back with the next start.
    pub async fn revoke_access_key(&self, id: &str, by: &By) -> Result<(), AccountsError> {
        let key = self.keys().secret(id).ok_or(AccountsError::NoSuchKey)?;
        if self.keys().all().len() < 2 {
            return Err(AccountsError::LastKey);
        }
        // Refused first and gone second, so that a caller who leaves in between leaves nothing open.
        self.keys().change(|table| {
            table.remove(id);
        });
        let (revoked, by, now) = (Arc::clone(&key), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if rows::rows(tx, ACCESS_KEYS, b"", 2)?.len() < 2 {
                return Err(AccountsError::LastKey);
            }
            if !tx.delete(ACCESS_KEYS, revoked.id.as_bytes())? {
                return Err(AccountsError::NoSuchKey);
            }
            audit::write(tx, now, &by, action::KEY_REVOKED, &format!("{} ({})", revoked.id, revoked.label))
        };
        let written = self.store().write(write).await;
        if let Err(AccountsError::LastKey | AccountsError::Store(_)) = &written {
            self.keys().change(|table| {
                table.insert(key.id.clone(), Arc::clone(&key));
            });
        }
        written
    }
}
