//! Strings as rows of bits: `SETBIT`, `BITCOUNT`, `BITOP`, `BITFIELD` and their kin. Bit 0 is the highest of the first
//! byte.

use super::{Command, Flags, GROW, READ, READ_FAST, keyed, keyless};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Edit, Missing};
use crate::kv::number;
use crate::kv::value::Kind;

pub(super) const COMMANDS: &[Command] = &[
    keyed("bitcount", -2, READ, 1, count),
    keyed("bitfield", -2, GROW, 1, |call| field(call, false)),
    keyed("bitfield_ro", -2, READ_FAST, 1, |call| field(call, true)),
    Command { first_key: 2, last_key: -1, step: 1, ..keyless("bitop", -4, GROW, combine) },
    keyed("bitpos", -3, READ, 1, position),
    keyed("getbit", 3, Flags::READONLY.and(Flags::FAST), 1, get),
    keyed("setbit", 4, GROW, 1, set),
];

const BAD_OFFSET: Fault = Fault::Text("ERR bit offset is not an integer or out of range");

/// A bit's number within the longest string there may be; `#n` counts in steps of `width` where that is given.
fn offset(call: &Call<'_>, text: &[u8], width: Option<u64>) -> Result<u64, Fault> {
    let (digits, step) = match (text.strip_prefix(b"#"), width) {
        (Some(digits), Some(width)) => (digits, width),
        _ => (text, 1),
    };
    number::integer(digits)
        .and_then(|number| u64::try_from(number).ok()?.checked_mul(step))
        .filter(|bit| bit / 8 < call.keyspace.config.max_value.bytes())
        .ok_or(BAD_OFFSET)
}

fn bit_of(bytes: &[u8], bit: u64) -> u8 {
    bytes.get((bit / 8) as usize).map_or(0, |byte| byte >> (7 - bit % 8) & 1)
}

impl Edit<'_> {
    /// Writes bytes into a string that may have to grow for them, unless they are there already.
    fn overwrite(&mut self, at: usize, bytes: &[u8], most: usize) {
        if self.entry.text().get(at..at + bytes.len()) != Some(bytes) {
            self.entry.set_range(at as u64, bytes, most);
            self.effects.set_range(self.store, self.key, at as u64, bytes);
        }
    }
}

fn set(call: &mut Call<'_>) -> Result<(), Fault> {
    let bit = offset(call, call.args[2], None)?;
    let on = match call.args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fault::Text("ERR bit is not an integer or out of range")),
    };
    let most = call.keyspace.config.max_value.as_usize();
    let old = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let at = (bit / 8) as usize;
        let text = edit.entry.text();
        let (old, byte) = (bit_of(&text, bit), text.get(at).copied().unwrap_or(0));
        let mask = 0x80 >> (bit % 8);
        edit.overwrite(at, &[if on { byte | mask } else { byte & !mask }], most);
        Ok(old)
    })?;
    call.reply.integer(i64::from(old.unwrap_or(0)));
    Ok(())
}

fn get(call: &mut Call<'_>) -> Result<(), Fault> {
    let bit = offset(call, call.args[2], None)?;
    let entry = call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)?;
    let value = entry.map_or(0, |entry| bit_of(&entry.text(), bit));
    call.reply.integer(i64::from(value));
    Ok(())
}

/// The range of `BITCOUNT` and `BITPOS`, from the arguments behind the key and the bit.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: i64,
    end: Option<i64>,
    bits: bool,
}

/// Which of two wrong arguments is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    End,
    Unit,
}

impl Range {
    fn read(args: &[&[u8]], first: Told) -> Result<Self, Fault> {
        if args.len() > 3 {
            return Err(Fault::Syntax);
        }
        let read = |text| number::integer(text).ok_or(Fault::NotInteger);
        let start = args.first().map_or(Ok(0), |text| read(text))?;
        let end = args.get(1).map(|text| read(text)).transpose();
        let bits = match args.get(2) {
            None => Ok(false),
            Some(unit) if unit.eq_ignore_ascii_case(b"BIT") => Ok(true),
            Some(unit) if unit.eq_ignore_ascii_case(b"BYTE") => Ok(false),
            Some(_) => Err(Fault::Syntax),
        };
        match first {
            Told::End => Ok(Self { start, end: end?, bits: bits? }),
            Told::Unit => Ok(Self { start, bits: bits?, end: end? }),
        }
    }

