//! Random 128-bit names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::random::{self, Random};

/// A random 128-bit name: 32 lower-case hexadecimal digits when written out. Collisions are not expected (2^64 draws).
///
/// In stored records (serde) it is its 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id128([u8; 16]);

impl Id128 {
    /// Draws a fresh name.
    pub fn random(random: &dyn Random) -> Self {
        Self(random::bytes(random))
    }

    /// The name from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The name's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no [`Id128`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 lower-case hexadecimal digits")]
pub struct IdError;

impl FromStr for Id128 {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut out = [0; 16];
        hex_decode(text.as_bytes(), &mut out).ok_or(IdError)?;
        Ok(Self(out))
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Decodes exactly `2 * out.len()` lower-case hexadecimal digits; `None` on any other input.
pub fn hex_decode(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != out.len() * 2 {
        return None;
    }
    for (pair, byte) in text.chunks_exact(2).zip(out) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(())
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemRandom;

    #[test]
    fn ids_survive_a_round_trip() {
        let id = Id128::random(&SystemRandom);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "0", "0123456789ABCDEF0123456789ABCDEF", "g123456789abcdef0123456789abcdef"] {
            assert_eq!(text.parse::<Id128>(), Err(IdError));
        }
    }
}
