//! Values as servers before 7.0 dump them, built byte by byte from the description of the formats: every type byte of the
//! versions 6 to 9, whole, cut short and damaged.

use std::sync::Arc;

use crc_fast::CrcAlgorithm;

use super::*;
use crate::kv::entry::Entry;
use crate::kv::table::Hashing;
use crate::kv::value::Limits;
use crate::kv::value::stream::Id;
use crate::testing::TestRandom;

/// A value with the footer of a version.
fn sealed(value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = [value, &version.to_le_bytes()].concat();
    payload.extend_from_slice(&crc_fast::checksum(CrcAlgorithm::Crc64Redis, &payload).to_le_bytes());
    payload
}

fn restore(payload: &[u8]) -> Result<Entry, RdbError> {
    let hashing = Hashing::new(&*Arc::new(TestRandom::new(3)));
    let limits = Limits { bytes: 64, elements: 4 };
    read(unwrap(payload)?, Frame { key: b"k", access: 0, limits, hashing: &hashing, most: 1 << 20 })
}

/// A string of RDB, its length first.
fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(&mut out, text);
    out
}

/// A ziplist of elements that begin with their own head.
fn ziplist(elements: &[Vec<u8>]) -> Vec<u8> {
    let (mut body, mut before, mut tail) = (Vec::new(), 0_usize, 10);
    for element in elements {
        tail = 10 + body.len();
        let start = body.len();
        if before < 254 {
            body.push(before as u8);
        } else {
            body.push(0xfe);
            body.extend_from_slice(&(before as u32).to_le_bytes());
        }
        body.extend_from_slice(element);
        before = body.len() - start;
    }
    let mut out = (11 + body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&(tail as u32).to_le_bytes());
    out.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    out.extend_from_slice(&body);
    out.push(0xff);
    out
}

/// A text in a ziplist, with the shortest head that it fits.
fn text(text: &[u8]) -> Vec<u8> {
    let len = text.len();
    let head = match len {
        0..=63 => vec![len as u8],
        64..=16_383 => vec![0x40 | (len >> 8) as u8, len as u8],
        _ => [&[0x80], &(len as u32).to_be_bytes()[..]].concat(),
    };
    [head, text.to_vec()].concat()
}

