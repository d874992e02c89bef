//! nginx's configuration as text: words, quotes, blocks and comments become a tree of directives.
//!
//! After nginx's own reading (`ngx_conf_read_token`): words end at blanks, `;` and `{`, quotes hold anything with `\` before
//! a quote, `${name}` is part of a word.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

/// Deepest nesting of blocks.
const DEEPEST: usize = 16;
/// Most directives of one file.
const MOST: usize = 50_000;

/// One directive, with what stands in its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name and what follows, at least the name.
    pub words: Vec<String>,
    /// What its braces hold; `None` without braces.
    pub block: Option<Vec<Directive>>,
    /// The line it begins in, from 1.
    pub line: usize,
    /// The file it stands in, when that is another one than that of what is around it.
    pub file: Option<Arc<str>>,
}

impl Directive {
    /// Its name.
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// What follows the name.
    pub fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// What follows the name, the `at`th, from 0.
    pub fn arg(&self, at: usize) -> &str {
        self.args().get(at).map_or("", String::as_str)
    }
}

/// A text is no nginx configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unreadable {
    /// Where.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The directives of `text`.
///
/// # Errors
/// [`Unreadable`].
pub fn parse(text: &str) -> Result<Vec<Directive>, Unreadable> {
    let mut reader = Reader { rest: text.chars().peekable(), line: 1, count: 0 };
    reader.block(0)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    count: usize,
}

impl Reader<'_> {
    fn wrong<T>(&self, what: &'static str) -> Result<T, Unreadable> {
        Err(Unreadable { line: self.line, what })
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        next
    }

    /// Directives up to the end of the block, or of the text at depth 0.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, Unreadable> {
        if depth > DEEPEST {
            return self.wrong("blocks are nested too deeply");
        }
        let mut all = Vec::new();
        let (mut words, mut line) = (Vec::new(), self.line);
        loop {
            let Some(next) = self.rest.peek().copied() else {
                return if depth > 0 || !words.is_empty() { self.wrong("the text ends too early") } else { Ok(all) };
            };
            match next {
                '#' => {
                    while self.rest.peek().is_some_and(|next| *next != '\n') {
                        self.next();
                    }
                }
                ';' | '{' => {
                    self.next();
                    if words.is_empty() {
                        return self.wrong("a directive without a name");
                    }
                    self.count = self.count.saturating_add(1);
                    if self.count > MOST {
                        return self.wrong("there are too many directives");
                    }
                    let block = if next == '{' { Some(self.block(depth.saturating_add(1))?) } else { None };
                    all.push(Directive { words: std::mem::take(&mut words), block, line, file: None });
                }
                '}' => {
                    self.next();
                    return match (depth, words.is_empty()) {
                        (0, _) => self.wrong("a } without its {"),
                        (_, false) => self.wrong("a directive without its ;"),
                        _ => Ok(all),
                    };
                }
                next if next.is_whitespace() => {
                    self.next();
                }
                _ => {
                    if words.is_empty() {
                        line = self.line;
                    }
                    words.push(self.word()?);
                }
            }
        }
    }

    fn word(&mut self) -> Result<String, Unreadable> {
        let mut word = String::new();
        if let Some(quote @ ('"' | '\'')) = self.rest.peek().copied() {
            self.next();
            loop {
                match self.next() {
                    None => return self.wrong("a quote does not end"),
                    Some(end) if end == quote => return Ok(word),
                    Some('\\') => match self.next() {
                        Some(escaped @ ('"' | '\'' | '\\')) => word.push(escaped),
                        Some(other) => word.extend(['\\', other]),
                        None => return self.wrong("a quote does not end"),
                    },
                    Some(other) => word.push(other),
                }
            }
        }
        while let Some(next) = self.rest.peek().copied() {
            match next {
                '{' if word.ends_with('$') => {
                    while let Some(inner) = self.next() {
                        word.push(inner);
                        if inner == '}' {
                            break;
                        }
                    }
                }
                ';' | '{' => break,
                next if next.is_whitespace() => break,
                '\\' => {
                    self.next();
                    word.push('\\');
                    word.extend(self.next());
                }
                _ => word.extend(self.next()),
            }
        }
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_blocks_and_comments_are_told_apart() {
        let text = "# c\nhttp { # d\n  server_name a \"b c\" 'd\\'e';\n  location ~ \\.php$ { return 301 ${scheme}://x; }\n}\n";
        let all = parse(text).unwrap();
        let inner = all[0].block.as_ref().unwrap();
        assert_eq!(inner[0].words, ["server_name", "a", "b c", "d'e"]);
        assert_eq!((inner[0].line, inner[1].arg(1)), (3, "\\.php$"));
        assert_eq!(inner[1].block.as_ref().unwrap()[0].words, ["return", "301", "${scheme}://x"]);
    }

    #[test]
    fn what_does_not_end_is_told_with_its_line() {
        for (text, line) in [("a", 1), ("a {\n b;\n", 3), ("}", 1), ("a \"b", 1), ("\n;", 2), ("a { b }", 1)] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
        assert!(parse(&"a{".repeat(100)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_brings_the_reader_down(text in "[a-z \\n{};#\"'$\\\\]{0,80}") {
            let _ = parse(&text);
        }
    }
}
