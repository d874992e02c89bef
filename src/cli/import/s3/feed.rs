//! An object's bytes on their way from one server to the other: counted, digested, and sent on in chunks with a checksum
//! behind them.
//!
//! What the source claims of the bytes is looked at before the last chunk goes out, so that the server stores nothing that
//! does not hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::stream;
use md5::{Digest as _, Md5};

use super::answers::Sum;
use super::service::{Failure, Kind, Side};
use crate::http::Body;
use crate::http::origin::Exchange;
use crate::s3::checksum::{Algorithm, Running};

/// Digests of bytes that have gone by.
#[derive(Clone)]
pub(super) struct Digests {
    md5: Md5,
    algorithm: Algorithm,
    sum: Running,
}

impl Digests {
    pub fn new(algorithm: Algorithm) -> Self {
        Self { md5: Md5::new(), algorithm, sum: algorithm.start() }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sum.update(bytes);
    }

    pub fn md5(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// The checksum as S3 writes it.
    pub fn sum(&self) -> String {
        self.sum.clone().finish()
    }

    /// Holds the digests against what the source claims.
    pub fn check(&self, claims: &Claims) -> Result<(), Failure> {
        let wrong = |what: &str| {
            Failure::new(Kind::Passing, format!("what the source sends does not have the {what} that it tells"))
        };
        if claims.md5.is_some_and(|md5| md5 != self.md5()) {
            return Err(wrong("MD5 (ETag)"));
        }
        let sum = claims.sum.as_ref().filter(|sum| !sum.composite && sum.algorithm == self.algorithm);
        match sum {
            Some(sum) if sum.value != self.sum() => Err(wrong(sum.algorithm.name())),
            _ => Ok(()),
        }
    }
}

/// What the source says of the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    pub md5: Option<[u8; 16]>,
    pub sum: Option<Sum>,
}

/// What went by: of this body, and of the whole object where the body is a part of it.
pub(super) struct Passed {
    pub digests: Digests,
    pub whole: Option<Digests>,
}

/// What came of a body; filled when it has ended.
pub(super) type Verdict = Arc<OnceLock<Result<Passed, Failure>>>;

/// A body under way.
pub(super) struct Feed {
    pub answer: Exchange,
    /// Bytes to come.
    pub left: u64,
    pub digests: Digests,
    /// Digests of the whole object, of which this is the next part.
    pub whole: Option<Digests>,
    pub claims: Claims,
    /// Bytes that have gone by in all, for whoever watches.
    pub meter: Arc<AtomicU64>,
    pub verdict: Verdict,
}

impl Feed {
    /// The body: aws-chunked, with the checksum in a trailer (S3 API reference, "Transferring Payload in Multiple Chunks").
    pub fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(Some(self), |feed| async move {
            let Some(mut feed) = feed else { return Ok(None) };
            match feed.next().await {
                Ok(Some(piece)) => {
                    let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                    Ok(Some((Bytes::from(framed), Some(feed))))
                }
                Ok(None) => Ok(Some((feed.end(), None))),
                Err(failure) => {
                    // Only this body fills it.
                    let _ = feed.verdict.set(Err(failure.clone()));
                    Err(failure)
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let uneven = || Failure::new(Kind::Passing, "the source sends another number of bytes than it tells");
        while let Some(piece) = self.answer.chunk().await.map_err(|error| Side::Source.broken(&error))? {
            if piece.is_empty() {
                continue;
            }
            let bytes = piece.len() as u64;
            self.left = self.left.checked_sub(bytes).ok_or_else(uneven)?;
            self.digests.update(&piece);
            if let Some(whole) = &mut self.whole {
                whole.update(&piece);
            }
            self.meter.fetch_add(bytes, Ordering::Relaxed);
            return Ok(Some(piece));
        }
        if self.left > 0 {
            return Err(uneven());
        }
        self.digests.check(&self.claims)?;
        Ok(None)
    }

    fn end(self) -> Bytes {
        let trailer = format!("0\r\n{}:{}\r\n\r\n", self.digests.algorithm.header(), self.digests.sum());
        let _ = self.verdict.set(Ok(Passed { digests: self.digests, whole: self.whole }));
        Bytes::from(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_held_against_every_claim() {
        let mut digests = Digests::new(Algorithm::Crc32);
        digests.update(b"12345");
        digests.update(b"6789");
        let sum =
            |value: &str, composite| Some(Sum { algorithm: Algorithm::Crc32, value: value.to_owned(), composite });
        let md5 = Some(Md5::digest(b"123456789").into());
        digests.check(&Claims { md5, sum: sum("y/Q5Jg==", false) }).unwrap();
        digests.check(&Claims { md5: None, sum: sum("other-2", true) }).unwrap();
        digests.check(&Claims { md5: Some([0; 16]), sum: None }).unwrap_err();
        digests.check(&Claims { md5, sum: sum("AAAAAA==", false) }).unwrap_err();
    }
}
