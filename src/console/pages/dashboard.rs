//! `/dashboard`: whether everything works, and what the last hour or day looked like.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;

use crate::accounts::AuditEntry;
use crate::backup::status::BackupStatus;
use crate::base::process;
use crate::base::{Space, Timestamp};
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::{Answer, Console, Door, Fault, Frame, Page, Section, format, page};
use crate::monitor::history::Range;
use crate::monitor::{Report, UpstreamState};

/// Entries of the audit log shown.
const AUDIT: usize = 8;

/// A chart: what it shows, how, and the tracks of [`crate::monitor::History`] with their names in the legend.
pub(super) type Plan = (&'static str, Kind, Unit, &'static [(&'static str, &'static str)]);

const CHARTS: &[Plan] = &[
    (
        "Requests",
        Kind::Line,
        Unit::PerSecond,
        &[("requests.edge", "edge"), ("requests.s3", "S3"), ("requests.console", "console")],
    ),
    ("Redis commands", Kind::Area, Unit::PerSecond, &[("kv.commands", "")]),
    ("Object traffic", Kind::Line, Unit::BytesPerSecond, &[("objects.received", "stored"), ("objects.sent", "read")]),
    (
        "Mail",
        Kind::Line,
        Unit::PerSecond,
        &[("mail.delivered", "delivered"), ("mail.deferred", "deferred"), ("mail.failed", "failed")],
    ),
    ("Errors captured", Kind::Bar, Unit::PerSecond, &[("issues.events", "")]),
    ("Memory", Kind::Area, Unit::Bytes, &[("process.memory", "")]),
    ("Processor", Kind::Area, Unit::Percent, &[("process.cpu", "")]),
    ("Durable commits", Kind::Area, Unit::PerSecond, &[("store.commits", "")]),
];

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    report: Report,
    doors: Vec<Door>,
    facts: Facts,
    backup: BackupStatus,
    /// Certificates in use, and names whose last attempt failed; `None` while the edge is off.
    certificates: Option<(usize, usize)>,
    /// Copies of apps that do well, and those that do not.
    upstreams: (usize, usize),
    range: Range,
    charts: Vec<Drawing>,
    audit: Vec<AuditEntry>,
    now: Timestamp,
}

/// The server in a few numbers.
struct Facts {
    version: &'static str,
    uptime: Duration,
    memory: Option<String>,
    machine: Option<(u64, u64)>,
    disk: Option<Space>,
    errors: u64,
}

impl Facts {
    /// Hundredths of the disk that are used.
    fn disk_used(&self) -> u64 {
        self.disk.map_or(0, |space| used(space.total, space.available))
    }

    /// Hundredths of the machine's memory that are used.
    fn memory_used(&self) -> u64 {
        self.machine.map_or(0, |(total, available)| used(total, available))
    }
}

fn used(total: u64, available: u64) -> u64 {
    (u128::from(total.saturating_sub(available)) * 100 / u128::from(total.max(1))) as u64
}

/// `GET /dashboard`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let range = if page.query("range") == "day" { Range::Day } else { Range::Hour };
    let audit = world.users.audit(AUDIT).await.map_err(|error| Fault::refused(&error))?;
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        uptime: world.clock.monotonic().saturating_sub(world.started),
        memory: process::resident_bytes().map(|bytes| Unit::Bytes.show(bytes)),
        machine: process::machine_memory(),
        disk: space(&console).await,
        errors: world.metrics.sum("mainstay_issues_events_total", &[]).unwrap_or_default() as u64,
    };
    let certificates = world.certificates.all();
    let failing = certificates.iter().filter(|view| view.error.is_some()).count();
    let upstreams = world.upstreams.all();
    let well = upstreams.iter().filter(|view| view.state == UpstreamState::Up).count();
    page::show(&Dashboard {
        frame: page.frame("Dashboard", Section::Dashboard),
        report: world.checks.report().await,
        doors: world.doors.clone(),
        facts,
        backup: world.backups.status(),
        certificates: (!certificates.is_empty()).then_some((certificates.len(), failing)),
        upstreams: (well, upstreams.len().saturating_sub(well)),
        range,
        charts: CHARTS.iter().map(|plan| draw(&console, plan, range)).collect(),
        audit,
        now: world.clock.now(),
    })
}

/// Room on the disk of the data folder; `None` when it does not tell.
async fn space(console: &Console) -> Option<Space> {
    let (disk, data) = (Arc::clone(&console.world().disk), console.world().data.clone());
    tokio::task::spawn_blocking(move || disk.space(&data)).await.ok()?.ok()
}

/// The chart of a plan.
pub(super) fn draw(console: &Console, (title, kind, unit, tracks): &Plan, range: Range) -> Drawing {
    let history = &console.world().history;
    // Processor seconds a second are hundredths of one processor.
    let scale = if *unit == Unit::Percent { 100.0 } else { 1.0 };
    let series = tracks.iter().map(|(track, name)| Series {
        name: (*name).to_owned(),
        values: history.values(track, range).into_iter().map(|value| value.map(|value| value * scale)).collect(),
    });
    let (title, series) = ((*title).to_owned(), series.collect());
    Chart { title, kind: *kind, unit: *unit, series, end: history.end(), step: range.step() }.draw()
}
