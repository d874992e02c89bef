//! Texts in the Huffman code of RFC 7541 Appendix B, which QPACK uses too.
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and longer ones go on where the
//! shorter end. So the lengths alone say all.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// Longest code, in bits.
const LONGEST: usize = 30;
/// Symbols: all bytes, and the end of the text, which must not occur.
const SYMBOLS: usize = 257;
const END: u16 = 256;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// How codes of each length are read.
struct Table {
    /// For each length: the first code, how many there are, and where their symbols begin.
    rows: [(u32, u32, usize); LONGEST + 1],
    /// Symbols by their codes.
    symbols: [u16; SYMBOLS],
}

static TABLE: Table = Table::new();

impl Table {
    #[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "evaluated by the compiler")]
    const fn new() -> Self {
        let mut table = Self { rows: [(0, 0, 0); LONGEST + 1], symbols: [0; SYMBOLS] };
        let (mut code, mut filled, mut length) = (0_u32, 0, 1);
        while length <= LONGEST {
            code <<= 1;
            let (first, begin) = (code, filled);
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    table.symbols[filled] = symbol as u16;
                    filled += 1;
                    code += 1;
                }
                symbol += 1;
            }
            table.rows[length] = (first, code - first, begin);
            length += 1;
        }
        table
    }

    fn symbol(&self, code: u32, length: usize) -> Option<u16> {
        let (first, count, begin) = *self.rows.get(length)?;
        let at = code.checked_sub(first).filter(|at| *at < count)?;
        self.symbols.get(begin.checked_add(at as usize)?).copied()
    }
}

/// The text that `bytes` are the code of; `None` when they are none, or it has more than `most` bytes.
pub fn decode(bytes: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len().min(most));
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = (code << 1) | u32::from((byte >> bit) & 1);
            length = length.checked_add(1)?;
            if length > LONGEST {
                return None;
            }
            if let Some(symbol) = TABLE.symbol(code, length) {
                if symbol == END || text.len() >= most {
                    return None;
                }
                text.push(symbol as u8);
                (code, length) = (0, 0);
            }
        }
    }
    // What is left over is the beginning of the end's code, which is all ones, and less than a byte (section 5.2).
    let ones = (1_u32 << length.min(LONGEST)).wrapping_sub(1);
    (length < 8 && code == ones).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn the_standards_own_examples_are_read() {
        for (code, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ] {
            assert_eq!(decode(&hex(code), 100).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_wrong_end_the_ends_own_code_and_too_long_a_text_are_refused() {
        assert_eq!(decode(&hex("aec3771a4a"), 100), None, "padding is not all ones");
        assert_eq!(decode(&hex("6402ff"), 100), None, "padding is a whole byte");
        assert_eq!(decode(&hex("ffffffff"), 100), None, "the end is no byte of a text");
        assert_eq!(decode(&hex("6402"), 2), None, "three bytes are more than two");
        assert_eq!(decode(&[], 0).as_deref(), Some(&[][..]));
    }
}
