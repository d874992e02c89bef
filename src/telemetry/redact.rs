//! What must not stand in a log line: secrets, and characters that forge lines or move the cursor.

/// Stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Parts of a field's name that say its value is secret.
const SECRET_WORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "authorization", "signature", "credential", "cookie"];

/// Query parameters and header-like words whose value is secret, in lower case, with the sign that ends the name.
const SECRET_PARAMETERS: [&str; 8] = [
    "x-amz-signature=",
    "x-amz-credential=",
    "x-amz-security-token=",
    "signature=",
    "password=",
    "secret=",
    "token=",
    "authorization:",
];

/// Whether the value of a field called `name` is kept out of the log. Names of keys that are no secrets
/// (`access_key_id`, `object_key`) pass.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_key = (name == "key" || name.ends_with("_key")) && name != "object_key";
    is_key || (SECRET_WORDS.iter().any(|word| name.contains(word)) && !name.ends_with("_id"))
}

/// `text` with the secrets of URLs taken out: signatures and tokens in queries, passwords before `@`.
pub fn scrub(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &lower[at..];
        let starts_name = !lower[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '-');
        if let Some(name) = SECRET_PARAMETERS.iter().find(|name| starts_name && rest.starts_with(**name)) {
            let value = at + name.len();
            out.push_str(&text[at..value]);
            out.push_str(REDACTED);
            // A header's value may hold spaces; a parameter's does not.
            let is_header = name.ends_with(':');
            at = end_of(text, value, |c| matches!(c, '&' | '"' | '\'' | '\n') || (!is_header && c.is_whitespace()));
        } else if rest.starts_with("://") {
            let start = at + 3;
            out.push_str("://");
            let end = end_of(text, start, |c| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace());
            let authority = &text[start..end];
            match authority.rsplit_once('@').map(|(user, host)| (user.split(':').next().unwrap_or_default(), host)) {
                Some((user, host)) => {
                    out.push_str(user);
                    out.push(':');
                    out.push_str(REDACTED);
                    out.push('@');
                    out.push_str(host);
                }
                None => out.push_str(authority),
            }
            at = end;
        } else {
            let step = text[at..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..at + step]);
            at += step;
        }
    }
    out
}

fn end_of(text: &str, from: usize, ends: impl Fn(char) -> bool) -> usize {
    text[from..].find(ends).map_or(text.len(), |length| from + length)
}

/// Whether `c` could forge a log line or deceive its reader: controls, and Unicode's direction marks and separators.
pub fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_sound_secret_are() {
        for name in ["password", "Authorization", "s3_secret", "api_token", "signature", "master_key", "key"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["bucket", "access_key_id", "object_key", "keys", "token_id", "monkey"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn queries_and_passwords_of_urls_are_scrubbed() {
        for (text, clean) in [
            ("/b/k?X-Amz-Signature=abc&X-Amz-Date=1", "/b/k?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
            ("GET /x?token=a b", "GET /x?token=[redacted] b"),
            ("redis://:hunter2@localhost:6379/0", "redis://:[redacted]@localhost:6379/0"),
            ("see https://example.com/a@b for more", "see https://example.com/a@b for more"),
            ("Authorization: Bearer abc", "Authorization:[redacted]"),
            ("mytoken=5", "mytoken=5"),
        ] {
            assert_eq!(scrub(text), clean);
        }
    }

    proptest! {
        #[test]
        fn scrubbing_never_panics_and_leaves_no_signature(before in ".{0,40}", secret in "[a-f0-9]{16}", after in ".{0,20}") {
            let text = format!("{before}?X-Amz-Signature={secret}&{after}");
            let kept = format!("X-Amz-Signature={secret}");
            prop_assert!(!scrub(&text).contains(&kept));
        }
    }
}
