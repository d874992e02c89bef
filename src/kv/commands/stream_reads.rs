//! `XREAD` and `XREADGROUP`: what is new in streams, at once or when it comes.

use std::sync::Arc;
use std::time::Duration;

use super::blocking::block;
use super::streams::{id, id_value, item_value};
use super::{Command, Flags, READ, keyless};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Keyspace, Missing};
use crate::kv::number;
use crate::kv::reply::Value;
use crate::kv::value::Kind;
use crate::kv::value::stream::{Change, Id, Stream};
use crate::kv::wait::Want;

const WAITS: Flags = Flags::BLOCKING.and(Flags::MOVABLE_KEYS);

pub(super) const COMMANDS: &[Command] = &[
    keyless("xread", -4, READ.and(WAITS), |call| read(call, false)),
    keyless("xreadgroup", -7, Flags::WRITE.and(WAITS), |call| read(call, true)),
];

/// What a client reads from streams.
#[derive(Debug)]
pub(in crate::kv) struct Reading {
    /// Keys, and the entries behind which each is read; of groups, where the group itself stands.
    pub after: Vec<(Box<[u8]>, Id)>,
    most: usize,
    member: Option<Member>,
}

/// Who reads for a group.
#[derive(Debug)]
struct Member {
    group: Box<[u8]>,
    name: Box<[u8]>,
    keeps: bool,
}

/// Where a reader stands in a stream.
#[derive(Clone, Copy, Debug)]
enum From {
    /// Behind this entry; for groups: what the consumer was given behind it.
    Behind(Id),
    /// Behind what the group was given.
    New,
}

fn no_group(key: &[u8], group: &[u8]) -> Fault {
    let after = b"' in XREADGROUP with GROUP option";
    Fault::quoting(&[b"NOGROUP No such key '", key, b"' or consumer group '", group, after])
}

/// What stands before `STREAMS`, and where the keys begin.
struct Options {
    /// Whether it waits, and how long if not for ever.
    waits: bool,
    timeout: Option<Duration>,
    most: usize,
    member: Option<Member>,
    keys_at: usize,
}

