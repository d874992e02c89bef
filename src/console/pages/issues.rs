//! `/issues`: what went wrong in the apps, and what became of it.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};

use super::mail::{moment, sentence};
use crate::base::Timestamp;
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::paging::Pager;
use crate::console::{Answer, Console, Fault, Flash, Form, Frame, Page, Section, foreign, format, page};
use crate::http::Body;
use crate::issues::view::{Fields, FrameView};
use crate::issues::{self, Detail, EventView, Filter, IssuesError, Of, Status, Step, Summary};

/// Issues on a page.
const ROWS: usize = 50;

/// The levels to choose from.
const LEVELS: [&str; 5] = ["fatal", "error", "warning", "info", "debug"];

/// Where issues stand, to choose from.
const STATUSES: [Status; 3] = [Status::Open, Status::Resolved, Status::Ignored];

#[derive(Template)]
#[template(path = "issues.html", whitespace = "preserve")]
struct List {
    frame: Frame,
    issues: Vec<Summary>,
    /// The chosen status, or `all`.
    chosen: &'static str,
    /// Each status, and whether it is the chosen one.
    tabs: Vec<(&'static str, bool)>,
    /// Each level, and whether it is the chosen one.
    levels: Vec<(&'static str, bool)>,
    text: String,
    pager: Pager,
    chart: Drawing,
}

/// `GET /issues`.
pub async fn list(State(console): State<Console>, page: Page) -> Answer {
    let issues = &console.world().issues;
    let failed = |error: IssuesError| Fault::failed("list of issues", &error);
    let chosen = if page.query("status").is_empty() { "open" } else { page.query("status") };
    let status = STATUSES.into_iter().find(|status| status.name() == chosen);
    let name = status.map_or("all", Status::name);
    let level = LEVELS.into_iter().find(|level| *level == page.query("level")).unwrap_or_default();
    let text: String = page.query("text").trim().chars().take(200).collect();
    let after = Some(page.query("after")).filter(|after| !after.is_empty());
    let place = after.map(str::parse).transpose().map_err(|_no_place| Fault::not_found("page of the list"))?;
    let filter = Filter {
        status,
        level: Some(level.to_owned()).filter(|level| !level.is_empty()),
        text: text.clone(),
        after: place,
        limit: ROWS,
        ..Filter::default()
    };
    let found = issues.list(filter).await.map_err(failed)?;
    let chart = issues.chart(Of::Everything, Step::Hour, 48).await.map_err(failed)?;
    let next = found.next.map(|next| next.to_string());
    let kept = [("status", name), ("level", level), ("text", &text)];
    page::show(&List {
        frame: page.frame("Issues", Section::Issues),
        issues: found.issues,
        pager: Pager::new("/issues", &kept, after, next.as_deref()),
        chart: draw("Events by hour", &chart),
        tabs: STATUSES.map(Status::name).into_iter().chain(["all"]).map(|one| (one, one == name)).collect(),
        levels: LEVELS.into_iter().map(|one| (one, one == level)).collect(),
        chosen: name,
        text,
    })
}

fn draw(title: &str, chart: &issues::Chart) -> Drawing {
    let start = chart.start.parse::<jiff::Timestamp>().map_or(0, |at| u64::try_from(at.as_second()).unwrap_or(0));
    let end = start.saturating_add(chart.step_seconds.saturating_mul(chart.counts.len() as u64));
    let values = chart.counts.iter().map(|count| Some(*count as f64)).collect();
    Chart {
        title: title.to_owned(),
        kind: Kind::Bar,
        unit: Unit::Count,
        series: vec![Series { name: String::from("Events"), values }],
        end: Timestamp::from_seconds(end),
        step: Duration::from_secs(chart.step_seconds),
    }
    .draw()
}

#[derive(Template)]
#[template(path = "issue.html", whitespace = "preserve")]
struct Issue {
    frame: Frame,
    detail: Detail,
    event: Option<EventView>,
    chart: Drawing,
}

/// `GET /issues/{id}`.
pub async fn show(State(console): State<Console>, page: Page, Path(id): Path<u64>) -> Answer {
    let issues = &console.world().issues;
    let detail = issues.show(id).await.map_err(fault)?;
    let event = match issues.event(id, None).await {
        Ok(event) => Some(event),
        Err(IssuesError::NoSuchEvent { .. }) => None,
        Err(error) => return Err(fault(error)),
    };
    let chart = issues.chart(Of::Issue(id), Step::Hour, 48).await.map_err(fault)?;
    let frame = page.frame(detail.issue.title.as_str(), Section::Issues);
    page::show(&Issue { frame, detail, event, chart: draw("Events by hour", &chart) })
}

#[derive(Template)]
#[template(path = "event.html", whitespace = "preserve")]
struct Event {
    frame: Frame,
    event: EventView,
}

/// `GET /issues/{id}/events/{number}`.
pub async fn event(State(console): State<Console>, page: Page, Path((id, number)): Path<(u64, u64)>) -> Answer {
    let event = console.world().issues.event(id, Some(number)).await.map_err(fault)?;
    let frame = page.frame(event.title.as_str(), Section::Issues);
    page::show(&Event { frame, event })
}

/// `GET /issues/{id}/events/{number}/json`.
pub async fn json(State(console): State<Console>, _page: Page, Path((id, number)): Path<(u64, u64)>) -> Answer {
    let bytes = console.world().issues.event_json(id, number).await.map_err(fault)?;
    Ok(foreign::download(&format!("issue-{id}-event-{number}.json"), Body::from(bytes)))
}

/// `POST /issues/{id}/status`.
pub async fn set_status(State(console): State<Console>, Path(id): Path<u64>, form: Form) -> Answer {
    let chosen = form.fields.text("status");
    let status = STATUSES.into_iter().find(|status| status.name() == chosen);
    let status = status.ok_or_else(|| Fault::bad_request("An issue is open, resolved or ignored."))?;
    console.world().issues.set_status(id, status).await.map_err(fault)?;
    let (action, text) = match status {
        Status::Open => ("issue.opened", "The issue is open again."),
        Status::Resolved => ("issue.resolved", "The issue is resolved. The next event opens it again."),
        Status::Ignored => ("issue.ignored", "The issue is ignored: its events are counted, nothing else."),
    };
    let by = form.page.session().by(form.page.entry().origin());
    console.world().users.note(&by, action, &id.to_string()).await.map_err(|error| Fault::refused(&error))?;
    form.page.redirect_saying(&format!("/issues/{id}"), &Flash::good(text))
}

fn fault(error: IssuesError) -> Fault {
    match error {
        IssuesError::NoSuchIssue { .. } => Fault::not_found("issue"),
        IssuesError::NoSuchEvent { .. } => Fault::not_found("event"),
        error => {
            tracing::debug!(text = sentence(&error), "issues");
            Fault::failed("issue", &error)
        }
    }
}

/// The colour of a level's badge.
fn tone(level: &str) -> &'static str {
    match level {
        "fatal" | "error" => "bad",
        "warning" => "warn",
        _ => "",
    }
}

/// The colour of a status's badge.
fn standing(status: &str) -> &'static str {
    match status {
        "open" => "warn",
        "resolved" => "good",
        _ => "",
    }
}

/// Where a frame is.
fn place(frame: &FrameView) -> String {
    let file = if frame.file.is_empty() { &frame.module } else { &frame.file };
    match (frame.line, frame.column) {
        (0, _) => file.clone(),
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    }
}

/// The named lists of an event that hold something.
fn lists(event: &EventView) -> Vec<(String, Fields)> {
    let mut out: Vec<(String, Fields)> = vec![(String::from("User"), event.user.clone())];
    if let Some(request) = &event.request {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut own = vec![
            of("Method", &request.method),
            of("Address", &request.url),
            of("Query", &request.query),
            of("Body", &request.data),
        ];
        own.retain(|(_, value)| !value.is_empty());
        out.push((String::from("Request"), own));
        out.push((String::from("Request headers"), request.headers.clone()));
        out.push((String::from("Cookies"), request.cookies.clone()));
        out.push((String::from("Server environment"), request.env.clone()));
    }
    out.extend(event.contexts.iter().map(|(name, fields)| (format!("Context {name}"), fields.clone())));
    out.push((String::from("Extra"), event.extra.clone()));
    out.push((String::from("Modules"), event.modules.clone()));
    out.retain(|(_, fields)| !fields.is_empty());
    out
}
