//! `SLOWLOG` and `LATENCY`: what took long.

use std::fmt::Write as _;

use super::{lower, ok, unknown_subcommand, wrong_arguments};
use crate::kv::Reply;
use crate::resp::connection::Connection;
use crate::resp::protocol::number;
use crate::resp::server::Server;

/// Entries `SLOWLOG GET` shows when nobody says.
const SHOWN: usize = 10;

/// `SLOWLOG subcommand …`.
pub fn slowlog(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let rest = arguments.get(1..).unwrap_or_default();
    match (lower(arguments.first()).as_str(), rest) {
        ("get", count @ ([] | [_])) => {
            let count = match count.first().map(|count| number(count)) {
                None => SHOWN,
                Some(Some(-1)) => usize::MAX,
                Some(Some(count)) if count >= 0 => usize::try_from(count).unwrap_or(usize::MAX),
                Some(_) => return connection.encoder().error("ERR count should be greater than or equal to -1"),
            };
            let slow = &server.timing.slow;
            let mut reply = connection.encoder();
            reply.array(count.min(slow.len()));
            for entry in slow.iter().take(count) {
                reply.array(6);
                for number in [entry.id, entry.at, entry.micros] {
                    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
                }
                reply.array(entry.arguments.len());
                for argument in &entry.arguments {
                    reply.bulk(argument);
                }
                reply.bulk(entry.peer.as_bytes());
                reply.bulk(entry.name.as_bytes());
            }
        }
        ("len", []) => {
            let length = server.timing.slow.len() as i64;
            connection.encoder().integer(length);
        }
        ("reset", []) => {
            server.timing.slow.clear();
            ok(connection);
        }
        ("help", []) => lines(
            connection,
            &[
                "SLOWLOG <subcommand> [<arg> ...]. Subcommands are:",
                "GET [<count>]: the slowest commands of late, the newest first; 10 when no count is given, -1 for all.",
                "LEN: how many there are.",
                "RESET: forget them.",
            ],
        ),
        (known @ ("get" | "len" | "reset" | "help"), _) => wrong_arguments(connection, &format!("slowlog|{known}")),
        _ => unknown_subcommand(connection, "SLOWLOG", arguments.first()),
    }
}

/// `LATENCY subcommand …`.
pub fn latency(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let rest = arguments.get(1..).unwrap_or_default();
    match (lower(arguments.first()).as_str(), rest) {
        ("latest", []) => {
            let spikes = &server.timing.spikes;
            let mut reply = connection.encoder();
            reply.array(spikes.len());
            for (event, spikes) in spikes {
                let (at, millis) = spikes.history.back().copied().unwrap_or_default();
                reply.array(4);
                reply.bulk(event.as_bytes());
                for number in [at, millis, spikes.longest] {
                    reply.integer(i64::try_from(number).unwrap_or(i64::MAX));
                }
            }
        }
        ("history", [event]) => {
            let event = lower(Some(event));
            let history = server.timing.spikes.get(event.as_str()).map(|spikes| &spikes.history);
            let mut reply = connection.encoder();
            reply.array(history.map_or(0, std::collections::VecDeque::len));
            for (at, millis) in history.into_iter().flatten() {
                reply.array(2);
                reply.integer(i64::try_from(*at).unwrap_or(i64::MAX));
                reply.integer(i64::try_from(*millis).unwrap_or(i64::MAX));
            }
        }
        ("reset", events) => {
            let before = server.timing.spikes.len();
            let named: Vec<String> = events.iter().map(|event| lower(Some(event))).collect();
            server.timing.spikes.retain(|event, _| !(named.is_empty() || named.iter().any(|name| name == event)));
            let gone = before - server.timing.spikes.len();
            connection.encoder().integer(gone as i64);
        }
        ("doctor", []) => {
            let text = doctor(server);
            connection.encoder().verbatim(text.as_bytes());
        }
        ("help", []) => lines(
            connection,
            &[
                "LATENCY <subcommand> [<arg> ...]. Subcommands are:",
                "DOCTOR: what the spikes say.",
                "GRAPH <event>: the spikes of an event, a line each.",
                "HISTOGRAM [<command> ...]: how many calls took no longer than so many microseconds.",
                "HISTORY <event>: the spikes of an event, second and milliseconds.",
                "LATEST: the newest spike of every event.",
                "RESET [<event> ...]: forget them.",
            ],
        ),
        ("graph", [event]) => {
            let event = lower(Some(event));
            match server.timing.spikes.get(event.as_str()).filter(|spikes| !spikes.history.is_empty()) {
                Some(spikes) => {
                    let text = graph(&event, spikes);
                    connection.encoder().verbatim(text.as_bytes());
                }
                None => connection.encoder().error(&format!("ERR No samples available for event '{event}'")),
            }
        }
        ("histogram", names) => histogram(server, connection, names),
        (known @ ("latest" | "history" | "doctor" | "help" | "graph"), _) => {
            wrong_arguments(connection, &format!("latency|{known}"));
        }
        _ => unknown_subcommand(connection, "LATENCY", arguments.first()),
    }
}

