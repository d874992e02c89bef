//! The list of a snapshot's entries, as chunks.
//!
//! Records stand one after the other (`format/entry.rs`); a chunk ends only between two of them, after a record whose path
//! hashes to a round number. So the cuts depend on the paths alone: a changed file changes the one chunk it is listed in,
//! and two snapshots share the others. A damaged chunk costs the entries in it and no others.

use std::collections::VecDeque;

use super::BackupError;
use super::fetch::{ContentBuilder, Fetcher, Ids};
use super::format::codec::Cursor;
use super::format::entry::Entry;
use super::format::index::Table;
use super::format::{ChunkId, Content};

/// A chunk of a list has at least this many bytes, if more follows.
const SMALLEST: usize = 16 << 10;

/// It ends at the first record that takes it past this.
const LARGEST: usize = 512 << 10;

/// One record in so many ends a chunk.
const ROUND: u8 = 255;

type Store<'a> = &'a mut dyn FnMut(Vec<u8>) -> Result<ChunkId, BackupError>;

/// Writes a list.
#[derive(Debug, Default)]
pub(super) struct ListingWriter {
    buffer: Vec<u8>,
    ids: ContentBuilder,
}

impl ListingWriter {
    pub(super) fn push(&mut self, entry: &Entry, store: Store<'_>) -> Result<(), BackupError> {
        entry.encode(&mut self.buffer);
        let round = blake3::hash(entry.path.as_bytes()).as_bytes()[0] == ROUND;
        if (round && self.buffer.len() >= SMALLEST) || self.buffer.len() >= LARGEST {
            self.flush(store)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, store: Store<'_>) -> Result<Content, BackupError> {
        if !self.buffer.is_empty() {
            self.flush(store)?;
        }
        self.ids.finish(store)
    }

    fn flush(&mut self, store: Store<'_>) -> Result<(), BackupError> {
        let id = store(std::mem::take(&mut self.buffer))?;
        self.ids.push(id, store)
    }
}

/// Reads a list, a chunk at a time.
#[derive(Debug)]
pub(super) struct ListingReader {
    ids: Ids,
    ready: VecDeque<Entry>,
}

impl ListingReader {
    pub(super) fn new(listing: &Content) -> Self {
        Self { ids: Ids::new(listing), ready: VecDeque::new() }
    }

    /// The next entry. After an error, the next is the first that could be read again.
    pub(super) fn next(&mut self, table: &Table, fetcher: &mut Fetcher) -> Option<Result<Entry, BackupError>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            let read = self.ids.next(|id| fetcher.chunk(table, id))?.and_then(|id| {
                let bytes = fetcher.chunk(table, &id)?;
                decode(&bytes).ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no list of entries"))
            });
            match read {
                Ok(entries) => self.ready = entries.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The records of a chunk; `None` when it is no list.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut cursor = Cursor::new(bytes);
    let mut out = Vec::new();
    while !cursor.is_empty() {
        out.push(Entry::decode(&mut cursor)?);
    }
    Some(out)
}
