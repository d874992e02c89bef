//! Which events are one issue: the grouping algorithm `g1`.
//!
//! Its output is stored: what it computes must not change. A better one gets a new name, and both are computed while
//! issues found by the old one are still wanted.
//!
//! ```text
//! 1  a fingerprint the app chose        its parts, `{{ default }}` standing for what follows
//! 2  exceptions with usable frames      for each of the last five: type, and its frames (module or file, function, line
//!                                       of source); never line numbers, never the message. Frames of the app's own
//!                                       code if the outermost exception has any (primary), else all of them
//! 3  minified JavaScript                type and parametrised text: its frames change with every build
//! 4  exceptions without usable frames   type and parametrised text
//! 5  messages                           logger, and the template or the parametrised text
//! ```
//!
//! A hash is the first half of a SHA-256 over the parts, each behind its length. There are two: `primary`, and `system`
//! from all frames; an event belongs to the issue that either of them names.

mod frames;
mod parametrise;

use self::frames::Frames;
use self::parametrise::Parametriser;
use super::event::{Event, Exception};
use crate::crypto::mac::Sha256;

/// The algorithm's name, part of every stored hash.
pub const ALGORITHM: &str = "g1";

/// Exceptions of a chain that count, from the outermost in.
const CHAIN_MAX: usize = 5;

/// A grouping hash.
pub type Hash = [u8; 16];

/// The hashes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// From the app's own frames where there are any.
    pub primary: Hash,
    /// From all frames.
    pub system: Hash,
}

/// Computes [`Hashes`]. Holds the patterns.
#[derive(Debug)]
pub struct Grouper {
    parametriser: Parametriser,
    frames: Frames,
}

/// Which frames count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    App,
    All,
}

impl Default for Grouper {
    fn default() -> Self {
        Self::new()
    }
}

impl Grouper {
    /// A grouper.
    pub fn new() -> Self {
        Self { parametriser: Parametriser::new(), frames: Frames::new() }
    }

    /// The hashes of `event`.
    pub fn hashes(&self, event: &Event) -> Hashes {
        let chosen = event.fingerprint.as_slice();
        let is_default = |part: &String| part.split_whitespace().eq(["{{", "default", "}}"]);
        let hash = |which| {
            let default = self.default_parts(event, which);
            if chosen.is_empty() || chosen.iter().all(is_default) {
                return digest(&default);
            }
            let mut parts = vec![String::from("fingerprint")];
            for part in chosen {
                if is_default(part) {
                    parts.extend(default.iter().cloned());
                } else {
                    parts.push(expand(part, event));
                }
            }
            digest(&parts)
        };
        Hashes { primary: hash(Which::App), system: hash(Which::All) }
    }

    fn default_parts(&self, event: &Event, which: Which) -> Vec<String> {
        if event.exceptions.is_empty() {
            let text =
                if event.template.is_empty() { self.parametriser.text(&event.message) } else { event.template.clone() };
            return vec![String::from("message"), event.logger.clone(), text];
        }
        let chain = chain(&event.exceptions);
        let which = match chain.last() {
            Some(outermost) if which == Which::App && self.frames.has_app(outermost, &event.platform) => Which::App,
            _ => Which::All,
        };
        let mut parts = vec![String::from("exception")];
        let mut has_frames = false;
        for exception in &chain {
            parts.push(if exception.synthetic { String::new() } else { exception.kind.clone() });
            let frames = self.frames.parts(exception, &event.platform, which == Which::App);
            has_frames |= !frames.is_empty();
            parts.extend(frames);
        }
        if !has_frames {
            parts.truncate(1);
            for exception in &chain {
                parts.push(exception.kind.clone());
                parts.push(self.parametriser.text(&exception.value));
            }
        }
        parts
    }
}

/// The exceptions that count: without mere groups, each shape once, the last [`CHAIN_MAX`].
fn chain(exceptions: &[Exception]) -> Vec<&Exception> {
    let mut chain: Vec<&Exception> = Vec::new();
    for exception in exceptions.iter().filter(|exception| !exception.group) {
        let same = |other: &&Exception| {
            other.kind == exception.kind && other.frames == exception.frames && other.value == exception.value
        };
        if !chain.iter().any(same) {
            chain.push(exception);
        }
    }
    if chain.is_empty() {
        chain.extend(exceptions.last());
    }
    let surplus = chain.len().saturating_sub(CHAIN_MAX);
    chain.drain(..surplus);
    chain
}

/// A part of a chosen fingerprint with its variables filled in.
fn expand(part: &str, event: &Event) -> String {
    let main = event.main_exception();
    match part.trim().trim_start_matches("{{").trim_end_matches("}}").trim() {
        "type" | "error.type" if part.contains("{{") => {
            main.map(|exception| exception.kind.clone()).unwrap_or_default()
        }
        "message" | "error.value" if part.contains("{{") => {
            main.map_or_else(|| event.message.clone(), |exception| exception.value.clone())
        }
        "transaction" if part.contains("{{") => event.transaction.clone(),
        "level" if part.contains("{{") => event.level.clone(),
        _ => part.to_owned(),
    }
}

fn digest(parts: &[String]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(ALGORITHM.as_bytes());
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut out = Hash::default();
    out.copy_from_slice(&hash.finish()[..16]);
    out
}

#[cfg(test)]
mod tests;
