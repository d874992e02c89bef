//! `SUBSCRIBE`, `PUBLISH` and their kin.

use super::{Command, Flags, keyless};
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
    keyless("subscribe", -2, LISTEN, |call| subscribe(call, Topic::Channel)),
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

fn subscribe(call: &mut Call<'_>, topic: Topic) -> Result<(), Fault> {
    let names = call.rest(1);
    if call.client.subscriptions() + names.len() > call.keyspace.config.subscriptions as usize {
        return Err(Fault::Text("ERR too many subscriptions (kv.subscriptions)"));
    }
    for name in names {
        call.keyspace.channels.add(topic, name, call.client.id);
        let own = if topic == Topic::Channel { &mut call.client.channels } else { &mut call.client.patterns };
        own.insert(Box::from(*name));
        let kind: &[u8] = if topic == Topic::Channel { b"subscribe" } else { b"psubscribe" };
        confirm(call, kind, Some(name));
    }
    Ok(())
}

fn unsubscribe(call: &mut Call<'_>, topic: Topic) -> Result<(), Fault> {
    let kind: &[u8] = if topic == Topic::Channel { b"unsubscribe" } else { b"punsubscribe" };
    let own = if topic == Topic::Channel { &call.client.channels } else { &call.client.patterns };
    let names: Vec<Box<[u8]>> = match call.rest(1) {
        [] => own.iter().cloned().collect(),
        named => named.iter().map(|name| Box::from(*name)).collect(),
    };
    if names.is_empty() {
        confirm(call, kind, None);
    }
    for name in names {
        let own = if topic == Topic::Channel { &mut call.client.channels } else { &mut call.client.patterns };
        if own.remove(&name) {
            call.keyspace.channels.remove(topic, &name, call.client.id);
        }
        confirm(call, kind, Some(&name));
    }
    Ok(())
}

/// Confirms one change: what, which, and how many subscriptions that makes.
fn confirm(call: &mut Call<'_>, kind: &[u8], name: Option<&[u8]>) {
    call.reply.push(3);
    call.reply.bulk(kind);
    match name {
        Some(name) => call.reply.bulk(name),
        None => call.reply.null(),
    }
    call.reply.integer(call.client.subscriptions() as i64);
}

fn publish(call: &mut Call<'_>) -> Result<(), Fault> {
    let listeners = call.keyspace.publish(call.args[1], call.args[2]);
    call.reply.integer(listeners as i64);
    Ok(())
}

fn pubsub(call: &mut Call<'_>) -> Result<(), Fault> {
    let channels = &call.keyspace.channels;
    match (call.args[1].to_ascii_lowercase().as_slice(), call.rest(2)) {
        (b"channels", []) => {
            let names: Vec<&[u8]> = channels.names().collect();
            call.reply.array(names.len());
            for name in &names {
                call.reply.bulk(name);
            }
        }
        (b"channels", [pattern]) => {
            let names: Vec<&[u8]> = channels.names().filter(|name| glob::matches(pattern, name)).collect();
            call.reply.array(names.len());
            for name in &names {
                call.reply.bulk(name);
            }
        }
        (b"numsub", names) => {
            call.reply.array(2 * names.len());
            for name in names {
                call.reply.bulk(name);
                call.reply.integer(channels.listeners(name) as i64);
            }
        }
        (b"numpat", []) => call.reply.integer(channels.patterns() as i64),
        // Sharded channels are for clusters; there are none.
        (b"shardchannels", [] | [_]) => call.reply.array(0),
        (b"shardnumsub", names) => {
            call.reply.array(2 * names.len());
            for name in names {
                call.reply.bulk(name);
                call.reply.integer(0);
            }
        }
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
            ],
        ),
        _ => return Err(super::unknown_subcommand(call.args[1], "PUBSUB")),
    }
    Ok(())
}
