//! An import on the terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::state::State;
use crate::base::Clock;
use crate::cli::backup_show::size;

/// Time between two drawings.
const DRAW: Duration = Duration::from_millis(200);
/// Characters of the bar.
const WIDTH: u64 = 24;
/// Of so many keys that were left out the text tells which they are; the JSON has more.
const NAMED: usize = 20;

/// One line on standard error that is written over on a terminal, else a line a step.
pub(super) struct Bar {
    clock: Arc<dyn Clock>,
    terminal: bool,
    last: String,
    drawn: Option<Duration>,
    total: u64,
    unit: &'static str,
}

impl Bar {
    /// A bar for `total` things, which are called `unit`; 0 where nobody knows how many there are.
    pub fn new(clock: Arc<dyn Clock>, total: u64, unit: &'static str) -> Self {
        Self { clock, terminal: std::io::stderr().is_terminal(), last: String::new(), drawn: None, total, unit }
    }

    /// Tells how far it is.
    pub fn tell(&mut self, doing: &str, done: u64, bytes: u64) {
        let now = self.clock.monotonic();
        let soon = self.drawn.is_some_and(|drawn| now.saturating_sub(drawn) < DRAW);
        if self.last == doing && (soon || !self.terminal) {
            return;
        }
        self.drawn = Some(now);
        let mut err = std::io::stderr().lock();
        // Nobody watches when this fails.
        if self.terminal && self.total == 0 {
            let _ = write!(err, "\r\x1b[2K{doing}: {done} {}, {} copied", self.unit, size(bytes));
        } else if self.terminal {
            let filled = done.saturating_mul(WIDTH).checked_div(self.total).unwrap_or(WIDTH).min(WIDTH) as usize;
            let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH as usize - filled));
            let _ =
                write!(err, "\r\x1b[2K{doing}: [{bar}] {done} of {} {}, {} copied", self.total, self.unit, size(bytes));
        } else {
            let _ = writeln!(err, "{doing}");
        }
        let _ = err.flush();
        doing.clone_into(&mut self.last);
    }

    /// Leaves the line.
    pub fn end(&mut self) {
        if self.terminal && !self.last.is_empty() {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
        self.last.clear();
    }
}

/// What an import came to.
pub(super) struct Done<'a> {
    pub source: String,
    pub state: &'a State,
    pub skipped: u64,
    pub left: (u64, Vec<String>),
    pub quiet: bool,
}

impl Done<'_> {
    pub fn text(&self) -> String {
        let mut out =
            format!("copied {} values, {}, from {}\n", self.state.copied, size(self.state.bytes), self.source);
        // Writing into a String cannot fail.
        for (pass, found) in (1..).zip(&self.state.passes) {
            let _ = if found.is_nothing() {
                writeln!(out, "pass {pass}: nothing had changed")
            } else {
                writeln!(out, "pass {pass}: {} new, {} changed, {} removed", found.new, found.changed, found.removed)
            };
        }
        if self.skipped > 0 {
            let _ = writeln!(out, "there already, and left as they were: {}", self.skipped);
        }
        let (count, named) = &self.left;
        for reason in named.iter().take(NAMED) {
            let _ = writeln!(out, "left out: {reason}");
        }
        if *count > NAMED as u64 {
            let _ = writeln!(out, "left out in all: {count}");
        }
        out
    }

    pub fn json(&self) -> Value {
        json!({
            "source": self.source, "copied": self.state.copied, "bytes": self.state.bytes, "passes": self.state.passes,
            "skipped": self.skipped, "left_out": self.left.0, "left_out_named": self.left.1, "settled": self.quiet,
        })
    }
}
