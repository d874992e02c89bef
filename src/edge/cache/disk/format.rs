//! The file of one stored answer: sealed, and telling by itself what it is.
//!
//! Its name is its id in hexadecimal digits. Format version 1, integers big endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic `MSTYKEPT` |
//! | 8..10 | format version, 1 |
//! | 10..12 | 0 |
//! | 12..16 | R, bytes of the head's region |
//! | 16..48 | salt, random |
//! | 48..55 | nonce prefix of the body's segments, random |
//! | 55 | 0 |
//! | 56..88 | key commitment ([`StreamKey::commitment`]) |
//! | 88..88+R | length of the sealed head with its tag (4), nonce (12), the head ([`super::saved`]), sealed; zeros |
//! | then | body: segments of [`crate::crypto::stream`], context = id |
//!
//! A key of this file alone is derived from the tier's key and the salt. The head is sealed with bytes 0..88 as associated
//! data and a random nonce: it is written anew, in its place, when the app says that an answer is good for longer.
//!
//! Bytes 0..88+R are written last. A file that was cut off before begins with zeros or does not open.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use crate::base::{Id128, Random, random};
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::stream::PREFIX;
use crate::crypto::{Aead, Key, StreamKey, derive, mac};

const MAGIC: &[u8; 8] = b"MSTYKEPT";
const VERSION: u16 = 1;
/// Bytes before the head's region.
pub const PRELUDE: usize = 88;
/// Bytes in the region beside the head itself.
const AROUND: usize = 4 + NONCE + TAG;
/// Bytes by which a head may grow when it is written anew.
const SPARE: usize = 512;
/// Largest head, in bytes.
pub const LONGEST_HEAD: usize = 128 << 10;
/// Regions are a multiple of this.
const STEP: usize = 512;
/// Largest region.
const LARGEST_REGION: usize = LONGEST_HEAD + SPARE + AROUND + STEP;

/// One file's layout and keys.
#[derive(Debug)]
pub struct Form {
    prelude: [u8; PRELUDE],
    region: usize,
    /// Seals and opens the body.
    pub stream: StreamKey,
    head: Aead,
}

impl Form {
    /// A new file's, whose head has about `head` bytes; `None` when that is too much.
    pub fn new(key: &Key, id: Id128, head: usize, random: &dyn Random) -> Option<Self> {
        if head > LONGEST_HEAD {
            return None;
        }
        let region = head.saturating_add(SPARE).saturating_add(AROUND).next_multiple_of(STEP);
        let (salt, prefix) = (random::bytes::<32>(random), random::bytes::<PREFIX>(random));
        let (stream, head) = keys(key, &salt, prefix, id);
        let mut prelude = Vec::with_capacity(PRELUDE);
        prelude.extend_from_slice(MAGIC);
        prelude.extend_from_slice(&VERSION.to_be_bytes());
        prelude.extend_from_slice(&[0; 2]);
        prelude.extend_from_slice(&u32::try_from(region).ok()?.to_be_bytes());
        prelude.extend_from_slice(&salt);
        prelude.extend_from_slice(&prefix);
        prelude.push(0);
        prelude.extend_from_slice(stream.commitment());
        Some(Self { prelude: prelude.try_into().ok()?, region, stream, head })
    }

    /// The one of the file `id` that begins with `prelude`; `None` when that is none of this key and id.
    pub fn read(prelude: [u8; PRELUDE], key: &Key, id: Id128) -> Option<Self> {
        let mut rest = prelude.as_slice();
        let magic: [u8; 8] = take(&mut rest)?;
        let version = u16::from_be_bytes(take(&mut rest)?);
        let [_, _] = take(&mut rest)?;
        let region = u32::from_be_bytes(take(&mut rest)?) as usize;
        let salt: [u8; 32] = take(&mut rest)?;
        let prefix: [u8; PREFIX] = take(&mut rest)?;
        let [_] = take(&mut rest)?;
        let commitment: [u8; 32] = take(&mut rest)?;
        if &magic != MAGIC || version != VERSION || !(AROUND..=LARGEST_REGION).contains(&region) {
            return None;
        }
        let (stream, head) = keys(key, &salt, prefix, id);
        mac::equal(stream.commitment(), &commitment).then_some(Self { prelude, region, stream, head })
    }

    /// Bytes of the head's region.
    pub const fn region(&self) -> usize {
        self.region
    }

    /// The first bytes of the file.
    pub const fn prelude(&self) -> &[u8; PRELUDE] {
        &self.prelude
    }

