//! Sealed documents: index, snapshots, marks.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `MNSTIDX1`, `MNSTSNP1` or `MNSTMRK1` |
//! | 8..40 | salt, random |
//! | 40.. | the document, AES-256-GCM sealed; the last 16 bytes are the tag |
//!
//! Key: HKDF(the repository's key for the kind, salt, `mainstay/backup/sealing/v1`); it seals this alone, so the nonce is
//! zero. Associated data: repository id (16), `1` (0x31), type (1: 3 index, 4 snapshot, 5 mark), and for snapshots and
//! marks their name, so that none can be passed off as another. Snapshots (`snapshots/<name>`) and marks
//! (`marks/<name>`) are JSON, an index (`index/<BLAKE3 of the file>`) is bytes (`index.rs`).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::keys::{RepositoryKeys, Sealed};
use crate::base::{Random, random};
use crate::crypto::aead::{NONCE, TAG};

/// Most bytes of a document's file.
pub(crate) const LARGEST_DOCUMENT: u64 = 64 << 20;

const fn magic(sealed: Sealed) -> &'static [u8; 8] {
    match sealed {
        Sealed::Index => b"MNSTIDX1",
        Sealed::Mark => b"MNSTMRK1",
        Sealed::Chunk | Sealed::Trailer | Sealed::Snapshot => b"MNSTSNP1",
    }
}

/// The file of a document.
pub(crate) fn seal(
    keys: &RepositoryKeys,
    sealed: Sealed,
    name: &str,
    mut plain: Vec<u8>,
    random: &dyn Random,
) -> Vec<u8> {
    let salt = random::bytes::<32>(random);
    let tag = keys.aead(sealed, &salt).seal(&[0; NONCE], &keys.associated(sealed, name.as_bytes()), &mut plain);
    [&magic(sealed)[..], &salt, &plain, &tag].concat()
}

/// The document in a file; `None` when it is not what was sealed under that name.
pub(crate) fn open(keys: &RepositoryKeys, sealed: Sealed, name: &str, file: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = file.split_first_chunk::<8>()?;
    let (salt, rest) = rest.split_first_chunk::<32>()?;
    let (body, tag) = rest.split_last_chunk::<TAG>()?;
    if head != magic(sealed) {
        return None;
    }
    let mut plain = body.to_vec();
    keys.aead(sealed, salt).open(&[0; NONCE], &keys.associated(sealed, name.as_bytes()), &mut plain, tag).ok()?;
    Some(plain)
}
