//! The reply to a command of a script, noted down first: making Lua's values may end in an error of Lua's, which leaps
//! over whatever stands between, and no command may be leapt over.

use std::ops::Range;

use crate::kv::error::one_line;
use crate::kv::number;
use crate::kv::reply::Reply;

/// Bytes of buffers that are kept from one script to the next.
const KEPT: usize = 64 << 10;

/// What one script after the other uses for its commands.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Arguments of the command being called, one behind the other.
    pub arguments: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// The reply to it.
    pub tape: Tape,
    /// The text a script has returned.
    pub text: Vec<u8>,
}

impl Buffers {
    /// One large call must not hold its memory for ever.
    pub fn shrink(&mut self) {
        self.arguments.shrink_to(KEPT);
        self.ends.shrink_to(KEPT / size_of::<usize>());
        self.tape.bytes.shrink_to(KEPT);
        self.tape.steps.shrink_to(KEPT / size_of::<Step>());
        self.tape.frames.shrink_to(KEPT / size_of::<Frame>());
        // Answered after the script has ended.
        if self.text.capacity() > KEPT && self.text.len() <= KEPT {
            self.text.shrink_to(KEPT);
        }
    }
}

/// One step of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// No value, as version three has it.
    Nil,
    /// A truth value; no value, in version two.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(Range<usize>),
    /// `{ok = text}`.
    Status(Range<usize>),
    /// `{err = text}`, inside of an aggregate.
    Error(Range<usize>),
    /// `{double = number}`.
    Double(f64),
    /// `{verbatim_string = {format = 'txt', string = text}}`.
    Verbatim(Range<usize>),
    /// The head of an aggregate of so many values.
    Open(Kind, usize),
}

/// What an aggregate becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A list.
    Array,
    /// `{map = …}`.
    Map,
    /// `{set = …}`.
    Set,
}

/// An aggregate that is being made on Lua's stack.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// What it becomes.
    pub kind: Kind,
    /// Values it still lacks.
    pub left: usize,
    /// Place of the next value of a list.
    pub next: i32,
    /// A key lies on the stack and waits for its value.
    pub keyed: bool,
}

/// The reply to one command.
#[derive(Debug, Default)]
pub struct Tape {
    resp3: bool,
    /// Texts, one behind the other.
    pub bytes: Vec<u8>,
    /// The reply, head first.
    pub steps: Vec<Step>,
    /// Aggregates that are open while it is made into values.
    pub frames: Vec<Frame>,
    /// The reply is an error with this text.
    pub error: Option<Vec<u8>>,
}

impl Tape {
    /// Empty, for the reply to the next command, in version three of the protocol or two.
    pub fn begin(&mut self, resp3: bool) {
        self.resp3 = resp3;
        self.bytes.clear();
        self.steps.clear();
        self.frames.clear();
        self.error = None;
    }

    fn note(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        start..self.bytes.len()
    }

    fn absent(&self) -> Step {
        if self.resp3 { Step::Nil } else { Step::Boolean(false) }
    }
}

impl Reply for Tape {
    fn resp3(&self) -> bool {
        self.resp3
    }

    fn simple_bytes(&mut self, text: &[u8]) {
        let text = self.note(text);
        self.steps.push(Step::Status(text));
    }

    fn error_bytes(&mut self, text: &[u8]) {
        if self.steps.is_empty() {
            self.error = Some(one_line(text));
        } else {
            let text = self.note(&one_line(text));
            self.steps.push(Step::Error(text));
        }
    }

    fn integer(&mut self, value: i64) {
        // Lua 5.1 knows doubles only.
        self.steps.push(Step::Number(value as f64));
    }

    fn bulk(&mut self, bytes: &[u8]) {
        let text = self.note(bytes);
        self.steps.push(Step::Text(text));
    }

    fn null(&mut self) {
        self.steps.push(self.absent());
    }

    fn null_array(&mut self) {
        self.steps.push(self.absent());
    }

    fn array(&mut self, len: usize) {
        self.steps.push(Step::Open(Kind::Array, len));
    }

    fn map(&mut self, pairs: usize) {
        let kind = if self.resp3 { Kind::Map } else { Kind::Array };
        self.steps.push(Step::Open(kind, pairs.saturating_mul(2)));
    }

    fn set(&mut self, len: usize) {
        self.steps.push(Step::Open(if self.resp3 { Kind::Set } else { Kind::Array }, len));
    }

    fn push(&mut self, len: usize) {
        self.array(len);
    }

    fn double(&mut self, value: f64) {
        if self.resp3 {
            self.steps.push(Step::Double(value));
        } else {
            self.bulk(number::double(value).as_bytes());
        }
    }

    fn boolean(&mut self, value: bool) {
        if self.resp3 {
            self.steps.push(Step::Boolean(value));
        } else {
            self.integer(i64::from(value));
        }
    }

    fn verbatim(&mut self, text: &[u8]) {
        if self.resp3 {
            let text = self.note(text);
            self.steps.push(Step::Verbatim(text));
        } else {
            self.bulk(text);
        }
    }
}
