//! The blob: one sealed, immutable, self-describing body (an object, or a part of one).
//!
//! A blob is a file under a random name, or, up to [`INLINE_MAX`] plaintext bytes, a value in the index; the bytes are
//! the same. Format version 1, integers big endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic `MSTYBLOB` |
//! | 8..10 | format version, 1 |
//! | 10 | suite, 1: AES-256-GCM, HKDF-SHA256 |
//! | 11 | log2 of the plaintext bytes of a segment, 16 |
//! | 12..16 | R, bytes of the sealed record |
//! | 16..32 | blob id |
//! | 32..48 | bucket id: names the key that wraps the data key |
//! | 48..80 | salt, random |
//! | 80..87 | nonce prefix of the segments, random |
//! | 87 | 0 |
//! | 88..120 | key commitment ([`StreamKey::commitment`](crate::crypto::StreamKey::commitment)) |
//! | 120..180 | wrapped data key: nonce (12), ciphertext (32), tag (16) |
//! | 180..180+R | sealed record: [`Record`] in postcard, tag (16) |
//! | then | body: segments of [`crate::crypto::stream`], context = blob id |
//! | then | sealed footer: [`Footer`] in postcard, tag (16) |
//! | last 4 | bytes of the sealed footer |
//!
//! Keys. The data key is 32 random bytes for this blob alone, wrapped by the bucket's key with bytes 0..120 as associated
//! data: a header with anything changed, or moved to another blob's file, does not open. Record and footer are sealed
//! under a key derived from the data key, salt and blob id, with the nonces 0 and 1 and bytes 0..120 as associated data.
//! The wrapping names ids, not the object's key, so that a copy by reference or a rename need not touch the blob. Bytes 120..180
//! are all that depends on the bucket's key, and all that is ever written anew (`rewrap.rs`).
//!
//! What is known only at the end (length, digest, time, a checksum from a trailer) stands in the footer. Reading an
//! object needs neither record nor footer, since the index has it all; rebuilding the index from blobs needs both: the
//! newest footer wins a key, and a file whose footer does not open is an upload that never ended.
//!
//! Which parts a completed upload chose, a blob of their own tells: a part with the number 0 ([`super::joined`]). What
//! rebuilding cannot know from blobs alone, and takes from the newest export of the index: objects within the index itself,
//! deletions, tags set later, the ids of versions where some were deleted.
//!
//! Start reading at `seal.rs`, then `open.rs`; `file.rs` puts both on disk, `source.rs` reads from there and from backends.

mod file;
mod open;
mod rewrap;
mod seal;
mod source;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use super::types::{Checksum, Metadata};
use crate::base::Id128;
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::stream::SEGMENT;
use crate::crypto::{Aead, Key, keyring};

pub(super) use file::{
    BlobFile, BlobFolder, BlobWriter, Named, OpenFault, Written, describe, describe_head, remove_if_there,
};
pub(super) use open::{Reseal, open_inline};
pub(super) use rewrap::{Rewrap, Wrapped, fits, is_rewrapped, put_wrapped, rewrap};
pub(super) use seal::{Batch, seal_inline};
pub(super) use source::{RemoteFile, Source};

/// Most plaintext bytes of a blob kept in the index: above it, a file's own syncs cost less than carrying the bytes
/// through the index's journal and tree.
pub(super) const INLINE_MAX: usize = 8 << 10;

/// Segments sealed and written, or read and opened, in one step off the async threads: 256 KiB. Each request holds at
/// most two such batches.
pub(super) const BATCH_SEGMENTS: usize = 4;

const MAGIC: &[u8; 8] = b"MSTYBLOB";
const VERSION: u16 = 1;
const SUITE: u8 = 1;
const SEGMENT_LOG2: u8 = 16;
/// Bytes of the header that everything else is bound to.
const BOUND: usize = 120;
/// Bytes of the header with the wrapped key.
pub(super) const HEADER: usize = BOUND + keyring::WRAPPED;
/// Most bytes of a sealed record or footer; names and metadata are capped far below.
const RECORD_MAX: usize = 64 << 10;
const RECORD_NONCE: [u8; NONCE] = [0; NONCE];
const FOOTER_NONCE: [u8; NONCE] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const _: () = assert!(1 << SEGMENT_LOG2 == SEGMENT);

