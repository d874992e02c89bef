//! What a command can fail with, in the words Redis uses: clients and libraries match on them.

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
}

impl Fault {
    /// Whether it is about the number of arguments.
    pub const fn is_arity(&self) -> bool {
        matches!(self, Self::Arity(_))
    }
}
