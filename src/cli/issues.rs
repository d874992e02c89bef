//! `mainstay issues`: captured errors on the terminal.

use std::fmt::Write as _;

use serde::Serialize;

use super::arguments::IssuesCommand;
use super::say;
use super::settings::Shell;
use crate::app::control;
use crate::issues::{Detail, Status, Summary};

/// Runs `command` against the server.
pub(super) fn issues(shell: &Shell, command: IssuesCommand, json: bool) -> anyhow::Result<()> {
    let folder = shell.existing_data();
    match command {
        IssuesCommand::List => print(&control::issues(&folder, Some(Status::Open))?, json, |issues| table(issues)),
        IssuesCommand::All => print(&control::issues(&folder, None)?, json, |issues| table(issues)),
        IssuesCommand::Show { id } => print(&control::issue(&folder, id)?, json, detail),
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
        let mark = if issue.status == Status::Open { "" } else { issue.status.name() };
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

fn stands(issue: &Summary) -> String {
    format!("issue {} is {}: {}\n", issue.id, issue.status.name(), visible(&issue.title))
}

/// `text` without control characters: it comes from anyone, and a terminal obeys some of them.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
