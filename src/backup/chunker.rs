//! Cuts bytes into chunks by their content, so that a byte put in changes a chunk or two and not all after it.
//!
//! `FastCDC` (Xia et al., USENIX ATC 2016): a gear hash rolls over the bytes, a cut is where its highest bits are zero; more
//! bits before the mean length and fewer after it, which draws lengths towards the mean. The gear table comes from a key:
//! with a public one the lengths alone would tell which known files are in a repository.

use crate::crypto::Key;

/// No chunk is smaller, but the last of a file.
const SMALLEST: usize = 256 << 10;

/// Cuts are rarer before this length, and more frequent after it.
const MEAN: usize = 1 << 20;

/// No chunk is larger.
pub(crate) const LARGEST_CHUNK: usize = 4 << 20;

/// Highest bits that must be zero before and after the mean: 20 would be once in a MiB.
const BITS_BEFORE: u32 = 22;
const BITS_AFTER: u32 = 18;

/// The gear table of one repository.
#[derive(Clone)]
pub(crate) struct Chunker(Box<[u64; 256]>);

impl Chunker {
    pub(crate) fn new(key: &Key) -> Self {
        let mut table = Box::new([0; 256]);
        let mut stream = blake3::Hasher::new_keyed(key.expose()).finalize_xof();
        for word in table.iter_mut() {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            *word = u64::from_le_bytes(bytes);
        }
        Self(table)
    }

    /// Bytes of the first chunk of `bytes`. All of them, when they are fewer than [`LARGEST_CHUNK`], means that they hold no
    /// cut: what follows in the file decides.
    pub(crate) fn cut(&self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..LARGEST_CHUNK).unwrap_or(bytes);
        let mut hash = 0u64;
        let mut at = SMALLEST;
        for (end, bits) in [(MEAN, BITS_BEFORE), (LARGEST_CHUNK, BITS_AFTER)] {
            let end = end.min(bytes.len());
            let Some(part) = bytes.get(at..end) else { break };
            let shift = u64::BITS - bits;
            for (place, byte) in part.iter().enumerate() {
                hash = (hash << 1).wrapping_add(self.0[usize::from(*byte)]);
                if hash >> shift == 0 {
                    return at + place + 1;
                }
            }
            at = end;
        }
        bytes.len()
    }
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunker([secret])")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::base::Random;
    use crate::testing::TestRandom;

    fn chunker() -> Chunker {
        Chunker::new(&Key::from_bytes([7; 32]))
    }

    fn chunks<'a>(chunker: &Chunker, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(chunker.cut(bytes));
            out.push(chunk);
            bytes = rest;
        }
        out
    }

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        TestRandom::new(seed).fill(&mut out);
        out
    }

    #[test]
    fn a_byte_put_into_64_mib_changes_fewer_than_4_chunks() {
        let chunker = chunker();
        let bytes = random(1, 64 << 20);
        let before: HashSet<&[u8]> = chunks(&chunker, &bytes).into_iter().collect();
        for at in [1, (31 << 20) + 5, (64 << 20) - 1] {
            let mut changed = bytes.clone();
            changed.insert(at, b'!');
            let new = chunks(&chunker, &changed).into_iter().filter(|chunk| !before.contains(chunk)).count();
            assert!(new < 4, "{new} new chunks for a byte at {at}");
        }
    }

    #[test]
    fn lengths_stay_in_their_bounds_around_the_mean() {
        let bytes = random(2, 64 << 20);
        let cut = chunks(&chunker(), &bytes);
        let (last, others) = cut.split_last().unwrap();
        assert!(others.iter().all(|chunk| (SMALLEST..=LARGEST_CHUNK).contains(&chunk.len())));
        assert!(last.len() <= LARGEST_CHUNK);
        let mean = bytes.len() / cut.len();
        assert!((700 << 10..1500 << 10).contains(&mean), "{mean}");
    }

    #[test]
    fn zeros_make_the_largest_chunks_and_another_key_other_cuts() {
        let zeros = vec![0; 9 << 20];
        assert!(chunks(&chunker(), &zeros).len() <= 36);
        let bytes = random(3, 8 << 20);
        let other = Chunker::new(&Key::from_bytes([8; 32]));
        let lengths = |chunker: &Chunker| chunks(chunker, &bytes).iter().map(|c| c.len()).collect::<Vec<_>>();
        assert_ne!(lengths(&chunker()), lengths(&other));
    }

    proptest! {
        #[test]
        fn chunks_put_together_are_the_bytes(seed: u64, len in 0usize..(3 << 20)) {
            let bytes = random(seed, len);
            prop_assert_eq!(chunks(&chunker(), &bytes).concat(), bytes);
        }
    }
}
