//! The format on its own.

use proptest::prelude::*;

use super::*;
use crate::base::{LocalDisk, SystemRandom, Timestamp};
use crate::testing::TestRandom;

fn key() -> BucketKey {
    BucketKey::new(Id128::from_bytes([2; 16]), &Key::from_bytes([3; 32]), &[])
}

fn record() -> Record {
    let metadata = Metadata { content_type: Some("a/b".to_owned()), ..Metadata::default() };
    Record { bucket: "photos".to_owned(), key: "k".to_owned(), part: Some((Id128::from_bytes([4; 16]), 7)), metadata }
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let id = Id128::from_bytes([1; 16]);
    seal_inline(id, &key(), &record(), &TestRandom::new(5), plain, Timestamp(6), None).bytes
}

fn open(bytes: &[u8], size: u64) -> Result<Vec<u8>, Fault> {
    open_inline(bytes, Id128::from_bytes([1; 16]), &key(), size)
}

#[test]
fn the_layout_is_the_one_written_down() {
    let bytes = sealed(b"hello");
    assert_eq!(&bytes[..12], b"MSTYBLOB\x00\x01\x01\x10");
    let record_len = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
    assert_eq!(record_len, postcard::to_allocvec(&record()).unwrap().len() + TAG);
    assert_eq!((&bytes[16..32], &bytes[32..48]), (&[1; 16][..], &[2; 16][..]));
    let footer_len = u32::from_be_bytes(*bytes.last_chunk().unwrap()) as usize;
    assert_eq!(bytes.len(), 180 + record_len + 5 + TAG + footer_len + 4);
}

/// What this code wrote on 2026-11-20; it must open for ever.
const VERSION_1: &str = "\
    4d535459424c4f4200010110000000380101010101010101010101010101010102020202020202020202020202020202c55d01aa\
    8f271e30444007b030966f61211bcc1b1fe44dfc2bef9906138cd782e8e9e99e3aea2b00310a9f04637ecaad36aaf030827a4765\
    9fcca50a7693fbb4244e5b95f11529c963d7996087147b9aa7c67c25abef05ac92c7f6a5d24ed6c4f1577e1ed78d824956a44738\
    10536c2ccc39145faea35a45f6f58902b1b6363a0ed652c1fd449ca9eea76239be20998e0a1456b7dd80461de498bedf87de856a\
    28b3ddfc3e9e99fefe70d3a8c1fec7197c847c42affe0b0637b8156f98bdd30ceaf7ca0aa826b7026f36748fb5c330607c177bdd\
    9d21f7d275570d5f4b53dff2a30eb8bd8ca9aff4be9bdad7daad753ca240949e00000023";

#[test]
fn a_blob_of_format_version_1_opens() {
    let mut stored = vec![0; VERSION_1.len() / 2];
    crate::base::ids::hex_decode(VERSION_1.as_bytes(), &mut stored).unwrap();
    assert_eq!(open(&stored, 5).unwrap(), b"hello");
    assert_eq!(stored, sealed(b"hello"), "what is written today is still version 1");
}

#[test]
fn a_blob_describes_itself_without_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobFolder::open(Arc::new(LocalDisk), folder.path().to_owned()).unwrap();
    let id = Id128::from_bytes([9; 16]);
    let mut writer = BlobWriter::create(blobs.clone(), id, &key(), &record(), &SystemRandom).unwrap();
    let mut batch = Batch::default();
    batch.fill(&mut bytes::Bytes::from(vec![8; 200_000]));
    writer.write(&mut batch, true).unwrap();
    let checksum = Some(Checksum { algorithm: "CRC32".to_owned(), value: "x".to_owned() });
    let written = writer.end(Timestamp(77), checksum.clone()).unwrap();
    writer.finish().unwrap();
    let file = || Source::file(&blobs, id).unwrap();
    let (found, footer) = describe(file(), id, |bucket| (bucket == Id128::from_bytes([2; 16])).then(key)).unwrap();
    assert_eq!(found, record());
    assert_eq!(footer, Footer { size: 200_000, md5: written.md5, finished: 77, checksum });
    assert!(matches!(describe(file(), id, |_| None), Err(OpenFault::Corrupt(_))));
}

#[test]
fn another_bucket_another_blob_or_another_size_does_not_open() {
    let bytes = sealed(b"hello");
    let id = Id128::from_bytes([1; 16]);
    let other_key = BucketKey::new(Id128::from_bytes([2; 16]), &Key::from_bytes([4; 32]), &[]);
    let other_bucket = BucketKey::new(Id128::from_bytes([9; 16]), &Key::from_bytes([3; 32]), &[]);
    assert!(open_inline(&bytes, id, &other_key, 5).is_err());
    assert!(open_inline(&bytes, id, &other_bucket, 5).is_err());
    assert!(open_inline(&bytes, Id128::from_bytes([8; 16]), &key(), 5).is_err());
    assert!(open(&bytes, 4).is_err() && open(&bytes, 6).is_err() && open(&bytes, u64::MAX).is_err());
}

proptest! {
    #[test]
    fn foreign_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..600), size in any::<u64>()) {
        prop_assert!(open(&bytes, size).is_err());
    }

    #[test]
    fn batches_keep_bytes_in_order_and_reuse_their_buffers(
        lens in proptest::collection::vec(0usize..150_000, 1..12)
    ) {
        let mut batch = Batch::default();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (at, len) in lens.iter().enumerate() {
            let mut chunk = bytes::Bytes::from(vec![at as u8; *len]);
            sent.extend_from_slice(&chunk);
            while !chunk.is_empty() {
                batch.fill(&mut chunk);
                if batch.is_full() {
                    got.extend(batch.segments().concat());
                    batch.clear();
                }
            }
        }
        got.extend(batch.segments().concat());
        prop_assert!(got == sent);
        prop_assert!(batch.buffers() <= BATCH_SEGMENTS);
    }
}