    /// Where the body begins.
    pub const fn body_at(&self) -> u64 {
        (PRELUDE as u64).saturating_add(self.region as u64)
    }

    /// The region with `head` in it; `None` when it does not fit.
    pub fn seal_head(&self, head: &[u8], random: &dyn Random) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE] = random::bytes(random);
        let mut sealed = head.to_vec();
        let tag = self.head.seal(&nonce, &self.prelude, &mut sealed);
        sealed.extend_from_slice(&tag);
        let mut region = Vec::with_capacity(self.region);
        region.extend_from_slice(&u32::try_from(sealed.len()).ok()?.to_be_bytes());
        region.extend_from_slice(&nonce);
        region.extend_from_slice(&sealed);
        if region.len() > self.region {
            return None;
        }
        region.resize(self.region, 0);
        Some(region)
    }

    /// The head in a region; `None` when it is none that was sealed for this file.
    pub fn open_head(&self, region: &[u8]) -> Option<Vec<u8>> {
        let mut rest = region;
        let length = u32::from_be_bytes(take(&mut rest)?) as usize;
        let nonce: [u8; NONCE] = take(&mut rest)?;
        let (sealed, tag) = rest.get(..length)?.split_last_chunk::<TAG>()?;
        let mut head = sealed.to_vec();
        self.head.open(&nonce, &self.prelude, &mut head, tag).ok()?;
        Some(head)
    }
}

fn keys(key: &Key, salt: &[u8; 32], prefix: [u8; PREFIX], id: Id128) -> (StreamKey, Aead) {
    let file = derive(key, salt, b"mainstay/edge-cache/file/v1");
    let head = derive(&file, salt, b"mainstay/edge-cache/head/v1");
    (StreamKey::new(&file, salt, prefix, id.as_bytes()), Aead::new(&head))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestRandom;

    const KEY: [u8; 32] = [7; 32];

    fn form(seed: u64, head: usize) -> (Form, Id128) {
        let random = TestRandom::new(seed);
        let id = Id128::random(&random);
        (Form::new(&Key::from_bytes(KEY), id, head, &random).unwrap(), id)
    }

    #[test]
    fn a_head_comes_back_and_may_grow_a_little() {
        let (form, id) = form(1, 1000);
        let read = Form::read(*form.prelude(), &Key::from_bytes(KEY), id).unwrap();
        assert_eq!((read.region(), read.body_at()), (form.region(), 88 + form.region() as u64));
        for bytes in [0, 1000, 1000 + SPARE] {
            let head = vec![3; bytes];
            let region = form.seal_head(&head, &TestRandom::new(2)).unwrap();
            assert_eq!(region.len(), form.region());
            assert_eq!(read.open_head(&region).unwrap(), head);
        }
        assert!(form.seal_head(&vec![3; 1000 + SPARE + STEP], &TestRandom::new(2)).is_none());
        assert!(Form::new(&Key::from_bytes(KEY), id, LONGEST_HEAD + 1, &TestRandom::new(1)).is_none());
    }

    #[test]
    fn another_key_or_name_opens_nothing() {
        let (form, id) = form(1, 10);
        assert!(Form::read(*form.prelude(), &Key::from_bytes([8; 32]), id).is_none());
        assert!(Form::read(*form.prelude(), &Key::from_bytes(KEY), Id128::from_bytes([0; 16])).is_none());
        assert!(Form::read([0; PRELUDE], &Key::from_bytes(KEY), id).is_none());
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(seed: u64, head: Vec<u8>, at: prop::sample::Index, mask in 1u8..) {
            let (form, id) = form(seed, head.len());
            let mut file = form.prelude().to_vec();
            file.extend(form.seal_head(&head, &TestRandom::new(seed)).unwrap());
            // Zeros behind the head are nobody's; what is before them counts.
            let end = PRELUDE.saturating_add(AROUND).saturating_add(head.len());
            file[at.index(end)] ^= mask;
            let (prelude, region) = file.split_first_chunk::<PRELUDE>().unwrap();
            let opened = Form::read(*prelude, &Key::from_bytes(KEY), id).and_then(|form| form.open_head(region));
            prop_assert!(opened.is_none());
        }

        #[test]
        fn any_bytes_are_read(prelude in prop::collection::vec(any::<u8>(), PRELUDE), region: Vec<u8>) {
            let prelude: [u8; PRELUDE] = prelude.try_into().unwrap();
            let _ = Form::read(prelude, &Key::from_bytes(KEY), Id128::from_bytes([1; 16]));
            let _ = form(1, 10).0.open_head(&region);
        }
    }
}
