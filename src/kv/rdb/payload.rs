//! Strings and footers of Redis' own dump format, in which `FUNCTION DUMP` and its kin hand things from server to server.
//!
//! A payload ends with the version of the format (2 bytes) and the CRC-64 of everything before (8 bytes), both
//! little-endian. A string begins with its length, or with the form it is packed in:
//!
//! | first bits | what follows |
//! |---|---|
//! | `00` | 6 bits of length |
//! | `01` | 14 bits of length, big-endian |
//! | `10000000`, `10000001` | 4, 8 bytes of length, big-endian |
//! | `11000000` to `11000010` | a number of 1, 2, 4 bytes, little-endian |
//! | `11000011` | length packed, length, then so many bytes in LZF |
//!
//! Strings are written as they are: packing saves little here.
//!
//! Source: `rdb.h` and `lzf_d.c` of Redis 7.2, for the format; the documentation of `DUMP` for the footer.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use crc_fast::CrcAlgorithm;

/// Version of the format that is written: that of Redis 7.0, which 7.2 reads too.
const WRITTEN: u16 = 10;
/// Newest version that is read: that of Redis 7.4, which added types and changed none.
const READ: u16 = 12;
/// Bytes of the footer.
pub const FOOTER: usize = 10;

fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

/// Closes a payload.
pub fn seal(payload: &mut Vec<u8>) {
    payload.extend_from_slice(&WRITTEN.to_le_bytes());
    let sum = checksum(payload);
    payload.extend_from_slice(&sum.to_le_bytes());
}

/// What a payload holds before its footer; `None` when it is damaged, or of a version that is not read.
pub fn open(payload: &[u8]) -> Option<&[u8]> {
    let (body, footer) = payload.split_at_checked(payload.len().checked_sub(FOOTER)?)?;
    let (version, sum) = footer.split_at_checked(2)?;
    let version = u16::from_le_bytes(version.try_into().ok()?);
    let sum = u64::from_le_bytes(sum.try_into().ok()?);
    let (summed, _) = payload.split_at_checked(payload.len().checked_sub(8)?)?;
    (version <= READ && checksum(summed) == sum).then_some(body)
}

/// Appends a string.
pub fn put_string(payload: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        len @ 0..=0x3f => payload.push(len as u8),
        len @ 0x40..=0x3fff => payload.extend_from_slice(&(0x4000 | len as u16).to_be_bytes()),
        len => {
            if let Ok(len) = u32::try_from(len) {
                payload.push(0x80);
                payload.extend_from_slice(&len.to_be_bytes());
            } else {
                payload.push(0x81);
                payload.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
    }
    payload.extend_from_slice(text);
}

/// Takes a string of at most `most` bytes off the front of `rest`; `None` when there is none.
pub fn take_string(rest: &mut &[u8], most: usize) -> Option<Vec<u8>> {
    let [first] = take(rest)?;
    match first {
        0xc0 => take::<1>(rest).map(|[byte]| byte.cast_signed().to_string().into_bytes()),
        0xc1 => take(rest).map(|bytes| i16::from_le_bytes(bytes).to_string().into_bytes()),
        0xc2 => take(rest).map(|bytes| i32::from_le_bytes(bytes).to_string().into_bytes()),
        0xc3 => {
            let (first_packed, packed) = (take::<1>(rest)?, rest);
            let packed_len = length(first_packed, packed)?;
            let first_whole = take::<1>(packed)?;
            let whole = length(first_whole, packed)?;
            let bytes = take_slice(packed, packed_len)?;
            unpack(bytes, whole.min(most.saturating_add(1))).filter(|text| text.len() == whole && whole <= most)
        }
        _ => {
            let len = length([first], rest)?;
            take_slice(rest, len).filter(|text| text.len() <= most).map(<[u8]>::to_vec)
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

/// A length that begins with the byte `first`.
fn length([first]: [u8; 1], rest: &mut &[u8]) -> Option<usize> {
    match first {
        0..=0x3f => Some(usize::from(first)),
        0x40..=0x7f => take::<1>(rest).map(|[low]| usize::from(u16::from_be_bytes([first & 0x3f, low]))),
        0x80 => take(rest).and_then(|bytes| usize::try_from(u32::from_be_bytes(bytes)).ok()),
        0x81 => take(rest).and_then(|bytes| usize::try_from(u64::from_be_bytes(bytes)).ok()),
        _ => None,
    }
}

/// Unpacks LZF into at most `most` bytes: runs of bytes, and copies of what came before.
pub(super) fn unpack(mut packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((control, rest)) = packed.split_first() {
        packed = rest;
        if *control < 32 {
            out.extend_from_slice(take_slice(&mut packed, usize::from(*control).saturating_add(1))?);
        } else {
            let mut len = usize::from(control >> 5);
            if len == 7 {
                let [more] = take(&mut packed)?;
                len = len.saturating_add(usize::from(more));
            }
            let [low] = take(&mut packed)?;
            let back = usize::from(u16::from_be_bytes([control & 31, low])).saturating_add(1);
            let start = out.len().checked_sub(back)?;
            // A copy may reach into what it makes itself.
            for at in start..start.saturating_add(len).saturating_add(2) {
                out.push(*out.get(at)?);
            }
        }
        if out.len() > most {
            return None;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_redis_has_written_is_read() {
        // `FUNCTION DUMP` without functions, and of a library that Redis packed.
        assert_eq!(open(b"\n\x00]\x9b\\@\x0f\x7f\xa2\xda"), Some(&b""[..]));
        let packed = b"\xc3\x0c\x1c\x02abc\xe0\x0f\x02\x01bc\x00";
        let mut rest = &packed[..];
        assert_eq!(take_string(&mut rest, 100), None, "it says 28 bytes and holds fewer");
        let packed = b"\xc3\x07\x1a\x02abc\xe0\x0e\x02";
        assert_eq!(take_string(&mut &packed[..], 100).unwrap(), b"abcabcabcabcabcabcabcabcab");
        assert_eq!(take_string(&mut &packed[..], 20), None);
        for (bytes, text) in [(&b"\xc0\xff"[..], "-1"), (b"\xc1\x00\x01", "256"), (b"\xc2\0\0\0\x80", "-2147483648")] {
            assert_eq!(take_string(&mut &*bytes, 100).unwrap(), text.as_bytes());
        }
        assert_eq!(open(b"\n\x00]\x9b\\@\x0f\x7f\xa2\xdb"), None);
        assert_eq!(open(b"short"), None);
    }

    proptest! {
        #[test]
        fn strings_come_back(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
            let mut payload = Vec::new();
            for text in &texts {
                put_string(&mut payload, text);
            }
            seal(&mut payload);
            let mut rest = open(&payload).unwrap();
            for text in &texts {
                let taken = take_string(&mut rest, 300);
                prop_assert_eq!(taken.as_ref(), Some(text));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_bring_more_than_was_allowed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some(text) = take_string(&mut rest, 64) {
                prop_assert!(text.len() <= 64);
            }
        }
    }
}