/// A listpack of elements that begin with their own head, of at most 16,382 bytes each.
fn listpack(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for element in elements {
        body.extend_from_slice(element);
        match element.len() {
            len @ 0..=127 => body.push(len as u8),
            len => body.extend_from_slice(&[(len >> 7) as u8, (len & 127) as u8 | 128]),
        }
    }
    let mut out = (7 + body.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    out.extend_from_slice(&body);
    out.push(0xff);
    out
}

/// A small number in a listpack.
fn number(number: u8) -> Vec<u8> {
    vec![number]
}

/// A short text in a listpack.
fn short(text: &[u8]) -> Vec<u8> {
    [&[0x80 | text.len() as u8], text].concat()
}

fn intset(width: u32, members: &[i64]) -> Vec<u8> {
    let mut out = width.to_le_bytes().to_vec();
    out.extend_from_slice(&(members.len() as u32).to_le_bytes());
    for member in members {
        out.extend_from_slice(&member.to_le_bytes()[..width as usize]);
    }
    out
}

/// Plain forms, which every release reads.
fn plain(kind: u8, strings: &[&[u8]]) -> Vec<u8> {
    let count = if kind == types::HASH { strings.len() / 2 } else { strings.len() };
    let mut out = vec![kind, count as u8];
    for text in strings {
        out.extend(string(text));
    }
    out
}

fn plain_zset(members: &[(&[u8], f64)]) -> Vec<u8> {
    let mut out = vec![types::ZSET, members.len() as u8];
    for (member, score) in members {
        out.extend(string(member));
        out.extend_from_slice(&score.to_le_bytes());
    }
    out
}

/// One of our own, with an entry that is gone, one with fields of its own, and a group.
fn stream_1() -> Vec<u8> {
    let head = [number(2), number(1), number(1), short(b"f"), number(0)];
    let first = [number(2), number(0), number(0), short(b"one"), number(4)];
    let gone = [number(3), number(1), number(0), short(b"two"), number(4)];
    // A number of 13 bits: the second entry's number begins anew, at less than the first one's.
    let last = [number(0), number(2), vec![0xdf, 0xff], number(1), short(b"g"), short(b"three"), number(6)];
    let pack = listpack(&[&head[..], &first, &gone, &last].concat());
    let id = |ms: u64, seq: u64| [ms.to_be_bytes(), seq.to_be_bytes()].concat();
    let mut out = vec![types::STREAM_1, 1];
    out.extend(string(&id(5, 1)));
    out.extend(string(&pack));
    // Two entries, and the last id.
    out.extend_from_slice(&[2, 7, 0, 1]);
    out.extend(string(b"group"));
    out.extend_from_slice(&[5, 1, 1]);
    out.extend(id(5, 1));
    out.extend_from_slice(&1_600_000_000_000_u64.to_le_bytes());
    out.extend_from_slice(&[3, 1]);
    out.extend(string(b"worker"));
    out.extend_from_slice(&1_600_000_000_001_u64.to_le_bytes());
    out.push(1);
    out.extend(id(5, 1));
    out
}

/// A list in both packed forms, with each head a ziplist knows.
fn packed_list() -> (Vec<u8>, Vec<u8>) {
    let (middle, long) = (vec![b'm'; 300], vec![b'l'; 20_000]);
    let elements = [
        text(b""),
        text(b"short"),
        text(&middle),
        text(&long),
        vec![0xf1],
        vec![0xfd],
        vec![0xfe, 0x80],
        vec![0xc0, 0x00, 0x80],
        vec![0xf0, 0x00, 0x00, 0x80],
        vec![0xd0, 0x00, 0x00, 0x00, 0x80],
        [vec![0xe0], i64::MIN.to_le_bytes().to_vec()].concat(),
    ];
    let same: [&[u8]; 11] = [
        b"",
        b"short",
        &middle,
        &long,
        b"0",
        b"12",
        b"-128",
        b"-32768",
        b"-8388608",
        b"-2147483648",
        b"-9223372036854775808",
    ];
    (ziplist(&elements), plain(types::LIST, &same))
}

/// What to read, the version that has brought its type, and the same in a plain form.
fn values() -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let packed = |kind: u8, pack: &[u8]| [vec![kind], string(pack)].concat();
    let (list, plain_list) = packed_list();
    let hash = ziplist(&[text(b"f"), text(b"v"), text(b"g"), vec![0xfe, 0x7f]]);
    let plain_hash = plain(types::HASH, &[b"f", b"v", b"g", b"127"]);
    let zset = ziplist(&[text(b"m"), text(b"-inf"), vec![0xf2], vec![0xf3], text(b"n"), text(b"1.5e+20")]);
    let scores: [(&[u8], f64); 3] = [(b"m", f64::NEG_INFINITY), (b"1", 2.0), (b"n", 1.5e20)];
    let long = vec![b'v'; 300];
    let zipmap = [&b"\x02\x01f\x01\x02v??"[..], b"\x01g\xfe\x2c\x01\x00\x00\x00", &long, b"\xff"].concat();
    let nodes = [ziplist(&[text(b"a"), text(b"b")]), ziplist(&[vec![0xf4]])];
    let quicklist = [vec![types::LIST_ZIPLISTS, 2], string(&nodes[0]), string(&nodes[1])].concat();
    let set = |width, members: &[i64]| packed(types::SET_INTEGERS, &intset(width, members));
    let mut out = vec![
        (6, b"\x00\xc2\x00\x00\x00\x80".to_vec(), b"\x00\x0b-2147483648".to_vec()),
        // LZF: one byte as it is, then seven copies of it, and the rest as it is.
        (6, b"\x00\xc3\x06\x09\x00a\xa0\x00\x00b".to_vec(), plain_string(b"aaaaaaaab")),
        (6, plain(types::LIST, &[b"a", b"12", b"a"]), plain(types::LIST, &[b"a", b"12", b"a"])),
        (6, plain(types::SET, &[b"a", b"12"]), plain(types::SET, &[b"a", b"12"])),
        (
            6,
            b"\x03\x03\x01a\x042.50\x01b\xfe\x01c\xff".to_vec(),
            plain_zset(&[(b"a", 2.5), (b"b", f64::INFINITY), (b"c", f64::NEG_INFINITY)]),
        ),
        (6, plain_hash.clone(), plain_hash.clone()),
        (6, packed(types::HASH_ZIPMAP, &zipmap), plain(types::HASH, &[b"f", b"v", b"g", &long])),
        (6, packed(types::LIST_ZIPLIST, &list), plain_list.clone()),
        (6, set(2, &[-5, 7]), plain(types::SET, &[b"-5", b"7"])),
        (6, set(4, &[-70_000, 7]), plain(types::SET, &[b"-70000", b"7"])),
        (6, set(8, &[i64::MIN, 7]), plain(types::SET, &[b"-9223372036854775808", b"7"])),
        (6, packed(types::ZSET_ZIPLIST, &zset), plain_zset(&scores)),
        (6, packed(types::HASH_ZIPLIST, &hash), plain_hash),
        (7, quicklist, plain(types::LIST, &[b"a", b"b", b"3"])),
        (7, [vec![types::LIST_ZIPLISTS, 1], string(&list)].concat(), plain_list),
        (8, plain_zset(&scores), plain_zset(&scores)),
    ];
    let stream = restore(&sealed(&stream_1(), 9)).unwrap();
    out.push((9, stream_1(), write(&stream)));
    out
}

