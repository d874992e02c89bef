//! `CLIENT`: connections seen from a connection.

use std::fmt::Write;
use std::time::Duration;

use super::acl::user_name;
use super::session::{BAD_NAME, client_name};
use super::{lower, ok, unknown_subcommand, wrong_arguments};
use crate::kv::{ClientId, Reply};
use crate::resp::connection::{Connection, Replies};
use crate::resp::encoder::Protocol;
use crate::resp::protocol::number;
use crate::resp::server::{Paused, Server};

/// Longest `CLIENT PAUSE`, in milliseconds: a client must not be able to stop the server for good.
const LONGEST_PAUSE: i64 = 60 * 60 * 1000;

/// `CLIENT subcommand …`.
pub fn run(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let name = lower(arguments.first());
    let rest = arguments.get(1..).unwrap_or_default();
    match (name.as_str(), rest) {
        ("id", []) => {
            let id = connection.client.id as i64;
            connection.encoder().integer(id);
        }
        ("getname", []) => match connection.name.clone() {
            name if name.is_empty() => connection.encoder().null(),
            name => connection.encoder().bulk(name.as_bytes()),
        },
        ("setname", [name]) => match client_name(name) {
            Some(name) => {
                connection.name = name;
                ok(connection);
            }
            None => connection.encoder().error(BAD_NAME),
        },
        ("setinfo", [field, value]) => set_info(connection, field, value),
        ("info", []) => {
            let line = line(server, connection);
            connection.encoder().verbatim(line.as_bytes());
        }
        ("list", options) => list(server, connection, options),
        ("reply", [mode]) => reply(connection, mode),
        ("no-evict", [switch]) => {
            if let Some(on) = on_off(connection, switch) {
                connection.no_evict = on;
            }
        }
        ("no-touch", [switch]) => {
            if let Some(on) = on_off(connection, switch) {
                connection.no_touch = on;
            }
        }
        ("tracking", [switch, ..]) if switch.eq_ignore_ascii_case(b"off") => ok(connection),
        ("tracking", [_, ..]) => connection.encoder().error("ERR client tracking is not supported"),
        ("trackinginfo", []) => tracking_info(connection),
        ("getredir", []) => connection.encoder().integer(-1),
        ("kill", options) if !options.is_empty() => kill(server, connection, options),
        ("pause", [wait, mode @ ..]) => pause(server, connection, wait, mode),
        ("unpause", []) => {
            server.pause = None;
            ok(connection);
        }
        ("unblock", [id, mode @ ..]) => unblock(server, connection, id, mode),
        (
            known @ ("id" | "getname" | "setname" | "setinfo" | "info" | "reply" | "no-evict" | "no-touch" | "tracking"
            | "trackinginfo" | "getredir" | "kill" | "pause" | "unpause" | "unblock"),
            _,
        ) => wrong_arguments(connection, &format!("client|{known}")),
        _ => unknown_subcommand(connection, "CLIENT", arguments.first()),
    }
}

fn set_info(connection: &mut Connection, field: &[u8], value: &[u8]) {
    let Some(value) = client_name(value) else {
        let field = String::from_utf8_lossy(field).to_ascii_lowercase();
        let text = format!("ERR {field} cannot contain spaces, newlines or special characters.");
        return connection.encoder().error(&text);
    };
    if field.eq_ignore_ascii_case(b"lib-name") {
        connection.library = value;
    } else if field.eq_ignore_ascii_case(b"lib-ver") {
        connection.library_version = value;
    } else {
        let text = format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(field));
        return connection.encoder().error(&text);
    }
    ok(connection);
}

fn on_off(connection: &mut Connection, switch: &[u8]) -> Option<bool> {
    let on = switch.eq_ignore_ascii_case(b"on");
    if on || switch.eq_ignore_ascii_case(b"off") {
        ok(connection);
        return Some(on);
    }
    connection.encoder().error("ERR syntax error");
    None
}

fn reply(connection: &mut Connection, mode: &[u8]) {
    if mode.eq_ignore_ascii_case(b"on") {
        connection.replies = Replies::On;
        ok(connection);
    } else if mode.eq_ignore_ascii_case(b"off") {
        connection.replies = Replies::Off;
    } else if mode.eq_ignore_ascii_case(b"skip") {
        if connection.replies != Replies::Off {
            connection.replies = Replies::SkipNext;
        }
    } else {
        connection.encoder().error("ERR syntax error");
    }
}

fn tracking_info(connection: &mut Connection) {
    let mut reply = connection.encoder();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
}

/// `CLIENT LIST [TYPE type] [ID id …]`.
fn list(server: &Server, connection: &mut Connection, options: &[&[u8]]) {
    let mut kind = None;
    let mut ids: Option<Vec<ClientId>> = None;
    match options {
        [] => {}
        [option, wanted] if option.eq_ignore_ascii_case(b"type") => kind = Some(wanted.to_ascii_lowercase()),
        [option, wanted @ ..] if option.eq_ignore_ascii_case(b"id") && !wanted.is_empty() => {
            let found: Option<Vec<ClientId>> =
                wanted.iter().map(|id| number(id).and_then(|id| ClientId::try_from(id).ok())).collect();
            match found {
                Some(found) => ids = Some(found),
                None => return connection.encoder().error("ERR Invalid client ID"),
            }
        }
        _ => return connection.encoder().error("ERR syntax error"),
    }
    let mut text = String::new();
    let others = server.connections.iter().flatten().map(|other| &**other);
    for other in others.chain(std::iter::once(&*connection)) {
        let fits_kind = match kind.as_deref() {
            None => true,
            Some(b"normal") => other.client.subscriptions() == 0,
            Some(b"pubsub") => other.client.subscriptions() > 0,
            Some(_) => false,
        };
        if fits_kind && ids.as_ref().is_none_or(|ids| ids.contains(&other.client.id)) {
            text.push_str(&line(server, other));
        }
    }
    connection.encoder().verbatim(text.as_bytes());
}

