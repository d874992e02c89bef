//! Field sections in QPACK's coding (RFC 9204 section 4.5), without a dynamic table.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use bytes::{BufMut as _, Bytes, BytesMut};

use super::huffman;
use super::static_table::FIELDS;

/// What each field counts for beside its name and value (RFC 9114 section 4.2.2).
const OVERHEAD: usize = 32;

/// A field as it came; neither name nor value is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, which may be a pseudo-header's.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// How much a field section may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes, decoded: names, values, and 32 for each field.
    pub bytes: usize,
    /// Most fields.
    pub fields: usize,
}

/// Why a field section is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none, or refers to a table that there is not.
    Broken,
    /// It is larger than the limits.
    TooLarge,
}

/// The fields of `section`.
///
/// # Errors
/// [`Unreadable`].
pub fn decode(section: &[u8], limits: Limits) -> Result<Vec<Field>, Unreadable> {
    let mut rest = section;
    // Required Insert Count and Base. The first is 0 where no table is referred to; then the other says nothing.
    let first = byte(&mut rest)?;
    if integer(&mut rest, first, 8)? != 0 {
        return Err(Unreadable::Broken);
    }
    let first = byte(&mut rest)?;
    integer(&mut rest, first, 7)?;
    let mut fields = Vec::new();
    let mut left = limits.bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let field = if first & 0x80 != 0 {
            let (name, value) = known(&mut rest, *first, 6, 0x40)?;
            Field { name: Bytes::from_static(name.as_bytes()), value: Bytes::from_static(value.as_bytes()) }
        } else if first & 0x40 != 0 {
            let (name, _) = known(&mut rest, *first, 4, 0x10)?;
            Field { name: Bytes::from_static(name.as_bytes()), value: value(&mut rest, left)? }
        } else if first & 0x20 != 0 {
            Field { name: text(&mut rest, *first, 3, left)?, value: value(&mut rest, left)? }
        } else {
            // Both other forms refer to the dynamic table.
            return Err(Unreadable::Broken);
        };
        let size = field.name.len().saturating_add(field.value.len()).saturating_add(OVERHEAD);
        left = left.checked_sub(size).ok_or(Unreadable::TooLarge)?;
        if fields.len() >= limits.fields {
            return Err(Unreadable::TooLarge);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// An entry of the static table, whose index begins in the low `bits` of `first`; the bit `is_static` says that it is of that
/// table.
fn known(rest: &mut &[u8], first: u8, bits: u32, is_static: u8) -> Result<(&'static str, &'static str), Unreadable> {
    if first & is_static == 0 {
        return Err(Unreadable::Broken);
    }
    let index = integer(rest, first, bits)?;
    usize::try_from(index).ok().and_then(|index| FIELDS.get(index)).copied().ok_or(Unreadable::Broken)
}

fn value(rest: &mut &[u8], most: usize) -> Result<Bytes, Unreadable> {
    let first = byte(rest)?;
    text(rest, first, 7, most)
}

/// A text whose length begins in the low `bits` of `first`; the bit above says whether it is in Huffman's code.
fn text(rest: &mut &[u8], first: u8, bits: u32, most: usize) -> Result<Bytes, Unreadable> {
    let length = usize::try_from(integer(rest, first, bits)?).map_err(|_large| Unreadable::Broken)?;
    let (bytes, tail) = rest.split_at_checked(length).ok_or(Unreadable::Broken)?;
    *rest = tail;
    if u32::from(first) & (1 << bits) == 0 {
        return if bytes.len() > most { Err(Unreadable::TooLarge) } else { Ok(Bytes::copy_from_slice(bytes)) };
    }
    // The shortest codes have five bits, so no text is longer than 8/5 of its code.
    let longest = bytes.len().saturating_mul(8) / 5;
    match huffman::decode(bytes, longest) {
        Some(text) if text.len() > most => Err(Unreadable::TooLarge),
        Some(text) => Ok(text.into()),
        None => Err(Unreadable::Broken),
    }
}

fn byte(rest: &mut &[u8]) -> Result<u8, Unreadable> {
    let (first, tail) = rest.split_first().ok_or(Unreadable::Broken)?;
    *rest = tail;
    Ok(*first)
}

/// A number that begins in the low `bits` of `first` (RFC 7541 section 5.1).
fn integer(rest: &mut &[u8], first: u8, bits: u32) -> Result<u64, Unreadable> {
    let full = (1_u64 << bits.min(8)).wrapping_sub(1);
    let mut number = u64::from(first) & full;
    if number < full {
        return Ok(number);
    }
    for shift in (0_u32..56).step_by(7) {
        let next = byte(rest)?;
        number = number.checked_add(u64::from(next & 0x7f) << shift).ok_or(Unreadable::Broken)?;
        if next & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Unreadable::Broken)
}

/// Writes field sections.
#[derive(Debug)]
pub struct Encoder(BytesMut);

impl Default for Encoder {
    /// An empty section.
    fn default() -> Self {
        let mut out = BytesMut::with_capacity(512);
        out.put_u16(0);
        Self(out)
    }
}

impl Encoder {
    /// Adds a field; `name` is in lower case.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let mut alike = None;
        for (index, (known, content)) in FIELDS.iter().enumerate() {
            if *known == name {
                if content.as_bytes() == value {
                    return put_integer(&mut self.0, 0xc0, 6, index as u64);
                }
                alike = alike.or(Some(index as u64));
            }
        }
        if let Some(index) = alike {
            put_integer(&mut self.0, 0x50, 4, index);
        } else {
            put_integer(&mut self.0, 0x20, 3, name.len() as u64);
            self.0.put_slice(name.as_bytes());
        }
        put_integer(&mut self.0, 0, 7, value.len() as u64);
        self.0.put_slice(value);
    }

    /// The section.
    pub fn finish(self) -> Bytes {
        self.0.freeze()
    }
}

fn put_integer(out: &mut BytesMut, pattern: u8, bits: u32, number: u64) {
    let full = (1_u64 << bits.min(8)).wrapping_sub(1);
    if number < full {
        return out.put_u8(pattern | number as u8);
    }
    out.put_u8(pattern | full as u8);
    let mut left = number.saturating_sub(full);
    while left >= 0x80 {
        out.put_u8(0x80 | (left & 0x7f) as u8);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 4096, fields: 20 };

    fn field(name: &str, value: &str) -> Field {
        Field { name: Bytes::copy_from_slice(name.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    #[test]
    fn the_standards_own_example_is_read() {
        // RFC 9204 Appendix B.1.
        let section = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(decode(&section, LIMITS).unwrap(), [field(":path", "/index.html")]);
    }

    #[test]
    fn every_form_of_a_field_is_read() {
        // Indexed :method GET (17) and :scheme https (23), a literal with Huffman's code, and a name in it.
        let section = [
            &[0x00, 0x00, 0xd1, 0xd7][..],
            &[0x50, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            &[0x2f, 0x01, 0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f, 0x03, b'a', b'b', b'c'],
        ]
        .concat();
        let expected = [
            field(":method", "GET"),
            field(":scheme", "https"),
            field(":authority", "www.example.com"),
            field("custom-key", "abc"),
        ];
        assert_eq!(decode(&section, LIMITS).unwrap(), expected);
    }

    #[test]
    fn references_to_a_dynamic_table_are_broken() {
        for section in [
            &[0x01, 0x00, 0xd1][..],
            &[0x00, 0x00, 0x80],
            &[0x00, 0x00, 0x40, 0x00],
            &[0x00, 0x00, 0x10],
            &[0x00, 0x00, 0x00, 0x00],
            &[0x00, 0x00, 0xff, 0x24],
            &[0x00],
            &[],
            &[0x00, 0x00, 0x51, 0x05, b'/'],
            &[0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decode(section, LIMITS), Err(Unreadable::Broken), "{section:x?}");
        }
    }

    #[test]
    fn a_section_over_its_limits_is_told_from_a_broken_one() {
        let mut long = Encoder::default();
        long.add("x", &[b'a'; 5000]);
        assert_eq!(decode(&long.finish(), LIMITS), Err(Unreadable::TooLarge));
        let mut many = Encoder::default();
        for _ in 0..21 {
            many.add("accept", b"*/*");
        }
        assert_eq!(decode(&many.finish(), LIMITS), Err(Unreadable::TooLarge));
    }

    proptest! {
        #[test]
        fn fields_are_read_as_they_were_written(
            fields in prop::collection::vec(("[a-z-]{1,200}", "[ -~]{0,300}"), 0..8),
        ) {
            let mut out = Encoder::default();
            for (name, value) in &fields {
                out.add(name, value.as_bytes());
            }
            let read = decode(&out.finish(), Limits { bytes: 1 << 20, fields: 8 }).unwrap();
            let expected: Vec<Field> = fields.iter().map(|(name, value)| field(name, value)).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, LIMITS);
        }
    }
}
