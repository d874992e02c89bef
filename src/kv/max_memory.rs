//! The setting `kv.max_memory`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ByteSize;
use crate::base::size::SizeError;

/// Fifths of the machine's memory that `auto` means: the rest is for connections, the other parts of the server, and the
/// apps that share a small machine.
const FIFTHS: u64 = 2;

/// How much memory keys and values may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxMemory {
    /// A share of what the machine has.
    #[default]
    Auto,
    /// So much; 0 for no limit.
    Bytes(ByteSize),
}

impl MaxMemory {
    /// The limit where it does not depend on the machine; 0 for none.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Bytes(size) => Some(size.as_usize()),
        }
    }

    /// The limit on a machine with `total` bytes of memory; none where that is not known.
    pub fn on(self, total: Option<u64>) -> usize {
        self.fixed().unwrap_or_else(|| ByteSize(total.unwrap_or(0) / 5 * FIFTHS).as_usize())
    }
}

impl FromStr for MaxMemory {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text.trim().eq_ignore_ascii_case("auto") { Ok(Self::Auto) } else { text.parse().map(Self::Bytes) }
    }
}

impl fmt::Display for MaxMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for MaxMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(bytes) => Ok(Self::Bytes(ByteSize(bytes))),
            Raw::Text(text) => text.parse().map_err(|error| {
                serde::de::Error::custom(format!("{error}; or `auto` for a share of the machine's memory"))
            }),
        }
    }
}

impl Serialize for MaxMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_or_a_size() {
        assert_eq!("auto".parse(), Ok(MaxMemory::Auto));
        assert_eq!("64MiB".parse(), Ok(MaxMemory::Bytes(ByteSize::mib(64))));
        assert!("much".parse::<MaxMemory>().is_err());
        assert_eq!(MaxMemory::Auto.on(Some(1_000_000)), 400_000);
        assert_eq!(MaxMemory::Auto.on(None), 0);
        assert_eq!(MaxMemory::Bytes(ByteSize(7)).on(Some(1_000_000)), 7);
    }
}
