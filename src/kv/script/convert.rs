//! Between replies and Lua values, in both directions, by the tables of "Redis Lua API reference", "Data type
//! conversion".

use mlua::{Error, Integer, Lua, Result, Table, Value};

use super::raise;
use crate::kv::reply::Reply;

/// How deep a script's answer may be nested; what lies deeper is answered as an error, as Redis does when its stack
/// ends.
const DEPTH: usize = 500;
const TOO_DEEP: &str = "ERR reached lua stack limit";

/// An aggregate being filled.
struct Frame {
    table: Table,
    /// What the parts are put into: `table` itself, or the table inside of `{map = …}`.
    inner: Table,
    left: usize,
    next: Integer,
    kind: Kind,
    key: Option<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Map,
    Set,
}

/// Makes a Lua value of a command's reply.
pub struct LuaReply<'a> {
    lua: &'a Lua,
    resp3: bool,
    frames: Vec<Frame>,
    value: Option<Value>,
    /// The reply is this error.
    pub error: Option<String>,
    failed: Option<Error>,
}

impl<'a> LuaReply<'a> {
    /// Nothing yet.
    pub const fn new(lua: &'a Lua, resp3: bool) -> Self {
        Self { lua, resp3, frames: Vec::new(), value: None, error: None, failed: None }
    }

    /// The value; `None` when the reply was an error, see [`LuaReply::error`].
    ///
    /// # Errors
    /// Lua's memory is used up.
    pub fn finish(self) -> Result<Option<Value>> {
        match (self.failed, self.error) {
            (Some(failed), _) => Err(failed),
            (None, Some(_)) => Ok(None),
            (None, None) => Ok(Some(self.value.unwrap_or(Value::Nil))),
        }
    }

    fn absent(&self) -> Value {
        if self.resp3 { Value::Nil } else { Value::Boolean(false) }
    }

    fn take(&mut self, value: Result<Value>) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = value.and_then(|value| self.place(value)) {
            self.failed = Some(error);
        }
    }

    /// Puts a whole value where it belongs, and closes what is full with it.
    fn place(&mut self, mut value: Value) -> Result<()> {
        loop {
            let Some(frame) = self.frames.last_mut() else {
                self.value = Some(value);
                return Ok(());
            };
            match (frame.kind, frame.key.take()) {
                (Kind::Array, _) => {
                    frame.inner.raw_set(frame.next, value)?;
                    frame.next += 1;
                }
                (Kind::Set, _) => frame.inner.raw_set(value, true)?,
                (Kind::Map, None) => frame.key = Some(value),
                // A key that is nil cannot be one.
                (Kind::Map, Some(Value::Nil)) => {}
                (Kind::Map, Some(key)) => frame.inner.raw_set(key, value)?,
            }
            frame.left = frame.left.saturating_sub(1);
            if frame.left > 0 {
                return Ok(());
            }
            let Some(full) = self.frames.pop() else { return Ok(()) };
            value = Value::Table(full.table);
        }
    }

    fn open(&mut self, kind: Kind, len: usize) {
        if self.failed.is_some() {
            return;
        }
        match self.frame(kind, len) {
            Ok(frame) if len == 0 => self.take(Ok(Value::Table(frame.table))),
            Ok(frame) => self.frames.push(frame),
            Err(error) => self.failed = Some(error),
        }
    }

    fn frame(&self, kind: Kind, len: usize) -> Result<Frame> {
        let parts = if kind == Kind::Map { len / 2 } else { len };
        let inner = match kind {
            Kind::Array => self.lua.create_table_with_capacity(parts.min(1 << 16), 0)?,
            Kind::Map | Kind::Set => self.lua.create_table_with_capacity(0, parts.min(1 << 16))?,
        };
        let table = match kind {
            Kind::Array => inner.clone(),
            Kind::Map => self.named("map", &inner)?,
            Kind::Set => self.named("set", &inner)?,
        };
        Ok(Frame { table, inner, left: len, next: 1, kind, key: None })
    }

    fn named(&self, name: &str, inner: impl mlua::IntoLua) -> Result<Table> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, inner)?;
        Ok(table)
    }
}

