//! `HyperLogLog`s: strings that estimate how many different elements were ever added.
//!
//! # Layout
//! That of Redis, byte for byte, so that `GET`, `DUMP` and copies between servers agree:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `HYLL` |
//! | 1 | form: 0 dense, 1 sparse |
//! | 3 | unused |
//! | 8 | the last estimate, little-endian; its highest bit says that it is out of date |
//! | rest | the registers: 16,384 numbers of 6 bits |
//!
//! Dense registers stand one behind the other, low bits first: 12,288 bytes. Sparse ones are runs: `00nnnnnn` for up to
//! 64 zeros, `01nnnnnn nnnnnnnn` for up to 16,384 zeros, `1vvvvvnn` for up to 4 times a value up to 32, each number less
//! one. A sparse one becomes dense beyond 3,000 bytes or when a value is higher (`hll-sparse-max-bytes`).
//!
//! An element's register is named by the low 14 bits of its hash (`MurmurHash64A`); its value is the longest run of
//! zeros seen in the 50 bits above, plus one. The estimate is Ertl's ("New cardinality estimation algorithms for
//! `HyperLogLog` sketches", 2017, algorithm 6).
#![deny(clippy::indexing_slicing)]

/// Number of registers.
const REGISTERS: usize = 1 << 14;
/// Bits of the hash a run of zeros may take.
const RUN_BITS: u32 = 50;
const HEAD: usize = 16;
/// Bytes of the dense form.
const DENSE: usize = HEAD + REGISTERS * 6 / 8;
/// Bytes from which on a sparse one does not grow.
const SPARSE: usize = 3000;
/// The highest value a sparse run may have.
const SPARSE_VALUE: u8 = 32;
const SEED: u64 = 0xadc8_3b19;

/// A `HyperLogLog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sketch {
    bytes: Vec<u8>,
}

/// A string that is no `HyperLogLog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not look like one.
    Other,
    /// It looks like one, but the registers are not all there.
    Corrupt,
}

/// The registers, one a byte.
pub type Registers = Vec<u8>;

/// A run of sparse registers: value, number, and where in the bytes it ends.
#[derive(Clone, Copy, Debug)]
struct Run {
    value: u8,
    len: usize,
    end: usize,
}

fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let byte = *bytes.get(at)?;
    let low = usize::from(byte & 0x3f);
    match byte >> 6 {
        0 => Some(Run { value: 0, len: low + 1, end: at + 1 }),
        1 => Some(Run { value: 0, len: (low << 8 | usize::from(*bytes.get(at + 1)?)) + 1, end: at + 2 }),
        _ => Some(Run { value: (byte >> 2 & 0x1f) + 1, len: usize::from(byte & 3) + 1, end: at + 1 }),
    }
}

/// Writes a run; zeros in up to two bytes, values in one, which holds four of them at most.
fn put_run(target: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, 1..=64) => target.push((len - 1) as u8),
        (0, _) => target.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
        _ => target.push(0x80 | (value - 1) << 2 | (len - 1) as u8),
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new()
    }
}

impl Sketch {
    /// One nothing was added to.
    pub fn new() -> Self {
        let mut bytes = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        put_run(&mut bytes, 0, REGISTERS);
        Self { bytes }
    }

