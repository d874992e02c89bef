//! Records in one buffer: the form of small collections, and of list chunks.
//!
//! A record is `length (LEB128) | bytes`. Hashes alternate field and value; sorted sets follow each member record with
//! eight bytes of score (the total-order form of [`score_bits`]) and lie sorted by score, then member; sets lie in
//! order of arrival.
//! The buffers are our own, so readers treat a malformed tail as the end.

/// Appends `value` as LEB128: seven bits a byte, low ones first, high bit set on all but the last.
pub fn put_len(target: &mut Vec<u8>, value: usize) {
    let mut rest = value as u64;
    while rest >= 0x80 {
        target.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    target.push(rest as u8);
}

/// Reads a LEB128 number at `at`: the number and where it ends.
#[inline]
pub fn read_len(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((usize::from(first), at + 1));
    }
    let mut value = u64::from(first & 0x7f);
    for step in 1..10 {
        let byte = *bytes.get(at.checked_add(step)?)?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * step as u32)?;
        if byte < 0x80 {
            return Some((usize::try_from(value).ok()?, at + step + 1));
        }
    }
    None
}

/// Bytes [`put_len`] takes for `value`.
pub const fn len_len(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    if bits == 0 { 1 } else { bits.div_ceil(7) as usize }
}

/// Appends one record.
pub fn put(target: &mut Vec<u8>, bytes: &[u8]) {
    put_len(target, bytes.len());
    target.extend_from_slice(bytes);
}

/// The record at `at`: its bytes and where it ends.
#[inline]
pub fn record(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (len, start) = read_len(bytes, at)?;
    let end = start.checked_add(len)?;
    Some((bytes.get(start..end)?, end))
}

/// The records of a buffer, each with its offset.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next record starts.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Takes `N` bytes that are not a record.
    pub fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let raw = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(raw)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (bytes, end) = record(self.bytes, self.at)?;
        self.at = end;
        Some(bytes)
    }
}

/// A score as a word whose unsigned order is the order of scores. -0 becomes 0; there is no NaN among scores.
pub fn score_bits(score: f64) -> u64 {
    let bits = (score + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The score of [`score_bits`].
pub fn bits_score(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}
