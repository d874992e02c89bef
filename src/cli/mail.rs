//! `mainstay mail`: the outbox on the terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::arguments::MailCommand;
use super::say;
use super::settings::Shell;
use crate::app::control_mail::{self as control, MailShown};
use crate::base::Id128;
use crate::mail::{Detail, Page, Standing};

/// Runs `command` against the server.
pub(super) fn mail(shell: &Shell, command: MailCommand, json: bool) -> anyhow::Result<()> {
    let folder = shell.existing_data();
    match command {
        MailCommand::List { state } => {
            let standing = state.map(|name| named(&name)).transpose()?;
            print(&control::list(&folder, standing)?, json, table)
        }
        MailCommand::Show { id } => print(&control::message(&folder, number(&id)?)?, json, shown),
        MailCommand::Raw { id } => {
            let bytes = control::raw(&folder, number(&id)?)?;
            let mut output = std::io::stdout().lock();
            match output.write_all(&bytes).and_then(|()| output.flush()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(()),
            }
        }
        MailCommand::Retry { id } => print(&control::retry(&folder, number(&id)?)?, json, detail),
        MailCommand::Cancel { id } => print(&control::cancel(&folder, number(&id)?)?, json, detail),
    }
}

fn number(id: &str) -> anyhow::Result<Id128> {
    id.parse().with_context(|| format!("`{}` is no message", visible(id)))
}

fn named(name: &str) -> anyhow::Result<Standing> {
    let all = Standing::ALL.map(Standing::name).join(", ");
    Standing::named(name).with_context(|| format!("`{}` is no state of mail; there are {all}", visible(name)))
}

fn print<T: Serialize>(answer: &T, json: bool, text: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json { say(&format!("{}\n", serde_json::to_string_pretty(answer)?)) } else { say(&text(answer)) }
}

fn table(page: &Page) -> String {
    if page.messages.is_empty() {
        return String::from("no messages\n");
    }
    let mut out = format!("{:<32}  {:<19}  {:<14}  {:<28}  {}\n", "ID", "ACCEPTED", "STATE", "TO", "SUBJECT");
    for message in &page.messages {
        let at = message.created.get(..19).unwrap_or_default();
        let to = message.to.first().map(|to| visible(to)).unwrap_or_default();
        let more = if message.recipients > 1 { format!(" +{}", message.recipients - 1) } else { String::new() };
        let state = stands(&message.standings);
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:<32}  {at:<19}  {state:<14}  {:<28}  {}",
            message.id,
            format!("{to}{more}"),
            visible(&message.subject)
        );
    }
    if page.next.is_some() {
        out.push_str("older messages are in the console\n");
    }
    out
}

fn stands(standings: &[(Standing, u32)]) -> String {
    match standings {
        [(only, _)] => only.name().to_owned(),
        several => {
            let each: Vec<String> =
                several.iter().map(|(standing, count)| format!("{count} {}", standing.name())).collect();
            each.join(", ")
        }
    }
}

fn detail(detail: &Detail) -> String {
    let message = &detail.message;
    let mut out = format!(
        "message {} of {}, {} bytes, through {}\nfrom {}: {}\n",
        message.id,
        message.created,
        message.size,
        message.source,
        visible(&message.from),
        visible(&message.subject)
    );
    for delivery in &detail.deliveries {
        let name = if delivery.sending { "being sent" } else { delivery.standing.name() };
        let _ = write!(out, "to {}: {name}, {} attempts", visible(&delivery.to), delivery.attempts);
        let _ = match &delivery.next_attempt {
            Some(at) => writeln!(out, ", the next one at {at}"),
            None => writeln!(out),
        };
        for event in &delivery.events {
            let _ = writeln!(out, "  {} {}: {}", event.at, event.state, visible(&event.note));
        }
    }
    out
}

fn shown(shown: &MailShown) -> String {
    let mut out = detail(&shown.detail);
    for file in &shown.content.files {
        let _ = writeln!(out, "file {}: {}, {} bytes", visible(&file.name), visible(&file.content_type), file.size);
    }
    let text = shown.content.text.as_ref().or(shown.content.html.as_ref());
    for line in text.map(String::as_str).unwrap_or_default().lines() {
        let _ = writeln!(out, "| {}", visible(line));
    }
    if shown.content.cut {
        out.push_str("the text is longer than is shown here; the console shows more\n");
    }
    out
}

/// `text` without control characters: it comes from anyone, and a terminal obeys some of them.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
