//! `struct`: numbers and texts in fixed binary forms, as Roberto Ierusalimschy's struct library for Lua has them.
#![expect(clippy::needless_pass_by_value, reason = "this is how arguments come from Lua")]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use mlua::{Integer, Lua, LuaString, MultiValue, Result, Table, Value};

use super::raise::{self, complain};

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
            Self::Text => 0,
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

    /// The next field, past what only changes the rules.
    fn next(&mut self, lua: &Lua) -> Result<Option<Field>> {
        loop {
            let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
            self.rest = rest;
            let integer = |bytes, signed| Ok(Some(Field::Integer { bytes, signed }));
            match option {
                b'b' => return integer(1, true),
                b'B' => return integer(1, false),
                b'h' => return integer(2, true),
                b'H' => return integer(2, false),
                b'l' => return integer(8, true),
                b'L' | b'T' => return integer(8, false),
                b'i' | b'I' => {
                    let bytes = self.number(lua, 4)?;
                    if bytes > WIDEST || bytes == 0 {
                        let text = format!("integral size {bytes} is larger than limit of {WIDEST}");
                        return Err(complain(lua, text));
                    }
                    return integer(bytes, *option == b'i');
                }
                b'f' => return Ok(Some(Field::Float)),
                b'd' => return Ok(Some(Field::Double)),
                b'x' => return Ok(Some(Field::Pad)),
                b's' => return Ok(Some(Field::Text)),
                b'c' => return Ok(Some(Field::Chars(self.number(lua, 1)?))),
                b' ' => {}
                b'<' => self.little = true,
                b'>' => self.little = false,
                b'!' => {
                    let align = self.number(lua, ALIGNMENT)?;
                    if !align.is_power_of_two() {
                        return Err(complain(lua, "alignment is not a power of 2"));
                    }
                    self.align = align;
                }
                other => {
                    let text = [&b"invalid format option '"[..], &[*other], b"'"].concat();
                    return Err(raise::bad_argument(lua, 1, self.name, text));
                }
            }
        }
    }

    /// Bytes to leave out in front of `field` at offset `at`.
    fn padding(&self, field: Field, at: usize) -> usize {
        let bytes = field.bytes();
        if bytes == 0 || matches!(field, Field::Chars(_)) {
            return 0;
        }
        let to = bytes.min(self.align);
        if to.is_power_of_two() { at.wrapping_neg() & to.saturating_sub(1) } else { 0 }
    }
}

fn format_of(lua: &Lua, arguments: &MultiValue, name: &str) -> Result<LuaString> {
    match arguments.front() {
        Some(Value::String(text)) => Ok(text.clone()),
        given => Err(raise::bad_type(lua, 1, name, "string", given)),
    }
}

fn pack(lua: &Lua, arguments: MultiValue) -> Result<LuaString> {
    let text = format_of(lua, &arguments, "pack")?;
    let text = text.as_bytes();
    let mut format = Format::new("pack", &text);
    let mut out: Vec<u8> = Vec::new();
    let mut index = 0usize;
    while let Some(field) = format.next(lua)? {
        let end = out.len().saturating_add(format.padding(field, out.len()));
        out.resize(end, 0);
        if field == Field::Pad {
            out.push(0);
            continue;
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
    let given = arguments.get(index);
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
            let number = number()?;
            let value = if number < 0.0 { number as i64 } else { (number as u64).cast_signed() };
            let fill = if value < 0 && number < 0.0 { 0xff } else { 0 };
            let mut little = [fill; WIDEST];
            little.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
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
        Field::Pad => {}
    }
    Ok(())
}

/// `struct.unpack(format, text [, position])`: the values, and the position behind them.
fn unpack(lua: &Lua, arguments: MultiValue) -> Result<MultiValue> {
    let text = format_of(lua, &arguments, "unpack")?;
    let text = text.as_bytes();
    let data = match arguments.get(1) {
        Some(Value::String(data)) => data.as_bytes(),
        given => return Err(raise::bad_type(lua, 2, "unpack", "string", given)),
    };
    let start = match arguments.get(2) {
        None | Some(Value::Nil) => 1,
        Some(Value::Integer(start)) => *start,
        Some(Value::Number(start)) => *start as Integer,
        given => return Err(raise::bad_type(lua, 3, "unpack", "number", given)),
    };
    let start = usize::try_from(start).ok().filter(|start| *start > 0);
    let mut at =
        start.ok_or_else(|| raise::bad_argument(lua, 3, "unpack", "offset must be 1 or greater"))?.saturating_sub(1);
    let mut format = Format::new("unpack", &text);
    let mut out: Vec<Value> = Vec::new();
    let short = || raise::bad_argument(lua, 2, "unpack", "data string too short");
    while let Some(field) = format.next(lua)? {
        at = at.saturating_add(format.padding(field, at));
        let fixed = data.get(at..at.saturating_add(field.bytes())).ok_or_else(short)?;
        at = at.saturating_add(fixed.len());
        match field {
            Field::Pad => continue,
            Field::Integer { bytes, signed } => out.push(Value::Number(integer(fixed, format.little, bytes, signed))),
            Field::Float => out.push(Value::Number(f64::from(f32::from_bits(bits(fixed, format.little) as u32)))),
            Field::Double => out.push(Value::Number(f64::from_bits(bits(fixed, format.little)))),
            Field::Chars(0) => {
                // The length is the number read just before.
                let len = match out.pop() {
                    Some(Value::Number(len)) if len >= 0.0 => len as usize,
                    _ => return Err(complain(lua, "format 'c0' needs a previous size")),
                };
                let chars = data.get(at..at.saturating_add(len)).ok_or_else(short)?;
                at = at.saturating_add(len);
                out.push(Value::String(lua.create_string(chars)?));
            }
            Field::Chars(_) => out.push(Value::String(lua.create_string(fixed)?)),
            Field::Text => {
                let rest = data.get(at..).unwrap_or_default();
                let len = memchr::memchr(0, rest)
                    .ok_or_else(|| raise::bad_argument(lua, 2, "unpack", "unfinished string in data"))?;
                out.push(Value::String(lua.create_string(rest.get(..len).unwrap_or_default())?));
                at = at.saturating_add(len).saturating_add(1);
            }
        }
        if out.len() > MOST_VALUES {
            return Err(complain(lua, "too many results to unpack"));
        }
    }
    out.push(Value::Integer(Integer::try_from(at.saturating_add(1)).unwrap_or(Integer::MAX)));
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
    let unused = 64usize.saturating_sub(width.saturating_mul(8));
    let unused = u32::try_from(unused).unwrap_or(0);
    (value.wrapping_shl(unused).cast_signed().wrapping_shr(unused)) as f64
}

/// `struct.size(format)`.
fn size(lua: &Lua, arguments: MultiValue) -> Result<Integer> {
    let text = format_of(lua, &arguments, "size")?;
    let text = text.as_bytes();
    let mut format = Format::new("size", &text);
    let mut at = 0usize;
    while let Some(field) = format.next(lua)? {
        at = at.saturating_add(format.padding(field, at));
        match field {
            Field::Text => return Err(raise::bad_argument(lua, 1, "size", "option 's' has no fixed size")),
            Field::Chars(0) => return Err(raise::bad_argument(lua, 1, "size", "option 'c0' has no fixed size")),
            _ => at = at.saturating_add(field.bytes()),
        }
    }
    Integer::try_from(at).map_err(|_too_large| complain(lua, "integral size overflow"))
}
