//! A request's body, verified while it streams.
//!
//! What was signed about the body (a SHA-256, chunk signatures, or only checksums in trailers) is checked on the way to
//! storage: pieces go through as they come, and when a check fails the stream ends in an error, so that storage makes
//! nothing of it visible.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::header;
use md5::{Digest as _, Md5};

use super::checksum::{Algorithm, Running};
use super::error::{Code, S3Error};
use super::request::Request;
use super::xml;
use crate::base::ids;
use crate::crypto::mac::{self, Sha256};
use crate::http::Body;
use crate::http::chunked::{ChunkError, Decoder};
use crate::http::multipart::MultipartError;
use crate::http::sigv4::ChunkSigner;
use crate::objects::{BodyError, Checksum};

/// Most bytes of a body that are read though nobody wants them.
const UNWANTED_MAX: u64 = 64 << 10;

/// What the signature says about the body. Decided by the gate.
#[derive(Debug)]
pub enum Claim {
    /// It has this SHA-256.
    Sha256([u8; 32]),
    /// Nothing (`UNSIGNED-PAYLOAD`).
    Unsigned,
    /// Each chunk is signed.
    SignedChunks {
        /// Verifies them.
        signer: ChunkSigner,
        /// Whether signed trailers follow.
        trailers: bool,
    },
    /// Chunks without signatures; a checksum in a trailer is all there is.
    UnsignedTrailers,
}

/// Why a body's stream ends in an error.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// Its SHA-256 is not the signed one.
    #[error("the body does not have the sha256 that was signed")]
    Sha256,
    /// Another checksum does not hold.
    #[error("the body does not have the {0} that was announced")]
    Checksum(&'static str),
    /// A checksum came that is no base64 of its length.
    #[error("a checksum is malformed")]
    ChecksumText,
    /// The chunks are not right.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// The client took too long.
    #[error("the body came too slowly")]
    Slow,
    /// The file of a form has fewer bytes than its policy asks for.
    #[error("the file has less than {least} bytes, which the form's policy asks for")]
    FileTooSmall {
        /// The least bytes.
        least: u64,
    },
    /// The file of a form has more bytes than its policy allows.
    #[error("the file has more than {most} bytes, which the form's policy allows")]
    FileTooLarge {
        /// The most bytes.
        most: u64,
    },
    /// A form is malformed or did not arrive whole.
    #[error(transparent)]
    Form(MultipartError),
    /// The client left or broke the framing.
    #[error("the body ended early")]
    Broken(#[source] axum::Error),
}

impl BodyFault {
    /// What a failure of the connection amounts to.
    pub fn broken(error: axum::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
            {
                return Self::Slow;
            }
            cause = error.source();
        }
        Self::Broken(error)
    }
}

impl From<MultipartError> for BodyFault {
    fn from(error: MultipartError) -> Self {
        match error {
            MultipartError::Broken(cause) => Self::broken(cause),
            other => Self::Form(other),
        }
    }
}

/// A body that can only be read through its verification.
#[derive(Debug)]
pub struct SealedBody {
    body: Body,
    claim: Claim,
}

/// A body about to be stored, and what it must turn out to be.
#[derive(Debug)]
pub struct Upload {
    /// Its length in bytes of plaintext.
    pub length: u64,
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// The checksum announced in a header; checked by `body`.
    pub checksum: Option<Checksum>,
    /// Filled by `body` at its end with the checksum of a trailer.
    pub late_checksum: Option<Arc<OnceLock<Checksum>>>,
    /// The bytes.
    pub body: VerifiedBody,
}

impl SealedBody {
    pub(super) const fn new(body: Body, claim: Claim) -> Self {
        Self { body, claim }
    }

    /// Prepares to read the body as `request` announces it.
    ///
    /// # Errors
    /// Its length is not announced, or a checksum in the head is malformed or one too many.
    pub fn open(self, request: &Request) -> Result<Upload, S3Error> {
        let announced = checksum_in_head(request)?;
        self.open_with(request, announced)
    }

