//! The envelope format (develop.sentry.dev, "Envelopes"): a header line, then items, each a header line and a payload.
//!
//! ```text
//! {"event_id":"…","dsn":"…"}\n              every field optional, `{}` too
//! {"type":"event","length":41}\n
//! 41 bytes, newlines among them\n           with a length; the last newline is optional
//! {"type":"session"}\n
//! up to the next newline\n                  without a length
//! ```
//!
//! Blank lines between items are tolerated. What an item holds is not looked at here.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use serde::Deserialize;

use super::Refusal;

/// Most items of an envelope.
pub const ITEMS_MAX: usize = 100;

/// Most bytes of a header line.
const HEADER_MAX: usize = 64 << 10;

/// An envelope, its payloads still where they arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The event it is about, as written: with or without hyphens.
    pub event_id: Option<String>,
    /// Where the SDK wants it to go; carries the key when nothing else does.
    pub dsn: Option<String>,
    /// The items in order.
    pub items: Vec<Item<'a>>,
}

/// One item.
#[derive(Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its type, such as `event`.
    pub kind: String,
    /// What it says it holds: 1 unless it is a container.
    pub count: u64,
    /// Its bytes.
    pub payload: &'a [u8],
}

#[derive(Default, Deserialize)]
struct EnvelopeHeader {
    #[serde(default)]
    event_id: Option<String>,
    #[serde(default)]
    dsn: Option<String>,
}

#[derive(Deserialize)]
struct ItemHeader {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    length: Option<usize>,
    #[serde(default)]
    item_count: Option<u64>,
}

/// Parses `bytes`.
///
/// # Errors
/// [`Refusal::Envelope`] when a header is no JSON object or a payload is cut off, [`Refusal::TooMany`].
pub fn parse(bytes: &[u8]) -> Result<Envelope<'_>, Refusal> {
    let (head, mut rest) = line(bytes);
    let EnvelopeHeader { event_id, dsn } = header(head).ok_or(Refusal::Envelope("its header is no JSON object"))?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let (head, after) = line(rest);
        if head.trim_ascii().is_empty() {
            rest = after;
            continue;
        }
        if items.len() >= ITEMS_MAX {
            return Err(Refusal::TooMany { most: ITEMS_MAX });
        }
        let ItemHeader { kind, length, item_count } =
            header(head).ok_or(Refusal::Envelope("an item's header is no JSON object"))?;
        let (payload, after) = match length {
            Some(length) => after.split_at_checked(length).ok_or(Refusal::Envelope("an item is cut off"))?,
            None => line(after),
        };
        items.push(Item { kind, count: item_count.unwrap_or(1).max(1), payload });
        rest = after.strip_prefix(b"\n").unwrap_or(after);
    }
    Ok(Envelope { event_id, dsn, items })
}

/// The bytes up to the first newline, and those behind it.
fn line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
    (line, rest.strip_prefix(b"\n").unwrap_or(rest))
}

fn header<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    (line.len() <= HEADER_MAX && line.trim_ascii_start().starts_with(b"{"))
        .then(|| serde_json::from_slice(line).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds<'a>(envelope: &'a Envelope<'_>) -> Vec<&'a str> {
        envelope.items.iter().map(|item| item.kind.as_str()).collect()
    }

    #[test]
    fn items_with_and_without_a_length_are_told_apart() {
        let text = b"{\"event_id\":\"e\"}\n{\"type\":\"attachment\",\"length\":5}\na\nb\nc\n{\"type\":\"event\"}\n{}\n";
        let envelope = parse(text).unwrap();
        assert_eq!(envelope.event_id.as_deref(), Some("e"));
        assert_eq!(kinds(&envelope), ["attachment", "event"]);
        assert_eq!((envelope.items[0].payload, envelope.items[1].payload), (&b"a\nb\nc"[..], &b"{}"[..]));
    }

    #[test]
    fn an_empty_header_blank_lines_and_a_missing_last_newline_are_fine() {
        let envelope =
            parse(b"{}\n\n{\"type\":\"session\",\"length\":2}\n{}\n\n{\"type\":\"x_new\"}\n{\"a\":1}").unwrap();
        assert_eq!(kinds(&envelope), ["session", "x_new"]);
        assert_eq!(envelope.items[1].payload, b"{\"a\":1}");
        assert!(parse(b"{}").unwrap().items.is_empty());
    }

    #[test]
    fn broken_framing_is_refused() {
        assert!(matches!(parse(b""), Err(Refusal::Envelope(_))));
        assert!(matches!(parse(b"{}\n{\"type\":\"event\",\"length\":9}\n{}"), Err(Refusal::Envelope(_))));
        assert!(matches!(parse(b"{}\n[]\n{}"), Err(Refusal::Envelope(_))));
        let many = [b"{}\n".to_vec(), b"{\"type\":\"event\"}\n{}\n".repeat(ITEMS_MAX + 1)].concat();
        assert!(matches!(parse(&many), Err(Refusal::TooMany { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn written_items_read_back(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let mut text = b"{}\n".to_vec();
            for payload in &payloads {
                text.extend(format!("{{\"type\":\"a\",\"length\":{}}}\n", payload.len()).bytes());
                text.extend(payload);
                text.push(b'\n');
            }
            let envelope = parse(&text).unwrap();
            prop_assert!(envelope.items.iter().map(|item| item.payload.to_vec()).eq(payloads));
        }
    }
}
