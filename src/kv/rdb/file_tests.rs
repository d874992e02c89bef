//! RDB files, read.

use proptest::prelude::*;

use super::*;
use crate::kv::rdb::fuzz::again;
use crate::kv::rdb::{put_string, wrap};

const MOST: usize = 1 << 20;

/// A file of these parts, with its checksum.
fn file(version: u32, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("REDIS{version:04}").into_bytes();
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.push(255);
    if version >= 5 {
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&bytes);
        bytes.extend_from_slice(&sum.finalize().to_le_bytes());
    }
    bytes
}

fn all(bytes: &[u8]) -> Result<Vec<Found>, FileError> {
    let mut reader = FileReader::new(bytes, MOST)?;
    let mut found = Vec::new();
    while let Some(one) = reader.advance()? {
        found.push(one);
    }
    Ok(found)
}

fn value(db: u64, key: &[u8], expires: Option<u64>, value: &[u8]) -> Found {
    Found::Value { db, key: key.to_vec(), expires, kind: value[0], value: Some(value.to_vec()) }
}

#[test]
fn what_stands_before_a_key_holds_for_this_key_alone() {
    let bytes = file(
        11,
        &[
            b"\xfa\x09redis-ver\x057.2.4",
            b"\xfe\x03\xfb\x02\x01",
            b"\xfc\x39\x30\x00\x00\x00\x00\x00\x00\xf9\x07\x00\x01k\x01v",
            b"\xf8\x40\xff\x00\x01l\xc1\x39\x30",
            b"\xf5\x04code",
            b"\xfe\x0f\xfd\x02\x00\x00\x00\x02\xc0\x05\x02\x01a\x01b",
        ],
    );
    let found = [
        value(3, b"k", Some(12_345), b"\0\x01v"),
        value(3, b"l", None, b"\0\xc1\x39\x30"),
        Found::Library(b"code".to_vec()),
        value(15, b"5", Some(2000), b"\x02\x02\x01a\x01b"),
    ];
    assert_eq!(all(&bytes).unwrap(), found);
}

#[test]
fn a_file_of_the_first_version_has_no_checksum() {
    let zipmap = b"\x02\x01f\x01\x00v\x01g\x02\x01ww.\xff";
    let mut hash = vec![types::HASH_ZIPMAP, zipmap.len() as u8];
    hash.extend_from_slice(zipmap);
    let found = all(&file(1, &[b"\xfe\x00\x09\x01h", &hash[1..], b"\x03\x01z\x01\x01m\x031.5"])).unwrap();
    assert_eq!(found, [value(0, b"h", None, &hash), value(0, b"z", None, b"\x03\x01\x01m\x031.5")]);
    let plain = again(&wrap(b"\x04\x02\x01f\x01v\x01g\x02ww".to_vec()));
    assert_eq!(again(&wrap(hash)), plain);
    assert!(plain.is_ok());
}

#[test]
fn what_only_a_module_reads_is_passed_by() {
    let module =
        b"\x07\x01m\x81\x01\x02\x03\x04\x05\x06\x07\x08\x02\x05\x05\x03abc\x04\x01\x02\x03\x04\x05\x06\x07\x08\x00";
    let aux = b"\xf7\x05\x02\x02\x01\x07\x00";
    let found = all(&file(12, &[aux, module, b"\x00\x01k\x01v"])).unwrap();
    assert!(matches!(&found[..], [Found::Module, Found::Value { kind: 7, .. }, Found::Value { kind: 0, .. }]));
}

#[test]
fn a_value_larger_than_allowed_is_passed_by_and_named() {
    let mut long = b"\x00\x01k".to_vec();
    put_string(&mut long, &[b'x'; 3000]);
    let bytes = file(9, &[&long, b"\x00\x01l\x01v"]);
    let mut reader = FileReader::new(bytes.as_slice(), 1000).unwrap();
    assert!(matches!(reader.advance(), Ok(Some(Found::Value { value: None, .. }))));
    assert_eq!(reader.advance().unwrap(), Some(value(0, b"l", None, b"\0\x01v")));
    assert!(reader.advance().unwrap().is_none());
}

#[test]
fn a_damaged_or_foreign_file_is_refused() {
    let bytes = file(10, &[b"\xfe\x00\x00\x01k\x05value"]);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(all(&damaged).is_err(), "byte {at}");
        assert!(all(&bytes[..at]).is_err(), "{at} bytes");
    }
    assert!(matches!(all(&file(13, &[])), Err(FileError::Version(13))));
    assert!(matches!(all(b"REDIX0001"), Err(FileError::Foreign)));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes: Vec<u8>, version in 1_u32..13) {
        let mut whole = format!("REDIS{version:04}").into_bytes();
        whole.extend_from_slice(&bytes);
        let _ = all(&whole);
    }
}
