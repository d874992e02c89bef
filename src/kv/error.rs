//! What a command can fail with, in the words Redis uses: clients and libraries match on them.

use std::borrow::Cow;

/// An error reply. `Display` is the whole text after the `-` of the wire, code word first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// An argument that should be a 64-bit integer is none.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument that should be a number is none, or not a number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// Options that do not fit together or are unknown.
    #[error("ERR syntax error")]
    Syntax,
    /// Wrong number of arguments; the name as the command table spells it.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// The key must be there.
    #[error("ERR no such key")]
    NoSuchKey,
    /// An index outside of the list.
    #[error("ERR index out of range")]
    IndexRange,
    /// A number that must not be negative is.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A count whose absolute value does not fit, or is more than one reply may hold.
    #[error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")]
    CountRange,
    /// The sum does not fit in 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The value would exceed `kv.max_value`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// The keyspace is full and the command would add to it.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    Full,
    /// A queued command was refused, so nothing is run.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAborted,
    /// No script of that hash.
    #[error("NOSCRIPT No matching script. Please use EVAL.")]
    NoScript,
    /// Any other text, code word first.
    #[error("{0}")]
    Text(&'static str),
    /// Any other text that carries a value of the request, code word first.
    #[error("{0}")]
    Told(String),
    /// Any other text that repeats bytes of the request, which need be no text themselves; code word first.
    #[error("{}", String::from_utf8_lossy(.0))]
    Quoting(Vec<u8>),
}

impl Fault {
    /// The error that consists of these parts, each of which ends before its first zero, as C's texts do.
    pub fn quoting(parts: &[&[u8]]) -> Self {
        let mut text: Vec<u8> = parts.iter().flat_map(|part| up_to_zero(part)).copied().collect();
        text.truncate(without_line_end(&text).len());
        Self::Quoting(text)
    }

    /// The text as it goes to a client.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Told(text) => Cow::Borrowed(text.as_bytes()),
            Self::Quoting(bytes) => Cow::Borrowed(bytes),
            other => Cow::Owned(other.to_string().into_bytes()),
        }
    }

    /// Whether it is about the number of arguments.
    pub const fn is_arity(&self) -> bool {
        matches!(self, Self::Arity(_))
    }
}

/// What Redis repeats of an argument in an error: a text of C's, which ends with a zero.
pub fn up_to_zero(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// A text without the ends of lines behind it.
pub fn without_line_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or(text)
}

/// A text whose ends of lines are spaces: a line of the protocol holds none.
pub fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_repeats_ends_with_a_zero_and_is_no_text() {
        let fault = Fault::quoting(&[b"ERR no '", b"a\xff\0b", b"' and '", b"\r\nc", b"'\r\n"]);
        assert_eq!(&*fault.bytes(), b"ERR no 'a\xff' and '\r\nc'");
        assert_eq!(one_line(b"a\r\nb"), b"a  b");
        assert_eq!(without_line_end(b"\r\n"), b"");
    }
}
