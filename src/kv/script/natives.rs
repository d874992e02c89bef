//! What the sandbox gets from Rust: the `redis` table and the libraries.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]

use std::sync::Arc;

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::convert::error_text;
use super::desk::Desk;
use super::raise::{self, reply};
use super::{bits, call, json, library, msgpack, raw, structure};
use crate::crypto::mac;

/// Version of Redis whose scripts run here.
const VERSION: &str = "7.2.4";
/// The same as a number, a byte a part.
const VERSION_NUMBER: u32 = 0x0007_0204;

/// Everything, for the prelude to put in place.
///
/// # Errors
/// Lua's memory is used up.
pub fn all(lua: &Lua, shared: &json::Shared, desk: &Arc<Desk>) -> Result<Table> {
    let natives = lua.create_table()?;
    let redis = lua.create_table()?;
    redis.raw_set("log", lua.create_function(log)?)?;
    redis.raw_set("setresp", lua.create_function(set_resp)?)?;
    redis.raw_set("REDIS_VERSION", VERSION)?;
    redis.raw_set("REDIS_VERSION_NUM", VERSION_NUMBER)?;
    for (value, name) in ["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"].into_iter().enumerate() {
        redis.raw_set(name, value)?;
    }
    redis.raw_set("error_reply", lua.create_function(error_reply)?)?;
    redis.raw_set("status_reply", lua.create_function(status_reply)?)?;
    redis.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    redis.raw_set("set_repl", lua.create_function(set_repl)?)?;
    redis.raw_set("replicate_commands", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    redis.raw_set("breakpoint", lua.create_function(|_, _: MultiValue| Ok(false))?)?;
    redis.raw_set("debug", lua.create_function(|_, _: MultiValue| Ok(()))?)?;
    redis.raw_set("acl_check_cmd", lua.create_function(call::acl_check)?)?;
    for (name, value) in [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)] {
        redis.raw_set(name, value)?;
    }
    natives.raw_set("redis", redis)?;
    let (call, pcall) = raw::functions(lua, desk)?;
    natives.raw_set("call", call)?;
    natives.raw_set("pcall", pcall)?;
    natives.raw_set("register_function", lua.create_function(library::register)?)?;
    natives.raw_set("cjson", json::library(lua, shared)?)?;
    natives.raw_set("cmsgpack", msgpack::library(lua)?)?;
    natives.raw_set("struct", structure::library(lua)?)?;
    natives.raw_set("bit", bits::library(lua)?)?;
    natives.raw_set("random", lua.create_function(random)?)?;
    natives.raw_set("randomseed", lua.create_function(seed)?)?;
    natives.raw_set("soften", lua.create_function(raise::soften)?)?;
    natives.raw_set("plain", lua.create_function(raise::plain)?)?;
    natives.raw_set("on_error", lua.create_function(raise::on_error)?)?;
    natives.raw_set("is_end", lua.create_function(|_, problem: Value| Ok(raise::is_end(&problem).is_some()))?)?;
    natives.raw_set("check", lua.create_function(check)?)?;
    Ok(natives)
}

/// Raises the end of the script again, behind an `xpcall`.
fn check(_lua: &Lua, problem: Value) -> Result<()> {
    match problem {
        Value::Error(error) if raise::is_end(&Value::Error(error.clone())).is_some() => Err(*error),
        _ => Ok(()),
    }
}

const WRONG: &str = "ERR wrong number or type of arguments";