/// What a blob is, for whoever finds it without an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Name of the bucket when the blob was written.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// The upload and part number, for a part.
    pub part: Option<(Id128, u16)>,
    /// What the client said about the object (for a part: about the object it becomes).
    pub metadata: Metadata,
}

/// What is known at a blob's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    /// Plaintext bytes.
    pub size: u64,
    /// MD5 of the plaintext.
    pub md5: [u8; 16],
    /// Milliseconds since the Unix epoch.
    pub finished: u64,
    /// A checksum from the body's trailer.
    pub checksum: Option<Checksum>,
}

/// What does not hold about a stored blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault(pub &'static str);

impl Fault {
    const CUT: Self = Self("it is cut off");
}

/// A bucket's key, ready to wrap the data keys of its blobs; while it is being changed, the ones before open too. Clones are
/// the same key: a change of one is a change of all.
#[derive(Clone, Debug)]
pub(super) struct BucketKey {
    bucket: Id128,
    keys: Arc<RwLock<Keys>>,
}

#[derive(Clone, Debug)]
struct Keys {
    active: Aead,
    older: Vec<Aead>,
}

impl BucketKey {
    /// The key of the bucket with this id, and those before it.
    pub fn new(bucket: Id128, active: &Key, older: &[Key]) -> Self {
        let keys = Keys { active: Aead::new(active), older: older.iter().map(Aead::new).collect() };
        Self { bucket, keys: Arc::new(RwLock::new(keys)) }
    }

    /// Has this key, and all its clones, be as `other` is.
    pub fn become_as(&self, other: &Self) {
        let keys = other.keys().clone();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keys, &other.keys)
    }

    /// Whether the one before opens too.
    pub fn is_changing(&self) -> bool {
        !self.keys().older.is_empty()
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrap(&self, nonce: &[u8; NONCE], bound: &[u8], data_key: &Key) -> [u8; keyring::WRAPPED] {
        let mut out = [0; keyring::WRAPPED];
        let mut sealed = *data_key.expose();
        let tag = self.keys().active.seal(nonce, bound, &mut sealed);
        out[..NONCE].copy_from_slice(nonce);
        out[NONCE..NONCE + 32].copy_from_slice(&sealed);
        out[NONCE + 32..].copy_from_slice(&tag);
        out
    }

    fn unwrap(&self, bound: &[u8], wrapped: &[u8; keyring::WRAPPED]) -> Result<Key, Fault> {
        self.unwrap_by(bound, wrapped).map(|(key, _)| key)
    }

    /// The data key, and whether the key in use has wrapped it.
    fn unwrap_by(&self, bound: &[u8], wrapped: &[u8; keyring::WRAPPED]) -> Result<(Key, bool), Fault> {
        let fault = Fault("its data key does not open with the bucket's key");
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE>().ok_or(fault)?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(fault)?;
        let sealed = <[u8; 32]>::try_from(sealed).map_err(|_other_length| fault)?;
        let keys = self.keys();
        for (at, aead) in std::iter::once(&keys.active).chain(&keys.older).enumerate() {
            let mut key = sealed;
            if aead.open(nonce, bound, &mut key, tag).is_ok() {
                return Ok((Key::from_bytes(key), at == 0));
            }
        }
        Err(fault)
    }
}

/// The key of record and footer.
fn record_key(data_key: &Key, salt: &[u8; 32], blob: Id128) -> Aead {
    let info = [&b"mainstay/blob-record/v1\0"[..], blob.as_bytes()].concat();
    Aead::new(&crate::crypto::derive(data_key, salt, &info))
}
