//! The rows of people's accounts in `state.redb`, and what they hold.
//!
//! | table | key | value |
//! |---|---|---|
//! | `accounts.users` | the user's number, big-endian | [`UserRow`] |
//! | `accounts.emails` | the e-mail address in lower case | the user's number, big-endian |
//! | `accounts.sessions` | the user's number, big-endian, then 16 random bytes | [`SessionRow`] |
//! | `accounts.links` | 0 for the set-up link, else the number of the user who may set a password, big-endian; with the highest bit set, the link somebody asked for | [`LinkRow`] |
//! | `accounts.second_factors` | the user's number, big-endian | [`SecondFactorRow`] |
//! | `accounts.tokens` | the token's id | [`TokenRow`] |
//! | `accounts.audit`, `accounts.failures` | a sequence number, big-endian, of both tables together | [`AuditRow`] |
//! | `accounts.counters` | a name | a number, big-endian |
//!
//! What a person or program carries (session tokens, links, API tokens, recovery codes) is not there, only its SHA-256:
//! each has 256 random bits (recovery codes 80), so that a plain hash tells nothing. Times are milliseconds since 1970.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::AccountsError;
use super::types::{Email, Role, User};
use crate::base::Timestamp;
use crate::store::{Direction, ReadTx, Record, Row, Table, WriteTx, after_prefix, record};

pub(super) const USERS: Table = Table::new("accounts.users");
pub(super) const EMAILS: Table = Table::new("accounts.emails");
pub(super) const SESSIONS: Table = Table::new("accounts.sessions");
pub(super) const LINKS: Table = Table::new("accounts.links");
pub(super) const SECOND_FACTORS: Table = Table::new("accounts.second_factors");
pub(super) const TOKENS: Table = Table::new("accounts.tokens");
const COUNTERS: Table = Table::new("accounts.counters");

/// The counters there are.
pub(super) const NEXT_USER: &str = "user";
pub(super) const NEXT_AUDIT: &str = "audit";

/// Most users.
pub(super) const USERS_MAX: usize = 1000;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct UserRow {
    pub email: String,
    /// 0 is an administrator.
    pub role: u8,
    /// PHC string; empty while there is none.
    pub password: String,
    pub created_ms: u64,
    pub password_set_ms: u64,
}

