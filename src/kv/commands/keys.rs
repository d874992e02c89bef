//! Keys whatever their type: `DEL`, `EXISTS`, `RENAME`, `COPY`, `OBJECT` and their kin.

use super::connection::database;
use super::{Command, FREE, FREE_FAST, GROW, READ, READ_FAST, keyed, keyless};
use crate::kv::clock;
use crate::kv::dump;
use crate::kv::entry::{Body, Entry};
use crate::kv::error::Fault;
use crate::kv::execute::Call;
use crate::kv::glob;
use crate::kv::keyspace::Keyspace;
use crate::kv::value::{Kind, Limits};

pub(super) const COMMANDS: &[Command] = &[
    keyed("copy", -3, GROW, 2, copy),
    keyed("del", -2, FREE, -1, del),
    keyed("exists", -2, READ_FAST, -1, exists),
    keyless("keys", 2, READ, keys),
    keyed("move", 3, FREE_FAST, 1, move_key),
    Command { first_key: 2, subcommands: OBJECT, ..keyed("object", -2, READ, 2, object) },
    keyless("randomkey", 1, READ, randomkey),
    keyed("rename", 3, FREE, 2, |call| rename(call, true)),
    keyed("renamenx", 3, FREE_FAST, 2, |call| rename(call, false)),
    keyed("touch", -2, READ_FAST, -1, touch),
    keyed("type", 2, READ_FAST, 1, kind),
    keyed("unlink", -2, FREE_FAST, -1, del),
];

const OBJECT: &[(&str, i32)] =
    &[("object|encoding", 3), ("object|freq", 3), ("object|help", 2), ("object|idletime", 3), ("object|refcount", 3)];

impl Keyspace {
    /// Puts an entry in place of whatever its key holds, and records it whole.
    pub(in crate::kv) fn store_entry(&mut self, db: u8, entry: Entry) {
        let mut bytes = Vec::new();
        dump::dump(&entry, &mut bytes);
        let store = self.store(db);
        self.effects.restore(store, entry.key(), entry.expires(), &bytes);
        self.put(db, entry);
    }

    /// A copy of what `key` holds, under another key; `None` when it is absent.
    fn copied(&mut self, db: u8, key: &[u8], new_key: &[u8]) -> Result<Option<Entry>, Fault> {
        let (limits, second) = (Limits::of(&self.config), self.clock.second());
        let mut bytes = Vec::new();
        let Some(entry) = self.peek(db, key)? else { return Ok(None) };
        dump::dump(entry, &mut bytes);
        let expires = entry.expires();
        let Ok(mut copy) = dump::load(new_key, &bytes, second, limits, &self.hashing) else { return Ok(None) };
        copy.set_expires(expires);
        Ok(Some(copy))
    }
}

fn del(call: &mut Call<'_>) -> Result<(), Fault> {
    let gone = call.rest(1).iter().filter(|key| call.keyspace.delete(call.client.db, key)).count();
    call.reply.integer(gone as i64);
    Ok(())
}

fn exists(call: &mut Call<'_>) -> Result<(), Fault> {
    let there = call.rest(1).iter().filter(|key| call.keyspace.read_place(call.client.db, key).is_some()).count();
    call.reply.integer(there as i64);
    Ok(())
}

fn touch(call: &mut Call<'_>) -> Result<(), Fault> {
    exists(call)
}

fn kind(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = call.keyspace.look(call.client.db, call.args[1]).map_or("none", |entry| entry.kind().name());
    call.reply.simple(name);
    Ok(())
}

fn keys(call: &mut Call<'_>) -> Result<(), Fault> {
    let pattern = call.args[1];
    let now = call.keyspace.clock.wall;
    let found: Vec<&[u8]> = call
        .keyspace
        .database(call.client.db)
        .entries
        .iter()
        .filter(|entry| entry.expires().is_none_or(|at| at > now) && glob::matches(pattern, entry.key()))
        .map(Entry::key)
        .collect();
    call.reply.array(found.len());
    for key in &found {
        call.reply.bulk(key);
    }
    Ok(())
}

fn randomkey(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keyspace, db) = (&mut *call.keyspace, call.client.db);
    // Expired keys met on the way are deleted; each try leaves one fewer.
    while let Some(place) = keyspace.database(db).entries.sample(&*keyspace.random) {
        let Some(entry) = keyspace.database(db).entries.get(place) else { break };
        if entry.expires().is_none_or(|at| at > keyspace.clock.wall) {
            call.reply.bulk(entry.key());
            return Ok(());
        }
        keyspace.expire_at(db, place);
    }
    call.reply.null();
    Ok(())
}

