//! `cjson`: JSON as lua-cjson 2.1 reads and writes it, settings included.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Integer, Lua, LuaString, MultiValue, Result, Table, Value};

use super::format::general;
use super::json_read;
use super::raise::{self, complain, type_name};
use crate::kv::error::up_to_zero;

/// What the functions of a library go by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Arrays with more gaps than the ratio allows become objects instead of an error.
    pub sparse_convert: bool,
    /// How many times more indexes than elements an array may have.
    pub sparse_ratio: i64,
    /// Up to this index gaps are no matter.
    pub sparse_safe: i64,
    /// How deep tables may be nested when written.
    pub encode_depth: usize,
    /// The same for what is read.
    pub decode_depth: usize,
    /// Significant digits of numbers.
    pub precision: usize,
    /// What becomes of infinite numbers and those that are none.
    pub invalid: Invalid,
    /// Whether such numbers, and hexadecimal ones, are read.
    pub decode_invalid: bool,
    keep_buffer: bool,
}

/// What to write for a number JSON does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Nothing: an error.
    Refuse,
    /// Its name.
    Write,
    /// `null`.
    Null,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            invalid: Invalid::Refuse,
            decode_invalid: true,
            keep_buffer: true,
        }
    }
}

/// Settings shared by the functions of one library.
pub type Shared = Arc<Mutex<Settings>>;

fn read(shared: &Shared) -> Settings {
    *shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(shared: &Shared, work: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = shared.lock().unwrap_or_else(PoisonError::into_inner);
    work(&mut settings);
    *settings
}

/// Puts settings back to what every script begins with.
pub fn reset(shared: &Shared) {
    change(shared, |settings| *settings = Settings::default());
}

/// The table `cjson`, with the settings `shared`.
///
/// # Errors
/// Lua's memory is used up.
pub fn library(lua: &Lua, shared: &Shared) -> Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    library.raw_set("null", Value::NULL)?;
    let own = Arc::clone(shared);
    library.raw_set("encode", lua.create_function(move |lua, arguments| encode(lua, &read(&own), &arguments))?)?;
    let own = Arc::clone(shared);
    library.raw_set("decode", lua.create_function(move |lua, arguments| decode(lua, &read(&own), &arguments))?)?;
    library.raw_set("new", lua.create_function(|lua, _: MultiValue| self::library(lua, &Shared::default()))?)?;
    let own = Arc::clone(shared);
    let sparse = lua.create_function(move |lua, arguments| set_sparse(lua, &own, &arguments))?;
    library.raw_set("encode_sparse_array", sparse)?;
    let own = Arc::clone(shared);
    let depth = lua.create_function(move |lua, arguments: MultiValue| {
        let depth = number(lua, &arguments, 0, "encode_max_depth", 1, i64::from(i32::MAX))?;
        Ok(change(&own, |settings| settings.encode_depth = depth.map_or(settings.encode_depth, size)).encode_depth)
    })?;
    library.raw_set("encode_max_depth", depth)?;
    let own = Arc::clone(shared);
    let depth = lua.create_function(move |lua, arguments: MultiValue| {
        let depth = number(lua, &arguments, 0, "decode_max_depth", 1, i64::from(i32::MAX))?;
        Ok(change(&own, |settings| settings.decode_depth = depth.map_or(settings.decode_depth, size)).decode_depth)
    })?;
    library.raw_set("decode_max_depth", depth)?;
    let own = Arc::clone(shared);
    let precision = lua.create_function(move |lua, arguments: MultiValue| {
        let digits = number(lua, &arguments, 0, "encode_number_precision", 1, 14)?;
        Ok(change(&own, |settings| settings.precision = digits.map_or(settings.precision, size)).precision)
    })?;
    library.raw_set("encode_number_precision", precision)?;
    let own = Arc::clone(shared);
    let keep = lua.create_function(move |lua, arguments: MultiValue| {
        let on = switch(lua, &arguments, "encode_keep_buffer")?;
        Ok(change(&own, |settings| settings.keep_buffer = on.unwrap_or(settings.keep_buffer)).keep_buffer)
    })?;
    library.raw_set("encode_keep_buffer", keep)?;
    let own = Arc::clone(shared);
    let invalid = lua.create_function(move |lua, arguments: MultiValue| set_invalid(lua, &own, &arguments))?;
    library.raw_set("encode_invalid_numbers", invalid)?;
    let own = Arc::clone(shared);
    let invalid = lua.create_function(move |lua, arguments: MultiValue| {
        let on = switch(lua, &arguments, "decode_invalid_numbers")?;
        Ok(change(&own, |settings| settings.decode_invalid = on.unwrap_or(settings.decode_invalid)).decode_invalid)
    })?;
    library.raw_set("decode_invalid_numbers", invalid)?;
    Ok(library)
}

