//! `COMMAND`: what the server can do.

use super::{lower, unknown_subcommand, wrong_arguments};
use crate::kv::commands::{all, keys_of, lookup};
use crate::kv::{Command, Flags, Reply};
use crate::resp::connection::Connection;
use crate::resp::server::Server;

/// `COMMAND [subcommand …]`.
pub fn run(_server: &Server, connection: &mut Connection, arguments: &[&[u8]]) {
    let rest = arguments.get(1..).unwrap_or_default();
    let mut reply = connection.encoder();
    match (lower(arguments.first()).as_str(), rest) {
        ("", _) if arguments.is_empty() => {
            reply.array(all().count());
            all().for_each(|command| describe(command, &mut reply));
        }
        ("count", []) => reply.integer(all().count() as i64),
        ("list", []) => {
            reply.array(all().count());
            all().for_each(|command| reply.bulk(command.name.as_bytes()));
        }
        ("info", []) => {
            reply.array(all().count());
            all().for_each(|command| describe(command, &mut reply));
        }
        ("info", names) => {
            reply.array(names.len());
            for name in names {
                match lookup(name) {
                    Some(command) => describe(command, &mut reply),
                    None => reply.null(),
                }
            }
        }
        ("docs", []) => {
            reply.map(all().count());
            all().for_each(|command| document(command, &mut reply));
        }
        ("docs", names) => {
            let found: Vec<&Command> = names.iter().filter_map(|name| lookup(name)).collect();
            reply.map(found.len());
            for command in found {
                document(command, &mut reply);
            }
        }
        ("getkeys", [name, ..]) => match keys(name, rest) {
            Ok(keys) => {
                reply.array(keys.len());
                for key in keys {
                    reply.bulk(key);
                }
            }
            Err(text) => reply.error(text),
        },
        ("count" | "list" | "getkeys", _) => {
            wrong_arguments(connection, &format!("command|{}", lower(arguments.first())));
        }
        _ => unknown_subcommand(connection, "COMMAND", arguments.first()),
    }
}

/// The ten fields of `COMMAND INFO`; categories, tips, key specifications and subcommands are left empty.
fn describe(command: &Command, reply: &mut dyn Reply) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    let flags: Vec<&str> = command.flags.names().collect();
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    reply.integer(i64::from(command.first_key));
    reply.integer(i64::from(command.last_key));
    reply.integer(i64::from(command.step));
    reply.set(0);
    reply.array(0);
    reply.array(0);
    reply.array(0);
}

/// Name and fields for `COMMAND DOCS`: only what is certain, the arity.
fn document(command: &Command, reply: &mut dyn Reply) {
    reply.bulk(command.name.as_bytes());
    reply.map(1);
    reply.bulk(b"arity");
    reply.integer(i64::from(command.arity));
}

/// The keys among `request`, which starts with the command's name.
fn keys<'a>(name: &[u8], request: &[&'a [u8]]) -> Result<Vec<&'a [u8]>, &'static str> {
    let command = lookup(name).ok_or("ERR Invalid command specified")?;
    if !command.takes(request.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    let found = keys_of::keys(command, request);
    // A script may have none.
    let may_have_none = command.flags.contains(Flags::SCRIPT) && command.arity == -3;
    if found.is_empty() && !may_have_none { Err("ERR The command has no key arguments") } else { Ok(found) }
}
