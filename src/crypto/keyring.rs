//! The keyring: the master key, and the data keys it wraps.
//!
//! Lives in `keys/` of the data folder:
//! - `keys/master.key` (0600): the master key as text, only when no other source gave one;
//! - `keys/master.key.next` (0600): the one that is to follow it, while it is being put in its place (`rotation.rs`);
//! - `keys/ring`: JSON, replaced as a whole (temporary file, sync, rename, folder sync):
//!
//! ```json
//! {
//!   "version": 1,
//!   "master": "<id of the master key, 16 hex digits>",
//!   "canary": "<wrapped zero key>",
//!   "keys": { "store/state": "<wrapped key>", "kv/journal": "<wrapped key>" },
//!   "older": { "<id of a master key that is being left>": "<that master key, wrapped>" }
//! }
//! ```
//!
//! `older` is there while a master key is being changed, and only then the version is 2: before and after, an earlier release
//! reads the ring. The master keys in it are wrapped by the one in use, for the context `master/<id>`; what they have wrapped
//! elsewhere opens until it is wrapped anew.
//!
//! A wrapped key is described in `wrapping.rs`, here it is in hex; the context is the key's name.
//!
//! The canary proves the master key before any data is touched. When data is there but the ring or the key is not, the
//! keyring refuses to open: a new key over old data would make the old data unreadable for ever.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::aead::{NONCE, TAG};
use super::wrapping::{Wrapping, unopened};
use super::{Key, MasterKey, MasterKeyError};
use crate::base::ids::{hex, hex_decode};
use crate::base::{Disk, Random, Secret, disk};

/// Bytes of a wrapped key.
pub const WRAPPED: usize = NONCE + 32 + TAG;

/// Most bytes the ring may have; a few hundred keys.
const RING_LIMIT: u64 = 256 << 10;

/// The version of a ring with one master key, and of one with several.
const VERSION: u32 = 1;
const VERSION_OLDER: u32 = 2;
const CANARY: &str = "canary";

/// Most bytes of a file with a master key.
const MASTER_LIMIT: u64 = 4096;

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
    /// Given by the operator together with the one before it, which the ring may still need.
    Changed {
        /// The key.
        key: MasterKey,
        /// The one before it.
        previous: MasterKey,
        /// Where the first came from, such as `MAINSTAY_MASTER_KEY_FILE`.
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
    #[error("{path} has version {found}, this Mainstay knows up to {VERSION_OLDER}; start the newer release again")]
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
    /// The operator gives the master key, so only the operator can give another.
    #[error(
        "the master key is given by {from}: give a new one there, this one by MAINSTAY_MASTER_KEY_PREVIOUS_FILE, and start the server again"
    )]
    Given {
        /// Where it comes from.
        from: &'static str,
    },
    /// The last change is not through.
    #[error("the master key is being changed already: what key {older} has wrapped is still being wrapped anew")]
    Changing {
        /// Id of the key that is being left.
        older: String,
    },
    /// Something needs the master keys to stay as they are.
    #[error("a backup is under way, which needs the master key to stay the same; ask again when it is done")]
    Held,
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
pub(super) struct Ring {
    version: u32,
    master: String,
    canary: String,
    keys: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    older: BTreeMap<String, String>,
}

/// Where the master key comes from, and which one it should be.
pub(super) enum Origin {
    /// `keys/master.key`.
    Folder,
    /// The operator.
    Given {
        from: &'static str,
        /// The key that follows the ring's.
        next: Option<MasterKey>,
    },
}

/// The ring, opened.
pub(super) struct State {
    pub active: Wrapping,
    /// Those being left.
    pub older: Vec<Wrapping>,
    ring: Ring,
}

