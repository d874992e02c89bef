//! The client's streams that carry no request (RFC 9114 section 6.2): one for control, two of QPACK's, and unknown ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes, BytesMut};
use quinn::{Connection, RecvStream};

use super::code::Code;
use super::frames::{self, number};

const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const ENCODER: u64 = 0x02;
const DECODER: u64 = 0x03;
/// `CANCEL_PUSH` and `MAX_PUSH_ID`. Nothing is pushed here, so both say nothing.
const ABOUT_PUSH: [u64; 2] = [0x03, 0x0d];
/// DATA, HEADERS, `PUSH_PROMISE`, and what there was in HTTP/2.
const MISPLACED: [u64; 7] = [0x00, 0x01, 0x05, 0x02, 0x06, 0x08, 0x09];
/// Settings of HTTP/2 (section 7.2.4.1).
const RESERVED_SETTINGS: [u64; 5] = [0x00, 0x02, 0x03, 0x04, 0x05];
/// `SETTINGS_MAX_FIELD_SECTION_SIZE`.
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
/// Largest frame of control that is read.
const LARGEST: u64 = 4096;
/// Bytes read at once.
const STEP: usize = 1024;
/// The dynamic table is to have room for 0 bytes (RFC 9204 section 4.3.1), which it has.
const NO_TABLE: u8 = 0x20;

/// Which streams that may be there once have come.
#[derive(Debug, Default)]
pub struct Seen {
    control: AtomicBool,
    encoder: AtomicBool,
    decoder: AtomicBool,
}

/// What this server sends first on its own control stream: the stream's type, and that a head may have `most` bytes.
pub fn greeting(most: usize) -> Bytes {
    let mut settings = BytesMut::new();
    frames::put_number(&mut settings, MAX_FIELD_SECTION_SIZE);
    frames::put_number(&mut settings, most as u64);
    let mut out = BytesMut::new();
    frames::put_number(&mut out, CONTROL);
    out.extend_from_slice(&frames::frame(frames::SETTINGS, &settings));
    out.freeze()
}

/// The frame that says that requests from the stream `first` on are not answered (section 5.2).
pub fn goaway(first: u64) -> Bytes {
    let mut payload = BytesMut::new();
    frames::put_number(&mut payload, first);
    frames::frame(frames::GOAWAY, &payload)
}

/// Reads `stream` to its end. What breaks the protocol closes `connection`.
pub async fn read(connection: Connection, stream: RecvStream, seen: Arc<Seen>) {
    let mut reader = Reader { stream, buffer: BytesMut::new() };
    let Some(kind) = reader.number().await else { return };
    let outcome = match kind {
        CONTROL if !seen.control.swap(true, Ordering::Relaxed) => reader.control().await,
        ENCODER if !seen.encoder.swap(true, Ordering::Relaxed) => reader.discard(Some(NO_TABLE)).await,
        DECODER if !seen.decoder.swap(true, Ordering::Relaxed) => reader.discard(None).await,
        CONTROL | ENCODER | DECODER | PUSH => Code::STREAM_CREATION_ERROR,
        _ => {
            let _ = reader.stream.stop(Code::STREAM_CREATION_ERROR.number());
            return;
        }
    };
    connection.close(outcome.number(), b"");
}

