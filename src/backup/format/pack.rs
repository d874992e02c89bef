//! Packs: many chunks in one file, `packs/<first 2 digits>/<BLAKE3 of the file in hex>`.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `MNSTPAK1` |
//! | 8..40 | salt, random |
//! | 40.. | chunks one after the other, each sealed: ciphertext, then its 16-byte tag |
//! | | the trailer, sealed likewise |
//! | last 12 | bytes of the sealed trailer (4), `MNSTPEND` |
//!
//! Key: HKDF(the repository's pack key, salt, `mainstay/backup/sealing/v1`), for this pack alone. Nonce: 4 zero bytes, then
//! the place of the chunk's first byte in the file (8, little-endian); for the trailer eight times 0xff. Associated data:
//! repository id (16), `1` (0x31), type (1: chunk 1, trailer 2), then the chunk's id (32) or the salt (32).
//!
//! The trailer says what is in the pack, so that packs no index names (a killed run's) are taken in:
//! number of chunks (4), then for each, in order, 41 bytes: id (32), packing (1: 0 as it is, 1 zstd frame), plain
//! bytes (4), sealed bytes with tag (4).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::sync::Arc;

use super::ChunkId;
use super::codec::Cursor;
use super::keys::{RepositoryKeys, Sealed};
use crate::backup::chunker::LARGEST_CHUNK;
use crate::base::ids::{hex, hex_decode};
use crate::base::{Random, random};
use crate::crypto::Aead;
use crate::crypto::aead::{NONCE, TAG};

/// A pack is closed once it has this many bytes.
pub(crate) const PACK_SIZE: usize = 16 << 20;

/// Most bytes of a pack's file.
pub(crate) const LARGEST_PACK: u64 = 64 << 20;

/// Most chunks of a pack: 16 MiB of the smallest sealed chunk and its line in the trailer fit.
const MOST_CHUNKS: usize = 300_000;

const MAGIC: &[u8; 8] = b"MNSTPAK1";
const END: &[u8; 8] = b"MNSTPEND";

/// Bytes before the first chunk.
pub(crate) const HEADER: usize = 40;

const TRAILER_NONCE: [u8; NONCE] = [0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];

/// How a chunk lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// A chunk's line in a trailer or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) id: ChunkId,
    pub(crate) packing: Packing,
    /// Bytes of the chunk.
    pub(crate) plain: u32,
    /// Bytes it takes in the pack.
    pub(crate) sealed: u32,
}

/// Bytes of a line.
pub(crate) const ENTRY: usize = 41;

impl PackEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.push(u8::from(self.packing == Packing::Zstd));
        out.extend_from_slice(&self.plain.to_le_bytes());
        out.extend_from_slice(&self.sealed.to_le_bytes());
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let id = ChunkId(cursor.array()?);
        let packing = match cursor.u8()? {
            0 => Packing::Raw,
            1 => Packing::Zstd,
            _ => return None,
        };
        let (plain, sealed) = (cursor.u32()?, cursor.u32()?);
        let body = usize::try_from(sealed).ok()?.checked_sub(TAG)?;
        let plain_len = usize::try_from(plain).ok()?;
        let fits = plain_len <= LARGEST_CHUNK
            && match packing {
                Packing::Raw => body == plain_len,
                // The writer keeps a frame only when it is smaller.
                Packing::Zstd => body < plain_len,
            };
        fits.then_some(Self { id, packing, plain, sealed })
    }
}

/// What is known of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackInfo {
    /// BLAKE3 of its file.
    pub(crate) hash: [u8; 32],
    pub(crate) salt: [u8; 32],
    /// Bytes of its file.
    pub(crate) size: u64,
}

impl PackInfo {
    /// The name of its file.
    pub(crate) fn name(&self) -> String {
        pack_name(&self.hash)
    }
}

/// The name of the pack with this hash.
pub(crate) fn pack_name(hash: &[u8; 32]) -> String {
    let digits = hex(hash);
    format!("packs/{}/{digits}", digits.get(..2).unwrap_or_default())
}

/// The hash in a pack's name; `None` when it is no name of a pack.
pub(crate) fn pack_hash(name: &str) -> Option<[u8; 32]> {
    let (_, digits) = name.strip_prefix("packs/")?.split_once('/')?;
    let mut out = [0; 32];
    hex_decode(digits.as_bytes(), &mut out)?;
    (pack_name(&out) == name).then_some(out)
}

/// The nonce of the chunk that starts at `offset`.
fn nonce(offset: u64) -> [u8; NONCE] {
    let mut out = [0; NONCE];
    for (to, from) in out.iter_mut().skip(4).zip(offset.to_le_bytes()) {
        *to = from;
    }
    out
}

/// A finished pack.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) info: PackInfo,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<PackEntry>,
}

/// A pack being filled.
pub(crate) struct PackBuilder {
    keys: Arc<RepositoryKeys>,
    aead: Aead,
    salt: [u8; 32],
    bytes: Vec<u8>,
    entries: Vec<PackEntry>,
}

/// What was sealed does not open again: broken memory or a broken library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealFailed;

