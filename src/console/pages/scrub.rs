//! `/scrub`: whether every stored byte is whole, as far as it was read.

use askama::Template;
use axum::extract::State;

use super::buckets::fault;
use super::objects::object_page;
use crate::base::{ByteSize, Timestamp};
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, format, page};
use crate::objects::{BucketName, Damage, ScrubCounts, ScrubStatus};

/// Damaged objects shown.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "scrub.html")]
struct ScrubPage {
    frame: Frame,
    status: ScrubStatus,
    damage: Vec<Line>,
    more: usize,
    rate: ByteSize,
    now: Timestamp,
}

/// Something damaged, with the address of its object.
struct Line {
    damage: Damage,
    address: Option<String>,
}

impl From<Damage> for Line {
    fn from(damage: Damage) -> Self {
        let bucket: Option<BucketName> = damage.damaged.bucket.parse().ok();
        let key = damage.damaged.key.as_deref().filter(|_| damage.damaged.upload_part.is_none());
        let address = bucket.zip(key).map(|(bucket, key)| object_page(&bucket, key));
        Self { damage, address }
    }
}

/// What a pass looked at, in words.
fn looked_at(counts: &ScrubCounts) -> String {
    let ScrubCounts { objects, uploads, bytes, .. } = counts;
    let uploads =
        if *uploads == 0 { String::new() } else { format!(", {} unfinished uploads", format::count(uploads)) };
    let word = if *objects == 1 { "object" } else { "objects" };
    format!("{} {word}{uploads}, {}", format::count(objects), format::bytes(bytes))
}

/// `GET /scrub`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let mut status = world.objects.scrub_status().await.map_err(fault)?;
    let mut damage: Vec<Line> = std::mem::take(&mut status.damage).into_iter().map(Line::from).collect();
    let more = damage.len().saturating_sub(SHOWN);
    damage.truncate(SHOWN);
    let (frame, rate) = (page.frame("Scrub", Section::Buckets), ByteSize(status.rate));
    page::show(&ScrubPage { frame, status, damage, more, rate, now: world.clock.now() })
}

/// `POST /scrub`: begins a pass.
pub async fn start(State(console): State<Console>, Form { page, .. }: Form) -> Answer {
    let world = console.world();
    if !world.objects.start_scrub().await.map_err(fault)? {
        return page.redirect_saying("/scrub", &Flash::bad("A pass is under way already."));
    }
    let noted = world.users.note(&page.by(), "scrub.started", "objects").await;
    noted.map_err(|error| Fault::refused(&error))?;
    page.redirect_saying("/scrub", &Flash::good("A pass has begun. This page shows how far it is."))
}
