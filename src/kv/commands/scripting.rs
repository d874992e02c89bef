//! `EVAL`, `EVALSHA`, their read-only forms, and `SCRIPT`.

use super::{Command, Fault, Flags, answer_help, keyless, unknown_subcommand};
use crate::crypto::mac;
use crate::kv::execute::Call;
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::number;
use crate::kv::script::{Declared, Engine, Name, Room, Rules, Sha, Slot, hex, sha};

const SCRIPT: Flags = Flags::NOSCRIPT.and(Flags::MOVABLE_KEYS).and(Flags::SCRIPT);
const SCRIPT_READ: Flags = SCRIPT.and(Flags::READONLY);

pub(super) const COMMANDS: &[Command] = &[
    keyless("eval", -3, SCRIPT, |call| eval(call, Access::Write)),
    keyless("eval_ro", -3, SCRIPT_READ, |call| eval(call, Access::Read)),
    keyless("evalsha", -3, SCRIPT, |call| evalsha(call, Access::Write)),
    keyless("evalsha_ro", -3, SCRIPT_READ, |call| evalsha(call, Access::Read)),
    Command { subcommands: SUBCOMMANDS, ..keyless("script", -2, Flags::NOSCRIPT, script) },
];

const SUBCOMMANDS: &[(&str, i32)] = &[
    ("script|debug", 3),
    ("script|exists", -3),
    ("script|flush", -2),
    ("script|help", 2),
    ("script|kill", 2),
    ("script|load", 3),
];

/// Whether the form of the command lets a script change keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

const READ_ONLY_FORM: &str = "ERR Can not execute a script with write flag using *_ro command.";
const NO_ROOM: &str = "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";

fn eval(call: &mut Call<'_>, access: Access) -> Result<(), Fault> {
    // Redis looks at the number of keys first.
    key_count(call.args)?;
    let text = call.arg(1)?;
    run_script(call, access, mac::sha1(text), Some(text))
}

fn evalsha(call: &mut Call<'_>, access: Access) -> Result<(), Fault> {
    key_count(call.args)?;
    let name = sha(call.arg(1)?).ok_or(Fault::NoScript)?;
    run_script(call, access, name, None)
}

/// Keys a script is given, by its second argument.
pub(super) fn key_count(args: &[&[u8]]) -> Result<usize, Fault> {
    let count = args.get(2).and_then(|count| number::integer(count)).ok_or(Fault::NotInteger)?;
    let count = usize::try_from(count).map_err(|_negative| Fault::Text("ERR Number of keys can't be negative"))?;
    if count > args.len().saturating_sub(3) {
        return Err(Fault::Text("ERR Number of keys can't be greater than number of args"));
    }
    Ok(count)
}

fn run_script(call: &mut Call<'_>, access: Access, name: Sha, text: Option<&[u8]>) -> Result<(), Fault> {
    let count = key_count(call.args)?;
    let mut engine = call.keyspace.take_scripts()?;
    let room = room(call.keyspace);
    let cached = match (engine.cache.find(&name), text) {
        (Some(cached), _) => Ok(cached),
        (None, Some(text)) => engine.add(name, text, false, room).map_err(Fault::Quoting),
        (None, None) => Err(Fault::NoScript),
    };
    let outcome = cached.and_then(|cached| {
        let program = Program { slot: cached.slot, declared: cached.declared, name: Name::Script(&name) };
        call.host.begin(None);
        run(call, &mut engine, access, &program, count)
    });
    call.keyspace.scripts = Some(engine);
    outcome
}

/// What is run: a script, or a function of a library.
pub(super) struct Program<'a> {
    /// Where the state has it.
    pub slot: Slot,
    /// What it declares.
    pub declared: Declared,
    /// What errors call it.
    pub name: Name<'a>,
}

