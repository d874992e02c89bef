//! Requests as they arrive: the multibulk and inline forms of the Redis serialization protocol.
//!
//! Source: "Redis serialization protocol specification", and `networking.c` of Redis 7 for limits and error texts.
//! Nothing is copied but inline arguments: a request is a list of ranges into the bytes it was read from, so a value of
//! a megabyte costs as many allocations as a value of a byte. The decoder remembers how far it came, so bytes that
//! trickle in are looked at once.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::ops::Range;

use super::inline;

/// Longest line: an inline request, or the count in front of a multibulk request or a bulk string
/// (`PROTO_INLINE_MAX_SIZE`).
pub const MAX_LINE: usize = 64 << 10;
/// Most arguments in a request.
pub const MAX_ARGUMENTS: u64 = 1 << 20;
/// Most arguments in a request before the client has authenticated.
pub const MAX_ARGUMENTS_BEFORE_AUTH: u64 = 10;
/// Longest argument, in bytes, before the client has authenticated.
pub const MAX_BULK_BEFORE_AUTH: u64 = 16 << 10;

/// What a client may send at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most arguments in a request.
    pub arguments: u64,
    /// Longest argument, in bytes.
    pub bulk: u64,
    /// Whether the client has authenticated, or need not.
    pub authenticated: bool,
}

impl Limits {
    /// Limits for a client that has authenticated, with arguments of at most `bulk` bytes.
    pub const fn authenticated(bulk: u64) -> Self {
        Self { arguments: MAX_ARGUMENTS, bulk, authenticated: true }
    }

    /// Limits for a client that still has to.
    pub const fn unauthenticated() -> Self {
        Self { arguments: MAX_ARGUMENTS_BEFORE_AUTH, bulk: MAX_BULK_BEFORE_AUTH, authenticated: false }
    }
}

/// Why bytes are no request. The text is Redis's own; the client gets it and is closed, since what follows cannot be
/// made sense of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The count after `*` is no number, or above [`MAX_ARGUMENTS`].
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// More than [`MAX_ARGUMENTS_BEFORE_AUTH`] arguments before AUTH.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulk,
    /// The line after `*` does not end within [`MAX_LINE`].
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLine,
    /// An argument does not start with `$`.
    #[error("Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    /// The length after `$` is no number, negative, or above the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// An argument above [`MAX_BULK_BEFORE_AUTH`] before AUTH.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulk,
    /// The line after `$` does not end within [`MAX_LINE`].
    #[error("Protocol error: too big bulk count string")]
    BulkLine,
    /// An inline request does not end within [`MAX_LINE`].
    #[error("Protocol error: too big inline request")]
    InlineLength,
    /// An inline request with a quote that is not closed, or closed in the middle of a word.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// What [`Decoder::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request goes on in bytes that have not arrived yet.
    Incomplete,
    /// A whole request in that many bytes from the start. It may have no argument at all: an empty line, or `*0`.
    Request(usize),
}

/// Finds one request after the other. Feed it bytes that start where the last request ended.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the current request already looked at.
    position: usize,
    /// Arguments found so far, as ranges from the request's start (or into `inline.bytes`).
    arguments: Vec<Range<usize>>,
    state: State,
    inline: inline::Words,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing of the request is known.
    #[default]
    Start,
    /// That many arguments are missing; the next bytes are a `$` line.
    Line { missing: u64 },
    /// That many arguments are missing, the first of them with so many bytes.
    Bulk { missing: u64, bytes: usize },
    /// The arguments are those of `inline`.
    Inline,
}

