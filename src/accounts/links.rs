//! One-time links: the one that sets the server up, and those that let a user set a password.
//!
//! A new server has no account and shows strangers no form to make one: who can read its terminal, or run `mainstay
//! setup-link` on the machine, gets a link with 256 random bits that works once, for [`LINK_LIFE`]. Its hash is stored;
//! the next link replaces it. There is a way without a link for machines that are set up by a program:
//! [`Users::claim_from_environment`].

use std::time::Duration;

use super::AccountsError;
use super::audit::{self, action};
use super::bearer::Bearer;
use super::password;
use super::rows::{self, LINKS, LinkRow, USERS};
use super::second_factor;
use super::sessions;
use super::types::{By, Client, Email, NewSession, PasswordSet, User};
use super::users::Users;
use crate::base::{Secret, Timestamp};
use crate::store::{ReadTx, WriteTx};

/// How long a link works.
pub const LINK_LIFE: Duration = Duration::from_hours(24);

/// How long a link works that somebody asked for who says to be its user.
pub const FORGOT_LIFE: Duration = Duration::from_hours(1);

/// How long after such a link the next one is made, so that nobody's mailbox is filled.
pub const FORGOT_PAUSE: Duration = Duration::from_mins(5);

/// Stands in place of a user's number in the set-up link.
const SETUP: u64 = 0;

/// Set in a user's number for the link that anybody can ask for: it must not void an invitation, or a link the operator
/// made.
const FORGOT: u64 = 1 << 63;

impl Users {
    /// Makes the link that sets the server up, and voids the one before; returns what goes behind `/setup?token=`.
    ///
    /// # Errors
    /// [`AccountsError::AlreadyClaimed`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the link before may be void.
    pub async fn new_setup_link(&self, by: &By) -> Result<Secret<String>, AccountsError> {
        let link = Bearer::new(SETUP.to_be_bytes(), self.random());
        let (hash, by, now) = (link.hash(), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            nobody_yet(tx)?;
            put(tx, SETUP, hash, now)?;
            audit::write(tx, now, &by, action::LINK, "set-up")
        };
        self.store().write(write).await?;
        Ok(link.text())
    }

    /// Whether `token` is that of the set-up link, or of a link that sets a password; so that a page can say so before
    /// somebody fills in its form. Uses nothing up.
    ///
    /// # Errors
    /// [`AccountsError::BadLink`], [`AccountsError::Throttled`].
    ///
    /// # Cancel safety
    /// Without effects but for the count of failures.
    pub async fn check_link(&self, token: &Secret<String>, client: &Client) -> Result<(), AccountsError> {
        let attempt = self.throttle().begin(None, client.address)?;
        let link = Bearer::parse(token.expose()).ok_or(AccountsError::BadLink)?;
        let now = self.now();
        self.store().read(move |tx| fits(tx, &link, now)).await?;
        attempt.take_back();
        Ok(())
    }

    /// Makes the first account, an administrator's, and a session for it.
    ///
    /// # Errors
    /// [`AccountsError::BadLink`], [`AccountsError::AlreadyClaimed`], [`AccountsError::BadEmail`],
    /// [`AccountsError::Password`], [`AccountsError::Throttled`], [`AccountsError::Busy`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the account may be there or not; if it is, the link is void and one logs in.
    pub async fn claim(
        &self,
        token: &Secret<String>,
        email: &str,
        password: &Secret<String>,
        client: &Client,
    ) -> Result<NewSession, AccountsError> {
        if self.is_claimed() {
            return Err(AccountsError::AlreadyClaimed);
        }
        self.check_link(token, client).await?;
        let link = Bearer::parse(token.expose()).filter(|link: &Bearer<8>| link.name == SETUP.to_be_bytes());
        let link = link.ok_or(AccountsError::BadLink)?;
        let email: Email = email.parse()?;
        password::check(password, &email)?;
        let hash = self.hasher().hash(password).await?;
        let (by, now) = (By::nobody(client), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            nobody_yet(tx)?;
            fits(tx, &link, now)?;
            tx.delete(LINKS, &link.name)?;
            let id = rows::add_user(tx, &email, &hash, now)?;
            audit::write(tx, now, &by, action::CLAIMED, email.as_str())?;
            rows::account(tx, id)?.ok_or(AccountsError::NoSuchUser)
        };
        let account = self.store().write(write).await?;
        self.set_claimed();
        self.enter(account, client, action::LOGIN).await
    }

