//! The repository's keys: one random key, wrapped for who may open it, and what is derived from it.
//!
//! `config`, in the open, 96 bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `MNSTBKP1`: a repository, format version 1 |
//! | 8..24 | repository id, random |
//! | 24..32 | made, milliseconds since 1970 |
//! | 32..64 | commitment to the repository key: HKDF(key, id, `mainstay/backup/commitment/v1`) |
//! | 64..96 | BLAKE3 of bytes 0..64, keyed with HKDF(key, id, `mainstay/backup/config/v1`) |
//!
//! `keys/<32 hex digits, random>`, one for each way in, 101 bytes:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `MNSTKEY1` |
//! | 8 | way in: 1 the master key; others belong to later versions and are skipped |
//! | 9..25 | repository id |
//! | 25..41 | id of the master key, 16 hex digits as text |
//! | 41..53 | nonce, random |
//! | 53..85, 85..101 | the repository key, AES-256-GCM sealed; tag |
//!
//! The sealing key is HKDF(master key, repository id, `mainstay/backup/v1`); associated data are bytes 0..41. GCM does not
//! commit to its key; the commitment in `config` does, and is compared before the key is used.
//!
//! HKDF is HKDF-SHA256 (RFC 5869) with (input key, salt, info) and 32 bytes of output. The derived keys, all with the
//! repository id as salt: `mainstay/backup/chunk-id/v1`, `…/chunker/v1`, `…/pack/v1`, `…/index/v1`, `…/snapshot/v1`,
//! `…/mark/v1`.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::ChunkId;
use super::codec::Cursor;
use crate::base::ids::hex;
use crate::base::{Id128, Random, Timestamp, random};
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::{Aead, Key, derive, mac};

const CONFIG_MAGIC: &[u8; 7] = b"MNSTBKP";
const SLOT_MAGIC: &[u8; 8] = b"MNSTKEY1";
const MASTER: u8 = 1;

/// Latest format version known.
pub(crate) const VERSION: u8 = b'1';

/// What is sealed, as the associated data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    Chunk = 1,
    Trailer = 2,
    Index = 3,
    Snapshot = 4,
    Mark = 5,
}

/// Everything derived from the repository key.
#[derive(Debug)]
pub(crate) struct RepositoryKeys {
    id: Id128,
    chunk_id: Key,
    chunker: Key,
    pack: Key,
    index: Key,
    snapshot: Key,
    mark: Key,
}

impl RepositoryKeys {
    pub(crate) fn new(id: Id128, key: &Key) -> Self {
        let sub = |purpose: &str| derive(key, id.as_bytes(), format!("mainstay/backup/{purpose}/v1").as_bytes());
        Self {
            id,
            chunk_id: sub("chunk-id"),
            chunker: sub("chunker"),
            pack: sub("pack"),
            index: sub("index"),
            snapshot: sub("snapshot"),
            mark: sub("mark"),
        }
    }

    /// The name of a chunk with these plain bytes.
    pub(crate) fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.chunk_id.expose(), bytes).as_bytes())
    }

    /// What the chunker's table is made from.
    pub(crate) const fn chunker(&self) -> &Key {
        &self.chunker
    }

    /// The key of the pack or document with this salt.
    pub(crate) fn aead(&self, sealed: Sealed, salt: &[u8; 32]) -> Aead {
        let key = match sealed {
            Sealed::Chunk | Sealed::Trailer => &self.pack,
            Sealed::Index => &self.index,
            Sealed::Snapshot => &self.snapshot,
            Sealed::Mark => &self.mark,
        };
        Aead::new(&derive(key, salt, b"mainstay/backup/sealing/v1"))
    }

    /// What a seal is bound to: repository id, version, type, name.
    pub(crate) fn associated(&self, sealed: Sealed, name: &[u8]) -> Vec<u8> {
        [&self.id.as_bytes()[..], &[VERSION, sealed as u8], name].concat()
    }
}

/// The file `config`.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) id: Id128,
    bytes: [u8; 96],
}

