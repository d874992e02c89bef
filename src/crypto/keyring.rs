//! The keyring: the master key, and the data keys it wraps.
//!
//! Lives in `keys/` of the data folder:
//! - `keys/master.key` (0600): the master key as text, only when no other source gave one;
//! - `keys/ring`: JSON, replaced as a whole (temporary file, sync, rename, folder sync):
//!
//! ```json
//! {
//!   "version": 1,
//!   "master": "<id of the master key, 16 hex digits>",
//!   "canary": "<wrapped zero key>",
//!   "keys": { "store/state": "<wrapped key>", "kv/journal": "<wrapped key>" }
//! }
//! ```
//!
//! A wrapped key is `nonce (12) ‖ ciphertext (32) ‖ tag (16)`, here in hex; AES-256-GCM under a key derived from the
//! master key; associated data `mainstay/wrapped/v1 ‖ 0 ‖ master id ‖ 0 ‖ context`, the context being the key's name. So a
//! wrapped key can neither be opened with another master key nor passed off as another one.
//!
//! The canary proves the master key before any data is touched. When data is there but the ring or the key is not, the
//! keyring refuses to open: a new key over old data would make the old data unreadable for ever.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::aead::{Aead, NONCE, TAG};
use super::{Key, MasterKey, MasterKeyError};
use crate::base::ids::{hex, hex_decode};
use crate::base::{Disk, Random, Secret, disk, random};

/// Bytes of a wrapped key.
pub const WRAPPED: usize = NONCE + 32 + TAG;

/// Most bytes the ring may have; a few hundred keys.
const RING_LIMIT: u64 = 256 << 10;

const VERSION: u32 = 1;
const CANARY: &str = "canary";

/// Where the master key comes from.
#[derive(Clone, Debug)]
pub enum MasterSource {
    /// Given by the operator; `from` says where, for messages.
    Given {
        /// The key.
        key: MasterKey,
        /// Such as `MAINSTAY_MASTER_KEY_FILE`.
        from: &'static str,
    },
    /// `keys/master.key`, made at the first start.
    Folder,
}

/// Why a keyring does not open, or gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The ring was sealed with another master key.
    #[error(
        "wrong master key: the data in {folder} needs key {wanted}, {from} gave key {given}; give the right one, or start on an empty data folder"
    )]
    WrongMaster {
        /// The data folder.
        folder: PathBuf,
        /// Id of the key the ring needs.
        wanted: String,
        /// Id of the key given.
        given: String,
        /// Where it came from.
        from: String,
    },
    /// Data without the key that opens it.
    #[error(
        "the data in {folder} needs master key {wanted}, but {path} is missing; put it back, or give the key by MAINSTAY_MASTER_KEY_FILE"
    )]
    MissingMaster {
        /// The data folder.
        folder: PathBuf,
        /// Id of the key the ring needs.
        wanted: String,
        /// Where the key should be.
        path: PathBuf,
    },
    /// Data without its ring.
    #[error(
        "{folder} holds data but not its keyring {path}; no new keys are made over old data: put the keyring back from a backup"
    )]
    MissingRing {
        /// The data folder.
        folder: PathBuf,
        /// Where the ring should be.
        path: PathBuf,
    },
    /// The ring is of a later version.
    #[error("{path} has version {found}, this Mainstay knows up to {VERSION}; start the newer release again")]
    NewerRing {
        /// The ring.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The ring is no ring.
    #[error("{path} is damaged: {reason}; put it back from a backup")]
    Damaged {
        /// The ring.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A wrapped key does not open.
    #[error("the wrapped key for {context} does not open with this master key")]
    Unwrap {
        /// What the key is for.
        context: String,
    },
    /// `keys/master.key` holds no key.
    #[error("{path}: {source}")]
    MasterFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MasterKeyError,
    },
    /// The disk refused.
    #[error("{path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Ring {
    version: u32,
    master: String,
    canary: String,
    keys: BTreeMap<String, String>,
}