impl Reply for LuaReply<'_> {
    fn resp3(&self) -> bool {
        self.resp3
    }

    fn simple(&mut self, text: &str) {
        let table = self.named("ok", text).map(Value::Table);
        self.take(table);
    }

    fn error(&mut self, text: &str) {
        if self.frames.is_empty() {
            self.error = Some(text.to_owned());
        } else {
            let table = raise::table(self.lua, text);
            self.take(table);
        }
    }

    fn integer(&mut self, value: i64) {
        // Lua 5.1 knows doubles only.
        self.take(Ok(Value::Number(value as f64)));
    }

    fn bulk(&mut self, bytes: &[u8]) {
        let string = self.lua.create_string(bytes).map(Value::String);
        self.take(string);
    }

    fn null(&mut self) {
        let absent = self.absent();
        self.take(Ok(absent));
    }

    fn null_array(&mut self) {
        let absent = self.absent();
        self.take(Ok(absent));
    }

    fn array(&mut self, len: usize) {
        self.open(Kind::Array, len);
    }

    fn map(&mut self, pairs: usize) {
        let kind = if self.resp3 { Kind::Map } else { Kind::Array };
        self.open(kind, pairs.saturating_mul(2));
    }

    fn set(&mut self, len: usize) {
        self.open(if self.resp3 { Kind::Set } else { Kind::Array }, len);
    }

    fn push(&mut self, len: usize) {
        self.open(Kind::Array, len);
    }

    fn double(&mut self, value: f64) {
        if self.resp3 {
            let table = self.named("double", value).map(Value::Table);
            self.take(table);
        } else {
            self.bulk(crate::kv::number::double(value).as_bytes());
        }
    }

    fn boolean(&mut self, value: bool) {
        if self.resp3 {
            self.take(Ok(Value::Boolean(value)));
        } else {
            self.integer(i64::from(value));
        }
    }

    fn verbatim(&mut self, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        let table = self.lua.create_table_with_capacity(0, 2).and_then(|inner| {
            inner.raw_set("format", "txt")?;
            inner.raw_set("string", self.lua.create_string(text)?)?;
            self.named("verbatim_string", inner)
        });
        self.take(table.map(Value::Table));
    }
}

/// Answers what a script returned. `resp3` is the version the script chose, which decides about truth values only.
///
/// # Errors
/// Lua's memory is used up; a part of the reply may be written then.
pub fn answer(value: &Value, reply: &mut dyn Reply, resp3: bool) -> Result<()> {
    write(value, reply, resp3, DEPTH)
}

fn write(value: &Value, reply: &mut dyn Reply, resp3: bool, depth: usize) -> Result<()> {
    match value {
        Value::String(text) => reply.bulk(&text.as_bytes()),
        Value::Boolean(value) if resp3 => reply.boolean(*value),
        Value::Boolean(true) => reply.integer(1),
        Value::Integer(value) => reply.integer(*value),
        Value::Number(value) => reply.integer(truncated(*value)),
        Value::Table(_) if depth == 0 => reply.error(TOO_DEEP),
        Value::Table(table) => return write_table(table, reply, resp3, depth - 1),
        _ => reply.null(),
    }
    Ok(())
}

/// A number without its fraction; what does not fit is the least integer, as processors have it.
fn truncated(value: f64) -> i64 {
    let whole = value.trunc();
    let fits = whole >= -(2f64.powi(63)) && whole < 2f64.powi(63);
    if fits { whole as i64 } else { i64::MIN }
}

fn write_table(table: &Table, reply: &mut dyn Reply, resp3: bool, depth: usize) -> Result<()> {
    if let Value::String(text) = table.raw_get("err")? {
        reply.error(&error_text(&text.to_string_lossy()));
        return Ok(());
    }
    if let Value::String(text) = table.raw_get("ok")? {
        reply.simple(&text.to_string_lossy());
        return Ok(());
    }
    match table.raw_get("double")? {
        Value::Number(value) => {
            reply.double(value);
            return Ok(());
        }
        Value::Integer(value) => {
            reply.double(value as f64);
            return Ok(());
        }
        _ => {}
    }
    if let Value::Table(map) = table.raw_get("map")? {
        return write_pairs(&map, reply, resp3, depth, true);
    }
    if let Value::Table(set) = table.raw_get("set")? {
        return write_pairs(&set, reply, resp3, depth, false);
    }
    if let Value::String(number) = table.raw_get("big_number")? {
        reply.big_number(&one_line(&number.as_bytes()));
        return Ok(());
    }
    if let Value::Table(verbatim) = table.raw_get("verbatim_string")?
        && let (Value::String(format), Value::String(text)) = (verbatim.raw_get("format")?, verbatim.raw_get("string")?)
    {
        let mut kind = [b' '; 3];
        kind.iter_mut().zip(format.as_bytes().iter()).for_each(|(to, from)| *to = *from);
        reply.verbatim_as(kind, &text.as_bytes());
        return Ok(());
    }
    // The first nil ends an array, wherever Lua itself would see the end.
    let mut len = 0;
    while !matches!(table.raw_get(len + 1)?, Value::Nil) {
        len += 1;
    }
    reply.array(usize::try_from(len).unwrap_or(0));
    for index in 1..=len {
        write(&table.raw_get(index)?, reply, resp3, depth)?;
    }
    Ok(())
}

fn write_pairs(table: &Table, reply: &mut dyn Reply, resp3: bool, depth: usize, values: bool) -> Result<()> {
    let mut count = 0;
    for pair in table.pairs::<Value, Value>() {
        pair?;
        count += 1;
    }
    if values {
        reply.map(count);
    } else {
        reply.set(count);
    }
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        write(&key, reply, resp3, depth)?;
        if values {
            write(&value, reply, resp3, depth)?;
        }
    }
    Ok(())
}

/// An error as the script gave it; an empty one would be none.
pub fn error_text(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { "ERR".to_owned() } else { text.to_owned() }
}

fn one_line(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}
