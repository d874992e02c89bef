//! Cold values as the keyspace sees them: reading them back, at once or beforehand.

use std::sync::Arc;

use super::loader::{Read, Wanted};
use super::{Cold, ColdError, Record};
use crate::kv::client::Client;
use crate::kv::clock;
use crate::kv::commands::{Command, keys_of};
use crate::kv::dump;
use crate::kv::entry::Entry;
use crate::kv::error::Fault;
use crate::kv::keyspace::Keyspace;
use crate::kv::table::Place;
use crate::kv::value::Limits;

/// Commands that look at keys, not at values: type, expiry and whether the key is there are in memory. Those that put a
/// value in place of another do not read it either.
const KEYS_ONLY: [&str; 25] = [
    "del",
    "exists",
    "expire",
    "expireat",
    "expiretime",
    "memory",
    "mset",
    "msetnx",
    "persist",
    "pexpire",
    "pexpireat",
    "pexpiretime",
    "psetex",
    "pttl",
    "restore",
    "select",
    "setex",
    "setnx",
    "subscribe",
    "touch",
    "ttl",
    "type",
    "unlink",
    "watch",
    "unwatch",
];

/// Most values one command waits for beforehand; it reads the others as it comes to them.
const MOST: usize = 10_000;

const UNREADABLE: Fault = Fault::Text("ERR the value is on disk and cannot be read; the server's log says why");

impl Keyspace {
    /// Gives values a place on disk: from now on what exceeds the limit of memory moves there.
    pub fn spill_to(&mut self, cold: Cold) {
        self.cold = Some(cold);
    }

    /// The cold files, if there are any.
    pub const fn cold(&self) -> Option<&Cold> {
        self.cold.as_ref()
    }

    /// Reads the value at `place` back if it is on disk. Blocks while it reads.
    pub(in crate::kv) fn thaw(&mut self, store: u8, place: Place) -> Result<(), Fault> {
        let Some(entry) = self.databases[usize::from(store)].entries.get(place).filter(|entry| entry.is_cold()) else {
            return Ok(());
        };
        let wanted = Self::want(self.cold.as_ref(), store, entry).ok_or(UNREADABLE)?;
        let read = wanted.read();
        if self.take_in((wanted, read)) { Ok(()) } else { Err(UNREADABLE) }
    }

    /// As [`Keyspace::thaw`], of a key of a store.
    pub(in crate::kv) fn thaw_key(&mut self, store: u8, key: &[u8]) -> Result<(), Fault> {
        let database = self.databases.get(usize::from(store));
        match database.filter(|database| database.cold.keys > 0).and_then(|database| database.find(&self.hashing, key))
        {
            Some(place) => self.thaw(store, place),
            None => Ok(()),
        }
    }

    /// The cold values `command` is going to read.
    pub fn wanted(&self, command: &Command, client: &Client, args: &[&[u8]]) -> Vec<Wanted> {
        if self.database(client.db).cold.keys == 0 {
            return Vec::new();
        }
        let mut out = Vec::new();
        match &client.queue {
            Some(queue) if command.name == "exec" => {
                for (command, args) in &queue.commands {
                    let args: Vec<&[u8]> = args.iter().map(|arg| &**arg).collect();
                    self.add_wanted(command, client.db, &args, &mut out);
                }
            }
            // Only queued now.
            Some(_) => {}
            None => self.add_wanted(command, client.db, args, &mut out),
        }
        out
    }

    fn add_wanted(&self, command: &Command, db: u8, args: &[&[u8]], out: &mut Vec<Wanted>) {
        if !reads_values(command, args) {
            return;
        }
        let (store, now) = (self.store(db), self.clock.wall);
        let database = self.database(db);
        for key in keys_of::keys(command, args) {
            let place = database.find(&self.hashing, key);
            let entry = place.and_then(|place| database.entries.get(place));
            if let Some(entry) = entry.filter(|entry| entry.is_cold() && entry.expires().is_none_or(|at| at > now))
                && out.len() < MOST
            {
                out.extend(Self::want(self.cold.as_ref(), store, entry));
            }
        }
    }

    /// What it takes to read the value of a cold entry.
    pub(in crate::kv) fn want(cold: Option<&Cold>, store: u8, entry: &Entry) -> Option<Wanted> {
        let spot = entry.spot()?;
        let file = Arc::clone(cold?.file(spot)?);
        Some(Wanted { store, key: entry.key().into(), spot, file })
    }

    /// Takes a value that was read back into memory, unless the key has changed since. `false` when it could not be read.
    pub fn take_in(&mut self, (wanted, read): Read) -> bool {
        let (access, limits) = (self.clock.second(), Limits::of(&self.config));
        let second = self.clock.monotonic.as_secs();
        let Self { databases, hashing, cold: Some(cold), .. } = self else { return false };
        let value = read.and_then(|record: Record| {
            let damaged =
                |_| ColdError::Damaged { path: wanted.file.path().to_owned(), offset: u64::from(wanted.spot.offset) };
            dump::load(&wanted.key, record.dump(), access, limits, hashing).map_err(damaged)
        });
        let mut value = match value {
            Ok(value) => value,
            Err(error) => {
                cold.counts.failed += 1;
                tracing::error!(%error, "a value of the keyspace cannot be read");
                return false;
            }
        };
        let Some(database) = databases.get_mut(usize::from(wanted.store)) else { return true };
        if let Some(place) = database.find(hashing, &wanted.key) {
            database.change(place, |entry| {
                if entry.is_cold() && entry.spot() == Some(wanted.spot) {
                    value.set_expires(entry.expires());
                    // Used right away, so that it is not the first to leave again.
                    value.set_access(clock::used(entry.access(), second));
                    value.set_spot(wanted.spot);
                    *entry = value;
                    cold.counts.read += 1;
                }
            });
        }
        true
    }
}

/// Whether a command reads the values of its keys.
fn reads_values(command: &Command, args: &[&[u8]]) -> bool {
    match command.name {
        "set" => args.get(3..).unwrap_or_default().iter().any(|option| option.eq_ignore_ascii_case(b"GET")),
        "object" => args.get(1).is_some_and(|subcommand| subcommand.eq_ignore_ascii_case(b"encoding")),
        name => !KEYS_ONLY.contains(&name),
    }
}
