//! `Cache-Control` of requests and answers (RFC 9111 section 5.2).
//!
//! Read leniently, and in doubt against the cache: a word that forbids counts however it is written (`no-cache="age"` as
//! much as `no-cache`), a number that does not read is 0 and so is one that is given twice in different ways, and what
//! stands behind a quote that nobody closes is read as if there were none.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// The largest number of seconds (RFC 9111 section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// What is either there or not; each its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// Nothing of it may be kept.
    NoStore = 1,
    /// Never used unasked; in a request: not used without asking the app.
    NoCache = 2,
    /// For one person.
    Private = 4,
    /// For everybody.
    Public = 8,
    /// Never used stale.
    MustRevalidate = 16,
    /// Never used stale by a shared cache.
    ProxyRevalidate = 32,
    /// Only for who understands the status; `no-store` beside it is for the others.
    MustUnderstand = 64,
    /// In a request: from the cache or not at all.
    OnlyIfCached = 128,
}

/// What comes with a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Freshness lifetime; in a request: the greatest age.
    MaxAge,
    /// Freshness lifetime in shared caches.
    SharedMaxAge,
    /// In a request: how stale an answer may be.
    MaxStale,
    /// In a request: how long an answer must stay fresh.
    MinFresh,
    /// For how long it may be used stale while it is asked for again (RFC 5861 section 3).
    StaleWhileRevalidate,
    /// For how long it may be used in place of an error (RFC 5861 section 4).
    StaleIfError,
}

const WORDS: [(&str, Word); 8] = [
    ("no-store", Word::NoStore),
    ("no-cache", Word::NoCache),
    ("private", Word::Private),
    ("public", Word::Public),
    ("must-revalidate", Word::MustRevalidate),
    ("proxy-revalidate", Word::ProxyRevalidate),
    ("must-understand", Word::MustUnderstand),
    ("only-if-cached", Word::OnlyIfCached),
];

const NUMBERS: [(&str, Number); 6] = [
    ("max-age", Number::MaxAge),
    ("s-maxage", Number::SharedMaxAge),
    ("max-stale", Number::MaxStale),
    ("min-fresh", Number::MinFresh),
    ("stale-while-revalidate", Number::StaleWhileRevalidate),
    ("stale-if-error", Number::StaleIfError),
];

/// All directives of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    words: u8,
    numbers: [Option<Duration>; 6],
    /// Whether there was any directive, known or not.
    any: bool,
}

impl Control {
    /// The directives in `headers`.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            control.read(line.as_bytes());
        }
        control
    }

    /// Whether `word` is there.
    pub const fn has(&self, word: Word) -> bool {
        self.words & word as u8 != 0
    }

    /// The time `number` gives.
    pub fn span(&self, number: Number) -> Option<Duration> {
        self.numbers.get(number as usize).copied().flatten()
    }

    /// Whether there is any directive.
    pub const fn is_there(&self) -> bool {
        self.any
    }

    /// Whether the answer says that it is for everybody, so that even a request with credentials may bring it in (RFC 9111
    /// section 3.5, without `must-revalidate`, which many an app writes on a person's own pages).
    pub fn is_for_all(&self) -> bool {
        self.has(Word::Public) || self.span(Number::SharedMaxAge).is_some()
    }

    /// One line.
    fn read(&mut self, mut line: &[u8]) {
        while !line.is_empty() {
            let (element, rest) = element(line);
            line = rest;
            let (name, value) = match element.iter().position(|byte| *byte == b'=') {
                Some(at) => (element.get(..at).unwrap_or_default(), element.get(at.saturating_add(1)..)),
                None => (element, None),
            };
            self.take(name.trim_ascii(), value.map(<[u8]>::trim_ascii));
        }
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        if name.is_empty() {
            return;
        }
        self.any = true;
        if let Some((_, word)) = WORDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) {
            self.words |= *word as u8;
        }
        let Some((_, number)) = NUMBERS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())) else {
            return;
        };
        let seconds = match (value, number) {
            // Any staleness will do (RFC 9111 section 5.2.1.2).
            (None, Number::MaxStale) => MOST_SECONDS,
            (None, _) => 0,
            (Some(value), _) => seconds(value).unwrap_or(0),
        };
        if let Some(slot) = self.numbers.get_mut(*number as usize) {
            let given = Duration::from_secs(seconds);
            *slot = Some(if slot.is_none_or(|before| before == given) { given } else { Duration::ZERO });
        }
    }
}

