//! The name of a stream's entry: a moment and a number within it.

use std::fmt;

/// An entry's id, `ms-seq`. Ordered as the entries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Milliseconds since the Unix epoch, as a rule.
    pub ms: u64,
    /// Number of the entry within that millisecond.
    pub seq: u64,
}

impl Id {
    /// Before every entry; none is called so.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };
    /// The last id there can be.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The next id; `None` after the last.
    pub const fn next(self) -> Option<Self> {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Some(Self { ms: self.ms, seq }),
            (None, Some(ms)) => Some(Self { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The id before; `None` before the first.
    pub const fn previous(self) -> Option<Self> {
        match (self.seq.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(seq), _) => Some(Self { ms: self.ms, seq }),
            (None, Some(ms)) => Some(Self { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }

    /// Reads `ms` or `ms-seq`; without a number it is `missing`.
    pub fn parse(text: &[u8], missing: u64) -> Option<Self> {
        let (ms, seq) = match text.iter().position(|byte| *byte == b'-') {
            Some(at) => (text.get(..at)?, Some(text.get(at.checked_add(1)?..)?)),
            None => (text, None),
        };
        Some(Self { ms: number(ms)?, seq: seq.map_or(Some(missing), number)? })
    }

    /// Sixteen bytes, both numbers little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.seq) << 64 | u128::from(self.ms)).to_le_bytes()
    }

    /// The id of [`Id::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = u128::from_le_bytes(bytes);
        Self { ms: word as u64, seq: (word >> 64) as u64 }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A number as `strtoull` reads it: spaces, zeros and a `+` may stand before it.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.trim_ascii_start()).ok()?.parse().ok()
}