/// One line of `CLIENT LIST`.
pub fn line(server: &Server, of: &Connection) -> String {
    let seconds = |since: Duration| server.now.saturating_sub(since).as_secs();
    let mut flags = String::new();
    for (flag, holds) in [
        ('P', of.client.subscriptions() > 0),
        ('x', of.client.queued().is_some()),
        ('b', of.blocked),
        ('c', of.closing),
        ('O', of.watches),
        ('e', of.no_evict),
        ('T', of.no_touch),
    ] {
        if holds {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let mut line = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} \
         qbuf={} qbuf-free={} argv-mem=0 multi-mem=0 rbs={} rbp={} obl=0 oll=0 omem={} tot-mem={} events=r cmd={} \
         user={} redir=-1 resp={} lib-name={} lib-ver={}",
        of.client.id,
        of.peer,
        of.local,
        of.name,
        seconds(of.since),
        seconds(of.active),
        of.client.db,
        of.client.channels(),
        of.client.patterns(),
        of.client.sharded_channels(),
        of.client.queued().map_or(-1, |count| count as i64),
        of.input.len(),
        of.input.capacity() - of.input.len(),
        of.out.capacity(),
        of.out.len(),
        of.pending(),
        of.memory(),
        of.last_command,
        user_name(of),
        if of.protocol == Protocol::Resp3 { 3 } else { 2 },
        of.library,
        of.library_version,
    );
    line
}

/// `CLIENT KILL address` or `CLIENT KILL [ID id] [TYPE type] [ADDR address] [LADDR address] [USER name] [SKIPME yes|no]`.
fn kill(server: &mut Server, connection: &mut Connection, options: &[&[u8]]) {
    if let [address] = options {
        let address = String::from_utf8_lossy(address).into_owned();
        let found = kill_where(server, connection, false, |other| other.peer == address);
        match found {
            0 => connection.encoder().error("ERR No such client"),
            _ => ok(connection),
        }
        return;
    }
    let mut skip_me = true;
    let mut wanted: Vec<(String, String)> = Vec::new();
    for pair in options.chunks(2) {
        let [option, value] = pair else { return connection.encoder().error("ERR syntax error") };
        let (option, value) = (lower(Some(option)), String::from_utf8_lossy(value).into_owned());
        match option.as_str() {
            "skipme" => skip_me = !value.eq_ignore_ascii_case("no"),
            "id" if value.parse::<ClientId>().is_err() => {
                return connection.encoder().error("ERR client-id should be greater than 0");
            }
            "id" | "addr" | "laddr" | "user" | "type" => wanted.push((option, value)),
            _ => return connection.encoder().error("ERR syntax error"),
        }
    }
    let count = kill_where(server, connection, skip_me, |other| {
        wanted.iter().all(|(option, value)| match option.as_str() {
            "id" => other.client.id.to_string() == *value,
            "addr" => other.peer == *value,
            "laddr" => other.local == *value,
            "user" => user_name(other) == value,
            _ => value.eq_ignore_ascii_case(if other.client.subscriptions() > 0 { "pubsub" } else { "normal" }),
        })
    });
    connection.encoder().integer(count);
}

/// Closes the connections that `matches` says; how many.
pub fn kill_where(
    server: &mut Server,
    connection: &mut Connection,
    skip_me: bool,
    matches: impl Fn(&Connection) -> bool,
) -> i64 {
    let mut count = 0;
    let found: Vec<usize> = server
        .connections
        .iter()
        .enumerate()
        .filter(|(_, other)| other.as_ref().is_some_and(|other| matches(other)))
        .map(|(slot, _)| slot)
        .collect();
    for slot in found {
        if let Some(other) = server.connections.get_mut(slot).and_then(Option::take) {
            server.drop_connection(slot, other);
            count += 1;
        }
    }
    if !skip_me && matches(connection) {
        connection.closing = true;
        count += 1;
    }
    count
}

/// `CLIENT PAUSE milliseconds [WRITE|ALL]`.
fn pause(server: &mut Server, connection: &mut Connection, wait: &[u8], mode: &[&[u8]]) {
    let Some(wait) = number(wait).filter(|wait| (0..=LONGEST_PAUSE).contains(wait)) else {
        return connection.encoder().error("ERR timeout is not an integer or out of range");
    };
    let which = match mode {
        [] => Paused::All,
        [mode] if mode.eq_ignore_ascii_case(b"all") => Paused::All,
        [mode] if mode.eq_ignore_ascii_case(b"write") => Paused::Writes,
        _ => return connection.encoder().error("ERR syntax error"),
    };
    server.pause = Some((server.now + Duration::from_millis(wait.unsigned_abs()), which));
    ok(connection);
}

/// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
fn unblock(server: &mut Server, connection: &mut Connection, id: &[u8], mode: &[&[u8]]) {
    let Some(id) = number(id).and_then(|id| ClientId::try_from(id).ok()) else {
        return connection.encoder().error("ERR value is not an integer or out of range");
    };
    let text = match mode {
        [mode] if mode.eq_ignore_ascii_case(b"error") => "UNBLOCKED client unblocked via CLIENT UNBLOCK",
        [] => "",
        [mode] if mode.eq_ignore_ascii_case(b"timeout") => "",
        _ => return connection.encoder().error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
    };
    let done = if text.is_empty() { server.keyspace.end_wait(id) } else { server.keyspace.unblock(id, text) };
    connection.encoder().integer(i64::from(done));
}