/// How many calls of each command took no longer than so many microseconds.
fn histogram(server: &Server, connection: &mut Connection, names: &[&[u8]]) {
    let names: Vec<String> = names.iter().map(|name| lower(Some(name))).collect();
    let wanted = |name: &str| {
        let of = |given: &String| name == given || name.split_once('|').is_some_and(|(of, _)| of == given);
        names.is_empty() || names.iter().any(of)
    };
    let mut found = server.figures.commands();
    found.retain(|(name, figure)| figure.calls > 0 && wanted(name));
    let mut reply = connection.encoder();
    reply.map(found.len());
    for (name, figure) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(i64::try_from(figure.calls).unwrap_or(i64::MAX));
        reply.bulk(b"histogram_usec");
        let buckets: Vec<(u64, u64)> = figure.histogram().collect();
        reply.map(buckets.len());
        for (micros, count) in buckets {
            reply.integer(i64::try_from(micros).unwrap_or(i64::MAX));
            reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Widest bar of a graph.
const BAR: u64 = 60;

/// The spikes of an event, the oldest first, drawn as bars.
fn graph(event: &str, spikes: &crate::resp::timing::Spikes) -> String {
    let all = || spikes.history.iter().map(|(_, millis)| *millis);
    let (high, low) = (all().max().unwrap_or(0), all().min().unwrap_or(0));
    let longest = spikes.longest;
    let mut text = format!("{event} - high {high} ms, low {low} ms (all time high {longest} ms)\n");
    for (at, millis) in &spikes.history {
        let width = (millis * BAR).div_ceil(high.max(1)) as usize;
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{at} {millis:>6} ms {}", "#".repeat(width));
    }
    text
}

fn doctor(server: &Server) -> String {
    let timing = &server.timing;
    if timing.spike == 0 {
        return String::from(
            "Latency monitoring is off. CONFIG SET latency-monitor-threshold <milliseconds> watches for commands that take longer.\n",
        );
    }
    if timing.spikes.is_empty() {
        return format!("No command took {} ms or longer since latency monitoring began.\n", timing.spike);
    }
    let mut text = String::new();
    for (event, spikes) in &timing.spikes {
        let count = spikes.history.len();
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{event}: {count} seconds with a spike, the longest {} ms.", spikes.longest);
    }
    text.push_str("SLOWLOG GET tells which commands they were; long ones hold up every client.\n");
    text
}

fn lines(connection: &mut Connection, lines: &[&str]) {
    let mut reply = connection.encoder();
    reply.array(lines.len() + 2);
    for line in lines.iter().chain(&["HELP", "    Print this help."]) {
        reply.simple(line);
    }
}
