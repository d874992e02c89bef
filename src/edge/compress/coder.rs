//! The compressors themselves, kept for the next answer, and the body they stand in.
//!
//! gzip (RFC 1952) is DEFLATE in a frame written here, so that its state, which is the expensive part, can be used again;
//! zstd (RFC 8878) is reset by its library; brotli's (RFC 7932) cannot be used again.

use std::fmt;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation as _, OutBuffer};

use crate::http::Body;

/// Answers that one worker compresses at once; each takes up to a mebibyte.
pub const MOST_AT_ONCE: usize = 128;
/// States of each kind kept for the next answers.
const KEPT: usize = 16;
/// Bytes compressed before anybody else has a turn.
const PIECE: usize = 64 << 10;
/// Bytes of room that the compressors write into at a time.
const ROOM: usize = 16 << 10;
/// Levels at which each is about as fast as gzip's usual one; windows that bound memory.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW: u32 = 18;
const BROTLI_LEVEL: u32 = 4;
const BROTLI_WINDOW: u32 = 18;
/// The frame's head: DEFLATE, no name, no time, unknown system (RFC 1952 section 2.3).
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The codings, the best one last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The coding of that name (IANA's registry of content codings).
    pub fn named(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("br") {
            Some(Self::Brotli)
        } else {
            is("zstd").then_some(Self::Zstd)
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// The states at rest, and how many are at work.
#[derive(Default)]
pub struct Pool {
    gzip: Mutex<Vec<Compress>>,
    zstd: Mutex<Vec<Zstd<'static>>>,
    at_work: AtomicUsize,
}

/// A compressor at work. Dropped, its state goes back.
pub struct Coder {
    pool: Arc<Pool>,
    state: State,
}

enum State {
    Gzip { deflate: Compress, sum: Crc, begun: bool },
    Zstd(Zstd<'static>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Ended,
}

impl Pool {
    /// A compressor for one answer; `None` when too many are at work.
    pub fn take(self: &Arc<Self>, coding: Coding) -> Option<Coder> {
        let more = |at_work: usize| (at_work < MOST_AT_ONCE).then_some(at_work.saturating_add(1));
        self.at_work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let mut coder = Coder { pool: Arc::clone(self), state: State::Ended };
        coder.state = match coding {
            Coding::Gzip => {
                let kept = lock(&self.gzip).pop();
                let deflate = kept.unwrap_or_else(|| Compress::new(Compression::new(GZIP_LEVEL), false));
                State::Gzip { deflate, sum: Crc::new(), begun: false }
            }
            Coding::Zstd => {
                let kept = lock(&self.zstd).pop();
                State::Zstd(kept.or_else(|| new_zstd().ok())?)
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), ROOM, BROTLI_LEVEL, BROTLI_WINDOW);
                State::Brotli(Box::new(writer))
            }
        };
        Some(coder)
    }
}

fn new_zstd() -> io::Result<Zstd<'static>> {
    let mut encoder = Zstd::new(ZSTD_LEVEL)?;
    encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
    Ok(encoder)
}

fn lock<T>(kept: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Coder {
    fn drop(&mut self) {
        self.pool.at_work.fetch_sub(1, Ordering::Relaxed);
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Gzip { mut deflate, .. } => {
                deflate.reset();
                keep(&self.pool.gzip, deflate);
            }
            State::Zstd(mut encoder) => {
                if encoder.reinit().is_ok() {
                    keep(&self.pool.zstd, encoder);
                }
            }
            State::Brotli(_) | State::Ended => {}
        }
    }
}

fn keep<T>(kept: &Mutex<Vec<T>>, state: T) {
    let mut kept = lock(kept);
    if kept.len() < KEPT {
        kept.push(state);
    }
}

impl Coder {
    /// Takes `input` in; what comes out of it already is added to `out`.
    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.state {
            State::Gzip { deflate, sum, begun } => {
                if !std::mem::replace(begun, true) {
                    out.extend_from_slice(&GZIP_HEAD);
                }
                sum.update(input);
                run(deflate, input, out, FlushCompress::None)
            }
            State::Zstd(encoder) => {
                let mut input = InBuffer::around(input);
                while input.pos() < input.src.len() {
                    step(out, |room| encoder.run(&mut input, room))?;
                }
                Ok(())
            }
            State::Brotli(writer) => {
                writer.write_all(input)?;
                out.append(writer.get_mut());
                Ok(())
            }
            State::Ended => Err(ended()),
        }
    }

    /// Adds to `out` whatever has been taken in so far.
    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.state {
            State::Gzip { deflate, .. } => run(deflate, &[], out, FlushCompress::Sync),
            State::Zstd(encoder) => {
                while step(out, |room| encoder.flush(room))? > 0 {}
                Ok(())
            }
            State::Brotli(writer) => {
                writer.flush()?;
                out.append(writer.get_mut());
                Ok(())
            }
            State::Ended => Err(ended()),
        }
    }

    /// Adds the end to `out`.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match &mut self.state {
            State::Gzip { deflate, sum, begun } => {
                if !std::mem::replace(begun, true) {
                    out.extend_from_slice(&GZIP_HEAD);
                }
                run(deflate, &[], out, FlushCompress::Finish)?;
                out.extend_from_slice(&sum.sum().to_le_bytes());
                out.extend_from_slice(&sum.amount().to_le_bytes());
                Ok(())
            }
            State::Zstd(encoder) => {
                while step(out, |room| encoder.finish(room, true))? > 0 {}
                Ok(())
            }
            State::Brotli(_) => {
                if let State::Brotli(writer) = std::mem::replace(&mut self.state, State::Ended) {
                    out.append(&mut writer.into_inner());
                }
                Ok(())
            }
            State::Ended => Err(ended()),
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the compressor has ended")
}

