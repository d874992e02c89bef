//! The two bodies of a proxied request: streamed frame by frame, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::head::Refusal;
use super::pool::Lease;
use crate::http::Body;

/// What is known of a request body while the upstream reads it.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    touched: AtomicBool,
    too_large: AtomicBool,
    timed_out: AtomicBool,
    failed: AtomicBool,
    ended: AtomicBool,
}

impl Progress {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether reading has begun, after which the body cannot be sent a second time.
    pub fn touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Whether the body broke off before its end, which is never the app's fault.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether nothing more of the body is wanted: all of it was taken, or none of the rest will be.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Why the body broke off through the client's fault.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.too_large.load(Ordering::Relaxed) {
            Some(Refusal::TooLarge)
        } else if self.timed_out.load(Ordering::Relaxed) {
            Some(Refusal::BodyTimeout)
        } else {
            None
        }
    }
}

/// A request body on its way to the upstream, under the site's cap.
#[derive(Debug)]
pub struct RequestBody {
    inner: Body,
    left: u64,
    progress: Arc<Progress>,
}

/// The request body was cut off here or by the client.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More bytes than the site takes.
    #[error("the request body exceeds the site's limit")]
    TooLarge,
    /// The client left, stalled, or broke the framing.
    #[error("the request body broke off")]
    Client(#[source] axum::Error),
}

impl RequestBody {
    /// `inner`, of which at most `limit` bytes pass.
    pub fn new(inner: Body, limit: u64) -> Self {
        Self { inner, left: limit, progress: Arc::default() }
    }

    /// No body.
    pub fn empty() -> Self {
        Self::new(Body::empty(), 0)
    }

    /// The account of this body.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.progress.ended.store(true, Ordering::Relaxed);
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.progress.touched.store(true, Ordering::Relaxed);
        Pin::new(&mut this.inner).poll_frame(context).map(|frame| match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                if let Some(left) = this.left.checked_sub(bytes) {
                    this.left = left;
                    Some(Ok(frame))
                } else {
                    this.progress.failed.store(true, Ordering::Relaxed);
                    this.progress.too_large.store(true, Ordering::Relaxed);
                    Some(Err(BodyError::TooLarge))
                }
            }
            Some(Err(error)) => {
                this.progress.failed.store(true, Ordering::Relaxed);
                this.progress.timed_out.store(is_timeout(&error), Ordering::Relaxed);
                Some(Err(BodyError::Client(error)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn is_timeout(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::TimedOut;
        }
        source = error.source();
    }
    false
}

/// A response body on its way to the client, which moves its connection on while it is read; gives the connection back to
/// the pool at its end. Dropped before, the connection is closed, which also tells the app.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Incoming,
    lease: Option<Lease>,
    /// What is told with the next poll.
    broken: Option<hyper::Error>,
    /// When the app has been silent for too long; `None` while nobody waits for it. A client that does not read does not
    /// count: only waiting for the app does.
    silent: Option<Instant>,
}

/// The response body was cut off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The app broke it off.
    #[error("the app's answer broke off")]
    App(#[source] hyper::Error),
    /// The app paused for too long.
    #[error("the app's answer stopped coming")]
    Silent,
}

impl ResponseBody {
    /// `inner`, which came over `lease`.
    pub fn new(inner: Incoming, lease: Lease) -> Self {
        let mut body = Self { inner, lease: Some(lease), broken: None, silent: None };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Self { inner, lease, broken, silent } = &mut *self;
        if let Some(error) = broken.take() {
            return Poll::Ready(Some(Err(AnswerError::App(error))));
        }
        let mut wanted = |context: &mut Context<'_>| Pin::new(&mut *inner).poll_frame(context);
        let frame = match lease {
            Some(lease) => lease.poll_next(context, wanted),
            None => wanted(context),
        };
        let frame = match frame {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some((limit, lease)) = lease.as_mut().and_then(|lease| Some((lease.read_limit()?, lease))) else {
                    return Poll::Pending;
                };
                let at = *silent.get_or_insert_with(|| Instant::now() + limit);
                ready!(lease.late(context, at));
                return Poll::Ready(Some(Err(AnswerError::Silent)));
            }
        };
        *silent = None;
        match frame {
            Some(Ok(frame)) => {
                // A body of known length ends with its last byte, any body with its trailers: nobody need ask again.
                if frame.is_trailers() || inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // The end may have come together with what is before it, which the client gets if it is sent first.
            Some(Err(error)) => {
                *broken = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.finish();
                Poll::Ready(None)
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