/// Why a `config` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    Newer(u32),
    Damaged,
}

impl Config {
    /// The config of a new repository with this `key`.
    pub(crate) fn new(id: Id128, made: Timestamp, key: &Key) -> Self {
        let head = [&CONFIG_MAGIC[..], &[VERSION], id.as_bytes(), &made.millis().to_le_bytes()].concat();
        let head = [&head[..], &commitment(id, key)].concat();
        let tag = config_tag(id, key, &head);
        let mut bytes = [0; 96];
        for (to, from) in bytes.iter_mut().zip(head.iter().chain(&tag)) {
            *to = *from;
        }
        Self { id, bytes }
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 96] {
        &self.bytes
    }

    /// Reads the file; nothing is proven before [`Config::is_of`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.array::<7>().ok_or(ConfigError::Damaged)?;
        let version = cursor.u8().ok_or(ConfigError::Damaged)?;
        if &magic != CONFIG_MAGIC || !(b'1'..=b'9').contains(&version) {
            return Err(ConfigError::Damaged);
        }
        if version > VERSION {
            return Err(ConfigError::Newer(u32::from(version.saturating_sub(b'0'))));
        }
        let id = Id128::from_bytes(cursor.array().ok_or(ConfigError::Damaged)?);
        let bytes = <[u8; 96]>::try_from(bytes).map_err(|_other_length| ConfigError::Damaged)?;
        Ok(Self { id, bytes })
    }

    /// Whether `key` is the repository's.
    pub(crate) fn is_of(&self, key: &Key) -> bool {
        self.bytes.get(32..64).is_some_and(|there| mac::equal(there, &commitment(self.id, key)))
    }

    /// Whether the file is as it was written by who had `key`.
    pub(crate) fn is_whole(&self, key: &Key) -> bool {
        let (head, tag) = self.bytes.split_at(64);
        mac::equal(tag, &config_tag(self.id, key, head))
    }
}

fn commitment(id: Id128, key: &Key) -> [u8; 32] {
    *derive(key, id.as_bytes(), b"mainstay/backup/commitment/v1").expose()
}

fn config_tag(id: Id128, key: &Key, head: &[u8]) -> [u8; 32] {
    let tag_key = derive(key, id.as_bytes(), b"mainstay/backup/config/v1");
    *blake3::keyed_hash(tag_key.expose(), head).as_bytes()
}

/// The repository key wrapped for the holder of a master key. `wrapping` is that master key's key for this repository.
pub(crate) fn seal_slot(id: Id128, master: &str, wrapping: &Key, key: &Key, random: &dyn Random) -> Vec<u8> {
    let head = [&SLOT_MAGIC[..], &[MASTER], id.as_bytes(), master.as_bytes()].concat();
    let nonce = random::bytes::<NONCE>(random);
    let mut sealed = *key.expose();
    let tag = Aead::new(wrapping).seal(&nonce, &head, &mut sealed);
    [&head[..], &nonce, &sealed, &tag].concat()
}

/// The key in a slot; `None` when the slot is another's, of another kind, or damaged.
pub(crate) fn open_slot(slot: &[u8], id: Id128, master: &str, wrapping: &Key) -> Option<Key> {
    let head = slot.get(..41)?;
    let mut cursor = Cursor::new(slot);
    let fits = &cursor.array::<8>()? == SLOT_MAGIC
        && cursor.u8()? == MASTER
        && &cursor.array::<16>()? == id.as_bytes()
        && cursor.take(16)? == master.as_bytes();
    if !fits {
        return None;
    }
    let nonce = cursor.array::<NONCE>()?;
    let mut key = cursor.array::<32>()?;
    let tag = cursor.array::<TAG>()?;
    if !cursor.is_empty() {
        return None;
    }
    Aead::new(wrapping).open(&nonce, head, &mut key, &tag).ok()?;
    Some(Key::from_bytes(key))
}

/// The name of a new slot.
pub(crate) fn slot_name(random: &dyn Random) -> String {
    format!("keys/{}", hex(&random::bytes::<16>(random)))
}
