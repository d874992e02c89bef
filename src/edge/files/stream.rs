//! A large file on its way to a client: one piece at a time, read on a blocking thread.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

/// Bytes read at once.
const PIECE: u64 = 256 << 10;

/// Bytes `at` up to `end` of a file. Dropped, it stops after the piece being read.
#[derive(Debug)]
pub struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// Bytes `first` up to `last` (excluded) of `file`.
    pub fn new(file: File, first: u64, last: u64) -> Self {
        Self { file: Arc::new(file), at: first, end: last, reading: None }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let left = self.end.saturating_sub(self.at);
        if left == 0 {
            return Poll::Ready(None);
        }
        let (file, at) = (Arc::clone(&self.file), self.at);
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(left.min(PIECE)).unwrap_or(0)];
                // A file that has become shorter ends here with an error, and the connection with it: the length was
                // promised.
                file.read_exact_at(&mut piece, at)?;
                Ok(Bytes::from(piece))
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(Some(match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(piece) => {
                self.at = self.at.saturating_add(piece.len() as u64);
                Ok(Frame::data(piece))
            }
            Err(error) => {
                self.end = self.at;
                Err(error)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.at))
    }
}