/// Lets DEFLATE take all of `input`, and with a flush write everything it holds.
fn run(deflate: &mut Compress, mut input: &[u8], out: &mut Vec<u8>, flush: FlushCompress) -> io::Result<()> {
    loop {
        out.reserve(ROOM);
        let before = deflate.total_in();
        let status = deflate.compress_vec(input, out, flush).map_err(io::Error::other)?;
        let taken = usize::try_from(deflate.total_in().saturating_sub(before)).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        // With room left it has nothing more to write.
        if status == Status::StreamEnd
            || (input.is_empty() && out.len() < out.capacity() && flush != FlushCompress::Finish)
        {
            return Ok(());
        }
    }
}

/// One step of zstd into fresh room at the end of `out`.
fn step(out: &mut Vec<u8>, work: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>) -> io::Result<usize> {
    out.reserve(ROOM);
    let at = out.len();
    work(&mut OutBuffer::around_pos(out, at))
}

/// A body on its way through a compressor.
#[derive(Debug)]
pub struct Compressed {
    inner: Body,
    coder: Option<Coder>,
    /// Taken from `inner`, not yet compressed.
    input: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the body comes as its sender makes it, so that a pause must not hold anything back.
    streamed: bool,
    /// Whether the compressor holds what has not come out.
    holds: bool,
}

impl Compressed {
    /// `inner` through `coder`.
    pub fn new(inner: Body, coder: Coder, streamed: bool) -> Self {
        let input = Bytes::new();
        Self { inner, coder: Some(coder), input, trailers: None, streamed, holds: false }
    }

