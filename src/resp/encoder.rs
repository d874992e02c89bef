//! Replies as bytes, in both versions of the protocol.
//!
//! Source: "Redis serialization protocol specification". RESP2 knows fewer types, so there maps are flat arrays, sets
//! and pushes arrays, doubles and verbatim texts bulk strings, booleans 0 and 1.

use crate::kv::{Reply, number};

/// Which version of the protocol a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The version before `HELLO 3`.
    #[default]
    Resp2,
    /// The version after it.
    Resp3,
}

/// Writes replies at the end of a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Encoder<'a> {
    /// An encoder for one client.
    pub const fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// A type byte, a number, and the end of the line.
    #[inline]
    fn head(&mut self, kind: u8, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.out.push(kind);
        self.out.extend_from_slice(digits.format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, kind: u8, length: usize) {
        self.head(kind, i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// A line of text: a line break in it would end the reply early.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        if memchr::memchr2(b'\r', b'\n', text).is_some() {
            self.out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        } else {
            self.out.extend_from_slice(text);
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

impl Reply for Encoder<'_> {
    fn resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    fn simple_bytes(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    fn error_bytes(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    fn null(&mut self) {
        self.out.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn null_array(&mut self) {
        self.out.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', pairs.saturating_mul(2)),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    fn set(&mut self, len: usize) {
        self.length(if self.resp3() { b'~' } else { b'*' }, len);
    }

    fn push(&mut self, len: usize) {
        self.length(if self.resp3() { b'>' } else { b'*' }, len);
    }

    fn double(&mut self, value: f64) {
        let text = number::double(value);
        if self.resp3() {
            self.out.push(b',');
            self.out.extend_from_slice(text.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text.as_bytes());
        }
    }

    fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.resp3(), value) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        });
    }

    fn verbatim(&mut self, text: &[u8]) {
        self.verbatim_as(*b"txt", text);
    }

    fn big_number(&mut self, digits: &[u8]) {
        if self.resp3() {
            self.out.push(b'(');
            self.out.extend_from_slice(digits);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(digits);
        }
    }

    fn verbatim_as(&mut self, kind: [u8; 3], text: &[u8]) {
        if self.resp3() {
            self.length(b'=', text.len().saturating_add(4));
            self.out.extend_from_slice(&kind);
            self.out.push(b':');
            self.out.extend_from_slice(text);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.bulk(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(protocol: Protocol, write: impl Fn(&mut dyn Reply)) -> String {
        let mut out = Vec::new();
        write(&mut Encoder::new(&mut out, protocol));
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn every_type_has_its_form_in_both_versions() {
        type Write = fn(&mut dyn Reply);
        let cases: [(Write, &str, &str); 13] = [
            (|reply| reply.simple("OK"), "+OK|", "+OK|"),
            (|reply| reply.error("ERR no"), "-ERR no|", "-ERR no|"),
            (|reply| reply.integer(-7), ":-7|", ":-7|"),
            (|reply| reply.bulk(b"ab"), "$2|ab|", "$2|ab|"),
            (|reply| reply.null(), "$-1|", "_|"),
            (|reply| reply.null_array(), "*-1|", "_|"),
            (|reply| reply.array(2), "*2|", "*2|"),
            (|reply| reply.map(2), "*4|", "%2|"),
            (|reply| reply.set(2), "*2|", "~2|"),
            (|reply| reply.push(3), "*3|", ">3|"),
            (|reply| reply.double(1.5), "$3|1.5|", ",1.5|"),
            (|reply| reply.boolean(true), ":1|", "#t|"),
            (|reply| reply.verbatim(b"hi"), "$2|hi|", "=6|txt:hi|"),
        ];
        for (write, two, three) in cases {
            assert_eq!(encoded(Protocol::Resp2, write), two);
            assert_eq!(encoded(Protocol::Resp3, write), three);
        }
    }

    #[test]
    fn line_breaks_cannot_leave_a_line() {
        assert_eq!(encoded(Protocol::Resp2, |reply| reply.error("ERR a\r\n+OK")), "-ERR a  +OK|");
    }

    #[test]
    fn an_error_that_is_no_text_keeps_its_bytes() {
        let mut out = Vec::new();
        Encoder::new(&mut out, Protocol::Resp3).error_bytes(b"ERR \xff\n\xfe");
        Encoder::new(&mut out, Protocol::Resp3).simple_bytes(b"\xff");
        assert_eq!(out, b"-ERR \xff \xfe\r\n+\xff\r\n");
    }
}
