//! The frames of a stack, reduced to what stays the same from one build and one event to the next.
//!
//! Part of `g1`: what counts and how it is written must not change.

use super::super::event::{Exception, Frame};
use super::super::pattern::Pattern;

/// Innermost frames that count.
const FRAMES_MAX: usize = 30;

/// Most bytes of a line of source.
const CONTEXT_MAX: usize = 120;

/// Functions that say nothing.
const NAMELESS: &[&str] = &["", "?", "<anonymous>", "eval", "<unknown>", "anonymous"];

#[derive(Debug)]
pub(super) struct Frames {
    /// A build's hash in a file name.
    build: Pattern,
    /// Numbers a compiler or runtime adds to names.
    made: Pattern,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            build: Pattern::new(r"([.\-_])([0-9a-z]{8,40})(\.[a-z]+)$"),
            made: Pattern::new(r"(\$\$[A-Za-z]+\$\$[0-9a-f]+|\$[0-9]+|/0x[0-9a-f]+|@[0-9a-f]{6,}|___\d[\d_]*)"),
        }
    }

    /// Whether a frame of the app's own code counts.
    pub(super) fn has_app(&self, exception: &Exception, platform: &str) -> bool {
        !self.parts(exception, platform, true).is_empty()
    }

    /// The parts of the frames that count; none for minified JavaScript.
    pub(super) fn parts(&self, exception: &Exception, platform: &str, app_only: bool) -> Vec<String> {
        if is_minified(exception) {
            return Vec::new();
        }
        let with_context = ["python", "node", "ruby", "php", "javascript"].contains(&platform);
        let mut parts: Vec<String> = Vec::new();
        for frame in exception.frames.iter().filter(|frame| frame.in_app || !app_only) {
            let Some(part) = self.part(frame, with_context && (platform != "javascript" || frame.mapped)) else {
                continue;
            };
            // Recursion of any depth is one frame.
            if parts.last() != Some(&part) {
                parts.push(part);
            }
        }
        let surplus = parts.len().saturating_sub(FRAMES_MAX);
        parts.drain(..surplus);
        parts
    }

    /// A frame as `place␟function␟line of source`; `None` for one that says nothing.
    fn part(&self, frame: &Frame, with_context: bool) -> Option<String> {
        let function = self.function(&frame.function);
        let mut context = if with_context { frame.context.trim().to_owned() } else { String::new() };
        super::super::shape::cut_text(&mut context, CONTEXT_MAX);
        if function.is_empty() && context.is_empty() {
            return None;
        }
        let place = if frame.module.is_empty() { self.file(&frame.file) } else { frame.module.clone() };
        Some(format!("{place}\u{1f}{function}\u{1f}{context}"))
    }

    fn function(&self, name: &str) -> String {
        let name = name.trim();
        let name = name.strip_prefix("async ").or_else(|| name.strip_prefix("new ")).unwrap_or(name);
        let name = name.strip_prefix("Object.").or_else(|| name.strip_prefix("Module.")).unwrap_or(name);
        if NAMELESS.contains(&name) {
            return String::new();
        }
        self.made.replace_all(name, "").into_owned()
    }

    /// The last part of a path, in lower case, without the hash of a build. Nothing for the page of a URL.
    fn file(&self, path: &str) -> String {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
        if is_url(path) && !name.contains('.') {
            return String::new();
        }
        match self.build.captures(&name).map(|found| found.extract()) {
            Some((whole, [before, hash, after])) if hash.bytes().any(|byte| byte.is_ascii_digit()) => {
                format!("{}{before}*{after}", name.strip_suffix(whole).unwrap_or_default())
            }
            _ => name,
        }
    }
}

/// Whether the stack is of JavaScript that was minified and not mapped back: files of URLs, and functions of at most
/// two letters.
fn is_minified(exception: &Exception) -> bool {
    let mut urls = exception.frames.iter().filter(|frame| is_url(&frame.file)).peekable();
    let is_short = |frame: &Frame| NAMELESS.contains(&frame.function.as_str()) || frame.function.len() <= 2;
    urls.peek().is_some() && urls.all(|frame| !frame.mapped && is_short(frame))
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lose_the_hash_of_their_build() {
        let frames = Frames::new();
        for (path, expected) in [
            ("/app/_next/main.3f2a9c1b.js", "main.*.js"),
            ("chunk-4RT7QZ2A.js", "chunk-*.js"),
            ("C:\\src\\App.tsx", "app.tsx"),
            ("https://x.example/", ""),
            ("/app/views.py", "views.py"),
        ] {
            assert_eq!(frames.file(path), expected, "{path}");
        }
    }

    #[test]
    fn functions_lose_what_a_runtime_adds() {
        let frames = Frames::new();
        for (name, expected) in
            [("Object.foo", "foo"), ("async load", "load"), ("<anonymous>", ""), ("run$$Lambda$$12", "run"), ("f", "f")]
        {
            assert_eq!(frames.function(name), expected, "{name}");
        }
    }
}
