//! Randomness as an argument.

use std::fmt;

/// Where random bytes come from. [`SystemRandom`] in a running server, `testing::TestRandom` in tests.
///
/// Every byte must be fit for keys: implementations outside tests are cryptographically secure.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `target` with random bytes.
    fn fill(&self, target: &mut [u8]);
}

/// A fixed-size array of random bytes.
pub fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut out = [0; N];
    random.fill(&mut out);
    out
}

/// A uniformly distributed number below `bound`; 0 when `bound` is 0.
pub fn below(random: &dyn Random, bound: u64) -> u64 {
    // Widening multiplication: the bias is below bound / 2^64, unmeasurable for the uses here (jitter, sampling).
    let word = u64::from_le_bytes(bytes(random));
    ((u128::from(word) * u128::from(bound)) >> 64) as u64
}

/// The kernel's generator (`getrandom(2)`).
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::panic, reason = "without the kernel's generator no key may be made; there is no way on")]
    fn fill(&self, target: &mut [u8]) {
        if let Err(error) = getrandom::fill(target) {
            panic!("the kernel's random generator failed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_its_bound() {
        for bound in [1, 2, 3, 10, 1 << 40] {
            for _ in 0..50 {
                assert!(below(&SystemRandom, bound) < bound);
            }
        }
        assert_eq!(below(&SystemRandom, 0), 0);
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(&SystemRandom), bytes::<32>(&SystemRandom));
    }
}
