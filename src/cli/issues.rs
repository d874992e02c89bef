//! `mainstay issues`: captured errors on the terminal.

use std::fmt::Write as _;

use serde::Serialize;

use super::arguments::IssuesCommand;
use super::say;
use super::settings::Shell;
use crate::app::control;
use crate::issues::view::{Fields, FrameView};
use crate::issues::{Detail, EventView, OWN_PROJECT, Status, Summary};

/// Runs `command` against the server.
pub(super) fn issues(shell: &Shell, command: IssuesCommand, json: bool) -> anyhow::Result<()> {
    let folder = shell.existing_data();
    match command {
        IssuesCommand::List => print(&control::issues(&folder, Some(Status::Open))?, json, |issues| table(issues)),
        IssuesCommand::All => print(&control::issues(&folder, None)?, json, |issues| table(issues)),
        IssuesCommand::Show { id } => print(&control::issue(&folder, id)?, json, detail),
        IssuesCommand::Event { id, number } => print(&control::event(&folder, id, number)?, json, event),
        IssuesCommand::Resolve { id } => print(&control::set_issue(&folder, id, Status::Resolved)?, json, stands),
        IssuesCommand::Ignore { id } => print(&control::set_issue(&folder, id, Status::Ignored)?, json, stands),
    }
}

fn print<T: Serialize>(answer: &T, json: bool, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json { say(&format!("{}\n", serde_json::to_string_pretty(answer)?)) } else { say(&text(answer)) }
}

fn table(issues: &[Summary]) -> String {
    if issues.is_empty() {
        return String::from("no issues\n");
    }
    let mut out = format!("{:>6}  {:>7}  {:<20}  {:<8}  {}\n", "ID", "EVENTS", "LAST SEEN", "LEVEL", "TITLE");
    for issue in issues {
        let seen = issue.last_seen.get(..19).unwrap_or_default();
        let mark = match (issue.status, issue.project) {
            (Status::Open, OWN_PROJECT) => "(Mainstay itself)",
            (Status::Open, _) => "",
            (status, _) => status.name(),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:>6}  {:>7}  {seen:<20}  {:<8}  {} {mark}",
            issue.id,
            issue.count,
            issue.level,
            visible(&issue.title)
        );
    }
    out
}

fn detail(detail: &Detail) -> String {
    let issue = &detail.issue;
    let mut out = format!(
        "issue {} is {}: {}\n{}\n{} events, {} users, first seen {}, last seen {}\n",
        issue.id,
        issue.status.name(),
        visible(&issue.title),
        visible(&issue.culprit),
        issue.count,
        issue.users,
        issue.first_seen,
        issue.last_seen
    );
    for frame in &detail.stack {
        let _ = writeln!(out, "  at {}", visible(frame));
    }
    for (name, values) in &detail.tags {
        let values: Vec<String> = values.iter().map(|(value, count)| format!("{} ({count})", visible(value))).collect();
        let _ = writeln!(out, "  {}: {}", visible(name), values.join(", "));
    }
    for event in &detail.events {
        let _ = writeln!(out, "  event {} ({}) at {}", event.number, event.id, event.received);
    }
    out
}

fn event(event: &EventView) -> String {
    let mut out = format!(
        "event {} ({}) of issue {}, {} at {}\n{}\n{}\n",
        event.number,
        event.id,
        event.issue,
        event.level,
        if event.at.is_empty() { &event.received } else { &event.at },
        visible(&event.title),
        visible(&event.culprit)
    );
    for exception in &event.exceptions {
        let _ = writeln!(out, "\n{}: {}", visible(&exception.kind), visible(&exception.value));
        exception.frames.iter().for_each(|frame| write_frame(&mut out, frame));
    }
    for thread in &event.threads {
        let _ = writeln!(out, "\nthread {}", visible(&thread.name));
        thread.frames.iter().for_each(|frame| write_frame(&mut out, frame));
    }
    if !event.breadcrumbs.is_empty() {
        out.push_str("\nbefore\n");
    }
    for crumb in &event.breadcrumbs {
        let _ = writeln!(out, "  {} {} {}", visible(&crumb.at), visible(&crumb.category), visible(&crumb.message));
    }
    if let Some(request) = &event.request {
        let _ = writeln!(out, "\n{} {}", visible(&request.method), visible(&request.url));
        fields(&mut out, &request.headers);
    }
    let mut facts: Fields = [
        ("release", &event.release),
        ("environment", &event.environment),
        ("transaction", &event.transaction),
        ("server", &event.server_name),
        ("platform", &event.platform),
        ("sdk", &event.sdk),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .collect();
    facts.extend(event.user.iter().map(|(name, value)| (format!("user {name}"), value.clone())));
    for (name, context) in &event.contexts {
        facts.extend(context.iter().map(|(field, value)| (format!("{name} {field}"), value.clone())));
    }
    facts.extend(event.tags.iter().chain(&event.extra).cloned());
    out.push('\n');
    fields(&mut out, &facts);
    out
}

fn write_frame(out: &mut String, frame: &FrameView) {
    let library = if frame.in_app { "" } else { " [library]" };
    let place = if frame.file.is_empty() { &frame.module } else { &frame.file };
    let _ = writeln!(out, "  at {} ({}:{}){library}", visible(&frame.function), visible(place), frame.line);
    if let Some((_, source)) = frame.source.get(frame.source_at).filter(|_| frame.in_app) {
        let _ = writeln!(out, "       {}", visible(source.trim()));
    }
}

fn fields(out: &mut String, fields: &Fields) {
    for (name, value) in fields {
        let _ = writeln!(out, "  {}: {}", visible(name), visible(value));
    }
}

fn stands(issue: &Summary) -> String {
    format!("issue {} is {}: {}\n", issue.id, issue.status.name(), visible(&issue.title))
}

/// `text` without control characters: it comes from anyone, and a terminal obeys some of them.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
