//! The `aws-chunked` content coding: chunks with signatures, or one unsigned stream with checksum trailers.
//!
//! Source: S3 API reference, "Transferring Payload in Multiple Chunks" (without and with trailing headers).
//!
//! ```text
//! body    = *chunk last-chunk [trailers] CRLF
//! chunk   = size [";chunk-signature=" 64HEX] CRLF data CRLF      ; size in hexadecimal
//! last    = "0" [";chunk-signature=" 64HEX] CRLF
//! trailers = 1*(name ":" value CRLF) ["x-amz-trailer-signature:" 64HEX CRLF]
//! ```
//!
//! A push parser: bytes in as they come, pieces of plaintext out. Of a signed chunk nothing comes out before its
//! signature holds, so such chunks are capped ([`SIGNED_CHUNK_MAX`]); unsigned ones pass straight through, since SDKs
//! send the whole payload as one.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};

use super::sigv4::ChunkSigner;
use crate::crypto::mac::{self, Sha256};

/// Most bytes in one signed chunk: what one client may make us hold.
pub const SIGNED_CHUNK_MAX: u64 = 16 << 20;
/// Most bytes in the line before a chunk.
const LINE_MAX: usize = 128;
/// Most bytes in all trailers.
const TRAILERS_MAX: usize = 4096;

/// Why a chunked body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The framing is broken, or the body ends early or goes on behind its end.
    #[error("the chunked body is malformed: {0}")]
    Malformed(&'static str),
    /// The chunks do not add up to the announced length.
    #[error("the chunks hold {got} bytes or more, announced were {expected}")]
    Length {
        /// `x-amz-decoded-content-length`.
        expected: u64,
        /// Bytes seen until it was clear.
        got: u64,
    },
    /// A signed chunk is too large to hold.
    #[error("a signed chunk has {size} bytes, allowed are {SIGNED_CHUNK_MAX}")]
    ChunkTooLarge {
        /// Its size.
        size: u64,
    },
    /// A chunk's or the trailers' signature is wrong.
    #[error("a chunk's signature does not match")]
    Signature,
}

#[derive(Debug)]
enum State {
    /// In the line before a chunk.
    Line,
    /// In a chunk's bytes.
    Data { left: u64, signature: Option<String> },
    /// In the CRLF behind a chunk: this many bytes of it to come.
    Break { left: u8 },
    /// Behind the last chunk.
    Tail,
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    signer: Option<ChunkSigner>,
    /// Names announced by `x-amz-trailer`, in lower case; none for a body without trailers.
    announced: Vec<String>,
    expected: u64,
    got: u64,
    state: State,
    /// The line or the tail so far.
    text: Vec<u8>,
    /// A signed chunk's bytes so far, and their hash.
    held: BytesMut,
    hash: Sha256,
}

impl Decoder {
    /// A decoder of a body of `expected` bytes of plaintext. With `signer` every chunk must be signed; with names in
    /// `announced` these trailers, and no others, must follow.
    pub fn new(signer: Option<ChunkSigner>, announced: Vec<String>, expected: u64) -> Self {
        Self {
            signer,
            announced,
            expected,
            got: 0,
            state: State::Line,
            text: Vec::new(),
            held: BytesMut::new(),
            hash: Sha256::new(),
        }
    }

