//! What lies on disk for the fuzzer: blobs, exports, buckets' files, completions. The fuzzer sees nothing private. Compiled for
//! tests and, behind the feature `testing`, for the fuzzer.

use std::path::Path;
use std::sync::Arc;

use super::blob::{BucketKey, Record, open_inline, seal_inline};
use super::bucket_files::{BucketState, seal, unseal};
use super::joined::JoinedRow;
use super::sniff;
use super::types::Metadata;
use crate::base::{Disk, Id128, SystemRandom, Timestamp};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Key, Keyring, MasterKey};
use crate::store::record;

/// Opens `bytes` as a blob. Then seals the second half of them as one, changes the byte that the first four name, and
/// opens that.
///
/// # Panics
/// A blob that was changed opens to something else than was sealed.
pub fn blob(bytes: &[u8]) {
    let id = Id128::from_bytes([1; 16]);
    let key = BucketKey::new(Id128::from_bytes([2; 16]), &Key::from_bytes([3; 32]), &[]);
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

/// Opens `bytes` as an export of the index, on `disk`, which is empty. Then seals them as the pieces of one, changes the byte
/// that the first four name, and reads that.
///
/// # Panics
/// A piece comes out that was not written in its place.
pub fn export(disk: &Arc<dyn Disk>, bytes: &[u8]) {
    super::export::fuzz::changed(disk, bytes);
}

/// Opens `bytes` as a bucket's file, with keys on `disk`, which is empty. Then seals as one what they say, or what they are,
/// changes the byte that the first four name, and opens that.
///
/// # Panics
/// A file that was changed says something else than was sealed.
pub fn bucket_file(disk: &Arc<dyn Disk>, bytes: &[u8]) {
    let id = Id128::from_bytes([2; 16]);
    let keyring = keyring(disk);
    let _ = unseal(&keyring, id, bytes);

    let Some((place, rest)) = bytes.split_first_chunk::<4>() else { return };
    let (mask, said) = rest.split_at(rest.len().min(1));
    let other = || BucketState::Live { name: "b".to_owned(), row: said.to_vec(), settings: None };
    let state = postcard::from_bytes(said).unwrap_or_else(|_malformed| other());
    let mut sealed = seal(&keyring, &SystemRandom, id, &state);
    let place = u32::from_be_bytes(*place) as usize % sealed.len().max(1);
    if let (Some(byte), Some(mask)) = (sealed.get_mut(place), mask.first()) {
        *byte ^= mask;
    }
    if let Ok(opened) = unseal(&keyring, id, &sealed) {
        assert_eq!(opened, state, "a file changed at {place} says something else");
    }
}

/// Reads `bytes` as what a completion has written down, and as the rows in it.
///
/// # Panics
/// What was written does not read back.
pub fn joined(bytes: &[u8]) {
    let look = |row: &JoinedRow| (row.object().is_ok(), row.parts().map(|parts| parts.len()).ok());
    if let Ok(row) = record::decode::<JoinedRow>(bytes) {
        look(&row);
    }
    let (object, manifest) = bytes.split_at(bytes.len() / 2);
    let row = JoinedRow { object: object.to_vec(), manifest: vec![(Vec::new(), manifest.to_vec())] };
    look(&row);
    assert_eq!(record::decode::<JoinedRow>(&record::encode(&row)).as_ref(), Ok(&row));
}

/// The keys under which everything here is sealed.
///
/// # Panics
/// The keyring cannot be made on `disk`.
pub(super) fn keyring(disk: &Arc<dyn Disk>) -> Keyring {
    let master = MasterSource::Given { key: MasterKey::random(&SystemRandom), from: "fuzzer" };
    match Keyring::open(Arc::clone(disk), Arc::new(SystemRandom), Path::new("/data"), master, false) {
        Ok(keyring) => keyring,
        Err(error) => unreachable!("{error}"),
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
    use std::sync::Arc;

    use crate::base::Disk;
    use crate::testing::FaultyDisk;

    fn empty() -> Arc<dyn Disk> {
        Arc::new(FaultyDisk::new())
    }

    #[test]
    fn guesses_hold_what_the_fuzzer_asks_of_them() {
        for bytes in [&b"<!--<?xml"[..], b"\0\0\0\xffftypmif1", b"<?xml ?><!doctype", b"RIFF\0\0\0\0WEBP"] {
            super::sniffed(bytes);
        }
    }

    #[test]
    fn changed_exports_give_no_piece_that_was_not_written_there() {
        let bytes: Vec<u8> = (0..3_000_u32).map(|at| (at % 251) as u8).collect();
        for place in (0..4_000_u32).step_by(37) {
            super::export(&empty(), &[&place.to_be_bytes()[..], &[1], &bytes].concat());
        }
        super::export(&empty(), b"MSTYINDX");
        super::export(&empty(), &[0; 5]);
    }

    #[test]
    fn changed_files_of_buckets_say_nothing_else() {
        for place in 0..200_u8 {
            super::bucket_file(&empty(), &[0, 0, 0, place, 1, 0, 1, b'b', 2, b'r', b'r', 0]);
        }
        super::bucket_file(&empty(), b"MSTYBUCK");
        super::bucket_file(&empty(), &[0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn whatever_a_completion_has_written_down_is_read_or_refused() {
        for bytes in [&b""[..], &[1], &[1, 1, 9, 1, 0, 0], &[1, 0, 0], &[0xff; 64]] {
            super::joined(bytes);
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
