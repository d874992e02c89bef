//! `/limits`: the named rate limits, how often they let through, and who was refused of late.

use askama::Template;
use axum::extract::State;

use crate::base::Timestamp;
use crate::console::{Answer, Console, Frame, Page, Section, format, page};
use crate::limits::{PolicyView, Rejection};

#[derive(Template)]
#[template(path = "limits.html", whitespace = "preserve")]
struct LimitsPage {
    frame: Frame,
    policies: Vec<PolicyView>,
    rejections: Vec<Rejection>,
    counters: u64,
    now: Timestamp,
}

/// The fields a policy counts by, for people: `ip and email, user`.
fn counted_by(view: &PolicyView) -> String {
    let names =
        view.policy.by.iter().map(|fields| fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(" and "));
    names.collect::<Vec<_>>().join(", ")
}

/// `GET /limits`.
pub async fn show(State(console): State<Console>, page: Page) -> Answer {
    let limits = &console.world().limits;
    page::show(&LimitsPage {
        frame: page.frame("Rate limits", Section::Redis),
        policies: limits.policies(),
        rejections: limits.rejections(),
        counters: limits.counters() as u64,
        now: console.world().clock.now(),
    })
}
