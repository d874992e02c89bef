//! `/backups`: what there is, what runs, and whether it could be read back.

use askama::Template;
use axum::extract::State;

use crate::backup::status::{BackupStatus, SnapshotLine};
use crate::base::Timestamp;
use crate::console::fault::sentence;
use crate::console::{Answer, Console, Flash, Form, Frame, Page, Section, format, page};

/// Snapshots shown, the newest first.
const SHOWN: usize = 50;

#[derive(Template)]
#[template(path = "backups.html")]
struct BackupsPage {
    frame: Frame,
    status: BackupStatus,
    snapshots: Vec<SnapshotLine>,
    more: usize,
    problem: String,
    now: Timestamp,
}

/// `GET /backups`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let status = world.backups.status();
    let listed = if status.target.is_some() { world.backups.list().await } else { Ok(Vec::new()) };
    let (mut snapshots, problem) = match listed {
        Ok(snapshots) => (snapshots, String::new()),
        Err(error) => (Vec::new(), sentence(&error.to_string())),
    };
    let more = snapshots.len().saturating_sub(SHOWN);
    snapshots.truncate(SHOWN);
    let (frame, now) = (page.frame("Backups", Section::Backups), world.clock.now());
    page::show(&BackupsPage { frame, status, snapshots, more, problem, now })
}

/// `POST /backups/run`.
pub async fn run(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    let flash = match console.world().backups.start_now() {
        Ok(()) => Flash::good("A backup has begun. This page shows how far it is."),
        Err(error) => Flash::bad(sentence(&error.to_string())),
    };
    page.redirect_saying("/backups", &flash)
}
