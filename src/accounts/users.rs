//! The service: what it is made of, and the list of users.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::audit::{self, action};
use super::login::Pending;
use super::password::Hasher;
use super::rows::{self, Account};
use super::throttle::Throttle;
use super::types::{By, Email, Session, User};
use super::{AccessKeys, AccountsConfig, AccountsError, tokens};
use crate::base::{Clock, Random, Secret, Timestamp};
use crate::store::{ReadTx, Store};

/// Hashes at once on a machine with more than two processors; else one.
const PLACES: usize = 2;

/// People's accounts, their sessions, and API tokens. Clones are the same service.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    store: Store,
    keys: Arc<AccessKeys>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    config: AccountsConfig,
    hasher: Hasher,
    throttle: Throttle,
    pending: Pending,
    claimed: AtomicBool,
    first_token: ArcSwapOption<Secret<String>>,
    /// One change of an access key at a time.
    key_changes: Mutex<()>,
}

impl Users {
    /// Opens the accounts in `store`, and makes the first API token if there never was one. Blocks.
    ///
    /// # Errors
    /// What the store says; nothing was made then.
    pub fn open(
        store: Store,
        keys: Arc<AccessKeys>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        config: AccountsConfig,
    ) -> Result<Self, AccountsError> {
        let first_token = tokens::first(&store, clock.as_ref(), random.as_ref())?;
        let claimed =
            store.read_blocking(|tx| Ok::<_, AccountsError>(!rows::rows(tx, rows::USERS, b"", 1)?.is_empty()))?;
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hasher = Hasher::new(if processors > 2 { PLACES } else { 1 }, Arc::clone(&random));
        let throttle = Throttle::new(&config, Arc::clone(&clock));
        Ok(Self(Arc::new(Inner {
            store,
            keys,
            clock,
            random,
            config,
            hasher,
            throttle,
            pending: Pending::default(),
            claimed: AtomicBool::new(claimed),
            first_token: ArcSwapOption::new(first_token.map(Arc::new)),
            key_changes: Mutex::default(),
        })))
    }

    /// Whether the server has its first account. Before, all it shows to people is where to find the set-up link.
    pub fn is_claimed(&self) -> bool {
        self.0.claimed.load(Ordering::Acquire)
    }

    /// Every user, by number.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn users(&self) -> Result<Vec<User>, AccountsError> {
        let read = |tx: &dyn ReadTx| {
            let found = rows::rows(tx, rows::USERS, b"", rows::USERS_MAX)?;
            let users = found.iter().map(|(key, _)| Ok(rows::account(tx, rows::number(key))?.map(|found| found.user)));
            users.filter_map(Result::transpose).collect()
        };
        self.store().read(read).await
    }

    /// Removes a user with all its sessions.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchUser`], [`AccountsError::LastAdmin`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the user may be gone or not, as a whole.
    pub async fn remove(&self, id: u64, by: &By) -> Result<(), AccountsError> {
        let (by, now) = (by.clone(), self.now());
        let write = move |tx: &mut dyn crate::store::WriteTx| {
            let Some(found) = rows::account(tx, id)? else { return Err(AccountsError::NoSuchUser) };
            if rows::rows(tx, rows::USERS, b"", 2)?.len() < 2 {
                return Err(AccountsError::LastAdmin);
            }
            let key = id.to_be_bytes();
            for table in [rows::USERS, rows::LINKS, rows::SECOND_FACTORS] {
                tx.delete(table, &key)?;
            }
            tx.delete(rows::EMAILS, found.user.email.as_str().as_bytes())?;
            super::sessions::end_all(tx, id, None)?;
            audit::write(tx, now, &by, action::USER_REMOVED, found.user.email.as_str())
        };
        self.store().write(write).await
    }

    /// Whether the session's owner gave the password recently enough for a sensitive change.
    pub fn is_confirmed(&self, session: &Session) -> bool {
        let now = self.now();
        now >= session.confirmed_at && now.since(session.confirmed_at) <= self.0.config.confirm_for.duration()
    }

    /// The account of `email`.
    pub(super) async fn account_of(&self, email: &Email) -> Result<Option<Account>, AccountsError> {
        let email = email.clone();
        let read = move |tx: &dyn ReadTx| match rows::user_id(tx, &email)? {
            Some(id) => rows::account(tx, id),
            None => Ok(None),
        };
        let found = self.store().read(read).await?;
        if found.is_some() {
            // A caller who left right after the first account was made may have missed this.
            self.set_claimed();
        }
        Ok(found)
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn key_changes(&self) -> &Mutex<()> {
        &self.0.key_changes
    }

    pub(super) fn keys(&self) -> &AccessKeys {
        &self.0.keys
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    pub(super) fn random(&self) -> &dyn Random {
        self.0.random.as_ref()
    }

    pub(super) fn config(&self) -> &AccountsConfig {
        &self.0.config
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.0.pending
    }

    pub(super) fn first_token_cell(&self) -> &ArcSwapOption<Secret<String>> {
        &self.0.first_token
    }

    pub(super) fn set_claimed(&self) {
        self.0.claimed.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("claimed", &self.is_claimed())
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}
