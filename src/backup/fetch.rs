//! Chunks back from packs.

use std::sync::Arc;

use super::BackupError;
use super::format::index::{Location, PENDING, Table};
use super::format::keys::{RepositoryKeys, Sealed};
use super::format::pack::open_chunk;
use super::format::{ChunkId, Content, MOST_IDS};
use super::target::Target;
use crate::crypto::Aead;

/// Bytes of a pack read at once: neighbours are usually wanted next, and a request to an S3 service costs its wait.
const WINDOW: usize = 2 << 20;

/// Windows kept.
const WINDOWS: usize = 8;

/// Pack keys kept.
const KEYS: usize = 16;

/// Most ids of a list held in one chunk: a MiB of them.
pub(super) const IDS_IN_A_CHUNK: usize = 32 << 10;

struct Window {
    pack: u32,
    start: u64,
    bytes: Vec<u8>,
}

/// Reads chunks; keeps what lies around them.
pub(super) struct Fetcher {
    keys: Arc<RepositoryKeys>,
    target: Arc<dyn Target>,
    windows: Vec<Window>,
    oldest: usize,
    aeads: Vec<(u32, Aead)>,
    oldest_aead: usize,
}

impl Fetcher {
    pub(super) const fn new(keys: Arc<RepositoryKeys>, target: Arc<dyn Target>) -> Self {
        Self { keys, target, windows: Vec::new(), oldest: 0, aeads: Vec::new(), oldest_aead: 0 }
    }

    /// The plain bytes of chunk `id`, proven to be that.
    pub(super) fn chunk(&mut self, table: &Table, id: &ChunkId) -> Result<Vec<u8>, BackupError> {
        let missing = || BackupError::MissingChunk { chunk: id.to_string() };
        let place = table.find(id).filter(|place| place.pack != PENDING).ok_or_else(missing)?;
        let pack = table.pack(place.pack).ok_or_else(missing)?;
        let name = pack.name();
        let aead = match self.aeads.iter().position(|(pack, _)| *pack == place.pack) {
            Some(at) => at,
            None => self.keep_aead(place.pack, self.keys.aead(Sealed::Chunk, &pack.salt)),
        };
        let at = self.window(&place, &name)?;
        let (Some((_, aead)), Some(window)) = (self.aeads.get(aead), self.windows.get(at)) else {
            return Err(missing());
        };
        let start = usize::try_from(u64::from(place.offset) - window.start).unwrap_or(usize::MAX);
        let sealed = window.bytes.get(start..start.saturating_add(place.sealed as usize));
        let opened = sealed.and_then(|sealed| {
            let offset = u64::from(place.offset);
            open_chunk(&self.keys, aead, id, offset, sealed, place.packing, place.plain as usize)
        });
        opened.ok_or_else(|| BackupError::damaged(name, format!("chunk {id} at byte {} does not open", place.offset)))
    }

    fn keep_aead(&mut self, pack: u32, aead: Aead) -> usize {
        if self.aeads.len() < KEYS {
            self.aeads.push((pack, aead));
            return self.aeads.len() - 1;
        }
        let at = self.oldest_aead % KEYS;
        self.oldest_aead = at + 1;
        if let Some(slot) = self.aeads.get_mut(at) {
            *slot = (pack, aead);
        }
        at
    }

    /// The number of a window that holds all of the chunk at `place`; shorter only where the file ends.
    fn window(&mut self, place: &Location, name: &str) -> Result<usize, BackupError> {
        let (start, end) = (u64::from(place.offset), u64::from(place.offset) + u64::from(place.sealed));
        let holds = |window: &Window| {
            window.pack == place.pack && window.start <= start && end <= window.start + window.bytes.len() as u64
        };
        if let Some(at) = self.windows.iter().position(holds) {
            return Ok(at);
        }
        let len = WINDOW.max(place.sealed as usize);
        let bytes = self.target.get_range(name, start, len)?;
        let window = Window { pack: place.pack, start, bytes };
        if self.windows.len() < WINDOWS {
            self.windows.push(window);
            return Ok(self.windows.len() - 1);
        }
        let at = self.oldest % WINDOWS;
        self.oldest = at + 1;
        if let Some(slot) = self.windows.get_mut(at) {
            *slot = window;
        }
        Ok(at)
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("target", &self.target.label()).finish_non_exhaustive()
    }
}

/// Walks the ids of a [`Content`] in order, its lists read as they are needed.
#[derive(Debug)]
pub(super) struct Ids {
    /// Lists under way, the outermost first: how deep its ids are, the ids, which is next.
    levels: Vec<(u8, Vec<ChunkId>, usize)>,
}

