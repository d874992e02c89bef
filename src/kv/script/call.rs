//! `redis.call` and `redis.pcall`: a command run from a script.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]

use mlua::{Lua, MultiValue, Result, Value};

use super::desk::{Desk, Lent};
use super::raise;
use super::session::Session;
use super::tape::Buffers;
use crate::kv::commands::{Flags, lookup};
use crate::kv::keyspace::Keyspace;
use crate::kv::memory::Means;
use crate::kv::reply::Reply;

/// Arguments of a command that need no list of their own.
const FEW: usize = 16;

/// Bytes of changes one script may make: they go to the journal as one piece.
const EFFECTS: usize = 1 << 30;

/// A fault of the call itself.
pub const NO_ARGUMENTS: &str = "ERR Please specify at least one argument for this redis lib call";
/// A fault of the call itself.
pub const BAD_ARGUMENTS: &str = "ERR Lua redis lib command arguments must be strings or integers";
const UNKNOWN: &str = "ERR Unknown Redis command called from script";
const WRONG_NUMBER: &str = "ERR Wrong number of args calling Redis command from script";
const NOT_ALLOWED: &str = "ERR This Redis command is not allowed from script";
const READ_ONLY: &str = "ERR Write commands are not allowed from read-only scripts.";
const TOO_MUCH: &str = "ERR the script changes more than 1 GiB at once";
/// A fault of the call itself.
pub const NO_KEYSPACE: &str = "ERR redis.call can only be called inside a script invocation";

/// How a call has ended. It owns nothing, so that Lua may leap over it.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// The reply is on the tape.
    Value,
    /// The reply is the error on the tape.
    Error,
    /// The reply is this error.
    Text(&'static str),
    /// The script is over.
    Ended,
}

/// Asks the door now and then whether the script may go on: `Some` when not.
pub fn is_over(session: &mut Session, lent: &mut Lent<'_>) -> Option<Told> {
    if session.ended.is_some() {
        return Some(Told::Ended);
    }
    if !session.is_call_due() {
        return None;
    }
    let verdict = lent.host.pulse(session.progress());
    session.heed(verdict).map(|_why| Told::Ended)
}

/// Runs the command whose arguments are in `buffers`; its reply is on their tape then.
pub fn run(session: &mut Session, keyspace: &mut Keyspace, buffers: &mut Buffers) -> Told {
    let Buffers { arguments, ends, tape, .. } = buffers;
    tape.begin(session.resp3);
    let mut few: [&[u8]; FEW] = [&[]; FEW];
    let many: Vec<&[u8]>;
    let list = if let Some(few) = few.get_mut(..ends.len()) {
        few.iter_mut().zip(split(arguments, ends)).for_each(|(to, from)| *to = from);
        &*few
    } else {
        many = split(arguments, ends).collect();
        &many
    };
    keyspace.call_from_script(session, list, tape);
    if tape.error.is_some() { Told::Error } else { Told::Value }
}

fn split<'a>(flat: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    ends.iter().scan(0, move |start, end| {
        let piece = flat.get(*start..*end).unwrap_or_default();
        *start = *end;
        Some(piece)
    })
}

/// Writes a number as an argument of a command.
pub fn write_number(number: f64, to: &mut Vec<u8>) {
    // The largest integer is no double.
    if number.fract() == 0.0 && (i64::MIN as f64..i64::MAX as f64).contains(&number) {
        to.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        to.extend_from_slice(number_text(number).as_bytes());
    }
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
    let Some(desk) = Desk::of(lua) else { return Err(raise::reply(NO_KEYSPACE)) };
    let mut flat: Vec<Vec<u8>> = Vec::with_capacity(arguments.len());
    for argument in &arguments {
        let mut text = Vec::new();
        match argument {
            Value::String(given) => text.extend_from_slice(&given.as_bytes()),
            Value::Integer(number) => write_number(*number as f64, &mut text),
            Value::Number(number) => write_number(*number, &mut text),
            _ => return Err(raise::reply(BAD_ARGUMENTS)),
        }
        flat.push(text);
    }
    let list: Vec<&[u8]> = flat.iter().map(Vec::as_slice).collect();
    let command = list
        .first()
        .and_then(|name| lookup(name))
        .ok_or_else(|| raise::reply("ERR Invalid command passed to redis.acl_check_cmd()"))?;
    let session = desk.session();
    let acl = session.client.acl.as_ref();
    Ok(acl.is_none_or(|acl| acl.check(command, session.client.db, &list).is_ok()))
}