impl PackBuilder {
    /// An empty pack in the memory of `buffer`, such as a former pack's [`Pack::bytes`].
    pub(crate) fn new(keys: Arc<RepositoryKeys>, random: &dyn Random, buffer: Vec<u8>) -> Self {
        let salt = random::bytes::<32>(random);
        let aead = keys.aead(Sealed::Chunk, &salt);
        let mut bytes = buffer;
        bytes.clear();
        // At once, since growing would copy the pack and hold it twice; what is never written to costs nothing.
        bytes.reserve(PACK_SIZE.saturating_add(LARGEST_CHUNK));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&salt);
        Self { keys, aead, salt, bytes, entries: Vec::new() }
    }

    /// Whether it is large enough to be closed.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes.len() >= PACK_SIZE || self.entries.len() >= MOST_CHUNKS
    }

    /// Seals `body` (the chunk as packed) into the pack, and opens it again, in `scratch`, to see that it can be. Returns
    /// the bytes taken.
    pub(crate) fn push(
        &mut self,
        id: ChunkId,
        packing: Packing,
        plain: u32,
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<u32, SealFailed> {
        let start = self.bytes.len();
        let nonce = nonce(start as u64);
        let associated = self.keys.associated(Sealed::Chunk, &id.0);
        self.bytes.extend_from_slice(body);
        let Some(place) = self.bytes.get_mut(start..) else { return Err(SealFailed) };
        let tag = self.aead.seal(&nonce, &associated, place);
        scratch.clear();
        scratch.extend_from_slice(place);
        self.aead.open(&nonce, &associated, scratch, &tag).map_err(|_tampered| SealFailed)?;
        if scratch != body {
            return Err(SealFailed);
        }
        self.bytes.extend_from_slice(&tag);
        let sealed = u32::try_from(body.len().saturating_add(TAG)).map_err(|_too_large| SealFailed)?;
        self.entries.push(PackEntry { id, packing, plain, sealed });
        Ok(sealed)
    }

    /// Closes the pack.
    pub(crate) fn finish(mut self) -> Pack {
        let mut trailer = Vec::with_capacity(self.entries.len().saturating_mul(ENTRY).saturating_add(4));
        trailer.extend_from_slice(&u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_le_bytes());
        for entry in &self.entries {
            entry.encode(&mut trailer);
        }
        let tag = self.aead.seal(&TRAILER_NONCE, &self.keys.associated(Sealed::Trailer, &self.salt), &mut trailer);
        self.bytes.extend_from_slice(&trailer);
        self.bytes.extend_from_slice(&tag);
        let sealed = u32::try_from(trailer.len().saturating_add(TAG)).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&sealed.to_le_bytes());
        self.bytes.extend_from_slice(END);
        let hash = *blake3::hash(&self.bytes).as_bytes();
        let info = PackInfo { hash, salt: self.salt, size: self.bytes.len() as u64 };
        Pack { info, bytes: self.bytes, entries: self.entries }
    }
}

impl std::fmt::Debug for PackBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackBuilder").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// What the trailer in the whole file of a pack says; `None` when it is no pack of this repository or is damaged.
pub(crate) fn open_pack(keys: &RepositoryKeys, hash: [u8; 32], file: &[u8]) -> Option<(PackInfo, Vec<PackEntry>)> {
    let (magic, rest) = file.split_first_chunk::<8>()?;
    let (salt, _) = rest.split_first_chunk::<32>()?;
    if magic != MAGIC {
        return None;
    }
    let (body, end) = file.split_last_chunk::<8>()?;
    let (body, sealed) = body.split_last_chunk::<4>()?;
    let sealed = usize::try_from(u32::from_le_bytes(*sealed)).ok()?;
    if end != END || file.len() as u64 > LARGEST_PACK {
        return None;
    }
    let start = body.len().checked_sub(sealed).filter(|start| *start >= HEADER)?;
    let (trailer, tag) = body.get(start..)?.split_last_chunk::<TAG>()?;
    let mut trailer = trailer.to_vec();
    let associated = keys.associated(Sealed::Trailer, salt);
    keys.aead(Sealed::Trailer, salt).open(&TRAILER_NONCE, &associated, &mut trailer, tag).ok()?;
    let entries = decode_entries(&trailer)?;
    let chunks = entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(u64::from(entry.sealed)))?;
    let info = PackInfo { hash, salt: *salt, size: file.len() as u64 };
    (chunks.checked_add(HEADER as u64)? == start as u64).then_some((info, entries))
}

/// The lines of an opened trailer.
pub(crate) fn decode_entries(trailer: &[u8]) -> Option<Vec<PackEntry>> {
    let mut cursor = Cursor::new(trailer);
    let count = usize::try_from(cursor.u32()?).ok().filter(|count| *count <= MOST_CHUNKS)?;
    let mut entries = Vec::with_capacity(count.min(trailer.len()));
    for _ in 0..count {
        entries.push(PackEntry::decode(&mut cursor)?);
    }
    cursor.is_empty().then_some(entries)
}

/// Opens the chunk `id`, which lies sealed at `offset` of the pack that `aead` belongs to. `None` when it is not that.
pub(crate) fn open_chunk(
    keys: &RepositoryKeys,
    aead: &Aead,
    id: &ChunkId,
    offset: u64,
    sealed: &[u8],
    packing: Packing,
    plain: usize,
) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_last_chunk::<TAG>()?;
    let mut body = body.to_vec();
    aead.open(&nonce(offset), &keys.associated(Sealed::Chunk, &id.0), &mut body, tag).ok()?;
    let bytes = match packing {
        Packing::Raw => body,
        Packing::Zstd => zstd::bulk::decompress(&body, plain.min(LARGEST_CHUNK)).ok()?,
    };
    (bytes.len() == plain && keys.chunk_id(&bytes) == *id).then_some(bytes)
}