/// The open keyring. Share it in an `Arc`.
pub struct Keyring {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) random: Arc<dyn Random>,
    path: PathBuf,
    pub(super) origin: Origin,
    state: RwLock<State>,
    /// Shared by all who need the master keys to stay as they are.
    pub(super) held: Arc<()>,
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
        let (masters, from, mut origin) = match source {
            MasterSource::Given { key, from } => (vec![key], from.to_owned(), Origin::Given { from, next: None }),
            MasterSource::Changed { key, previous, from } => {
                (vec![key.clone(), previous], from.to_owned(), Origin::Given { from, next: Some(key) })
            }
            MasterSource::Folder => {
                let file = master_path(&path);
                let wanted = ring.as_ref().map(|ring| ring.master.clone());
                let masters = in_folder(disk.as_ref(), random.as_ref(), folder, &file, wanted)?;
                (masters, file.display().to_string(), Origin::Folder)
            }
        };
        let given = || masters.iter().map(MasterKey::id).collect::<Vec<_>>().join(" and ");
        let is_new = ring.is_none();
        let wanted = ring.as_ref().map(|ring| ring.master.clone());
        let found = masters.iter().find(|master| wanted.as_ref().is_none_or(|wanted| master.id() == *wanted));
        let Some(master) = found.cloned() else {
            let wanted = wanted.unwrap_or_default();
            return Err(KeyringError::WrongMaster { folder: folder.to_owned(), wanted, given: given(), from });
        };
        if let Origin::Given { next, .. } = &mut origin {
            *next = next.take().filter(|next| next.id() != master.id());
        }
        let active = Wrapping::new(master);
        let (ring, older) = match ring {
            Some(ring) => {
                unwrap_text(&path, &active, CANARY, &ring.canary)?;
                let older = open_older(&path, &active, &ring)?;
                (ring, older)
            }
            None => (Ring::new(&active, random.as_ref(), &BTreeMap::new(), &[]), Vec::new()),
        };
        let state = RwLock::new(State { active, older, ring });
        let keyring = Self { disk, random, path, origin, state, held: Arc::default() };
        if is_new {
            keyring.save(&keyring.state().ring)?;
            keyring.disk.sync_dir(folder).map_err(at(folder))?;
        }
        Ok(keyring)
    }

    /// The data key called `name`, such as `store/state`; made, and recorded durably, when asked for the first time.
    /// Blocks.
    ///
    /// # Errors
    /// [`KeyringError::Disk`] when a new key cannot be recorded (it is not used then); [`KeyringError::Unwrap`] when the
    /// recorded one was tampered with.
    pub fn key(&self, name: &str) -> Result<Key, KeyringError> {
        let mut state = self.state_mut();
        if let Some(wrapped) = state.ring.keys.get(name) {
            return unwrap_text(&self.path, &state.active, name, wrapped);
        }
        let key = Key::random(self.random.as_ref());
        let mut next = state.ring.clone();
        next.keys.insert(name.to_owned(), hex(&state.active.wrap(self.random.as_ref(), name.as_bytes(), &key)));
        self.save(&next)?;
        state.ring = next;
        Ok(key)
    }

    /// Whether a data key called `name` was ever made.
    pub fn has(&self, name: &str) -> bool {
        self.state().ring.keys.contains_key(name)
    }

    /// `key` wrapped for `context`: [`WRAPPED`] bytes that may be stored in the open.
    pub fn wrap(&self, context: &[u8], key: &Key) -> Vec<u8> {
        self.state().active.wrap(self.random.as_ref(), context, key)
    }

    /// The key wrapped for `context`.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] when `wrapped` is something else or belongs elsewhere.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Key, KeyringError> {
        let state = self.state();
        let found = state.all().find_map(|wrapping| wrapping.unwrap(context, wrapped));
        found.ok_or_else(|| unopened(context))
    }

    /// The master key written out, for the operator's recovery sheet.
    pub fn export(&self) -> Secret<String> {
        self.state().active.master().export()
    }

    /// The master key's id: tells keys apart, tells nothing about them.
    pub fn master_id(&self) -> String {
        self.state().active.id().to_owned()
    }

    /// The ids of the master keys that open something, the one in use first, each with its
    /// [`MasterKey::backup_key`] for this repository.
    pub fn backup_keys(&self, repository: &[u8; 16]) -> Vec<(String, Key)> {
        let key = |wrapping: &Wrapping| (wrapping.id().to_owned(), wrapping.master().backup_key(repository));
        self.state().all().map(key).collect()
    }

    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `active` and `older` the ring's master keys, durably, with every key in it wrapped anew.
    pub(super) fn replace(
        &self,
        state: &mut State,
        active: Wrapping,
        older: Vec<Wrapping>,
    ) -> Result<(), KeyringError> {
        let open = |(name, text): (&String, &String)| {
            Ok::<_, KeyringError>((name.clone(), unwrap_text(&self.path, &state.active, name, text)?))
        };
        let keys = state.ring.keys.iter().map(open).collect::<Result<_, _>>()?;
        let ring = Ring::new(&active, self.random.as_ref(), &keys, &older);
        self.save(&ring)?;
        *state = State { active, older, ring };
        Ok(())
    }

    /// Where the master key lies when nobody gives it.
    pub(super) fn master_path(&self) -> PathBuf {
        master_path(&self.path)
    }

    fn save(&self, ring: &Ring) -> Result<(), KeyringError> {
        let bytes = serde_json::to_vec_pretty(ring)
            .map_err(|error| KeyringError::Damaged { path: self.path.clone(), reason: error.to_string() })?;
        disk::replace_file(self.disk.as_ref(), &self.path, &bytes).map_err(at(&self.path))
    }
}

impl State {
    /// Every master key, the one in use first.
    pub fn all(&self) -> impl Iterator<Item = &Wrapping> {
        std::iter::once(&self.active).chain(&self.older)
    }
}