fn options(call: &Call<'_>, grouped: bool) -> Result<Options, Fault> {
    let mut options = Options { waits: false, timeout: None, most: usize::MAX, member: None, keys_at: 0 };
    let mut names: Option<(&[u8], &[u8])> = None;
    let mut keeps = true;
    let mut at = 1;
    while options.keys_at == 0 {
        let Some(option) = call.args.get(at) else { return Err(Fault::Syntax) };
        let rest = call.rest(at + 1);
        match (option.to_ascii_uppercase().as_slice(), rest) {
            (b"BLOCK", [value, ..]) => {
                let millis =
                    number::integer(value).ok_or(Fault::Text("ERR timeout is not an integer or out of range"))?;
                let millis = u64::try_from(millis).map_err(|_negative| Fault::Text("ERR timeout is negative"))?;
                options.waits = true;
                options.timeout = (millis > 0).then(|| Duration::from_millis(millis));
                at += 1;
            }
            (b"COUNT", [value, ..]) => {
                let count = number::integer(value).ok_or(Fault::NotInteger)?;
                options.most = usize::try_from(count).ok().filter(|count| *count > 0).unwrap_or(usize::MAX);
                at += 1;
            }
            (b"STREAMS", [_, ..]) => {
                if !rest.len().is_multiple_of(2) {
                    let (name, sign) = if grouped { ("xreadgroup", '>') } else { ("xread", '$') };
                    return Err(Fault::Told(format!(
                        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
                    )));
                }
                options.keys_at = at + 1;
            }
            (b"GROUP", [_, _, ..]) if !grouped => {
                return Err(Fault::Text(
                    "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            (b"GROUP", [group, name, ..]) => {
                names = Some((group, name));
                at += 2;
            }
            (b"NOACK", _) if grouped => keeps = false,
            (b"NOACK", _) => {
                return Err(Fault::Text(
                    "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            _ => return Err(Fault::Syntax),
        }
        at += 1;
    }
    if grouped {
        let (group, name) = names.ok_or(Fault::Text("ERR Missing GROUP option for XREADGROUP"))?;
        options.member = Some(Member { group: group.into(), name: name.into(), keeps });
    }
    Ok(options)
}

fn read(call: &mut Call<'_>, grouped: bool) -> Result<(), Fault> {
    let options = options(call, grouped)?;
    let db = call.client.db;
    let (keys, starts) = call.rest(options.keys_at).split_at((call.args.len() - options.keys_at) / 2);
    let mut from = Vec::with_capacity(keys.len());
    for (key, start) in keys.iter().zip(starts) {
        let stream = call.keyspace.read_kind(db, key, Kind::Stream)?.and_then(Entry::stream);
        if let Some(member) = &options.member
            && stream.and_then(|stream| stream.group(&member.group)).is_none()
        {
            return Err(no_group(key, &member.group));
        }
        from.push(match *start {
            b"$" if grouped => {
                return Err(Fault::Text(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
                ));
            }
            b"$" => From::Behind(stream.map_or(Id::ZERO, Stream::last)),
            b">" if !grouped => {
                return Err(Fault::Text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            b">" => From::New,
            text => match id(text, 0)? {
                // As in Redis, the last id there can be is another word for `>`.
                Id::MAX if grouped => From::New,
                id => From::Behind(id),
            },
        });
    }
    let mut found = Vec::new();
    for (key, from) in keys.iter().zip(&from) {
        let value = match &options.member {
            None => match from {
                From::Behind(id) => call.keyspace.behind(db, key, *id, options.most)?,
                From::New => None,
            },
            Some(member) => match from {
                From::Behind(id) => call.keyspace.again(db, key, member, *id, options.most)?,
                From::New => call.keyspace.give(db, key, member, options.most)?,
            },
        };
        found.extend(value.map(|value| (Value::Bulk(key.to_vec()), value)));
    }
    if !found.is_empty() {
        Value::Keyed(found).write(call.reply);
    } else if options.waits && call.may_block {
        let after = keys.iter().zip(&from).map(|(key, from)| match from {
            From::Behind(id) => (Box::from(*key), *id),
            From::New => (Box::from(*key), Id::ZERO),
        });
        let reading = Reading { after: after.collect(), most: options.most, member: options.member };
        let keys = keys.iter().map(|key| Box::from(*key)).collect();
        block(call, keys, Want::Read(Arc::new(reading)), options.timeout);
    } else {
        call.reply.null_array();
    }
    Ok(())
}

impl Keyspace {
    /// Entries of a stream behind one; `None` when there are none.
    fn behind(&mut self, db: u8, key: &[u8], after: Id, most: usize) -> Result<Option<Value>, Fault> {
        let stream = self.peek(db, key)?.and_then(Entry::stream);
        let (Some(stream), Some(start)) = (stream, after.next()) else { return Ok(None) };
        let mut items = Vec::new();
        stream.range(start, Id::MAX, false, |item| {
            items.push(item_value(item));
            items.len() < most
        });
        Ok((!items.is_empty()).then_some(Value::Array(items)))
    }

    /// Gives a consumer what its group was not given yet; `None` when there is nothing.
    fn give(&mut self, db: u8, key: &[u8], member: &Member, most: usize) -> Result<Option<Value>, Fault> {
        let now = self.clock.wall;
        let (group_name, name) = (&*member.group, &*member.name);
        let given = self.edit(db, key, Kind::Stream, Missing::Skip, |edit| {
            let Some(stream) = edit.entry.stream() else { return Ok(None) };
            let Some(group) = stream.group(group_name) else { return Ok(None) };
            let (mut last, mut read) = (group.last, group.read);
            let (mut ids, mut items) = (Vec::new(), Vec::new());
            if let Some(start) = last.next() {
                stream.range(start, Id::MAX, false, |item| {
                    read = match read {
                        Some(read) if !stream.has_gaps(item.id) => Some(read + 1),
                        _ if stream.added() > 0 => stream.distance(item.id),
                        read => read,
                    };
                    last = item.id;
                    ids.push((item.id, now, 1));
                    items.push(item_value(item));
                    items.len() < most
                });
            }
            let is_there = group.consumer(name).is_some();
            if items.is_empty() && is_there {
                if let Some(stream) = edit.entry.stream_mut() {
                    stream.glimpse(group_name, name, now);
                }
                return Ok(None);
            }
            let active = (!items.is_empty()).then_some(now);
            edit.change_stream(&Change::Consumer { group: group_name, name, seen: now, active });
            if items.is_empty() {
                return Ok(None);
            }
            edit.change_stream(&Change::Group { group: group_name, last, read });
            if member.keeps {
                edit.change_stream(&Change::Give { group: group_name, name, items: ids });
            }
            Ok(Some(Value::Array(items)))
        })?;
        Ok(given.flatten())
    }

    /// What a consumer was given behind `after` and has not acknowledged.
    fn again(&mut self, db: u8, key: &[u8], member: &Member, after: Id, most: usize) -> Result<Option<Value>, Fault> {
        let now = self.clock.wall;
        let (group_name, name) = (&*member.group, &*member.name);
        self.edit(db, key, Kind::Stream, Missing::Skip, |edit| {
            let Some(stream) = edit.entry.stream() else { return Ok(Value::Array(Vec::new())) };
            let group = stream.group(group_name);
            let consumer = group.and_then(|group| group.consumer(name));
            let (mut given, mut items) = (Vec::new(), Vec::new());
            if let (Some(group), Some(consumer), Some(start)) = (group, consumer, after.next()) {
                for id in consumer.pending().range(start..).take(most) {
                    match stream.get(*id) {
                        Some(item) => {
                            let count = group.pending().get(id).map_or(0, |pending| pending.count);
                            given.push((*id, now, count.saturating_add(1)));
                            items.push(item_value(item));
                        }
                        None => items.push(Value::Array(vec![id_value(*id), Value::NullArray])),
                    }
                }
            }
            let active = consumer.map(|consumer| consumer.active);
            if active.is_none() || !given.is_empty() {
                let active = active.flatten();
                edit.change_stream(&Change::Consumer { group: group_name, name, seen: now, active });
            } else if let Some(stream) = edit.entry.stream_mut() {
                stream.glimpse(group_name, name, now);
            }
            if !given.is_empty() {
                edit.change_stream(&Change::Give { group: group_name, name, items: given });
            }
            Ok(Value::Array(items))
        })
    }

    /// What a waiting reader gets from a key that changed; `None` when it has to wait on.
    pub(in crate::kv) fn serve_reading(&mut self, db: u8, key: &[u8], reading: &Reading) -> Option<Value> {
        let value = match &reading.member {
            None => {
                let after = reading.after.iter().find(|(other, _)| **other == *key)?.1;
                match self.behind(db, key, after, reading.most) {
                    Ok(value) => value?,
                    Err(fault) => return Some(Value::Error(fault.bytes().into_owned())),
                }
            }
            Some(member) => {
                let entry = match self.peek(db, key) {
                    Ok(entry) => entry,
                    Err(fault) => return Some(Value::Error(fault.bytes().into_owned())),
                };
                if entry.is_some_and(|entry| entry.kind() != Kind::Stream) {
                    return Some(Value::Error(Fault::WrongType.bytes().into_owned()));
                }
                let stream = entry.and_then(Entry::stream);
                if stream.and_then(|stream| stream.group(&member.group)).is_none() {
                    return Some(Value::Error(no_group(key, &member.group).bytes().into_owned()));
                }
                match self.give(db, key, member, reading.most) {
                    Ok(value) => value?,
                    Err(fault) => return Some(Value::Error(fault.bytes().into_owned())),
                }
            }
        };
        Some(Value::Keyed(vec![(Value::Bulk(key.to_vec()), value)]))
    }
}
