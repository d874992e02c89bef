//! Making a blob: header, segments, footer. No I/O.

use bytes::Bytes;
use md5::{Digest, Md5};

use super::{
    BATCH_SEGMENTS, BOUND, BucketKey, FOOTER_NONCE, Footer, HEADER, INLINE_MAX, MAGIC, RECORD_NONCE, Record,
    SEGMENT_LOG2, SUITE, VERSION, record_key,
};
use crate::base::{Id128, Random, Timestamp, random};
use crate::crypto::aead::TAG;
use crate::crypto::stream::{SEALED_SEGMENT, SEGMENT};
use crate::crypto::{Aead, Key, StreamKey};
use crate::objects::types::Checksum;

/// Plaintext on its way into segments: up to [`BATCH_SEGMENTS`] buffers that are filled one after the other, and used
/// again for the next batch.
#[derive(Debug, Default)]
pub(in crate::objects) struct Batch {
    filled: Vec<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Batch {
    /// Moves as much as fits from the front of `chunk` into the batch.
    pub fn fill(&mut self, chunk: &mut Bytes) {
        while !chunk.is_empty() && !self.is_full() {
            if self.filled.last().is_none_or(|segment| segment.len() >= SEGMENT) {
                self.filled.push(self.spare.pop().unwrap_or_default());
            }
            let Some(segment) = self.filled.last_mut() else { return };
            let taken = chunk.split_to(chunk.len().min(SEGMENT - segment.len()));
            // A small body should not cost a whole segment; the tag must not make the buffer grow either.
            if segment.is_empty() && taken.len() <= INLINE_MAX {
                segment.reserve_exact(taken.len() + TAG);
            } else if segment.capacity() - segment.len() < taken.len() + TAG {
                segment.reserve_exact(SEALED_SEGMENT - segment.len());
            }
            segment.extend_from_slice(&taken);
        }
    }

    /// Whether no byte fits any more.
    pub fn is_full(&self) -> bool {
        self.filled.len() == BATCH_SEGMENTS && self.filled.last().is_some_and(|segment| segment.len() >= SEGMENT)
    }

    /// The first segment's plaintext, when there is no other: the whole body, if it has ended.
    pub fn only(&self) -> Option<&[u8]> {
        match self.filled.as_slice() {
            [] => Some(&[]),
            [segment] => Some(segment),
            _ => None,
        }
    }

    /// The segments filled so far; at least one, so that an empty body has its last segment too.
    pub(super) fn segments(&mut self) -> &mut [Vec<u8>] {
        if self.filled.is_empty() {
            self.filled.push(self.spare.pop().unwrap_or_default());
        }
        &mut self.filled
    }

    /// Empties the batch and keeps its buffers.
    pub(super) fn clear(&mut self) {
        for mut segment in self.filled.drain(..) {
            segment.clear();
            self.spare.push(segment);
        }
    }

    /// Buffers held, filled or not.
    #[cfg(test)]
    pub fn buffers(&self) -> usize {
        self.filled.len() + self.spare.len()
    }
}

/// A blob in the making.
pub(super) struct Sealer {
    head: Vec<u8>,
    stream: StreamKey,
    record: Aead,
    md5: Md5,
    size: u64,
    index: u32,
}

impl Sealer {
    /// Starts the blob `blob` with a fresh data key.
    pub fn new(blob: Id128, key: &BucketKey, record: &Record, random: &dyn Random) -> Self {
        let data_key = Key::random(random);
        let salt: [u8; 32] = random::bytes(random);
        let prefix: [u8; 7] = random::bytes(random);
        let stream = StreamKey::new(&data_key, &salt, prefix, blob.as_bytes());
        let sealing = record_key(&data_key, &salt, blob);
        // Writing these types to a Vec cannot fail: no map without length, no foreign Serialize.
        let mut sealed = postcard::to_allocvec(record).unwrap_or_default();

        let mut head = Vec::with_capacity(HEADER + sealed.len() + TAG);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_be_bytes());
        head.extend_from_slice(&[SUITE, SEGMENT_LOG2]);
        head.extend_from_slice(&((sealed.len() + TAG) as u32).to_be_bytes());
        head.extend_from_slice(blob.as_bytes());
        head.extend_from_slice(key.bucket.as_bytes());
        head.extend_from_slice(&salt);
        head.extend_from_slice(&prefix);
        head.push(0);
        head.extend_from_slice(stream.commitment());
        debug_assert_eq!(head.len(), BOUND);
        let tag = sealing.seal(&RECORD_NONCE, &head, &mut sealed);
        let wrapped = key.wrap(&random::bytes(random), &head, &data_key);
        head.extend_from_slice(&wrapped);
        head.extend_from_slice(&sealed);
        head.extend_from_slice(&tag);
        Self { head, stream, record: sealing, md5: Md5::new(), size: 0, index: 0 }
    }

    /// Header and sealed record: the blob's first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Plaintext bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hashes and seals the next segment in place.
    pub fn segment(&mut self, last: bool, buffer: &mut Vec<u8>) {
        self.md5.update(&buffer);
        self.size += buffer.len() as u64;
        self.stream.seal_segment(self.index, last, buffer);
        // 2^32 segments are 256 TiB; the cap on a body is far below.
        self.index = self.index.wrapping_add(1);
    }

    /// MD5 of the plaintext so far.
    pub fn md5(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// The blob's last bytes, and the plaintext's MD5.
    pub fn footer(&self, finished: Timestamp, checksum: Option<Checksum>) -> (Vec<u8>, [u8; 16]) {
        let md5 = self.md5();
        let footer = Footer { size: self.size, md5, finished: finished.millis(), checksum };
        let mut out = postcard::to_allocvec(&footer).unwrap_or_default();
        let tag = self.record.seal(&FOOTER_NONCE, self.head.get(..BOUND).unwrap_or_default(), &mut out);
        out.extend_from_slice(&tag);
        let len = out.len() as u32;
        out.extend_from_slice(&len.to_be_bytes());
        (out, md5)
    }
}

/// A blob for the index.
pub(in crate::objects) struct SealedSmall {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// MD5 of the plaintext.
    pub md5: [u8; 16],
}

/// Seals a body of at most [`super::INLINE_MAX`] bytes in one go.
pub(in crate::objects) fn seal_inline(
    blob: Id128,
    key: &BucketKey,
    record: &Record,
    random: &dyn Random,
    plain: &[u8],
    finished: Timestamp,
    checksum: Option<Checksum>,
) -> SealedSmall {
    let mut sealer = Sealer::new(blob, key, record, random);
    let mut segment = Vec::with_capacity(plain.len() + TAG);
    segment.extend_from_slice(plain);
    sealer.segment(true, &mut segment);
    let mut bytes = sealer.head().to_vec();
    bytes.extend_from_slice(&segment);
    let (footer, md5) = sealer.footer(finished, checksum);
    bytes.extend_from_slice(&footer);
    SealedSmall { bytes, md5 }
}
