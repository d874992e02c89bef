//! Percent-encoding, done once in each direction.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// RFC 3986's unreserved characters stay, all else is encoded: AWS's `UriEncode`.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for whole paths.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// A text that is no percent-encoded UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address holds a broken percent-encoding or is not UTF-8")]
pub struct UriError;

/// Encodes everything but letters, digits and `-._~`.
pub fn encode_component(text: &str) -> String {
    percent_encode(text.as_bytes(), COMPONENT).to_string()
}

/// Encodes everything but letters, digits and `-._~/`.
pub fn encode_path(text: &str) -> String {
    percent_encode(text.as_bytes(), PATH).to_string()
}

/// Decodes `%XX`, once.
///
/// # Errors
/// [`UriError`] on `%` without two hexadecimal digits, and when the result is not UTF-8.
pub fn decode(text: &str) -> Result<String, UriError> {
    decode_bytes(text.bytes())
}

/// Decodes a part of a query: as [`decode`], and `+` is a space.
///
/// # Errors
/// As [`decode`].
pub fn decode_query(text: &str) -> Result<String, UriError> {
    decode_bytes(text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }))
}

fn decode_bytes(mut bytes: impl Iterator<Item = u8>) -> Result<String, UriError> {
    let mut out = Vec::with_capacity(bytes.size_hint().0);
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = bytes.next().and_then(digit).ok_or(UriError)?;
            let low = bytes.next().and_then(digit).ok_or(UriError)?;
            out.push(high << 4 | low);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).or(Err(UriError))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_whole_escapes_of_utf_8_are_decoded() {
        assert_eq!(decode("a%20b%c3%BC+"), Ok("a bü+".to_owned()));
        assert_eq!(decode_query("a+b%2B"), Ok("a b+".to_owned()));
        for text in ["%", "%2", "%zz", "%+1", "%ff", "a%C3"] {
            assert_eq!(decode(text), Err(UriError), "{text}");
        }
    }

    #[test]
    fn a_path_keeps_its_slashes() {
        assert_eq!(encode_path("/a b/ü~"), "/a%20b/%C3%BC~");
        assert_eq!(encode_component("/a*"), "%2Fa%2A");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in ".*") {
            prop_assert_eq!(decode(&encode_component(&text)), Ok(text.clone()));
            prop_assert_eq!(decode_query(&encode_path(&text)), Ok(text));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "[%a-f0-9+\u{80}-\u{ff}]*") {
            let _ = decode(&text);
        }
    }
}
