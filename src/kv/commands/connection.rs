//! `PING`, `ECHO`, `SELECT`, `TIME`, and the door's own commands, which are only listed here.

use super::{Command, Flags, door, keyless};
use crate::kv::config::DATABASES;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::number;

const FAST: Flags = Flags::FAST;
const SESSION: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::FAST).and(Flags::NO_AUTH);

pub(super) const COMMANDS: &[Command] = &[
    keyless("ping", -1, FAST.and(Flags::SUBSCRIBED), ping),
    keyless("echo", 2, FAST, echo),
    keyless("select", 2, FAST.and(Flags::LOADING), select),
    keyless("time", 1, FAST.and(Flags::LOADING), time),
    door("hello", -1, SESSION),
    door("auth", -2, SESSION),
    door("quit", -1, SESSION.and(Flags::AT_ONCE).and(Flags::SUBSCRIBED)),
    door("reset", 1, SESSION.and(Flags::AT_ONCE).and(Flags::SUBSCRIBED)),
    Command { subcommands: CLIENT, ..door("client", -2, Flags::NOSCRIPT.and(Flags::LOADING)) },
    door("command", -1, Flags::LOADING),
    door("info", -1, Flags::LOADING),
    Command { subcommands: CONFIG, ..door("config", -2, Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING)) },
];

/// Named here, so that a transaction is refused when one is queued that does not exist.
const CLIENT: &[(&str, i32)] = &[
    ("client|getname", 2),
    ("client|getredir", 2),
    ("client|id", 2),
    ("client|info", 2),
    ("client|kill", -3),
    ("client|list", -2),
    ("client|no-evict", 3),
    ("client|no-touch", 3),
    ("client|pause", -3),
    ("client|reply", 3),
    ("client|setinfo", 4),
    ("client|setname", 3),
    ("client|tracking", -3),
    ("client|trackinginfo", 2),
    ("client|unblock", -3),
    ("client|unpause", 2),
];

/// As [`CLIENT`].
const CONFIG: &[(&str, i32)] =
    &[("config|get", -3), ("config|resetstat", 2), ("config|rewrite", 2), ("config|set", -4)];

fn ping(call: &mut Call<'_>) -> Result<(), Fault> {
    let text = call.args.get(1).copied();
    if call.args.len() > 2 {
        return Err(Fault::Arity("ping"));
    }
    if call.client.subscriptions() > 0 && !call.reply.resp3() {
        call.reply.array(2);
        call.reply.bulk(b"pong");
        call.reply.bulk(text.unwrap_or_default());
    } else if let Some(text) = text {
        call.reply.bulk(text);
    } else {
        call.reply.simple("PONG");
    }
    Ok(())
}

fn echo(call: &mut Call<'_>) -> Result<(), Fault> {
    call.reply.bulk(call.arg(1)?);
    Ok(())
}

fn select(call: &mut Call<'_>) -> Result<(), Fault> {
    call.client.db = database(call.arg(1)?, Fault::NotInteger)?;
    call.reply.simple("OK");
    Ok(())
}

/// A database number; `not_integer` when it is no 32-bit integer at all.
pub(super) fn database(text: &[u8], not_integer: Fault) -> Result<u8, Fault> {
    let number = number::integer(text).and_then(|number| i32::try_from(number).ok()).ok_or(not_integer)?;
    u8::try_from(number).ok().filter(|db| *db < DATABASES).ok_or(Fault::Text("ERR DB index is out of range"))
}

fn time(call: &mut Call<'_>) -> Result<(), Fault> {
    let now = call.keyspace.now();
    call.reply.array(2);
    call.reply.bulk(now.seconds().to_string().as_bytes());
    call.reply.bulk((now.millis() % 1000 * 1000).to_string().as_bytes());
    Ok(())
}
