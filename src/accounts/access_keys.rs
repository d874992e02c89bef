//! S3 access keys, the Redis password, and the key of the first error project.
//!
//! Tables of `state.redb`: `accounts.access_keys`, the id to an [`AccessKeyRecord`]; `accounts.access_key_uses`, the id to
//! when it was last used, milliseconds since 1970, big-endian; `accounts.passwords`, the door's name (`redis`, `ingest/1`;
//! `api` see `tokens.rs`) to a [`PasswordRecord`]. What is missing is made at the start, in one commit.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::AccountsError;
use super::rights::KeyRights;
use crate::base::{Clock, Id128, Random, Secret, Timestamp, random};
use crate::store::{Direction, ReadTx, Record, Store, Table, record};

pub(super) const ACCESS_KEYS: Table = Table::new("accounts.access_keys");
pub(super) const USES: Table = Table::new("accounts.access_key_uses");
pub(super) const PASSWORDS: Table = Table::new("accounts.passwords");
const REDIS: &str = "redis";
/// The key of project 1.
const INGEST: &str = "ingest/1";
/// The project every data folder has.
const FIRST_PROJECT: u64 = 1;

/// Most access keys held in memory.
const MOST_KEYS: usize = 10_000;

/// What the first key is called.
const FIRST_LABEL: &str = "first key";

const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters and digits alone, so that no `.env` file, shell or URL needs quoting.
pub(super) const SECRET_ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// An S3 access key.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The public half, which requests name.
    pub id: String,
    /// The secret half, which signs them.
    pub secret: Secret<String>,
    /// The secret before the last change, while it still signs too.
    pub previous: Option<PreviousSecret>,
    /// What it is called.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it may do.
    pub rights: KeyRights,
    /// From when on it opens nothing more.
    pub expires: Option<Timestamp>,
    pub(super) used: Arc<AtomicU64>,
}

/// A secret on its way out.
#[derive(Clone, Debug)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: Secret<String>,
    /// Until when it signs.
    pub until: Timestamp,
}

impl AccessKey {
    /// A key that may do everything and does not end.
    pub(super) fn new(id: String, secret: Secret<String>, label: String, created: Timestamp) -> Self {
        let (rights, used) = (KeyRights::All, Arc::default());
        Self { id, secret, previous: None, label, created, rights, expires: None, used }
    }

    pub(super) fn random(random: &dyn Random, label: String, created: Timestamp) -> Self {
        let id = letters(random, ID_ALPHABET, 20).expose().clone();
        Self::new(id, random_secret(random), label, created)
    }

    /// When it was last used, to some minutes; `None` for never.
    pub fn last_used(&self) -> Option<Timestamp> {
        Some(self.used.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Timestamp)
    }

    /// Whether it has ended by `now`.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it may do everything, for ever: one such key must stay.
    pub const fn is_lasting(&self) -> bool {
        self.rights.is_all() && self.expires.is_none()
    }

    /// The secrets that sign for mail at `now`: none when the key sends none, or has ended.
    pub fn mail_secrets(&self, now: Timestamp) -> Vec<Secret<String>> {
        let sends = self.rights.mail() && !self.has_expired(now);
        self.secrets(now).filter(|_| sends).cloned().collect()
    }

    /// The secrets that sign at `now`, the current one first.
    pub fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret<String>> {
        let previous = self.previous.as_ref().filter(move |previous| now < previous.until);
        std::iter::once(&self.secret).chain(previous.map(|previous| &previous.secret))
    }
}

/// A secret no one has seen.
pub(super) fn random_secret(random: &dyn Random) -> Secret<String> {
    letters(random, SECRET_ALPHABET, 40)
}

/// What the operator wants the first credentials to be, from the environment.
#[derive(Debug, Default)]
pub struct FirstCredentials {
    /// `MINIO_ROOT_USER`.
    pub id: Option<String>,
    /// `MINIO_ROOT_PASSWORD`.
    pub secret: Option<Secret<String>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AccessKeyRecord {
    secret: String,
    created_ms: u64,
    pub label: String,
    rights: KeyRights,
    /// 0 for never.
    expires_ms: u64,
    /// Secret and end.
    previous: Option<(String, u64)>,
}

impl AccessKeyRecord {
    pub fn of(key: &AccessKey) -> Self {
        Self {
            secret: key.secret.expose().clone(),
            created_ms: key.created.millis(),
            label: key.label.clone(),
            rights: key.rights.clone(),
            expires_ms: key.expires.map_or(0, Timestamp::millis),
            previous: key.previous.as_ref().map(|old| (old.secret.expose().clone(), old.until.millis())),
        }
    }

