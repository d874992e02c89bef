//! Strings: `GET`, `SET` and their kin.

use super::expiry::{Unit, expiry_time};
use super::{Command, FREE_FAST, GROW, GROW_FAST, READ, READ_FAST, keyed};
use crate::kv::dump;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Missing;
use crate::kv::number;
use crate::kv::value::Kind;

pub(super) const COMMANDS: &[Command] = &[
    keyed("append", 3, GROW_FAST, 1, append),
    keyed("decr", 2, GROW_FAST, 1, |call| add(call, -1)),
    keyed("decrby", 3, GROW_FAST, 1, decrby),
    keyed("get", 2, READ_FAST, 1, get),
    keyed("getdel", 2, FREE_FAST, 1, getdel),
    keyed("getex", -2, FREE_FAST, 1, getex),
    keyed("getrange", 4, READ, 1, getrange),
    keyed("getset", 3, GROW_FAST, 1, getset),
    keyed("incr", 2, GROW_FAST, 1, |call| add(call, 1)),
    keyed("incrby", 3, GROW_FAST, 1, |call| call.integer(2).and_then(|by| add(call, by))),
    keyed("incrbyfloat", 3, GROW_FAST, 1, incrbyfloat),
    keyed("mget", -2, READ_FAST, -1, mget),
    Command { step: 2, ..keyed("mset", -3, GROW, -1, mset) },
    Command { step: 2, ..keyed("msetnx", -3, GROW, -1, msetnx) },
    keyed("psetex", 4, GROW, 1, |call| setex(call, Unit::Millis, "psetex")),
    keyed("set", -3, GROW, 1, set),
    keyed("setex", 4, GROW, 1, |call| setex(call, Unit::Seconds, "setex")),
    keyed("setnx", 3, GROW_FAST, 1, setnx),
    keyed("setrange", 4, GROW, 1, setrange),
    keyed("strlen", 2, READ_FAST, 1, strlen),
    keyed("substr", 4, READ, 1, getrange),
];

/// Answers the string at `key`, or null.
fn answer_string(call: &mut Call<'_>, key: &[u8]) -> Result<bool, Fault> {
    let found = call.keyspace.read_kind(call.client.db, key, Kind::String)?;
    match found {
        Some(entry) => call.reply.bulk(&entry.text()),
        None => call.reply.null(),
    }
    Ok(found.is_some())
}

/// Puts a string under a key, in place of whatever it holds, and records it.
pub(super) fn store(call: &mut Call<'_>, key: &[u8], value: &[u8], expires: Option<u64>) {
    let (keyspace, db) = (&mut *call.keyspace, call.client.db);
    let mut entry = dump::string(key, value, keyspace.clock.second());
    entry.set_expires(expires);
    let store = keyspace.store(db);
    keyspace.effects.set(store, key, expires, value);
    keyspace.put(db, entry);
}

fn get(call: &mut Call<'_>) -> Result<(), Fault> {
    answer_string(call, call.args[1])?;
    Ok(())
}

fn getdel(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    if answer_string(call, key)? {
        call.keyspace.delete(call.client.db, key);
    }
    Ok(())
}

fn getset(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    answer_string(call, key)?;
    store(call, key, call.args[2], None);
    Ok(())
}

fn strlen(call: &mut Call<'_>) -> Result<(), Fault> {
    let len =
        call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)?.map_or(0, |entry| entry.text().len());
    call.reply.integer(len as i64);
    Ok(())
}

fn mget(call: &mut Call<'_>) -> Result<(), Fault> {
    call.reply.array(call.args.len() - 1);
    for key in call.rest(1) {
        match call.keyspace.read_kind(call.client.db, key, Kind::String) {
            Ok(Some(entry)) => call.reply.bulk(&entry.text()),
            Ok(None) | Err(_) => call.reply.null(),
        }
    }
    Ok(())
}

/// What `SET` and `GETEX` do about the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    Unsaid,
    Keep,
    Never,
    Until(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Absent,
    Present,
}

/// Reads an option that sets the expiry (`EX 10`); `None` when it is another option. `at` moves past its value. What is
/// wrong with the value is told when all options are read.
fn lifetime_option(call: &Call<'_>, at: &mut usize, name: &'static str) -> Result<Option<Result<u64, Fault>>, Fault> {
    let option = call.arg(*at)?;
    let (unit, absolute) = match option.to_ascii_uppercase().as_slice() {
        b"EX" => (Unit::Seconds, false),
        b"PX" => (Unit::Millis, false),
        b"EXAT" => (Unit::Seconds, true),
        b"PXAT" => (Unit::Millis, true),
        _ => return Ok(None),
    };
    *at += 1;
    let number = number::integer(call.arg(*at)?).ok_or(Fault::NotInteger);
    let base = if absolute { 0 } else { call.keyspace.clock.wall };
    Ok(Some(number.and_then(|number| match number {
        1.. => expiry_time(number, unit, base, name),
        _ => Err(super::expiry::invalid(name)),
    })))
}

