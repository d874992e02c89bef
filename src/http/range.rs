//! The `Range` header (RFC 9110 section 14): a single range of bytes.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// A single range of bytes, not yet held against a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-last`, both included.
    FromTo(u64, u64),
    /// `first-`.
    From(u64),
    /// `-count`: the last `count` bytes.
    Last(u64),
}

/// Reads a `Range` header. `None` for other units, several ranges and anything malformed: such a header is ignored and
/// the whole is sent (RFC 9110 section 14.2).
pub fn parse(text: &str) -> Option<ByteRange> {
    let (unit, range) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", count) => number(count).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::FromTo(first, last))
        }
    }
}

/// Decimal digits only; a number beyond 64 bits is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_read() {
        assert_eq!(parse("bytes=0-9"), Some(ByteRange::FromTo(0, 9)));
        assert_eq!(parse("Bytes= 5-"), Some(ByteRange::From(5)));
        assert_eq!(parse("bytes=-3"), Some(ByteRange::Last(3)));
        assert_eq!(parse("bytes=0-99999999999999999999"), Some(ByteRange::FromTo(0, u64::MAX)));
    }

    #[test]
    fn what_is_no_single_range_of_bytes_is_ignored() {
        for text in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2", "bytes=a-"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_ignored(text in "bytes=[-0-9, ]{0,12}") {
            let _ = parse(&text);
        }
    }
}