    fn work(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut out = Vec::new();
        loop {
            let Some(coder) = &mut self.coder else {
                return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
            };
            if !self.input.is_empty() {
                let piece = self.input.split_to(self.input.len().min(PIECE));
                coder.write(&piece, &mut out).map_err(axum::Error::new)?;
                self.holds = true;
                if !out.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
                }
                continue;
            }
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Pending if self.streamed && std::mem::take(&mut self.holds) => {
                    coder.flush(&mut out).map_err(axum::Error::new)?;
                    if out.is_empty() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
                }
                pending_or_not => match ready!(pending_or_not) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.input = data,
                        Err(other) => self.trailers = other.into_trailers().ok(),
                    },
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {
                        coder.finish(&mut out).map_err(axum::Error::new)?;
                        self.coder = None;
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
                    }
                },
            }
        }
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = self.work(context);
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            // Nothing comes after an error, so that a cut answer is not taken for a whole one.
            self.coder = None;
            self.trailers = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.coder.is_none() && self.trailers.is_none()
    }
}

impl fmt::Debug for Coder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coder")
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("at_work", &self.at_work).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli_decompressor::Decompressor::new(bytes, 4096).read_to_end(&mut out),
            Coding::Zstd => {
                ruzstd::decoding::StreamingDecoder::new(bytes).map_err(io::Error::other).unwrap().read_to_end(&mut out)
            }
        }
        .unwrap();
        out
    }

    #[test]
    fn a_state_used_again_remembers_nothing() {
        let pool = Arc::new(Pool::default());
        for coding in ALL {
            // The first one is given up half-way.
            let mut coder = pool.take(coding).unwrap();
            coder.write(b"secret of somebody else", &mut Vec::new()).unwrap();
            drop(coder);
            for text in [&b"hello hello hello"[..], b""] {
                let mut out = Vec::new();
                let mut coder = pool.take(coding).unwrap();
                coder.write(text, &mut out).unwrap();
                coder.finish(&mut out).unwrap();
                assert_eq!(plain(coding, &out), text, "{coding:?}");
            }
        }
        assert_eq!(pool.at_work.load(Ordering::Relaxed), 0);
        assert_eq!((lock(&pool.gzip).len(), lock(&pool.zstd).len()), (1, 1));
    }

    #[test]
    fn past_the_most_at_once_there_is_none() {
        let pool = Arc::new(Pool::default());
        let taken: Vec<_> = (0..MOST_AT_ONCE).map(|_| pool.take(Coding::Gzip).unwrap()).collect();
        assert!(pool.take(Coding::Zstd).is_none());
        drop(taken);
        assert!(pool.take(Coding::Zstd).is_some());
        assert_eq!(lock(&pool.gzip).len(), KEPT);
    }

    #[test]
    fn a_flush_brings_out_what_went_in() {
        let pool = Arc::new(Pool::default());
        for coding in ALL {
            let (mut out, mut coder) = (Vec::new(), pool.take(coding).unwrap());
            coder.write(b"first line\n", &mut out).unwrap();
            coder.flush(&mut out).unwrap();
            let mut seen = [0; 11];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&out[..]).read_exact(&mut seen),
                Coding::Brotli => brotli_decompressor::Decompressor::new(&out[..], 4096).read_exact(&mut seen),
                Coding::Zstd => zstd::stream::read::Decoder::new(&out[..]).unwrap().read_exact(&mut seen),
            }
            .unwrap();
            assert_eq!(&seen, b"first line\n", "{coding:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        /// Whatever goes in, in whatever pieces and with whatever flushes, comes out again.
        #[test]
        fn what_went_in_comes_out(
            pieces in proptest::collection::vec((proptest::collection::vec(0..4_u8, 0..40_000), proptest::bool::ANY), 0..6),
        ) {
            let pool = Arc::new(Pool::default());
            for coding in ALL {
                let (mut out, mut coder) = (Vec::new(), pool.take(coding).unwrap());
                for (piece, flush) in &pieces {
                    coder.write(piece, &mut out).unwrap();
                    if *flush {
                        coder.flush(&mut out).unwrap();
                    }
                }
                coder.finish(&mut out).unwrap();
                let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.iter().copied()).collect();
                proptest::prop_assert!(plain(coding, &out) == whole, "{:?}", coding);
            }
        }
    }
}
