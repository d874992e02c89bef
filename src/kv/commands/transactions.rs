//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.

use super::{Command, Flags, keyed, keyless};
use crate::kv::client::Queue;
use crate::kv::error::Fault;
use crate::kv::execute::Call;

const CONTROL: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::FAST).and(Flags::AT_ONCE);

pub(super) const COMMANDS: &[Command] = &[
    keyless("discard", 1, CONTROL, discard),
    keyless("exec", 1, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::AT_ONCE).and(Flags::SCRIPT), exec),
    keyless("multi", 1, CONTROL, multi),
    keyless("unwatch", 1, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::FAST), unwatch),
    keyed("watch", -2, CONTROL, -1, watch),
];

fn multi(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.client.queue.is_some() {
        return Err(Fault::Text("ERR MULTI calls can not be nested"));
    }
    call.client.queue = Some(Queue::default());
    call.reply.simple("OK");
    Ok(())
}

fn exec(call: &mut Call<'_>) -> Result<(), Fault> {
    call.flow = call.keyspace.exec(call.client, call.reply, call.host)?;
    Ok(())
}

fn discard(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.client.queue.take().is_none() {
        return Err(Fault::Text("ERR DISCARD without MULTI"));
    }
    call.keyspace.unwatch(call.client);
    call.reply.simple("OK");
    Ok(())
}

fn watch(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.client.queue.is_some() {
        return Err(Fault::Text("ERR WATCH inside MULTI is not allowed"));
    }
    if call.client.watched.len() + call.args.len() - 1 > call.keyspace.config.watched_keys as usize {
        return Err(Fault::Text("ERR too many watched keys (kv.watched_keys)"));
    }
    for key in call.rest(1) {
        call.keyspace.watch(call.client, key);
    }
    call.reply.simple("OK");
    Ok(())
}

fn unwatch(call: &mut Call<'_>) -> Result<(), Fault> {
    call.keyspace.unwatch(call.client);
    call.reply.simple("OK");
    Ok(())
}
