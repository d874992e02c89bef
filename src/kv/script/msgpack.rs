//! `cmsgpack`: `MessagePack` as Redis' scripts know it: the formats of its specification but for binary and extension
//! types, which Redis refuses too.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use mlua::{Integer, Lua, LuaString, MultiValue, Result, Table, Value};

use super::convert::truncated;
use super::raise::{self, Raised, complain};

/// How deep tables are packed; what lies deeper becomes nil.
const PACK_DEPTH: usize = 16;
/// How deep arrays and maps are unpacked: to where the stack ends in Redis.
const UNPACK_DEPTH: usize = 3_998;

const TOO_DEEP: &str = "stack overflow (in function mp_decode_to_lua_array)";
const TOO_MANY: &str = "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)";
const BAD: &str = "Bad data format in input.";
const SHORT: &str = "Missing bytes in input.";

/// The table `cmsgpack`.
///
/// # Errors
/// Lua's memory is used up.
pub fn library(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("pack", lua.create_function(pack)?)?;
    library.raw_set("unpack", lua.create_function(|lua, arguments| unpack(lua, arguments, "unpack"))?)?;
    library.raw_set("unpack_one", lua.create_function(|lua, arguments| unpack(lua, arguments, "unpack_one"))?)?;
    library.raw_set("unpack_limit", lua.create_function(|lua, arguments| unpack(lua, arguments, "unpack_limit"))?)?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    library.raw_set("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo")?;
    library.raw_set("_DESCRIPTION", "MessagePack C implementation for Lua")?;
    Ok(library)
}

