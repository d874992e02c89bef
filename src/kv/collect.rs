//! Replies as values, for callers inside the process.

use super::reply::{Reply, Value};

/// Keeps what a command writes.
#[derive(Debug)]
pub struct Collector {
    resp3: bool,
    tokens: Vec<Token>,
}

#[derive(Debug)]
enum Token {
    Value(Value),
    Head(usize),
}

impl Collector {
    /// An empty one, which says that it speaks RESP3 or not.
    pub const fn new(resp3: bool) -> Self {
        Self { resp3, tokens: Vec::new() }
    }

    /// The last whole value (the subscribe family writes several); `None` when there is none. Maps are flat arrays.
    pub fn value(self) -> Option<Value> {
        fn read(tokens: &mut impl Iterator<Item = Token>) -> Option<Value> {
            Some(match tokens.next()? {
                Token::Value(value) => value,
                Token::Head(len) => Value::Array((0..len).map_while(|_| read(tokens)).collect()),
            })
        }
        let mut tokens = self.tokens.into_iter();
        std::iter::from_fn(|| read(&mut tokens)).last()
    }

    fn keep(&mut self, value: Value) {
        self.tokens.push(Token::Value(value));
    }
}

impl Reply for Collector {
    fn resp3(&self) -> bool {
        self.resp3
    }
    fn simple_bytes(&mut self, text: &[u8]) {
        self.keep(Value::Simple(String::from_utf8_lossy(text).into_owned()));
    }
    fn error_bytes(&mut self, text: &[u8]) {
        self.keep(Value::Error(text.to_vec()));
    }
    fn integer(&mut self, value: i64) {
        self.keep(Value::Integer(value));
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.keep(Value::Bulk(bytes.to_vec()));
    }
    fn null(&mut self) {
        self.keep(Value::Null);
    }
    fn null_array(&mut self) {
        self.keep(Value::NullArray);
    }
    fn array(&mut self, len: usize) {
        self.tokens.push(Token::Head(len));
    }
    fn map(&mut self, pairs: usize) {
        self.tokens.push(Token::Head(2 * pairs));
    }
    fn set(&mut self, len: usize) {
        self.tokens.push(Token::Head(len));
    }
    fn push(&mut self, len: usize) {
        self.tokens.push(Token::Head(len));
    }
    fn double(&mut self, value: f64) {
        self.keep(Value::Double(value));
    }
    fn boolean(&mut self, value: bool) {
        self.keep(Value::Integer(i64::from(value)));
    }
    fn verbatim(&mut self, text: &[u8]) {
        self.keep(Value::Bulk(text.to_vec()));
    }
}
