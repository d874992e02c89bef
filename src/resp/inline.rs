//! Inline requests: a line of words, as someone types it into telnet.
//!
//! Source: `sdssplitargs` of Redis. Words are separated by white space; `"…"` knows the escapes `\n \r \t \b \a \xHH`
//! and takes any other escaped byte as it is, `'…'` knows only `\'`; a closing quote must end the word.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::ops::Range;

/// The words of the last inline request, unescaped, one behind the other.
#[derive(Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
}

impl Words {
    /// Splits `line` and appends each word's range in [`Words::bytes`] to `out`; `None` when a quote is not closed or
    /// the byte behind a closing quote is no space.
    pub fn split(&mut self, line: &[u8], out: &mut Vec<Range<usize>>) -> Option<()> {
        self.bytes.clear();
        let mut rest = line;
        loop {
            while let Some((first, behind)) = rest.split_first() {
                if !is_space(*first) {
                    break;
                }
                rest = behind;
            }
            if rest.is_empty() {
                return Some(());
            }
            let start = self.bytes.len();
            rest = self.word(rest)?;
            out.push(start..self.bytes.len());
        }
    }

    /// What the ranges point into.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what a long line has left behind.
    pub fn shrink(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(0);
    }

    /// Takes one word from the front of `rest`; what is behind it.
    fn word<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let Some((first, behind)) = rest.split_first() else { return Some(rest) };
            rest = behind;
            match *first {
                byte if is_space(byte) || byte == 0 => return Some(rest),
                b'"' => return self.double_quoted(rest),
                b'\'' => return self.single_quoted(rest),
                byte => self.bytes.push(byte),
            }
        }
    }

    fn double_quoted<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            rest = match rest {
                [b'\\', b'x', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    self.bytes.push(hex(*high) << 4 | hex(*low));
                    behind
                }
                [b'\\', escaped, behind @ ..] => {
                    self.bytes.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => *other,
                    });
                    behind
                }
                [b'"', behind @ ..] => return word_end(behind),
                [byte, behind @ ..] => {
                    self.bytes.push(*byte);
                    behind
                }
                [] => return None,
            };
        }
    }

    fn single_quoted<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            rest = match rest {
                [b'\\', b'\'', behind @ ..] => {
                    self.bytes.push(b'\'');
                    behind
                }
                [b'\'', behind @ ..] => return word_end(behind),
                [byte, behind @ ..] => {
                    self.bytes.push(*byte);
                    behind
                }
                [] => return None,
            };
        }
    }
}

/// A closing quote must be followed by a space or nothing.
const fn word_end(behind: &[u8]) -> Option<&[u8]> {
    match behind {
        [] => Some(behind),
        [first, ..] if is_space(*first) => Some(behind),
        _ => None,
    }
}

/// `isspace` of C's own locale.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// The value of a hexadecimal digit.
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit.wrapping_sub(b'0'),
        b'a'..=b'f' => digit.wrapping_sub(b'a').wrapping_add(10),
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let mut words = Words::default();
        let mut ranges = Vec::new();
        words.split(line, &mut ranges)?;
        Some(ranges.into_iter().map(|range| words.bytes()[range].to_vec()).collect())
    }

    #[test]
    fn words_are_separated_by_any_white_space() {
        assert_eq!(words(b"  set\tkey  value ").unwrap(), [&b"set"[..], b"key", b"value"]);
        assert_eq!(words(b" \t").unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn quotes_hold_spaces_and_escapes() {
        assert_eq!(words(br#"a "b \x41\n\"" 'c\' \n'"#).unwrap(), [&b"a"[..], b"b A\n\"", b"c' \\n"]);
        assert_eq!(words(br#""" ''"#).unwrap(), [&b""[..], b""]);
    }

    #[test]
    fn a_quote_left_open_or_closed_inside_a_word_is_refused() {
        for line in [&br#""a"#[..], br"'a", br#""a"b"#, br"'a'b", br#"a "\"#] {
            assert_eq!(words(line), None);
        }
    }
}
