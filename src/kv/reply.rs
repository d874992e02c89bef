//! Where commands write their answers.

/// A sink for replies, whatever the protocol. A command writes exactly one value (an aggregate announces its length and
/// then writes its parts), except for the subscribe family, which writes one value a channel.
///
/// Implementations that speak RESP2 write what Redis writes there: maps as flat arrays, sets and pushes as arrays,
/// doubles as bulk strings, booleans as 0 and 1.
pub trait Reply {
    /// Whether the peer speaks RESP3. Few commands ask: those whose *shape* differs (`ZRANGE WITHSCORES` nests pairs).
    fn resp3(&self) -> bool;
    /// A status such as `OK`, which need be no text when a script has made it. Line breaks in it are the implementation's
    /// to defuse.
    fn simple_bytes(&mut self, text: &[u8]);
    /// An error, code word first (`ERR …`); what it repeats of a request need be no text. Line breaks in it are the
    /// implementation's to defuse.
    fn error_bytes(&mut self, text: &[u8]);
    /// A status that is text.
    fn simple(&mut self, text: &str) {
        self.simple_bytes(text.as_bytes());
    }
    /// An error that is text.
    fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }
    /// A signed integer.
    fn integer(&mut self, value: i64);
    /// A byte string.
    fn bulk(&mut self, bytes: &[u8]);
    /// No value: `_` in RESP3, the null bulk string in RESP2.
    fn null(&mut self);
    /// No list: `_` in RESP3, the null array in RESP2.
    fn null_array(&mut self);
    /// The head of an array of `len` values.
    fn array(&mut self, len: usize);
    /// The head of a map of `pairs` keys and values, alternating.
    fn map(&mut self, pairs: usize);
    /// The head of a set of `len` values.
    fn set(&mut self, len: usize);
    /// The head of an out-of-band message of `len` values.
    fn push(&mut self, len: usize);
    /// A floating-point number; [`number::double`](super::number::double) gives its text.
    fn double(&mut self, value: f64);
    /// A truth value.
    fn boolean(&mut self, value: bool);
    /// A text meant for people.
    fn verbatim(&mut self, text: &[u8]);
    /// The same, of a kind that three letters name (`txt`, `mkd`).
    fn verbatim_as(&mut self, kind: [u8; 3], text: &[u8]) {
        let _ = kind;
        self.verbatim(text);
    }
    /// The digits of an integer of any size.
    fn big_number(&mut self, digits: &[u8]) {
        self.bulk(digits);
    }
}

/// A reply kept for later: what a blocked client gets, and what tests look at.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// See [`Reply::simple`].
    Simple(String),
    /// See [`Reply::error_bytes`].
    Error(Vec<u8>),
    /// See [`Reply::integer`].
    Integer(i64),
    /// See [`Reply::bulk`].
    Bulk(Vec<u8>),
    /// See [`Reply::null`].
    Null,
    /// See [`Reply::null_array`].
    NullArray,
    /// See [`Reply::array`].
    Array(Vec<Value>),
    /// See [`Reply::double`].
    Double(f64),
    /// What stands under keys: a map in RESP3, an array of pairs in RESP2 (`XREAD`).
    Keyed(Vec<(Value, Value)>),
}

impl Value {
    /// Writes the value into `reply`.
    pub fn write(&self, reply: &mut dyn Reply) {
        match self {
            Self::Simple(text) => reply.simple(text),
            Self::Error(text) => reply.error_bytes(text),
            Self::Integer(value) => reply.integer(*value),
            Self::Bulk(bytes) => reply.bulk(bytes),
            Self::Null => reply.null(),
            Self::NullArray => reply.null_array(),
            Self::Array(values) => {
                reply.array(values.len());
                for value in values {
                    value.write(reply);
                }
            }
            Self::Double(value) => reply.double(*value),
            Self::Keyed(pairs) => {
                let nested = !reply.resp3();
                if nested {
                    reply.array(pairs.len());
                } else {
                    reply.map(pairs.len());
                }
                for (key, value) in pairs {
                    if nested {
                        reply.array(2);
                    }
                    key.write(reply);
                    value.write(reply);
                }
            }
        }
    }
}
