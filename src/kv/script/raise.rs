//! Errors inside of a script: how Rust raises them, what Lua shows of them, and where in the script they arose.
//!
//! Redis raises what a command answers as a table `{err = text}`, and what a library function complains about as a
//! string that begins with the place (`user_script:1: …`). An uncaught error of either kind gets the place of the
//! script's line behind it when it becomes the reply. All of it is bytes: a script may say what is no text.

use std::borrow::Cow;

use mlua::{Error, Lua, Result, Value};

use super::place::place;

/// Name of the chunk that builds the sandbox, which is no place an error may name.
pub const PRELUDE: &str = "=prelude";
/// Most frames looked at to find a place.
const FRAMES: usize = 16;

/// An error that Rust raises in a script.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Raised {
    /// An error reply: shown as a table, code word first.
    #[error("{}", String::from_utf8_lossy(.0))]
    Reply(Vec<u8>),
    /// A complaint of a library function, with its place.
    #[error("{}", String::from_utf8_lossy(.0))]
    Text(Vec<u8>),
    /// The script is over, whatever it would catch.
    #[error("{}", .0.text())]
    Ended(Ended),
}

/// Why a script was ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `SCRIPT KILL`.
    Killed,
    /// It ran for longer than a setting allows, or the server stops.
    TooLong,
}

impl Ended {
    /// The error of the reply.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Killed => "ERR Script killed by user with SCRIPT KILL...",
            Self::TooLong => "ERR Script ended: it ran for longer than kv.script_limit, or the server stops...",
        }
    }
}

impl From<Raised> for Error {
    fn from(raised: Raised) -> Self {
        Self::external(raised)
    }
}

/// An error reply `text`, code word first.
pub fn reply(text: impl Into<Vec<u8>>) -> Error {
    Raised::Reply(text.into()).into()
}

/// A complaint of a library function about its caller.
pub fn complain(lua: &Lua, text: impl AsRef<[u8]>) -> Error {
    let mut told = caller(lua).unwrap_or_default();
    told.extend_from_slice(text.as_ref());
    Raised::Text(told).into()
}

/// The place in the script that has called the running function; `None` when no script has (`pcall` itself, for one).
fn caller(lua: &Lua) -> Option<Vec<u8>> {
    let at = place(lua, 1)?;
    let line = at.line?;
    let mut told = at.short;
    told.extend_from_slice(format!(":{line}: ").as_bytes());
    Some(told)
}

/// The standard library's complaint about argument `index` (from 1) of `function`.
pub fn bad_argument(lua: &Lua, index: usize, function: &str, why: impl AsRef<[u8]>) -> Error {
    // Lua finds a function's name where it is called, so only there.
    let function = if caller(lua).is_some() { function } else { "?" };
    let mut text = format!("bad argument #{index} to '{function}' (").into_bytes();
    text.extend_from_slice(why.as_ref());
    text.push(b')');
    complain(lua, text)
}

/// The standard library's complaint about the type of argument `index`.
pub fn bad_type(lua: &Lua, index: usize, function: &str, wanted: &str, given: Option<&Value>) -> Error {
    let given = given.map_or("no value", type_name);
    bad_argument(lua, index, function, format!("{wanted} expected, got {given}"))
}

/// The name Lua has for a value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::Error(_) | Value::UserData(_) => "userdata",
        other => other.type_name(),
    }
}

/// Which of ours an error is.
fn raised(error: &Error) -> Option<&Raised> {
    error.downcast_ref::<Raised>()
}

/// The text of an error of any kind.
pub fn text_of(error: &Error) -> Cow<'_, [u8]> {
    match (raised(error), error) {
        (Some(Raised::Reply(text) | Raised::Text(text)), _) => Cow::Borrowed(text),
        (Some(Raised::Ended(ended)), _) => Cow::Borrowed(ended.text().as_bytes()),
        (None, Error::MemoryError(_)) => Cow::Borrowed(OUT_OF_MEMORY.as_bytes()),
        (None, Error::CallbackError { cause, .. }) => text_of(cause),
        (None, Error::RuntimeError(text)) => Cow::Borrowed(text.as_bytes()),
        (None, other) => Cow::Owned(other.to_string().into_bytes()),
    }
}

/// What Lua says when its memory is used up.
pub const OUT_OF_MEMORY: &str = "not enough memory";

/// Whether `problem` is the end of the script, which nothing may catch.
pub fn is_end(problem: &Value) -> Option<Ended> {
    match problem {
        Value::Error(error) => match raised(error) {
            Some(Raised::Ended(ended)) => Some(*ended),
            _ => None,
        },
        _ => None,
    }
}

/// What a handler of the script sees: tables and texts.
///
/// # Errors
/// Lua's memory is used up.
pub fn plain(lua: &Lua, problem: Value) -> Result<Value> {
    let Value::Error(error) = &problem else { return Ok(problem) };
    match raised(error) {
        Some(Raised::Reply(text)) => table(lua, text),
        _ => lua.create_string(text_of(error)).map(Value::String),
    }
}

/// What `pcall` returns of a problem: of a table, its text, as Redis does.
///
/// # Errors
/// The end of the script goes on; or Lua's memory is used up.
pub fn soften(lua: &Lua, problem: Value) -> Result<Value> {
    if let Some(ended) = is_end(&problem) {
        return Err(Raised::Ended(ended).into());
    }
    match plain(lua, problem)? {
        Value::Table(table) => match table.raw_get("err")? {
            text @ Value::String(_) => Ok(text),
            _ => Ok(Value::Table(table)),
        },
        other => Ok(other),
    }
}

/// The table of an error that a command answered.
///
/// # Errors
/// Lua's memory is used up.
pub fn table(lua: &Lua, text: &[u8]) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", lua.create_string(text)?)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// Makes a table of an uncaught problem and notes where in the script it arose. Runs as the handler of `xpcall`.
///
/// # Errors
/// Lua's memory is used up.
pub fn on_error(lua: &Lua, problem: Value) -> Result<Value> {
    let code: &[u8] = if is_end(&problem).is_some() { b"" } else { b"ERR " };
    let table = match plain(lua, problem)? {
        Value::Table(table) => table,
        other => {
            let mut text = code.to_vec();
            match &other {
                Value::String(given) => text.extend_from_slice(&given.as_bytes()),
                other => text.extend_from_slice(other.to_string()?.as_bytes()),
            }
            let table = lua.create_table_with_capacity(0, 3)?;
            table.raw_set("err", lua.create_string(text)?)?;
            table
        }
    };
    for level in 1..FRAMES {
        let Some(at) = place(lua, level) else { break };
        if let Some(line) = at.line
            && at.source != PRELUDE.as_bytes()
        {
            table.raw_set("source", lua.create_string(at.source)?)?;
            table.raw_set("line", line)?;
            break;
        }
    }
    Ok(Value::Table(table))
}
