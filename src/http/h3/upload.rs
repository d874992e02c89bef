//! The body of a request, read from its stream as it is wanted.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use quinn::{Connection, RecvStream};

use super::code::{Code, Fault};
use super::frames::{Frames, Piece};
use super::head;
use super::qpack::{self, Limits};

/// Bytes read at once.
const STEP: usize = 16 << 10;

/// Why nothing more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What came breaks the protocol.
    Fault(Fault),
    /// The client has taken the request back, or is gone.
    Gone,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Trailed,
    Over,
}

/// A request's stream, which who answers ends when nothing more of it is wanted.
#[derive(Debug)]
struct Source {
    stream: RecvStream,
    /// Who waits for more.
    waiting: Option<Waker>,
    /// Whether it was ended here. What had come by then is no whole message.
    ended: bool,
}

/// Ends a request that has its answer.
#[derive(Debug)]
pub struct Ending(Arc<Mutex<Source>>);

impl Ending {
    /// Tells the client to send no more, and whoever passes the body on that there is no more to come. RFC 9114 section 4.1: that
    /// is no error.
    pub fn end(&self) {
        let mut source = locked(&self.0);
        if !std::mem::replace(&mut source.ended, true) {
            let _ = source.stream.stop(Code::NO_ERROR.number());
        }
        if let Some(waiting) = source.waiting.take() {
            waiting.wake();
        }
    }
}

fn locked(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request's stream: its head, then its body. Dropped before its end, the client is told to send no more of it.
#[derive(Debug)]
pub struct Upload {
    connection: Connection,
    source: Arc<Mutex<Source>>,
    buffer: BytesMut,
    frames: Frames,
    limits: Limits,
    stage: Stage,
    /// What was read before it was wanted.
    waiting: Option<Piece>,
    declared: Option<u64>,
    received: u64,
    fault: Arc<OnceLock<Fault>>,
}

impl Upload {
    /// What `stream` of `connection` brings.
    pub fn new(connection: Connection, stream: RecvStream, limits: Limits) -> Self {
        Self {
            connection,
            source: Arc::new(Mutex::new(Source { stream, waiting: None, ended: false })),
            buffer: BytesMut::new(),
            frames: Frames::new(limits.bytes),
            limits,
            stage: Stage::Head,
            waiting: None,
            declared: None,
            received: 0,
            fault: Arc::default(),
        }
    }

    /// The encoded head; `None` when it is larger than the limits.
    ///
    /// # Errors
    /// [`Cut`]
    ///
    /// # Cancel safety
    /// It can be called again.
    pub async fn head(&mut self) -> Result<Option<Bytes>, Cut> {
        let piece = std::future::poll_fn(|context| self.poll_piece(context)).await?;
        self.stage = Stage::Body;
        match piece {
            Some(Piece::Section(section)) => Ok(Some(section)),
            Some(Piece::TooLarge) => Ok(None),
            Some(Piece::Data(_)) => Err(Cut::Fault(Fault::Connection(Code::FRAME_UNEXPECTED))),
            None => Err(Cut::Fault(Fault::Stream(Code::REQUEST_INCOMPLETE))),
        }
    }

    /// The head declares a body of that length.
    pub const fn declare(&mut self, length: Option<u64>) {
        self.declared = length;
    }

    /// Looks whether the message is over with its head, as most are, without waiting.
    pub fn look(&mut self, context: &mut Context<'_>) {
        match self.poll_piece(context) {
            Poll::Ready(Ok(None)) if self.declared.is_none_or(|length| length == 0) => self.stage = Stage::Over,
            Poll::Ready(Ok(piece)) => self.waiting = piece,
            // What is wrong is found again when the body is read.
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
    }

    /// What turns out to be wrong with the body, so that the answer can be withheld.
    pub fn fault(&self) -> Arc<OnceLock<Fault>> {
        Arc::clone(&self.fault)
    }

    /// What ends the request before the client does.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.source))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Piece>, Cut>> {
        loop {
            if let Some(piece) = self.frames.next(&mut self.buffer).map_err(Cut::Fault)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            let mut source = locked(&self.source);
            if source.ended {
                return Poll::Ready(Err(Cut::Gone));
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled.saturating_add(STEP), 0);
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let outcome = source.stream.poll_read(context, room);
            source.waiting = outcome.is_pending().then(|| context.waker().clone());
            drop(source);
            let read = if let Poll::Ready(Ok(read)) = &outcome { *read } else { 0 };
            self.buffer.truncate(filled.saturating_add(read));
            match ready!(outcome) {
                Ok(0) if self.frames.may_end(&self.buffer) => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(Cut::Fault(Fault::Connection(Code::FRAME_ERROR)))),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(Cut::Gone)),
            }
        }
    }

    fn failed(&mut self, fault: Fault) -> io::Error {
        let _ = self.fault.set(fault);
        match fault {
            Fault::Stream(code) => {
                let _ = locked(&self.source).stream.stop(code.number());
            }
            Fault::Connection(code) => self.connection.close(code.number(), b""),
        }
        self.stage = Stage::Over;
        io::Error::new(io::ErrorKind::InvalidData, "the request's body breaks the protocol")
    }

    fn is_whole(&self) -> bool {
        self.declared.is_none_or(|length| length == self.received)
    }

    fn frame(&mut self, piece: Result<Option<Piece>, Cut>) -> Result<Option<Frame<Bytes>>, io::Error> {
        let malformed = Fault::Stream(Code::MESSAGE_ERROR);
        match piece {
            Ok(Some(Piece::Data(data))) if self.stage == Stage::Body => {
                self.received = self.received.saturating_add(data.len() as u64);
                if self.declared.is_some_and(|length| self.received > length) {
                    return Err(self.failed(malformed));
                }
                Ok(Some(Frame::data(data)))
            }
            Ok(Some(Piece::Section(section))) if self.stage == Stage::Body => {
                let fields = match qpack::decode(&section, self.limits) {
                    Ok(fields) => fields,
                    Err(qpack::Unreadable::TooLarge) => return Err(self.failed(Fault::Stream(Code::EXCESSIVE_LOAD))),
                    Err(qpack::Unreadable::Broken) => {
                        return Err(self.failed(Fault::Connection(Code::DECOMPRESSION_FAILED)));
                    }
                };
                match head::trailers(fields) {
                    Ok(trailers) if self.is_whole() => {
                        self.stage = Stage::Trailed;
                        Ok(Some(Frame::trailers(trailers)))
                    }
                    _ => Err(self.failed(malformed)),
                }
            }
            Ok(Some(Piece::TooLarge)) if self.stage == Stage::Body => {
                Err(self.failed(Fault::Stream(Code::EXCESSIVE_LOAD)))
            }
            Ok(Some(_)) => Err(self.failed(Fault::Connection(Code::FRAME_UNEXPECTED))),
            Ok(None) if self.is_whole() => {
                self.stage = Stage::Over;
                Ok(None)
            }
            Ok(None) => Err(self.failed(malformed)),
            Err(Cut::Fault(fault)) => Err(self.failed(fault)),
            Err(Cut::Gone) => {
                self.stage = Stage::Over;
                Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client took the request back"))
            }
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.stage == Stage::Over {
            return Poll::Ready(None);
        }
        let piece = match self.waiting.take() {
            Some(piece) => Ok(Some(piece)),
            None => ready!(self.poll_piece(context)),
        };
        Poll::Ready(self.frame(piece).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Over
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared {
            _ if self.stage == Stage::Over => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.received)),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            self.ending().end();
        }
    }
}