fn pack(lua: &Lua, arguments: MultiValue) -> Result<LuaString> {
    if arguments.is_empty() {
        return Err(raise::bad_argument(lua, 0, "pack", "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for argument in &arguments {
        put(argument, &mut out, 0)?;
    }
    lua.create_string(&out)
}

fn put(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    match value {
        Value::String(text) => {
            let bytes = text.as_bytes();
            put_head(out, bytes.len(), [Some((0xa0, 31)), Some((0xd9, 0xff))], 0xda, 0xdb);
            out.extend_from_slice(&bytes);
        }
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(value) => put_integer(*value, out),
        Value::Number(value) => put_number(*value, out),
        Value::Table(table) if depth < PACK_DEPTH => return put_table(table, out, depth.saturating_add(1)),
        _ => out.push(0xc0),
    }
    Ok(())
}

/// The head of a string, array or map: its small forms, then those with two and four bytes of length.
fn put_head(out: &mut Vec<u8>, len: usize, small: [Option<(u8, usize)>; 2], two: u8, four: u8) {
    let [fixed, one] = small;
    match (fixed, one) {
        (Some((mark, most)), _) if len <= most => out.push(mark | len as u8),
        (_, Some((mark, most))) if len <= most => out.extend_from_slice(&[mark, len as u8]),
        _ => {
            if let Ok(len) = u16::try_from(len) {
                out.push(two);
                out.extend_from_slice(&len.to_be_bytes());
            } else {
                out.push(four);
                out.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
    }
}

fn put_integer(value: i64, out: &mut Vec<u8>) {
    if let Ok(value) = u64::try_from(value) {
        match value {
            0..=0x7f => out.push(value as u8),
            0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
            0x100..=0xffff => {
                out.push(0xcd);
                out.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                out.push(0xce);
                out.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                out.push(0xcf);
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
    } else if let Ok(value) = i8::try_from(value) {
        if value >= -32 {
            out.push(value.cast_unsigned());
        } else {
            out.extend_from_slice(&[0xd0, value.cast_unsigned()]);
        }
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[expect(clippy::float_cmp, reason = "whether a number is one of another type is a question of equality")]
fn put_number(value: f64, out: &mut Vec<u8>) {
    let whole = value as i64;
    if whole as f64 == value && value < 9_223_372_036_854_775_808.0 {
        put_integer(whole, out);
    } else if f64::from(value as f32) == value {
        out.push(0xca);
        out.extend_from_slice(&(value as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_table(table: &Table, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let (mut count, mut most, mut list) = (0usize, 0i64, true);
    table.for_each(|key: Value, _: Value| {
        count = count.saturating_add(1);
        match key {
            Value::Integer(index) if index > 0 => most = most.max(index),
            _ => list = false,
        }
        Ok(())
    })?;
    if list && usize::try_from(most) == Ok(count) {
        put_head(out, count, [Some((0x90, 15)), None], 0xdc, 0xdd);
        for index in 1..=most {
            put(&table.raw_get(index)?, out, depth)?;
        }
        return Ok(());
    }
    put_head(out, count, [Some((0x80, 15)), None], 0xde, 0xdf);
    table.for_each(|key: Value, value: Value| {
        put(&key, out, depth)?;
        put(&value, out, depth)
    })
}

/// `unpack(text)`, `unpack_one(text [, offset])`, `unpack_limit(text, limit [, offset])`. The latter two return first
/// where to go on, -1 at the end.
fn unpack(lua: &Lua, arguments: MultiValue, name: &str) -> Result<MultiValue> {
    let integer = |index: usize| -> Result<Option<Integer>> {
        let number = match arguments.get(index) {
            None | Some(Value::Nil) => return Ok(None),
            Some(Value::Integer(value)) => return Ok(Some(*value)),
            Some(Value::Number(value)) => Some(*value),
            Some(text @ Value::String(_)) => lua.coerce_number(text.clone())?,
            Some(_) => None,
        };
        let wrong = || raise::bad_type(lua, index.saturating_add(1), name, "number", arguments.get(index));
        number.map(|number| Some(truncated(number))).ok_or_else(wrong)
    };
    // The text is looked at last.
    let (limit, offset) = match name {
        "unpack" => (0, 0),
        "unpack_one" => (1, integer(1)?.unwrap_or(0)),
        _ => {
            let limit = integer(1)?.ok_or_else(|| raise::bad_type(lua, 2, name, "number", arguments.get(1)))?;
            (limit, integer(2)?.unwrap_or(0))
        }
    };
    let text = match arguments.front() {
        Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => lua.coerce_string(value.clone())?,
        _ => None,
    };
    let text = text.ok_or_else(|| raise::bad_type(lua, 1, name, "string", arguments.front()))?;
    let bytes = text.as_bytes();
    // Told are the lower 32 bits, as C prints them.
    let (told, len) = (offset as i32, bytes.len() as i32);
    if offset < 0 || limit < 0 {
        return Err(complain(lua, format!("Invalid request to unpack with offset of {told} and limit of {len}.")));
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if start > bytes.len() {
        return Err(complain(lua, format!("Start offset {told} greater than input length {len}.")));
    }
    let everything = limit == 0 && offset == 0;
    let most = if everything { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut reader = Reader { bytes: &bytes, at: start };
    let mut out = Vec::new();
    while reader.at < bytes.len() && out.len() < most {
        if out.len() >= MOST_VALUES {
            return Err(complain(lua, TOO_MANY));
        }
        out.push(reader.value(lua)?);
    }
    if !everything {
        let next = if reader.at >= bytes.len() { -1 } else { Integer::try_from(reader.at).unwrap_or(-1) };
        out.insert(0, Value::Integer(next));
    }
    Ok(MultiValue::from_vec(out))
}

/// Most values one call returns; Lua's stack has room for some more.
const MOST_VALUES: usize = 7_000;

/// What cannot be a key is complained of by Lua itself, which names no place.
fn check_key(key: &Value) -> Result<()> {
    let what = match key {
        Value::Nil => "nil",
        Value::Number(number) if number.is_nan() => "NaN",
        _ => return Ok(()),
    };
    Err(Raised::Text(format!("table index is {what}").into()).into())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// An array or map on its way.
struct Open {
    table: Table,
    left: usize,
    next: Integer,
    map: bool,
    key: Option<Value>,
}

/// One item: a whole value, or the head of an array or map.
enum Item {
    Value(Value),
    Array(usize),
    Map(usize),
}

impl Reader<'_> {
    /// Reads a value. Nested ones are kept in a list, so that depth costs no stack.
    fn value(&mut self, lua: &Lua) -> Result<Value> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            let mut value = match self.item(lua)? {
                Item::Value(value) => value,
                Item::Array(0) | Item::Map(0) => Value::Table(lua.create_table()?),
                item => {
                    if open.len() >= UNPACK_DEPTH {
                        return Err(complain(lua, TOO_DEEP));
                    }
                    let (left, map) = match item {
                        Item::Map(pairs) => (pairs.saturating_mul(2), true),
                        Item::Array(left) => (left, false),
                        Item::Value(_) => continue,
                    };
                    open.push(Open { table: lua.create_table()?, left, next: 1, map, key: None });
                    continue;
                }
            };
            loop {
                let Some(top) = open.last_mut() else { return Ok(value) };
                match (top.map, top.key.take()) {
                    (false, _) => {
                        top.table.raw_set(top.next, value)?;
                        top.next = top.next.saturating_add(1);
                    }
                    (true, None) => top.key = Some(value),
                    (true, Some(key)) => {
                        check_key(&key)?;
                        top.table.raw_set(key, value)?;
                    }
                }
                top.left = top.left.saturating_sub(1);
                if top.left > 0 {
                    break;
                }
                let Some(full) = open.pop() else { break };
                value = Value::Table(full.table);
            }
        }
    }

    fn item(&mut self, lua: &Lua) -> Result<Item> {
        let [mark] = self.raw(lua)?;
        let number = |value: f64| Ok(Item::Value(Value::Number(value)));
        match mark {
            0x00..=0x7f => number(f64::from(mark)),
            0x80..=0x8f => Ok(Item::Map(usize::from(mark & 15))),
            0x90..=0x9f => Ok(Item::Array(usize::from(mark & 15))),
            0xa0..=0xbf => self.text(lua, usize::from(mark & 31)),
            0xc0 => Ok(Item::Value(Value::Nil)),
            0xc2 => Ok(Item::Value(Value::Boolean(false))),
            0xc3 => Ok(Item::Value(Value::Boolean(true))),
            0xd9 => {
                let len = u8::from_be_bytes(self.raw(lua)?);
                self.text(lua, usize::from(len))
            }
            0xda => {
                let len = u16::from_be_bytes(self.raw(lua)?);
                self.text(lua, usize::from(len))
            }
            0xdb => {
                let len = u32::from_be_bytes(self.raw(lua)?);
                self.text(lua, len as usize)
            }
            0xca => number(f64::from(f32::from_be_bytes(self.raw(lua)?))),
            0xcb => number(f64::from_be_bytes(self.raw(lua)?)),
            0xcc => number(f64::from(u8::from_be_bytes(self.raw(lua)?))),
            0xcd => number(f64::from(u16::from_be_bytes(self.raw(lua)?))),
            0xce => number(f64::from(u32::from_be_bytes(self.raw(lua)?))),
            // More than the largest integer with a sign becomes a negative one.
            0xcf | 0xd3 => number(i64::from_be_bytes(self.raw(lua)?) as f64),
            0xd0 => number(f64::from(i8::from_be_bytes(self.raw(lua)?))),
            0xd1 => number(f64::from(i16::from_be_bytes(self.raw(lua)?))),
            0xd2 => number(f64::from(i32::from_be_bytes(self.raw(lua)?))),
            0xdc => Ok(Item::Array(usize::from(u16::from_be_bytes(self.raw(lua)?)))),
            0xdd => Ok(Item::Array(u32::from_be_bytes(self.raw(lua)?) as usize)),
            0xde => Ok(Item::Map(usize::from(u16::from_be_bytes(self.raw(lua)?)))),
            0xdf => Ok(Item::Map(u32::from_be_bytes(self.raw(lua)?) as usize)),
            0xe0..=0xff => number(f64::from(mark.cast_signed())),
            _ => Err(complain(lua, BAD)),
        }
    }

    fn raw<const N: usize>(&mut self, lua: &Lua) -> Result<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let raw = rest.first_chunk().copied().ok_or_else(|| complain(lua, SHORT))?;
        self.at = self.at.saturating_add(N);
        Ok(raw)
    }

    fn text(&mut self, lua: &Lua, len: usize) -> Result<Item> {
        let end = self.at.saturating_add(len);
        let bytes = self.bytes.get(self.at..end).ok_or_else(|| complain(lua, SHORT))?;
        self.at = end;
        Ok(Item::Value(Value::String(lua.create_string(bytes)?)))
    }
}
