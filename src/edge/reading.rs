//! The body of a large answer from a file, on its way to a client: one piece at a time, read on a blocking thread.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

/// Most bytes read at once.
pub const PIECE: u64 = 256 << 10;

/// What such a body is read from.
pub trait Source: Clone + Send + Unpin + 'static {
    /// Bytes from `first` on, at most up to `end` (excluded) and about [`PIECE`]; not none. Blocks.
    ///
    /// # Errors
    /// There are none, or they are not what they should be.
    fn read(&self, first: u64, end: u64) -> io::Result<Bytes>;
}

/// Bytes `at` up to `end` of it. Dropped, it stops after the piece being read.
#[derive(Debug)]
pub struct FileBody<S> {
    source: S,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl<S: Source> FileBody<S> {
    /// Bytes `first` up to `end` (excluded) of `source`.
    pub const fn new(source: S, first: u64, end: u64) -> Self {
        Self { source, at: first, end, reading: None }
    }
}

impl<S: Source> http_body::Body for FileBody<S> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let (at, end) = (this.at, this.end);
        if at >= end {
            return Poll::Ready(None);
        }
        let source = &this.source;
        let reading = this.reading.get_or_insert_with(|| {
            let source = source.clone();
            tokio::task::spawn_blocking(move || source.read(at, end))
        });
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        Poll::Ready(Some(match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(piece) => {
                this.at = at.saturating_add(piece.len() as u64);
                Ok(Frame::data(piece))
            }
            // The length was promised: the connection ends with it.
            Err(error) => {
                this.end = at;
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
