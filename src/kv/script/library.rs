//! Libraries of functions: their code is run once, and what it registers is called by name from then on.

use mlua::{Function, Lua, MultiValue, Result, Table, Value};

use super::desk::{Desk, Lent};
use super::engine::{Engine, Slot, raw_error};
use super::json;
use super::raise::{self, reply};
use super::session::Rules;
use super::shebang::Declared;
use super::{Host, Progress, Verdict};
use crate::kv::error::up_to_zero;

/// Beats that loading a library may take: some 10^8 instructions, about a second.
const LOAD: u32 = 2_000;

/// Most functions of one library.
const FUNCTIONS: usize = 10_000;

const ONLY_IN_LOAD: &str = "ERR redis.register_function can only be called on FUNCTION LOAD command";
const WRONG_COUNT: &str = "ERR wrong number of arguments to redis.register_function";
const NO_TABLE: &str = "ERR calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).";
/// The error about a name that is none.
pub const BAD_NAME: &str =
    "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// A function that a library has registered.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// What is called.
    function: Function,
    /// What its flags say.
    pub declared: Declared,
    /// Its flags as they were given.
    pub flags: Vec<String>,
    /// What it is for.
    pub description: Option<Vec<u8>>,
}

/// Whether a library or a function may be called this.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Engine {
    /// Runs the code of a library, whose first line is its declaration, and keeps what it registers.
    ///
    /// # Errors
    /// The reply. Nothing is kept then.
    pub fn load_library(&mut self, code: &[u8]) -> std::result::Result<Vec<(Registered, Slot)>, Vec<u8>> {
        let at = memchr::memchr(b'\n', code).unwrap_or(code.len());
        // The end of the first line stays, so that lines keep their numbers.
        let slot = self
            .compile(code.get(at..).unwrap_or_default(), "@user_function")
            .map_err(|error| [&b"ERR Error compiling function: "[..], up_to_zero(&error)].concat())?;
        let done = self.register_all(slot);
        let (registered, ended) = {
            let mut session = self.desk.session();
            session.end();
            (session.registered.take(), session.ended.is_some())
        };
        self.forget(slot);
        let outcome = match done {
            _ if ended => Err(b"ERR FUNCTION LOAD timeout".to_vec()),
            Ok((true, _)) => Ok(registered.unwrap_or_default()),
            Ok((false, problem)) => Err(failed(&raw_error(&problem).0)),
            Err(error) => Err(failed(&raise::text_of(&error))),
        };
        let outcome = outcome.and_then(|registered| {
            if registered.is_empty() {
                return Err(b"ERR No functions registered".to_vec());
            }
            let mut kept: Vec<(Registered, Slot)> = Vec::with_capacity(registered.len());
            for one in registered {
                match self.keep(one.function.clone()) {
                    Ok(slot) => kept.push((one, slot)),
                    Err(error) => {
                        for (_, slot) in &kept {
                            self.forget(*slot);
                        }
                        return Err(failed(&raise::text_of(&error)));
                    }
                }
            }
            Ok(kept)
        });
        self.rest();
        outcome
    }

    fn register_all(&mut self, slot: Slot) -> Result<(bool, Value)> {
        {
            let mut session = self.desk.session();
            session.begin(0, Rules::default(), 0);
            session.registered = Some(Vec::new());
        }
        json::reset(&self.json);
        let redis: Table = self.globals.raw_get("redis")?;
        self.globals.raw_set("redis", &self.library)?;
        let mut host = Loading::default();
        let mut lent = Lent { keyspace: None, host: &mut host, buffers: &mut self.buffers, panic: None };
        let done = self.desk.lend(&mut lent, || self.load.call(slot));
        self.globals.raw_set("redis", redis)?;
        done
    }
}

/// The reply about a library whose code has failed.
fn failed(why: &[u8]) -> Vec<u8> {
    [&b"ERR Error registering functions: "[..], why].concat()
}

/// Gives the code of a library its time.
#[derive(Debug, Default)]
struct Loading {
    beats: u32,
}

