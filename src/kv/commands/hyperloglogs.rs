//! `HyperLogLog`s: `PFADD`, `PFCOUNT`, `PFMERGE`.

use super::{Command, GROW, GROW_FAST, READ, keyed};
use crate::base::hyperloglog::{Registers, Sketch, Wrong, estimate, merge};
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::{Edit, Missing};
use crate::kv::value::Kind;

pub(super) const COMMANDS: &[Command] = &[
    keyed("pfadd", -2, GROW_FAST, 1, add),
    keyed("pfcount", -2, READ, -1, count),
    keyed("pfmerge", -2, GROW, -1, merge_all),
];

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Other => Self::Text("WRONGTYPE Key is not a valid HyperLogLog string value."),
            Wrong::Corrupt => Self::Text("INVALIDOBJ Corrupted HLL object detected"),
        }
    }
}

impl Edit<'_> {
    fn sketch(&self) -> Result<Sketch, Fault> {
        if self.fresh { Ok(Sketch::new()) } else { Ok(Sketch::read(&self.entry.text())?) }
    }

    /// Writes a sketch back: of the same length, only the part that is another.
    fn put_sketch(&mut self, sketch: &Sketch) {
        let (old, new) = (self.entry.text(), sketch.bytes());
        if !self.fresh && old.len() == new.len() {
            let differs = |(old, new): (&u8, &u8)| old != new;
            let Some(start) = old.iter().zip(new).position(differs) else { return };
            let end = old.iter().zip(new).rposition(differs).map_or(start, |last| last + 1);
            let part = new.get(start..end).unwrap_or_default();
            self.entry.set_range(start as u64, part, new.len());
            self.effects.set_range(self.store, self.key, start as u64, part);
        } else {
            self.entry.set_string(new);
            self.effects.set(self.store, self.key, self.entry.expires(), new);
        }
    }
}

fn add(call: &mut Call<'_>) -> Result<(), Fault> {
    let elements = call.rest(2);
    let changed = call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let mut sketch = edit.sketch()?;
        let mut changed = edit.fresh;
        for element in elements {
            changed |= sketch.add(element)?;
        }
        if changed {
            sketch.note(None);
            edit.put_sketch(&sketch);
        }
        Ok(changed)
    })?;
    call.reply.integer(i64::from(changed.unwrap_or(false)));
    Ok(())
}

/// The `HyperLogLog` under a key, if there is one.
fn find(call: &mut Call<'_>, key: &[u8]) -> Result<Option<Sketch>, Fault> {
    let entry = call.keyspace.read_kind(call.client.db, key, Kind::String)?;
    Ok(entry.map(Entry::text).map(|text| Sketch::read(&text)).transpose()?)
}

fn count(call: &mut Call<'_>) -> Result<(), Fault> {
    let keys = call.rest(1);
    if let [key] = keys {
        let found = find(call, key)?;
        let number = match found.as_ref().map(|sketch| sketch.noted().ok_or(sketch)) {
            None => 0,
            Some(Ok(noted)) => noted,
            Some(Err(sketch)) => {
                let number = estimate(&sketch.registers()?);
                note(call, key, number)?;
                number
            }
        };
        call.reply.integer(number.cast_signed());
        return Ok(());
    }
    let mut registers = Registers::new();
    for key in keys {
        if let Some(sketch) = find(call, key)? {
            merge(&mut registers, &sketch.registers()?);
        }
    }
    let number = if registers.is_empty() { 0 } else { estimate(&registers) };
    call.reply.integer(number.cast_signed());
    Ok(())
}

/// Keeps an estimate in the string, as Redis does though the command only reads: whoever copies the string finds it.
fn note(call: &mut Call<'_>, key: &[u8], number: u64) -> Result<(), Fault> {
    call.keyspace.edit(call.client.db, key, Kind::String, Missing::Skip, |edit| {
        let mut sketch = edit.sketch()?;
        sketch.note(Some(number));
        edit.put_sketch(&sketch);
        Ok(())
    })?;
    Ok(())
}

fn merge_all(call: &mut Call<'_>) -> Result<(), Fault> {
    let (mut registers, mut dense) = (Registers::new(), false);
    for key in call.rest(1) {
        if let Some(sketch) = find(call, key)? {
            dense |= sketch.is_dense();
            merge(&mut registers, &sketch.registers()?);
        }
    }
    call.keyspace.edit(call.client.db, call.args[1], Kind::String, Missing::Create, |edit| {
        let mut sketch = edit.sketch()?;
        if dense {
            sketch.make_dense()?;
        }
        for (register, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
            sketch.raise(register, *value)?;
        }
        sketch.note(None);
        edit.put_sketch(&sketch);
        Ok(())
    })?;
    call.reply.simple("OK");
    Ok(())
}
