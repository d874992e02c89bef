//! `/dashboard`: whether everything works.

use askama::Template;
use axum::extract::State;

use crate::console::{Answer, Console, Frame, Page, Section, page};
use crate::monitor::Report;

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    report: Report,
}

/// `GET /dashboard`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let report = console.world().checks.report().await;
    page::show(&Dashboard { frame: page.frame("Dashboard", Section::Dashboard), report })
}
