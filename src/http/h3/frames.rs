//! The frames of a stream that carries a request (RFC 9114 section 7).

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::code::{Code, Fault};

/// DATA.
pub const DATA: u64 = 0x00;
/// HEADERS.
pub const HEADERS: u64 = 0x01;
/// SETTINGS.
pub const SETTINGS: u64 = 0x04;
/// GOAWAY.
pub const GOAWAY: u64 = 0x07;

/// Frames that have no place on a request's stream: `CANCEL_PUSH`, SETTINGS, `PUSH_PROMISE`, GOAWAY and `MAX_PUSH_ID`, and those of
/// HTTP/2 that there are no more (section 7.2.8).
const MISPLACED: [u64; 9] = [0x03, 0x04, 0x05, 0x07, 0x0d, 0x02, 0x06, 0x08, 0x09];

/// A piece of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// An encoded field section: the head or the trailers.
    Section(Bytes),
    /// A field section that is too large to be read; only its frame's beginning was.
    TooLarge,
    /// A part of the body.
    Data(Bytes),
}

/// Where a stream is among its frames.
#[derive(Debug)]
pub struct Frames {
    /// Largest encoded field section taken.
    most: usize,
    /// Bytes of the body left in the current frame.
    data: u64,
    /// Bytes left of a frame that is skipped.
    skip: u64,
}

impl Frames {
    /// A stream's beginning; a field section may have `most` bytes.
    pub const fn new(most: usize) -> Self {
        Self { most, data: 0, skip: 0 }
    }

    /// Takes the next piece out of `buffer`; `None` when it is not all there. Then `buffer` holds at most a field section and
    /// the beginning of a frame, whatever lengths are announced.
    ///
    /// # Errors
    /// A frame that may not be here.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Fault> {
        loop {
            if self.skip > 0 {
                let now = buffer.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                buffer.advance(now);
                self.skip = self.skip.saturating_sub(now as u64);
                if self.skip > 0 {
                    return Ok(None);
                }
            }
            if self.data > 0 {
                let now = buffer.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
                self.data = self.data.saturating_sub(now as u64);
                return Ok((now > 0).then(|| Piece::Data(buffer.split_to(now).freeze())));
            }
            let mut rest: &[u8] = buffer;
            let (Some(kind), Some(length)) = (number(&mut rest), number(&mut rest)) else { return Ok(None) };
            let beginning = buffer.len().saturating_sub(rest.len());
            match kind {
                DATA => {
                    buffer.advance(beginning);
                    self.data = length;
                }
                HEADERS => {
                    let Some(length) = usize::try_from(length).ok().filter(|length| *length <= self.most) else {
                        buffer.advance(beginning);
                        self.skip = length;
                        return Ok(Some(Piece::TooLarge));
                    };
                    if rest.len() < length {
                        return Ok(None);
                    }
                    buffer.advance(beginning);
                    return Ok(Some(Piece::Section(buffer.split_to(length).freeze())));
                }
                misplaced if MISPLACED.contains(&misplaced) => {
                    return Err(Fault::Connection(Code::FRAME_UNEXPECTED));
                }
                _ => {
                    buffer.advance(beginning);
                    self.skip = length;
                }
            }
        }
    }

    /// Whether the stream may end here, with `buffer` unread: not in the middle of a frame.
    pub fn may_end(&self, buffer: &[u8]) -> bool {
        self.data == 0 && self.skip == 0 && buffer.is_empty()
    }
}

/// Takes a number of variable length (RFC 9000 section 16) from the front of `bytes`; `None` when it is not all there.
pub fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let more = (1_usize << (first >> 6)).saturating_sub(1);
    let (tail, rest) = rest.split_at_checked(more)?;
    *bytes = rest;
    Some(tail.iter().fold(u64::from(first & 0x3f), |sum, byte| (sum << 8) | u64::from(*byte)))
}

