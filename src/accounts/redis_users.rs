//! The users of the Redis door besides `default`: a name, and rules that the door understands.
//!
//! They are changed over the Redis protocol by whoever may (`ACL SETUSER`), on the door's own thread, so every call here
//! blocks.

use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::AccountsError;
use super::audit::{self, action};
use super::rows;
use super::types::By;
use crate::base::Clock;
use crate::store::{Direction, Record, Store, Table, WriteTx, record};

const REDIS_USERS: Table = Table::new("accounts.redis_users");

/// Most users.
pub const REDIS_USERS_MAX: usize = 1000;

#[derive(Serialize, Deserialize)]
struct RedisUserRow {
    rules: String,
}

impl Record for RedisUserRow {
    const VERSION: u8 = 1;
}

/// The stored users. Clones are the same.
#[derive(Clone, Debug)]
pub struct RedisUsers {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl RedisUsers {
    /// The users in `store`.
    pub const fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Every user: name and rules.
    ///
    /// # Errors
    /// [`AccountsError::Store`], [`AccountsError::Record`].
    pub fn all(&self) -> Result<Vec<(String, String)>, AccountsError> {
        let rows = self.store.read_blocking(|tx| {
            tx.scan(REDIS_USERS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, REDIS_USERS_MAX)
        })?;
        let user = |(name, value): (Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(&name).into_owned();
            match record::decode::<RedisUserRow>(&value) {
                Ok(row) => Ok((name, row.rules)),
                Err(source) => Err(AccountsError::Record { name, source }),
            }
        };
        rows.into_iter().map(user).collect()
    }

    /// Stores user `name`, made or changed by Redis user `by`.
    ///
    /// # Errors
    /// [`AccountsError::TooMany`], [`AccountsError::Store`]; nothing has changed then.
    pub fn put(&self, name: &str, rules: &str, by: &str) -> Result<(), AccountsError> {
        let (name, rules, by, now) = (name.to_owned(), rules.to_owned(), By::redis(by), self.clock.now());
        self.store.write_blocking(move |tx: &mut dyn WriteTx| {
            let is_new = tx.get(REDIS_USERS, name.as_bytes())?.is_none();
            if is_new && rows::rows(tx, REDIS_USERS, b"", REDIS_USERS_MAX)?.len() >= REDIS_USERS_MAX {
                return Err(AccountsError::TooMany { what: "Redis users", most: REDIS_USERS_MAX });
            }
            rows::put(tx, REDIS_USERS, name.as_bytes(), &RedisUserRow { rules: rules.clone() })?;
            audit::write(tx, now, &by, action::REDIS_USER_CHANGED, &name)
        })
    }

    /// Removes the users `names`, if they are there.
    ///
    /// # Errors
    /// [`AccountsError::Store`]; nothing has changed then.
    pub fn remove(&self, names: &[String], by: &str) -> Result<(), AccountsError> {
        let (names, by, now) = (names.to_vec(), By::redis(by), self.clock.now());
        self.store.write_blocking(move |tx: &mut dyn WriteTx| {
            for name in &names {
                if tx.delete(REDIS_USERS, name.as_bytes())? {
                    audit::write(tx, now, &by, action::REDIS_USER_REMOVED, name)?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestClock, memory_store};

    #[test]
    fn users_are_kept_changed_and_removed() {
        let users = RedisUsers::new(memory_store(), Arc::new(TestClock::default()));
        users.put("b", "on +@all", "default").unwrap();
        users.put("a", "off", "default").unwrap();
        users.put("b", "off", "default").unwrap();
        let all = [("a", "off"), ("b", "off")].map(|(name, rules)| (name.to_owned(), rules.to_owned()));
        assert_eq!(users.all().unwrap(), all);
        users.remove(&[String::from("a"), String::from("none")], "default").unwrap();
        assert_eq!(users.all().unwrap(), all[1..]);
    }
}