    fn open_with(self, request: &Request, announced: Option<(Algorithm, String)>) -> Result<Upload, S3Error> {
        let trailers = match &self.claim {
            Claim::SignedChunks { trailers: true, .. } | Claim::UnsignedTrailers => announced_trailers(request),
            _ => Vec::new(),
        };
        let trailing = trailers.iter().find_map(|name| Algorithm::of_header(name));
        if trailing.is_some() && announced.is_some() {
            return Err(S3Error::new(Code::InvalidRequest, "expecting a single x-amz-checksum- header or trailer"));
        }
        let (decoder, sha256, length) = match self.claim {
            Claim::Sha256(expected) => (None, Some((Sha256::new(), expected)), content_length(request)?),
            Claim::Unsigned => (None, None, content_length(request)?),
            Claim::SignedChunks { signer, .. } => {
                let length = decoded_length(request)?;
                (Some(Decoder::new(Some(signer), trailers, length)), None, length)
            }
            Claim::UnsignedTrailers if trailing.is_none() => {
                let problem = "an unsigned streamed body needs a checksum named in x-amz-trailer";
                return Err(S3Error::new(Code::InvalidRequest, problem));
            }
            Claim::UnsignedTrailers => {
                let length = decoded_length(request)?;
                (Some(Decoder::new(None, trailers, length)), None, length)
            }
        };
        let late_checksum = trailing.map(|_| Arc::default());
        let checking = match (&announced, trailing) {
            (Some((algorithm, value)), _) => {
                Some(Checking { algorithm: *algorithm, running: algorithm.start(), expected: Some(value.clone()) })
            }
            (None, Some(algorithm)) => Some(Checking { algorithm, running: algorithm.start(), expected: None }),
            (None, None) => None,
        };
        Ok(Upload {
            length,
            md5: content_md5(request)?,
            checksum: announced.map(|(algorithm, value)| Checksum { algorithm: algorithm.name().to_owned(), value }),
            late_checksum: late_checksum.clone(),
            body: VerifiedBody {
                inner: self.body,
                pending: Bytes::new(),
                decoder,
                sha256,
                checking,
                late_checksum,
                ended: false,
            },
        })
    }

    /// Reads a small body that nobody wants, unless its client waits to be asked for it. Where bytes of a request are left, the
    /// connection ends after the answer, and whoever sends the next request on it, as s3cmd does, has to begin anew.
    pub async fn pass_over(self, request: &Request) {
        let small = content_length(request).is_ok_and(|length| length <= UNWANTED_MAX);
        if small && !request.headers.contains_key(header::EXPECT) {
            drop(crate::http::body::read(self.body, UNWANTED_MAX as usize).await);
        }
    }

    /// Reads the whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// It is too long, or fails a check.
    pub async fn small(self, request: &Request, most: usize) -> Result<Vec<u8>, S3Error> {
        read_small(self.open(request)?, most).await.map(Into::into)
    }

    /// Reads the whole body as a document whose outermost element is `root`; `None` for an empty body.
    ///
    /// # Errors
    /// It is too long, fails a check, or is no such document.
    pub async fn document(self, request: &Request, root: &str) -> Result<Option<xml::Element>, S3Error> {
        let upload = self.open(request)?;
        read_document(upload, root).await
    }

    /// As [`SealedBody::document`], where a checksum in the head is not one of the document.
    ///
    /// # Errors
    /// As [`SealedBody::document`].
    pub async fn document_of_object(self, request: &Request, root: &str) -> Result<Option<xml::Element>, S3Error> {
        let upload = self.open_with(request, None)?;
        read_document(upload, root).await
    }
}

/// A checksum under way; without `expected` its value comes in a trailer.
#[derive(Debug)]
struct Checking {
    algorithm: Algorithm,
    running: Running,
    expected: Option<String>,
}

/// The plaintext of a body. Ends in an error when what was claimed about it does not hold.
#[derive(Debug)]
pub struct VerifiedBody {
    inner: Body,
    /// Received, not yet decoded.
    pending: Bytes,
    decoder: Option<Decoder>,
    sha256: Option<(Sha256, [u8; 32])>,
    checking: Option<Checking>,
    late_checksum: Option<Arc<OnceLock<Checksum>>>,
    ended: bool,
}

impl VerifiedBody {
    /// The next piece of what was received.
    fn piece(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let piece = match &mut self.decoder {
            Some(decoder) => decoder.push(&mut self.pending)?,
            None => Some(std::mem::take(&mut self.pending)).filter(|piece| !piece.is_empty()),
        };
        if let Some(piece) = &piece {
            if let Some((hash, _)) = &mut self.sha256 {
                hash.update(piece);
            }
            if let Some(checking) = &mut self.checking {
                checking.running.update(piece);
            }
        }
        Ok(piece)
    }

