//! `redis.call` and `redis.pcall`: a command run from a script.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]

use mlua::{Integer, LightUserData, Lua, MultiValue, Result, Value};

use super::convert::LuaReply;
use super::raise::{self, Raised};
use super::session::Session;
use super::{Host, Verdict};
use crate::kv::commands::{Flags, lookup};
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::reply::Reply;

/// Arguments of a command that need no list of their own.
const FEW: usize = 16;

/// Bytes of changes one script may make: they go to the journal as one piece.
const EFFECTS: usize = 1 << 30;

const NO_ARGUMENTS: &str = "ERR Please specify at least one argument for this redis lib call";
const BAD_ARGUMENTS: &str = "ERR Lua redis lib command arguments must be strings or integers";
const UNKNOWN: &str = "ERR Unknown Redis command called from script";
const WRONG_NUMBER: &str = "ERR Wrong number of args calling Redis command from script";
const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";
const READ_ONLY: &str = "ERR Write commands are not allowed from read-only scripts.";
const TOO_MUCH: &str = "ERR the script changes more than 1 GiB at once";
const NO_KEYSPACE: &str = "ERR redis.call can only be called inside a script invocation";

/// In front of a command: its error is to be a table, not raised. No script can make this value.
pub const GENTLY: LightUserData = LightUserData(std::ptr::without_provenance_mut(1));
/// In place of a command: what the door says is asked for, as a number.
pub const PULSE: LightUserData = LightUserData(std::ptr::without_provenance_mut(2));

/// What a script's `redis.call` is while it runs on `keyspace`: the reply to a command, or its error raised; behind
/// [`GENTLY`], the error as a table.
///
/// # Errors
/// What the command answers with, and the end of the script.
pub fn call(lua: &Lua, keyspace: &mut Keyspace, host: &mut dyn Host, mut arguments: MultiValue) -> Result<Value> {
    let mut raises = true;
    match arguments.front() {
        Some(Value::LightUserData(mark)) if *mark == GENTLY => {
            arguments.pop_front();
            raises = false;
        }
        Some(Value::LightUserData(mark)) if *mark == PULSE => {
            let progress = lua.app_data_ref::<Session>().map(|session| session.progress());
            let verdict = progress.map_or(Verdict::Go, |progress| host.pulse(progress));
            return Ok(Value::Integer(verdict as Integer));
        }
        _ => {}
    }
    match run(lua, keyspace, host, arguments)? {
        Ok(value) => Ok(value),
        Err(text) => refuse(lua, raises, text),
    }
}

/// `redis.call` where it has to be one function for good: hands over to [`call`], if a script runs.
///
/// # Errors
/// As [`call`]; and that no script runs.
pub fn forward(lua: &Lua, arguments: MultiValue) -> Result<Value> {
    let lent = lua.app_data_ref::<Session>().and_then(|session| session.lent.clone());
    match lent {
        Some(lent) => lent.call(arguments),
        None => refuse(lua, !matches!(arguments.front(), Some(Value::LightUserData(_))), NO_KEYSPACE.to_owned()),
    }
}

fn refuse(lua: &Lua, raises: bool, text: String) -> Result<Value> {
    if raises { Err(Raised::Reply(text).into()) } else { raise::table(lua, &text) }
}

fn run(
    lua: &Lua,
    keyspace: &mut Keyspace,
    host: &mut dyn Host,
    arguments: MultiValue,
) -> Result<std::result::Result<Value, String>> {
    let Some(mut session) = lua.app_data_mut::<Session>() else { return Ok(Err(NO_KEYSPACE.to_owned())) };
    if arguments.is_empty() {
        return Ok(Err(NO_ARGUMENTS.to_owned()));
    }
    if session.is_call_due() {
        let verdict = host.pulse(session.progress());
        session.heed(verdict)?;
    }
    if !collect(&mut session, &arguments) {
        return Ok(Err(BAD_ARGUMENTS.to_owned()));
    }
    drop(arguments);
    let (flat, ends) = (std::mem::take(&mut session.arguments), std::mem::take(&mut session.ends));
    let mut reply = LuaReply::new(lua, session.resp3);
    let mut few: [&[u8]; FEW] = [&[]; FEW];
    let many: Vec<&[u8]>;
    let list = if let Some(few) = few.get_mut(..ends.len()) {
        few.iter_mut().zip(split(&flat, &ends)).for_each(|(to, from)| *to = from);
        &*few
    } else {
        many = split(&flat, &ends).collect();
        &many
    };
    keyspace.call_from_script(&mut session, list, &mut reply);
    session.arguments = flat;
    session.ends = ends;
    match reply.error.take() {
        Some(text) => Ok(Err(text)),
        None => reply.finish().map(|value| Ok(value.unwrap_or(Value::Nil))),
    }
}

