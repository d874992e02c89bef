//! Lengths of time as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time. Written `250ms`, `30s`, `15m`, `1h30m`, `7d`; a bare number is refused, since its unit is a guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// `count` milliseconds.
    pub const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// `count` seconds.
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// `count` minutes.
    pub const fn mins(count: u64) -> Self {
        Self(Duration::from_secs(count * 60))
    }

    /// `count` hours.
    pub const fn hours(count: u64) -> Self {
        Self(Duration::from_secs(count * 3600))
    }

    /// `count` days of 24 hours.
    pub const fn days(count: u64) -> Self {
        Self(Duration::from_secs(count * 86_400))
    }

    /// The same length as the standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Why a text is no [`Span`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time: write numbers with ms, s, m, h, d or w, such as `30s` or `1h30m`")]
pub struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(text.to_owned());
        let mut rest = text.trim();
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest.get(..digits).and_then(|n| n.parse().ok()).ok_or_else(bad)?;
            rest = rest.get(digits..).ok_or_else(bad)?.trim_start();
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let name = rest.get(..letters).ok_or_else(bad)?;
            let size = UNITS.iter().find(|(unit, _)| *unit == name).ok_or_else(bad)?.1;
            millis = number.checked_mul(size).and_then(|part| millis.checked_add(part)).ok_or_else(bad)?;
            rest = rest.get(letters..).ok_or_else(bad)?.trim_start();
        }
        if text.trim().is_empty() { Err(bad()) } else { Ok(Self::millis(millis)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (name, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= size {
                write!(f, "{}{name}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_spans_in_many_ways() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1h 5s", 3_605_000)]
        {
            assert_eq!(text.parse(), Ok(Span::millis(millis)), "{text}");
        }
    }

    #[test]
    fn bare_numbers_and_nonsense_are_refused() {
        for text in ["", "30", "s", "-1s", "1.5h", "3 fortnights", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_print_as_they_are_written() {
        for text in ["250ms", "30s", "1h30m", "7d", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }
}
