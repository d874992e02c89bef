//! `struct`: numbers and texts in fixed binary forms, as Roberto Ierusalimschy's struct library for Lua has them.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use mlua::{Integer, Lua, LuaString, MultiValue, Result, Table, Value};

use super::convert::truncated;
use super::raise::{self, complain};
use crate::kv::error::up_to_zero;

/// Widest integer.
const WIDEST: usize = 32;
/// Most bytes one call makes: beyond that a format is a mistake.
const LARGEST: usize = 512 << 20;
/// Alignment that `!` alone means.
const ALIGNMENT: usize = 8;

/// The table `struct`.
///
/// # Errors
/// Lua's memory is used up.
pub fn library(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    library.raw_set("pack", lua.create_function(pack)?)?;
    library.raw_set("unpack", lua.create_function(unpack)?)?;
    library.raw_set("size", lua.create_function(size)?)?;
    Ok(library)
}

/// A place of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// What only changes the rules for what follows, or is nothing known.
    Control(u8),
    Pad,
    Integer {
        bytes: usize,
        signed: bool,
    },
    Float,
    Double,
    /// A text that ends with a zero.
    Text,
    /// A text of so many bytes; 0 takes the length from elsewhere.
    Chars(usize),
}

impl Field {
    const fn bytes(self) -> usize {
        match self {
            Self::Pad => 1,
            Self::Integer { bytes, .. } => bytes,
            Self::Float => 4,
            Self::Double => 8,
            Self::Control(_) | Self::Text => 0,
            Self::Chars(len) => len,
        }
    }
}

/// Reads a format.
struct Format<'a> {
    /// Whose format it is, for errors.
    name: &'static str,
    rest: &'a [u8],
    little: bool,
    align: usize,
}

impl<'a> Format<'a> {
    const fn new(name: &'static str, text: &'a [u8]) -> Self {
        Self { name, rest: text, little: cfg!(target_endian = "little"), align: 1 }
    }

