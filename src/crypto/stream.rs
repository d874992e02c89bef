//! Sealed streams: a long body as AES-256-GCM segments that can be read from the middle.
//!
//! Every segment but the last holds exactly [`SEGMENT`] plaintext bytes, followed by a 16-byte tag. The last holds 0 to
//! [`SEGMENT`] bytes (an empty body is one empty segment) and is marked as last, so a cut stream does not verify.
//!
//! Nonce, 12 bytes (the layout of Tink's AES-GCM-HKDF streaming):
//!
//! | bytes | content |
//! |---|---|
//! | 0..7 | prefix, random per stream |
//! | 7..11 | segment index, big endian |
//! | 11 | 1 on the last segment, else 0 |
//!
//! The stream's key is derived from a data key used for this stream alone, so nonces cannot repeat. AES-GCM does not
//! commit to its key; [`StreamKey::commitment`] does, is stored with the stream and compared before anything is opened.

use super::aead::{Aead, NONCE, TAG, Tampered};
use super::{Key, derive};

/// Plaintext bytes in every segment but the last. Past 16 KiB sealing gets no faster; a one-byte range costs one segment.
pub const SEGMENT: usize = 64 << 10;

/// Bytes of a full segment on disk.
pub const SEALED_SEGMENT: usize = SEGMENT + TAG;

/// Bytes of the random nonce prefix.
pub const PREFIX: usize = 7;

/// One stream's key and nonce prefix.
#[derive(Clone, Debug)]
pub struct StreamKey {
    aead: Aead,
    prefix: [u8; PREFIX],
    commitment: [u8; 32],
}

impl StreamKey {
    /// The key for the stream with this `salt`, `prefix` and `context` (what the stream belongs to, such as a blob id).
    /// `data_key` seals nothing else.
    pub fn new(data_key: &Key, salt: &[u8; 32], prefix: [u8; PREFIX], context: &[u8]) -> Self {
        let for_purpose = |purpose: &[u8]| derive(data_key, salt, &[purpose, context].concat());
        Self {
            aead: Aead::new(&for_purpose(b"mainstay/stream/v1\0")),
            prefix,
            commitment: *for_purpose(b"mainstay/commit/v1\0").expose(),
        }
    }

    /// 32 public bytes that no other key yields. Compare (in constant time) with the stored ones before opening.
    pub const fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Seals the segment `index` held in `buffer` in place and appends its tag.
    pub fn seal_segment(&self, index: u32, last: bool, buffer: &mut Vec<u8>) {
        let tag = self.aead.seal(&self.nonce(index, last), &[], buffer);
        buffer.extend_from_slice(&tag);
    }

    /// Opens the sealed segment `index` held in `buffer` in place and cuts its tag off.
    ///
    /// # Errors
    /// [`Tampered`] when it is not that segment of this stream; then `buffer` is empty.
    pub fn open_segment(&self, index: u32, last: bool, buffer: &mut Vec<u8>) -> Result<(), Tampered> {
        let opened = self.open_in_place(index, last, buffer).map(|plain| plain.len());
        buffer.truncate(opened.unwrap_or(0));
        opened.map(|_| ())
    }

    /// As [`StreamKey::open_segment`], for a segment among others: gives the part of `buffer` that is its plaintext.
    ///
    /// # Errors
    /// [`Tampered`]; then `buffer` holds nothing of the plaintext.
    pub fn open_in_place<'a>(&self, index: u32, last: bool, buffer: &'a mut [u8]) -> Result<&'a mut [u8], Tampered> {
        let (sealed, tag) = buffer.split_last_chunk_mut::<TAG>().ok_or(Tampered)?;
        self.aead.open(&self.nonce(index, last), &[], sealed, tag)?;
        Ok(sealed)
    }

    fn nonce(&self, index: u32, last: bool) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..PREFIX].copy_from_slice(&self.prefix);
        nonce[PREFIX..NONCE - 1].copy_from_slice(&index.to_be_bytes());
        nonce[NONCE - 1] = u8::from(last);
        nonce
    }
}

/// Bytes on disk of a stream of `plain` bytes.
pub const fn sealed_len(plain: u64) -> u64 {
    plain + segments(plain) * TAG as u64
}

/// Segments of a stream of `plain` bytes; at least one.
pub const fn segments(plain: u64) -> u64 {
    if plain == 0 { 1 } else { plain.div_ceil(SEGMENT as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(context: &[u8]) -> StreamKey {
        StreamKey::new(&Key::from_bytes([9; 32]), &[1; 32], [2; 7], context)
    }

    #[test]
    fn segments_open_only_in_their_place() {
        let stream = key(b"blob");
        let mut sealed = b"hello".to_vec();
        stream.seal_segment(3, true, &mut sealed);
        assert_eq!(sealed.len(), 5 + TAG);

        for (index, last, context) in [(4, true, &b"blob"[..]), (3, false, b"blob"), (3, true, b"blab")] {
            let mut buffer = sealed.clone();
            assert_eq!(key(context).open_segment(index, last, &mut buffer), Err(Tampered));
            assert!(buffer.is_empty());
        }
        stream.open_segment(3, true, &mut sealed).unwrap();
        assert_eq!(sealed, b"hello");
    }

    #[test]
    fn a_segment_shorter_than_its_tag_is_tampered() {
        assert_eq!(key(b"blob").open_segment(0, true, &mut vec![0; TAG - 1]), Err(Tampered));
    }

    #[test]
    fn commitments_tell_keys_and_contexts_apart() {
        let other = StreamKey::new(&Key::from_bytes([8; 32]), &[1; 32], [2; 7], b"blob");
        assert_ne!(key(b"blob").commitment(), other.commitment());
        assert_ne!(key(b"blob").commitment(), key(b"blab").commitment());
    }

    #[test]
    fn lengths_on_disk_count_every_tag() {
        assert_eq!(sealed_len(0), 16);
        assert_eq!(sealed_len(1), 17);
        assert_eq!(sealed_len(SEGMENT as u64), SEALED_SEGMENT as u64);
        assert_eq!(sealed_len(SEGMENT as u64 + 1), SEALED_SEGMENT as u64 + 17);
    }
}
