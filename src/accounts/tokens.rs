//! API tokens: how programs come in at `/v1`.
//!
//! A token is `mst_ID_SECRET`: 12 letters it is found and listed by, and 43 letters and digits (256 random bits) of
//! which the store has the SHA-256. It has scopes, may end by itself, and can be revoked at any time.
//!
//! The first start makes one with every scope. That one alone is also kept as it is, sealed as every value of the store,
//! in `accounts.passwords` as `api`: `mainstay env` prints it whenever it is asked, as it prints the other first
//! credentials. Revoking it removes both.

use std::time::Duration;

use super::AccountsError;
use super::access_keys::{PASSWORDS, PasswordRecord, SECRET_ALPHABET, letters};
use super::audit::{self, action};
use super::rows::{self, TOKENS, TokenRow};
use super::types::{self, Actor, By, Client};
use super::users::Users;
use crate::base::{Clock, Random, Secret, Timestamp};
use crate::crypto::mac;
use crate::store::{Store, WriteTx, record};

/// Most tokens.
pub const TOKENS_MAX: usize = 1000;

const PREFIX: &str = "mst_";
const ID_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const ID: usize = 12;
const SECRET: usize = 43;

/// The row of the first token in `accounts.passwords`.
const FIRST: &[u8] = b"api";

/// Counted up when the first token is made, so that a revoked one does not come back.
const FIRST_MADE: &str = "first_token";

/// How exactly the last use is written down.
const TOUCH: Duration = Duration::from_mins(1);

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Looking at everything but credentials, settings and the audit log.
    pub const READ: Self = Self(1);
    /// Changing data: buckets, objects, mail, issues, backups.
    pub const WRITE: Self = Self(2);
    /// Credentials, settings and the audit log.
    pub const ADMIN: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    const NAMES: [(&'static str, Self); 3] = [("read", Self::READ), ("write", Self::WRITE), ("admin", Self::ADMIN)];

    /// The scopes called `names`; `None` when there are none, or one is unknown.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut out = 0;
        for name in names {
            out |= Self::NAMES.iter().find(|(known, _)| *known == name)?.1.0;
        }
        (out != 0).then_some(Self(out))
    }

    /// Their names: `read`, `write`, `admin`.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(_, scope)| self.allow(*scope)).map(|(name, _)| *name).collect()
    }

    /// Whether all of `wanted` are among them.
    pub const fn allow(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// An API token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is found by.
    pub id: String,
    /// What it is called.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
}

impl Token {
    fn new(id: &[u8], row: TokenRow) -> Self {
        let moment = |ms: u64| (ms != 0).then_some(Timestamp(ms));
        Self {
            id: String::from_utf8_lossy(id).into_owned(),
            label: row.label,
            scopes: Scopes(row.scopes),
            created: Timestamp(row.created_ms),
            expires: moment(row.expires_ms),
            last_used: moment(row.last_used_ms),
        }
    }

    /// The token as one who does something, from `client`.
    pub fn by(&self, client: &Client) -> By {
        By { actor: Actor::Token { id: self.id.clone(), label: self.label.clone() }, client: client.clone() }
    }
}

/// Id and secret of a token that is to be made.
struct Fresh {
    id: String,
    text: Secret<String>,
    hash: [u8; 32],
}

impl Fresh {
    fn new(random: &dyn Random) -> Self {
        let id = letters(random, ID_ALPHABET, ID).expose().clone();
        let secret = letters(random, SECRET_ALPHABET, SECRET);
        let text = Secret::new(format!("{PREFIX}{id}_{}", secret.expose()));
        Self { id, text, hash: mac::sha256(secret.expose().as_bytes()) }
    }
}

/// Id and secret in the text of a token; `None` for any other text.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let shaped = id.len() == ID && secret.len() == SECRET;
    let known =
        id.bytes().all(|byte| ID_ALPHABET.contains(&byte)) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (shaped && known).then_some((id, secret))
}