    /// Whether the key may do everything, for ever.
    pub const fn is_lasting(&self) -> bool {
        self.rights.is_all() && self.expires_ms == 0
    }

    fn key(self, id: String, used_ms: u64) -> AccessKey {
        let previous = |(secret, until)| PreviousSecret { secret: Secret::new(secret), until: Timestamp(until) };
        AccessKey {
            id,
            secret: Secret::new(self.secret),
            previous: self.previous.map(previous),
            label: self.label,
            created: Timestamp(self.created_ms),
            rights: self.rights,
            expires: (self.expires_ms != 0).then_some(Timestamp(self.expires_ms)),
            used: Arc::new(AtomicU64::new(used_ms)),
        }
    }
}

impl Record for AccessKeyRecord {
    const VERSION: u8 = 3;

    /// Version 1 had no label: those keys were made at the first start. Version 2 had no rights: all keys had all.
    fn decode_old(version: u8, bytes: &[u8]) -> Option<Self> {
        let (secret, created_ms, label) = match version {
            1 => {
                let (secret, created_ms) = postcard::from_bytes(bytes).ok()?;
                (secret, created_ms, FIRST_LABEL.to_owned())
            }
            2 => postcard::from_bytes(bytes).ok()?,
            _ => return None,
        };
        Some(Self { secret, created_ms, label, rights: KeyRights::All, expires_ms: 0, previous: None })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct PasswordRecord {
    pub password: String,
    pub created_ms: u64,
}

impl Record for PasswordRecord {
    const VERSION: u8 = 1;
}

/// The credentials, in memory. Lookups take no lock and do no I/O.
pub struct AccessKeys {
    table: ArcSwap<HashMap<String, Arc<AccessKey>>>,
    redis_password: Secret<String>,
    project_key: Secret<String>,
}

/// What the store holds.
struct Stored {
    keys: Vec<Arc<AccessKey>>,
    redis_password: Option<Secret<String>>,
    project_key: Option<Secret<String>>,
}

impl Stored {
    fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }
}

impl AccessKeys {
    /// Reads the credentials, and makes what is missing: `first`, else random ones. Blocks.
    ///
    /// # Errors
    /// [`AccountsError`]; nothing was made then.
    pub fn open(
        store: &Store,
        random: &dyn Random,
        clock: &dyn Clock,
        first: FirstCredentials,
    ) -> Result<Self, AccountsError> {
        let now = clock.now();
        let first = checked(first, now)?;
        let stored = store.read_blocking(read)?;
        if let Some(ignored) = first.as_ref().filter(|first| !stored.keys.is_empty() && !stored.has(&first.id)) {
            tracing::warn!(
                access_key_id = ignored.id,
                "MINIO_ROOT_USER is ignored: this data folder has an access key already, see `mainstay env`"
            );
        }
        let fresh_key = stored
            .keys
            .is_empty()
            .then(|| Arc::new(first.unwrap_or_else(|| AccessKey::random(random, FIRST_LABEL.to_owned(), now))));
        let fresh_password = stored.redis_password.is_none().then(|| letters(random, SECRET_ALPHABET, 32));
        let fresh_project = stored.project_key.is_none().then(|| Secret::new(Id128::random(random).to_string()));
        let passwords = [(REDIS, fresh_password.as_ref()), (INGEST, fresh_project.as_ref())];
        if fresh_key.is_some() || passwords.iter().any(|(_, fresh)| fresh.is_some()) {
            make(store, now, fresh_key.as_deref(), passwords)?;
        }
        let keys = fresh_key.into_iter().chain(stored.keys).map(|key| (key.id.clone(), key));
        Ok(Self {
            table: ArcSwap::from_pointee(keys.collect()),
            redis_password: stored.redis_password.or(fresh_password).unwrap_or_default(),
            project_key: stored.project_key.or(fresh_project).unwrap_or_default(),
        })
    }