/// The next id of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextId {
    /// A chunk of bytes.
    Bytes(ChunkId),
    /// A chunk of ids at this depth, to be given to [`Ids::enter`].
    List(ChunkId, u8),
}

impl Ids {
    pub(super) fn new(content: &Content) -> Self {
        Self { levels: vec![(content.depth, content.ids.clone(), 0)] }
    }

    /// The next id, lists not entered.
    pub(super) fn step(&mut self) -> Option<NextId> {
        loop {
            let (depth, ids, next) = self.levels.last_mut()?;
            if let Some(id) = ids.get(*next) {
                *next += 1;
                return Some(if *depth == 0 { NextId::Bytes(*id) } else { NextId::List(*id, *depth) });
            }
            self.levels.pop();
        }
    }

    /// Goes into a list: `bytes` are the chunk [`NextId::List`] named. `None` when they are no list.
    pub(super) fn enter(&mut self, depth: u8, bytes: &[u8]) -> Option<()> {
        let (ids, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || ids.len() > IDS_IN_A_CHUNK {
            return None;
        }
        self.levels.push((depth.checked_sub(1)?, ids.iter().map(|id| ChunkId(*id)).collect(), 0));
        Some(())
    }

    /// The next chunk of bytes; lists are read with `fetch`.
    pub(super) fn next(
        &mut self,
        mut fetch: impl FnMut(&ChunkId) -> Result<Vec<u8>, BackupError>,
    ) -> Option<Result<ChunkId, BackupError>> {
        loop {
            match self.step()? {
                NextId::Bytes(id) => return Some(Ok(id)),
                NextId::List(id, depth) => {
                    let entered = fetch(&id).and_then(|bytes| {
                        self.enter(depth, &bytes)
                            .ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no list of ids"))
                    });
                    if let Err(error) = entered {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// Collects ids into a [`Content`]; `store` takes the chunks that hold lists and says their ids.
#[derive(Debug, Default)]
pub(super) struct ContentBuilder {
    levels: Vec<Vec<ChunkId>>,
}

impl ContentBuilder {
    pub(super) fn push(
        &mut self,
        id: ChunkId,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, BackupError>,
    ) -> Result<(), BackupError> {
        self.push_at(0, id, store)
    }

    pub(super) fn finish(
        mut self,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, BackupError>,
    ) -> Result<Content, BackupError> {
        let mut depth = 0;
        loop {
            let highest = depth + 1 >= self.levels.len();
            let ids = self.levels.get_mut(depth).map(std::mem::take).unwrap_or_default();
            if highest && ids.len() <= MOST_IDS {
                let depth = u8::try_from(depth).unwrap_or(u8::MAX);
                return Ok(Content { depth, ids });
            }
            if !ids.is_empty() {
                let id = store(bytes_of(&ids))?;
                self.push_at(depth + 1, id, store)?;
            }
            depth += 1;
        }
    }

    fn push_at(
        &mut self,
        level: usize,
        id: ChunkId,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId, BackupError>,
    ) -> Result<(), BackupError> {
        if level > usize::from(super::format::DEEPEST) {
            return Err(BackupError::TooMany { what: "chunks of one file", found: u64::MAX, limit: 1 << 50 });
        }
        while self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let Some(ids) = self.levels.get_mut(level) else { return Ok(()) };
        ids.push(id);
        if ids.len() < IDS_IN_A_CHUNK {
            return Ok(());
        }
        let full = std::mem::take(ids);
        let id = store(bytes_of(&full))?;
        self.push_at(level + 1, id, store)
    }
}

fn bytes_of(ids: &[ChunkId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn ids_of_any_number_come_back_in_order() {
        for count in [0u32, 1, 1024, 1025, 32_768, 32_769, 70_000] {
            let id = |n: u32| ChunkId(std::array::from_fn(|at| n.to_le_bytes()[at % 4]));
            let mut stored = HashMap::new();
            let mut store = |bytes: Vec<u8>| {
                let id = ChunkId(*blake3::hash(&bytes).as_bytes());
                stored.insert(id, bytes);
                Ok(id)
            };
            let mut builder = ContentBuilder::default();
            for n in 0..count {
                builder.push(id(n), &mut store).unwrap();
            }
            let content = builder.finish(&mut store).unwrap();
            assert!(content.ids.len() <= MOST_IDS);
            let mut ids = Ids::new(&content);
            let mut seen = 0;
            while let Some(next) = ids.next(|list| Ok(stored[list].clone())) {
                assert_eq!(next.unwrap(), id(seen));
                seen += 1;
            }
            assert_eq!(seen, count);
        }
    }
}