    /// The bits in it, of a string of `bytes` bytes, the last one included; `None` when there are none.
    fn within(self, bytes: usize) -> Option<(u64, u64)> {
        let unit = if self.bits { 1 } else { 8 };
        let total = i64::try_from(bytes).ok()? * (8 / unit);
        let place = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
        let end = self.end.unwrap_or(-1);
        let (start, end) = (place(self.start), place(end).min(total - 1));
        (start <= end).then(|| ((start * unit).unsigned_abs(), (end * unit + unit - 1).unsigned_abs()))
    }
}

/// The bytes that hold bits `first` to `last`, those beside them cleared (or set, to look for clear ones).
fn masked(bytes: &[u8], first: u64, last: u64, outside: u8) -> impl Iterator<Item = u8> + '_ {
    let (start, end) = ((first / 8) as usize, (last / 8) as usize);
    let (head, tail) = (0xff_u8 >> (first % 8), !(0x7f_u8 >> (last % 8)));
    bytes.get(start..=end).unwrap_or_default().iter().enumerate().map(move |(at, byte)| {
        let mask = (if at == 0 { head } else { 0xff }) & (if start + at == end { tail } else { 0xff });
        byte & mask | outside & !mask
    })
}

fn count(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.args.len() == 3 {
        return Err(Fault::Syntax);
    }
    let range = Range::read(call.rest(2), Told::End)?;
    // Unlike in BITPOS, two ends before the first bit the wrong way round are no range.
    let turned = range.start < 0 && range.end.is_some_and(|end| end < 0 && range.start > end);
    let entry = call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)?;
    let ones = entry.filter(|_| !turned).map_or(0, |entry| {
        let text = entry.text();
        range
            .within(text.len())
            .map_or(0, |(first, last)| masked(&text, first, last, 0).map(|byte| i64::from(byte.count_ones())).sum())
    });
    call.reply.integer(ones);
    Ok(())
}

fn position(call: &mut Call<'_>) -> Result<(), Fault> {
    let wanted = match call.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(Fault::Text("ERR The bit argument must be 1 or 0.")),
    };
    let range = Range::read(call.rest(3), Told::Unit)?;
    let Some(entry) = call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)? else {
        call.reply.integer(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let text = entry.text();
    let found = range.within(text.len()).map_or(-1, |(first, last)| {
        let flip = if wanted { 0 } else { 0xff };
        let hit = masked(&text, first, last, flip)
            .map(|byte| byte ^ flip)
            .enumerate()
            .find(|(_, byte)| *byte != 0)
            .map(|(at, byte)| (first / 8 * 8) as i64 + 8 * at as i64 + i64::from(byte.leading_zeros()));
        // Without an end, the string goes on with clear bits.
        hit.unwrap_or(if wanted || range.end.is_some() { -1 } else { 8 * text.len() as i64 })
    });
    call.reply.integer(found);
    Ok(())
}

/// How `BITOP` puts strings together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    And,
    Or,
    Xor,
    Not,
}

impl Merge {
    fn read(text: &[u8]) -> Result<Self, Fault> {
        Ok(match text.to_ascii_uppercase().as_slice() {
            b"AND" => Self::And,
            b"OR" => Self::Or,
            b"XOR" => Self::Xor,
            b"NOT" => Self::Not,
            _ => return Err(Fault::Syntax),
        })
    }

