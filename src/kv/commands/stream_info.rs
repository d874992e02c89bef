//! `XINFO`: what a stream, its groups and their consumers look like.

use super::streams::{answer_id, answer_item};
use super::{Command, Flags, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::reply::Reply;
use crate::kv::value::Kind;
use crate::kv::value::stream::{Group, Id, Stream};

pub(super) const COMMANDS: &[Command] =
    &[Command { first_key: 2, subcommands: XINFO, ..keyed("xinfo", -2, Flags::READONLY, 2, info) }];

const XINFO: &[(&str, i32)] = &[("xinfo|consumers", 4), ("xinfo|groups", 3), ("xinfo|help", 2), ("xinfo|stream", -3)];

const HELP: &[&str] = &[
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show the consumers of a group.",
    "GROUPS <key>",
    "    Show the groups of a stream.",
    "STREAM <key> [FULL [COUNT <count>]]",
    "    Show a stream.",
];

/// Entries that `FULL` shows without `COUNT`.
const SHOWN: usize = 10;

fn info(call: &mut Call<'_>) -> Result<(), Fault> {
    let subcommand = call.args[1].to_ascii_lowercase();
    if subcommand == b"help" {
        super::answer_help(call.reply, HELP);
        return Ok(());
    }
    let (key, now) = (call.arg(2)?, call.keyspace.clock.wall);
    let absent = call.keyspace.read_kind(call.client.db, key, Kind::Stream)?.is_none();
    let full = match (subcommand.as_slice(), call.rest(3)) {
        (b"stream", [full]) if full.eq_ignore_ascii_case(b"FULL") => Some(SHOWN),
        (b"stream", [full, count, number])
            if full.eq_ignore_ascii_case(b"FULL") && count.eq_ignore_ascii_case(b"COUNT") =>
        {
            let count = number::integer(number).ok_or(Fault::NotInteger)?;
            match usize::try_from(count) {
                Ok(0) => Some(usize::MAX),
                Ok(count) => Some(count),
                Err(_negative) => Some(SHOWN),
            }
        }
        _ if absent => return Err(Fault::NoSuchKey),
        (b"stream", [_, ..]) => {
            let before = b"ERR unknown subcommand or wrong number of arguments for '";
            return Err(Fault::quoting(&[before, call.args[1], b"'. Try XINFO HELP."]));
        }
        _ => None,
    };
    let stream = call.keyspace.read_kind(call.client.db, key, Kind::Stream)?.and_then(Entry::stream);
    let Some(stream) = stream else { return Err(Fault::NoSuchKey) };
    let reply = &mut *call.reply;
    match subcommand.as_slice() {
        b"groups" => groups(stream, reply),
        b"consumers" => {
            let name = call.args[3];
            let Some(group) = stream.group(name) else {
                let before = b"NOGROUP No such consumer group '";
                return Err(Fault::quoting(&[before, name, b"' for key name '", key, b"'"]));
            };
            consumers(group, now, reply);
        }
        _ => match full {
            Some(most) => answer_full(stream, most, reply),
            None => answer_short(stream, reply),
        },
    }
    Ok(())
}

fn field(reply: &mut dyn Reply, name: &str) {
    reply.bulk(name.as_bytes());
}

fn number(reply: &mut dyn Reply, name: &str, value: u64) {
    field(reply, name);
    reply.integer(value.cast_signed());
}

fn id(reply: &mut dyn Reply, name: &str, value: Id) {
    field(reply, name);
    answer_id(value, reply);
}

/// A number, or nothing where it cannot be told.
fn known(reply: &mut dyn Reply, name: &str, value: Option<u64>) {
    field(reply, name);
    if let Some(value) = value {
        // As in Redis: a group moved beyond the end has a negative lag.
        reply.integer(value.cast_signed());
    } else {
        reply.null();
    }
}

/// A moment, -1 for never.
fn moment(reply: &mut dyn Reply, name: &str, value: Option<u64>) {
    field(reply, name);
    reply.integer(value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX)));
}

/// What both forms of `XINFO STREAM` begin with: seven fields.
fn answer_head(stream: &Stream, reply: &mut dyn Reply) {
    number(reply, "length", stream.len() as u64);
    number(reply, "radix-tree-keys", stream.blocks() as u64);
    number(reply, "radix-tree-nodes", stream.blocks() as u64 + 1);
    id(reply, "last-generated-id", stream.last());
    id(reply, "max-deleted-entry-id", stream.deleted());
    number(reply, "entries-added", stream.added());
    id(reply, "recorded-first-entry-id", stream.first());
}

fn answer_short(stream: &Stream, reply: &mut dyn Reply) {
    reply.map(10);
    answer_head(stream, reply);
    number(reply, "groups", stream.groups().len() as u64);
    for (name, reverse) in [("first-entry", false), ("last-entry", true)] {
        field(reply, name);
        let mut found = None;
        stream.range(Id::ZERO, Id::MAX, reverse, |item| {
            found = Some(item);
            false
        });
        match found {
            Some(item) => answer_item(item, reply),
            None => reply.null(),
        }
    }
}

fn answer_full(stream: &Stream, most: usize, reply: &mut dyn Reply) {
    reply.map(9);
    answer_head(stream, reply);
    field(reply, "entries");
    let mut items = Vec::new();
    stream.range(Id::ZERO, Id::MAX, false, |item| {
        items.push(item);
        items.len() < most
    });
    reply.array(items.len());
    for item in items {
        answer_item(item, reply);
    }
    field(reply, "groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        field(reply, "name");
        reply.bulk(name);
        id(reply, "last-delivered-id", group.last);
        known(reply, "entries-read", group.read);
        known(reply, "lag", stream.lag(group));
        number(reply, "pel-count", group.pending().len() as u64);
        field(reply, "pending");
        reply.array(group.pending().len().min(most));
        for (id, pending) in group.pending().iter().take(most) {
            reply.array(4);
            answer_id(*id, reply);
            reply.bulk(&pending.consumer);
            reply.integer(pending.time as i64);
            reply.integer(pending.count as i64);
        }
        field(reply, "consumers");
        reply.array(group.consumers().len());
        for (name, consumer) in group.consumers() {
            reply.map(5);
            field(reply, "name");
            reply.bulk(name);
            number(reply, "seen-time", consumer.seen);
            moment(reply, "active-time", consumer.active);
            number(reply, "pel-count", consumer.pending().len() as u64);
            field(reply, "pending");
            reply.array(consumer.pending().len().min(most));
            for id in consumer.pending().iter().take(most) {
                let (time, count) = group.pending().get(id).map_or((0, 0), |pending| (pending.time, pending.count));
                reply.array(3);
                answer_id(*id, reply);
                reply.integer(time as i64);
                reply.integer(count as i64);
            }
        }
    }
}

fn groups(stream: &Stream, reply: &mut dyn Reply) {
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        field(reply, "name");
        reply.bulk(name);
        number(reply, "consumers", group.consumers().len() as u64);
        number(reply, "pending", group.pending().len() as u64);
        id(reply, "last-delivered-id", group.last);
        known(reply, "entries-read", group.read);
        known(reply, "lag", stream.lag(group));
    }
}

fn consumers(group: &Group, now: u64, reply: &mut dyn Reply) {
    reply.array(group.consumers().len());
    for (name, consumer) in group.consumers() {
        reply.map(4);
        field(reply, "name");
        reply.bulk(name);
        number(reply, "pending", consumer.pending().len() as u64);
        number(reply, "idle", now.saturating_sub(consumer.seen));
        moment(reply, "inactive", consumer.active.map(|active| now.saturating_sub(active)));
    }
}
