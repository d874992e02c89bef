//! What files a bucket takes, and how it gives them out: largest size, types, endings of names.
//!
//! A type is allowed by what the upload declares, and by what its bytes are ([`sniff`](super::sniff)): both must say the
//! same. A rule holds for whatever becomes an object from then on: uploads, forms, copies, and uploads in parts, whose
//! first part is looked into. What is there already stays.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::ObjectError;
use super::sniff::{HEAD, sniff, unknown_fits};
use super::types::Metadata;

/// Most types, and most endings, of a bucket.
pub const RULES_MAX: usize = 24;

/// What files of which nothing is said are called.
const ANYTHING: &str = "application/octet-stream";

/// What files a bucket takes. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRules {
    /// The most bytes of one file.
    pub max_bytes: Option<u64>,
    /// The types it takes; empty for all.
    pub types: Vec<MediaRange>,
    /// How keys end that it takes; empty for all.
    pub extensions: Vec<Extension>,
    /// Whether browsers save its objects, whatever they are, and draw none as a page.
    pub download: bool,
}

/// A media type, or all of one kind: `image/png`, `image/*`; in lower case, at most 100 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaRange(String);

/// How a name ends, without the dot: `jpg`, `tar.gz`; in lower case, at most 16 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Extension(String);

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is no media type.
    #[error("`{0}` is no media type such as image/png or image/*")]
    Media(String),
    /// It is no ending.
    #[error("`{0}` is no ending of a file's name such as jpg")]
    Extension(String),
}

/// Why a bucket does not take a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// Its type is not among those allowed.
    #[error("the bucket takes no files of type {media}, only of {allowed}")]
    Type {
        /// What it is.
        media: String,
        /// What is allowed.
        allowed: String,
    },
    /// Its bytes are not what it is declared as.
    #[error("the file is declared as {declared}, but its bytes are {found}")]
    Disguised {
        /// The declared type.
        declared: String,
        /// What it begins as.
        found: &'static str,
    },
    /// The bytes are coded, so that nobody can look into them.
    #[error("the bucket looks into files, so it takes none with a content encoding")]
    Encoded,
    /// Its name does not end as allowed.
    #[error("the bucket takes only files whose names end in {allowed}")]
    Extension {
        /// The endings.
        allowed: String,
    },
}

impl FromStr for MediaRange {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let bad = || RuleError::Media(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let (kind, sub) = lower.split_once('/').filter(|_| lower.len() <= 100).ok_or_else(bad)?;
        let is_token = |part: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !part.is_empty() && part.bytes().all(fits)
        };
        if is_token(kind) && (sub == "*" || is_token(sub)) { Ok(Self(lower)) } else { Err(bad()) }
    }
}

impl FromStr for Extension {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let lower = text.trim().trim_start_matches('.').to_ascii_lowercase();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let is_one = (1..=16).contains(&lower.len()) && lower.bytes().all(fits);
        if is_one { Ok(Self(lower)) } else { Err(RuleError::Extension(text.to_owned())) }
    }
}

macro_rules! texts {
    ($($type:ident),+) => { $(
        impl TryFrom<String> for $type {
            type Error = RuleError;

            fn try_from(text: String) -> Result<Self, RuleError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+ };
}
texts!(MediaRange, Extension);

impl MediaRange {
    fn holds(&self, media: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(kind) => media.starts_with(kind),
            None => self.0 == media,
        }
    }
}

impl FileRules {
    /// Holds what is known of a file before its bytes against the rules.
    pub(super) fn admit(&self, key: &str, metadata: &Metadata) -> Result<(), FileFault> {
        let name = key.to_ascii_lowercase();
        let ends = |extension: &Extension| name.strip_suffix(&extension.0).is_some_and(|rest| rest.ends_with('.'));
        if !self.extensions.is_empty() && !self.extensions.iter().any(ends) {
            return Err(FileFault::Extension { allowed: joined(&self.extensions) });
        }
        if self.types.is_empty() {
            return Ok(());
        }
        if metadata.content_encoding.as_deref().is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
            return Err(FileFault::Encoded);
        }
        let media = declared(metadata);
        if media == ANYTHING { Ok(()) } else { self.allow(&media) }
    }

    /// Who looks at the first bytes of a file, when there is something to look for.
    pub(super) fn look(&self, metadata: &Metadata) -> Option<Look<'_>> {
        (!self.types.is_empty()).then(|| Look { rules: self, declared: declared(metadata), head: Vec::new() })
    }

    /// Whether a file of `size` bytes is too large.
    pub(super) fn check_size(&self, size: u64) -> Result<(), ObjectError> {
        match self.max_bytes {
            Some(limit) if size > limit => Err(ObjectError::TooLarge { limit }),
            _ => Ok(()),
        }
    }

    fn allow(&self, media: &str) -> Result<(), FileFault> {
        if self.types.iter().any(|range| range.holds(media)) {
            return Ok(());
        }
        Err(FileFault::Type { media: media.to_owned(), allowed: joined(&self.types) })
    }

    /// Holds the first bytes of a file that is declared as `declared` against the rules.
    fn judge(&self, declared: &str, head: &[u8]) -> Result<(), FileFault> {
        let found = sniff(head);
        if declared == ANYTHING {
            let is_open = self.types.iter().any(|range| range.holds(ANYTHING));
            let media = found.and_then(|kind| kind.media().first().copied()).unwrap_or(ANYTHING);
            return if is_open { Ok(()) } else { self.allow(media) };
        }
        self.allow(declared)?;
        let fits = found.map_or_else(|| unknown_fits(declared), |kind| kind.fits(declared));
        if fits {
            return Ok(());
        }
        let found = found.and_then(|kind| kind.media().first().copied()).unwrap_or("something else");
        Err(FileFault::Disguised { declared: declared.to_owned(), found })
    }
}

