//! An object's bytes on their way out.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;

use super::error::ObjectError;

/// A stream of plaintext, each chunk verified before it comes out.
///
/// An error is the last item: what came before is right, but the rest of the object cannot be given, so the receiver
/// must not be told that the body ended well.
pub struct ObjectBody(Pin<Box<dyn Stream<Item = Result<Bytes, ObjectError>> + Send>>);

impl ObjectBody {
    pub(super) fn new(stream: impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static) -> Self {
        Self(Box::pin(stream))
    }

    pub(super) fn ready(bytes: Bytes) -> Self {
        Self::new(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))))
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectBody")
    }
}
