//! Replies as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::kv::Reply;
use crate::kv::number;

/// Most bytes of one answer: what comes behind is not collected, and the answer is an error.
pub const ANSWER_MAX: usize = 64 << 20;

/// Collects replies as JSON text. Speaks as RESP2 does: maps are flat arrays, doubles strings.
pub(super) struct JsonReply {
    out: Vec<u8>,
    /// For each open array, how many values are still to come.
    open: Vec<usize>,
    /// Strings are encoded.
    base64: bool,
    /// The depth whose values become `{"result": …}` or `{"error": …}`.
    wrap: usize,
    /// Whether a wrapped value was an error.
    failed: bool,
    /// The wrapped value under way is open.
    wrapped: Vec<usize>,
    over: bool,
}

impl JsonReply {
    /// Values at array depth `wrap` stand for a command's outcome each.
    pub fn new(base64: bool, wrap: usize) -> Self {
        Self { out: Vec::new(), open: Vec::new(), base64, wrap, failed: false, wrapped: Vec::new(), over: false }
    }

    /// The text of what was replied, and whether an outcome in it is an error. [`None`] past [`ANSWER_MAX`].
    pub fn finish(self) -> Option<(Vec<u8>, bool)> {
        (!self.over).then_some((self.out, self.failed))
    }

    /// Bytes collected so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    fn begin(&mut self, error: bool) {
        if matches!(self.out.last(), Some(last) if *last != b'[' && *last != b':') {
            self.out.push(b',');
        }
        if self.open.len() == self.wrap {
            self.failed |= error;
            self.wrapped.push(self.open.len());
            self.out.extend_from_slice(if error { b"{\"error\":" } else { b"{\"result\":" });
        }
    }

    /// A value is complete, and with it perhaps the arrays around it.
    fn end(&mut self) {
        loop {
            if self.wrapped.last() == Some(&self.open.len()) {
                self.wrapped.pop();
                self.out.push(b'}');
            }
            let Some(left) = self.open.last_mut() else { return };
            *left = left.saturating_sub(1);
            if *left > 0 {
                return;
            }
            self.open.pop();
            self.out.push(b']');
        }
    }

    fn put(&mut self, text: &[u8]) {
        if self.out.len() + text.len() > ANSWER_MAX {
            self.over = true;
        } else {
            self.out.extend_from_slice(text);
        }
    }

    fn scalar(&mut self, text: &[u8]) {
        self.begin(false);
        self.put(text);
        self.end();
    }

    fn string(&mut self, bytes: &[u8], encoded: bool, error: bool) {
        self.begin(error);
        if encoded {
            let text = STANDARD.encode(bytes);
            self.out.push(b'"');
            self.put(text.as_bytes());
            self.out.push(b'"');
        } else {
            // A string always has a JSON text.
            let text = serde_json::to_vec(&String::from_utf8_lossy(bytes)).unwrap_or_default();
            self.put(&text);
        }
        self.end();
    }
}

impl Reply for JsonReply {
    fn resp3(&self) -> bool {
        false
    }

    fn simple_bytes(&mut self, text: &[u8]) {
        // Clients take a lone `OK` as it is, and decode everything else.
        let plain = self.open.len() == self.wrap && text == b"OK";
        self.string(text, self.base64 && !plain, false);
    }

    fn error_bytes(&mut self, text: &[u8]) {
        self.string(text, false, true);
    }

    fn integer(&mut self, value: i64) {
        self.scalar(value.to_string().as_bytes());
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.string(bytes, self.base64, false);
    }

    fn null(&mut self) {
        self.scalar(b"null");
    }

    fn null_array(&mut self) {
        self.scalar(b"null");
    }

    fn array(&mut self, len: usize) {
        self.begin(false);
        if len == 0 {
            self.out.extend_from_slice(b"[]");
            self.end();
        } else {
            self.out.push(b'[');
            self.open.push(len);
        }
    }

    fn map(&mut self, pairs: usize) {
        self.array(pairs.saturating_mul(2));
    }

    fn set(&mut self, len: usize) {
        self.array(len);
    }

    fn push(&mut self, len: usize) {
        self.array(len);
    }

    fn double(&mut self, value: f64) {
        self.bulk(number::double(value).as_bytes());
    }

    fn boolean(&mut self, value: bool) {
        self.integer(i64::from(value));
    }

    fn verbatim(&mut self, text: &[u8]) {
        self.bulk(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(base64: bool, wrap: usize, write: impl FnOnce(&mut JsonReply)) -> String {
        let mut reply = JsonReply::new(base64, wrap);
        write(&mut reply);
        String::from_utf8(reply.finish().unwrap().0).unwrap()
    }

    #[test]
    fn values_nest() {
        let nested = text(false, 0, |reply| {
            reply.array(4);
            reply.integer(1);
            reply.array(0);
            reply.map(1);
            reply.bulk(b"a\"\xff");
            reply.null();
            reply.simple("OK");
        });
        assert_eq!(nested, "{\"result\":[1,[],[\"a\\\"\u{fffd}\",null],\"OK\"]}");
        assert_eq!(text(false, 0, |reply| reply.error("ERR no")), "{\"error\":\"ERR no\"}");
    }

    #[test]
    fn each_command_of_a_transaction_has_its_outcome() {
        let outcomes = text(false, 1, |reply| {
            reply.array(3);
            reply.error("ERR no");
            reply.array(2);
            reply.integer(1);
            reply.integer(2);
            reply.simple("OK");
        });
        assert_eq!(outcomes, "[{\"error\":\"ERR no\"},{\"result\":[1,2]},{\"result\":\"OK\"}]");
    }

    #[test]
    fn encoded_strings_keep_their_bytes_and_a_lone_ok_stays() {
        assert_eq!(text(true, 0, |reply| reply.simple("OK")), "{\"result\":\"OK\"}");
        assert_eq!(text(true, 0, |reply| reply.bulk(b"OK")), "{\"result\":\"T0s=\"}");
        assert_eq!(text(true, 0, |reply| reply.bulk(b"\xff\x00")), "{\"result\":\"/wA=\"}");
        let inner = text(true, 0, |reply| {
            reply.array(1);
            reply.simple("OK");
        });
        assert_eq!(inner, "{\"result\":[\"T0s=\"]}");
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut reply = JsonReply::new(false, 0);
        reply.bulk(&vec![b'a'; ANSWER_MAX]);
        assert!(reply.finish().is_none());
    }
}
