//! The end of a message (RFC 5321, 4.1.1.4 and 4.5.2).
//!
//! A message ends at CR LF dot CR LF; a dot added in front of a line that starts with one is taken away. A CR without
//! LF or an LF without CR is no line end: some servers take it for one, others do not, and between two such servers a
//! second message can hide in the first (CVE-2023-51764). So it is an error here.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// Where in the text the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    Start,
    /// Within a line.
    Line,
    /// Behind a CR within a line.
    Return,
    /// Behind a dot at the start of a line.
    Dot,
    /// Behind a dot at the start of a line and a CR.
    DotReturn,
}

/// What [`DataReceiver::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The message goes on.
    More,
    /// It ended after that many of the given bytes.
    End(usize),
    /// A CR or LF stands alone.
    LoneLineEnd,
}

/// Collects a message up to its end.
#[derive(Debug)]
pub struct DataReceiver {
    at: At,
    text: Vec<u8>,
    most: usize,
    dropped: bool,
}

impl DataReceiver {
    /// A receiver that keeps up to `most` bytes; of a longer message it only waits for the end.
    pub const fn new(most: usize) -> Self {
        Self { at: At::Start, text: Vec::new(), most, dropped: false }
    }

    /// Takes the next `bytes` in.
    pub fn receive(&mut self, bytes: &[u8]) -> Received {
        for (place, &byte) in bytes.iter().enumerate() {
            self.at = match (self.at, byte) {
                (At::Start, b'.') => At::Dot,
                (At::Start | At::Line, b'\r') => At::Return,
                (At::Dot, b'\r') => At::DotReturn,
                (At::Return, b'\n') => {
                    self.keep(b"\r\n");
                    At::Start
                }
                (At::DotReturn, b'\n') => return Received::End(place.saturating_add(1)),
                (At::Return | At::DotReturn, _) | (_, b'\n') => return Received::LoneLineEnd,
                (_, byte) => {
                    self.keep(&[byte]);
                    At::Line
                }
            };
        }
        Received::More
    }

    /// Bytes held.
    pub const fn held(&self) -> usize {
        self.text.len()
    }

    /// Holds nothing any more, and only waits for the end.
    pub fn give_up(&mut self) {
        self.dropped = true;
        self.text = Vec::new();
    }

    /// The message; `None` when it was too long.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.dropped).then_some(self.text)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.dropped || self.text.len().saturating_add(bytes.len()) > self.most {
            self.give_up();
        } else {
            self.text.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receive(bytes: &[u8]) -> (Received, Option<Vec<u8>>) {
        let mut receiver = DataReceiver::new(1000);
        let received = receiver.receive(bytes);
        (received, receiver.finish())
    }

    #[test]
    fn a_message_ends_at_its_dot_and_loses_the_added_ones() {
        let (received, text) = receive(b"a\r\n..b\r\n.c\r\n.\r\nQUIT\r\n");
        assert_eq!(received, Received::End(15));
        assert_eq!(text.unwrap(), b"a\r\n.b\r\nc\r\n");
        assert_eq!(receive(b".\r\n"), (Received::End(3), Some(vec![])));
    }

    #[test]
    fn lone_line_ends_are_no_ends() {
        for smuggled in [&b"a\n.\n"[..], b"a\r\n.\n", b"a\n.\r\n", b"a\r.\r\n", b"a\r\n.\r.", b"\r\r\n", b".\rx"] {
            assert_eq!(receive(smuggled).0, Received::LoneLineEnd, "{smuggled:?}");
        }
    }

    #[test]
    fn of_a_message_too_long_only_the_end_is_waited_for() {
        let mut receiver = DataReceiver::new(10);
        assert_eq!(receiver.receive(&[b'x'; 5000]), Received::More);
        assert!(receiver.text.capacity() <= 16);
        assert_eq!(receiver.receive(b"\r\n.\r\n"), Received::End(5));
        assert_eq!(receiver.finish(), None);
    }

    proptest! {
        #[test]
        fn a_stuffed_message_comes_back_however_it_is_cut(
            lines in proptest::collection::vec("[.a-z]{0,5}", 0..20),
            cut in 0_usize..200,
        ) {
            let text = lines.iter().fold(String::new(), |text, line| text + line + "\r\n");
            let dot = |line: &str| if line.starts_with('.') { "." } else { "" };
            let stuffed = lines.iter().fold(String::new(), |text, line| text + dot(line) + line + "\r\n");
            let sent = format!("{stuffed}.\r\nNOOP\r\n");
            let (first, rest) = sent.as_bytes().split_at(cut.min(sent.len()));
            let mut receiver = DataReceiver::new(10_000);
            if receiver.receive(first) == Received::More {
                receiver.receive(rest);
            }
            prop_assert_eq!(receiver.finish().unwrap(), text.into_bytes());
        }
    }
}