impl Record for UserRow {
    const VERSION: u8 = 1;
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SessionRow {
    /// Of the token's secret part.
    pub hash: [u8; 32],
    pub created_ms: u64,
    pub last_used_ms: u64,
    pub confirmed_ms: u64,
    pub address: String,
    pub agent: String,
}

impl Record for SessionRow {
    const VERSION: u8 = 1;
}

#[derive(Serialize, Deserialize)]
pub(super) struct LinkRow {
    pub hash: [u8; 32],
    pub expires_ms: u64,
}

impl Record for LinkRow {
    const VERSION: u8 = 1;
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SecondFactorRow {
    /// The shared secret of RFC 6238.
    pub secret: [u8; 20],
    /// Whether a code was shown to fit; before, logins ask for none.
    pub confirmed: bool,
    /// The step of the newest code taken; that one and older ones are not taken again.
    pub last_step: u64,
    /// Of the recovery codes left.
    pub codes: Vec<[u8; 32]>,
}

impl Record for SecondFactorRow {
    const VERSION: u8 = 1;
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct TokenRow {
    pub label: String,
    pub hash: [u8; 32],
    /// Bits: 1 read, 2 write, 4 admin.
    pub scopes: u8,
    pub created_ms: u64,
    /// 0 for never.
    pub expires_ms: u64,
    /// To the minute; 0 for never.
    pub last_used_ms: u64,
}

impl Record for TokenRow {
    const VERSION: u8 = 1;
}

#[derive(Serialize, Deserialize)]
pub(super) struct AuditRow {
    pub at_ms: u64,
    pub action: String,
    pub actor: String,
    pub subject: String,
    pub address: String,
    pub agent: String,
}

impl Record for AuditRow {
    const VERSION: u8 = 1;
}

/// The record at `key`, if there is one.
pub(super) fn get<T: Record>(tx: &dyn ReadTx, table: Table, key: &[u8]) -> Result<Option<T>, AccountsError> {
    tx.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
}

pub(super) fn put<T: Record>(tx: &mut dyn WriteTx, table: Table, key: &[u8], row: &T) -> Result<(), AccountsError> {
    Ok(tx.put(table, key, &record::encode(row))?)
}

pub(super) fn decode<T: Record>(table: Table, bytes: &[u8]) -> Result<T, AccountsError> {
    record::decode(bytes).map_err(|source| AccountsError::Record { name: table.name().to_owned(), source })
}

/// The first `most` rows whose keys begin with `prefix`.
pub(super) fn rows(tx: &dyn ReadTx, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, AccountsError> {
    let end = after_prefix(prefix);
    let from = if prefix.is_empty() { Bound::Unbounded } else { Bound::Included(prefix) };
    Ok(tx.scan(table, from, end.as_ref().map(Vec::as_slice), Direction::Forward, most)?)
}

/// The counter called `name`: how often it was counted up.
pub(super) fn counter(tx: &dyn ReadTx, name: &str) -> Result<u64, AccountsError> {
    Ok(tx.get(COUNTERS, name.as_bytes())?.map_or(0, |bytes| number(&bytes)))
}

/// Counts up, and returns the new number.
pub(super) fn next(tx: &mut dyn WriteTx, name: &str) -> Result<u64, AccountsError> {
    let number = counter(tx, name)?.saturating_add(1);
    tx.put(COUNTERS, name.as_bytes(), &number.to_be_bytes())?;
    Ok(number)
}

/// The number at the beginning of `bytes`; 0 when they are too few.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The user's number by e-mail address.
pub(super) fn user_id(tx: &dyn ReadTx, email: &Email) -> Result<Option<u64>, AccountsError> {
    Ok(tx.get(EMAILS, email.as_str().as_bytes())?.map(|bytes| number(&bytes)))
}

/// A user and what only this room sees of it.
#[derive(Clone)]
pub(super) struct Account {
    pub user: User,
    pub row: UserRow,
}

/// The account of user `id`.
pub(super) fn account(tx: &dyn ReadTx, id: u64) -> Result<Option<Account>, AccountsError> {
    let Some(row) = get::<UserRow>(tx, USERS, &id.to_be_bytes())? else { return Ok(None) };
    let second_factor: Option<SecondFactorRow> = get(tx, SECOND_FACTORS, &id.to_be_bytes())?;
    let user = User {
        id,
        email: row.email.parse()?,
        role: Role::Admin,
        created: Timestamp(row.created_ms),
        password_set: Timestamp(row.password_set_ms),
        second_factor: second_factor.as_ref().is_some_and(|factor| factor.confirmed),
    };
    Ok(Some(Account { user, row }))
}

/// Puts a new user in, and returns its number.
pub(super) fn add_user(
    tx: &mut dyn WriteTx,
    email: &Email,
    password: &str,
    now: Timestamp,
) -> Result<u64, AccountsError> {
    if user_id(tx, email)?.is_some() {
        return Err(AccountsError::EmailTaken);
    }
    if rows(tx, USERS, b"", USERS_MAX)?.len() >= USERS_MAX {
        return Err(AccountsError::TooMany { what: "users", most: USERS_MAX });
    }
    let id = next(tx, NEXT_USER)?;
    let password_set_ms = if password.is_empty() { 0 } else { now.millis() };
    let (email, password) = (email.as_str().to_owned(), password.to_owned());
    tx.put(EMAILS, email.as_bytes(), &id.to_be_bytes())?;
    let row = UserRow { email, role: 0, password, created_ms: now.millis(), password_set_ms };
    put(tx, USERS, &id.to_be_bytes(), &row)?;
    Ok(id)
}