fn size(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn number(lua: &Lua, arguments: &MultiValue, index: usize, name: &str, least: i64, most: i64) -> Result<Option<i64>> {
    let place = index.saturating_add(1);
    let value = match arguments.get(index) {
        None | Some(Value::Nil) => return Ok(None),
        Some(Value::Integer(value)) => *value,
        Some(Value::Number(value)) => *value as i64,
        given => return Err(raise::bad_type(lua, place, name, "number", given)),
    };
    if (least..=most).contains(&value) {
        return Ok(Some(value));
    }
    Err(raise::bad_argument(lua, place, name, format!("expected integer between {least} and {most}")))
}

fn switch(lua: &Lua, arguments: &MultiValue, name: &str) -> Result<Option<bool>> {
    match arguments.front() {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Boolean(on)) => Ok(Some(*on)),
        Some(Value::String(word)) if &*word.as_bytes() == b"on" => Ok(Some(true)),
        Some(Value::String(word)) if &*word.as_bytes() == b"off" => Ok(Some(false)),
        Some(Value::String(word)) => {
            let text = [&b"invalid option '"[..], up_to_zero(&word.as_bytes()), b"'"].concat();
            Err(raise::bad_argument(lua, 1, name, text))
        }
        given => Err(raise::bad_type(lua, 1, name, "string", given)),
    }
}

fn set_sparse(lua: &Lua, shared: &Shared, arguments: &MultiValue) -> Result<(bool, i64, i64)> {
    let name = "encode_sparse_array";
    let convert = switch(lua, arguments, name)?;
    let ratio = number(lua, arguments, 1, name, 0, i64::from(i32::MAX))?;
    let safe = number(lua, arguments, 2, name, 0, i64::from(i32::MAX))?;
    let now = change(shared, |settings| {
        settings.sparse_convert = convert.unwrap_or(settings.sparse_convert);
        settings.sparse_ratio = ratio.unwrap_or(settings.sparse_ratio);
        settings.sparse_safe = safe.unwrap_or(settings.sparse_safe);
    });
    Ok((now.sparse_convert, now.sparse_ratio, now.sparse_safe))
}

fn set_invalid(lua: &Lua, shared: &Shared, arguments: &MultiValue) -> Result<Value> {
    let null = matches!(arguments.front(), Some(Value::String(word)) if &*word.as_bytes() == b"null");
    let wanted = if null {
        Some(Invalid::Null)
    } else {
        switch(lua, arguments, "encode_invalid_numbers")?.map(|on| if on { Invalid::Write } else { Invalid::Refuse })
    };
    match change(shared, |settings| settings.invalid = wanted.unwrap_or(settings.invalid)).invalid {
        Invalid::Null => lua.create_string("null").map(Value::String),
        other => Ok(Value::Boolean(other == Invalid::Write)),
    }
}

fn one<'a>(lua: &Lua, arguments: &'a MultiValue, name: &str) -> Result<&'a Value> {
    match (arguments.len(), arguments.front()) {
        (1, Some(value)) => Ok(value),
        _ => Err(raise::bad_argument(lua, 1, name, "expected 1 argument")),
    }
}

fn decode(lua: &Lua, settings: &Settings, arguments: &MultiValue) -> Result<Value> {
    let value = one(lua, arguments, "decode")?;
    let text = match value {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => lua.coerce_string(value.clone())?,
        _ => None,
    };
    let text = text.ok_or_else(|| raise::bad_type(lua, 1, "decode", "string", Some(value)))?;
    json_read::value(lua, settings, &text.as_bytes())
}