/// Writes `number`, of which the two highest bits are not set, in its shortest form.
pub fn put_number(out: &mut BytesMut, number: u64) {
    match number {
        0..=0x3f => out.put_u8(number as u8),
        0x40..=0x3fff => out.put_u16(0x4000 | number as u16),
        0x4000..=0x3fff_ffff => out.put_u32(0x8000_0000 | number as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | number),
    }
}

/// A whole frame.
pub fn frame(kind: u64, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len().saturating_add(16));
    put_number(&mut out, kind);
    put_number(&mut out, payload.len() as u64);
    out.put_slice(payload);
    out.freeze()
}

/// The beginning of a frame whose payload has `length` bytes.
pub fn beginning(kind: u64, length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    put_number(&mut out, kind);
    put_number(&mut out, length as u64);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(frames: &mut Frames, bytes: &[u8]) -> Vec<Piece> {
        let mut buffer = BytesMut::from(bytes);
        std::iter::from_fn(|| frames.next(&mut buffer).unwrap()).collect()
    }

    #[test]
    fn a_message_comes_apart_into_its_pieces() {
        let bytes = [frame(HEADERS, b"head"), frame(0x21, b"unknown"), frame(DATA, b"body"), frame(HEADERS, b"end")];
        let pieces = all(&mut Frames::new(100), &bytes.concat());
        let section = |text: &'static str| Piece::Section(Bytes::from_static(text.as_bytes()));
        assert_eq!(pieces, [section("head"), Piece::Data(Bytes::from_static(b"body")), section("end")]);
    }

    #[test]
    fn what_announces_a_great_length_is_never_kept() {
        let mut frames = Frames::new(10);
        let mut buffer = BytesMut::new();
        put_number(&mut buffer, HEADERS);
        put_number(&mut buffer, 1 << 40);
        assert_eq!(frames.next(&mut buffer), Ok(Some(Piece::TooLarge)));
        for _ in 0..10 {
            buffer.extend_from_slice(&[0; 1000]);
            assert_eq!(frames.next(&mut buffer), Ok(None));
            assert!(buffer.is_empty());
        }
        assert!(!frames.may_end(&buffer));
    }

    #[test]
    fn a_stream_may_not_end_within_a_frame() {
        let mut frames = Frames::new(10);
        let whole = frame(DATA, b"body");
        let mut buffer = BytesMut::from(&whole[..4]);
        assert!(matches!(frames.next(&mut buffer), Ok(Some(Piece::Data(_)))));
        assert!(buffer.is_empty() && !frames.may_end(&buffer));
        buffer.extend_from_slice(&whole[4..]);
        assert!(matches!(frames.next(&mut buffer), Ok(Some(Piece::Data(_)))));
        assert!(frames.may_end(&buffer));
        assert!(!frames.may_end(&[0x01]));
    }

    #[test]
    fn frames_of_other_streams_end_the_connection() {
        for kind in MISPLACED {
            let mut buffer = BytesMut::from(&frame(kind, b"")[..]);
            assert_eq!(Frames::new(10).next(&mut buffer), Err(Fault::Connection(Code::FRAME_UNEXPECTED)));
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(wanted in 0_u64..1 << 62) {
            let mut out = BytesMut::new();
            put_number(&mut out, wanted);
            let mut rest = &out[..];
            prop_assert_eq!(number(&mut rest), Some(wanted));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_panic_and_the_cut_does_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
            let joined = |parts: &[&[u8]]| {
                let (mut frames, mut buffer, mut out) = (Frames::new(50), BytesMut::new(), Vec::new());
                for part in parts {
                    buffer.extend_from_slice(part);
                    loop {
                        match frames.next(&mut buffer) {
                            Ok(None) => break,
                            Ok(Some(Piece::Data(data))) => out.extend_from_slice(&data),
                            Ok(Some(Piece::Section(section))) => out.extend([b"<", &section[..], b">"].concat()),
                            Ok(Some(Piece::TooLarge)) => out.push(b'!'),
                            Err(_) => return (out, true),
                        }
                    }
                }
                (out, false)
            };
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(joined(&[&bytes]), joined(&[first, second]));
        }
    }
}