    fn finish(&mut self) -> Result<(), BodyFault> {
        let trailers = self.decoder.take().map(Decoder::finish).transpose()?.unwrap_or_default();
        if let Some((hash, expected)) = self.sha256.take()
            && !mac::equal(&hash.finish(), &expected)
        {
            return Err(BodyFault::Sha256);
        }
        let Some(Checking { algorithm, running, expected }) = self.checking.take() else { return Ok(()) };
        let expected = expected
            .or_else(|| trailers.into_iter().find(|(name, _)| name == algorithm.header()).map(|(_, value)| value))
            .ok_or(BodyFault::ChecksumText)?;
        let value = running.finish();
        if value != expected {
            return Err(BodyFault::Checksum(algorithm.name()));
        }
        if let Some(slot) = &self.late_checksum {
            // The slot is ours alone and filled once.
            let _ = slot.set(Checksum { algorithm: algorithm.name().to_owned(), value });
        }
        Ok(())
    }
}

impl Stream for VerifiedBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let fault = loop {
            match this.piece() {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(None) => {}
                Err(fault) => break fault,
            }
            match ready!(http_body::Body::poll_frame(Pin::new(&mut this.inner), context)) {
                Some(Ok(frame)) => this.pending = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => break BodyFault::broken(error),
                None => match this.finish() {
                    Ok(()) => {
                        this.ended = true;
                        return Poll::Ready(None);
                    }
                    Err(fault) => break fault,
                },
            }
        };
        this.ended = true;
        Poll::Ready(Some(Err(BodyError::new(fault))))
    }
}

async fn read_document(upload: Upload, root: &str) -> Result<Option<xml::Element>, S3Error> {
    let bytes = read_small(upload, xml::BYTES_MAX).await?;
    if bytes.is_empty() { Ok(None) } else { xml::parse(&bytes, root).map(Some) }
}

async fn read_small(upload: Upload, most: usize) -> Result<BytesMut, S3Error> {
    if upload.length > most as u64 {
        return Err(Code::MaxMessageLengthExceeded.into());
    }
    let mut body = upload.body;
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| S3Error::from(crate::objects::ObjectError::Body(error)))?);
        if bytes.len() > most {
            return Err(Code::MaxMessageLengthExceeded.into());
        }
    }
    if upload.md5.is_some_and(|expected| Md5::digest(&bytes).as_slice() != expected) {
        return Err(Code::BadDigest.into());
    }
    Ok(bytes)
}

fn content_length(request: &Request) -> Result<u64, S3Error> {
    match request.field("content-length") {
        Some(text) => number(text),
        // A request without a body announces none.
        None if request.field("transfer-encoding").is_none() && request.bodyless => Ok(0),
        None => Err(Code::MissingContentLength.into()),
    }
}

fn decoded_length(request: &Request) -> Result<u64, S3Error> {
    number(request.field("x-amz-decoded-content-length").ok_or(Code::MissingContentLength)?)
}

fn number(text: &str) -> Result<u64, S3Error> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| S3Error::new(Code::InvalidArgument, "a length is no number"))
}

fn content_md5(request: &Request) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(text) = request.field("content-md5") else { return Ok(None) };
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| Code::InvalidDigest.into())
}

fn announced_trailers(request: &Request) -> Vec<String> {
    let names = request.field("x-amz-trailer").unwrap_or_default().split(',');
    names.map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// The checksum of the body that a header announces, at most one.
///
/// In the query of a presigned address the checksum of *nothing* does not count: the presigner of AWS's JavaScript SDK
/// knows no body yet and puts the CRC32 of an empty one there, whatever will be uploaded.
pub(super) fn checksum_in_head(request: &Request) -> Result<Option<(Algorithm, String)>, S3Error> {
    let mut found = None;
    for algorithm in Algorithm::all() {
        let header = request.headers.get(algorithm.header());
        let Some(value) = request.field(algorithm.header()) else { continue };
        if header.is_none() && value == algorithm.of_nothing() {
            continue;
        }
        let length = STANDARD.decode(value).map(|bytes| bytes.len()).unwrap_or_default();
        if length != algorithm.bytes() {
            let problem = format!("value for {} header is invalid", algorithm.header());
            return Err(S3Error::new(Code::InvalidRequest, problem));
        }
        if found.replace((algorithm, value.to_owned())).is_some() {
            return Err(S3Error::new(Code::InvalidRequest, "expecting a single x-amz-checksum- header"));
        }
    }
    Ok(found)
}

/// Reads 64 lower-case hexadecimal digits.
pub(super) fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    ids::hex_decode(text.as_bytes(), &mut out).map(|()| out)
}
