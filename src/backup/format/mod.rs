//! The repository's format, byte by byte; `packaging/restore/FORMAT.txt` says it again for whoever has no Mainstay left.

pub(crate) mod codec;
pub(crate) mod document;
pub mod entry;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod pack;

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

/// As how many of the repository's structures `bytes` can be read: trailer, index, list of entries, snapshot, mark, config.
/// For fuzzers: whatever the bytes, this returns.
pub fn readings(bytes: &[u8]) -> usize {
    let keys =
        keys::RepositoryKeys::new(crate::base::Id128::from_bytes([0; 16]), &crate::crypto::Key::from_bytes([0; 32]));
    let read = [
        pack::decode_entries(bytes).is_some(),
        pack::open_pack(&keys, [0; 32], bytes).is_some(),
        index::decode(bytes).is_some(),
        super::listing::decode(bytes).is_some(),
        super::load::decode_snapshot(bytes).is_some(),
        super::load::decode_mark(bytes).is_some(),
        keys::Config::decode(bytes).is_ok(),
    ];
    read.into_iter().filter(|read| *read).count()
}
