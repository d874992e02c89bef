//! How long a client may keep us waiting, which hyper leaves to its user.
//!
//! The rule is the same in both directions: time spent waiting on the client counts, time spent on our own side does
//! not, and every [`STEP`] bytes of progress start the count afresh. One byte a minute is therefore as good as silence.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Progress that earns a client its full time again.
const STEP: usize = 4096;

/// How long, and for how many bytes, a closed connection is still read from. A client that is told "no" while it sends a
/// body reads the answer only if its bytes are taken: closing a socket with unread bytes resets it, and the reset
/// overtakes the answer (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

/// The waiting one client has left.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    left: Duration,
    progress: usize,
    /// Armed while waiting: since when, and until when at most.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    const fn new(limit: Duration) -> Self {
        Self { limit, left: limit, progress: 0, waiting: None }
    }

    /// Counts `bytes` that went through.
    fn moved(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.progress = self.progress.saturating_add(bytes);
        if self.progress >= STEP {
            self.left = self.limit;
            self.progress = 0;
        }
    }

    /// Forgives everything: the exchange is at rest.
    fn rest(&mut self) {
        self.waiting = None;
        self.left = self.limit;
        self.progress = 0;
    }

    /// Ready once the client has used up its time.
    fn poll_exhausted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, deadline) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        deadline.as_mut().poll(context)
    }
}

/// A request body whose client must keep sending.
#[derive(Debug)]
pub struct PatientBody<B> {
    inner: B,
    patience: Patience,
}

impl<B> PatientBody<B> {
    pub const fn new(inner: B, limit: Duration) -> Self {
        Self { inner, patience: Patience::new(limit) }
    }
}

impl<B> http_body::Body for PatientBody<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.patience.moved(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                ready!(this.patience.poll_exhausted(context));
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "request body came too slowly").into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection whose client must keep taking what it asked for. Holds the connection's place until it is dropped.
#[derive(Debug)]
pub struct PatientIo<I, P> {
    inner: I,
    patience: Patience,
    /// Once the sending side is closed: until when to read on, and how many bytes at most.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
    _place: P,
}

impl<I, P> PatientIo<I, P> {
    pub const fn new(inner: I, limit: Duration, place: P) -> Self {
        Self { inner, patience: Patience::new(limit), linger: None, _place: place }
    }

    fn wrote(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Ok(bytes)) => {
                self.patience.moved(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.patience.poll_exhausted(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "response was taken too slowly")))
            }
        }
    }
}

impl<I: AsyncRead + Unpin, P: Unpin> AsyncRead for PatientIo<I, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncWrite for PatientIo<I, P> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.wrote(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_flush(context) {
            Poll::Ready(outcome) => {
                this.patience.rest();
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                ready!(this.patience.poll_exhausted(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "response was taken too slowly")))
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
        }
        let (deadline, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        loop {
            let mut scrap = [0; 8192];
            let mut buffer = ReadBuf::new(&mut scrap);
            let Poll::Ready(outcome) = Pin::new(&mut this.inner).poll_read(context, &mut buffer) else {
                return deadline.as_mut().poll(context).map(Ok);
            };
            let bytes = buffer.filled().len();
            *left = left.saturating_sub(bytes);
            if outcome.is_err() || bytes == 0 || *left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