fn plain_string(text: &[u8]) -> Vec<u8> {
    [vec![types::STRING], string(text)].concat()
}

#[test]
fn every_type_of_the_versions_6_to_9_is_read() {
    for (since, value, same) in values() {
        let same = write(&restore(&wrap(same)).unwrap());
        for version in since..=9 {
            let entry = restore(&sealed(&value, version)).unwrap_or_else(|error| panic!("{value:02x?}: {error}"));
            assert_eq!(write(&entry), same, "version {version}: {value:02x?}");
        }
    }
}

#[test]
fn a_stream_of_the_first_form_has_its_entries_its_group_and_who_was_given_what() {
    let entry = restore(&sealed(&stream_1(), 9)).unwrap();
    let stream = entry.stream().unwrap();
    let mut found = Vec::new();
    stream.range(Id::ZERO, Id::MAX, false, |item| {
        item.each(|field, value| found.push((item.id, field.to_vec(), value.to_vec())));
        true
    });
    let id = |ms, seq| Id { ms, seq };
    let wanted = [(id(5, 1), b"f".to_vec(), b"one".to_vec()), (id(7, 0), b"g".to_vec(), b"three".to_vec())];
    assert_eq!(found, wanted);
    assert_eq!((stream.last(), stream.added(), stream.deleted()), (id(7, 0), 2, Id::ZERO));
    let group = stream.group(b"group").unwrap();
    assert_eq!((group.last, group.read), (id(5, 1), None));
    assert_eq!(group.pending().len(), 1);
}

#[test]
fn a_value_that_ends_early_is_refused() {
    for (version, value, _) in values() {
        // Long ones at some places only.
        for end in (0..value.len()).step_by(1 + value.len() / 500) {
            assert!(restore(&sealed(&value[..end], version)).is_err(), "{end} bytes of {value:02x?}");
        }
        let longer = [value.as_slice(), b"\0"].concat();
        assert!(restore(&sealed(&longer, version)).is_err(), "a byte too many behind {value:02x?}");
    }
}