    /// The access key called `access_key_id`, if there is one.
    pub fn secret(&self, access_key_id: &str) -> Option<Arc<AccessKey>> {
        self.table.load().get(access_key_id).cloned()
    }

    /// The oldest access key that may do everything and does not end, which `mainstay env` shows; there always is one.
    pub fn primary(&self) -> Option<Arc<AccessKey>> {
        self.all().into_iter().find(|key| key.is_lasting())
    }

    /// Every access key, the oldest first.
    pub fn all(&self) -> Vec<Arc<AccessKey>> {
        let mut keys: Vec<Arc<AccessKey>> = self.table.load().values().cloned().collect();
        keys.sort_by(|left, right| (left.created, &left.id).cmp(&(right.created, &right.id)));
        keys
    }

    /// Changes the table in memory; who looks a key up sees it before or after, never in between.
    pub(super) fn change(&self, change: impl Fn(&mut HashMap<String, Arc<AccessKey>>)) {
        self.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            change(&mut table);
            table
        });
    }

    /// The key of an error project, 32 hexadecimal digits; `None` for a project that does not exist.
    pub fn project_key(&self, project: u64) -> Option<Secret<String>> {
        (project == FIRST_PROJECT).then(|| self.project_key.clone())
    }

    /// The password of the Redis door.
    pub fn redis_password(&self) -> Secret<String> {
        self.redis_password.clone()
    }
}

impl std::fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKeys").field("keys", &self.table.load().len()).finish_non_exhaustive()
    }
}

fn checked(first: FirstCredentials, created: Timestamp) -> Result<Option<AccessKey>, AccountsError> {
    let (id, secret) = match (first.id, first.secret) {
        (None, None) => return Ok(None),
        (Some(id), Some(secret)) => (id, secret),
        _ => return Err(AccountsError::HalfPair("MINIO_ROOT_USER and MINIO_ROOT_PASSWORD")),
    };
    let id_length = id.chars().count();
    let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if !(3..=128).contains(&id_length) || !is_id {
        return Err(AccountsError::BadId { length: id_length });
    }
    let length = secret.expose().chars().count();
    if !(8..=128).contains(&length) || !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(AccountsError::BadSecret { length });
    }
    Ok(Some(AccessKey::new(id, secret, FIRST_LABEL.to_owned(), created)))
}

fn read(tx: &dyn ReadTx) -> Result<Stored, AccountsError> {
    let damaged = |name: &str| {
        let name = name.to_owned();
        |source| AccountsError::Record { name, source }
    };
    let mut keys = Vec::new();
    for (id, value) in tx.scan(ACCESS_KEYS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, MOST_KEYS)? {
        let id = String::from_utf8_lossy(&id).into_owned();
        let found: AccessKeyRecord = record::decode(&value).map_err(damaged(&id))?;
        let used = tx.get(USES, id.as_bytes())?.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
        keys.push(Arc::new(found.key(id, used.map_or(0, u64::from_be_bytes))));
    }
    let password = |name: &str| {
        let Some(value) = tx.get(PASSWORDS, name.as_bytes())? else { return Ok(None) };
        let found: PasswordRecord = record::decode(&value).map_err(damaged(name))?;
        Ok::<_, AccountsError>(Some(Secret::new(found.password)))
    };
    let (redis_password, project_key) = (password(REDIS)?, password(INGEST)?);
    Ok(Stored { keys, redis_password, project_key })
}

