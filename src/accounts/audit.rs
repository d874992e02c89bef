//! Who did what: logins, failures, and every change of an account, key or token.
//!
//! Written in the transaction of what it tells of. The newest [`KEPT`] entries stay, and of failed attempts the newest
//! [`FAILURES_KEPT`] in a table of their own, so that a storm of them pushes out no change. Attempts that had to wait
//! are not written.

use std::ops::Bound;

use super::AccountsError;
use super::rows::{self, AuditRow, NEXT_AUDIT};
use super::types::By;
use super::users::Users;
use crate::base::Timestamp;
use crate::store::{Direction, ReadTx, Table, WriteTx};

const CHANGES: Table = Table::new("accounts.audit");
const FAILURES: Table = Table::new("accounts.failures");

/// Entries kept.
pub const KEPT: u64 = 10_000;

/// Failed attempts kept.
pub const FAILURES_KEPT: u64 = 2_000;

/// Most entries of one answer.
pub const PAGE_MAX: usize = 500;

/// Most characters of a subject.
const SUBJECT_MAX: usize = 300;

/// The actions this room writes; other rooms may add their own (see [`Users::note`]).
pub mod action {
    /// The first account was made.
    pub const CLAIMED: &str = "server.claimed";
    /// A link was made, to set up the server or to set a password.
    pub const LINK: &str = "link.created";
    /// Somebody came in.
    pub const LOGIN: &str = "login.succeeded";
    /// Somebody did not.
    pub const LOGIN_FAILED: &str = "login.failed";
    /// An API token was not taken.
    pub const TOKEN_FAILED: &str = "token.failed";
    /// Somebody left.
    pub const LOGOUT: &str = "session.ended";
    /// Somebody gave the password again.
    pub const CONFIRMED: &str = "session.confirmed";
    /// A password was changed by its owner.
    pub const PASSWORD: &str = "password.changed";
    /// A password was set through a link.
    pub const PASSWORD_RESET: &str = "password.reset";
    /// A user was invited.
    pub const USER_ADDED: &str = "user.invited";
    /// A user was removed.
    pub const USER_REMOVED: &str = "user.removed";
    /// A second factor was added.
    pub const FACTOR_ADDED: &str = "second_factor.added";
    /// A second factor was removed.
    pub const FACTOR_REMOVED: &str = "second_factor.removed";
    /// A recovery code was used up.
    pub const RECOVERY_CODE: &str = "second_factor.recovery_code_used";
    /// An API token was made.
    pub const TOKEN_ADDED: &str = "token.created";
    /// An API token was revoked.
    pub const TOKEN_REVOKED: &str = "token.revoked";
    /// An access key was made.
    pub const KEY_ADDED: &str = "access_key.created";
    /// A user of the Redis door was made or changed.
    pub const REDIS_USER_CHANGED: &str = "redis_user.changed";
    /// A user of the Redis door was removed.
    pub const REDIS_USER_REMOVED: &str = "redis_user.removed";
    /// An access key was revoked.
    pub const KEY_REVOKED: &str = "access_key.revoked";
    /// An access key's label, rights or end were changed.
    pub const KEY_CHANGED: &str = "access_key.changed";
    /// An access key got another secret.
    pub const KEY_ROTATED: &str = "access_key.rotated";
    /// The old secret of an access key was retired before its time.
    pub const KEY_RETIRED: &str = "access_key.secret_retired";
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number; later things have higher ones.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What, such as `login.failed`.
    pub action: String,
    /// Who: `user name@example.com`, `token ID (label)`, `command line`, `server`, `nobody`.
    pub actor: String,
    /// What it was done to: an e-mail address, a label, an id.
    pub subject: String,
    /// From which address; empty without one.
    pub address: String,
    /// What the client calls itself.
    pub agent: String,
}

/// Writes that `by` did `action` to `subject`.
pub(super) fn write(
    tx: &mut dyn WriteTx,
    now: Timestamp,
    by: &By,
    action: &str,
    subject: &str,
) -> Result<(), AccountsError> {
    append(tx, CHANGES, KEPT, now, by, action, subject)
}

/// As [`write`], for an attempt that failed.
pub(super) fn write_failure(
    tx: &mut dyn WriteTx,
    now: Timestamp,
    by: &By,
    action: &str,
    subject: &str,
) -> Result<(), AccountsError> {
    append(tx, FAILURES, FAILURES_KEPT, now, by, action, subject)
}

fn append(
    tx: &mut dyn WriteTx,
    table: Table,
    kept: u64,
    now: Timestamp,
    by: &By,
    action: &str,
    subject: &str,
) -> Result<(), AccountsError> {
    let sequence = rows::next(tx, NEXT_AUDIT)?;
    let row = AuditRow {
        at_ms: now.millis(),
        action: action.to_owned(),
        actor: by.actor.to_string(),
        subject: subject.chars().filter(|c| !c.is_control()).take(SUBJECT_MAX).collect(),
        address: by.client.address_text(),
        agent: by.client.agent.clone(),
    };
    rows::put(tx, table, &sequence.to_be_bytes(), &row)?;
    let count = rows::next(tx, table.name())?;
    // From here on each new row drops the oldest one.
    if count > kept {
        let oldest = tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, 1)?;
        for (key, _) in oldest {
            tx.delete(table, &key)?;
        }
    }
    Ok(())
}

/// The newest entries of `table` before `before`.
fn newest(tx: &dyn ReadTx, table: Table, before: u64, limit: usize) -> Result<Vec<AuditEntry>, AccountsError> {
    let to = before.to_be_bytes();
    let found = tx.scan(table, Bound::Unbounded, Bound::Excluded(&to), Direction::Backward, limit)?;
    let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
        let row: AuditRow = rows::decode(table, &value)?;
        let AuditRow { at_ms, action, actor, subject, address, agent } = row;
        Ok(AuditEntry { sequence: rows::number(&key), at: Timestamp(at_ms), action, actor, subject, address, agent })
    };
    found.into_iter().map(entry).collect()
}

impl Users {
    /// The newest `limit` entries (at most [`PAGE_MAX`]), newest first.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, AccountsError> {
        self.audit_before(u64::MAX, limit).await
    }

    /// The newest `limit` entries (at most [`PAGE_MAX`]) with a sequence number below `before`, newest first.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn audit_before(&self, before: u64, limit: usize) -> Result<Vec<AuditEntry>, AccountsError> {
        let limit = limit.min(PAGE_MAX);
        let read = move |tx: &dyn ReadTx| {
            let mut all = newest(tx, CHANGES, before, limit)?;
            all.extend(newest(tx, FAILURES, before, limit)?);
            all.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
            all.truncate(limit);
            Ok(all)
        };
        self.store().read(read).await
    }

    /// Writes into the audit log that `by` did `action` (such as `backup.started`) to `subject`. For changes made in
    /// other rooms.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be written or not.
    pub async fn note(&self, by: &By, action: &'static str, subject: &str) -> Result<(), AccountsError> {
        let (by, subject, now) = (by.clone(), subject.to_owned(), self.now());
        self.store().write(move |tx| write(tx, now, &by, action, &subject)).await
    }
}