/// Runs a program with the first `count` arguments behind the second as its keys, and answers.
pub(super) fn run(
    call: &mut Call<'_>,
    engine: &mut Engine,
    access: Access,
    program: &Program<'_>,
    count: usize,
) -> Result<(), Fault> {
    let declared = program.declared;
    let mut rules = Rules {
        read_only: access == Access::Read || declared.no_writes,
        allow_oom: declared.allow_oom,
        full: call.keyspace.make_room_for_more(Means::Evict).is_err(),
        refusal: call.host.refusal(),
        acl: call.client.acl.clone(),
    };
    if declared.any && !declared.no_writes {
        if access == Access::Read {
            return Err(Fault::Text(READ_ONLY_FORM));
        }
        if let Some(refusal) = rules.refusal.take() {
            return Err(Fault::Told(refusal));
        }
        if rules.full && !declared.allow_oom {
            return Err(Fault::Text(NO_ROOM));
        }
    }
    let given = (call.rest(3).get(..count).unwrap_or_default(), call.rest(3).get(count..).unwrap_or_default());
    let effects = &mut call.keyspace.effects;
    let before = effects.mark();
    effects.begin();
    let begun = effects.mark();
    let outcome = engine.run(call.keyspace, call.host, program.slot, program.name, given, call.client.db, rules);
    let effects = &mut call.keyspace.effects;
    if effects.mark() == begun {
        effects.truncate(before);
    } else {
        effects.end();
    }
    match outcome {
        Ok((value, resp3)) => {
            if engine.answer(&value, call.reply, resp3).is_err() {
                // Only Lua's memory can be used up here, and the reply has to end somehow.
                call.reply.error("ERR not enough memory (kv.script_memory)");
            }
            Ok(())
        }
        Err(text) => Err(Fault::Quoting(text)),
    }
}

fn room(keyspace: &Keyspace) -> Room {
    let config = keyspace.config();
    Room { count: config.scripts as usize, bytes: config.script_bytes.as_usize() }
}

fn script(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = call.arg(1)?;
    let rest = call.rest(2);
    match (name.to_ascii_lowercase().as_slice(), rest) {
        (b"load", [text]) => load(call, text),
        (b"exists", names) => {
            call.reply.array(names.len());
            for name in names {
                let known = sha(name).is_some_and(|sha| {
                    call.keyspace.scripts.as_ref().is_some_and(|engine| engine.cache.contains(&sha))
                });
                call.reply.integer(i64::from(known));
            }
            Ok(())
        }
        (b"flush", []) => flush(call),
        (b"flush", [mode]) if mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async") => flush(call),
        (b"flush", _) => Err(Fault::Text("ERR SCRIPT FLUSH only support SYNC|ASYNC option")),
        // While one runs, the door answers this.
        (b"kill", []) => Err(Fault::Text("NOTBUSY No scripts in execution right now.")),
        (b"debug", [mode]) if [&b"yes"[..], b"sync", b"no"].iter().any(|known| mode.eq_ignore_ascii_case(known)) => {
            Err(Fault::Text("ERR the Lua debugger is not available here"))
        }
        (b"debug", _) => Err(Fault::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
        (b"help", _) => {
            answer_help(call.reply, HELP);
            Ok(())
        }
        _ => Err(unknown_subcommand(name, "SCRIPT")),
    }
}

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DEBUG (YES|SYNC|NO)",
    "    Refused: there is no debugger.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Tells which scripts are compiled and kept.",
    "FLUSH [ASYNC|SYNC]",
    "    Forgets all scripts.",
    "KILL",
    "    Ends the script that runs, unless it has changed something.",
    "LOAD <script>",
    "    Compiles a script and keeps it, without running it.",
];

fn load(call: &mut Call<'_>, text: &[u8]) -> Result<(), Fault> {
    let name = mac::sha1(text);
    let room = room(call.keyspace);
    let mut engine = call.keyspace.take_scripts()?;
    let added = engine.add(name, text, true, room);
    call.keyspace.scripts = Some(engine);
    added.map_err(Fault::Quoting)?;
    call.reply.bulk(hex(&name).as_bytes());
    Ok(())
}

/// The state goes with its scripts, and so does all memory it took; the next script makes a new one.
fn flush(call: &mut Call<'_>) -> Result<(), Fault> {
    call.keyspace.scripts = None;
    call.reply.simple("OK");
    Ok(())
}

impl Keyspace {
    /// Lua, made when it is wanted for the first time.
    fn take_scripts(&mut self) -> Result<Box<Engine>, Fault> {
        if let Some(engine) = self.scripts.take() {
            return Ok(engine);
        }
        Engine::new(self.config.script_memory.as_usize(), &*self.random)
            .map(Box::new)
            .map_err(|error| Fault::Told(format!("ERR Lua cannot be started (kv.script_memory): {error}")))
    }

    /// What `INFO` tells about scripts: how many are kept, bytes of their texts, bytes Lua uses.
    pub fn script_info(&self) -> (usize, usize, usize) {
        self.scripts.as_ref().map_or((0, 0, 0), |engine| (engine.cache.len(), engine.cache.bytes(), engine.used()))
    }
}