impl Ring {
    /// The ring of `active` with these keys.
    fn new(active: &Wrapping, random: &dyn Random, keys: &BTreeMap<String, Key>, older: &[Wrapping]) -> Self {
        let wrap = |context: &str, key: &Key| hex(&active.wrap(random, context.as_bytes(), key));
        let master =
            |older: &Wrapping| (older.id().to_owned(), wrap(&master_context(older.id()), older.master().key()));
        Self {
            version: if older.is_empty() { VERSION } else { VERSION_OLDER },
            master: active.id().to_owned(),
            canary: wrap(CANARY, &Key::from_bytes([0; 32])),
            keys: keys.iter().map(|(name, key)| (name.clone(), wrap(name, key))).collect(),
            older: older.iter().map(master).collect(),
        }
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

fn read_ring(disk: &dyn Disk, path: &Path) -> Result<Option<Ring>, KeyringError> {
    let bytes = disk::read_file(disk, path, RING_LIMIT).map_err(at(path))?;
    bytes.map(|bytes| parse_ring(&bytes, path)).transpose()
}

fn parse_ring(bytes: &[u8], path: &Path) -> Result<Ring, KeyringError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |error: serde_json::Error| KeyringError::Damaged { path: path.to_owned(), reason: error.to_string() };
    // The version first: a later ring may have fields this one does not know.
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > VERSION_OLDER {
        return Err(KeyringError::NewerRing { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// The master keys that a ring tells are being left for `active`; none when it does not read.
pub(super) fn older_masters(active: &Wrapping, ring: &[u8]) -> Vec<Wrapping> {
    let path = Path::new("keys/ring");
    parse_ring(ring, path).and_then(|ring| open_older(path, active, &ring)).unwrap_or_default()
}

fn open_older(path: &Path, active: &Wrapping, ring: &Ring) -> Result<Vec<Wrapping>, KeyringError> {
    let open = |(id, text): (&String, &String)| {
        let master = MasterKey::from_key(unwrap_text(path, active, &master_context(id), text)?);
        Ok(Wrapping::new(master))
    };
    ring.older.iter().map(open).collect()
}

fn master_context(id: &str) -> String {
    format!("master/{id}")
}

fn unwrap_text(path: &Path, active: &Wrapping, name: &str, text: &str) -> Result<Key, KeyringError> {
    let mut wrapped = [0; WRAPPED];
    hex_decode(text.as_bytes(), &mut wrapped).ok_or_else(|| KeyringError::Damaged {
        path: path.to_owned(),
        reason: format!("the entry {name} is not {WRAPPED} bytes in hex"),
    })?;
    active.unwrap(name.as_bytes(), &wrapped).ok_or_else(|| unopened(name.as_bytes()))
}

fn master_path(ring: &Path) -> PathBuf {
    ring.with_file_name("master.key")
}

/// Where the master key lies that is to follow the one at `path`.
pub(super) fn next_path(path: &Path) -> PathBuf {
    path.with_extension("key.next")
}

/// The master keys in the folder: the one in use, made when nothing is there yet, and the one that is to follow it.
fn in_folder(
    disk: &dyn Disk,
    random: &dyn Random,
    folder: &Path,
    path: &Path,
    wanted: Option<String>,
) -> Result<Vec<MasterKey>, KeyringError> {
    let mut masters: Vec<MasterKey> = read_master(disk, path)?.into_iter().collect();
    if let Some(wanted) = wanted {
        if masters.iter().all(|master| master.id() != wanted) {
            masters.extend(read_master(disk, &next_path(path))?);
        }
        if masters.is_empty() {
            return Err(KeyringError::MissingMaster { folder: folder.to_owned(), wanted, path: path.to_owned() });
        }
    } else if masters.is_empty() {
        let master = MasterKey::random(random);
        write_master(disk, path, &master)?;
        masters.push(master);
    }
    Ok(masters)
}

/// The master key in the file at `path`; `None` without a file.
pub(super) fn read_master(disk: &dyn Disk, path: &Path) -> Result<Option<MasterKey>, KeyringError> {
    let Some(bytes) = disk::read_file(disk, path, MASTER_LIMIT).map_err(at(path))? else { return Ok(None) };
    let text = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
    let master = MasterKey::parse(text.expose());
    master.map(Some).map_err(|source| KeyringError::MasterFile { path: path.to_owned(), source })
}

/// Makes the file at `path` hold `master`.
pub(super) fn write_master(disk: &dyn Disk, path: &Path, master: &MasterKey) -> Result<(), KeyringError> {
    let text = Secret::new(format!("{}\n", master.export().expose()));
    disk::replace_file(disk, path, text.expose().as_bytes()).map_err(at(path))
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> KeyringError + '_ {
    |source| KeyringError::Disk { path: path.to_owned(), source }
}

#[cfg(test)]
#[path = "keyring_tests.rs"]
mod tests;