impl Decoder {
    /// Looks for the end of the request that starts at `input[0]`. After [`Step::Incomplete`] call it again with the
    /// same bytes and more behind them; after [`Step::Request`] take [`Decoder::arguments`] and go on behind it.
    ///
    /// # Errors
    /// The bytes are no request; the decoder must not be used again.
    pub fn next(&mut self, input: &[u8], limits: &Limits) -> Result<Step, ProtocolError> {
        loop {
            match self.state {
                State::Start | State::Inline => {
                    self.position = 0;
                    self.arguments.clear();
                    match input.first() {
                        None => {
                            self.state = State::Start;
                            return Ok(Step::Incomplete);
                        }
                        Some(b'*') => {}
                        Some(_) => return self.inline(input),
                    }
                    let Some((line, end)) = line(input, 1) else {
                        return incomplete(input.len(), ProtocolError::MultibulkLine);
                    };
                    let count = number(line).ok_or(ProtocolError::MultibulkLength)?;
                    let missing = u64::try_from(count).unwrap_or(0);
                    if missing > MAX_ARGUMENTS {
                        return Err(ProtocolError::MultibulkLength);
                    }
                    if missing > limits.arguments {
                        return Err(ProtocolError::UnauthenticatedMultibulk);
                    }
                    self.position = end;
                    if missing == 0 {
                        return Ok(Step::Request(end));
                    }
                    self.state = State::Line { missing };
                }
                State::Line { missing } => {
                    let Some(&first) = input.get(self.position) else { return Ok(Step::Incomplete) };
                    if first != b'$' {
                        let shown = if first.is_ascii_graphic() { char::from(first) } else { ' ' };
                        return Err(ProtocolError::ExpectedBulk(shown));
                    }
                    let Some((line, end)) = line(input, self.position.saturating_add(1)) else {
                        let waiting = input.len().saturating_sub(self.position);
                        return incomplete(waiting, ProtocolError::BulkLine);
                    };
                    let bytes = number(line).and_then(|length| u64::try_from(length).ok());
                    let bytes = bytes.ok_or(ProtocolError::BulkLength)?;
                    if bytes > limits.bulk {
                        return Err(if limits.authenticated {
                            ProtocolError::BulkLength
                        } else {
                            ProtocolError::UnauthenticatedBulk
                        });
                    }
                    self.position = end;
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    self.state = State::Bulk { missing, bytes };
                }
                State::Bulk { missing, bytes } => {
                    let last = self.position.saturating_add(bytes);
                    // Like Redis, the two bytes behind an argument are skipped, not compared with CR LF.
                    let end = last.saturating_add(2);
                    if input.len() < end {
                        return Ok(Step::Incomplete);
                    }
                    self.arguments.push(self.position..last);
                    self.position = end;
                    let missing = missing.saturating_sub(1);
                    if missing == 0 {
                        self.state = State::Start;
                        return Ok(Step::Request(end));
                    }
                    self.state = State::Line { missing };
                }
            }
        }
    }

    /// The arguments of the request just found in `input`, appended to `out`.
    pub fn arguments<'a>(&'a self, input: &'a [u8], out: &mut Vec<&'a [u8]>) {
        let source = if self.state == State::Inline { self.inline.bytes() } else { input };
        out.extend(self.arguments.iter().map(|range| source.get(range.clone()).unwrap_or_default()));
    }

    /// Bytes the decoder itself holds, for the client's memory account.
    pub fn memory(&self) -> usize {
        self.arguments.capacity().saturating_mul(size_of::<Range<usize>>()).saturating_add(self.inline.memory())
    }

    /// How many bytes the request under way still needs at the least; 0 when that is not known.
    ///
    /// A reader that makes room for it reads a large argument in few system calls.
    pub fn wanted(&self, available: usize) -> usize {
        match self.state {
            State::Bulk { bytes, .. } => {
                self.position.saturating_add(bytes).saturating_add(2).saturating_sub(available)
            }
            State::Start | State::Line { .. } | State::Inline => 0,
        }
    }

    /// Gives back memory that a large request has left behind. Only between requests.
    pub fn shrink(&mut self) {
        if self.state == State::Start || self.state == State::Inline {
            self.arguments.clear();
            self.arguments.shrink_to(64);
            self.inline.shrink();
        }
    }

    fn inline(&mut self, input: &[u8]) -> Result<Step, ProtocolError> {
        let Some(newline) = memchr::memchr(b'\n', input) else {
            return incomplete(input.len(), ProtocolError::InlineLength);
        };
        if newline > MAX_LINE {
            return Err(ProtocolError::InlineLength);
        }
        let line = input.get(..newline).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.inline.split(line, &mut self.arguments).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.state = State::Inline;
        Ok(Step::Request(newline.saturating_add(1)))
    }
}

/// More bytes are needed, unless the line is already longer than any line may be.
const fn incomplete(waiting: usize, too_long: ProtocolError) -> Result<Step, ProtocolError> {
    if waiting > MAX_LINE { Err(too_long) } else { Ok(Step::Incomplete) }
}

/// The bytes from `start` to the next CR, and where the line behind it (CR and one byte) begins.
fn line(input: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let rest = input.get(start..)?;
    // Counts are a few digits, where a plain look at each byte beats a vector search; longer lines are nonsense that
    // may trickle in byte by byte.
    let length = match rest.iter().take(24).position(|byte| *byte == b'\r') {
        Some(length) => length,
        None => memchr::memchr(b'\r', rest)?,
    };
    let end = start.saturating_add(length).saturating_add(2);
    if end > input.len() { None } else { Some((rest.get(..length)?, end)) }
}

/// A decimal number as Redis reads it (`string2ll`): no sign but `-`, no leading zero, no space.
pub fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let first = *digits.first()?;
    if first == b'0' {
        return (digits.len() == 1 && !negative).then_some(0);
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit.wrapping_sub(b'0'));
        // Counted downwards, since the negative side has one value more.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}