fn set(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, value) = (call.args[1], call.args[2]);
    let (mut lifetime, mut condition, mut answer_old) = (Lifetime::Unsaid, None, false);
    let mut moment = None;
    let mut at = 3;
    while at < call.args.len() {
        let option = call.args[at];
        if option.eq_ignore_ascii_case(b"NX") && condition != Some(Condition::Present) {
            condition = Some(Condition::Absent);
        } else if option.eq_ignore_ascii_case(b"XX") && condition != Some(Condition::Absent) {
            condition = Some(Condition::Present);
        } else if option.eq_ignore_ascii_case(b"GET") {
            answer_old = true;
        } else if option.eq_ignore_ascii_case(b"KEEPTTL") && matches!(lifetime, Lifetime::Unsaid | Lifetime::Keep) {
            lifetime = Lifetime::Keep;
        } else if lifetime == Lifetime::Unsaid {
            let given = lifetime_option(call, &mut at, "set")?.ok_or(Fault::Syntax)?;
            lifetime = Lifetime::Until(*given.as_ref().unwrap_or(&0));
            moment = Some(given);
        } else {
            return Err(Fault::Syntax);
        }
        at += 1;
    }
    moment.transpose()?;
    let old = call.keyspace.glance(call.client.db, key);
    let there = old.is_some();
    let kept = old.and_then(Entry::expires).filter(|_| lifetime == Lifetime::Keep);
    if answer_old {
        answer_string(call, key)?;
    }
    let fits = match condition {
        None => true,
        Some(Condition::Absent) => !there,
        Some(Condition::Present) => there,
    };
    if !fits {
        if !answer_old {
            call.reply.null();
        }
        return Ok(());
    }
    let expires = if let Lifetime::Until(at) = lifetime { Some(at) } else { kept };
    store(call, key, value, expires);
    if !answer_old {
        call.reply.simple("OK");
    }
    Ok(())
}

fn setex(call: &mut Call<'_>, unit: Unit, name: &'static str) -> Result<(), Fault> {
    let number = call.integer(2)?;
    if number <= 0 {
        return Err(super::expiry::invalid(name));
    }
    let expires = expiry_time(number, unit, call.keyspace.clock.wall, name)?;
    store(call, call.args[1], call.args[3], Some(expires));
    call.reply.simple("OK");
    Ok(())
}

fn setnx(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let there = call.keyspace.find(call.client.db, key).is_some();
    if !there {
        store(call, key, call.args[2], None);
    }
    call.reply.integer(i64::from(!there));
    Ok(())
}

fn mset(call: &mut Call<'_>) -> Result<(), Fault> {
    set_pairs(call, "mset")?;
    call.reply.simple("OK");
    Ok(())
}

fn msetnx(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.args.len().is_multiple_of(2) {
        return Err(Fault::Arity("msetnx"));
    }
    let db = call.client.db;
    let any = call.rest(1).chunks_exact(2).any(|pair| call.keyspace.find(db, pair[0]).is_some());
    if !any {
        set_pairs(call, "msetnx")?;
    }
    call.reply.integer(i64::from(!any));
    Ok(())
}

fn set_pairs(call: &mut Call<'_>, name: &'static str) -> Result<(), Fault> {
    if call.args.len().is_multiple_of(2) {
        return Err(Fault::Arity(name));
    }
    for pair in call.rest(1).chunks_exact(2) {
        store(call, pair[0], pair[1], None);
    }
    Ok(())
}

