//! Consumer groups: `XGROUP`, `XACK`, `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.

use std::collections::{BTreeMap, BTreeSet};

use super::streams::{Bound, answer_id, bound, id, id_value, ids, item_value};
use super::{Command, FREE_FAST, Flags, READ, keyed};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Missing;
use crate::kv::number;
use crate::kv::reply::Value;
use crate::kv::value::Kind;
use crate::kv::value::stream::{Change, Group, Id, Stream};

pub(super) const COMMANDS: &[Command] = &[
    keyed("xack", -4, FREE_FAST, 1, acknowledge),
    keyed("xautoclaim", -6, FREE_FAST, 1, auto_claim),
    keyed("xclaim", -6, FREE_FAST, 1, claim),
    Command { first_key: 2, subcommands: XGROUP, ..keyed("xgroup", -2, Flags::WRITE, 2, group) },
    keyed("xpending", -3, READ, 1, pending),
];

const XGROUP: &[(&str, i32)] = &[
    ("xgroup|create", -5),
    ("xgroup|createconsumer", 5),
    ("xgroup|delconsumer", 5),
    ("xgroup|destroy", 4),
    ("xgroup|help", 2),
    ("xgroup|setid", -5),
];

const HELP: &[&str] = &[
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a group that reads behind <id>. Options: MKSTREAM makes the stream if need be,",
    "    ENTRIESREAD <entries> sets how many entries the group has read.",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a consumer in a group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Delete a consumer and what it was given.",
    "DESTROY <key> <groupname>",
    "    Delete a group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD <entries>]",
    "    Move a group to <id>.",
];

fn no_key_or_group(key: &[u8], group: &[u8]) -> Fault {
    Fault::quoting(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, b"'"])
}

