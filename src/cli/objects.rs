//! `mainstay objects`: looking after what is stored.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::backup_show::size;
use super::say;
use super::settings::Shell;
use crate::app::control_objects::{self as control, ScrubView};
use crate::objects::check::{Damaged, Depth, Piece, Place};
use crate::objects::{AskedSweep, MoveStatus, ScrubCounts, Swept};

/// Most damaged objects named; the others are counted.
const NAMED: usize = 10_000;

/// How often the server is asked how far it is.
const BEAT: Duration = Duration::from_millis(500);

#[derive(Clone, Subcommand)]
pub(super) enum ObjectsCommand {
    /// Look whether the bytes of every object are there, and name what is damaged
    ///
    /// Older versions and uploads in progress are looked at too. Changes nothing; the server goes on meanwhile. Fails
    /// when anything is damaged.
    Check {
        /// Read every byte too, not only head, end and length of each object
        #[arg(long)]
        read_data: bool,
        /// JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Have the server read and verify every stored byte now, behind the scenes
    ///
    /// It does so by itself every `objects.scrub_every`, at `objects.scrub_rate`, and goes on after a restart. Fails when
    /// anything is known to be damaged.
    Scrub {
        /// Wait until it has read everything
        #[arg(long)]
        wait: bool,
        /// Only tell how it stands, and begin nothing
        #[arg(long, conflicts_with = "wait")]
        status: bool,
        /// JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Have the server look for leftovers of interrupted uploads now, and tell what it found and did
    ///
    /// A file that nothing refers to is only noted; one that still has no reference a day later is moved to
    /// `objects/quarantine` in the data folder. See `objects.quarantine` for when it is removed from there.
    Sweep {
        /// JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Make the index of the object store anew from the stored files, while no server runs
    ///
    /// For an `objects.redb` that is lost or damaged. The new one is made from the newest sealed export in `objects/index`, the
    /// stored files and the master key; the old one stays beside it. Lost with the index are small objects (up to 8 KiB) that
    /// were stored since that export (see `objects.export_every`), and deletions and changes of tags since may be undone.
    RebuildIndex {
        /// Only tell what a new index would hold, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Have the server move the bodies of a bucket to another backend, behind the scenes, while they are in use
    ///
    /// New bodies go there at once. Each other is copied, read back and verified before the old one goes. It goes on after a
    /// restart; to call it off, move back. Without --to, only tells how it stands.
    Move {
        /// The bucket
        bucket: String,
        /// A backend of `objects.backends`, or `local` for the server's own disk
        #[arg(long, value_name = "BACKEND")]
        to: Option<String>,
        /// Wait until everything is moved
        #[arg(long)]
        wait: bool,
        /// JSON instead
        #[arg(long)]
        json: bool,
    },
}

/// What a check came to.
#[derive(Default, serde::Serialize)]
struct Report {
    buckets: u64,
    objects: u64,
    uploads: u64,
    bytes: u64,
    read_data: bool,
    damaged: Vec<Damaged>,
    damaged_more: u64,
    /// At backends that could not be asked.
    unknown: u64,
}

/// Runs the command.
pub(super) fn run(shell: Shell, command: ObjectsCommand) -> anyhow::Result<()> {
    let data = shell.existing_data();
    match command {
        ObjectsCommand::RebuildIndex { dry_run, json } => super::objects_rebuild::run(shell, dry_run, json),
        ObjectsCommand::Check { read_data, json } => check(&data, read_data, json),
        ObjectsCommand::Scrub { wait, status, json } => scrub(&data, !status, wait, json),
        ObjectsCommand::Sweep { json } => sweep(&data, json),
        ObjectsCommand::Move { bucket, to, wait, json } => moves(&data, &bucket, to, wait, json),
    }
}

fn check(data: &Path, read_data: bool, as_json: bool) -> anyhow::Result<()> {
    let depth = if read_data { Depth::Whole } else { Depth::Ends };
    let mut line = Line::new();
    let mut report = Report { read_data, ..Report::default() };
    let mut next = Some(Place::default());
    while let Some(from) = next.take() {
        let piece = control::check(data, from, depth)?;
        next.clone_from(&piece.next);
        report.take(piece);
        line.show(&format!("checking: {}", report.looked_at()));
    }
    drop(line);
    say(&if as_json { json(&report)? } else { report.text() })?;
    fail_with(report.count())?;
    match report.unknown {
        0 => Ok(()),
        count => bail!("not looked at, since their backend could not be asked: {count}"),
    }
}

fn scrub(data: &Path, start: bool, wait: bool, as_json: bool) -> anyhow::Result<()> {
    let mut view = control::scrub(data, start)?;
    let (pass, begun, mut line) = (view.status.pass, view.begun, Line::new());
    while wait
        && view.status.pass == pass
        && let Some(running) = &view.status.running
    {
        let read = format!("{} of about {}", size(running.counts.bytes), size(running.expected_bytes));
        line.show(&format!("reading: {read}, damaged: {}", running.counts.damaged));
        std::thread::sleep(BEAT);
        view = control::scrub(data, false)?;
    }
    drop(line);
    view.begun = begun;
    let how = match (start, begun) {
        (true, true) => "a pass has begun\n",
        (true, false) => "a pass was under way already\n",
        (false, _) => "",
    };
    say(&if as_json { json(&view)? } else { format!("{how}{}", stands(&view)) })?;
    fail_with((view.status.damage.len() + view.more) as u64)
}

fn sweep(data: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut asked = control::sweep(data, true)?;
    let mut line = Line::new();
    while asked.running {
        line.show("sweeping");
        std::thread::sleep(BEAT);
        asked = control::sweep(data, false)?;
    }
    drop(line);
    let AskedSweep { last, .. } = asked;
    match last {
        Some(Ok(swept)) => say(&if as_json { json(&swept)? } else { told(&swept) }),
        Some(Err(error)) => bail!("the sweep failed, nothing was put aside: {error}"),
        None => bail!("the server was started again meanwhile; it sweeps at every start"),
    }
}

fn moves(data: &Path, bucket: &str, to: Option<String>, wait: bool, as_json: bool) -> anyhow::Result<()> {
    let mut status = control::moves(data, bucket.to_owned(), to)?;
    let mut line = Line::new();
    while let Some(now) = status.as_ref().filter(|status| wait && status.ended.is_none()) {
        let trouble = now.trouble.as_ref().map_or_else(String::new, |trouble| format!(" ({trouble})"));
        line.show(&format!("moving to {}: {} bodies, {}{trouble}", now.to, now.moved, size(now.bytes)));
        std::thread::sleep(BEAT);
        status = control::moves(data, bucket.to_owned(), None)?;
    }
    drop(line);
    say(&if as_json { json(&status)? } else { moved(status.as_ref()) })?;
    match status.map_or(0, |status| status.stayed) {
        0 => Ok(()),
        count => {
            bail!("bodies that are damaged where they are, and stayed there: {count}; the server's log names them")
        }
    }
}

/// How a move stands, in words.
fn moved(status: Option<&MoveStatus>) -> String {
    let Some(status) = status else { return "it was never moved\n".to_owned() };
    let MoveStatus { to, began, ended, moved, bytes, expected_bytes, .. } = status;
    let mut out = if let Some(ended) = ended {
        format!("moved to {to} from {began} to {ended}: {moved} bodies, {}\n", size(*bytes))
    } else {
        let (bytes, of) = (size(*bytes), size(*expected_bytes));
        format!("moving to {to} since {began}: {moved} bodies, {bytes} of at most about {of}\n")
    };
    // Writing into a String cannot fail.
    if let Some(trouble) = &status.trouble {
        let _ = writeln!(out, "it does not go on: {trouble}");
    }
    out
}

pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

fn fail_with(damaged: u64) -> anyhow::Result<()> {
    match damaged {
        0 => Ok(()),
        count => bail!("damaged: {count}; a backup may still have them (`mainstay backup restore --object`)"),
    }
}

/// A line that tells how far something is; shown on a terminal alone, and gone in the end.
pub(super) struct Line(bool);

impl Line {
    pub fn new() -> Self {
        Self(std::io::stderr().is_terminal())
    }

    pub fn show(&mut self, text: &str) {
        if self.0 {
            // Nobody watches when this fails.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.show("");
    }
}

/// `damaged` in words.
fn line(damaged: &Damaged) -> String {
    let name = damaged.key.as_ref().map_or_else(String::new, |key| format!("/{}", key.escape_debug()));
    let version = damaged.version.as_ref().map_or_else(String::new, |version| format!(" (version {version})"));
    let part = damaged.upload_part.map_or_else(String::new, |part| format!(" (upload in progress, part {part})"));
    format!("{}{name}{version}{part}: {}", damaged.bucket, damaged.what)
}

/// How scrubbing stands, in words.
fn stands(view: &ScrubView) -> String {
    let status = &view.status;
    let mut out = String::new();
    // Writing into a String cannot fail.
    for damage in &status.damage {
        let _ = writeln!(out, "{}, found {}", line(&damage.damaged), damage.found_at);
    }
    if view.more > 0 {
        let _ = writeln!(out, "and {} more", view.more);
    }
    if let Some(running) = &status.running {
        let of = size(running.expected_bytes);
        let _ = writeln!(out, "under way since {}: {} of about {of}", running.began, counted(&running.counts));
    }
    match &status.last {
        Some(last) => {
            let _ = writeln!(out, "last from {} to {}: {}", last.began, last.ended, counted(&last.counts));
        }
        None => out.push_str("no pass has come to its end yet\n"),
    }
    match status.next {
        Some(next) => {
            let _ = writeln!(out, "next at {next}");
        }
        None if status.every_ms == 0 => out.push_str("none by itself: objects.scrub_every is 0s\n"),
        None => {}
    }
    out
}

fn counted(counts: &ScrubCounts) -> String {
    let ScrubCounts { objects, uploads, bytes, damaged, .. } = counts;
    format!("objects: {objects}, uploads in progress: {uploads}, damaged: {damaged}, {}", size(*bytes))
}

/// What a sweep came to, in words.
fn told(swept: &Swept) -> String {
    let Swept { temporaries, blobs, bytes, orphans, quarantined, expired_uploads, unsent, .. } = swept;
    format!(
        "files: {blobs}, {}\nleftovers of interrupted uploads removed: {temporaries}\nuploads given up for their age: {expired_uploads}\nuploads to backends given up: {unsent}\nfiles nothing refers to: {orphans}, moved to quarantine: {quarantined}\nin quarantine: {}, {}; removed from it for their age: {}\n",
        size(*bytes),
        swept.in_quarantine,
        size(swept.in_quarantine_bytes),
        swept.removed
    )
}

impl Report {
    fn take(&mut self, piece: Piece) {
        self.buckets += piece.buckets;
        self.objects += piece.objects;
        self.uploads += piece.uploads;
        self.bytes += piece.bytes;
        self.unknown += piece.unknown;
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
        let mut out: String = self.damaged.iter().map(|damaged| line(damaged) + "\n").collect();
        // Writing into a String cannot fail.
        if self.damaged_more > 0 {
            let _ = writeln!(out, "and {} more", self.damaged_more);
        }
        let whole = if self.read_data { "every byte was read" } else { "head, end and length of each were looked at" };
        let _ = writeln!(out, "{}: {whole}, damaged: {}", self.looked_at(), self.count());
        out
    }
}