impl Host for Loading {
    fn pulse(&mut self, _script: Progress) -> Verdict {
        self.beats = self.beats.saturating_add(1);
        if self.beats > LOAD { Verdict::Stop } else { Verdict::Go }
    }
}

/// `redis.register_function(name, callback)`, or with a table of named arguments.
///
/// # Errors
/// It is called outside of `FUNCTION LOAD`, or wrongly.
pub fn register(lua: &Lua, arguments: MultiValue) -> Result<()> {
    let Some(desk) = Desk::of(lua) else { return Err(reply(ONLY_IN_LOAD)) };
    if desk.session().registered.is_none() {
        return Err(reply(ONLY_IN_LOAD));
    }
    let mut arguments = arguments.into_iter();
    let new = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(Value::Table(named)), None, None) => by_name(lua, &named)?,
        (Some(_), None, None) => return Err(reply(NO_TABLE)),
        (Some(name), Some(Value::Function(function)), None) => {
            let name = text(lua, name, "first argument to redis.register_function must be a string")?;
            let declared = Declared { any: true, ..Declared::default() };
            Registered { name: checked(&name)?, function, declared, flags: Vec::new(), description: None }
        }
        (Some(_), Some(_), None) => {
            return Err(reply("ERR second argument to redis.register_function must be a function"));
        }
        _ => return Err(reply(WRONG_COUNT)),
    };
    let mut session = desk.session();
    let Some(registered) = &mut session.registered else { return Err(reply(ONLY_IN_LOAD)) };
    if registered.iter().any(|other| other.name.eq_ignore_ascii_case(&new.name)) {
        return Err(reply("ERR Function already exists in the library"));
    }
    if registered.len() >= FUNCTIONS {
        return Err(reply(format!("ERR a library has at most {FUNCTIONS} functions")));
    }
    registered.push(new);
    Ok(())
}

/// A text or a number, which counts as one.
fn text(lua: &Lua, value: Value, otherwise: &str) -> Result<Vec<u8>> {
    let text = lua.coerce_string(value)?;
    text.map(|text| text.as_bytes().to_vec()).ok_or_else(|| reply(format!("ERR {otherwise}")))
}

fn by_name(lua: &Lua, named: &Table) -> Result<Registered> {
    let (mut name, mut function, mut description) = (None, None, None);
    let (mut declared, mut flags) = (Declared { any: true, ..Declared::default() }, Vec::new());
    for pair in named.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let key = text(lua, key, "named argument key given to redis.register_function is not a string")?;
        match (key.as_slice(), value) {
            (b"function_name", value) => {
                name =
                    Some(text(lua, value, "function_name argument given to redis.register_function must be a string")?);
            }
            (b"description", value) => {
                description =
                    Some(text(lua, value, "description argument given to redis.register_function must be a string")?);
            }
            (b"callback", Value::Function(given)) => function = Some(given),
            (b"callback", _) => {
                return Err(reply("ERR callback argument given to redis.register_function must be a function"));
            }
            (b"flags", Value::Table(given)) => {
                for flag in given.sequence_values::<Value>() {
                    let flag = String::from_utf8_lossy(&text(lua, flag?, "unknown flag given")?).into_owned();
                    if !declared.declare(&flag) {
                        return Err(reply("ERR unknown flag given"));
                    }
                    if !flags.contains(&flag) {
                        flags.push(flag);
                    }
                }
            }
            (b"flags", _) => {
                return Err(reply(
                    "ERR flags argument to redis.register_function must be a table representing function flags",
                ));
            }
            _ => return Err(reply("ERR unknown argument given to redis.register_function")),
        }
    }
    let name = name.ok_or_else(|| reply("ERR redis.register_function must get a function name argument"))?;
    let function = function.ok_or_else(|| reply("ERR redis.register_function must get a callback argument"))?;
    let name = checked(&name)?;
    Ok(Registered { name, function, declared, flags, description })
}

fn checked(name: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(name).ok().filter(|name| is_name(name));
    name.map(str::to_owned).ok_or_else(|| reply(BAD_NAME))
}