fn one_text(arguments: &MultiValue) -> Option<Vec<u8>> {
    match (arguments.len(), arguments.front()) {
        (1, Some(Value::String(text))) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

/// `redis.error_reply(text)`: the table that answers an error. A text of one word gets the code word `ERR`.
fn error_reply(lua: &Lua, arguments: MultiValue) -> Result<Table> {
    let given = one_text(&arguments).unwrap_or_else(|| WRONG.into());
    let text = error_text(given.strip_prefix(b"-").unwrap_or(&given));
    let code: &[u8] = if text.contains(&b' ') { b"" } else { b"ERR " };
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set("err", lua.create_string([code, text].concat())?)?;
    Ok(table)
}

/// `redis.status_reply(text)`: the table that answers a status.
fn status_reply(lua: &Lua, arguments: MultiValue) -> Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    match (arguments.len(), arguments.front()) {
        (1, Some(text @ Value::String(_))) => table.raw_set("ok", text)?,
        _ => table.raw_set("err", WRONG)?,
    }
    Ok(table)
}

/// `redis.sha1hex(text)`.
fn sha1hex(lua: &Lua, arguments: MultiValue) -> Result<String> {
    if arguments.len() != 1 {
        return Err(reply("ERR wrong number of arguments"));
    }
    let text = arguments.into_iter().next().and_then(|value| lua.coerce_string(value).ok().flatten());
    let digest = text.map_or_else(|| mac::sha1(b""), |text| mac::sha1(&text.as_bytes()));
    Ok(super::hex(&digest))
}

/// `redis.log(level, text, …)`: into the server's own log.
fn log(lua: &Lua, arguments: MultiValue) -> Result<()> {
    if arguments.len() < 2 {
        return Err(reply("ERR redis.log() requires two arguments or more."));
    }
    let mut arguments = arguments.into_iter();
    let level = match arguments.next() {
        Some(Value::Integer(level)) => level,
        Some(Value::Number(level)) => level as i64,
        _ => return Err(reply("ERR First argument must be a number (log level).")),
    };
    if !(0..=3).contains(&level) {
        return Err(reply("ERR Invalid debug level."));
    }
    let mut text = String::new();
    for part in arguments {
        // What is neither text nor number is left out, as in Redis.
        if let Ok(Some(part)) = lua.coerce_string(part) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&part.to_string_lossy());
        }
    }
    text.truncate(text.floor_char_boundary(LOG_LINE));
    match level {
        0 => tracing::trace!(text, "a script says"),
        1 => tracing::debug!(text, "a script says"),
        2 => tracing::info!(text, "a script says"),
        _ => tracing::warn!(text, "a script says"),
    }
    Ok(())
}

/// Most bytes of one line of a script in the log.
const LOG_LINE: usize = 1024;

/// `redis.setresp(2 | 3)`.
fn set_resp(lua: &Lua, arguments: MultiValue) -> Result<()> {
    if arguments.len() != 1 {
        return Err(reply("ERR redis.setresp() requires one argument."));
    }
    let version = arguments.front().and_then(Value::as_integer);
    let resp3 = match version {
        Some(2) => false,
        Some(3) => true,
        _ => return Err(reply("ERR RESP version must be 2 or 3.")),
    };
    if let Some(desk) = Desk::of(lua) {
        desk.session().resp3 = resp3;
    }
    Ok(())
}

/// `redis.set_repl(flags)`: nothing is replicated command by command, and the journal leaves nothing out.
fn set_repl(_lua: &Lua, arguments: MultiValue) -> Result<()> {
    if arguments.len() != 1 {
        return Err(reply("ERR redis.set_repl() requires two arguments."));
    }
    match arguments.front().and_then(Value::as_integer) {
        Some(flags) if flags & !3 == 0 => Ok(()),
        _ => Err(reply("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")),
    }
}

/// `math.random([m [, n]])`, with a generator of our own: C's has one state for the whole process.
fn random(lua: &Lua, arguments: MultiValue) -> Result<f64> {
    let drawn = Desk::of(lua).map_or(1, |desk| {
        let mut session = desk.session();
        // xorshift64*, Vigna 2016.
        let mut state = session.seed;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        session.seed = state;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    });
    let unit = (drawn >> 11) as f64 / (1u64 << 53) as f64;
    let number = |index: usize| match arguments.get(index) {
        Some(Value::Integer(value)) => Ok(*value as f64),
        Some(Value::Number(value)) => Ok(value.floor()),
        given => Err(raise::bad_type(lua, index + 1, "random", "number", given)),
    };
    match arguments.len() {
        0 => Ok(unit),
        1 => {
            let most = number(0)?;
            if most < 1.0 {
                return Err(raise::bad_argument(lua, 1, "random", "interval is empty"));
            }
            Ok((unit * most).floor() + 1.0)
        }
        2 => {
            let (least, most) = (number(0)?, number(1)?);
            if least > most {
                return Err(raise::bad_argument(lua, 2, "random", "interval is empty"));
            }
            Ok((unit * (most - least + 1.0)).floor() + least)
        }
        _ => Err(raise::complain(lua, "wrong number of arguments")),
    }
}

/// `math.randomseed(n)`.
fn seed(lua: &Lua, arguments: MultiValue) -> Result<()> {
    let value = match arguments.front() {
        Some(Value::Integer(value)) => *value as f64,
        Some(Value::Number(value)) => *value,
        given => return Err(raise::bad_type(lua, 1, "randomseed", "number", given)),
    };
    if let Some(desk) = Desk::of(lua) {
        // Spread over all bits, and never zero.
        desk.session().seed = value.to_bits().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    }
    Ok(())
}
