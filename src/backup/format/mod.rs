//! The repository's format, byte by byte; `packaging/restore/FORMAT.txt` says it again for whoever has no Mainstay left.

pub(crate) mod codec;
pub mod entry;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most chunk ids directly in a [`Content`]; a longer list goes one level deeper.
pub(crate) const MOST_IDS: usize = 1024;

/// Most levels of lists of ids: 1024 * 32768^2 chunks and more, which no file has.
pub(crate) const DEEPEST: u8 = 3;

/// A chunk's name: the BLAKE3 of its plain bytes, keyed, so that it tells nothing to who has no key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::base::ids::hex(&self.0))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where bytes are: the ids of their chunks in order. At depth 0 the chunks hold the bytes; at depth n they hold, one
/// after the other, the 32-byte ids of the chunks of depth n - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub(crate) depth: u8,
    pub(crate) ids: Vec<ChunkId>,
}

impl Serialize for ChunkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChunkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut out = [0; 32];
        crate::base::ids::hex_decode(text.as_bytes(), &mut out)
            .ok_or_else(|| serde::de::Error::custom("a chunk id is 64 hexadecimal digits"))?;
        Ok(Self(out))
    }
}