/// The first element of a list and what comes after its comma. A comma within quotes is none.
fn element(line: &[u8]) -> (&[u8], &[u8]) {
    let comma = |line: &[u8]| line.iter().position(|byte| *byte == b',');
    let mut end = comma(line);
    if line.get(..end.unwrap_or(line.len())).is_some_and(|element| element.contains(&b'"')) {
        let (mut quoted, mut escaped, mut outside) = (false, false, None);
        for (at, byte) in line.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    outside = Some(at);
                    break;
                }
                _ => {}
            }
        }
        if !quoted {
            end = outside;
        }
    }
    match end {
        Some(at) => (line.get(..at).unwrap_or_default(), line.get(at.saturating_add(1)..).unwrap_or_default()),
        None => (line, &[]),
    }
}

/// A number of seconds, bare or in quotes; past [`MOST_SECONDS`] it is that.
pub fn seconds(value: &[u8]) -> Option<u64> {
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    if bare.is_empty() || !bare.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = bare
        .iter()
        .fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))));
    Some(number.min(MOST_SECONDS))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn control(lines: &[&str]) -> Control {
        Control::of(&lines.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_str(line).unwrap())).collect())
    }

    #[test]
    fn numbers_are_read_and_in_doubt_they_are_none() {
        for (line, number, seconds) in [
            ("max-age=60", Number::MaxAge, Some(60)),
            ("MAX-AGE=60 , public", Number::MaxAge, Some(60)),
            ("max-age=\"60\"", Number::MaxAge, Some(60)),
            ("max-age = 60", Number::MaxAge, Some(60)),
            ("max-age=99999999999999999999", Number::MaxAge, Some(1 << 31)),
            ("max-age", Number::MaxAge, Some(0)),
            ("max-age=", Number::MaxAge, Some(0)),
            ("max-age=-1", Number::MaxAge, Some(0)),
            ("max-age=1.5", Number::MaxAge, Some(0)),
            ("max-age='60'", Number::MaxAge, Some(0)),
            ("max-age=60, max-age=60", Number::MaxAge, Some(60)),
            ("max-age=60, max-age=3600", Number::MaxAge, Some(0)),
            ("xmax-age=60", Number::MaxAge, None),
            ("s-maxage=5", Number::SharedMaxAge, Some(5)),
            ("max-stale", Number::MaxStale, Some(1 << 31)),
            ("max-stale=7", Number::MaxStale, Some(7)),
            ("min-fresh=7", Number::MinFresh, Some(7)),
            ("a=\"b, max-age=7\"", Number::MaxAge, None),
            ("a=\"b\\\", max-age=7\"", Number::MaxAge, None),
        ] {
            assert_eq!(control(&[line]).span(number), seconds.map(Duration::from_secs), "{line}");
        }
    }

    #[test]
    fn words_that_forbid_count_however_they_are_written() {
        for line in ["no-store", "No-Store", "x, no-store", "no-store=\"a, b\"", ",,no-store;", "a=\"b, no-store"] {
            let line = line.trim_end_matches(';');
            assert!(control(&[line]).has(Word::NoStore), "{line}");
        }
        assert!(control(&["no-cache=\"set-cookie, x\", max-age=5"]).has(Word::NoCache));
        assert!(control(&["max-age=5", "private=\"x\""]).has(Word::Private));
        assert!(!control(&["a=\"b, no-store\""]).has(Word::NoStore));
        assert!(!control(&["no-stored"]).has(Word::NoStore));
    }

    #[test]
    fn an_unknown_directive_is_one_too() {
        assert!(control(&["immutable"]).is_there());
        assert!(!control(&["", " , "]).is_there());
    }

    proptest! {
        /// What is written of known directives comes back, whatever else stands beside it.
        #[test]
        fn directives_are_found_among_others(age in 0u32..1_000_000, other in "[a-z]{1,8}(=\"[a-z, ]{0,8}\")?", upper: bool) {
            let mut text = format!("{other}, max-age={age}, private, {other}");
            if upper {
                text = text.to_ascii_uppercase();
            }
            let control = control(&[&text]);
            prop_assert_eq!(control.span(Number::MaxAge), Some(Duration::from_secs(age.into())));
            prop_assert!(control.has(Word::Private));
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let mut control = Control::default();
            control.read(&bytes);
            for (_, number) in NUMBERS {
                prop_assert!(control.span(number).is_none_or(|span| span.as_secs() <= MOST_SECONDS));
            }
        }
    }
}