    /// Reads the bytes of a string.
    ///
    /// # Errors
    /// [`Wrong::Other`]; registers are looked at when they are needed.
    pub fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        let fits = bytes.len() >= HEAD
            && bytes.starts_with(b"HYLL")
            && match bytes.get(4) {
                Some(0) => bytes.len() == DENSE,
                // A run takes two bytes at most.
                Some(1) => bytes.len() <= HEAD + 2 * REGISTERS,
                _ => false,
            };
        if fits { Ok(Self { bytes: bytes.to_vec() }) } else { Err(Wrong::Other) }
    }

    /// The bytes of the string.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it is in the dense form.
    pub fn is_dense(&self) -> bool {
        self.bytes.get(4) == Some(&0)
    }

    fn body(&self) -> &[u8] {
        self.bytes.get(HEAD..).unwrap_or_default()
    }

    /// The estimate that stands in it, if it is up to date.
    pub fn noted(&self) -> Option<u64> {
        let noted = self.bytes.get(8..HEAD)?.try_into().ok().map(u64::from_le_bytes)?;
        (noted >> 63 == 0).then_some(noted)
    }

    /// Notes an estimate, or with `None` that there is none.
    pub fn note(&mut self, estimate: Option<u64>) {
        match (estimate, self.bytes.get_mut(8..HEAD)) {
            (Some(estimate), Some(place)) => place.copy_from_slice(&estimate.to_le_bytes()),
            (None, Some([.., last])) => *last |= 0x80,
            _ => {}
        }
    }

    /// The registers, each in a byte.
    ///
    /// # Errors
    /// [`Wrong::Corrupt`].
    pub fn registers(&self) -> Result<Registers, Wrong> {
        let body = self.body();
        let mut registers = Vec::with_capacity(REGISTERS);
        if self.is_dense() {
            for group in body.chunks_exact(3) {
                if let [a, b, c] = *group {
                    registers.extend_from_slice(&[a & 63, a >> 6 | b << 2 & 63, b >> 4 | c << 4 & 63, c >> 2]);
                }
            }
        } else {
            let mut at = 0;
            while let Some(run) = run_at(body, at) {
                at = run.end;
                if registers.len() + run.len > REGISTERS {
                    return Err(Wrong::Corrupt);
                }
                registers.resize(registers.len() + run.len, run.value);
            }
            if at != body.len() {
                return Err(Wrong::Corrupt);
            }
        }
        if registers.len() == REGISTERS { Ok(registers) } else { Err(Wrong::Corrupt) }
    }

    /// Adds an element; says whether that changed a register.
    ///
    /// # Errors
    /// [`Wrong::Corrupt`]; nothing has changed.
    pub fn add(&mut self, element: &[u8]) -> Result<bool, Wrong> {
        let hash = hash(element);
        let register = hash as usize & (REGISTERS - 1);
        let value = (hash >> 14 | 1 << RUN_BITS).trailing_zeros() as u8 + 1;
        self.raise(register, value)
    }

    /// Raises a register to `value`, unless it is as high already; says whether it was not.
    ///
    /// # Errors
    /// [`Wrong::Corrupt`]; nothing has changed.
    pub fn raise(&mut self, register: usize, value: u8) -> Result<bool, Wrong> {
        let raised =
            if self.is_dense() { self.raise_dense(register, value) } else { self.raise_sparse(register, value)? };
        if raised {
            self.note(None);
        }
        Ok(raised)
    }

    fn raise_dense(&mut self, register: usize, value: u8) -> bool {
        let (at, shift) = (HEAD + register * 6 / 8, register * 6 % 8);
        // A register that ends with its byte has nothing in the next, which may not be there.
        let next = if shift > 2 { self.bytes.get(at + 1).copied().unwrap_or(0) } else { 0 };
        let word = u16::from_le_bytes([self.bytes.get(at).copied().unwrap_or(0), next]);
        if (word >> shift & 63) as u8 >= value {
            return false;
        }
        let [low, high] = (word & !(63 << shift) | u16::from(value) << shift).to_le_bytes();
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte = low;
        }
        if let Some(byte) = self.bytes.get_mut(at + 1).filter(|_| shift > 2) {
            *byte = high;
        }
        true
    }

    fn raise_sparse(&mut self, register: usize, value: u8) -> Result<bool, Wrong> {
        if value > SPARSE_VALUE {
            self.make_dense()?;
            return Ok(self.raise_dense(register, value));
        }
        // The run with the register, where it begins, and the run before it.
        let (mut first, mut at, mut before) = (0, 0, 0);
        let run = loop {
            let run = run_at(self.body(), at).ok_or(Wrong::Corrupt)?;
            if register < first + run.len {
                break run;
            }
            (before, at, first) = (at, run.end, first + run.len);
        };
        if run.value >= value {
            return Ok(false);
        }
        let mut split = Vec::with_capacity(5);
        put_run(&mut split, run.value, register - first);
        put_run(&mut split, value, 1);
        put_run(&mut split, run.value, first + run.len - 1 - register);
        let old = run.end - at;
        if split.len() > old && self.bytes.len() + (split.len() - old) > SPARSE {
            self.make_dense()?;
            return Ok(self.raise_dense(register, value));
        }
        self.bytes.splice(HEAD + at..HEAD + run.end, split);
        self.join(before);
        Ok(true)
    }

    /// Joins neighbouring runs of one value, among the five from `at` on: Redis looks at no more.
    fn join(&mut self, mut at: usize) {
        for _ in 0..5 {
            let Some(run) = run_at(self.body(), at) else { return };
            let next = run_at(self.body(), run.end);
            match next {
                Some(next) if run.value > 0 && next.value == run.value && run.len + next.len <= 4 => {
                    let mut joined = Vec::with_capacity(1);
                    put_run(&mut joined, run.value, run.len + next.len);
                    self.bytes.splice(HEAD + at..HEAD + next.end, joined);
                }
                _ => at = run.end,
            }
        }
    }

    /// Turns a sparse one into the dense form.
    ///
    /// # Errors
    /// [`Wrong::Corrupt`]; nothing has changed.
    pub fn make_dense(&mut self) -> Result<(), Wrong> {
        if self.is_dense() {
            return Ok(());
        }
        let registers = self.registers()?;
        self.bytes.truncate(HEAD);
        if let Some(form) = self.bytes.get_mut(4) {
            *form = 0;
        }
        for group in registers.chunks_exact(4) {
            if let [a, b, c, d] = *group {
                self.bytes.extend_from_slice(&[a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2]);
            }
        }
        Ok(())
    }
}