fn encode(lua: &Lua, settings: &Settings, arguments: &MultiValue) -> Result<LuaString> {
    let value = one(lua, arguments, "encode")?;
    let mut writer = Writer { lua, settings, out: Vec::new() };
    writer.value(value, 0)?;
    lua.create_string(&writer.out)
}

struct Writer<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        match value {
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Integer(value) => self.number(*value as f64)?,
            Value::Number(value) => self.number(*value)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Table(table) => return self.table(table, depth.saturating_add(1)),
            value if value.is_null() => self.out.extend_from_slice(b"null"),
            other => return Err(self.refuse(type_name(other), "type not supported")),
        }
        Ok(())
    }

    fn refuse(&self, what: &str, why: &str) -> mlua::Error {
        complain(self.lua, format!("Cannot serialise {what}: {why}"))
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<()> {
        if depth > self.settings.encode_depth {
            return Err(complain(self.lua, format!("Cannot serialise, excessive nesting ({depth})")));
        }
        match self.array_len(table)? {
            Some(len) if len > 0 => {
                self.out.push(b'[');
                for index in 1..=len {
                    if index > 1 {
                        self.out.push(b',');
                    }
                    self.value(&table.raw_get(index)?, depth)?;
                }
                self.out.push(b']');
            }
            _ => {
                self.out.push(b'{');
                let mut first = true;
                for pair in table.pairs::<Value, Value>() {
                    let (key, value) = pair?;
                    if !std::mem::take(&mut first) {
                        self.out.push(b',');
                    }
                    self.key(&key)?;
                    self.value(&value, depth)?;
                }
                self.out.push(b'}');
            }
        }
        Ok(())
    }

    /// Where an array ends; `None` for an object.
    fn array_len(&self, table: &Table) -> Result<Option<Integer>> {
        let (mut most, mut items): (i32, i64) = (0, 0);
        for pair in table.pairs::<Value, Value>() {
            let index = match pair?.0 {
                Value::Integer(index) => index as f64,
                Value::Number(number) if number.fract() == 0.0 => number,
                _ => return Ok(None),
            };
            if index < 1.0 {
                return Ok(None);
            }
            // What does not fit into C's integer is the least one there, and the table no list.
            if index > f64::from(most) {
                most = if index <= f64::from(i32::MAX) { index as i32 } else { i32::MIN };
            }
            items = items.saturating_add(1);
        }
        let most = Integer::from(most);
        let Settings { sparse_ratio, sparse_safe, sparse_convert, .. } = *self.settings;
        if sparse_ratio > 0 && most > items.saturating_mul(sparse_ratio) && most > sparse_safe {
            if !sparse_convert {
                return Err(self.refuse("table", "excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(most))
    }

    fn key(&mut self, key: &Value) -> Result<()> {
        match key {
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Integer(number) => {
                self.out.push(b'"');
                self.number(*number as f64)?;
                self.out.push(b'"');
            }
            Value::Number(number) => {
                self.out.push(b'"');
                self.number(*number)?;
                self.out.push(b'"');
            }
            other => return Err(self.refuse(type_name(other), "table key must be a number or string")),
        }
        self.out.push(b':');
        Ok(())
    }

    fn number(&mut self, value: f64) -> Result<()> {
        if !value.is_finite() {
            match self.settings.invalid {
                Invalid::Refuse => return Err(self.refuse("number", "must not be NaN or Inf")),
                Invalid::Null => {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Write => {}
            }
        }
        self.out.extend_from_slice(general(value, self.settings.precision).as_bytes());
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        for byte in bytes {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'/' => self.out.extend_from_slice(b"\\/"),
                8 => self.out.extend_from_slice(b"\\b"),
                9 => self.out.extend_from_slice(b"\\t"),
                10 => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                13 => self.out.extend_from_slice(b"\\r"),
                0..=31 | 127 => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.out.push(*byte),
            }
        }
        self.out.push(b'"');
    }
}
