//! Content whose chunks begin where its source says, so that a damaged chunk costs one piece and the next is found.
//!
//! An entry with the identity [`IDENTITY`] has such content. Each of its chunks begins with a byte: 1 when a piece begins
//! with it, 2 when it goes on with the one before. Behind a 1 follow the bytes of the whole piece (8, little-endian), then
//! in either case bytes of the piece. Its pieces, one behind the other, are what the source gave. Where a piece begins is
//! told by the chunks alone and never looked for among bytes that somebody else may have chosen.

use std::sync::Arc;

use super::fetch::{Fetcher, Ids};
use super::format::index::Table;
use super::target::Trouble;
use super::{BackupError, Entry, Repository};

/// The identity of entries in pieces.
pub(super) const IDENTITY: &[u8] = b"mainstay/pieces/1";

/// The chunk begins a piece.
pub(super) const BEGINS: u8 = 1;

/// The chunk goes on with one.
pub(super) const CONTINUES: u8 = 2;

/// Whether the content of `entry` is in pieces.
pub(super) fn is_in_pieces(entry: &Entry) -> bool {
    entry.meta.identity == IDENTITY
}

/// A chunk's bytes of its piece; with the length of the piece when it begins one. `None` when it is no such chunk.
pub(super) fn split(chunk: &[u8]) -> Option<(Option<u64>, &[u8])> {
    match chunk.split_first()? {
        (&BEGINS, rest) => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            Some((Some(u64::from_le_bytes(*length)), rest))
        }
        (&CONTINUES, rest) => Some((None, rest)),
        _ => None,
    }
}

impl BackupError {
    /// Whether it is about one chunk or file of the repository that is not what was written; other errors may pass, or are
    /// of everything.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::MissingChunk { .. } => true,
            // A bad sector of the disk that holds the repository; a network that fails is another matter.
            Self::Target(error) => match error.trouble {
                Trouble::Missing => true,
                Trouble::Other => !error.target.starts_with("s3://"),
                Trouble::Exists | Trouble::Full | Trouble::TooLarge | Trouble::Refused => false,
            },
            _ => false,
        }
    }
}

/// Bytes of a piece; with its length when it begins there.
type Chunk = (Option<u64>, Vec<u8>);

/// The pieces of an entry in order. Reading blocks.
#[derive(Debug)]
pub(super) struct Pieces {
    repository: Repository,
    ids: Ids,
    state: Option<(Arc<Table>, Fetcher)>,
    /// A chunk that begins the next piece.
    ahead: Option<(u64, Vec<u8>)>,
    /// Whether what was lost last is told already.
    told: bool,
}

impl Pieces {
    /// Those of `entry`, which is in pieces.
    pub fn new(repository: &Repository, entry: &Entry) -> Self {
        Self { repository: repository.clone(), ids: Ids::new(&entry.content), state: None, ahead: None, told: false }
    }

    fn chunk(&mut self) -> Option<Result<Chunk, BackupError>> {
        let state = match self.state.take() {
            Some(state) => state,
            None => match self.repository.table() {
                Ok(table) => (table, self.repository.fetcher()),
                Err(error) => return Some(Err(error)),
            },
        };
        let (table, fetcher) = self.state.insert(state);
        let read = self.ids.next(|id| fetcher.chunk(table, id))?.and_then(|id| {
            let chunk = fetcher.chunk(table, &id)?;
            let (length, bytes) =
                split(&chunk).ok_or_else(|| BackupError::damaged(format!("chunk {id}"), "it is no piece"))?;
            Ok((length, bytes.to_vec()))
        });
        Some(read)
    }

    fn lost(&mut self, error: BackupError) -> Option<Result<Vec<u8>, BackupError>> {
        if error.is_damage() && std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(Err(error))
    }
}

impl Iterator for Pieces {
    /// A piece, or why one or several are lost; the next item is then the next piece that could be read.
    type Item = Result<Vec<u8>, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (length, mut piece) = match self.ahead.take() {
                Some(ahead) => ahead,
                None => match self.chunk()? {
                    Ok((Some(length), bytes)) => (length, bytes),
                    // Its beginning is lost, and that is told.
                    Ok((None, _)) => continue,
                    Err(error) => match self.lost(error) {
                        Some(told) => return Some(told),
                        None => continue,
                    },
                },
            };
            self.told = false;
            let short = || BackupError::damaged("a piece", "its end is missing");
            while (piece.len() as u64) < length {
                match self.chunk() {
                    Some(Ok((None, bytes))) => piece.extend_from_slice(&bytes),
                    Some(Ok((Some(length), bytes))) => {
                        self.ahead = Some((length, bytes));
                        return self.lost(short());
                    }
                    Some(Err(error)) => return self.lost(error),
                    None => return self.lost(short()),
                }
            }
            return Some(Ok(piece));
        }
    }
}