fn rename(call: &mut Call<'_>, replace: bool) -> Result<(), Fault> {
    let (keyspace, db) = (&mut *call.keyspace, call.client.db);
    let (key, new_key) = (call.args[1], call.args[2]);
    if keyspace.find(db, key).is_none() {
        return Err(Fault::NoSuchKey);
    }
    let taken = !replace && keyspace.find(db, new_key).is_some();
    if key != new_key
        && !taken
        && let Some(entry) = keyspace.copied(db, key, new_key)?
    {
        keyspace.delete(db, key);
        keyspace.store_entry(db, entry);
    }
    if replace {
        call.reply.simple("OK");
    } else {
        call.reply.integer(i64::from(!taken));
    }
    Ok(())
}

fn copy(call: &mut Call<'_>) -> Result<(), Fault> {
    let (key, new_key) = (call.args[1], call.args[2]);
    let (mut target, mut replace) = (call.client.db, false);
    let mut rest = call.rest(3);
    while let Some((option, after)) = rest.split_first() {
        rest = after;
        if option.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"DB") {
            let (number, after) = rest.split_first().ok_or(Fault::Syntax)?;
            target = database(number, Fault::NotInteger)?;
            rest = after;
        } else {
            return Err(Fault::Syntax);
        }
    }
    if key == new_key && target == call.client.db {
        return Err(Fault::Text("ERR source and destination objects are the same"));
    }
    let keyspace = &mut *call.keyspace;
    let taken = !replace && keyspace.find(target, new_key).is_some();
    let entry = if taken { None } else { keyspace.copied(call.client.db, key, new_key)? };
    call.reply.integer(i64::from(entry.is_some()));
    if let Some(entry) = entry {
        keyspace.store_entry(target, entry);
    }
    Ok(())
}

fn move_key(call: &mut Call<'_>) -> Result<(), Fault> {
    let (keyspace, db, key) = (&mut *call.keyspace, call.client.db, call.args[1]);
    let target = database(call.args[2], Fault::NotInteger)?;
    if target == db {
        return Err(Fault::Text("ERR source and destination objects are the same"));
    }
    let entry = if keyspace.find(target, key).is_some() { None } else { keyspace.copied(db, key, key)? };
    call.reply.integer(i64::from(entry.is_some()));
    if let Some(entry) = entry {
        keyspace.delete(db, key);
        keyspace.store_entry(target, entry);
    }
    Ok(())
}

fn object(call: &mut Call<'_>) -> Result<(), Fault> {
    let subcommand = call.args[1].to_ascii_lowercase();
    if subcommand == b"help" {
        super::answer_help(
            call.reply,
            &[
                "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "ENCODING <key>",
                "    Return the kind of internal representation used in order to store the value",
                "    associated with a <key>.",
                "IDLETIME <key>",
                "    Return the idle time of the <key>, that is the approximated number of",
                "    seconds elapsed since the last access to the key.",
                "REFCOUNT <key>",
                "    Return the number of references of the value associated with the specified",
                "    <key>.",
            ],
        );
        return Ok(());
    }
    let (clock, counts) = (call.keyspace.clock, call.keyspace.policy(call.client.db).counts_uses());
    let found = if subcommand == b"encoding" {
        call.keyspace.peek(call.client.db, call.args[2])?
    } else {
        call.keyspace.glance(call.client.db, call.args[2])
    };
    let Some(entry) = found else {
        call.reply.null();
        return Ok(());
    };
    match subcommand.as_slice() {
        b"encoding" => call.reply.bulk(encoding(entry).as_bytes()),
        b"idletime" if counts => {
            return Err(Fault::Text(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        b"idletime" => call.reply.integer(i64::from(clock.idle(entry.access()))),
        b"freq" if counts => {
            call.reply.integer(i64::from(clock::frequency(entry.access(), clock.monotonic.as_secs())));
        }
        b"refcount" => call.reply.integer(1),
        _ => {
            return Err(Fault::Text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
    }
    Ok(())
}

/// The name Redis has for the nearest form.
fn encoding(entry: &Entry) -> &'static str {
    let packed = matches!(entry.body(), Body::Packed(_));
    match entry.kind() {
        Kind::String if entry.as_integer().is_some() => "int",
        // Redis keeps strings of up to 44 bytes in one allocation; here all are.
        Kind::String if entry.text().len() <= 44 => "embstr",
        Kind::String => "raw",
        Kind::List if packed => "listpack",
        Kind::List => "quicklist",
        Kind::Set if packed && entry.set().is_integers() => "intset",
        Kind::Stream => "stream",
        Kind::ZSet if !packed => "skiplist",
        Kind::Set | Kind::Hash | Kind::ZSet if packed => "listpack",
        Kind::Set | Kind::Hash | Kind::ZSet => "hashtable",
    }
}
