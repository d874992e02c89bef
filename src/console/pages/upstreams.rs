//! `/upstreams`: the apps behind the edge, and how each copy does.

use askama::Template;
use axum::extract::State;

use crate::base::Timestamp;
use crate::console::{Answer, Console, Frame, Page, Section, format, page};
use crate::monitor::{UpstreamState, UpstreamView};

/// Copies shown, those that do badly first.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "upstreams.html")]
struct UpstreamsPage {
    frame: Frame,
    upstreams: Vec<UpstreamView>,
    more: usize,
}

/// `GET /upstreams`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let mut upstreams = console.world().upstreams.all();
    upstreams.sort_by_key(|view| view.state == UpstreamState::Up);
    let more = upstreams.len().saturating_sub(SHOWN);
    upstreams.truncate(SHOWN);
    page::show(&UpstreamsPage { frame: page.frame("Apps behind the edge", Section::Edge), upstreams, more })
}

/// The class of a state's badge.
fn class(view: &UpstreamView) -> &'static str {
    match view.state {
        UpstreamState::Up => "good",
        UpstreamState::Failing => "warn",
        UpstreamState::Down => "bad",
    }
}

/// The moment `millis` after 1970 began.
fn at(millis: impl format::Figure<u64>) -> format::Moment {
    format::moment(Timestamp(millis.figure()))
}
