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
pub struct ObjectBody {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, ObjectError>> + Send>>,
    needs_index: bool,
}

impl ObjectBody {
    /// `needs_index`: the stream still looks into the index.
    pub(super) fn new(
        stream: impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
        needs_index: bool,
    ) -> Self {
        Self { stream: Box::pin(stream), needs_index }
    }

    /// Whether what is still to come is read with the index. Otherwise all there is to read are blobs' files, which never change:
    /// they can be read on when another process has the data folder. One that is removed meanwhile ends the body with an error
    /// unless it is open.
    pub const fn needs_index(&self) -> bool {
        self.needs_index
    }

    pub(super) fn ready(bytes: Bytes) -> Self {
        Self::new(futures_util::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))), false)
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectBody")
    }
}
