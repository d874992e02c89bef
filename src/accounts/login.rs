//! Coming in: password, then the second factor where there is one; and giving the password again.
//!
//! Who is told what: a wrong password, an address nobody has, and a user who was invited and has no password yet are one
//! error and take one time. What stands behind is `throttle.rs` and the queue in `password.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::AccountsError;
use super::audit::{self, action};
use super::bearer::Bearer;
use super::password::{self, BYTES_MAX};
use super::rows::{self, Account, USERS};
use super::second_factor;
use super::sessions::{self, Fresh};
use super::types::{By, Client, Email, Login, NewSession, Session};
use super::users::Users;
use crate::base::Secret;
use crate::store::WriteTx;

/// How long a right password waits for its code.
const CODE_WAIT: Duration = Duration::from_mins(5);

/// Most passwords waiting for a code at once; past it the oldest are forgotten.
const PENDING_MAX: usize = 1000;

/// Wrong codes after which the password is asked for again.
const CODE_TRIES: u32 = 5;

/// Right passwords that wait for a code, in memory, by a name drawn at random. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<HashMap<[u8; 16], Waiting>>>);

#[derive(Clone)]
struct Waiting {
    hash: [u8; 32],
    user: u64,
    /// When the password that was given was set.
    password_set_ms: u64,
    /// Monotonic time.
    ends: Duration,
    tries: u32,
}

impl Users {
    /// Checks e-mail address and password; in, or on to the code.
    ///
    /// # Errors
    /// [`AccountsError::WrongCredentials`], [`AccountsError::Throttled`], [`AccountsError::Busy`], or what the store
    /// says.
    ///
    /// # Cancel safety
    /// Dropped before its end, the attempt may count as a failure, and a session nobody knows may have been made.
    pub async fn login(&self, email: &str, password: &Secret<String>, client: &Client) -> Result<Login, AccountsError> {
        let email: Email = email.parse().map_err(|_no_address: AccountsError| AccountsError::WrongCredentials)?;
        let Some(account) = self.check_password(&email, password, client).await? else {
            return Err(self.refused(email, client).await);
        };
        if account.user.second_factor {
            let bearer = Bearer::new(crate::base::random::bytes(self.random()), self.random());
            self.wait_for_code(&bearer, &account);
            return Ok(Login::Code(bearer.text()));
        }
        Ok(Login::Done(self.enter(account, client, action::LOGIN).await?))
    }

    /// Checks the code that goes with `pending` (see [`Login::Code`]): six digits of the app, or a recovery code.
    ///
    /// # Errors
    /// [`AccountsError::WrongCredentials`], also when the password was given more than five minutes ago or five codes
    /// were wrong: then it is to be given again. [`AccountsError::Throttled`].
    ///
    /// # Cancel safety
    /// As [`Users::login`]; the code may be used up.
    pub async fn login_with_code(
        &self,
        pending: &Secret<String>,
        code: &Secret<String>,
        client: &Client,
    ) -> Result<NewSession, AccountsError> {
        let bearer = Bearer::<16>::parse(pending.expose()).ok_or(AccountsError::WrongCredentials)?;
        let (user, password_set_ms) = self.try_code(&bearer).ok_or(AccountsError::WrongCredentials)?;
        let attempt = self.throttle().begin(Some(&format!("code/{user}")), client.address)?;
        let account = self.store().read(move |tx| rows::account(tx, user)).await?;
        let same = account.filter(|account| account.row.password_set_ms == password_set_ms);
        let account = same.ok_or(AccountsError::WrongCredentials)?;
        let (email, now) = (account.user.email.clone(), self.now());
        let fresh = Fresh::new(self, user, client);
        let (stored, config, by) = (fresh.stored(), self.config().clone(), By::user(&account.user, client));
        let code = second_factor::normal(code);
        let write = move |tx: &mut dyn WriteTx| {
            let used = second_factor::take(tx, user, &code, now)?;
            if used == second_factor::Taken::RecoveryCode {
                audit::write(tx, now, &by, action::RECOVERY_CODE, by_email(&by))?;
            }
            sessions::insert(tx, &stored, now, &config)?;
            audit::write(tx, now, &by, action::LOGIN, by_email(&by))
        };
        match self.store().write(write).await {
            Ok(()) => {
                self.forget_pending(&bearer);
                attempt.succeeded();
                Ok(fresh.into_session(account.user))
            }
            Err(AccountsError::WrongCredentials) => Err(self.refused(email, client).await),
            Err(error) => {
                attempt.take_back();
                Err(error)
            }
        }
    }

    /// Takes the password of the session's owner again, before a sensitive change. The session gets a new token.
    ///
    /// # Errors
    /// As [`Users::login`].
    ///
    /// # Cancel safety
    /// As [`Users::login`]; the old token may be void.
    pub async fn confirm(
        &self,
        session: &Session,
        password: &Secret<String>,
        client: &Client,
    ) -> Result<NewSession, AccountsError> {
        let email = session.user.email.clone();
        let Some(account) = self.check_password(&email, password, client).await? else {
            return Err(self.refused(email, client).await);
        };
        self.replace_session(session, account, client, action::CONFIRMED, None).await
    }

    /// Changes the password of the session's owner. All other sessions end; this one gets a new token.
    ///
    /// # Errors
    /// [`AccountsError::Password`], and as [`Users::login`] for the current one.
    ///
    /// # Cancel safety
    /// Dropped before its end, the password may be changed or not.
    pub async fn change_password(
        &self,
        session: &Session,
        current: &Secret<String>,
        new: &Secret<String>,
        client: &Client,
    ) -> Result<NewSession, AccountsError> {
        let email = session.user.email.clone();
        password::check(new, &email)?;
        let Some(account) = self.check_password(&email, current, client).await? else {
            return Err(self.refused(email, client).await);
        };
        let hash = self.hasher().hash(new).await?;
        self.replace_session(session, account, client, action::PASSWORD, Some(hash)).await
    }