fn make(
    store: &Store,
    now: Timestamp,
    key: Option<&AccessKey>,
    passwords: [(&'static str, Option<&Secret<String>>); 2],
) -> Result<(), AccountsError> {
    let created_ms = now.millis();
    let key = key.map(|key| (key.id.clone(), record::encode(&AccessKeyRecord::of(key))));
    let passwords = passwords.map(|(name, password)| {
        let record = |password: &Secret<String>| PasswordRecord { password: password.expose().clone(), created_ms };
        (name, password.map(|password| record::encode(&record(password))))
    });
    store.write_blocking(move |tx| {
        if let Some((id, value)) = &key {
            tx.put(ACCESS_KEYS, id.as_bytes(), value)?;
        }
        for (name, value) in &passwords {
            if let Some(value) = value {
                tx.put(PASSWORDS, name.as_bytes(), value)?;
            }
        }
        Ok(())
    })
}

/// `count` random letters, each of `alphabet` equally likely.
pub(super) fn letters(source: &dyn Random, alphabet: &[u8], count: usize) -> Secret<String> {
    let letter = || alphabet.get(random::below(source, alphabet.len() as u64) as usize).copied();
    Secret::new((0..count).filter_map(|_| letter().map(char::from)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;
    use crate::testing::{TestClock, memory_store};

    fn open(store: &Store, first: FirstCredentials) -> Result<AccessKeys, AccountsError> {
        AccessKeys::open(store, &SystemRandom, &TestClock::default(), first)
    }

    fn first(id: &str, secret: &str) -> FirstCredentials {
        FirstCredentials { id: Some(id.to_owned()), secret: Some(Secret::new(secret.to_owned())) }
    }

    #[test]
    fn the_second_start_finds_the_first_ones_credentials() {
        let store = memory_store();
        let made = open(&store, FirstCredentials::default()).unwrap();
        let found = open(&store, FirstCredentials::default()).unwrap();
        assert_eq!(found.primary().unwrap().id, made.primary().unwrap().id);
        assert_eq!(found.primary().unwrap().secret, made.primary().unwrap().secret);
        assert_eq!(found.redis_password(), made.redis_password());
        assert_eq!(found.project_key(1), made.project_key(1));
        assert_eq!(found.project_key(1).unwrap().expose().len(), 32);
        assert_eq!(found.project_key(2), None);
        assert_eq!((made.primary().unwrap().id.len(), made.primary().unwrap().secret.expose().len()), (20, 40));
        assert_eq!(made.redis_password().expose().len(), 32);
    }

    #[test]
    fn lookups_find_known_ids_alone() {
        let keys = open(&memory_store(), FirstCredentials::default()).unwrap();
        let id = keys.primary().unwrap().id.clone();
        assert_eq!(keys.secret(&id).unwrap().secret, keys.primary().unwrap().secret);
        assert!(keys.secret("nobody").is_none());
    }

    #[test]
    fn the_operator_may_choose_the_first_pair_but_not_replace_it() {
        let store = memory_store();
        assert_eq!(open(&store, first("minioadmin", "minioadmin")).unwrap().primary().unwrap().id, "minioadmin");
        let again = open(&store, first("other", "other-secret")).unwrap();
        assert_eq!(again.primary().unwrap().id, "minioadmin");
        assert!(again.secret("other").is_none());
    }

    #[test]
    fn a_key_of_the_first_release_reads_and_is_called_the_first_key() {
        let old = postcard::to_extend(&("secret", 7_u64), vec![1]).unwrap();
        let found: AccessKeyRecord = record::decode(&old).unwrap();
        assert_eq!((found.secret.as_str(), found.created_ms, found.label.as_str()), ("secret", 7, FIRST_LABEL));
        assert!(found.is_lasting());
    }

    #[test]
    fn a_key_without_rights_of_an_earlier_release_has_all() {
        let old = postcard::to_extend(&("secret", 7_u64, "app"), vec![2]).unwrap();
        let found: AccessKeyRecord = record::decode(&old).unwrap();
        assert_eq!((found.secret.as_str(), found.created_ms, found.label.as_str()), ("secret", 7, "app"));
        assert!(found.is_lasting() && found.previous.is_none());
    }

    #[test]
    fn bad_pairs_are_refused_without_telling_the_secret() {
        for pair in
            [first("ab", "long enough"), first("user", "short"), first("user", "with space"), first("a b c", "x")]
        {
            let store = memory_store();
            let error = open(&store, pair).unwrap_err().to_string();
            assert!(!error.contains("short") && !error.contains("long enough"), "{error}");
            assert!(store.read_blocking(read).unwrap().keys.is_empty());
        }
        let half = FirstCredentials { id: Some(String::from("user")), secret: None };
        assert!(matches!(open(&memory_store(), half), Err(AccountsError::HalfPair(_))));
    }
}
