//! Whole databases: `DBSIZE`, `FLUSHDB`, `FLUSHALL`, `SWAPDB`; and `MEMORY`.

use super::connection::database;
use super::{Command, FREE, Flags, READ_FAST, keyless};
use crate::kv::config::DATABASES;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::keyspace::Keyspace;
use crate::kv::number;

/// Buckets of a flushed database, some four keys each, that are dropped at once: otherwise a client that empties small databases
/// without a pause, as a test suite does, would be quicker than the slices.
const DROPPED_AT_ONCE: usize = 256;

pub(super) const COMMANDS: &[Command] = &[
    keyless("dbsize", 1, READ_FAST, dbsize),
    keyless("flushall", -1, FREE, flushall),
    keyless("flushdb", -1, FREE, flushdb),
    Command { subcommands: MEMORY, ..keyless("memory", -2, Flags::NONE, memory) },
    keyless("swapdb", 3, FREE.and(Flags::FAST), swapdb),
];

const MEMORY: &[(&str, i32)] = &[("memory|doctor", 2), ("memory|help", 2), ("memory|purge", 2), ("memory|usage", -3)];

fn dbsize(call: &mut Call<'_>) -> Result<(), Fault> {
    let keys = call.keyspace.database_info(call.client.db).keys;
    call.reply.integer(keys as i64);
    Ok(())
}

impl Keyspace {
    /// Empties a database. Its memory is given back at once where that is quick, and in slices, by [`Keyspace::tick`], where
    /// it is not.
    fn flush(&mut self, db: u8) {
        if self.database(db).entries.is_empty() {
            return;
        }
        self.touch_watched(db);
        for key in self.waits.keys_of(db) {
            self.waits.note(db, &key);
        }
        let old = std::mem::take(self.database_mut(db));
        if old.entries.buckets() > DROPPED_AT_ONCE {
            self.dying.push(old.entries);
        }
        let store = self.store(db);
        self.effects.flush(store);
    }

    /// Breaks transactions that watch a key of a database which is there.
    fn touch_watched(&mut self, db: u8) {
        for key in self.watches.keys_of(db) {
            if self.find(db, &key).is_some() {
                self.watches.touch(db, &key);
            }
        }
    }
}

/// `ASYNC` and `SYNC` are both answered at once: the memory goes in slices either way.
fn check_mode(call: &Call<'_>) -> Result<(), Fault> {
    match call.rest(1) {
        [] => Ok(()),
        [mode] if mode.eq_ignore_ascii_case(b"ASYNC") || mode.eq_ignore_ascii_case(b"SYNC") => Ok(()),
        _ => Err(Fault::Syntax),
    }
}

fn flushdb(call: &mut Call<'_>) -> Result<(), Fault> {
    check_mode(call)?;
    call.keyspace.flush(call.client.db);
    call.reply.simple("OK");
    Ok(())
}

fn flushall(call: &mut Call<'_>) -> Result<(), Fault> {
    check_mode(call)?;
    (0..DATABASES).for_each(|db| call.keyspace.flush(db));
    call.reply.simple("OK");
    Ok(())
}

fn swapdb(call: &mut Call<'_>) -> Result<(), Fault> {
    let first = database(call.args[1], Fault::Text("ERR invalid first DB index"))?;
    let second = database(call.args[2], Fault::Text("ERR invalid second DB index"))?;
    if first != second {
        let keyspace = &mut *call.keyspace;
        for db in [first, second] {
            keyspace.touch_watched(db);
        }
        keyspace.stores.swap(usize::from(first), usize::from(second));
        keyspace.effects.databases(&keyspace.stores);
        for db in [first, second] {
            keyspace.touch_watched(db);
            for key in keyspace.waits.keys_of(db) {
                keyspace.waits.note(db, &key);
            }
        }
    }
    call.reply.simple("OK");
    Ok(())
}

fn memory(call: &mut Call<'_>) -> Result<(), Fault> {
    match (call.args[1].to_ascii_lowercase().as_slice(), call.rest(2)) {
        (b"usage", [key, options @ ..]) => {
            match options {
                [] => {}
                // Nothing is sampled: sizes are kept.
                [option, samples] if option.eq_ignore_ascii_case(b"SAMPLES") => {
                    if number::integer(samples).ok_or(Fault::NotInteger)? < 0 {
                        return Err(Fault::Syntax);
                    }
                }
                _ => return Err(Fault::Syntax),
            }
            match call.keyspace.glance(call.client.db, key).map(Entry::memory) {
                Some(bytes) => call.reply.integer(bytes as i64),
                None => call.reply.null(),
            }
        }
        (b"purge", []) => call.reply.simple("OK"),
        (b"doctor", []) => call.reply.verbatim(b"Nothing to report: see INFO memory."),
        (b"help", []) => super::answer_help(
            call.reply,
            &[
                "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "USAGE <key> [SAMPLES <count>]",
                "    Return memory in bytes used by <key> and its value.",
            ],
        ),
        _ => return Err(super::unknown_subcommand(call.args[1], "MEMORY")),
    }
    Ok(())
}
