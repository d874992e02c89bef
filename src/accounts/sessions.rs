//! Sessions: made at a login, found by their token, ended.
//!
//! A token is the session's place in the table (user and 128 random bits) and 256 secret bits, of which the store has
//! the hash. Nothing is kept in memory: a session that is ended here opens nothing from that moment on.

use std::time::Duration;

use super::audit::{self, action};
use super::bearer::Bearer;
use super::rows::{self, SESSIONS, SessionRow};
use super::types::{By, Client, NewSession, Session, SessionSummary, User};
use super::users::Users;
use super::{AccountsConfig, AccountsError};
use crate::base::{Id128, Secret, Timestamp};
use crate::store::{ReadTx, WriteTx};

/// Most sessions of a user; a further one ends the one that was not used the longest.
pub const SESSIONS_MAX: usize = 50;

/// How exactly the last use is written down: a page with twenty pictures is not twenty commits.
const TOUCH: Duration = Duration::from_mins(1);

const CSRF: &[u8] = b"accounts/csrf/v1";

/// The key of a session's row: the user's number and 16 random bytes.
pub(super) type Name = [u8; 24];

fn name(user: u64, id: Id128) -> Name {
    let mut out = [0; 24];
    let (first, last) = out.split_at_mut(8);
    first.copy_from_slice(&user.to_be_bytes());
    last.copy_from_slice(id.as_bytes());
    out
}

fn id_of(key: &[u8]) -> Id128 {
    Id128::from_bytes(key.last_chunk().copied().unwrap_or_default())
}

/// Whether a session lives at `now`.
fn lives(row: &SessionRow, now: Timestamp, config: &AccountsConfig) -> bool {
    now.since(Timestamp(row.last_used_ms)) < config.session_idle.duration()
        && now.since(Timestamp(row.created_ms)) < config.session_absolute.duration()
}

/// A session that is to be made.
pub(super) struct Fresh {
    bearer: Bearer<24>,
    row: SessionRow,
}

impl Fresh {
    /// A session for `user` from `client`, made and confirmed now.
    pub fn new(users: &Users, user: u64, client: &Client) -> Self {
        let bearer = Bearer::new(name(user, Id128::random(users.random())), users.random());
        let now_ms = users.now().millis();
        let row = SessionRow {
            hash: bearer.hash(),
            created_ms: now_ms,
            last_used_ms: now_ms,
            confirmed_ms: now_ms,
            address: client.address_text(),
            agent: client.agent.clone(),
        };
        Self { bearer, row }
    }

    /// What [`insert`] needs.
    pub fn stored(&self) -> (Name, SessionRow) {
        (self.bearer.name, self.row.clone())
    }

    /// The session, once it is stored.
    pub fn into_session(self, user: User) -> NewSession {
        let Self { bearer, row } = self;
        NewSession { token: bearer.text(), session: session(user, &bearer, &row) }
    }
}

fn session(user: User, bearer: &Bearer<24>, row: &SessionRow) -> Session {
    Session {
        id: id_of(&bearer.name),
        user,
        created: Timestamp(row.created_ms),
        last_used: Timestamp(row.last_used_ms),
        confirmed_at: Timestamp(row.confirmed_ms),
        address: row.address.clone(),
        agent: row.agent.clone(),
        csrf: bearer.derive(CSRF),
    }
}

/// Puts a session in, and drops what has ended by itself and what is too many of the same user.
pub(super) fn insert(
    tx: &mut dyn WriteTx,
    (name, row): &(Name, SessionRow),
    now: Timestamp,
    config: &AccountsConfig,
) -> Result<(), AccountsError> {
    let user = rows::number(name);
    let mut living = Vec::new();
    for (key, old) in all(tx, user)? {
        if lives(&old, now, config) {
            living.push((old.last_used_ms, key));
        } else {
            tx.delete(SESSIONS, &key)?;
        }
    }
    living.sort_unstable();
    let too_many = (living.len() + 1).saturating_sub(SESSIONS_MAX);
    for (_, key) in living.into_iter().take(too_many) {
        tx.delete(SESSIONS, &key)?;
    }
    rows::put(tx, SESSIONS, name, row)
}

