//! `DUMP` and `RESTORE`: values as Redis writes them, to move them between servers.

use super::{Command, GROW, READ, keyed};
use crate::kv::clock;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;
use crate::kv::rdb;
use crate::kv::value::Limits;

pub(super) const COMMANDS: &[Command] = &[keyed("dump", 2, READ, 1, dump), keyed("restore", -4, GROW, 1, restore)];

fn dump(call: &mut Call<'_>) -> Result<(), Fault> {
    match call.keyspace.peek(call.client.db, call.args[1])? {
        Some(entry) => call.reply.bulk(&rdb::wrap(rdb::write(entry))),
        None => call.reply.null(),
    }
    Ok(())
}

/// The options of `RESTORE`.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    replace: bool,
    absolute: bool,
    idle: Option<u64>,
    frequency: Option<i64>,
}

fn options(call: &Call<'_>) -> Result<Options, Fault> {
    let mut options = Options::default();
    let mut rest = call.rest(4);
    while let [option, after @ ..] = rest {
        rest = match (option.to_ascii_uppercase().as_slice(), after) {
            (b"REPLACE", _) => {
                options.replace = true;
                after
            }
            (b"ABSTTL", _) => {
                options.absolute = true;
                after
            }
            (b"IDLETIME", [idle, after @ ..]) if options.frequency.is_none() => {
                let idle = number::integer(idle).ok_or(Fault::NotInteger)?;
                let idle = u64::try_from(idle);
                options.idle = Some(idle.map_err(|_negative| Fault::Text("ERR Invalid IDLETIME value, must be >= 0"))?);
                after
            }
            (b"FREQ", [frequency, after @ ..]) if options.idle.is_none() => {
                let frequency = number::integer(frequency).ok_or(Fault::NotInteger)?;
                if !(0..=255).contains(&frequency) {
                    return Err(Fault::Text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                }
                options.frequency = Some(frequency);
                after
            }
            _ => return Err(Fault::Syntax),
        };
    }
    Ok(options)
}

fn restore(call: &mut Call<'_>) -> Result<(), Fault> {
    let options = options(call)?;
    let (keyspace, db, key) = (&mut *call.keyspace, call.client.db, call.args[1]);
    if !options.replace && keyspace.find(db, key).is_some() {
        return Err(Fault::Text("BUSYKEY Target key name already exists."));
    }
    let lifetime = number::integer(call.args[2]).ok_or(Fault::NotInteger)?;
    let lifetime = u64::try_from(lifetime).map_err(|_negative| Fault::Text("ERR Invalid TTL value, must be >= 0"))?;
    let told = |error: rdb::RdbError| Fault::Told(format!("ERR {error}"));
    let value = rdb::unwrap(call.args[3]).map_err(told)?;
    let seconds = keyspace.clock.monotonic.as_secs();
    let access = match options.idle {
        Some(idle) if !keyspace.policy(db).counts_uses() => clock::stamp(seconds.saturating_sub(idle)),
        _ => keyspace.clock.second(),
    };
    let frame = rdb::Frame {
        key,
        access,
        limits: Limits::of(&keyspace.config),
        hashing: &keyspace.hashing,
        most: keyspace.config.max_value.as_usize(),
    };
    let mut entry = rdb::read(value, frame).map_err(told)?;
    let base = if options.absolute { 0 } else { keyspace.clock.wall };
    let expires = (lifetime > 0).then(|| base.saturating_add(lifetime));
    if expires.is_some_and(|at| at <= keyspace.clock.wall) {
        keyspace.delete(db, key);
    } else {
        entry.set_expires(expires);
        keyspace.store_entry(db, entry);
    }
    call.reply.simple("OK");
    Ok(())
}