    /// Makes the first account from what the operator gave in the environment. Does nothing on a server that has one.
    ///
    /// # Errors
    /// [`AccountsError::BadEmail`], [`AccountsError::Password`], or what the store says.
    ///
    /// # Cancel safety
    /// Dropped before its end, the account may be there or not.
    pub async fn claim_from_environment(&self, email: &str, password: &Secret<String>) -> Result<(), AccountsError> {
        if self.is_claimed() {
            return Ok(());
        }
        let email: Email = email.parse()?;
        password::check(password, &email)?;
        let hash = self.hasher().hash(password).await?;
        let now = self.now();
        let write = move |tx: &mut dyn WriteTx| {
            nobody_yet(tx)?;
            tx.delete(LINKS, &SETUP.to_be_bytes())?;
            rows::add_user(tx, &email, &hash, now)?;
            audit::write(tx, now, &By::server(), action::CLAIMED, email.as_str())
        };
        self.store().write(write).await?;
        self.set_claimed();
        Ok(())
    }

    /// Makes another administrator, without a password, and the link that lets them set one; returns what goes behind
    /// `/reset?token=`.
    ///
    /// # Errors
    /// [`AccountsError::BadEmail`], [`AccountsError::EmailTaken`], [`AccountsError::TooMany`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the user may be there, with a link nobody knows: make another.
    pub async fn invite(&self, email: &str, by: &By) -> Result<(User, Secret<String>), AccountsError> {
        let email: Email = email.parse()?;
        let (made, by, now) = (email.clone(), by.clone(), self.now());
        let secret = Bearer::new([0; 8], self.random()).text();
        let carried = secret.clone();
        let write = move |tx: &mut dyn WriteTx| {
            let id = rows::add_user(tx, &made, "", now)?;
            let link = renamed(&carried, id)?;
            put(tx, id, link.hash(), now)?;
            audit::write(tx, now, &by, action::USER_ADDED, made.as_str())?;
            let account = rows::account(tx, id)?.ok_or(AccountsError::NoSuchUser)?;
            Ok::<_, AccountsError>((account.user, link.text()))
        };
        let (user, link) = self.store().write(write).await?;
        self.set_claimed();
        Ok((user, link))
    }

    /// Makes a link that lets the user of `email` set a new password, and voids the one before; returns what goes
    /// behind `/reset?token=`. The old password works until the link is used.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchUser`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the link before may be void.
    pub async fn new_reset_link(&self, email: &str, by: &By) -> Result<Secret<String>, AccountsError> {
        let email: Email = email.parse()?;
        let user = self.account_of(&email).await?.ok_or(AccountsError::NoSuchUser)?.user;
        let link = Bearer::new(user.id.to_be_bytes(), self.random());
        let (hash, by, now) = (link.hash(), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            put(tx, user.id, hash, now)?;
            audit::write(tx, now, &by, action::LINK, email.as_str())
        };
        self.store().write(write).await?;
        Ok(link.text())
    }

    /// Makes a link for whoever says to have forgotten the password of `email`, to be sent to that address and shown
    /// nowhere else; with it, when it ends. `None` when there is no such user, and within [`FORGOT_PAUSE`] of the last
    /// one; who asks must not be told which.
    ///
    /// # Errors
    /// [`AccountsError::Throttled`] when this client has asked too often.
    ///
    /// # Cancel safety
    /// Dropped before its end, the link before may be void.
    pub async fn forgot(
        &self,
        email: &str,
        client: &Client,
    ) -> Result<Option<(Secret<String>, Timestamp)>, AccountsError> {
        let Ok(email) = email.parse::<Email>() else { return Ok(None) };
        // Never taken back: each time counts.
        let _counted = self.throttle().begin(Some(&format!("forgot/{}", email.as_str())), client.address)?;
        let Some(account) = self.account_of(&email).await? else { return Ok(None) };
        let name = account.user.id | FORGOT;
        let link = Bearer::new(name.to_be_bytes(), self.random());
        let (hash, by, now) = (link.hash(), By::nobody(client), self.now());
        let expires = now.after(FORGOT_LIFE);
        let write = move |tx: &mut dyn WriteTx| {
            let before: Option<LinkRow> = rows::get(tx, LINKS, &name.to_be_bytes())?;
            let again = now.after(FORGOT_LIFE.saturating_sub(FORGOT_PAUSE)).millis();
            if before.is_some_and(|before| before.expires_ms > again) {
                return Ok(false);
            }
            let row = LinkRow { hash, expires_ms: expires.millis() };
            rows::put(tx, LINKS, &name.to_be_bytes(), &row)?;
            audit::write(tx, now, &by, action::LINK, email.as_str())?;
            Ok::<_, AccountsError>(true)
        };
        Ok(self.store().write(write).await?.then(|| (link.text(), expires)))
    }

