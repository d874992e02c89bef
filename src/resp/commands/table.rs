//! `COMMAND`: what the server can do.

use super::{docs, key_specs, lower, unknown_subcommand, wrong_arguments};
use crate::kv::acl::categories;
use crate::kv::commands::{all, keys_of, lookup};
use crate::kv::{Command, Flags, Reply, glob};
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
        ("list", filter @ ([] | [_, _, _])) => match listed(filter) {
            Ok(names) => {
                reply.array(names.len());
                for name in names {
                    reply.bulk(name.as_bytes());
                }
            }
            Err(text) => reply.error(text),
        },
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
            all().for_each(|command| docs::write(command, &mut reply));
        }
        ("docs", names) => {
            let found: Vec<&Command> = names.iter().filter_map(|name| lookup(name)).collect();
            reply.map(found.len());
            for command in found {
                docs::write(command, &mut reply);
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
        ("getkeysandflags", [name, ..]) => match keys(name, rest) {
            Ok(keys) => {
                let command = lookup(name);
                reply.array(keys.len());
                for (nth, key) in keys.into_iter().enumerate() {
                    reply.array(2);
                    reply.bulk(key);
                    let flags = command.map_or(&[][..], |command| key_specs::access(command, nth));
                    key_specs::write_flags(flags, &mut reply);
                }
            }
            Err(text) => reply.error(text),
        },
        ("count" | "list" | "getkeys" | "getkeysandflags", _) => {
            wrong_arguments(connection, &format!("command|{}", lower(arguments.first())));
        }
        _ => unknown_subcommand(connection, "COMMAND", arguments.first()),
    }
}

/// The names of `COMMAND LIST`, subcommands among them, as far as a `FILTERBY` lets them through.
fn listed(filter: &[&[u8]]) -> Result<Vec<&'static str>, &'static str> {
    let parts = |command: &'static Command| command.subcommands.iter().map(|(name, _)| *name);
    let whole = |command: &'static Command| std::iter::once(command.name).chain(parts(command));
    let [by, kind, value] = filter else { return Ok(all().flat_map(whole).collect()) };
    if !by.eq_ignore_ascii_case(b"filterby") {
        return Err("ERR syntax error");
    }
    match lower(Some(kind)).as_str() {
        "module" => Ok(Vec::new()),
        "pattern" => {
            let pattern = value.to_ascii_lowercase();
            Ok(all().flat_map(whole).filter(|name| glob::matches(&pattern, name.as_bytes())).collect())
        }
        "aclcat" => {
            let Some(category) = categories::find(&lower(Some(value))) else { return Ok(Vec::new()) };
            let part = |name: &str| name.split_once('|').map(|(_, part)| part.to_owned());
            let fits = |command: &'static Command| {
                let names = std::iter::once(command.name).filter(|_| command.subcommands.is_empty());
                names
                    .chain(parts(command))
                    .filter(move |name| categories::has(category, command, part(name).as_deref()))
            };
            Ok(all().flat_map(fits).collect())
        }
        _ => Err("ERR syntax error"),
    }
}

/// The ten fields of `COMMAND INFO`; tips are left empty.
fn describe(command: &Command, reply: &mut dyn Reply) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    describe_part(command, None, reply);
    reply.array(command.subcommands.len());
    for (name, arity) in command.subcommands {
        reply.array(10);
        reply.bulk(name.as_bytes());
        reply.integer(i64::from(*arity));
        describe_part(command, name.split_once('|').map(|(_, part)| part), reply);
        reply.array(0);
    }
}

/// Flags, keys and categories of a command, or of a subcommand.
fn describe_part(command: &Command, part: Option<&str>, reply: &mut dyn Reply) {
    let flags: Vec<&str> = command.flags.names().collect();
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    reply.integer(i64::from(command.first_key));
    reply.integer(i64::from(command.last_key));
    reply.integer(i64::from(command.step));
    let held: Vec<&str> = categories::names().filter(|name| categories::has(name, command, part)).collect();
    reply.set(held.len());
    for name in held {
        reply.simple(&format!("@{name}"));
    }
    reply.array(0);
    key_specs::write(command, reply);
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
