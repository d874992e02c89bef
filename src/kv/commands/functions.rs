//! `FUNCTION`, `FCALL` and `FCALL_RO`.

use super::scripting::{Access, Program, key_count, run};
use super::{Command, Fault, Flags, answer_help, keyless, unknown_subcommand};
use crate::kv::execute::Call;
use crate::kv::functions::{Registration, Restore, Room};
use crate::kv::glob;
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::rdb;
use crate::kv::script::Name;

const CALLS: Flags = Flags::NOSCRIPT.and(Flags::MOVABLE_KEYS).and(Flags::SCRIPT);

pub(super) const COMMANDS: &[Command] = &[
    keyless("fcall", -3, CALLS, |call| fcall(call, Access::Write)),
    keyless("fcall_ro", -3, CALLS.and(Flags::READONLY), |call| fcall(call, Access::Read)),
    Command { subcommands: SUBCOMMANDS, ..keyless("function", -2, Flags::NOSCRIPT, function) },
];

const SUBCOMMANDS: &[(&str, i32)] = &[
    ("function|delete", 3),
    ("function|dump", 2),
    ("function|flush", -2),
    ("function|help", 2),
    ("function|kill", 2),
    ("function|list", -2),
    ("function|load", -3),
    ("function|restore", -3),
    ("function|stats", 2),
];

/// What stands before a library in a dump.
const LIBRARY: u8 = 0xf5;

fn fcall(call: &mut Call<'_>, access: Access) -> Result<(), Fault> {
    let (room, name) = (room(call.keyspace), call.arg(1)?);
    call.keyspace.functions.load(&room).map_err(Fault::Quoting)?;
    let found = call.keyspace.functions.find(name).ok_or(Fault::Text("ERR Function not found"))?;
    let count = key_count(call.args).map_err(|fault| match fault {
        Fault::NotInteger => Fault::Text("ERR Bad number of keys provided"),
        other => other,
    })?;
    let Some(mut engine) = call.keyspace.functions.take_engine() else {
        return Err(Fault::Text("ERR functions cannot be called by a function"));
    };
    let program = Program { slot: found.slot, declared: found.declared, name: Name::Function(&found.name) };
    call.host.begin(Some((&found.name, call.args)));
    let outcome = run(call, &mut engine, access, &program, count);
    call.keyspace.functions.put_engine(engine);
    outcome
}

fn room(keyspace: &Keyspace) -> Room {
    let config = keyspace.config();
    Room {
        count: config.libraries as usize,
        bytes: config.library_bytes.as_usize(),
        memory: config.script_memory.as_usize(),
        random: std::sync::Arc::clone(&keyspace.random),
    }
}

