//! A large file on its way to a client.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::edge::reading::{PIECE, Source};

/// An open file.
#[derive(Clone, Debug)]
pub struct Open(Arc<File>);

impl Open {
    /// `file`.
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl Source for Open {
    fn read(&self, first: u64, end: u64) -> io::Result<Bytes> {
        let mut piece = vec![0; usize::try_from(end.saturating_sub(first).min(PIECE)).unwrap_or(0)];
        // One that has become shorter ends here with an error.
        self.0.read_exact_at(&mut piece, first)?;
        Ok(Bytes::from(piece))
    }
}