fn no_group(key: &[u8], group: &[u8]) -> Fault {
    Fault::quoting(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

/// Redis' answer to a subcommand with arguments that do not fit.
fn wrong_use(given: &[u8]) -> Fault {
    let before = b"ERR unknown subcommand or wrong number of arguments for '";
    Fault::quoting(&[before, given, b"'. Try XGROUP HELP."])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    SetId,
    Destroy,
    CreateConsumer,
    DeleteConsumer,
}

fn group(call: &mut Call<'_>) -> Result<(), Fault> {
    let given = call.args[1];
    let action = match given.to_ascii_lowercase().as_slice() {
        b"create" => Action::Create,
        b"setid" => Action::SetId,
        b"destroy" => Action::Destroy,
        b"createconsumer" => Action::CreateConsumer,
        b"delconsumer" => Action::DeleteConsumer,
        _ => {
            super::answer_help(call.reply, HELP);
            return Ok(());
        }
    };
    let (key, name) = (call.arg(2)?, call.arg(3)?);
    let (mut make, mut read) = (false, None);
    let mut at = 5;
    while let Some(option) = call.args.get(at) {
        if action == Action::Create && option.eq_ignore_ascii_case(b"MKSTREAM") {
            make = true;
        } else if matches!(action, Action::Create | Action::SetId)
            && option.eq_ignore_ascii_case(b"ENTRIESREAD")
            && at + 1 < call.args.len()
        {
            at += 1;
            let value = call.integer(at)?;
            if value < -1 {
                return Err(Fault::Text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            read = u64::try_from(value).ok();
        } else {
            return Err(wrong_use(given));
        }
        at += 1;
    }
    let db = call.client.db;
    let stream = call.keyspace.peek_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
    if !make {
        let Some(stream) = stream else {
            return Err(Fault::Text(
                "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
            ));
        };
        if stream.group(name).is_none() && !matches!(action, Action::Create | Action::Destroy) {
            return Err(no_group(key, name));
        }
    }
    let top = stream.map_or(Id::ZERO, Stream::last);
    let start = match (action, call.args.get(4)) {
        (Action::Create | Action::SetId, Some(text)) if **text == *b"$" => top,
        (Action::SetId, Some(text)) if **text == *b"-" => Id::ZERO,
        (Action::SetId, Some(text)) if **text == *b"+" => Id::MAX,
        (Action::Create | Action::SetId, Some(text)) => id(text, 0)?,
        _ => Id::ZERO,
    };
    let consumer = call.args.get(4).copied().unwrap_or_default();
    if action == Action::Create && stream.is_some_and(|stream| stream.group(name).is_some()) {
        return Err(Fault::Text("BUSYGROUP Consumer Group name already exists"));
    }
    let now = call.keyspace.clock.wall;
    let missing = if make { Missing::Create } else { Missing::Skip };
    let met = call.keyspace.edit(db, key, Kind::Stream, missing, |edit| {
        let known = edit.entry.stream().and_then(|stream| stream.group(name)?.consumer(consumer));
        Ok(match action {
            Action::Create | Action::SetId => edit.change_stream(&Change::Group { group: name, last: start, read }),
            Action::Destroy => edit.change_stream(&Change::Destroy { group: name }),
            Action::CreateConsumer if known.is_some() => 0,
            Action::CreateConsumer => {
                edit.change_stream(&Change::Consumer { group: name, name: consumer, seen: now, active: None })
            }
            Action::DeleteConsumer => match known.map(|consumer| consumer.pending().len()) {
                Some(pending) => {
                    edit.change_stream(&Change::Forget { group: name, name: consumer });
                    pending
                }
                None => 0,
            },
        })
    })?;
    match action {
        Action::Create | Action::SetId => call.reply.simple("OK"),
        _ => call.reply.integer(met.unwrap_or(0) as i64),
    }
    if action == Action::Destroy {
        // Who waits for the group is told that it is gone.
        call.keyspace.waits.note(db, key);
    }
    Ok(())
}

fn acknowledge(call: &mut Call<'_>) -> Result<(), Fault> {
    let (db, key, name) = (call.client.db, call.args[1], call.args[2]);
    let stream = call.keyspace.read_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
    if stream.and_then(|stream| stream.group(name)).is_none() {
        call.reply.integer(0);
        return Ok(());
    }
    let ids = ids(call, 3)?;
    let met = call.keyspace.edit(db, key, Kind::Stream, Missing::Skip, |edit| {
        Ok(edit.change_stream(&Change::Acknowledge { group: name, ids }))
    })?;
    call.reply.integer(met.unwrap_or(0) as i64);
    Ok(())
}

/// The part of what is pending that `XPENDING` lists.
struct Part {
    idle: u64,
    start: Id,
    end: Id,
    most: usize,
}

fn pending(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = call.args.len();
    if count != 3 && !(6..=9).contains(&count) {
        return Err(Fault::Syntax);
    }
    let (mut part, mut at) = (None, 3);
    if count > 3 {
        let mut idle = 0;
        if call.args[3].eq_ignore_ascii_case(b"IDLE") {
            idle = u64::try_from(call.integer(4)?).unwrap_or(0);
            at = 5;
            if count < 8 {
                return Err(Fault::Syntax);
            }
        }
        let most = usize::try_from(call.integer(at + 2)?).unwrap_or(0);
        let (start, end) = (bound(call.args[at], Bound::Start)?, bound(call.args[at + 1], Bound::End)?);
        part = Some(Part { idle, start, end, most });
    }
    let (db, key, name, now) = (call.client.db, call.args[1], call.args[2], call.keyspace.clock.wall);
    let stream = call.keyspace.read_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
    let Some(group) = stream.and_then(|stream| stream.group(name)) else { return Err(no_key_or_group(key, name)) };
    let reply = &mut *call.reply;
    let Some(part) = part else {
        summary(group).write(reply);
        return Ok(());
    };
    let consumer = call.args.get(at + 3).copied();
    let fits = |id: &&Id| group.pending().get(*id).is_some_and(|pending| now.saturating_sub(pending.time) >= part.idle);
    let found: Vec<&Id> = match consumer {
        _ if part.start > part.end => Vec::new(),
        None => group.pending().range(part.start..=part.end).map(|(id, _)| id).filter(fits).take(part.most).collect(),
        Some(name) => group.consumer(name).map_or_else(Vec::new, |consumer| {
            consumer.pending().range(part.start..=part.end).filter(fits).take(part.most).collect()
        }),
    };
    reply.array(found.len());
    for id in found {
        let Some(pending) = group.pending().get(id) else { continue };
        reply.array(4);
        answer_id(*id, reply);
        reply.bulk(&pending.consumer);
        reply.integer(now.saturating_sub(pending.time) as i64);
        reply.integer(pending.count as i64);
    }
    Ok(())
}

fn summary(group: &Group) -> Value {
    let pending = group.pending();
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value()) else {
        return Value::Array(vec![Value::Integer(0), Value::Null, Value::Null, Value::NullArray]);
    };
    let consumers = group.consumers().iter().filter(|(_, consumer)| !consumer.pending().is_empty());
    let consumers = consumers.map(|(name, consumer)| {
        let count = consumer.pending().len().to_string().into_bytes();
        Value::Array(vec![Value::Bulk(name.to_vec()), Value::Bulk(count)])
    });
    let total = Value::Integer(pending.len() as i64);
    Value::Array(vec![total, id_value(*first), id_value(*last), Value::Array(consumers.collect())])
}

/// How entries change hands.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    idle: u64,
    time: u64,
    count: Option<u64>,
    force: bool,
    only_ids: bool,
}

fn minimum_idle(call: &Call<'_>, name: &'static str) -> Result<u64, Fault> {
    let text = call.arg(4)?;
    let idle =
        number::integer(text).ok_or_else(|| Fault::Told(format!("ERR Invalid min-idle-time argument for {name}")))?;
    Ok(u64::try_from(idle).unwrap_or(0))
}

fn claim(call: &mut Call<'_>) -> Result<(), Fault> {
    let (db, key, group, name) = (call.client.db, call.args[1], call.args[2], call.args[3]);
    let now = call.keyspace.clock.wall;
    let stream = call.keyspace.read_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
    if stream.and_then(|stream| stream.group(group)).is_none() {
        return Err(no_key_or_group(key, group));
    }
    let mut terms = Terms { idle: minimum_idle(call, "XCLAIM")?, time: now, ..Terms::default() };
    let wanted: Vec<Id> = call.rest(5).iter().map_while(|text| Id::parse(text, 0)).collect();
    let mut last = Id::ZERO;
    let mut at = 5 + wanted.len();
    while let Some(option) = call.args.get(at) {
        let value = call.args.get(at + 1);
        let wrong = |name| Fault::Told(format!("ERR Invalid {name} option argument for XCLAIM"));
        match (option.to_ascii_uppercase().as_slice(), value) {
            (b"FORCE", _) => terms.force = true,
            (b"JUSTID", _) => terms.only_ids = true,
            (b"IDLE", Some(value)) => {
                let idle = number::integer(value).ok_or_else(|| wrong("IDLE"))?;
                terms.time = u64::try_from(idle).ok().and_then(|idle| now.checked_sub(idle)).unwrap_or(now);
                at += 1;
            }
            (b"TIME", Some(value)) => {
                let time = number::integer(value).ok_or_else(|| wrong("TIME"))?;
                terms.time = u64::try_from(time).ok().filter(|time| *time <= now).unwrap_or(now);
                at += 1;
            }
            (b"RETRYCOUNT", Some(value)) => {
                let count = number::integer(value).ok_or_else(|| wrong("RETRYCOUNT"))?;
                terms.count = u64::try_from(count).ok();
                at += 1;
            }
            (b"LASTID", Some(value)) => {
                last = id(value, 0)?;
                at += 1;
            }
            _ => return Err(Fault::quoting(&[b"ERR Unrecognized XCLAIM option '", option, b"'"])),
        }
        at += 1;
    }
    let claimed = call.keyspace.edit(db, key, Kind::Stream, Missing::Skip, |edit| {
        let known = edit.entry.stream().and_then(|stream| stream.group(group));
        if let Some((old, read)) = known.map(|group| (group.last, group.read))
            && last > old
        {
            edit.change_stream(&Change::Group { group, last, read });
        }
        let (given, _) = take_over(edit, group, name, &wanted, terms, now);
        Ok(given)
    })?;
    Value::Array(claimed.unwrap_or_default()).write(call.reply);
    Ok(())
}

/// Gives those of the wanted entries that may change hands to a consumer; returns what is answered about them, and
/// which of them are in the stream no more and were forgotten.
fn take_over(
    edit: &mut crate::kv::keyspace::Edit<'_>,
    group_name: &[u8],
    name: &[u8],
    wanted: &[Id],
    terms: Terms,
    now: u64,
) -> (Vec<Value>, BTreeSet<Id>) {
    let (mut answers, mut given, mut gone) = (Vec::new(), Vec::new(), BTreeSet::new());
    let Some(group) = edit.entry.stream().and_then(|stream| stream.group(group_name)) else { return (answers, gone) };
    let Some(stream) = edit.entry.stream() else { return (answers, gone) };
    // An id named twice was already given here the first time.
    let mut counts: BTreeMap<Id, u64> = BTreeMap::new();
    for id in wanted {
        let pending = group.pending().get(id);
        let Some(item) = stream.get(*id) else {
            if pending.is_some() {
                gone.insert(*id);
            }
            continue;
        };
        let (time, count) = match (counts.get(id), pending) {
            (Some(count), _) => (Some(terms.time), *count),
            (None, Some(pending)) => (Some(pending.time), pending.count),
            (None, None) if terms.force => (None, 1),
            (None, None) => continue,
        };
        if terms.idle > 0 && time.is_some_and(|time| now.saturating_sub(time) < terms.idle) {
            continue;
        }
        let count = terms.count.unwrap_or(if terms.only_ids { count } else { count.saturating_add(1) });
        counts.insert(*id, count);
        given.push((*id, terms.time, count));
        answers.push(if terms.only_ids { id_value(*id) } else { item_value(item) });
    }
    let known = group.consumer(name).map(|consumer| consumer.active);
    if !gone.is_empty() {
        edit.change_stream(&Change::Acknowledge { group: group_name, ids: gone.iter().copied().collect() });
    }
    if known.is_none() || !given.is_empty() {
        let active = if given.is_empty() { known.flatten() } else { Some(now) };
        edit.change_stream(&Change::Consumer { group: group_name, name, seen: now, active });
    } else if let Some(stream) = edit.entry.stream_mut() {
        stream.glimpse(group_name, name, now);
    }
    if !given.is_empty() {
        edit.change_stream(&Change::Give { group: group_name, name, items: given });
    }
    (answers, gone)
}

/// Pending entries `XAUTOCLAIM` looks at for each it may give.
const TRIES: usize = 10;

fn auto_claim(call: &mut Call<'_>) -> Result<(), Fault> {
    let (db, key, group, name) = (call.client.db, call.args[1], call.args[2], call.args[3]);
    let now = call.keyspace.clock.wall;
    let mut terms = Terms { idle: minimum_idle(call, "XAUTOCLAIM")?, time: now, ..Terms::default() };
    let start = bound(call.args[5], Bound::Start)?;
    let (mut count, mut at) = (100, 6);
    while let Some(option) = call.args.get(at) {
        if option.eq_ignore_ascii_case(b"JUSTID") {
            terms.only_ids = true;
        } else if option.eq_ignore_ascii_case(b"COUNT") && at + 1 < call.args.len() {
            at += 1;
            let most = i64::MAX / 16;
            count = number::integer(call.args[at])
                .and_then(|count| usize::try_from(count).ok())
                .filter(|count| (1..=most as usize).contains(count))
                .ok_or(Fault::Text("ERR COUNT must be > 0"))?;
        } else {
            return Err(Fault::Syntax);
        }
        at += 1;
    }
    let stream = call.keyspace.read_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
    if stream.and_then(|stream| stream.group(group)).is_none() {
        return Err(no_key_or_group(key, group));
    }
    let done = call.keyspace.edit(db, key, Kind::Stream, Missing::Skip, |edit| {
        let mut wanted = Vec::new();
        let mut next = Id::ZERO;
        if let Some(stream) = edit.entry.stream()
            && let Some(group) = stream.group(group)
        {
            let mut tries = count.saturating_mul(TRIES);
            for (id, pending) in group.pending().range(start..) {
                if tries == 0 || wanted.len() == count {
                    next = *id;
                    break;
                }
                tries -= 1;
                if !stream.contains(*id) || now.saturating_sub(pending.time) >= terms.idle {
                    wanted.push(*id);
                }
            }
        }
        let (answers, gone) = take_over(edit, group, name, &wanted, terms, now);
        let gone = gone.into_iter().map(id_value).collect();
        Ok(Value::Array(vec![id_value(next), Value::Array(answers), Value::Array(gone)]))
    })?;
    done.unwrap_or(Value::Null).write(call.reply);
    Ok(())
}
