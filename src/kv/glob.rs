//! Patterns of `KEYS`, `SCAN MATCH` and `PSUBSCRIBE`: Redis' `stringmatchlen`.
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[^abc]`, `[a-z]` one byte of a class, `\x` the byte x itself.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// Whether `text` fits `pattern` as a whole.
///
/// Takes at most `pattern × text` steps: on a mismatch only the last `*` is tried again one byte further, which is
/// enough, since what an earlier `*` could swallow the last one can too.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match pattern.split_first() {
            Some((b'*', rest)) => {
                retry = Some((rest, text));
                pattern = rest;
                continue;
            }
            None if text.is_empty() => return true,
            _ => {}
        }
        let step = match (one(pattern), text.split_first()) {
            (Some((single, rest)), Some((byte, tail))) if single.accepts(*byte) => Some((rest, tail)),
            _ => None,
        };
        if let Some((rest, tail)) = step {
            (pattern, text) = (rest, tail);
            continue;
        }
        let Some((rest, from)) = retry else { return false };
        let Some((_, tail)) = from.split_first() else { return false };
        retry = Some((rest, tail));
        (pattern, text) = (rest, tail);
    }
}

/// What one byte of the text has to be.
enum Single<'a> {
    Any,
    Byte(u8),
    Class { members: &'a [u8], negated: bool },
}

impl Single<'_> {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Class { members, negated } => class_holds(members, byte) != *negated,
        }
    }
}

/// The first element of a pattern that is not `*`, and the rest. A class without `]` reaches to the end, as in Redis.
fn one(pattern: &[u8]) -> Option<(Single<'_>, &[u8])> {
    let (first, rest) = pattern.split_first()?;
    Some(match (first, rest) {
        (b'?', _) => (Single::Any, rest),
        (b'\\', [escaped, after @ ..]) => (Single::Byte(*escaped), after),
        (b'[', _) => {
            let (negated, members) = match rest {
                [b'^', after @ ..] => (true, after),
                _ => (false, rest),
            };
            let end = class_end(members);
            let after = members.get(end.saturating_add(1)..).unwrap_or_default();
            (Single::Class { members: members.get(..end).unwrap_or(members), negated }, after)
        }
        _ => (Single::Byte(*first), rest),
    })
}

/// Where the `]` of a class stands; its length when there is none.
fn class_end(members: &[u8]) -> usize {
    let mut escaped = false;
    members
        .iter()
        .position(|byte| {
            let end = *byte == b']' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            end
        })
        .unwrap_or(members.len())
}

fn class_holds(mut members: &[u8], byte: u8) -> bool {
    loop {
        members = match members {
            [] => return false,
            [b'\\', escaped, rest @ ..] => {
                if *escaped == byte {
                    return true;
                }
                rest
            }
            [low, b'-', high, rest @ ..] => {
                if (*low.min(high)..=*low.max(high)).contains(&byte) {
                    return true;
                }
                rest
            }
            [single, rest @ ..] => {
                if *single == byte {
                    return true;
                }
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[abc", "b", true),
            ("user:*:name", "user:12:name", true),
            ("\\", "\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let pattern = "*a".repeat(2_000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text);
            prop_assert!(matches(b"*", &text));
        }
    }
}