    /// Takes bytes from the front of `input` until a piece of plaintext can be given out; `None` when `input` is used
    /// up. Call again until then.
    ///
    /// # Errors
    /// [`ChunkError`]; the decoder is of no use afterwards.
    pub fn push(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, ChunkError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Line => self.line(input)?,
                State::Data { left, signature } => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let piece = input.split_to(take);
                    *left = left.saturating_sub(take as u64);
                    let done = *left == 0;
                    let signature = if done { signature.take() } else { None };
                    if done {
                        self.state = State::Break { left: 2 };
                    }
                    if let Some(piece) = self.piece(piece, done, signature.as_deref())? {
                        return Ok(Some(piece));
                    }
                }
                State::Break { left } => {
                    let wanted = if *left == 2 { b'\r' } else { b'\n' };
                    if input.split_to(1).first() != Some(&wanted) {
                        return Err(ChunkError::Malformed("a chunk does not end where its size says"));
                    }
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.state = State::Line;
                    }
                }
                State::Tail => {
                    self.text.extend_from_slice(input);
                    input.clear();
                    let most = if self.announced.is_empty() { 2 } else { TRAILERS_MAX };
                    if self.text.len() > most {
                        return Err(ChunkError::Malformed("bytes follow its end"));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Ends the body and gives its trailers, names in lower case.
    ///
    /// # Errors
    /// The body is not complete, its length is another one, or its trailers are not those announced and signed.
    pub fn finish(mut self) -> Result<Vec<(String, String)>, ChunkError> {
        if !matches!(self.state, State::Tail) {
            return Err(ChunkError::Malformed("it ends early"));
        }
        if self.got != self.expected {
            return Err(ChunkError::Length { expected: self.expected, got: self.got });
        }
        let text = std::mem::take(&mut self.text);
        let text = std::str::from_utf8(&text).or(Err(ChunkError::Malformed("its trailers are no text")))?;
        if self.announced.is_empty() {
            return if matches!(text, "" | "\r\n") {
                Ok(Vec::new())
            } else {
                Err(ChunkError::Malformed("bytes follow its end"))
            };
        }
        let mut trailers: Vec<(String, String)> = Vec::new();
        let mut signature = None;
        // Clients end trailer lines with CRLF, LF, or LF CRLF.
        for line in text.split(['\r', '\n']).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(ChunkError::Malformed("a trailer has no value"))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            if signature.is_some() {
                return Err(ChunkError::Malformed("bytes follow its end"));
            } else if name == "x-amz-trailer-signature" && self.signer.is_some() {
                signature = Some(value);
            } else if self.announced.contains(&name) && trailers.iter().all(|(known, _)| *known != name) {
                trailers.push((name, value));
            } else {
                return Err(ChunkError::Malformed("a trailer was not announced by x-amz-trailer, or is given twice"));
            }
        }
        if trailers.len() != self.announced.len() {
            return Err(ChunkError::Malformed("an announced trailer is missing"));
        }
        if let Some(signer) = &mut self.signer {
            let mut canonical = String::new();
            for (name, value) in &trailers {
                canonical.extend([name.as_str(), ":", value.as_str(), "\n"]);
            }
            let signature = signature.ok_or(ChunkError::Signature)?;
            if !signer.accepts_trailers(&mac::sha256(canonical.as_bytes()), &signature) {
                return Err(ChunkError::Signature);
            }
        }
        Ok(trailers)
    }

    /// Reads on in the line before a chunk; at its end begins the chunk.
    fn line(&mut self, input: &mut Bytes) -> Result<(), ChunkError> {
        let end = memchr::memchr(b'\n', input);
        let part = input.split_to(end.map_or(input.len(), |at| at.saturating_add(1)));
        if self.text.len().saturating_add(part.len()) > LINE_MAX {
            return Err(ChunkError::Malformed("the line before a chunk is too long"));
        }
        self.text.extend_from_slice(&part);
        if end.is_none() {
            return Ok(());
        }
        let (size, signature) = parse_line(&self.text, self.signer.is_some())?;
        self.text.clear();
        if self.signer.is_some() && size > SIGNED_CHUNK_MAX {
            return Err(ChunkError::ChunkTooLarge { size });
        }
        self.got = self.got.saturating_add(size);
        if self.got > self.expected {
            return Err(ChunkError::Length { expected: self.expected, got: self.got });
        }
        if size > 0 {
            self.state = State::Data { left: size, signature };
            return Ok(());
        }
        self.state = State::Tail;
        self.piece(Bytes::new(), true, signature.as_deref()).map(drop)
    }

    /// Handles the next bytes of a chunk; gives out what may be given out now.
    fn piece(&mut self, piece: Bytes, done: bool, signature: Option<&str>) -> Result<Option<Bytes>, ChunkError> {
        let Some(signer) = &mut self.signer else { return Ok(Some(piece).filter(|piece| !piece.is_empty())) };
        self.hash.update(&piece);
        // Copied, not kept as slices: a client that sends single bytes would make each cost a whole read buffer.
        self.held.extend_from_slice(&piece);
        if !done {
            return Ok(None);
        }
        let hash = std::mem::take(&mut self.hash).finish();
        if !signature.is_some_and(|signature| signer.accepts(&hash, signature)) {
            return Err(ChunkError::Signature);
        }
        Ok(Some(self.held.split().freeze()).filter(|piece| !piece.is_empty()))
    }
}

