//! The body of a stored answer, wherever it is.

use bytes::Bytes;

use super::super::reading::FileBody;
use super::disk::Opened;
use crate::http::Body;

/// Where it is.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file that is open.
    Disk(Opened),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl Content {
    /// Bytes of it.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(opened) => opened.len(),
        }
    }

    /// Bytes of it that are in memory.
    pub const fn in_memory(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_) => 0,
        }
    }

    /// Bytes `first` up to `end`, which is excluded.
    pub fn part(&self, first: u64, end: u64) -> Body {
        match self {
            Self::Memory(bytes) => {
                let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(bytes.len());
                Body::from(bytes.slice(at(first).min(at(end))..at(end)))
            }
            Self::Disk(opened) => Body::new(FileBody::new(opened.clone(), first, end)),
        }
    }
}
