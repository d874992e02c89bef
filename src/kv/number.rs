//! Numbers in arguments and replies, read and printed as Redis 7.2 does.
#![deny(clippy::indexing_slicing)]

/// Reads a 64-bit integer in its one canonical form: no `+`, no spaces, no leading zeros, no `-0`.
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] if digits.len() == text.len() => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a floating-point number as `strtod` does, whole text, no space around it; not-a-number is refused.
/// Hexadecimal floats, which `strtod` also takes, are refused.
///
/// Numbers too large or too small for a double are refused as well.
pub fn float(text: &[u8]) -> Option<f64> {
    let value = float_bound(text)?;
    let mantissa = || text.iter().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e'));
    let lost = match value {
        f64::INFINITY | f64::NEG_INFINITY => mantissa().any(u8::is_ascii_digit),
        0.0 => text.is_empty() || mantissa().any(|byte| matches!(byte, b'1'..=b'9')),
        _ => false,
    };
    (!lost).then_some(value)
}

/// As [`float`], for the bounds of score ranges, where Redis lets more pass: no text is 0, and what is too large is
/// infinite.
pub fn float_bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// A printed number. Dereferences to its text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 32], len: 0 }
    }

    /// Adds bytes; beyond 32, which no number needs, they are dropped.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn add_zeros(&mut self, count: usize) {
        (0..count).for_each(|_| self.add(b"0"));
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Prints an integer.
pub fn integer_text(value: i64) -> Text {
    let mut text = Text::new();
    text.add(itoa::Buffer::new().format(value).as_bytes());
    text
}

/// Prints a floating-point number: whole numbers plainly up to 2^62, others with the fewest digits that read back the
/// same, in the notation of Redis 7.2 (`fpconv_dtoa`): `0.1`, `1e+20`, `inf`.
pub fn double(value: f64) -> Text {
    let mut text = Text::new();
    if !value.is_finite() {
        text.add(if value.is_nan() {
            b"nan"
        } else if value > 0.0 {
            b"inf"
        } else {
            b"-inf"
        });
        return text;
    }
    // Every whole double of this size is a whole i64.
    if value.abs() < (1_u64 << 62) as f64 && value.fract() == 0.0 {
        if value == 0.0 && value.is_sign_negative() {
            text.add(b"-");
        }
        text.add(integer_text(value as i64).as_bytes());
        return text;
    }
    let mut buffer = zmij::Buffer::new();
    let (negative, digits, exponent) = decimal_parts(buffer.format_finite(value).as_bytes());
    if negative {
        text.add(b"-");
    }
    notate(&mut text, digits.as_bytes(), exponent);
    text
}

/// Splits a printed number into sign, significant digits without zeros at either end, and the power of ten behind them.
fn decimal_parts(printed: &[u8]) -> (bool, Text, i32) {
    let negative = printed.first() == Some(&b'-');
    let unsigned = printed.strip_prefix(b"-").unwrap_or(printed);
    let mut halves = unsigned.splitn(2, |byte| *byte == b'e');
    let mantissa = halves.next().unwrap_or_default();
    let mut exponent: i32 =
        halves.next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok()).unwrap_or_default();
    let mut all = Vec::with_capacity(mantissa.len());
    let mut fraction = false;
    for byte in mantissa {
        if *byte == b'.' {
            fraction = true;
        } else {
            exponent -= i32::from(fraction);
            all.push(*byte);
        }
    }
    while all.len() > 1 && all.last() == Some(&b'0') {
        all.pop();
        exponent += 1;
    }
    let zeros = all.iter().take_while(|byte| **byte == b'0').count();
    let mut digits = Text::new();
    digits.add(all.get(zeros..).unwrap_or_default());
    (negative, digits, exponent)
}

/// Writes `digits × 10^power` in the notation of `emit_digits` (Redis 7.2, `fpconv_dtoa.c`).
fn notate(text: &mut Text, digits: &[u8], power: i32) {
    let count = digits.len() as i32;
    let exponent = power + count - 1;
    if power >= 0 && exponent.abs() < count + 7 {
        text.add(digits);
        text.add_zeros(power as usize);
    } else if power < 0 && (power > -7 || exponent.abs() < 4) {
        let point = count + power;
        if point <= 0 {
            text.add(b"0.");
            text.add_zeros(point.unsigned_abs() as usize);
            text.add(digits);
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            text.add(whole);
            text.add(b".");
            text.add(fraction);
        }
    } else {
        let (first, rest) = digits.split_at(1.min(digits.len()));
        text.add(first);
        if !rest.is_empty() {
            text.add(b".");
            text.add(rest);
        }
        text.add(if exponent < 0 { b"e-" } else { b"e+" });
        text.add(integer_text(i64::from(exponent.abs())).as_bytes());
    }
}

