//! `/mail`: what waits, what was sent, what failed; each message with its text.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};

use crate::base::{Id128, Timestamp};
use crate::console::chart::{Chart, Drawing, Kind, Series, Unit};
use crate::console::paging::Pager;
use crate::console::{Answer, Confirm, Console, Fault, Flash, Form, Frame, Page, Section, foreign, format, page};
use crate::http::Body;
use crate::mail::{Content, Detail, Filter, Hour, MailError, Standing, Summary};

/// Messages on a page.
const ROWS: usize = 50;

/// Hours of the chart: two days.
const HOURS: u64 = 48;

/// Longest text looked for.
const TEXT_MAX: usize = 200;

#[derive(Template)]
#[template(path = "mail.html", whitespace = "preserve")]
struct List {
    frame: Frame,
    /// Each state, how many deliveries stand so, and whether it is the chosen one.
    tabs: Vec<(&'static str, u64, bool)>,
    chosen: &'static str,
    text: String,
    messages: Vec<Summary>,
    pager: Pager,
    chart: Drawing,
    sends: bool,
}

/// `GET /mail`.
pub async fn list(State(console): State<Console>, page: Page) -> Answer {
    let world = console.world();
    let failed = |error: MailError| Fault::failed("list of messages", &error);
    let chosen = Standing::named(page.query("state"));
    let text: String = page.query("text").trim().chars().take(TEXT_MAX).collect();
    let after = Some(page.query("after")).filter(|after| !after.is_empty());
    let before = after.map(number).transpose()?;
    let filter = Filter { standing: chosen, text: Some(text.clone()) };
    let found = world.outbox.list(filter, before, ROWS).await.map_err(failed)?;
    let hours = world.outbox.hours(HOURS).await.map_err(failed)?;
    let kept = [("state", chosen.map_or("", Standing::name)), ("text", text.as_str())];
    let pager = Pager::new("/mail", &kept, after, found.next.as_deref());
    let counts = world.outbox.counts().await.map_err(failed)?;
    let tabs = Standing::ALL.into_iter().map(|one| (one.name(), counts.of(one), chosen == Some(one)));
    let sends = world.outbox.config().transport != crate::mail::TransportKind::Development;
    page::show(&List {
        frame: page.frame("Mail", Section::Mail),
        tabs: tabs.collect(),
        chosen: chosen.map_or("", Standing::name),
        text,
        messages: found.messages,
        pager,
        chart: chart(&hours, sends),
        sends,
    })
}

fn chart(hours: &[Hour], sends: bool) -> Drawing {
    let series = |name: &str, value: fn(&Hour) -> u64| Series {
        name: name.to_owned(),
        values: hours.iter().map(|hour| Some(value(hour) as f64)).collect(),
    };
    let sent =
        if sends { series("Sent", |hour| hour.happened.sent) } else { series("Kept", |hour| hour.happened.kept) };
    let end = hours.last().map_or(0, |hour| hour.start.saturating_add(3600));
    Chart {
        title: String::from("Deliveries by hour"),
        kind: Kind::Bar,
        unit: Unit::Count,
        series: vec![sent, series("Failed", |hour| hour.happened.failed)],
        end: Timestamp::from_seconds(end),
        step: Duration::from_hours(1),
    }
    .draw()
}

#[derive(Template)]
#[template(path = "message.html", whitespace = "preserve")]
struct Message {
    frame: Frame,
    detail: Detail,
    content: Content,
    can_retry: bool,
    can_cancel: bool,
}

/// `GET /mail/{id}`.
pub async fn show(State(console): State<Console>, page: Page, Path(id): Path<String>) -> Answer {
    let id = number(&id)?;
    let outbox = &console.world().outbox;
    let detail = outbox.detail(id).await.map_err(fault)?;
    let content = outbox.content(id).await.map_err(fault)?;
    let stands =
        |wanted: &[Standing]| detail.deliveries.iter().any(|row| wanted.contains(&row.standing) && !row.sending);
    let can_cancel = stands(&[Standing::Queued, Standing::Deferred]);
    let can_retry = stands(&[Standing::Deferred, Standing::Failed, Standing::Cancelled]);
    let subject = &detail.message.subject;
    let title = if subject.is_empty() { "(no subject)" } else { subject };
    let frame = page.frame(title, Section::Mail);
    page::show(&Message { frame, detail, content, can_retry, can_cancel })
}

/// `GET /mail/{id}/html`: the HTML part, for a sandboxed frame of the message's page.
pub async fn html(State(console): State<Console>, _page: Page, Path(id): Path<String>) -> Answer {
    let content = console.world().outbox.content(number(&id)?).await.map_err(fault)?;
    let html = content.html.ok_or_else(|| Fault::not_found("HTML part"))?;
    Ok(foreign::sandboxed(html))
}

/// `GET /mail/{id}/raw`.
pub async fn raw(State(console): State<Console>, _page: Page, Path(id): Path<String>) -> Answer {
    let id = number(&id)?;
    let bytes = console.world().outbox.raw(id).await.map_err(fault)?;
    Ok(foreign::download(&format!("{id}.eml"), Body::from(bytes)))
}

/// `GET /mail/{id}/file/{index}`.
pub async fn file(State(console): State<Console>, _page: Page, Path((id, index)): Path<(String, usize)>) -> Answer {
    let (name, _, bytes) = console.world().outbox.file(number(&id)?, index).await.map_err(fault)?;
    Ok(foreign::download(&name, Body::from(bytes)))
}

/// `POST /mail/{id}/retry`.
pub async fn retry(State(console): State<Console>, Path(id): Path<String>, form: Form) -> Answer {
    let id = number(&id)?;
    let flash = match console.world().outbox.retry(id).await {
        Ok(_) => Flash::good("The message is tried again now."),
        Err(error @ MailError::Nothing { .. }) => Flash::bad(sentence(&error)),
        Err(error) => return Err(fault(error)),
    };
    form.page.redirect_saying(&format!("/mail/{id}"), &flash)
}

/// `GET /mail/{id}/cancel`.
pub async fn ask_cancel(page: Page, Path(id): Path<String>) -> Answer {
    let id = number(&id)?;
    let text = "What still waits of this message is taken out of the queue. What was sent is sent.";
    Confirm::new(page.frame("Cancel this message?", Section::Mail), text, "Cancel the message", format!("/mail/{id}"))
        .show()
}

/// `POST /mail/{id}/cancel`.
pub async fn cancel(State(console): State<Console>, Path(id): Path<String>, form: Form) -> Answer {
    let id = number(&id)?;
    let flash = match console.world().outbox.cancel(id).await {
        Ok(_) => Flash::good("The message is out of the queue."),
        Err(error @ MailError::Nothing { .. }) => Flash::bad(sentence(&error)),
        Err(error) => return Err(fault(error)),
    };
    form.page.redirect_saying(&format!("/mail/{id}"), &flash)
}

fn number(id: &str) -> Result<Id128, Fault> {
    id.parse().map_err(|_no_id| Fault::not_found("message"))
}

pub(super) fn fault(error: MailError) -> Fault {
    match error {
        MailError::NoSuchMessage(_) => Fault::not_found("message"),
        MailError::NoSuchFile { .. } => Fault::not_found("file"),
        MailError::Masked { .. } | MailError::Nothing { .. } | MailError::Address { .. } => {
            Fault::bad_request(sentence(&error))
        }
        error => Fault::failed("message", &error),
    }
}

/// An error's text as a sentence.
pub(super) fn sentence(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}

/// The colour of a state's badge.
fn tone(standing: &str) -> &'static str {
    match standing {
        "sent" => "good",
        "failed" => "bad",
        "deferred" => "warn",
        _ => "",
    }
}

/// A time as stored, for a `<time>` element.
pub(super) fn moment(text: &str) -> format::Moment {
    let at: Option<jiff::Timestamp> = text.parse().ok();
    let millis = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).unwrap_or(0);
    format::moment(Timestamp(millis))
}
