//! Message bodies, and reading one into memory under a cap.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

/// A request's or response's body: a stream of chunks, or all of it at once.
pub type Body = axum::body::Body;

/// Why a body could not be read into memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is longer than the caller takes.
    #[error("body exceeds {limit} bytes")]
    TooLarge {
        /// Most bytes taken.
        limit: usize,
    },
    /// The client was too slow, left, or broke the framing; or the stream's own check failed.
    #[error("body could not be read")]
    Broken(#[source] axum::Error),
}

/// Reads all of `body`, at most `limit` bytes; a declared length beyond `limit` is refused before any byte is read.
///
/// # Errors
/// [`ReadError`]; the rest of the body is then unread.
///
/// # Cancel safety
/// What was read is lost; the connection stays in order.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, ReadError> {
    let hint = http_body::Body::size_hint(&body);
    if hint.lower() > limit as u64 {
        return Err(ReadError::TooLarge { limit });
    }
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if first.len().max(joined.len()).saturating_add(chunk.len()) > limit {
            return Err(ReadError::TooLarge { limit });
        }
        if first.is_empty() {
            first = chunk;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&chunk);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(futures_util::stream::iter(
            chunks.iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk.as_bytes()))),
        ))
    }

    #[tokio::test]
    async fn chunks_are_joined() {
        assert_eq!(read(chunked(&["ab", "", "c", "de"]), 5).await.unwrap(), "abcde");
        assert_eq!(read(Body::empty(), 0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn one_byte_over_the_cap_is_refused() {
        assert!(matches!(read(chunked(&["ab", "cd", "ef"]), 5).await, Err(ReadError::TooLarge { limit: 5 })));
        assert!(matches!(read(Body::from("abcdef"), 5).await, Err(ReadError::TooLarge { limit: 5 })));
    }
}