#[test]
fn a_damaged_value_is_refused_or_is_another_whole_one() {
    for (version, value, _) in values() {
        for at in (0..value.len()).step_by(1 + value.len() / 200) {
            for wrong in [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff] {
                let mut damaged = value.clone();
                damaged[at] = wrong;
                if let Ok(entry) = restore(&sealed(&damaged, version)) {
                    let written = write(&entry);
                    assert_eq!(write(&restore(&wrap(written.clone())).unwrap()), written);
                }
            }
        }
    }
}

#[test]
fn packs_whose_parts_do_not_fit_are_refused() {
    let packed = |kind: u8, pack: &[u8]| [vec![kind], string(pack)].concat();
    let mut long_count = intset(2, &[1, 2]);
    long_count[4] = 3;
    let mut short_count = intset(2, &[1, 2]);
    short_count[4] = 1;
    let nan = ziplist(&[text(b"m"), text(b"nan")]);
    for value in [
        packed(types::HASH_ZIPLIST, &ziplist(&[text(b"f")])),
        packed(types::HASH_ZIPLIST, &ziplist(&[text(b"f"), text(b"1"), text(b"f"), text(b"2")])),
        packed(types::HASH_ZIPLIST, &ziplist(&[])),
        packed(types::ZSET_ZIPLIST, &ziplist(&[text(b"m"), text(b"x")])),
        packed(types::ZSET_ZIPLIST, &nan),
        packed(types::LIST_ZIPLIST, &ziplist(&[])),
        packed(types::LIST_ZIPLIST, &ziplist(&[vec![0xc1, 0, 0]])),
        packed(types::SET_INTEGERS, &long_count),
        packed(types::SET_INTEGERS, &short_count),
        packed(types::SET_INTEGERS, &intset(2, &[1, 1])),
        packed(types::SET_INTEGERS, &intset(3, &[1])),
        packed(types::HASH_ZIPMAP, b"\x01\x01f\x01\x00v\x01f\x01\x00w\xff"),
        packed(types::HASH_ZIPMAP, b"\x00\xff"),
        packed(types::HASH_ZIPMAP, b"\x01\x01f\xff"),
        vec![types::LIST_ZIPLISTS, 0],
        b"\x03\x01\x01a\xfd".to_vec(),
        // A module's value of before its format was settled.
        vec![6, 0, 0],
    ] {
        assert!(restore(&sealed(&value, 9)).is_err(), "{value:02x?}");
    }
}

#[test]
fn files_of_the_versions_6_to_9_are_read() {
    for version in 6..=9 {
        let values: Vec<Vec<u8>> =
            values().into_iter().filter(|(since, ..)| *since <= version).map(|(_, value, _)| value).collect();
        let mut bytes = format!("REDIS{version:04}").into_bytes();
        if version >= 7 {
            bytes.extend_from_slice(b"\xfa\x09redis-ver\x055.0.7\xfe\x00\xfb\x40\x20\x00");
        } else {
            bytes.extend_from_slice(b"\xfe\x00");
        }
        for value in &values {
            let (kind, rest) = value.split_first().unwrap();
            bytes.push(*kind);
            bytes.extend(string(b"key"));
            bytes.extend_from_slice(rest);
        }
        bytes.push(255);
        let sum = crc_fast::checksum(CrcAlgorithm::Crc64Redis, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let mut reader = FileReader::new(bytes.as_slice(), 1 << 20).unwrap();
        for wanted in &values {
            let found = reader.advance().unwrap();
            let Some(Found::Value { value: Some(value), .. }) = found else { panic!("{found:?}") };
            assert_eq!(value, *wanted, "version {version}");
            assert!(restore(&wrap(value)).is_ok());
        }
        assert!(reader.advance().unwrap().is_none());
    }
}
