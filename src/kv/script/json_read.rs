//! JSON read as lua-cjson reads it: its tokens, its leniencies and its words for what is wrong.
//!
//! Nested values are kept in a list, never on the stack.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use mlua::{Error, Integer, Lua, Result, Table, Value};

use super::json::Settings;
use super::raise::complain;

/// What stands next in the text.
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    Text(Vec<u8>),
    Number(f64),
    Truth(bool),
    Null,
    End,
    Wrong(&'static str),
}

impl Token {
    const fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::Text(_) => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Truth(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::End => "T_END",
            Self::Wrong(what) => what,
        }
    }
}

/// A table being filled.
struct Open {
    table: Table,
    /// The key of the next value of an object; an array has none.
    key: Option<Value>,
    next: Integer,
    array: bool,
}

/// The value in `text`.
///
/// # Errors
/// The text is no JSON, or nested too deeply; or Lua's memory is used up.
pub fn value(lua: &Lua, settings: &Settings, text: &[u8]) -> Result<Value> {
    if let [first, second, ..] = text
        && (*first == 0 || *second == 0)
    {
        return Err(complain(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut reader = Reader { lua, settings, text, at: 0, index: 0 };
    let value = reader.value()?;
    match reader.token() {
        Token::End => Ok(value),
        other => Err(reader.wrong("the end", &other)),
    }
}

struct Reader<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    text: &'a [u8],
    at: usize,
    /// Where the last token begins, or what is wrong with it is.
    index: usize,
}

impl Reader<'_> {
    fn wrong(&self, expected: &str, found: &Token) -> Error {
        let character = self.index.saturating_add(1);
        complain(self.lua, format!("Expected {expected} but found {} at character {character}", found.name()))
    }

    fn value(&mut self) -> Result<Value> {
        let mut open: Vec<Open> = Vec::new();
        let mut token = self.token();
        loop {
            let mut value = match token {
                Token::Text(bytes) => Value::String(self.lua.create_string(&bytes)?),
                Token::Number(number) => Value::Number(number),
                Token::Truth(truth) => Value::Boolean(truth),
                Token::Null => Value::NULL,
                Token::ObjectBegin | Token::ArrayBegin => {
                    let array = matches!(token, Token::ArrayBegin);
                    let depth = open.len().saturating_add(1);
                    if depth > self.settings.decode_depth {
                        let at = self.at;
                        let text = format!("Found too many nested data structures ({depth}) at character {at}");
                        return Err(complain(self.lua, text));
                    }
                    let table = self.lua.create_table()?;
                    token = self.token();
                    match (array, &token) {
                        (true, Token::ArrayEnd) | (false, Token::ObjectEnd) => Value::Table(table),
                        (true, _) => {
                            open.push(Open { table, key: None, next: 1, array });
                            continue;
                        }
                        (false, _) => {
                            let key = self.key(token)?;
                            open.push(Open { table, key: Some(key), next: 1, array });
                            token = self.token();
                            continue;
                        }
                    }
                }
                other => return Err(self.wrong("value", &other)),
            };
            // The value is whole: put it where it belongs, and close what ends with it.
            loop {
                let Some(top) = open.last_mut() else { return Ok(value) };
                if let Some(key) = top.key.take() {
                    top.table.raw_set(key, value)?;
                } else {
                    top.table.raw_set(top.next, value)?;
                    top.next = top.next.saturating_add(1);
                }
                let array = top.array;
                match self.token() {
                    Token::Comma => {
                        token = self.token();
                        if !array {
                            let key = self.key(token)?;
                            if let Some(top) = open.last_mut() {
                                top.key = Some(key);
                            }
                            token = self.token();
                        }
                        break;
                    }
                    Token::ArrayEnd if array => {}
                    Token::ObjectEnd if !array => {}
                    other => {
                        return Err(
                            self.wrong(if array { "comma or array end" } else { "comma or object end" }, &other)
                        );
                    }
                }
                let Some(full) = open.pop() else { return Ok(Value::Nil) };
                value = Value::Table(full.table);
            }
        }
    }

    /// A key and the colon behind it.
    fn key(&mut self, token: Token) -> Result<Value> {
        let Token::Text(bytes) = token else { return Err(self.wrong("object key string", &token)) };
        let key = self.lua.create_string(&bytes)?;
        match self.token() {
            Token::Colon => Ok(Value::String(key)),
            other => Err(self.wrong("colon", &other)),
        }
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn token(&mut self) -> Token {
        let blank = self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at = self.at.saturating_add(blank);
        self.index = self.at;
        let Some(first) = self.rest().first().copied() else { return Token::End };
        let single = match first {
            // Behind a zero the text of C has ended.
            0 => return Token::End,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return Token::Wrong("invalid number");
                }
                return self.number();
            }
            _ => return self.word(first),
        };
        self.at = self.at.saturating_add(1);
        single
    }

    fn word(&mut self, first: u8) -> Token {
        for (word, token) in [("true", Token::Truth(true)), ("false", Token::Truth(false)), ("null", Token::Null)] {
            if self.rest().starts_with(word.as_bytes()) {
                self.at = self.at.saturating_add(word.len());
                return token;
            }
        }
        let maybe = matches!(first, b'+' | b'i' | b'I' | b'n' | b'N');
        if maybe && self.settings.decode_invalid && self.is_invalid_number() {
            return self.number();
        }
        Token::Wrong("invalid token")
    }

    /// Whether what begins here is a number of C's but not of JSON's.
    fn is_invalid_number(&self) -> bool {
        let rest = self.rest();
        if rest.first() == Some(&b'+') {
            return true;
        }
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let is = |word: &[u8]| rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(word));
        match rest {
            [b'0', second, ..] => matches!(second, b'x' | b'X' | b'0'..=b'9'),
            [b'0'..=b'9', ..] => false,
            _ => is(b"inf") || is(b"nan"),
        }
    }

    fn number(&mut self) -> Token {
        match c_number(self.rest()) {
            Some((number, bytes)) => {
                self.at = self.at.saturating_add(bytes);
                Token::Number(number)
            }
            None => Token::Wrong("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        let mut out = Vec::new();
        self.at = self.at.saturating_add(1);
        loop {
            let rest = self.rest();
            let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0)).count();
            out.extend_from_slice(rest.get(..plain).unwrap_or_default());
            let mark = rest.get(plain).copied().unwrap_or(0);
            let escape = rest.get(plain.saturating_add(1)).copied().unwrap_or(0);
            self.at = self.at.saturating_add(plain);
            match mark {
                b'"' => {
                    self.at = self.at.saturating_add(1);
                    return Token::Text(out);
                }
                b'\\' => {}
                _ => {
                    self.index = self.at;
                    return Token::Wrong("unexpected end of string");
                }
            }
            let byte = match escape {
                b'"' | b'\\' | b'/' => escape,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'u' => {
                    let Some((code, bytes)) = unicode(self.rest()) else {
                        self.index = self.at;
                        return Token::Wrong("invalid unicode escape code");
                    };
                    out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
                    self.at = self.at.saturating_add(bytes);
                    continue;
                }
                _ => {
                    self.index = self.at;
                    return Token::Wrong("invalid escape code");
                }
            };
            out.push(byte);
            self.at = self.at.saturating_add(2);
        }
    }
}