fn joined(rules: &[impl fmt::Display]) -> String {
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The declared type, in lower case and without parameters.
fn declared(metadata: &Metadata) -> String {
    let media = metadata.content_type.as_deref().unwrap_or_default();
    match media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase() {
        nothing if nothing.is_empty() || nothing == "binary/octet-stream" => ANYTHING.to_owned(),
        media => media,
    }
}

/// Takes the first bytes of a file as they stream by.
#[derive(Debug)]
pub(super) struct Look<'a> {
    rules: &'a FileRules,
    declared: String,
    head: Vec<u8>,
}

impl Look<'_> {
    /// Looks at `chunk`, the next; whether that was enough to be judged by.
    pub fn see(&mut self, chunk: &[u8]) -> bool {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        self.head.len() >= HEAD
    }

    /// Judges by what was seen.
    pub fn judge(self) -> Result<(), FileFault> {
        self.rules.judge(&self.declared, &self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(types: &[&str], extensions: &[&str]) -> FileRules {
        FileRules {
            types: types.iter().map(|text| text.parse().unwrap()).collect(),
            extensions: extensions.iter().map(|text| text.parse().unwrap()).collect(),
            ..FileRules::default()
        }
    }

    fn judged(rules: &FileRules, declared: &str, head: &[u8]) -> Result<(), FileFault> {
        let metadata = Metadata { content_type: Some(declared.to_owned()), ..Metadata::default() };
        rules.admit("k", &metadata)?;
        let Some(mut look) = rules.look(&metadata) else { return Ok(()) };
        look.see(head);
        look.judge()
    }

    #[test]
    fn rules_are_read_as_people_write_them() {
        assert_eq!("Image/*".parse::<MediaRange>().unwrap().to_string(), "image/*");
        assert_eq!(".Tar.GZ".parse::<Extension>().unwrap().to_string(), "tar.gz");
        for text in ["", "image", "*/*", "image/", "image/p*", "a/b c", &format!("a/{}", "b".repeat(100))] {
            assert!(text.parse::<MediaRange>().is_err(), "{text}");
        }
        for text in ["", ".", "a b", "a/b", "abcdefghijklmnopq"] {
            assert!(text.parse::<Extension>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<MediaRange>("\"image\"").is_err());
    }

    #[test]
    fn declared_type_and_bytes_must_both_be_allowed_and_say_the_same() {
        let pictures = rules(&["image/*", "application/pdf"], &[]);
        let (png, html) = (b"\x89PNG\r\n\x1a\n", b"<!doctype html><script>");
        assert_eq!(judged(&pictures, "image/png", png), Ok(()));
        assert_eq!(judged(&pictures, "IMAGE/PNG; x=y", png), Ok(()));
        assert_eq!(judged(&pictures, "", png), Ok(()));
        assert_eq!(judged(&pictures, "binary/octet-stream", png), Ok(()));
        assert!(matches!(judged(&pictures, "application/octet-stream", html), Err(FileFault::Type { .. })));
        assert!(matches!(judged(&pictures, "text/html", html), Err(FileFault::Type { .. })));
        let disguised = |found| FileFault::Disguised { declared: "image/png".to_owned(), found };
        assert_eq!(judged(&pictures, "image/png", html), Err(disguised("text/html")));
        assert_eq!(judged(&pictures, "image/png", b"\0\x01"), Err(disguised("something else")));
        assert_eq!(judged(&pictures, "image/png", b""), Err(disguised("something else")));
        assert_eq!(judged(&rules(&[], &[]), "image/png", html), Ok(()));
        assert_eq!(judged(&rules(&["application/octet-stream"], &[]), "", html), Ok(()));
        assert_eq!(judged(&rules(&["text/csv"], &[]), "text/csv", b"a,b\n"), Ok(()));
    }

    #[test]
    fn coded_files_are_taken_only_where_nobody_looks_into_them() {
        let metadata = Metadata { content_encoding: Some("gzip".to_owned()), ..Metadata::default() };
        assert_eq!(rules(&["text/*"], &[]).admit("k", &metadata), Err(FileFault::Encoded));
        assert_eq!(rules(&[], &["js"]).admit("k.js", &metadata), Ok(()));
    }

    #[test]
    fn names_end_as_the_rule_says() {
        let ends = rules(&[], &["jpg", "tar.gz"]);
        for (key, fits) in [("a.JPG", true), ("a/b.tar.gz", true), ("ajpg", false), ("a.gz", false), ("jpg", false)] {
            assert_eq!(ends.admit(key, &Metadata::default()).is_ok(), fits, "{key}");
        }
    }
}
