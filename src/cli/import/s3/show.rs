//! What an import came to, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::state::{State, Totals};
use crate::cli::backup_show::size;
use crate::cli::import::notes::Found;

/// Of so many objects that were left out the text tells which they are; the JSON has more.
const NAMED: usize = 20;

pub(super) struct Done<'a> {
    pub source: String,
    pub bucket: String,
    pub state: &'a State,
    pub passes: &'a [Found],
    pub totals: Totals,
    /// Whether the source keeps versions.
    pub versions: bool,
    pub quiet: bool,
}

impl Done<'_> {
    pub fn text(&self) -> String {
        let Totals { here, skipped, gone, left, named } = &self.totals;
        let mut out = format!(
            "copied {} objects, {}, from {} into {}; {here} are here as the source has them\n",
            self.state.copied,
            size(self.state.bytes),
            self.source,
            self.bucket
        );
        // Writing into a String cannot fail.
        let first = self.state.pass.saturating_sub(u32::try_from(self.passes.len()).unwrap_or(0));
        for (pass, found) in (first.saturating_add(1)..).zip(self.passes) {
            let _ = if found.is_nothing() {
                writeln!(out, "pass {pass}: nothing had changed")
            } else {
                writeln!(out, "pass {pass}: {} new, {} changed, {} removed", found.new, found.changed, found.removed)
            };
        }
        if *skipped > 0 {
            let _ = writeln!(out, "there already, and left as they were: {skipped}");
        }
        if *gone > 0 {
            let _ = writeln!(out, "gone from the source, and still here: {gone} (--delete removes them)");
        }
        if self.versions {
            out.push_str("the source keeps versions: only the newest of each object came over\n");
        }
        for reason in named.iter().take(NAMED) {
            let _ = writeln!(out, "left out: {reason}");
        }
        if *left > NAMED as u64 {
            let _ = writeln!(out, "left out in all: {left}");
        }
        out
    }

    pub fn json(&self) -> Value {
        let Totals { here, skipped, gone, left, named } = &self.totals;
        json!({
            "source": self.source, "bucket": self.bucket, "copied": self.state.copied, "bytes": self.state.bytes,
            "here": here, "passes": self.passes, "skipped": skipped, "gone_from_source": gone, "left_out": left,
            "left_out_named": named, "source_keeps_versions": self.versions, "settled": self.quiet,
        })
    }
}
