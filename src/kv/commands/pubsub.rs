//! `SUBSCRIBE`, `PUBLISH` and their kin.

use std::collections::BTreeSet;

use super::{Command, Flags, keyed, keyless};
use crate::kv::client::Client;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::glob;
use crate::kv::pubsub::Topic;

const LISTEN: Flags = Flags::PUBSUB.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::SUBSCRIBED);

pub(super) const COMMANDS: &[Command] = &[
    keyless("psubscribe", -2, LISTEN, |call| subscribe(call, Topic::Pattern)),
    keyless("publish", 3, Flags::PUBSUB.and(Flags::LOADING).and(Flags::FAST), publish),
    Command { subcommands: PUBSUB, ..keyless("pubsub", -2, Flags::PUBSUB.and(Flags::LOADING), pubsub) },
    keyless("punsubscribe", -1, LISTEN, |call| unsubscribe(call, Topic::Pattern)),
    keyed("spublish", 3, Flags::PUBSUB.and(Flags::LOADING).and(Flags::FAST), 1, spublish),
    keyed("ssubscribe", -2, LISTEN, -1, |call| subscribe(call, Topic::Sharded)),
    keyless("subscribe", -2, LISTEN, |call| subscribe(call, Topic::Channel)),
    keyed("sunsubscribe", -1, LISTEN, -1, |call| unsubscribe(call, Topic::Sharded)),
    keyless("unsubscribe", -1, LISTEN, |call| unsubscribe(call, Topic::Channel)),
];

const PUBSUB: &[(&str, i32)] = &[
    ("pubsub|channels", -2),
    ("pubsub|help", 2),
    ("pubsub|numpat", 2),
    ("pubsub|numsub", -2),
    ("pubsub|shardchannels", -2),
    ("pubsub|shardnumsub", -2),
];

/// The subscriptions of a client to one kind of topic.
const fn own(client: &mut Client, topic: Topic) -> &mut BTreeSet<Box<[u8]>> {
    match topic {
        Topic::Channel => &mut client.channels,
        Topic::Pattern => &mut client.patterns,
        Topic::Sharded => &mut client.sharded,
    }
}

fn subscribe(call: &mut Call<'_>, topic: Topic) -> Result<(), Fault> {
    let names = call.rest(1);
    if call.client.subscriptions() + names.len() > call.keyspace.config.subscriptions as usize {
        return Err(Fault::Text("ERR too many subscriptions (kv.subscriptions)"));
    }
    for name in names {
        call.keyspace.channels.add(topic, name, call.client.id);
        own(call.client, topic).insert(Box::from(*name));
        let kind: &[u8] = match topic {
            Topic::Channel => b"subscribe",
            Topic::Pattern => b"psubscribe",
            Topic::Sharded => b"ssubscribe",
        };
        confirm(call, topic, kind, Some(name));
    }
    Ok(())
}

fn unsubscribe(call: &mut Call<'_>, topic: Topic) -> Result<(), Fault> {
    let kind: &[u8] = match topic {
        Topic::Channel => b"unsubscribe",
        Topic::Pattern => b"punsubscribe",
        Topic::Sharded => b"sunsubscribe",
    };
    let names: Vec<Box<[u8]>> = match call.rest(1) {
        [] => own(call.client, topic).iter().cloned().collect(),
        named => named.iter().map(|name| Box::from(*name)).collect(),
    };
    if names.is_empty() {
        confirm(call, topic, kind, None);
    }
    for name in names {
        if own(call.client, topic).remove(&name) {
            call.keyspace.channels.remove(topic, &name, call.client.id);
        }
        confirm(call, topic, kind, Some(&name));
    }
    Ok(())
}

/// Confirms one change: what, which, and how many subscriptions that makes; sharded ones are counted apart.
fn confirm(call: &mut Call<'_>, topic: Topic, kind: &[u8], name: Option<&[u8]>) {
    call.reply.push(3);
    call.reply.bulk(kind);
    match name {
        Some(name) => call.reply.bulk(name),
        None => call.reply.null(),
    }
    let sharded = call.client.sharded_channels();
    let count = if topic == Topic::Sharded { sharded } else { call.client.subscriptions() - sharded };
    call.reply.integer(count as i64);
}

fn publish(call: &mut Call<'_>) -> Result<(), Fault> {
    let listeners = call.keyspace.publish(call.args[1], call.args[2]);
    call.reply.integer(listeners as i64);
    Ok(())
}

fn spublish(call: &mut Call<'_>) -> Result<(), Fault> {
    let listeners = call.keyspace.publish_sharded(call.args[1], call.args[2]);
    call.reply.integer(listeners as i64);
    Ok(())
}

/// `PUBSUB CHANNELS`, `SHARDCHANNELS`: the channels somebody is subscribed to.
fn names(call: &mut Call<'_>, topic: Topic, pattern: Option<&[u8]>) {
    let fits = |name: &&[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name));
    let names: Vec<&[u8]> = call.keyspace.channels.names(topic).filter(fits).collect();
    call.reply.array(names.len());
    for name in &names {
        call.reply.bulk(name);
    }
}

/// `PUBSUB NUMSUB`, `SHARDNUMSUB`: how many are subscribed to each.
fn counts(call: &mut Call<'_>, topic: Topic, names: &[&[u8]]) {
    call.reply.array(2 * names.len());
    for name in names {
        call.reply.bulk(name);
        call.reply.integer(call.keyspace.channels.listeners(topic, name) as i64);
    }
}

fn pubsub(call: &mut Call<'_>) -> Result<(), Fault> {
    match (call.args[1].to_ascii_lowercase().as_slice(), call.rest(2)) {
        (b"channels", pattern @ ([] | [_])) => names(call, Topic::Channel, pattern.first().copied()),
        (b"numsub", names) => counts(call, Topic::Channel, names),
        (b"numpat", []) => call.reply.integer(call.keyspace.channels.patterns() as i64),
        (b"shardchannels", pattern @ ([] | [_])) => names(call, Topic::Sharded, pattern.first().copied()),
        (b"shardnumsub", names) => counts(call, Topic::Sharded, names),
        (b"help", []) => super::answer_help(
            call.reply,
            &[
                "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "CHANNELS [<pattern>]",
                "    Return the currently active channels matching a <pattern> (default: '*').",
                "NUMPAT",
                "    Return number of subscriptions to patterns.",
                "NUMSUB [<channel> ...]",
                "    Return the number of subscribers for the specified channels, excluding",
                "    pattern subscriptions(default: no channels).",
                "SHARDCHANNELS [<pattern>]",
                "    The same as CHANNELS, of sharded channels.",
                "SHARDNUMSUB [<channel> ...]",
                "    The same as NUMSUB, of sharded channels.",
            ],
        ),
        _ => return Err(super::unknown_subcommand(call.args[1], "PUBSUB")),
    }
    Ok(())
}