    /// The account of `email`, if `password` is its password.
    async fn check_password(
        &self,
        email: &Email,
        password: &Secret<String>,
        client: &Client,
    ) -> Result<Option<Account>, AccountsError> {
        // No account has such a password, so nothing is told by answering at once.
        if password.expose().len() > BYTES_MAX {
            return Err(AccountsError::WrongCredentials);
        }
        let attempt = self.throttle().begin(Some(email.as_str()), client.address)?;
        let checked = async {
            let account = self.account_of(email).await?;
            let phc = account.as_ref().map(|account| account.row.password.as_str());
            let right = self.hasher().verify(password, phc).await?;
            Ok(account.filter(|_| right))
        };
        let checked: Result<Option<Account>, AccountsError> = checked.await;
        match &checked {
            Ok(Some(_)) => attempt.succeeded(),
            Ok(None) => {}
            Err(_) => attempt.take_back(),
        }
        checked
    }

    /// Writes a failed login down, and makes the error of it.
    async fn refused(&self, email: Email, client: &Client) -> AccountsError {
        let (by, now) = (By::nobody(client), self.now());
        let write =
            move |tx: &mut dyn WriteTx| audit::write_failure(tx, now, &by, action::LOGIN_FAILED, email.as_str());
        if let Err(error) = self.store().write(write).await {
            tracing::warn!(%error, "a failed login is not in the audit log");
        }
        AccountsError::WrongCredentials
    }

    /// Makes a session for `account`.
    pub(super) async fn enter(
        &self,
        account: Account,
        client: &Client,
        action: &'static str,
    ) -> Result<NewSession, AccountsError> {
        let fresh = Fresh::new(self, account.user.id, client);
        let (stored, config, now) = (fresh.stored(), self.config().clone(), self.now());
        let (by, email) = (By::user(&account.user, client), account.user.email.clone());
        let write = move |tx: &mut dyn WriteTx| {
            sessions::insert(tx, &stored, now, &config)?;
            audit::write(tx, now, &by, action, email.as_str())
        };
        self.store().write(write).await?;
        Ok(fresh.into_session(account.user))
    }

    /// Ends `session` and makes another for its owner; with a new password, the others end too.
    async fn replace_session(
        &self,
        session: &Session,
        account: Account,
        client: &Client,
        action: &'static str,
        new_password: Option<String>,
    ) -> Result<NewSession, AccountsError> {
        let fresh = Fresh::new(self, account.user.id, client);
        let (stored, config, now) = (fresh.stored(), self.config().clone(), self.now());
        let (by, user, old) = (By::user(&account.user, client), account.user.clone(), session.id);
        let (checked, changed) = (account.row.password.clone(), new_password.is_some());
        let write = move |tx: &mut dyn WriteTx| {
            let Some(mut account) = rows::account(tx, user.id)? else { return Err(AccountsError::NoSuchUser) };
            // Changed by another request since it was checked: then it was not the password.
            if account.row.password != checked {
                return Err(AccountsError::WrongCredentials);
            }
            if let Some(hash) = &new_password {
                account.row.password.clone_from(hash);
                account.row.password_set_ms = now.millis();
                rows::put(tx, USERS, &user.id.to_be_bytes(), &account.row)?;
                tx.delete(rows::LINKS, &user.id.to_be_bytes())?;
                sessions::end_all(tx, user.id, None)?;
            } else {
                sessions::end_one(tx, user.id, old)?;
            }
            sessions::insert(tx, &stored, now, &config)?;
            audit::write(tx, now, &by, action, user.email.as_str())
        };
        self.store().write(write).await?;
        let mut user = account.user;
        if changed {
            user.password_set = now;
        }
        Ok(fresh.into_session(user))
    }

    fn wait_for_code(&self, bearer: &Bearer<16>, account: &Account) {
        let now = self.clock().monotonic();
        let mut waiting = self.pending().0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, waiting| waiting.ends > now);
        if waiting.len() >= PENDING_MAX
            && let Some(oldest) = waiting.iter().min_by_key(|(_, waiting)| waiting.ends).map(|(name, _)| *name)
        {
            waiting.remove(&oldest);
        }
        let entry = Waiting {
            hash: bearer.hash(),
            user: account.user.id,
            password_set_ms: account.row.password_set_ms,
            ends: now.saturating_add(CODE_WAIT),
            tries: 0,
        };
        waiting.insert(bearer.name, entry);
    }

    /// The user whose code is tried, if there is one who waits and has a try left, and when their password was set.
    fn try_code(&self, bearer: &Bearer<16>) -> Option<(u64, u64)> {
        let now = self.clock().monotonic();
        let mut waiting = self.pending().0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.get_mut(&bearer.name)?;
        if !bearer.fits(&found.hash) || found.ends <= now || found.tries >= CODE_TRIES {
            return None;
        }
        found.tries += 1;
        Some((found.user, found.password_set_ms))
    }

    fn forget_pending(&self, bearer: &Bearer<16>) {
        self.pending().0.lock().unwrap_or_else(PoisonError::into_inner).remove(&bearer.name);
    }
}

fn by_email(by: &By) -> &str {
    match &by.actor {
        super::types::Actor::User { email, .. } => email.as_str(),
        _ => "",
    }
}
