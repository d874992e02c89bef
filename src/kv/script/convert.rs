//! Lua values as replies, by the tables of "Redis Lua API reference", "Data type conversion". The other direction is
//! [`raw`](super::raw)'s.

use mlua::{Result, Table, Value};

use crate::kv::error::{one_line, up_to_zero, without_line_end};
use crate::kv::reply::Reply;

/// How deep a script's answer may be nested; what lies deeper is answered as an error, as Redis does when its stack
/// ends.
const DEPTH: usize = 500;
const TOO_DEEP: &str = "ERR reached lua stack limit";

/// A truth value: false is no value, in version two.
pub fn write_boolean(value: bool, reply: &mut dyn Reply, resp3: bool) {
    match (value, resp3) {
        (value, true) => reply.boolean(value),
        (true, false) => reply.integer(1),
        (false, false) => reply.null(),
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
        Value::Boolean(value) => write_boolean(*value, reply, resp3),
        Value::Integer(value) => reply.integer(*value),
        Value::Number(value) => reply.integer(truncated(*value)),
        Value::Table(_) if depth == 0 => reply.error(TOO_DEEP),
        Value::Table(table) => return write_table(table, reply, resp3, depth - 1),
        _ => reply.null(),
    }
    Ok(())
}

/// A number without its fraction; what does not fit is the least integer, as processors have it.
pub fn truncated(value: f64) -> i64 {
    let whole = value.trunc();
    let fits = whole >= -(2f64.powi(63)) && whole < 2f64.powi(63);
    if fits { whole as i64 } else { i64::MIN }
}

fn write_table(table: &Table, reply: &mut dyn Reply, resp3: bool, depth: usize) -> Result<()> {
    if let Value::String(text) = table.raw_get("err")? {
        reply.error_bytes(error_text(&text.as_bytes()));
        return Ok(());
    }
    if let Value::String(text) = table.raw_get("ok")? {
        reply.simple_bytes(up_to_zero(&text.as_bytes()));
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
        kind.iter_mut().zip(up_to_zero(&format.as_bytes())).for_each(|(to, from)| *to = *from);
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

/// An error as the script gave it, up to its first zero and without line ends behind it.
pub fn error_text(text: &[u8]) -> &[u8] {
    without_line_end(up_to_zero(text))
}
