//! `bit`: operations on 32 bits, as `LuaBitOp` has them (its page "Operational semantics"): any number counts modulo 2^32, results are
//! signed.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::raise;

/// The table `bit`.
///
/// # Errors
/// Lua's memory is used up.
pub fn library(lua: &Lua) -> Result<Table> {
    let bit = lua.create_table()?;
    let one = |name: &'static str, work: fn(u32) -> u32| {
        lua.create_function(move |lua, arguments: MultiValue| Ok(signed(work(bits(lua, &arguments, 0, name)?))))
    };
    bit.raw_set("tobit", one("tobit", |x| x)?)?;
    bit.raw_set("bnot", one("bnot", |x| !x)?)?;
    bit.raw_set("bswap", one("bswap", u32::swap_bytes)?)?;
    let all = |name: &'static str, work: fn(u32, u32) -> u32| {
        lua.create_function(move |lua, arguments: MultiValue| {
            let mut sum = bits(lua, &arguments, 0, name)?;
            // The last comes first, which only shows when several are wrong.
            for index in (1..arguments.len()).rev() {
                sum = work(sum, bits(lua, &arguments, index, name)?);
            }
            Ok(signed(sum))
        })
    };
    bit.raw_set("band", all("band", |x, y| x & y)?)?;
    bit.raw_set("bor", all("bor", |x, y| x | y)?)?;
    bit.raw_set("bxor", all("bxor", |x, y| x ^ y)?)?;
    let shift = |name: &'static str, work: fn(u32, u32) -> u32| {
        lua.create_function(move |lua, arguments: MultiValue| {
            let (value, by) = (bits(lua, &arguments, 0, name)?, bits(lua, &arguments, 1, name)?);
            Ok(signed(work(value, by & 31)))
        })
    };
    bit.raw_set("lshift", shift("lshift", |x, by| x << by)?)?;
    bit.raw_set("rshift", shift("rshift", |x, by| x >> by)?)?;
    bit.raw_set("arshift", shift("arshift", |x, by| (x.cast_signed() >> by).cast_unsigned())?)?;
    bit.raw_set("rol", shift("rol", u32::rotate_left)?)?;
    bit.raw_set("ror", shift("ror", u32::rotate_right)?)?;
    bit.raw_set("tohex", lua.create_function(to_hex)?)?;
    Ok(bit)
}

fn signed(bits: u32) -> f64 {
    f64::from(bits.cast_signed())
}

/// Argument `index` modulo 2^32, rounded to even.
fn bits(lua: &Lua, arguments: &MultiValue, index: usize, name: &str) -> Result<u32> {
    let number = match arguments.get(index) {
        // Through a double too: beyond 2^51 the lowest bits are others then.
        Some(Value::Integer(value)) => Some(*value as f64),
        Some(Value::Number(value)) => Some(*value),
        Some(text @ Value::String(_)) => lua.coerce_number(text.clone())?,
        _ => None,
    };
    let number = number.ok_or_else(|| raise::bad_type(lua, index + 1, name, "number", arguments.get(index)))?;
    // Adding 2^52 + 2^51 brings the integer to the lowest bits, whatever becomes of larger numbers.
    Ok((number + 6_755_399_441_055_744.0).to_bits() as u32)
}

/// `bit.tohex(x [, digits])`: as many digits from the right; negative for capitals.
fn to_hex(lua: &Lua, arguments: MultiValue) -> Result<String> {
    let value = bits(lua, &arguments, 0, "tohex")?;
    let wanted = if arguments.len() > 1 { bits(lua, &arguments, 1, "tohex")?.cast_signed() } else { 8 };
    let digits = wanted.unsigned_abs().min(8) as usize;
    let text = format!("{value:08x}");
    let text = text.get(8 - digits..).unwrap_or_default();
    Ok(if wanted < 0 { text.to_ascii_uppercase() } else { text.to_owned() })
}