    /// Sets a new password through a link. All sessions of the user end. A second factor stays: `code` goes with it
    /// where there is one, so that who gets hold of a link alone does not come in.
    ///
    /// # Errors
    /// [`AccountsError::BadLink`], [`AccountsError::Password`], [`AccountsError::WrongCredentials`] for a wrong or
    /// missing code, [`AccountsError::Throttled`], [`AccountsError::Busy`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the password may be set or not; if it is, the link is void and one logs in.
    pub async fn reset_password(
        &self,
        token: &Secret<String>,
        password: &Secret<String>,
        code: Option<&Secret<String>>,
        client: &Client,
    ) -> Result<PasswordSet, AccountsError> {
        self.check_link(token, client).await?;
        let link = Bearer::<8>::parse(token.expose()).ok_or(AccountsError::BadLink)?;
        let id = u64::from_be_bytes(link.name) & !FORGOT;
        let account = self.store().read(move |tx| rows::account(tx, id)).await?.ok_or(AccountsError::BadLink)?;
        password::check(password, &account.user.email)?;
        let first = account.user.password_set == Timestamp(0);
        let attempt = self.throttle().begin(Some(&format!("code/{id}")), client.address)?;
        let hash = self.hasher().hash(password).await?;
        let (code, now, by) = (code.map(second_factor::normal), self.now(), By::user(&account.user, client));
        let write = move |tx: &mut dyn WriteTx| {
            fits(tx, &link, now)?;
            let mut account = rows::account(tx, id)?.ok_or(AccountsError::BadLink)?;
            if account.user.second_factor {
                let code = code.as_ref().ok_or(AccountsError::WrongCredentials)?;
                second_factor::take(tx, id, code, now)?;
            }
            // Whichever link it was, the other one is of no use any more, and void.
            tx.delete(LINKS, &id.to_be_bytes())?;
            tx.delete(LINKS, &(id | FORGOT).to_be_bytes())?;
            account.row.password.clone_from(&hash);
            account.row.password_set_ms = now.millis();
            account.user.password_set = now;
            rows::put(tx, USERS, &id.to_be_bytes(), &account.row)?;
            sessions::end_all(tx, id, None)?;
            audit::write(tx, now, &by, action::PASSWORD_RESET, account.user.email.as_str())?;
            Ok::<_, AccountsError>(account)
        };
        let account = self.store().write(write).await?;
        attempt.succeeded();
        Ok(PasswordSet { session: self.enter(account, client, action::LOGIN).await?, first })
    }
}

fn nobody_yet(tx: &dyn ReadTx) -> Result<(), AccountsError> {
    if rows::rows(tx, USERS, b"", 1)?.is_empty() { Ok(()) } else { Err(AccountsError::AlreadyClaimed) }
}

fn put(tx: &mut dyn WriteTx, user: u64, hash: [u8; 32], now: Timestamp) -> Result<(), AccountsError> {
    let row = LinkRow { hash, expires_ms: now.after(LINK_LIFE).millis() };
    rows::put(tx, LINKS, &user.to_be_bytes(), &row)
}

fn fits(tx: &dyn ReadTx, link: &Bearer<8>, now: Timestamp) -> Result<(), AccountsError> {
    let stored: Option<LinkRow> = rows::get(tx, LINKS, &link.name)?;
    let good = stored.is_some_and(|stored| link.fits(&stored.hash) && now.millis() < stored.expires_ms);
    if good { Ok(()) } else { Err(AccountsError::BadLink) }
}

/// The link of user `id` with the secret of `text`: the number is known only once the user is there.
fn renamed(text: &Secret<String>, id: u64) -> Result<Bearer<8>, AccountsError> {
    let mut link = Bearer::parse(text.expose()).ok_or(AccountsError::BadLink)?;
    link.name = id.to_be_bytes();
    Ok(link)
}
