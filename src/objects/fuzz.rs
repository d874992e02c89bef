//! Blobs for the fuzzer, which sees nothing private. Compiled for tests and, behind the feature `testing`, for the fuzzer.

use super::blob::{BucketKey, Record, open_inline, seal_inline};
use super::sniff;
use super::types::Metadata;
use crate::base::{Id128, SystemRandom, Timestamp};
use crate::crypto::Key;

/// Opens `bytes` as a blob. Then seals the second half of them as one, changes the byte that the first four name, and
/// opens that.
///
/// # Panics
/// A blob that was changed opens to something else than was sealed.
pub fn blob(bytes: &[u8]) {
    let id = Id128::from_bytes([1; 16]);
    let key = BucketKey::new(Id128::from_bytes([2; 16]), &Key::from_bytes([3; 32]));
    let size = bytes.first().map_or(0, |byte| u64::from(*byte));
    let _ = open_inline(bytes, id, &key, size);

    let Some((place, rest)) = bytes.split_first_chunk::<4>() else { return };
    let (mask, plain) = rest.split_at(rest.len().min(1));
    let record = Record { bucket: "b".to_owned(), key: "k".to_owned(), part: None, metadata: Metadata::default() };
    let mut sealed = seal_inline(id, &key, &record, &SystemRandom, plain, Timestamp(6), None).bytes;
    let place = u32::from_be_bytes(*place) as usize % sealed.len().max(1);
    if let (Some(byte), Some(mask)) = (sealed.get_mut(place), mask.first()) {
        *byte ^= mask;
    }
    if let Ok(opened) = open_inline(&sealed, id, &key, plain.len() as u64) {
        assert_eq!(opened, plain, "a blob changed at {place} opens to something else");
    }
}

/// Guesses what `bytes` are by their beginning.
///
/// # Panics
/// What stands behind the head changes the guess, or a kind does not fit its own name.
pub fn sniffed(bytes: &[u8]) {
    let found = sniff::sniff(bytes);
    assert_eq!(found, sniff::sniff(bytes.get(..sniff::HEAD).unwrap_or(bytes)), "the tail is looked at");
    if let Some(kind) = found {
        assert!(kind.media().iter().all(|media| kind.fits(media)), "{kind:?} does not fit its own name");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn guesses_hold_what_the_fuzzer_asks_of_them() {
        for bytes in [&b"<!--<?xml"[..], b"\0\0\0\xffftypmif1", b"<?xml ?><!doctype", b"RIFF\0\0\0\0WEBP"] {
            super::sniffed(bytes);
        }
    }

    #[test]
    fn changed_blobs_do_not_open_to_something_else() {
        for place in 0..255u8 {
            super::blob(&[0, 0, 0, place, 1, b'h', b'e', b'l', b'l', b'o']);
        }
        super::blob(b"MSTYBLOB");
        super::blob(b"");
    }
}