/// The open keyring. Share it in an `Arc`.
pub struct Keyring {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    path: PathBuf,
    master: MasterKey,
    wrapping: Aead,
    ring: Mutex<Ring>,
}

impl Keyring {
    /// Opens the ring in `folder`, or makes one when the folder holds no data yet. Blocks.
    ///
    /// `has_data`: whether anything else in the folder is sealed with keys of the ring.
    ///
    /// # Errors
    /// [`KeyringError`]; nothing was changed then, except that a fresh folder may hold a fresh `keys/master.key`.
    pub fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        folder: &Path,
        source: MasterSource,
        has_data: bool,
    ) -> Result<Self, KeyringError> {
        let keys = folder.join("keys");
        let path = keys.join("ring");
        let ring = read_ring(disk.as_ref(), &path)?;
        if ring.is_none() && has_data {
            return Err(KeyringError::MissingRing { folder: folder.to_owned(), path });
        }
        disk.create_dir(&keys).map_err(at(&keys))?;
        let (master, from) = match source {
            MasterSource::Given { key, from } => (key, from.to_owned()),
            MasterSource::Folder => {
                let file = keys.join("master.key");
                let wanted = ring.as_ref().map(|ring| ring.master.clone());
                (master_file(disk.as_ref(), random.as_ref(), folder, &file, wanted)?, file.display().to_string())
            }
        };
        let wrapping = Aead::new(&master.wrapping_key());
        let Some(ring) = ring else {
            let canary = wrap(&wrapping, random.as_ref(), &master.id(), CANARY.as_bytes(), &Key::from_bytes([0; 32]));
            let ring = Ring { version: VERSION, master: master.id(), canary: hex(&canary), keys: BTreeMap::new() };
            let keyring = Self { disk, random, path, master, wrapping, ring: Mutex::new(ring.clone()) };
            keyring.save(&ring)?;
            keyring.disk.sync_dir(folder).map_err(at(folder))?;
            return Ok(keyring);
        };
        if ring.master != master.id() {
            return Err(KeyringError::WrongMaster {
                folder: folder.to_owned(),
                wanted: ring.master,
                given: master.id(),
                from,
            });
        }
        let canary = ring.canary.clone();
        let keyring = Self { disk, random, path, master, wrapping, ring: Mutex::new(ring) };
        keyring.unwrap_text(CANARY, &canary)?;
        Ok(keyring)
    }

    /// The data key called `name`, such as `store/state`; made, and recorded durably, when asked for the first time.
    /// Blocks.
    ///
    /// # Errors
    /// [`KeyringError::Disk`] when a new key cannot be recorded (it is not used then); [`KeyringError::Unwrap`] when the
    /// recorded one was tampered with.
    pub fn key(&self, name: &str) -> Result<Key, KeyringError> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wrapped) = ring.keys.get(name) {
            return self.unwrap_text(name, wrapped);
        }
        let key = Key::random(self.random.as_ref());
        let mut next = ring.clone();
        next.keys.insert(name.to_owned(), hex(&self.wrap(name.as_bytes(), &key)));
        self.save(&next)?;
        *ring = next;
        Ok(key)
    }

    /// Whether a data key called `name` was ever made.
    pub fn has(&self, name: &str) -> bool {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).keys.contains_key(name)
    }

    /// `key` wrapped for `context`: [`WRAPPED`] bytes that may be stored in the open.
    pub fn wrap(&self, context: &[u8], key: &Key) -> Vec<u8> {
        wrap(&self.wrapping, self.random.as_ref(), &self.master.id(), context, key)
    }

    /// The key wrapped for `context`.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] when `wrapped` is something else or belongs elsewhere.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Key, KeyringError> {
        unwrap(&self.wrapping, &self.master.id(), context, wrapped)
    }

    /// The master key written out, for the operator's recovery sheet.
    pub fn export(&self) -> Secret<String> {
        self.master.export()
    }

    /// The master key's id: tells keys apart, tells nothing about them.
    pub fn master_id(&self) -> String {
        self.master.id()
    }

    /// As [`MasterKey::backup_key`], of the keyring's master key.
    pub fn backup_key(&self, repository: &[u8; 16]) -> Key {
        self.master.backup_key(repository)
    }

    fn unwrap_text(&self, name: &str, text: &str) -> Result<Key, KeyringError> {
        let mut wrapped = [0; WRAPPED];
        hex_decode(text.as_bytes(), &mut wrapped).ok_or_else(|| KeyringError::Damaged {
            path: self.path.clone(),
            reason: format!("the entry {name} is not {WRAPPED} bytes in hex"),
        })?;
        self.unwrap(name.as_bytes(), &wrapped)
    }

    fn save(&self, ring: &Ring) -> Result<(), KeyringError> {
        let bytes = serde_json::to_vec_pretty(ring)
            .map_err(|error| KeyringError::Damaged { path: self.path.clone(), reason: error.to_string() })?;
        disk::replace_file(self.disk.as_ref(), &self.path, &bytes).map_err(at(&self.path))
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read_ring(disk: &dyn Disk, path: &Path) -> Result<Option<Ring>, KeyringError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(bytes) = disk::read_file(disk, path, RING_LIMIT).map_err(at(path))? else { return Ok(None) };
    let damaged = |error: serde_json::Error| KeyringError::Damaged { path: path.to_owned(), reason: error.to_string() };
    // The version first: a later ring may have fields this one does not know.
    let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version > VERSION {
        return Err(KeyringError::NewerRing { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn master_file(
    disk: &dyn Disk,
    random: &dyn Random,
    folder: &Path,
    path: &Path,
    wanted: Option<String>,
) -> Result<MasterKey, KeyringError> {
    if let Some(bytes) = disk::read_file(disk, path, 4096).map_err(at(path))? {
        let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
        return MasterKey::parse(text.expose())
            .map_err(|source| KeyringError::MasterFile { path: path.to_owned(), source });
    }
    if let Some(wanted) = wanted {
        return Err(KeyringError::MissingMaster { folder: folder.to_owned(), wanted, path: path.to_owned() });
    }
    let master = MasterKey::random(random);
    let text = Secret::new(format!("{}\n", master.export().expose()));
    disk::replace_file(disk, path, text.expose().as_bytes()).map_err(at(path))?;
    Ok(master)
}

fn wrap(aead: &Aead, random: &dyn Random, master: &str, context: &[u8], key: &Key) -> Vec<u8> {
    let nonce = random::bytes::<NONCE>(random);
    let mut sealed = *key.expose();
    let tag = aead.seal(&nonce, &associated(master, context), &mut sealed);
    [&nonce[..], &sealed, &tag].concat()
}

fn unwrap(aead: &Aead, master: &str, context: &[u8], wrapped: &[u8]) -> Result<Key, KeyringError> {
    let failed = || KeyringError::Unwrap { context: String::from_utf8_lossy(context).into_owned() };
    let (nonce, rest) = wrapped.split_first_chunk::<NONCE>().ok_or_else(failed)?;
    let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or_else(failed)?;
    let mut key = <[u8; 32]>::try_from(sealed).map_err(|_other_length| failed())?;
    let aad = associated(master, context);
    aead.open(nonce, &aad, &mut key, tag).map_err(|_tampered| failed())?;
    Ok(Key::from_bytes(key))
}

impl MasterKey {
    /// The key that a keyring of this master key has wrapped for `context`; for reading a backup without its keyring.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] when `wrapped` is something else or belongs elsewhere.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Key, KeyringError> {
        unwrap(&Aead::new(&self.wrapping_key()), &self.id(), context, wrapped)
    }
}

fn associated(master: &str, context: &[u8]) -> Vec<u8> {
    [b"mainstay/wrapped/v1\0", master.as_bytes(), b"\0", context].concat()
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeyringError + '_ {
    |source| KeyringError::Disk { path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