struct Reader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Reader {
    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        match self.stream.read_chunk(STEP, true).await {
            Ok(Some(chunk)) => {
                self.buffer.extend_from_slice(&chunk.bytes);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    async fn number(&mut self) -> Option<u64> {
        loop {
            let mut rest: &[u8] = &self.buffer;
            if let Some(found) = number(&mut rest) {
                let read = self.buffer.len().saturating_sub(rest.len());
                self.buffer.advance(read);
                return Some(found);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next `length` bytes, of which there are at most [`LARGEST`].
    async fn payload(&mut self, length: usize) -> Option<Bytes> {
        while self.buffer.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.split_to(length).freeze())
    }

    async fn skip(&mut self, mut length: u64) -> Option<()> {
        while length > 0 {
            if self.buffer.is_empty() && !self.more().await {
                return None;
            }
            let now = self.buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            self.buffer.advance(now);
            length = length.saturating_sub(now as u64);
        }
        Some(())
    }

    /// Reads frames for as long as they are in order; how it ends.
    async fn control(&mut self) -> Code {
        let mut begun = false;
        loop {
            let (Some(kind), Some(length)) = (self.number().await, self.number().await) else {
                return Code::CLOSED_CRITICAL_STREAM;
            };
            let is_settings = kind == frames::SETTINGS;
            if !begun && !is_settings {
                return Code::MISSING_SETTINGS;
            }
            if MISPLACED.contains(&kind) || (begun && is_settings) {
                return Code::FRAME_UNEXPECTED;
            }
            if is_settings || kind == frames::GOAWAY || ABOUT_PUSH.contains(&kind) {
                if length > LARGEST {
                    return Code::EXCESSIVE_LOAD;
                }
                let Some(payload) = self.payload(usize::try_from(length).unwrap_or(usize::MAX)).await else {
                    return Code::CLOSED_CRITICAL_STREAM;
                };
                if is_settings && let Err(code) = settings(&payload) {
                    return code;
                }
            } else if self.skip(length).await.is_none() {
                return Code::CLOSED_CRITICAL_STREAM;
            }
            begun = true;
        }
    }

    /// Reads to the end, which must not come; where bytes are to be `only` one, to the first other.
    async fn discard(&mut self, only: Option<u8>) -> Code {
        loop {
            if only.is_some_and(|only| self.buffer.iter().any(|byte| *byte != only)) {
                return Code::ENCODER_STREAM_ERROR;
            }
            self.buffer.clear();
            if !self.more().await {
                return Code::CLOSED_CRITICAL_STREAM;
            }
        }
    }
}

/// Checks the client's settings. None of them matters here: what is sent is as small as it is.
///
/// # Errors
/// They break off, name one twice, or one of HTTP/2.
fn settings(payload: &[u8]) -> Result<(), Code> {
    let mut rest = payload;
    let mut named = Vec::new();
    while !rest.is_empty() {
        let (Some(name), Some(_)) = (number(&mut rest), number(&mut rest)) else { return Err(Code::FRAME_ERROR) };
        if RESERVED_SETTINGS.contains(&name) || named.contains(&name) {
            return Err(Code::SETTINGS_ERROR);
        }
        // A client that has more settings than anybody has made up is searched for no longer.
        if named.len() >= 64 {
            return Err(Code::EXCESSIVE_LOAD);
        }
        named.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_pairs_without_repetition_and_none_of_http_2() {
        assert_eq!(settings(&[]), Ok(()));
        assert_eq!(settings(&[0x06, 0x10, 0x01, 0x00, 0x07, 0x40, 0x64]), Ok(()));
        assert_eq!(settings(&[0x06]), Err(Code::FRAME_ERROR));
        assert_eq!(settings(&[0x06, 0x40]), Err(Code::FRAME_ERROR));
        assert_eq!(settings(&[0x06, 0x10, 0x06, 0x10]), Err(Code::SETTINGS_ERROR));
        assert_eq!(settings(&[0x03, 0x10]), Err(Code::SETTINGS_ERROR));
        let many: Vec<u8> = (0x40_u8..0xc0).flat_map(|low| [0x41, low, 0x00]).collect();
        assert_eq!(settings(&many), Err(Code::EXCESSIVE_LOAD));
    }

    #[test]
    fn the_greeting_is_a_control_stream_with_settings() {
        assert_eq!(&greeting(16384)[..], [0x00, 0x04, 0x05, 0x06, 0x80, 0x00, 0x40, 0x00]);
        assert_eq!(&goaway(8)[..], [0x07, 0x01, 0x08]);
    }
}