/// Size and signature from `size[;chunk-signature=..]\r\n`.
fn parse_line(line: &[u8], signed: bool) -> Result<(u64, Option<String>), ChunkError> {
    let broken = ChunkError::Malformed("the line before a chunk is no size and signature");
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or(broken)?;
    let (size, signature) = match line.split_once(';') {
        None if signed => return Err(ChunkError::Signature),
        None => (line, None),
        Some((size, extension)) if signed => {
            (size, Some(extension.strip_prefix("chunk-signature=").ok_or(broken)?.to_owned()))
        }
        Some(_) => return Err(broken),
    };
    if size.is_empty() || size.len() > 16 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(broken);
    }
    Ok((u64::from_str_radix(size, 16).or(Err(broken))?, signature))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = (Vec<u8>, Vec<(String, String)>);

    /// Decodes `body` given in pieces of `step` bytes.
    fn decode(mut decoder: Decoder, body: &[u8], step: usize) -> Result<Decoded, ChunkError> {
        let mut out = Vec::new();
        for part in body.chunks(step.max(1)) {
            let mut part = Bytes::copy_from_slice(part);
            while let Some(piece) = decoder.push(&mut part)? {
                out.extend_from_slice(&piece);
            }
        }
        decoder.finish().map(|trailers| (out, trailers))
    }

    fn unsigned(announced: &[&str], expected: u64) -> Decoder {
        Decoder::new(None, announced.iter().map(ToString::to_string).collect(), expected)
    }

    #[test]
    fn an_unsigned_stream_gives_its_trailers() {
        let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Amz-Checksum-Crc32: hYfl+A==\r\n\r\n";
        for step in 1..body.len() {
            let (out, trailers) = decode(unsigned(&["x-amz-checksum-crc32"], 5), body, step).unwrap();
            assert_eq!(out, b"abcde");
            assert_eq!(trailers, [("x-amz-checksum-crc32".to_owned(), "hYfl+A==".to_owned())]);
        }
    }

    #[test]
    fn an_announced_trailer_must_come() {
        let body = b"1\r\na\r\n0\r\n\r\n";
        let error = decode(unsigned(&["x-amz-checksum-crc32"], 1), body, 9).unwrap_err();
        assert_eq!(error, ChunkError::Malformed("an announced trailer is missing"));
    }

    #[test]
    fn a_trailer_nobody_announced_is_refused() {
        for body in [
            "1\r\na\r\n0\r\nx-a:1\r\nx-b:2\r\n\r\n",
            "1\r\na\r\n0\r\nx-a:1\r\nx-a:1\r\n\r\n",
            "1\r\na\r\n0\r\nx-a:1\r\n\r\ngarbage",
        ] {
            assert!(decode(unsigned(&["x-a"], 1), body.as_bytes(), 7).is_err(), "{body}");
        }
    }

    #[test]
    fn garbage_behind_the_end_is_refused() {
        for body in ["1\r\na\r\n0\r\n\r\nX", "1\r\na\r\n0\r\n\n\n", "1\r\na\r\n0\r\nx:1\r\n"] {
            assert!(matches!(decode(unsigned(&[], 1), body.as_bytes(), 100), Err(ChunkError::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn the_announced_length_must_be_met() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(decode(unsigned(&[], 2), body, 4).unwrap_err(), ChunkError::Length { expected: 2, got: 3 });
        assert_eq!(decode(unsigned(&[], 4), body, 4).unwrap_err(), ChunkError::Length { expected: 4, got: 3 });
    }

    #[test]
    fn broken_framing_is_refused() {
        for body in [
            "",
            "3\r\nabc",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "-3\r\n",
            "+3\r\nabc\r\n",
            "\r\n",
            "3;x=1\r\nabc\r\n",
        ] {
            assert!(decode(unsigned(&[], 3), body.as_bytes(), 2).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_cut_anywhere_read_back(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6),
            step in 1usize..60,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let plain = chunks.concat();
            let (out, _) = decode(unsigned(&[], plain.len() as u64), &body, step).unwrap();
            prop_assert_eq!(out, plain);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(body in "[0-9a-f;:\r\nx=]{0,80}", step in 1usize..9, trailers: bool) {
            let announced: &[&str] = if trailers { &["x"] } else { &[] };
            let _ = decode(unsigned(announced, 5), body.as_bytes(), step);
        }
    }
}