    /// Puts `source` into `result`; the shorter of both goes on with zeros.
    fn put(self, result: &mut Vec<u8>, source: &[u8]) {
        if result.len() < source.len() {
            result.resize(source.len(), 0);
        }
        let (common, rest) = result.split_at_mut(source.len());
        let pairs = common.iter_mut().zip(source);
        match self {
            Self::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Self::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Self::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Self::Not => pairs.for_each(|(byte, other)| *byte = !other),
        }
    }
}

fn combine(call: &mut Call<'_>) -> Result<(), Fault> {
    let merge = Merge::read(call.args[1])?;
    if merge == Merge::Not && call.args.len() != 4 {
        return Err(Fault::Text("ERR BITOP NOT must be called with a single source key."));
    }
    let (db, target) = (call.client.db, call.args[2]);
    let mut result: Option<Vec<u8>> = None;
    for key in call.rest(3) {
        let text = call.keyspace.read_kind(db, key, Kind::String)?.map(Entry::text);
        let source: &[u8] = text.as_deref().unwrap_or_default();
        match &mut result {
            None if merge == Merge::Not => merge.put(result.insert(Vec::new()), source),
            None => result = Some(source.to_vec()),
            Some(result) => merge.put(result, source),
        }
    }
    let result = result.unwrap_or_default();
    if result.is_empty() {
        call.keyspace.delete(db, target);
    } else {
        super::strings::store(call, target, &result, None);
    }
    call.reply.integer(result.len() as i64);
    Ok(())
}

/// What happens to a number that does not fit its field.
#[derive(Clone, Copy, Debug)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

/// The type of a field: `i8`, `u63`.
#[derive(Clone, Copy, Debug)]
struct Width {
    signed: bool,
    bits: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One operation of `BITFIELD`.
#[derive(Clone, Copy, Debug)]
struct Operation {
    width: Width,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

impl Width {
    fn read(text: &[u8]) -> Result<Self, Fault> {
        let wrong = Fault::Text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(wrong),
        };
        let most = if signed { 64 } else { 63 };
        let bits = number::integer(digits).and_then(|bits| u64::try_from(bits).ok());
        bits.filter(|bits| (1..=most).contains(bits)).map(|bits| Self { signed, bits }).ok_or(wrong)
    }

    /// The number in the field's bits.
    fn number(self, bits: u64) -> i64 {
        let spare = 64 - self.bits;
        if self.signed { (bits << spare).cast_signed() >> spare } else { bits.cast_signed() }
    }

