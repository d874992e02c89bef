//! Pops that wait: `BLPOP`, `BRPOP`, `BLMOVE`, `BRPOPLPUSH`, `BZPOPMIN`, `BZPOPMAX`; and serving those who wait.

use std::time::Duration;

use super::{Command, Flags, GROW, keyed};
use crate::kv::deliver::{Delivery, Message};
use crate::kv::effect::End;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::{Call, Flow};
use crate::kv::keyspace::Keyspace;
use crate::kv::number;
use crate::kv::reply::Value;
use crate::kv::value::Kind;
use crate::kv::wait::{Wait, Want};

const WAIT: Flags = Flags::WRITE.and(Flags::BLOCKING);
const WAIT_FAST: Flags = WAIT.and(Flags::FAST);
const WAIT_GROW: Flags = GROW.and(Flags::BLOCKING);

pub(super) const WAIT_MANY: Flags = Flags::WRITE.and(Flags::BLOCKING).and(Flags::MOVABLE_KEYS);

pub(super) const COMMANDS: &[Command] = &[
    keyed("blmove", 6, WAIT_GROW, 2, blmove),
    keyed("blpop", -3, WAIT, -2, |call| pop(call, &Want::Pop(End::Head))),
    keyed("brpop", -3, WAIT, -2, |call| pop(call, &Want::Pop(End::Tail))),
    keyed("brpoplpush", 4, WAIT_GROW, 2, brpoplpush),
    keyed("bzpopmax", -3, WAIT_FAST, -2, |call| pop(call, &Want::ZPop(End::Tail))),
    keyed("bzpopmin", -3, WAIT_FAST, -2, |call| pop(call, &Want::ZPop(End::Head))),
];

/// Reads a timeout in seconds, fractions allowed; zero waits for ever.
pub(super) fn timeout(text: &[u8]) -> Result<Option<Duration>, Fault> {
    let seconds = number::float(text)
        .filter(|seconds| seconds.is_finite())
        .ok_or(Fault::Text("ERR timeout is not a float or out of range"))?;
    if seconds * 1000.0 > i64::MAX as f64 {
        return Err(Fault::Text("ERR timeout is out of range"));
    }
    if seconds < 0.0 {
        return Err(Fault::Text("ERR timeout is negative"));
    }
    // Rounded up to a millisecond, so that a tiny timeout is not for ever.
    Ok((seconds > 0.0).then(|| Duration::from_millis((seconds * 1000.0).ceil() as u64)))
}

/// Blocks the client of a call.
pub(super) fn block(call: &mut Call<'_>, keys: Vec<Box<[u8]>>, want: Want, timeout: Option<Duration>) {
    let deadline = timeout.and_then(|timeout| call.keyspace.clock.monotonic.checked_add(timeout));
    call.keyspace.waits.add(call.client.id, Wait { db: call.client.db, keys, want, deadline });
    call.flow = Flow::Blocked;
}

fn pop(call: &mut Call<'_>, want: &Want) -> Result<(), Fault> {
    let (keys, last) = call.args.split_at(call.args.len() - 1);
    let keys = keys.get(1..).unwrap_or_default();
    let timeout = timeout(last[0])?;
    let kind = if matches!(want, Want::ZPop(_)) { Kind::ZSet } else { Kind::List };
    for key in keys {
        if call.keyspace.peek_kind(call.client.db, key, kind)?.is_some()
            && let Some(value) = call.keyspace.serve(call.client.db, key, want)
        {
            value.write(call.reply);
            return Ok(());
        }
    }
    if call.may_block {
        block(call, keys.iter().map(|key| Box::from(*key)).collect(), want.clone(), timeout);
    } else {
        call.reply.null_array();
    }
    Ok(())
}

fn blmove(call: &mut Call<'_>) -> Result<(), Fault> {
    let (from, to) = (super::lists::side(call.args[3])?, super::lists::side(call.args[4])?);
    wait_move(call, from, to, 5)
}

fn brpoplpush(call: &mut Call<'_>) -> Result<(), Fault> {
    wait_move(call, End::Tail, End::Head, 3)
}

fn wait_move(call: &mut Call<'_>, from: End, to: End, timeout_at: usize) -> Result<(), Fault> {
    let timeout = timeout(call.arg(timeout_at)?)?;
    let (source, target) = (call.args[1], call.args[2]);
    match call.keyspace.move_element(call.client.db, source, from, target, to)? {
        Some(item) => call.reply.bulk(&item),
        None if call.may_block => {
            block(call, vec![source.into()], Want::Move { from, to, target: target.into() }, timeout);
        }
        None => call.reply.null(),
    }
    Ok(())
}

impl Keyspace {
    /// Gives one client what it wants from `key`; `None` when the key has nothing for it.
    pub(super) fn serve(&mut self, db: u8, key: &[u8], want: &Want) -> Option<Value> {
        if let Want::Read(reading) = want {
            return self.serve_reading(db, key, reading);
        }
        let kind = self.glance(db, key).map(Entry::kind)?;
        match (want, kind) {
            (Want::Pop(end), Kind::List) => {
                let item = self.pop_list(db, key, *end, 1).ok()??.pop()?;
                Some(Value::Array(vec![Value::Bulk(key.to_vec()), Value::Bulk(item)]))
            }
            (Want::ZPop(end), Kind::ZSet) => {
                let (member, score) = self.pop_zset(db, key, *end, 1).ok()??.pop()?;
                Some(Value::Array(vec![Value::Bulk(key.to_vec()), Value::Bulk(member), Value::Double(score)]))
            }
            (Want::Pops(end, most), Kind::List) => {
                let items = self.pop_list(db, key, *end, *most).ok()??;
                let items = items.into_iter().map(Value::Bulk).collect();
                Some(Value::Array(vec![Value::Bulk(key.to_vec()), Value::Array(items)]))
            }
            (Want::ZPops(end, most), Kind::ZSet) => {
                let members = self.pop_zset(db, key, *end, *most).ok()??;
                let pair = |(member, score)| Value::Array(vec![Value::Bulk(member), Value::Double(score)]);
                Some(Value::Array(vec![
                    Value::Bulk(key.to_vec()),
                    Value::Array(members.into_iter().map(pair).collect()),
                ]))
            }
            (Want::Move { from, to, target }, Kind::List) => match self.move_element(db, key, *from, target, *to) {
                Ok(item) => item.map(Value::Bulk),
                Err(fault) => Some(Value::Error(fault.bytes().into_owned())),
            },
            _ => None,
        }
    }

    /// Serves clients that wait for keys which came to life, the longest waiting first.
    pub(in crate::kv) fn serve_waits(&mut self) {
        self.announce("", &[]);
        while let Some(key) = self.waits.next_ready() {
            let mut nth = 0;
            while let Some(client) = self.waits.nth(&key, nth) {
                let Some(want) = self.waits.get(client).map(|wait| wait.want.clone()) else { break };
                let served = self.serve(key.0, &key.1, &want);
                self.announce(want.command(), &[]);
                match served {
                    Some(value) => {
                        self.waits.remove(client);
                        self.deliveries.push(Delivery { client, message: Message::Served(value) });
                    }
                    None => nth += 1,
                }
            }
        }
    }
}
