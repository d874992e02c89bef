//! `mainstay objects`: looking after what is stored.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::bail;

use super::arguments::ObjectsCommand;
use super::backup_show::size;
use super::say;
use super::settings::Shell;
use crate::app::control_objects as control;
use crate::objects::check::{Damaged, Depth, Piece, Place};

/// Most damaged objects named; the others are counted.
const NAMED: usize = 10_000;

/// What a check came to.
#[derive(serde::Serialize)]
struct Report {
    buckets: u64,
    objects: u64,
    uploads: u64,
    bytes: u64,
    read_data: bool,
    damaged: Vec<Damaged>,
    damaged_more: u64,
}

/// Runs the command.
pub(super) fn run(shell: &Shell, command: ObjectsCommand) -> anyhow::Result<()> {
    match command {
        ObjectsCommand::Check { read_data, json } => check(&shell.existing_data(), read_data, json),
    }
}

fn check(data: &Path, read_data: bool, as_json: bool) -> anyhow::Result<()> {
    let depth = if read_data { Depth::Whole } else { Depth::Ends };
    let terminal = std::io::stderr().is_terminal();
    let mut report =
        Report { buckets: 0, objects: 0, uploads: 0, bytes: 0, read_data, damaged: Vec::new(), damaged_more: 0 };
    let mut next = Some(Place::default());
    while let Some(from) = next.take() {
        let piece = match control::check(data, from, depth) {
            Ok(piece) => piece,
            Err(error) => {
                leave(terminal);
                return Err(error.into());
            }
        };
        next.clone_from(&piece.next);
        report.take(piece);
        if terminal {
            // Nobody watches when this fails.
            let _ = write!(std::io::stderr(), "\r\x1b[2Kchecking: {}", report.looked_at());
        }
    }
    leave(terminal);
    say(&if as_json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.text() })?;
    match report.count() {
        0 => Ok(()),
        count => bail!("damaged: {count}; a backup may still have them (`mainstay backup restore --object`)"),
    }
}

fn leave(terminal: bool) {
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
}

impl Report {
    fn take(&mut self, piece: Piece) {
        self.buckets += piece.buckets;
        self.objects += piece.objects;
        self.uploads += piece.uploads;
        self.bytes += piece.bytes;
        for damaged in piece.damaged {
            if self.damaged.len() < NAMED {
                self.damaged.push(damaged);
            } else {
                self.damaged_more += 1;
            }
        }
    }

    fn count(&self) -> u64 {
        self.damaged.len() as u64 + self.damaged_more
    }

    fn looked_at(&self) -> String {
        let Self { buckets, objects, uploads, .. } = self;
        format!("buckets: {buckets}, objects: {objects}, uploads in progress: {uploads}, {}", size(self.bytes))
    }

    fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail.
        for damaged in &self.damaged {
            let name = damaged.key.as_ref().map_or_else(String::new, |key| format!("/{}", key.escape_debug()));
            let _ = write!(out, "{}{name}", damaged.bucket);
            if let Some(version) = &damaged.version {
                let _ = write!(out, " (version {version})");
            }
            if let Some(part) = damaged.upload_part {
                let _ = write!(out, " (upload in progress, part {part})");
            }
            let _ = writeln!(out, ": {}", damaged.what);
        }
        if self.damaged_more > 0 {
            let _ = writeln!(out, "and {} more", self.damaged_more);
        }
        let whole = if self.read_data { "every byte was read" } else { "head, end and length of each were looked at" };
        let _ = writeln!(out, "{}: {whole}, damaged: {}", self.looked_at(), self.count());
        out
    }
}