    /// `wanted` as it fits into the field; `None` when it does not and must.
    fn fit(self, wanted: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = if self.signed {
            (-(1_i128 << (self.bits - 1)), (1_i128 << (self.bits - 1)) - 1)
        } else {
            (0, (1_i128 << self.bits) - 1)
        };
        if (least..=most).contains(&wanted) {
            return i64::try_from(wanted).ok();
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => i64::try_from(wanted.clamp(least, most)).ok(),
            Overflow::Wrap => Some(self.number(wanted as u64 & (u64::MAX >> (64 - self.bits)))),
        }
    }
}

/// The bits from `offset` on as a number.
fn bits_at(bytes: &[u8], offset: u64, bits: u64) -> u64 {
    (offset..offset + bits).fold(0, |number, bit| number << 1 | u64::from(bit_of(bytes, bit)))
}

fn operations(call: &Call<'_>, read_only: bool) -> Result<Vec<Operation>, Fault> {
    let (mut operations, mut overflow) = (Vec::new(), Overflow::Wrap);
    let mut rest = call.rest(2);
    loop {
        let (name, behind) = match rest {
            [] => return Ok(operations),
            [name, behind @ ..] => (name.to_ascii_uppercase(), behind),
        };
        let action = match (name.as_slice(), behind) {
            (b"OVERFLOW", [how, behind @ ..]) => {
                overflow = match how.to_ascii_uppercase().as_slice() {
                    b"WRAP" => Overflow::Wrap,
                    b"SAT" => Overflow::Saturate,
                    b"FAIL" => Overflow::Fail,
                    _ => return Err(Fault::Text("ERR Invalid OVERFLOW type specified")),
                };
                rest = behind;
                continue;
            }
            (b"GET", [_, _, ..]) => Action::Get,
            (b"SET", [_, _, _, ..]) => Action::Set(0),
            (b"INCRBY", [_, _, _, ..]) => Action::Add(0),
            _ => return Err(Fault::Syntax),
        };
        let width = Width::read(behind[0])?;
        let offset = offset(call, behind[1], Some(width.bits))?;
        let value = || number::integer(behind[2]).ok_or(Fault::NotInteger);
        let (action, taken) = match action {
            Action::Get => (Action::Get, 2),
            _ if read_only => {
                return Err(Fault::Text("ERR BITFIELD_RO only supports the GET subcommand"));
            }
            Action::Set(_) => (Action::Set(value()?), 3),
            Action::Add(_) => (Action::Add(value()?), 3),
        };
        operations.push(Operation { width, offset, action, overflow });
        rest = behind.get(taken..).unwrap_or_default();
    }
}

fn field(call: &mut Call<'_>, read_only: bool) -> Result<(), Fault> {
    let operations = operations(call, read_only)?;
    let writes = operations.iter().filter(|operation| !matches!(operation.action, Action::Get));
    let Some(end) = writes.map(|operation| operation.offset + operation.width.bits).max() else {
        let entry = call.keyspace.read_kind(call.client.db, call.args[1], Kind::String)?;
        let text = entry.map(|entry| entry.text());
        let bytes: &[u8] = text.as_deref().unwrap_or_default();
        call.reply.array(operations.len());
        for Operation { width, offset, .. } in operations {
            call.reply.integer(width.number(bits_at(bytes, offset, width.bits)));
        }
        return Ok(());
    };
    let most = call.keyspace.config.max_value.as_usize();
    let needed = end.div_ceil(8) as usize;
    if needed > most {
        return Err(BAD_OFFSET);
    }
    let answers = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let before = edit.effects.mark();
        if edit.entry.text().len() < needed {
            edit.overwrite(needed - 1, &[0], most);
        }
        let answers: Vec<Option<i64>> = operations.iter().map(|operation| operation.run(edit, most)).collect();
        // A string that has only grown, since no number fits, is no event.
        let wrote = operations
            .iter()
            .zip(&answers)
            .any(|(operation, answer)| !matches!(operation.action, Action::Get) && answer.is_some());
        if wrote && edit.effects.mark() != before {
            edit.notes.fields_written(edit.effects.mark(), edit.db, edit.key);
        }
        Ok(answers)
    })?;
    let answers = answers.unwrap_or_default();
    call.reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => call.reply.integer(number),
            None => call.reply.null(),
        }
    }
    Ok(())
}

impl Operation {
    /// Runs it on a string long enough; `None` when the number does not fit.
    fn run(self, edit: &mut Edit<'_>, most: usize) -> Option<i64> {
        let Self { width, offset, action, overflow } = self;
        let old = width.number(bits_at(&edit.entry.text(), offset, width.bits));
        let new = match action {
            Action::Get => return Some(old),
            // A negative number for an unsigned field is a large one.
            Action::Set(value) if !width.signed => width.fit(i128::from(value.cast_unsigned()), overflow)?,
            Action::Set(value) => width.fit(i128::from(value), overflow)?,
            Action::Add(by) => width.fit(i128::from(old) + i128::from(by), overflow)?,
        };
        let (start, end) = ((offset / 8) as usize, ((offset + width.bits).div_ceil(8)) as usize);
        let mut bytes = edit.entry.text().get(start..end).map(<[u8]>::to_vec).unwrap_or_default();
        for nth in 0..width.bits {
            let bit = offset % 8 + nth;
            let mask = 0x80_u8 >> (bit % 8);
            let on = new.cast_unsigned() >> (width.bits - 1 - nth) & 1 == 1;
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte = if on { *byte | mask } else { *byte & !mask };
            }
        }
        edit.overwrite(start, &bytes, most);
        Some(if matches!(action, Action::Set(_)) { old } else { new })
    }
}
