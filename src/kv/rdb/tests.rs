use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::kv::table::Hashing;
use crate::kv::value::Limits;
use crate::testing::TestRandom;

fn restore(payload: &[u8]) -> Result<crate::kv::entry::Entry, RdbError> {
    let hashing = Hashing::new(&*Arc::new(TestRandom::new(3)));
    let limits = Limits { bytes: 64, elements: 4 };
    read(unwrap(payload)?, Frame { key: b"k", access: 0, limits, hashing: &hashing, most: 1 << 20 })
}

/// `DUMP` of "12", of the list a b c, the set 1 2, the hash f v and the sorted set with 1.5 for m, by redis-server 7.0.15.
const FROM_REDIS: [&[u8]; 5] = [
    b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd5",
    b"\x12\x01\x02\x10\x10\x00\x00\x00\x03\x00\x81a\x02\x81b\x02\x81c\x02\xff\n\x00\xc8\x18\xb9\x0c\x953R\x9e",
    b"\x0b\x0c\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x02\x00\n\x00oy8\xb14\xeb .",
    b"\x10\r\r\x00\x00\x00\x02\x00\x81f\x02\x81v\x02\xff\n\x00 \xf1=D#T\x08\x9d",
    b"\x11\x0f\x0f\x00\x00\x00\x02\x00\x81m\x02\x831.5\x04\xff\n\x00I\xd9\x87`x%N\x8a",
];

#[test]
fn what_redis_7_0_dumps_is_read() {
    for payload in FROM_REDIS {
        let entry = restore(payload).unwrap();
        let again = restore(&wrap(write(&entry))).unwrap();
        assert_eq!(write(&entry), write(&again));
    }
}

#[test]
fn a_damaged_payload_is_refused() {
    let entry = crate::kv::dump::string(b"k", b"a text", 0);
    let payload = wrap(write(&entry));
    assert_eq!(&*restore(&payload).unwrap().text(), b"a text");
    for at in 0..payload.len() {
        let mut damaged = payload.clone();
        damaged[at] ^= 1;
        assert_eq!(restore(&damaged).unwrap_err(), RdbError::Footer);
    }
    assert_eq!(restore(b"").unwrap_err(), RdbError::Footer);
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_none(kind in 0_u8..25, value: Vec<u8>) {
        let payload = wrap([&[kind], value.as_slice()].concat());
        if let Ok(entry) = restore(&payload) {
            let written = write(&entry);
            prop_assert_eq!(&write(&restore(&wrap(written.clone())).unwrap()), &written);
        }
    }
}