    /// Digits at the front, or `default`.
    fn number(&mut self, lua: &Lua, default: usize) -> Result<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<i32>().ok())
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| complain(lua, "integral size overflow"))
    }

    /// The next field.
    fn next(&mut self, lua: &Lua) -> Result<Option<Field>> {
        let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let integer = |bytes, signed| Field::Integer { bytes, signed };
        Ok(Some(match option {
            b'b' => integer(1, true),
            b'B' => integer(1, false),
            b'h' => integer(2, true),
            b'H' => integer(2, false),
            b'l' => integer(8, true),
            b'L' | b'T' => integer(8, false),
            b'i' | b'I' => {
                let bytes = self.number(lua, 4)?;
                if bytes > WIDEST {
                    let text = format!("integral size {bytes} is larger than limit of {WIDEST}");
                    return Err(complain(lua, text));
                }
                integer(bytes, *option == b'i')
            }
            b'f' => Field::Float,
            b'd' => Field::Double,
            b'x' => Field::Pad,
            b's' => Field::Text,
            b'c' => Field::Chars(self.number(lua, 1)?),
            other => Field::Control(*other),
        }))
    }

    /// Does what a control says.
    fn obey(&mut self, lua: &Lua, control: u8) -> Result<()> {
        match control {
            b' ' => {}
            b'<' => self.little = true,
            b'>' => self.little = false,
            b'!' => {
                let align = self.number(lua, ALIGNMENT)?;
                if !align.is_power_of_two() {
                    return Err(complain(lua, format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            other => {
                let text = [&b"invalid format option '"[..], &[other], b"'"].concat();
                return Err(raise::bad_argument(lua, 1, self.name, text));
            }
        }
        Ok(())
    }

    /// Bytes to leave out in front of `field` at offset `at`.
    fn padding(&self, field: Field, at: usize) -> usize {
        let bytes = field.bytes();
        if bytes == 0 || matches!(field, Field::Chars(_)) {
            return 0;
        }
        // Of sizes that are no powers of two it makes what it makes; so it is in Redis.
        let to = bytes.min(self.align);
        let mask = to.saturating_sub(1);
        to.wrapping_sub(at & mask) & mask
    }
}

/// Argument `index` (from 1), which must be a text or a number.
fn text_of(lua: &Lua, arguments: &MultiValue, index: usize, name: &str) -> Result<LuaString> {
    let given = arguments.get(index.saturating_sub(1));
    let text = match given {
        Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => lua.coerce_string(value.clone())?,
        _ => None,
    };
    text.ok_or_else(|| raise::bad_type(lua, index, name, "string", given))
}

fn pack(lua: &Lua, arguments: MultiValue) -> Result<LuaString> {
    let text = text_of(lua, &arguments, 1, "pack")?;
    let text = text.as_bytes();
    let mut format = Format::new("pack", up_to_zero(&text));
    let mut out: Vec<u8> = Vec::new();
    let mut index = 0usize;
    while let Some(field) = format.next(lua)? {
        let end = out.len().saturating_add(format.padding(field, out.len()));
        out.resize(end, 0);
        match field {
            Field::Control(control) => {
                format.obey(lua, control)?;
                continue;
            }
            Field::Pad => {
                out.push(0);
                continue;
            }
            _ => {}
        }
        index = index.saturating_add(1);
        put(lua, &format, field, &arguments, index, &mut out)?;
        if out.len() > LARGEST {
            return Err(complain(lua, "result too long"));
        }
    }
    lua.create_string(&out)
}

fn put(
    lua: &Lua,
    format: &Format<'_>,
    field: Field,
    arguments: &MultiValue,
    index: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    // Behind the last argument lies a nil.
    let nil = Value::Nil;
    let given = Some(arguments.get(index).unwrap_or(&nil));
    let number = || -> Result<f64> {
        let number = match given {
            Some(Value::Integer(value)) => Some(*value as f64),
            Some(Value::Number(value)) => Some(*value),
            Some(text @ Value::String(_)) => lua.coerce_number(text.clone())?,
            _ => None,
        };
        number.ok_or_else(|| raise::bad_type(lua, index.saturating_add(1), "pack", "number", given))
    };
    let ordered = |out: &mut Vec<u8>, little: &[u8]| {
        if format.little {
            out.extend_from_slice(little);
        } else {
            out.extend(little.iter().rev());
        }
    };
    match field {
        Field::Integer { bytes, .. } => {
            let mut little = [0; WIDEST];
            little.iter_mut().zip(whole(number()?).to_le_bytes()).for_each(|(to, from)| *to = from);
            ordered(out, little.get(..bytes).unwrap_or_default());
        }
        Field::Float => ordered(out, &(number()? as f32).to_le_bytes()),
        Field::Double => ordered(out, &number()?.to_le_bytes()),
        Field::Text | Field::Chars(_) => {
            let text = match given {
                Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => {
                    lua.coerce_string(value.clone())?
                }
                _ => None,
            };
            let text = text.ok_or_else(|| raise::bad_type(lua, index.saturating_add(1), "pack", "string", given))?;
            let text = text.as_bytes();
            let len = match field {
                Field::Chars(len) if len > 0 => len,
                _ => text.len(),
            };
            let part = text
                .get(..len)
                .ok_or_else(|| raise::bad_argument(lua, index.saturating_add(2), "pack", "string too short"))?;
            out.extend_from_slice(part);
            if field == Field::Text {
                out.push(0);
            }
        }
        Field::Pad | Field::Control(_) => {}
    }
    Ok(())
}

/// The whole part of a number in 64 bits, as processors have it: of what does not fit, or is none, no more than one bit.
fn whole(number: f64) -> u64 {
    if number.is_nan() || number < 9_223_372_036_854_775_808.0 {
        truncated(number).cast_unsigned()
    } else if number < 18_446_744_073_709_551_616.0 {
        number as u64
    } else {
        0
    }
}

/// `struct.unpack(format, text [, position])`: the values, and the position behind them.
fn unpack(lua: &Lua, arguments: MultiValue) -> Result<MultiValue> {
    let (text, data) = (text_of(lua, &arguments, 1, "unpack")?, text_of(lua, &arguments, 2, "unpack")?);
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let start = match arguments.get(2) {
        None | Some(Value::Nil) => Some(1.0),
        Some(Value::Integer(start)) => Some(*start as f64),
        Some(Value::Number(start)) => Some(*start),
        Some(text @ Value::String(_)) => lua.coerce_number(text.clone())?,
        Some(_) => None,
    };
    let start = start.ok_or_else(|| raise::bad_type(lua, 3, "unpack", "number", arguments.get(2)))?;
    let start = truncated(start);
    if start == 0 {
        return Err(raise::bad_argument(lua, 3, "unpack", "offset must be 1 or greater"));
    }
    // A place before the first is one far behind the last, of which nothing can be read.
    let mut at = start.wrapping_sub(1).cast_unsigned() as usize;
    let mut format = Format::new("unpack", up_to_zero(&text));
    let mut out: Vec<Value> = Vec::new();
    let short = || raise::bad_argument(lua, 2, "unpack", "data string too short");
    while let Some(field) = format.next(lua)? {
        at = at.wrapping_add(format.padding(field, at));
        let fixed = data.get(at..at.saturating_add(field.bytes())).ok_or_else(short)?;
        at = at.saturating_add(fixed.len());
        match field {
            Field::Control(control) => format.obey(lua, control)?,
            Field::Pad => {}
            Field::Integer { bytes, signed } => out.push(Value::Number(integer(fixed, format.little, bytes, signed))),
            Field::Float => out.push(Value::Number(f64::from(f32::from_bits(bits(fixed, format.little) as u32)))),
            Field::Double => out.push(Value::Number(f64::from_bits(bits(fixed, format.little)))),
            Field::Chars(0) => {
                // The length is the number read just before.
                let before = out.pop().map(|before| lua.coerce_number(before)).transpose()?.flatten();
                let len = before.ok_or_else(|| complain(lua, "format 'c0' needs a previous size"))?;
                let len = truncated(len).cast_unsigned() as usize;
                let chars = data.get(at..at.saturating_add(len)).ok_or_else(short)?;
                at = at.saturating_add(len);
                out.push(Value::String(lua.create_string(chars)?));
            }
            Field::Chars(_) => out.push(Value::String(lua.create_string(fixed)?)),
            Field::Text => {
                let rest = data.get(at..).unwrap_or_default();
                let len = memchr::memchr(0, rest).ok_or_else(|| complain(lua, "unfinished string in data"))?;
                out.push(Value::String(lua.create_string(rest.get(..len).unwrap_or_default())?));
                at = at.saturating_add(len).saturating_add(1);
            }
        }
        if out.len() > MOST_VALUES {
            return Err(complain(lua, "stack overflow (too many results)"));
        }
    }
    out.push(Value::Integer((at.wrapping_add(1) as u64).cast_signed()));
    Ok(MultiValue::from_vec(out))
}

/// Most values one call returns; Lua's stack has room for some more.
const MOST_VALUES: usize = 7_000;

/// The lowest eight bytes of a number.
fn bits(bytes: &[u8], little: bool) -> u64 {
    let mut out = [0u8; 8];
    if little {
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    } else {
        out.iter_mut().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
    }
    u64::from_le_bytes(out)
}

fn integer(bytes: &[u8], little: bool, width: usize, signed: bool) -> f64 {
    let value = bits(bytes, little);
    if !signed {
        return value as f64;
    }
    // Of more than eight bytes the sign is looked for where the processor's shift, which knows 64 places, ends up.
    let above = u64::MAX.wrapping_shl((width as u32).wrapping_mul(8).wrapping_sub(1));
    let value = if value & above == 0 { value } else { value | above };
    value.cast_signed() as f64
}

/// `struct.size(format)`.
fn size(lua: &Lua, arguments: MultiValue) -> Result<Integer> {
    let text = text_of(lua, &arguments, 1, "size")?;
    let text = text.as_bytes();
    let mut format = Format::new("size", up_to_zero(&text));
    let mut at = 0usize;
    while let Some(field) = format.next(lua)? {
        at = at.saturating_add(format.padding(field, at));
        match field {
            Field::Text => return Err(raise::bad_argument(lua, 1, "size", "option 's' has no fixed size")),
            Field::Chars(0) => return Err(raise::bad_argument(lua, 1, "size", "option 'c0' has no fixed size")),
            // A letter or digit that is nothing is passed by here.
            Field::Control(control) if !control.is_ascii_alphanumeric() => format.obey(lua, control)?,
            _ => at = at.saturating_add(field.bytes()),
        }
    }
    Integer::try_from(at).map_err(|_too_large| complain(lua, "integral size overflow"))
}