/// Digits after the point that `INCRBYFLOAT` keeps.
const SCALE: u32 = 17;

/// Adds two numbers given as text and prints the sum without exponent, with at most 17 digits after the point and none
/// that are 0 at the end, as `INCRBYFLOAT` does.
///
/// Redis adds in 80-bit floats; decimal fixed point gives the same answers where those are exact enough to print
/// (0.1 + 0.2 = 0.3). Sums beyond 10^20 are added as doubles. `None` when an argument is no number or the sum is not
/// finite.
pub fn add_decimal(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    let (a, b) = (float(left)?, float(right)?);
    if let (Some(left), Some(right)) = (fixed(left), fixed(right)) {
        return Some(fixed_text(left.checked_add(right)?));
    }
    let sum = a + b;
    if !sum.is_finite() {
        return None;
    }
    if sum.abs() >= 1e20 {
        return Some(format!("{sum:.0}").into_bytes());
    }
    fixed(format!("{sum:.17}").as_bytes()).map(fixed_text)
}

/// Reads decimal text as a multiple of 10^-17; digits beyond are cut off. `None` from 10^20 on.
fn fixed(text: &[u8]) -> Option<i128> {
    let (negative, rest) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let mut halves = rest.splitn(2, |byte| byte.eq_ignore_ascii_case(&b'e'));
    let mantissa = halves.next()?;
    let exponent: i32 = match halves.next() {
        Some(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        None => 0,
    };
    let mut value: i128 = 0;
    let mut power = exponent.clamp(-1_000_000, 1_000_000);
    let mut fraction = false;
    for byte in mantissa {
        match byte {
            b'.' => fraction = true,
            b'0'..=b'9' if value < 10_i128.pow(36) => {
                value = value * 10 + i128::from(byte - b'0');
                power -= i32::from(fraction);
            }
            b'0'..=b'9' => power += i32::from(!fraction),
            _ => return None,
        }
    }
    let shift = power + SCALE as i32;
    let scaled = if value == 0 {
        0
    } else if shift >= 0 {
        value.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        10_i128.checked_pow(shift.unsigned_abs()).map_or(0, |unit| value / unit)
    };
    (scaled < 10_i128.pow(SCALE + 20)).then_some(if negative { -scaled } else { scaled })
}

fn fixed_text(value: i128) -> Vec<u8> {
    let unit = 10_u128.pow(SCALE);
    let magnitude = value.unsigned_abs();
    let mut text = format!("{}.{:017}", magnitude / unit, magnitude % unit);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    if value < 0 && text != "0" {
        text.insert(0, '-');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(value: f64) -> String {
        String::from_utf8(double(value).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn integers_have_one_spelling() {
        for (text, value) in [("0", Some(0)), ("-1", Some(-1)), ("9223372036854775807", Some(i64::MAX))] {
            assert_eq!(integer(text.as_bytes()), value);
        }
        for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "a"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_print_as_redis_7_2_prints_them() {
        for (value, text) in [
            (0.1, "0.1"),
            (3.0, "3"),
            (-2.5, "-2.5"),
            (1e20, "1e+20"),
            (1e-5, "0.00001"),
            (1e-9, "1e-9"),
            (1.5e300, "1.5e+300"),
            (17_179_869_184.0, "17179869184"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (0.0, "0"),
        ] {
            assert_eq!(printed(value), text);
        }
    }

    #[test]
    fn decimal_sums_do_not_show_binary_rounding() {
        for (left, right, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("-1.5", "1.5", "0"),
            ("3", "-0.25", "2.75"),
        ] {
            assert_eq!(add_decimal(left.as_bytes(), right.as_bytes()).unwrap(), sum.as_bytes());
        }
        assert_eq!(add_decimal(b"abc", b"1"), None);
        assert_eq!(add_decimal(b"1", b"inf"), None);
    }

    proptest! {
        #[test]
        fn printed_doubles_read_back_the_same(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                prop_assert_eq!(float(double(value).as_bytes()), Some(value));
            }
        }

        #[test]
        fn any_text_is_read_without_panic(left: Vec<u8>, right in "[-+0-9.eE]{0,60}") {
            integer(&left);
            float(&left);
            add_decimal(right.as_bytes(), &left);
            add_decimal(right.as_bytes(), right.as_bytes());
        }

        #[test]
        fn integers_read_back_the_same(value: i64) {
            prop_assert_eq!(integer(integer_text(value).as_bytes()), Some(value));
        }
    }
}