fn split<'a>(flat: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    ends.iter().scan(0, move |start, end| {
        let piece = flat.get(*start..*end).unwrap_or_default();
        *start = *end;
        Some(piece)
    })
}

/// Writes the arguments one behind the other; `false` when one is neither text nor number.
fn collect(session: &mut Session, arguments: &MultiValue) -> bool {
    session.arguments.clear();
    session.ends.clear();
    for argument in arguments {
        match argument {
            Value::String(text) => session.arguments.extend_from_slice(&text.as_bytes()),
            Value::Integer(number) => {
                let mut digits = itoa::Buffer::new();
                session.arguments.extend_from_slice(digits.format(*number).as_bytes());
            }
            Value::Number(number) => session.arguments.extend_from_slice(number_text(*number).as_bytes()),
            _ => return false,
        }
        session.ends.push(session.arguments.len());
    }
    true
}

/// A number as `printf("%.17g")` writes it.
pub fn number_text(number: f64) -> String {
    crate::kv::script::format::general(number, 17)
}

impl Keyspace {
    /// Runs a command of the script under way, if it may; every outcome is in `reply`.
    fn call_from_script(&mut self, session: &mut Session, args: &[&[u8]], reply: &mut dyn Reply) {
        let Some(command) = args.first().and_then(|name| lookup(name)) else { return reply.error(UNKNOWN) };
        if let Err(fault) = command.check(args) {
            let text = if fault.is_arity() { WRONG_NUMBER } else { UNKNOWN };
            return reply.error(text);
        }
        let flags = command.flags;
        if flags.contains(Flags::NOSCRIPT) || command.run.is_none() {
            return reply.error(NOT_ALLOWED);
        }
        if let Some(acl) = &session.client.acl
            && let Err(denied) = acl.check(command, session.client.db, args)
        {
            let denied = denied.to_string();
            let why = denied.strip_prefix("NOPERM ").unwrap_or(&denied);
            return reply.error(&format!("NOPERM ACL failure in script: {why}"));
        }
        let writes = flags.contains(Flags::WRITE);
        if session.rules.read_only && (writes || matches!(command.name, "publish" | "spublish")) {
            return reply.error(READ_ONLY);
        }
        if writes {
            if let Some(refusal) = &session.rules.refusal {
                return reply.error(refusal);
            }
            if self.effects.mark().saturating_sub(session.effects) > EFFECTS {
                return reply.error(TOO_MUCH);
            }
        }
        let growing = flags.contains(Flags::DENYOOM) && session.rules.full;
        if growing && !session.dirty && !session.rules.allow_oom {
            return reply.error(&crate::kv::Fault::Full.to_string());
        }
        if flags.contains(Flags::DENYOOM) {
            // A script that is half done goes on; what it adds may still push other values to disk.
            self.keep_within(Means::Move);
        }
        session.dirty |= writes;
        let host = &mut super::Alone::default();
        if self.run(command, &mut session.client, args, reply, false, host) != crate::kv::Flow::Done {
            // What would have blocked answers as if its time were up.
            reply.null_array();
        }
    }
}

/// `redis.acl_check_cmd(name, …)`: whether the script's user may run it.
///
/// # Errors
/// There is no such command.
pub fn acl_check(lua: &Lua, arguments: MultiValue) -> Result<bool> {
    if arguments.is_empty() {
        return Err(raise::reply(NO_ARGUMENTS));
    }
    let Some(mut session) = lua.app_data_mut::<Session>() else { return Err(raise::reply(NO_KEYSPACE)) };
    if !collect(&mut session, &arguments) {
        return Err(raise::reply(BAD_ARGUMENTS));
    }
    let list: Vec<&[u8]> = split(&session.arguments, &session.ends).collect();
    let command = list
        .first()
        .and_then(|name| lookup(name))
        .ok_or_else(|| raise::reply("ERR Invalid command passed to redis.acl_check_cmd()"))?;
    let acl = session.client.acl.as_ref();
    Ok(acl.is_none_or(|acl| acl.check(command, session.client.db, &list).is_ok()))
}