/// Ends every session of `user` but `kept`.
pub(super) fn end_all(tx: &mut dyn WriteTx, user: u64, kept: Option<Id128>) -> Result<usize, AccountsError> {
    let mut ended = 0;
    for (key, _) in all(tx, user)? {
        if Some(id_of(&key)) != kept {
            tx.delete(SESSIONS, &key)?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// Ends one session, if it is there.
pub(super) fn end_one(tx: &mut dyn WriteTx, user: u64, id: Id128) -> Result<(), AccountsError> {
    tx.delete(SESSIONS, &name(user, id))?;
    Ok(())
}

fn all(tx: &dyn ReadTx, user: u64) -> Result<Vec<(Vec<u8>, SessionRow)>, AccountsError> {
    let found = rows::rows(tx, SESSIONS, &user.to_be_bytes(), 2 * SESSIONS_MAX)?;
    found.into_iter().map(|(key, value)| Ok((key, rows::decode(SESSIONS, &value)?))).collect()
}

impl Users {
    /// The session that `token` opens, if it opens one. Writes down its use, once a minute.
    ///
    /// # Errors
    /// What the store says when it reads. A use that cannot be written down is logged and changes nothing.
    ///
    /// # Cancel safety
    /// Dropped before its end, the use may be written down or not.
    pub async fn session(&self, token: &Secret<String>, client: &Client) -> Result<Option<Session>, AccountsError> {
        let Some(bearer) = Bearer::<24>::parse(token.expose()) else { return Ok(None) };
        let name = bearer.name;
        let read = move |tx: &dyn ReadTx| {
            let Some(row) = rows::get::<SessionRow>(tx, SESSIONS, &name)? else { return Ok(None) };
            let account = rows::account(tx, rows::number(&name))?;
            Ok::<_, AccountsError>(account.map(|account| (row, account.user)))
        };
        let Some((mut row, user)) = self.store().read(read).await? else { return Ok(None) };
        let now = self.now();
        if !bearer.fits(&row.hash) || !lives(&row, now, self.config()) {
            return Ok(None);
        }
        let (address, agent) = (client.address_text(), client.agent.clone());
        if now.since(Timestamp(row.last_used_ms)) >= TOUCH || (&row.address, &row.agent) != (&address, &agent) {
            (row.last_used_ms, row.address, row.agent) = (now.millis(), address, agent);
            self.touch(name, row.clone()).await;
        }
        Ok(Some(session(user, &bearer, &row)))
    }

    async fn touch(&self, name: Name, row: SessionRow) {
        let write = move |tx: &mut dyn WriteTx| {
            // Ended in the meantime, it stays ended.
            if tx.get(SESSIONS, &name)?.is_some() {
                rows::put(tx, SESSIONS, &name, &row)?;
            }
            Ok::<_, AccountsError>(())
        };
        if let Err(error) = self.store().write(write).await {
            tracing::warn!(%error, "the use of a session is not written down");
        }
    }

    /// The sessions of `user` that live, the last used first.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Without effects.
    pub async fn sessions(&self, user: u64) -> Result<Vec<SessionSummary>, AccountsError> {
        let found = self.store().read(move |tx| all(tx, user)).await?;
        let now = self.now();
        let living = found.into_iter().filter(|(_, row)| lives(row, now, self.config()));
        let mut out: Vec<SessionSummary> = living
            .map(|(key, row)| SessionSummary {
                id: id_of(&key),
                created: Timestamp(row.created_ms),
                last_used: Timestamp(row.last_used_ms),
                address: row.address,
                agent: row.agent,
            })
            .collect();
        out.sort_by_key(|session| std::cmp::Reverse((session.last_used, session.created)));
        Ok(out)
    }

    /// Ends session `id` of `user`, also the caller's own (a logout).
    ///
    /// # Errors
    /// [`AccountsError::NoSuchSession`].
    ///
    /// # Cancel safety
    /// Dropped before its end, the session may be ended or not.
    pub async fn end_session(&self, user: u64, id: Id128, by: &By) -> Result<(), AccountsError> {
        let (name, by, now) = (name(user, id), by.clone(), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            if !tx.delete(SESSIONS, &name)? {
                return Err(AccountsError::NoSuchSession);
            }
            audit::write(tx, now, &by, action::LOGOUT, &id.to_string())
        };
        self.store().write(write).await
    }

    /// Ends every session of the owner of `session` but this one; returns how many.
    ///
    /// # Errors
    /// What the store says; then none was ended.
    ///
    /// # Cancel safety
    /// Dropped before its end, they may be ended or not, all of them.
    pub async fn end_other_sessions(&self, session: &Session, client: &Client) -> Result<usize, AccountsError> {
        let (user, id, by, now) = (session.user.id, session.id, By::user(&session.user, client), self.now());
        let write = move |tx: &mut dyn WriteTx| {
            let ended = end_all(tx, user, Some(id))?;
            audit::write(tx, now, &by, action::LOGOUT, &format!("{ended} other sessions"))?;
            Ok(ended)
        };
        self.store().write(write).await
    }
}