fn function(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = call.arg(1)?;
    let rest = call.rest(2);
    match (name.to_ascii_lowercase().as_slice(), rest) {
        (b"load", [option, code]) if option.eq_ignore_ascii_case(b"replace") => load(call, code, true),
        (b"load", [code]) => load(call, code, false),
        (b"load", [option, ..]) => Err(Fault::quoting(&[b"ERR Unknown option given: ", option])),
        (b"delete", [library]) => delete(call, library),
        (b"list", options) => list(call, options),
        (b"stats", []) => stats(call),
        (b"dump", []) => dump(call),
        (b"restore", [payload]) => restore(call, payload, Restore::Append),
        (b"restore", [payload, how]) => {
            let how = match how.to_ascii_lowercase().as_slice() {
                b"append" => Restore::Append,
                b"replace" => Restore::Replace,
                b"flush" => Restore::Flush,
                _ => {
                    return Err(Fault::Text(
                        "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
                    ));
                }
            };
            restore(call, payload, how)
        }
        (b"flush", []) => flush(call),
        (b"flush", [mode]) if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => flush(call),
        (b"flush", _) => Err(Fault::Text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
        // While one runs, the door answers this.
        (b"kill", []) => Err(Fault::Text("NOTBUSY No scripts in execution right now.")),
        (b"help", _) => {
            answer_help(call.reply, HELP);
            Ok(())
        }
        (b"restore", _) => Err(Fault::Arity("function|restore")),
        _ => Err(unknown_subcommand(name, "FUNCTION")),
    }
}

const HELP: &[&str] = &[
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DELETE <library>",
    "    Removes a library and its functions.",
    "DUMP",
    "    Returns all libraries in one payload, for RESTORE here or in Redis.",
    "FLUSH [ASYNC|SYNC]",
    "    Removes all libraries.",
    "KILL",
    "    Ends the function that runs, unless it has changed something.",
    "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
    "    Tells of libraries, their functions, and their code when asked for.",
    "LOAD [REPLACE] <code>",
    "    Loads a library; its first line is '#!lua name=<name>'.",
    "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
    "    Loads the libraries of a payload: all of them, or none.",
    "STATS",
    "    Tells which function runs, and how many there are.",
];

/// Whether libraries may change now.
fn may_change(call: &mut Call<'_>, grows: bool) -> Result<(), Fault> {
    if let Some(refusal) = call.host.refusal() {
        return Err(Fault::Told(refusal));
    }
    if grows { call.keyspace.make_room_for_more(Means::Evict) } else { Ok(()) }
}

fn load(call: &mut Call<'_>, code: &[u8], replace: bool) -> Result<(), Fault> {
    may_change(call, true)?;
    let room = room(call.keyspace);
    let keyspace = &mut *call.keyspace;
    let name = keyspace.functions.add(code, replace, &room).map_err(Fault::Quoting)?;
    keyspace.effects.library(name.as_bytes(), code);
    call.reply.bulk(name.as_bytes());
    Ok(())
}

fn delete(call: &mut Call<'_>, library: &[u8]) -> Result<(), Fault> {
    may_change(call, false)?;
    let keyspace = &mut *call.keyspace;
    if !std::str::from_utf8(library).is_ok_and(|library| keyspace.functions.drop_library(library)) {
        return Err(Fault::Text("ERR Library not found"));
    }
    keyspace.effects.library_delete(library);
    call.reply.simple("OK");
    Ok(())
}

fn flush(call: &mut Call<'_>) -> Result<(), Fault> {
    may_change(call, false)?;
    let keyspace = &mut *call.keyspace;
    keyspace.functions.clear();
    keyspace.effects.no_libraries();
    call.reply.simple("OK");
    Ok(())
}

fn list(call: &mut Call<'_>, options: &[&[u8]]) -> Result<(), Fault> {
    let (mut pattern, mut with_code) = (None, false);
    let mut rest = options;
    while let Some((option, after)) = rest.split_first() {
        rest = after;
        if !with_code && option.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && option.eq_ignore_ascii_case(b"libraryname") {
            let (given, after) = rest.split_first().ok_or(Fault::Text("ERR library name argument was not given"))?;
            pattern = Some(*given);
            rest = after;
        } else {
            return Err(Fault::quoting(&[b"ERR Unknown argument ", option]));
        }
    }
    let room = room(call.keyspace);
    call.keyspace.functions.load(&room).map_err(Fault::Quoting)?;
    let fits = |name: &str| {
        pattern.is_none_or(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.to_ascii_lowercase().as_bytes()))
    };
    let functions = &call.keyspace.functions;
    let found: Vec<(&str, &[u8])> = functions.libraries().filter(|(name, _)| fits(name)).collect();
    let reply = &mut *call.reply;
    reply.array(found.len());
    for (name, code) in found {
        reply.map(3 + usize::from(with_code));
        reply.bulk(b"library_name");
        reply.bulk(name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        let of = functions.of(name);
        reply.array(of.len());
        for function in of {
            describe(function, reply);
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(code);
        }
    }
    Ok(())
}

fn describe(function: &Registration, reply: &mut dyn crate::kv::Reply) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(function.name.as_bytes());
    reply.bulk(b"description");
    match &function.description {
        Some(description) => reply.bulk(description),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    reply.set(function.flags.len());
    function.flags.iter().for_each(|flag| reply.simple(flag));
}

fn stats(call: &mut Call<'_>) -> Result<(), Fault> {
    let room = room(call.keyspace);
    call.keyspace.functions.load(&room).map_err(Fault::Quoting)?;
    let counts = call.keyspace.function_info();
    let reply = &mut *call.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    // While one runs, the door answers this.
    reply.null();
    answer_engines(counts, reply);
    Ok(())
}

/// The second pair of `FUNCTION STATS`: libraries and functions.
pub fn answer_engines((libraries, functions, _): (usize, usize, usize), reply: &mut dyn crate::kv::Reply) {
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(libraries as i64);
    reply.bulk(b"functions_count");
    reply.integer(functions as i64);
}

fn dump(call: &mut Call<'_>) -> Result<(), Fault> {
    let mut payload = Vec::new();
    for (_, code) in call.keyspace.functions.libraries() {
        payload.push(LIBRARY);
        rdb::put_string(&mut payload, code);
    }
    rdb::seal(&mut payload);
    call.reply.bulk(&payload);
    Ok(())
}

fn restore(call: &mut Call<'_>, payload: &[u8], how: Restore) -> Result<(), Fault> {
    may_change(call, true)?;
    let room = room(call.keyspace);
    let mut rest = rdb::open(payload).ok_or(Fault::Text("ERR DUMP payload version or checksum are wrong"))?;
    let mut codes = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        if *kind != LIBRARY {
            return Err(Fault::Text("ERR given type is not a function"));
        }
        let code = rdb::take_string(&mut rest, room.bytes);
        codes.push(code.ok_or(Fault::Text("ERR failed loading functions data"))?);
    }
    let keyspace = &mut *call.keyspace;
    let names = keyspace.functions.restore(&codes, how, &room).map_err(Fault::Quoting)?;
    if how == Restore::Flush {
        keyspace.effects.no_libraries();
    }
    for name in names {
        keyspace.effects.library(name.as_bytes(), keyspace.functions.code(&name));
    }
    call.reply.simple("OK");
    Ok(())
}

impl Keyspace {
    /// What `INFO` tells about functions: libraries, functions as far as they are loaded, bytes Lua uses for them.
    pub fn function_info(&self) -> (usize, usize, usize) {
        self.functions.counts()
    }
}