fn getex(call: &mut Call<'_>) -> Result<(), Fault> {
    let key = call.args[1];
    let (mut lifetime, mut moment) = (Lifetime::Unsaid, None);
    let mut at = 2;
    while at < call.args.len() {
        if lifetime != Lifetime::Unsaid {
            return Err(Fault::Syntax);
        }
        lifetime = if call.args[at].eq_ignore_ascii_case(b"PERSIST") {
            Lifetime::Never
        } else {
            let given = lifetime_option(call, &mut at, "getex")?.ok_or(Fault::Syntax)?;
            let until = Lifetime::Until(*given.as_ref().unwrap_or(&0));
            moment = Some(given);
            until
        };
        at += 1;
    }
    moment.transpose()?;
    if !answer_string(call, key)? {
        return Ok(());
    }
    let (keyspace, db) = (&mut *call.keyspace, call.client.db);
    let Some(place) = keyspace.find(db, key) else { return Ok(()) };
    let had = keyspace.database(db).entries.get(place).is_some_and(|entry| entry.expires().is_some());
    match lifetime {
        Lifetime::Until(at) if at <= keyspace.clock.wall => {
            keyspace.delete_at(db, place);
        }
        Lifetime::Until(at) => keyspace.set_expires(db, place, key, Some(at)),
        Lifetime::Never if had => keyspace.set_expires(db, place, key, None),
        _ => {}
    }
    Ok(())
}

fn decrby(call: &mut Call<'_>) -> Result<(), Fault> {
    let by = call.integer(2)?.checked_neg().ok_or(Fault::Text("ERR decrement would overflow"))?;
    add(call, by)
}

fn add(call: &mut Call<'_>, by: i64) -> Result<(), Fault> {
    let sum = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let old = match edit.entry.as_integer() {
            Some(value) => value,
            None if edit.entry.text().is_empty() && edit.fresh => 0,
            None => number::integer(&edit.entry.text()).ok_or(Fault::NotInteger)?,
        };
        let sum = old.checked_add(by).ok_or(Fault::Overflow)?;
        edit.entry.set_integer(sum);
        edit.effects.set(edit.store, edit.key, edit.entry.expires(), number::integer_text(sum).as_bytes());
        Ok(sum)
    })?;
    call.reply.integer(sum.unwrap_or_default());
    Ok(())
}

fn incrbyfloat(call: &mut Call<'_>) -> Result<(), Fault> {
    let by = call.arg(2)?;
    let sum = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let old = edit.entry.text();
        let old: &[u8] = if edit.fresh { b"0" } else { &old };
        if number::float(old).is_none() || number::float(by).is_none() {
            return Err(Fault::NotFloat);
        }
        let sum = number::add_decimal(old, by).ok_or(Fault::Text("ERR increment would produce NaN or Infinity"))?;
        edit.entry.set_string(&sum);
        edit.effects.set(edit.store, edit.key, edit.entry.expires(), &sum);
        Ok(sum)
    })?;
    call.reply.bulk(&sum.unwrap_or_default());
    Ok(())
}

fn append(call: &mut Call<'_>) -> Result<(), Fault> {
    let most = call.keyspace.config.max_value.as_usize();
    let bytes = call.arg(2)?;
    let len = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let len = edit.entry.text().len() + bytes.len();
        if len > most {
            return Err(Fault::TooLong);
        }
        edit.entry.append(bytes, most);
        edit.effects.append(edit.store, edit.key, bytes);
        Ok(len)
    })?;
    call.reply.integer(len.unwrap_or_default() as i64);
    Ok(())
}

fn setrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let offset = call.integer(2)?;
    let offset = u64::try_from(offset).map_err(|_negative| Fault::Text("ERR offset is out of range"))?;
    let bytes = call.arg(3)?;
    let most = call.keyspace.config.max_value.as_usize();
    let missing = if bytes.is_empty() { Missing::Skip } else { Missing::Create };
    let len = call.keyspace.edit(call.client.db, call.args[1], Kind::String, missing, |edit| {
        if bytes.is_empty() {
            return Ok(edit.entry.text().len());
        }
        if offset.saturating_add(bytes.len() as u64) > most as u64 {
            return Err(Fault::TooLong);
        }
        edit.entry.set_range(offset, bytes, most);
        edit.effects.set_range(edit.store, edit.key, offset, bytes);
        Ok(edit.entry.text().len())
    })?;
    call.reply.integer(len.unwrap_or_default() as i64);
    Ok(())
}

fn getrange(call: &mut Call<'_>) -> Result<(), Fault> {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    match call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)? {
        None => call.reply.bulk(b""),
        Some(_) if start < 0 && end < 0 && start > end => call.reply.bulk(b""),
        Some(entry) => {
            let text = entry.text();
            // Unlike in lists, an end before the first byte counts as the first.
            let end = if end < 0 { end.saturating_add(text.len() as i64).max(0) } else { end };
            call.reply.bulk(text.get(super::range(start, end, text.len())).unwrap_or_default());
        }
    }
    Ok(())
}
