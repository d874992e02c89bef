//! Errors inside of a script: how Rust raises them, what Lua shows of them, and where in the script they arose.
//!
//! Redis raises what a command answers as a table `{err = text}`, and what a library function complains about as a
//! string that begins with the place (`user_script:1: …`). An uncaught error of either kind gets the place of the
//! script's line behind it when it becomes the reply.

use mlua::{Error, Lua, Result, Value};

/// Name of the chunk that builds the sandbox, which is no place an error may name.
pub const PRELUDE: &str = "=prelude";
/// Most frames looked at to find a place.
const FRAMES: usize = 16;

/// An error that Rust raises in a script.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Raised {
    /// An error reply: shown as a table, code word first.
    #[error("{0}")]
    Reply(String),
    /// A complaint of a library function, with its place.
    #[error("{0}")]
    Text(String),
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
pub fn reply(text: impl Into<String>) -> Error {
    Raised::Reply(text.into()).into()
}

/// A complaint of a library function about its caller.
pub fn complain(lua: &Lua, text: &str) -> Error {
    Raised::Text(format!("{}{text}", caller(lua).unwrap_or_default())).into()
}

/// The place in the script that has called the running function; `None` when no script has (`pcall` itself, for one).
fn caller(lua: &Lua) -> Option<String> {
    lua.inspect_stack(1, |frame| {
        let line = frame.current_line()?;
        frame.source().short_src.map(|source| format!("{source}:{line}: "))
    })?
}

/// The standard library's complaint about argument `index` (from 1) of `function`.
pub fn bad_argument(lua: &Lua, index: usize, function: &str, why: &str) -> Error {
    // Lua finds a function's name where it is called, so only there.
    let function = if caller(lua).is_some() { function } else { "?" };
    complain(lua, &format!("bad argument #{index} to '{function}' ({why})"))
}

/// The standard library's complaint about the type of argument `index`.
pub fn bad_type(lua: &Lua, index: usize, function: &str, wanted: &str, given: Option<&Value>) -> Error {
    let given = given.map_or("no value", type_name);
    bad_argument(lua, index, function, &format!("{wanted} expected, got {given}"))
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
pub fn text_of(error: &Error) -> String {
    raised(error).map_or_else(
        || match error {
            Error::MemoryError(_) => OUT_OF_MEMORY.to_owned(),
            Error::CallbackError { cause, .. } => text_of(cause),
            Error::RuntimeError(text) => text.clone(),
            other => other.to_string(),
        },
        Raised::to_string,
    )
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
pub fn table(lua: &Lua, text: &str) -> Result<Value> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", text)?;
    table.raw_set("ignore_error_stats_update", true)?;
    Ok(Value::Table(table))
}

/// Makes a table of an uncaught problem and notes where in the script it arose. Runs as the handler of `xpcall`.
///
/// # Errors
/// Lua's memory is used up.
pub fn on_error(lua: &Lua, problem: Value) -> Result<Value> {
    let code = if is_end(&problem).is_some() { "" } else { "ERR " };
    let table = match plain(lua, problem)? {
        Value::Table(table) => table,
        other => {
            let text = match &other {
                Value::String(text) => text.to_string_lossy(),
                other => other.to_string()?,
            };
            let table = lua.create_table_with_capacity(0, 3)?;
            table.raw_set("err", format!("{code}{text}"))?;
            table
        }
    };
    for level in 1..FRAMES {
        let place = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let own = source.source.as_deref() == Some(PRELUDE) || matches!(source.what, "C" | "tail");
            let line = frame.current_line().filter(|_| !own)?;
            Some((source.source?.into_owned(), line))
        });
        match place {
            None => break,
            Some(None) => {}
            Some(Some((source, line))) => {
                table.raw_set("source", source)?;
                table.raw_set("line", line)?;
                break;
            }
        }
    }
    Ok(Value::Table(table))
}
