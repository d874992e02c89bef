//! Where a value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file, at a line and column counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(&'static str),
    /// Nobody set it.
    Default,
}

/// `mainstay.toml:3:1`, `MAINSTAY_S3__LISTEN`, `--app`, `default`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Where it stands.
    pub source: Source,
    /// As it was written there, shortened to one line.
    pub written: String,
}

/// Every value that somebody set, by its key (`s3.listen`).
#[derive(Clone, Debug, Default)]
pub struct Origins(pub BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of `key` came from. A key of a table or list inside (`edge.sites.path`) is found by its beginning.
    pub fn source(&self, key: &str) -> Source {
        let mut key = key;
        loop {
            if let Some(origin) = self.0.get(key) {
                return origin.source.clone();
            }
            match key.rsplit_once('.') {
                Some((before, _)) => key = before,
                None => return Source::Default,
            }
        }
    }
}

/// Line and column, both from 1, of the byte at `offset`.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("a\nbé=1", 0), (1, 1));
        assert_eq!(position("a\nbé=1", 5), (2, 3));
        assert_eq!(position("a\n", 99), (2, 1));
    }

    #[test]
    fn a_key_inside_a_list_has_the_lists_source() {
        let source = Source::Flag("--app");
        let origin = Origin { source: source.clone(), written: String::new() };
        let origins = Origins(BTreeMap::from([(String::from("edge.sites"), origin)]));
        assert_eq!(origins.source("edge.sites.path"), source);
        assert_eq!(origins.source("edge.http"), Source::Default);
    }
}
