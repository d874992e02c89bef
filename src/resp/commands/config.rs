//! `CONFIG`: the knobs of Redis that clients look at, answered from our settings. What can be changed while running is
//! `maxmemory`, `maxmemory-policy` (of the database the client has selected), `appendfsync`, `timeout`, `maxclients`,
//! `busy-reply-threshold`, `notify-keyspace-events`, the slow log's and the latency monitor's; knobs that tune encodings are accepted and have no
//! effect.

use super::{lower, ok, unknown_subcommand, wrong_arguments};
use crate::base::{ByteSize, Span};
use crate::kv::eviction::Policy;
use crate::kv::notify::{Events, EventsError};
use crate::kv::persist::SyncMode;
use crate::kv::{Reply, glob};
use crate::resp::connection::Connection;
use crate::resp::server::Server;
use crate::resp::timing::SLOW_MAX;

/// Accepted and remembered by nobody: name and the value Redis has by default.
const TUNING: [(&str, &str); 19] = [
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "128"),
    ("hash-max-ziplist-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("list-max-ziplist-size", "-2"),
    ("list-compress-depth", "0"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("zset-max-ziplist-entries", "128"),
    ("stream-node-max-bytes", "4096"),
    ("stream-node-max-entries", "100"),
    ("activedefrag", "no"),
    ("lazyfree-lazy-expire", "yes"),
    ("maxmemory-samples", "5"),
];

/// `CONFIG subcommand …`.
pub fn run(server: &mut Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let rest = arguments.get(1..).unwrap_or_default();
    match (lower(arguments.first()).as_str(), rest) {
        ("get", patterns) if !patterns.is_empty() => get(server, connection, patterns),
        ("set", pairs) if !pairs.is_empty() && pairs.len().is_multiple_of(2) => set(server, connection, pairs),
        ("resetstat", []) => {
            server.stats.reset();
            server.figures.reset();
            ok(connection);
        }
        ("rewrite", []) => connection.encoder().error("ERR the settings file is not written by the server"),
        (known @ ("get" | "set" | "resetstat" | "rewrite"), _) => {
            wrong_arguments(connection, &format!("config|{known}"));
        }
        _ => unknown_subcommand(connection, "CONFIG", arguments.first()),
    }
}

/// Every knob with its value.
fn values(server: &Server, db: u8) -> Vec<(&'static str, String)> {
    let keyspace = &server.keyspace;
    let config = &server.config;
    let mut out: Vec<(&'static str, String)> =
        TUNING.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    out.extend([
        ("appendfsync", server.persistence.mode().word().to_owned()),
        ("appendonly", "yes".to_owned()),
        ("busy-reply-threshold", keyspace.config().script_busy.duration().as_millis().to_string()),
        ("client-query-buffer-limit", config.max_query.bytes().to_string()),
        ("databases", crate::kv::config::DATABASES.to_string()),
        ("lua-time-limit", keyspace.config().script_busy.duration().as_millis().to_string()),
        ("maxclients", config.max_clients.to_string()),
        ("maxmemory", keyspace.memory_limit().to_string()),
        ("maxmemory-policy", keyspace.policy(db).name().to_owned()),
        ("notify-keyspace-events", keyspace.events().to_string()),
        ("port", server.port().to_string()),
        ("proto-max-bulk-len", config.max_bulk.bytes().to_string()),
        ("save", String::new()),
        ("slowlog-log-slower-than", server.timing.slower_than.to_string()),
        ("slowlog-max-len", server.timing.most.to_string()),
        ("latency-monitor-threshold", server.timing.spike.to_string()),
        ("tcp-keepalive", "300".to_owned()),
        ("tls-port", config.tls_listen.address().map_or(0, |address| address.port()).to_string()),
        ("timeout", config.timeout.duration().as_secs().to_string()),
    ]);
    out.sort_unstable();
    out
}

fn get(server: &Server, connection: &mut Connection, patterns: &[&[u8]]) {
    let mut found = values(server, connection.client.db);
    found.retain(|(name, _)| {
        patterns.iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
    });
    let mut reply = connection.encoder();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// A change that was understood.
enum Change {
    Nothing,
    Memory(ByteSize),
    Policy(Policy),
    Sync(SyncMode),
    Timeout(Span),
    Clients(u32),
    SlowerThan(i64),
    SlowLength(usize),
    Spike(u64),
    Busy(Span),
    Notify(Events),
}

/// All or none of the changes are made.
fn set(server: &mut Server, connection: &mut Connection, pairs: &[&[u8]]) {
    let mut changes = Vec::new();
    for pair in pairs.chunks(2) {
        let [name, value] = pair else { continue };
        let (name, value) = (lower(Some(name)), String::from_utf8_lossy(value).into_owned());
        match change(server, connection.client.db, &name, &value) {
            Ok(change) => changes.push(change),
            Err(text) => return connection.encoder().error(&text),
        }
    }
    for change in changes {
        match change {
            Change::Nothing => {}
            Change::Memory(size) => server.keyspace.limit_memory(size.as_usize()),
            Change::Policy(policy) => server.keyspace.set_policy(connection.client.db, policy),
            Change::Sync(mode) => server.persistence.set_mode(mode),
            Change::Timeout(span) => server.config.timeout = span,
            Change::Clients(count) => server.config.max_clients = count,
            Change::SlowerThan(micros) => server.timing.slower_than = micros,
            Change::SlowLength(most) => {
                server.timing.most = most;
                server.timing.slow.truncate(most);
            }
            Change::Spike(millis) => server.timing.spike = millis,
            Change::Notify(events) => server.keyspace.set_events(events),
            Change::Busy(span) => server.keyspace.config_mut().script_busy = span,
        }
    }
    ok(connection);
}

fn change(server: &Server, db: u8, name: &str, value: &str) -> Result<Change, String> {
    let failed = |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
    match name {
        "maxmemory" => value.parse().map(Change::Memory).map_err(|_no_size| failed("argument must be a memory value")),
        "maxmemory-policy" => value.parse().map(Change::Policy).map_err(|_no_policy| {
            let names: Vec<&str> = Policy::ALL.into_iter().map(Policy::name).collect();
            failed(&format!("argument(s) must be one of the following: {}", names.join(", ")))
        }),
        "appendfsync" => match value {
            "always" => Ok(Change::Sync(SyncMode::Always)),
            "everysec" => Ok(Change::Sync(SyncMode::EverySec)),
            "no" => Ok(Change::Sync(SyncMode::No)),
            _ => Err(failed("argument(s) must be one of the following: everysec, always, no")),
        },
        "notify-keyspace-events" => {
            value.parse().map(Change::Notify).map_err(|error: EventsError| failed(&error.to_string()))
        }
        "timeout" => value
            .parse()
            .map(|seconds| Change::Timeout(Span::secs(seconds)))
            .map_err(|_no_number| failed("argument couldn't be parsed into an integer")),
        "busy-reply-threshold" | "lua-time-limit" => value
            .parse()
            .map(|millis| Change::Busy(Span::millis(millis)))
            .map_err(|_no_number| failed("argument couldn't be parsed into an integer")),
        "maxclients" => match value.parse() {
            Ok(count) if count > 0 => Ok(Change::Clients(count)),
            _ => Err(failed("argument must be between 1 and 4294967295 inclusive")),
        },
        "slowlog-log-slower-than" => match value.parse() {
            Ok(micros) if micros >= -1 => Ok(Change::SlowerThan(micros)),
            _ => Err(failed("argument must be between -1 and 9223372036854775807 inclusive")),
        },
        "slowlog-max-len" => match value.parse() {
            Ok(most) if most <= SLOW_MAX => Ok(Change::SlowLength(most)),
            _ => Err(failed("argument must be between 0 and 10000 inclusive")),
        },
        "latency-monitor-threshold" => match value.parse() {
            Ok(millis) => Ok(Change::Spike(millis)),
            Err(_no_number) => Err(failed("argument couldn't be parsed into an integer")),
        },
        _ if TUNING.iter().any(|(known, _)| *known == name) => Ok(Change::Nothing),
        _ => match values(server, db).iter().find(|(known, _)| *known == name) {
            Some((_, now)) if now.eq_ignore_ascii_case(value) => Ok(Change::Nothing),
            Some(_) => Err(failed("can't set immutable config")),
            None => Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")),
        },
    }
}
