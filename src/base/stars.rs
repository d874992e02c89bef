//! Patterns in which a `*` stands for anything, also nothing, and everything else for itself.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

/// Whether `text` is `pattern` with something in place of each `*`.
///
/// Takes at most `pattern × text` steps: on a mismatch only the last `*` is tried again one byte further, which is enough, since
/// what an earlier one could stand for the last one can too.
pub fn fits(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
            }
            (Some((wanted, rest)), Some((found, tail))) if wanted == found => (pattern, text) = (rest, tail),
            (None, None) => return true,
            _ => {
                let Some((rest, from)) = again else { return false };
                let Some((_, tail)) = from.split_first() else { return false };
                again = Some((rest, tail));
                (pattern, text) = (rest, tail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("*.js", "/a.b.js", true),
            ("*.js", "/a.jsx", false),
            ("/a/*/c*", "/a/b/b/cd", true),
            ("/a*b*c", "/abcbd", false),
            ("a*c", "ac", true),
            ("a*c", "a", false),
            ("aa*a", "aa", false),
            ("*-x-*", "a-x-b", true),
            ("*-x-*", "a-y-b", false),
            ("a**", "a", true),
            ("", "x", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn it_is_what_trying_everything_says(pattern in "[ab*]{0,6}", text in "[ab]{0,6}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.split_first(), text.split_first()) {
                    (None, first) => first.is_none(),
                    (Some((b'*', rest)), first) => slow(rest, text) || first.is_some_and(|(_, tail)| slow(pattern, tail)),
                    (Some((wanted, rest)), Some((found, tail))) => wanted == found && slow(rest, tail),
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