/// The first token as `mainstay env` prints it; made if there never was one. Blocks.
pub(super) fn first(
    store: &Store,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Option<Secret<String>>, AccountsError> {
    let (found, made) = store.read_blocking(|tx| {
        let found: Option<PasswordRecord> = rows::get(tx, PASSWORDS, FIRST)?;
        Ok::<_, AccountsError>((found, rows::counter(tx, FIRST_MADE)?))
    })?;
    if let Some(found) = found {
        return Ok(Some(Secret::new(found.password)));
    }
    if made > 0 {
        return Ok(None);
    }
    let (fresh, now) = (Fresh::new(random), clock.now());
    let text = fresh.text.clone();
    store.write_blocking(move |tx| {
        let sealed = PasswordRecord { password: text.expose().clone(), created_ms: now.millis() };
        tx.put(PASSWORDS, FIRST, &record::encode(&sealed))?;
        rows::next(tx, FIRST_MADE)?;
        let row = TokenRow {
            label: String::from("first token, printed by `mainstay env`"),
            hash: fresh.hash,
            scopes: Scopes::ALL.0,
            created_ms: now.millis(),
            expires_ms: 0,
            last_used_ms: 0,
        };
        rows::put(tx, TOKENS, fresh.id.as_bytes(), &row)?;
        audit::write(tx, now, &By::server(), action::TOKEN_ADDED, &row.label)?;
        Ok::<_, AccountsError>(Some(fresh.text.clone()))
    })
}

impl Users {
    /// The first token, for `mainstay env`; `None` once it was revoked.
    pub fn first_token(&self) -> Option<Secret<String>> {
        self.first_token_cell().load().as_deref().cloned()
    }

    /// The token whose text is `text`. Writes down its use, once a minute.
    ///
    /// # Errors
    /// [`AccountsError::WrongCredentials`], [`AccountsError::Throttled`] after too many wrong ones from this address.
    ///
    /// # Cancel safety
    /// Dropped before its end, the use may be written down or not.
    pub async fn token(&self, text: &Secret<String>, client: &Client) -> Result<Token, AccountsError> {
        let attempt = self.throttle().begin(None, client.address)?;
        let now = self.now();
        let found = match parse(text.expose()) {
            Some((id, secret)) => {
                let (id, hash) = (id.to_owned(), mac::sha256(secret.as_bytes()));
                let row: Option<TokenRow> = self.store().read(move |tx| rows::get(tx, TOKENS, id.as_bytes())).await?;
                row.filter(|row| mac::equal(&row.hash, &hash) && (row.expires_ms == 0 || now.millis() < row.expires_ms))
            }
            None => None,
        };
        let Some((row, (id, _))) = found.zip(parse(text.expose())) else {
            self.token_refused(client).await;
            return Err(AccountsError::WrongCredentials);
        };
        attempt.take_back();
        if now.since(Timestamp(row.last_used_ms)) >= TOUCH {
            self.touch_token(id.to_owned(), now).await;
        }
        Ok(Token::new(id.as_bytes(), row))
    }

    async fn touch_token(&self, id: String, now: Timestamp) {
        let write = move |tx: &mut dyn WriteTx| {
            if let Some(mut row) = rows::get::<TokenRow>(tx, TOKENS, id.as_bytes())? {
                row.last_used_ms = now.millis();
                rows::put(tx, TOKENS, id.as_bytes(), &row)?;
            }
            Ok::<_, AccountsError>(())
        };
        if let Err(error) = self.store().write(write).await {
            tracing::warn!(%error, "the use of a token is not written down");
        }
    }

    async fn token_refused(&self, client: &Client) {
        let (by, now) = (By::nobody(client), self.now());
        let write = move |tx: &mut dyn WriteTx| audit::write_failure(tx, now, &by, action::TOKEN_FAILED, "");
        if let Err(error) = self.store().write(write).await {
            tracing::warn!(%error, "a refused token is not in the audit log");
        }
    }

    /// Every token, by when it was made.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn tokens(&self) -> Result<Vec<Token>, AccountsError> {
        let found = self.store().read(|tx| rows::rows(tx, TOKENS, b"", TOKENS_MAX)).await?;
        let tokens = found.iter().map(|(id, value)| Ok(Token::new(id, rows::decode(TOKENS, value)?)));
        let mut tokens: Vec<Token> = tokens.collect::<Result<_, AccountsError>>()?;
        tokens.sort_by(|left, right| (left.created, &left.id).cmp(&(right.created, &right.id)));
        Ok(tokens)
    }

    /// Makes a token; its text is returned this once.
    ///
    /// # Errors
    /// [`AccountsError::BadLabel`], [`AccountsError::BadToken`] for an end in the past, [`AccountsError::TooMany`].
    ///
    /// # Cancel safety
    /// Dropped before its end, a token nobody knows may have been made; the list shows it.
    pub async fn create_token(
        &self,
        label: &str,
        scopes: Scopes,
        expires: Option<Timestamp>,
        by: &By,
    ) -> Result<(Token, Secret<String>), AccountsError> {
        let (label, now, by) = (types::label(label)?, self.now(), by.clone());
        if expires.is_some_and(|expires| expires <= now) {
            return Err(AccountsError::BadToken);
        }
        let fresh = Fresh::new(self.random());
        let (id, hash) = (fresh.id.clone(), fresh.hash);
        let write = move |tx: &mut dyn WriteTx| {
            if rows::rows(tx, TOKENS, b"", TOKENS_MAX)?.len() >= TOKENS_MAX {
                return Err(AccountsError::TooMany { what: "tokens", most: TOKENS_MAX });
            }
            let row = TokenRow {
                label: label.clone(),
                hash,
                scopes: scopes.0,
                created_ms: now.millis(),
                expires_ms: expires.map_or(0, Timestamp::millis),
                last_used_ms: 0,
            };
            rows::put(tx, TOKENS, id.as_bytes(), &row)?;
            audit::write(tx, now, &by, action::TOKEN_ADDED, &format!("{id} ({label})"))?;
            Ok(Token::new(id.as_bytes(), row))
        };
        Ok((self.store().write(write).await?, fresh.text))
    }

    /// Revokes token `id`; it opens nothing from now on.
    ///
    /// # Errors
    /// [`AccountsError::NoSuchToken`].
    ///
    /// # Cancel safety
    /// Dropped before its end, it may be revoked or not.
    pub async fn revoke_token(&self, id: &str, by: &By) -> Result<(), AccountsError> {
        let (revoked, by, now) = (id.to_owned(), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            let row: Option<TokenRow> = rows::get(tx, TOKENS, revoked.as_bytes())?;
            let row = row.ok_or(AccountsError::NoSuchToken)?;
            tx.delete(TOKENS, revoked.as_bytes())?;
            let first: Option<PasswordRecord> = rows::get(tx, PASSWORDS, FIRST)?;
            let was_first = first.is_some_and(|first| parse(&first.password).is_some_and(|(id, _)| id == revoked));
            if was_first {
                tx.delete(PASSWORDS, FIRST)?;
            }
            audit::write(tx, now, &by, action::TOKEN_REVOKED, &format!("{revoked} ({})", row.label))?;
            Ok::<_, AccountsError>(was_first)
        };
        if self.store().write(write).await? {
            self.first_token_cell().store(None);
        }
        Ok(())
    }
}
