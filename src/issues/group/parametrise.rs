//! Texts without what differs from one event to the next: ids, numbers, addresses, times.
//!
//! Part of `g1`: patterns, their order and their replacements must not change.

use std::borrow::Cow;

use super::super::pattern::Pattern;

/// Lines of a text that count, and bytes of them.
const LINES: usize = 2;
const BYTES: usize = 1 << 10;

/// Pattern and what stands for it, in the order they are applied.
const PATTERNS: &[(&str, &str)] = &[
    (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}", "<email>"),
    (r#"\b[a-z][a-z0-9+.-]*://[^\s"'<>]+"#, "<url>"),
    (r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?\b", "<date>"),
    (r"\b\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?\b", "<time>"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<ip>"),
    (r"(?i)\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b", "<ip>"),
    (r"(?i)\b0x[0-9a-f]+\b", "<hex>"),
    (r"(?i)\b[0-9a-f]{16,128}\b", "<hex>"),
    (r"\b\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|min|h|d)\b", "<duration>"),
    (r"=(?:'[^']*'|true|false)", "=<value>"),
    (r"[-+]?\b\d+\.\d+\b", "<float>"),
    (r"[-+]?\b\d+\b", "<int>"),
];

/// Replaces what differs.
#[derive(Debug)]
pub(super) struct Parametriser(Vec<(Pattern, &'static str)>);

impl Parametriser {
    pub(super) fn new() -> Self {
        Self(PATTERNS.iter().map(|(pattern, with)| (Pattern::new(pattern), *with)).collect())
    }

    /// The first lines of `text` that say something, with stand-ins.
    pub(super) fn text(&self, text: &str) -> String {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(LINES).collect();
        let mut text = lines.join("\n");
        super::super::shape::cut_text(&mut text, BYTES);
        for (pattern, with) in &self.0 {
            if let Cow::Owned(changed) = pattern.replace_all(&text, *with) {
                text = changed;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Compiled once: that takes long without optimisation.
    static PARAMETRISER: LazyLock<Parametriser> = LazyLock::new(Parametriser::new);

    #[test]
    fn what_differs_from_event_to_event_has_a_stand_in() {
        for (text, expected) in [
            ("user 42 not found", "user <int> not found"),
            ("order 3fa85f64-5717-4562-b3fc-2c963f66afa6 gone", "order <uuid> gone"),
            ("ann@example.com at http://x/y?z=1 from 10.0.0.1:80", "<email> at <url> from <ip>"),
            ("took 12.5ms, at 2026-11-20T12:00:00.1Z", "took <duration>, at <date>"),
            ("at 0xdeadbeef in 0123456789abcdef0123456789abcdef01234567", "at <hex> in <hex>"),
            ("ratio -1.5 of name='ann'", "ratio <float> of name=<value>"),
            ("\n\nfirst\n\n  second \nthird", "first\nsecond"),
            ("utf8 and v2beta stay", "utf8 and v2beta stay"),
        ] {
            assert_eq!(PARAMETRISER.text(text), expected);
        }
    }

    proptest! {
        #[test]
        fn numbers_never_make_a_difference(left in 0_u64..1_000_000, right in 0_u64..1_000_000) {
            let text = |number| PARAMETRISER.text(&format!("row {number} is locked"));
            prop_assert_eq!(text(left), text(right));
        }
    }
}