/// Raises registers to those of another.
pub fn merge(registers: &mut Registers, other: &[u8]) {
    registers.resize(REGISTERS, 0);
    registers.iter_mut().zip(other).for_each(|(register, other)| *register = (*register).max(*other));
}

/// How many different elements there were, by their registers.
pub fn estimate(registers: &[u8]) -> u64 {
    let mut counts = [0_u32; 64];
    for register in registers {
        if let Some(count) = counts.get_mut(usize::from(register & 63)) {
            *count += 1;
        }
    }
    let count = |value: u32| f64::from(counts.get(value as usize).copied().unwrap_or(0));
    let all = REGISTERS as f64;
    let mut sum = all * tau((all - count(RUN_BITS + 1)) / all);
    for value in (1..=RUN_BITS).rev() {
        sum = (sum + count(value)) * 0.5;
    }
    sum += all * sigma(count(0) / all);
    (std::f64::consts::LOG2_E / 2.0 * all * all / sum).round() as u64
}

#[expect(clippy::float_cmp, reason = "the sums are added up until they do not change any more")]
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

#[expect(clippy::float_cmp, reason = "the sums are added up until they do not change any more")]
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// `MurmurHash64A` (Austin Appleby, public domain), words little-endian.
fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        hash = (hash ^ (word ^ word >> 47).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ last).wrapping_mul(MULTIPLIER);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(MULTIPLIER);
    hash ^ hash >> 47
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_that_of_redis() {
        // What GET says after PFADD in Redis 7.0.15.
        let mut sketch = Sketch::new();
        for element in ["a", "foobar1234", "longer-than-eight-bytes"] {
            assert!(sketch.add(element.as_bytes()).unwrap());
            assert!(!sketch.add(element.as_bytes()).unwrap());
        }
        assert_eq!(sketch.bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80Cw\x80m\xbc\x80@o\x84NW");
        assert_eq!(estimate(&sketch.registers().unwrap()), 3);
    }

    #[test]
    fn estimates_are_within_two_percent() {
        let mut sketch = Sketch::new();
        let mut added = 0_u32;
        for limit in [10_u32, 100, 1000, 10_000, 100_000] {
            while added < limit {
                sketch.add(added.to_string().as_bytes()).unwrap();
                added += 1;
            }
            let estimate = estimate(&sketch.registers().unwrap()) as f64;
            assert!((estimate / f64::from(limit) - 1.0).abs() < 0.02, "{limit}: {estimate}");
        }
        assert!(sketch.is_dense());
    }

    proptest! {
        #[test]
        fn both_forms_hold_the_same_registers(raises in prop::collection::vec((0_usize..REGISTERS, 1_u8..40), 0..300)) {
            let (mut sparse, mut dense) = (Sketch::new(), Sketch::new());
            dense.make_dense().unwrap();
            let mut model = vec![0_u8; REGISTERS];
            for (register, value) in raises {
                let higher = value > model[register];
                prop_assert_eq!(sparse.raise(register, value).unwrap(), higher);
                prop_assert_eq!(dense.raise(register, value).unwrap(), higher);
                model[register] = model[register].max(value);
            }
            prop_assert_eq!(&sparse.registers().unwrap(), &model);
            prop_assert_eq!(&dense.registers().unwrap(), &model);
            sparse.make_dense().unwrap();
            prop_assert_eq!(sparse.bytes().get(HEAD..), dense.bytes().get(HEAD..));
        }

        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>, register in 0_usize..REGISTERS, value in 1_u8..52) {
            let bytes = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &body].concat();
            let mut sketch = Sketch::read(&bytes).unwrap();
            let _ = sketch.raise(register, value);
            let _ = sketch.registers().map(|registers| estimate(&registers));
        }
    }
}
