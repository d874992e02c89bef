//! Strings: bytes, or a 64-bit integer in eight of them.

use std::ops::Deref;

use crate::kv::entry::{Body, BodyMut, Entry};
use crate::kv::number::{self, Text};

/// A string's bytes, printed first where it is an integer.
pub enum Str<'a> {
    /// As stored.
    Bytes(&'a [u8]),
    /// Printed.
    Number(Text),
}

impl Deref for Str<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(text) => text.as_bytes(),
        }
    }
}

impl Entry {
    /// The bytes of a string; empty for other kinds.
    #[inline]
    pub fn text(&self) -> Str<'_> {
        match (self.as_integer(), self.body()) {
            (Some(value), _) => Str::Number(number::integer_text(value)),
            (None, Body::Packed(payload)) => Str::Bytes(payload),
            (None, Body::Big(_)) => Str::Bytes(&[]),
        }
    }

    /// Appends to a string, unless it would exceed `most` bytes.
    pub fn append(&mut self, bytes: &[u8], most: usize) {
        let len = self.text().len();
        self.set_range(len as u64, bytes, most);
    }

    /// Writes into a string from `offset` on, zeros before it where the string is shorter; nothing happens when it would
    /// exceed `most` bytes.
    pub fn set_range(&mut self, offset: u64, bytes: &[u8], most: usize) {
        let Ok(offset) = usize::try_from(offset) else { return };
        let end = match offset.checked_add(bytes.len()) {
            Some(end) if end <= most => end,
            _ => return,
        };
        if let Some(value) = self.as_integer() {
            self.set_string(number::integer_text(value).as_bytes());
        }
        let BodyMut::Packed(mut payload) = self.body_mut() else { return };
        let len = payload.bytes().len();
        if offset == len {
            payload.splice(len, 0, &[bytes]);
            return;
        }
        if end > len {
            payload.splice(len, 0, &[&vec![0; end - len]]);
        }
        if let Some(target) = payload.bytes_mut().get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
    }
}