/// The character that `text` begins with as `\uXXXX`, or two of them for one beyond 16 bits; and its length.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    let high = unit(text)?;
    if !(0xd800..=0xdfff).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    let low = unit(text.get(6..)?)?;
    if high >= 0xdc00 || !(0xdc00..=0xdfff).contains(&low) {
        return None;
    }
    let code = (high & 0x3ff) << 10 | low & 0x3ff;
    Some((char::from_u32(code.checked_add(0x1_0000)?)?, 12))
}

fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |sum: u32, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// The number that `text` begins with as C's `strtod` reads it, and its length.
fn c_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let negative = text.first() == Some(&b'-');
    let body = text.get(sign..)?;
    let signed = |value: f64| if negative { -value } else { value };
    let starts = |word: &[u8]| body.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if starts(b"infinity") {
        return Some((signed(f64::INFINITY), sign.saturating_add(8)));
    }
    if starts(b"inf") {
        return Some((signed(f64::INFINITY), sign.saturating_add(3)));
    }
    if starts(b"nan") {
        return Some((f64::NAN, sign.saturating_add(3)));
    }
    if starts(b"0x")
        && let Some((value, bytes)) = hexadecimal(body.get(2..)?)
    {
        return Some((signed(value), sign.saturating_add(2).saturating_add(bytes)));
    }
    let digits = |from: usize| body.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    let mut any = whole > 0;
    if body.get(end) == Some(&b'.') {
        let fraction = digits(end.saturating_add(1));
        any |= fraction > 0;
        end = end.saturating_add(1).saturating_add(fraction);
    }
    if !any {
        return None;
    }
    if matches!(body.get(end), Some(b'e' | b'E')) {
        let mut from = end.saturating_add(1);
        if matches!(body.get(from), Some(b'+' | b'-')) {
            from = from.saturating_add(1);
        }
        let exponent = digits(from);
        if exponent > 0 {
            end = from.saturating_add(exponent);
        }
    }
    let number = std::str::from_utf8(body.get(..end)?).ok()?;
    Some((signed(number.parse().ok()?), sign.saturating_add(end)))
}

/// Hexadecimal digits with a fraction and a binary exponent, without the `0x`.
fn hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let (mut value, mut scale, mut at, mut any, mut point) = (0.0f64, 0i32, 0usize, false, false);
    while let Some(byte) = text.get(at) {
        match char::from(*byte).to_digit(16) {
            Some(digit) => {
                value = value * 16.0 + f64::from(digit);
                scale = scale.saturating_sub(if point { 4 } else { 0 });
                any = true;
            }
            None if *byte == b'.' && !point => point = true,
            None => break,
        }
        at = at.saturating_add(1);
    }
    if !any {
        return None;
    }
    if matches!(text.get(at), Some(b'p' | b'P')) {
        let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
        let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let digits = rest.iter().skip(sign).take_while(|byte| byte.is_ascii_digit()).count();
        let length = sign.saturating_add(digits);
        let exponent = rest.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        if digits > 0 {
            let exponent = exponent.and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
            scale = scale.saturating_add(exponent);
            at = at.saturating_add(1).saturating_add(length);
        }
    }
    Some((value * f64::from(scale).exp2(), at))
}
