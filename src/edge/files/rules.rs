//! `Cache-Control` of files by name.

use http::HeaderValue;

use crate::base::{Span, stars};
use crate::edge::error::ConfigError;

/// Fewest characters that count as a hash in a name.
const HASH: usize = 8;

/// Which files, and what their `Cache-Control` is; the first rule that fits counts.
#[derive(Clone, Debug)]
pub struct CacheRule {
    pattern: Pattern,
    /// The header's value.
    pub value: HeaderValue,
}

#[derive(Clone, Debug)]
enum Pattern {
    /// Names that carry a hash of their content.
    Hashed,
    /// A path in which `*` stands for anything.
    Glob(String),
}

/// Reads `pattern: value` lines. The value is a time (`7d`), `immutable`, or a whole `Cache-Control`.
///
/// # Errors
/// The first line that reads otherwise.
pub fn rules(key: &'static str, lines: &[String]) -> Result<Vec<CacheRule>, ConfigError> {
    let read = |line: &String| {
        let (pattern, value) = line.split_once(':')?;
        let (pattern, value) = (pattern.trim(), value.trim());
        let text = match value {
            "immutable" => "public, max-age=31536000, immutable".to_owned(),
            value => match value.parse::<Span>() {
                Ok(span) => format!("public, max-age={}", span.duration().as_secs()),
                Err(_) => value.to_owned(),
            },
        };
        let pattern = match pattern {
            "" => return None,
            "hashed" => Pattern::Hashed,
            glob => Pattern::Glob(glob.to_owned()),
        };
        let value = HeaderValue::from_str(&text).ok().filter(|value| !value.is_empty())?;
        Some(CacheRule { pattern, value })
    };
    let wrong = |line: &String| ConfigError::Value {
        key,
        value: line.clone(),
        allowed: "`pattern: value`, such as `*.css: 7d` or `hashed: immutable`".to_owned(),
    };
    lines.iter().map(|line| read(line).ok_or_else(|| wrong(line))).collect()
}

impl CacheRule {
    /// Whether the rule is about the file at `path`.
    pub fn fits(&self, path: &str) -> bool {
        match &self.pattern {
            Pattern::Hashed => is_hashed(path.rsplit('/').next().unwrap_or(path)),
            Pattern::Glob(glob) => stars::fits(glob.as_bytes(), path.as_bytes()),
        }
    }
}

/// Whether a name such as `index-BxK3d9aQ.js` or `app.3f2a9c81.css` carries a hash: a part of eight characters or more
/// with digits and letters before the extension. A date has no letters, a word no digits.
fn is_hashed(name: &str) -> bool {
    let Some((stem, _extension)) = name.rsplit_once('.') else { return false };
    let Some(at) = stem.rfind(['.', '-']) else { return false };
    let part = stem.get(at.saturating_add(1)..).unwrap_or("");
    part.len() >= HASH
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let lines = ["hashed: immutable", "*.css: 7d", "/static/*: private, no-store"].map(str::to_owned);
        let rules = rules("k", &lines).unwrap();
        let value = |path| rules.iter().find(|rule| rule.fits(path)).map(|rule| rule.value.to_str().unwrap());
        assert_eq!(value("/assets/index-BxK3d9aQ.css"), Some("public, max-age=31536000, immutable"));
        assert_eq!(value("/a/b.css"), Some("public, max-age=604800"));
        assert_eq!(value("/static/report-20240101.pdf"), Some("private, no-store"));
        assert_eq!(value("/index.html"), None);
        for line in ["no colon", ": 7d", "x:", "x: a\nb"] {
            assert!(super::rules("k", &[line.to_owned()]).is_err(), "{line}");
        }
    }
}
