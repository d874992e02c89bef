//! The command table, a file per family.
//!
//! Each family lists its commands with what `COMMAND` tells about them. A command gets a
//! [`Call`](super::execute::Call), writes one reply and returns a [`Fault`](super::Fault) instead when it fails; it must
//! not have written or changed anything by then.
#![expect(clippy::unnecessary_wraps, reason = "every command has the one signature of `Run`")]

mod bits;
mod blocking;
mod connection;
mod databases;
mod dump_restore;
mod expiry;
pub mod functions;
mod geo;
mod geo_search;
mod hashes;
mod hyperloglogs;
mod keys;
pub mod keys_of;
mod lcs;
mod lists;
mod multi_pops;
mod pubsub;
mod scan;
mod scripting;
mod server;
mod sets;
mod sort;
mod stream_groups;
mod stream_info;
pub(in crate::kv) mod stream_reads;
mod streams;
mod strings;
mod throttle;
mod transactions;
mod zset_algebra;
mod zset_random;
mod zset_ranges;
mod zsets;

use super::entry::Entry;
use super::error::Fault;
use super::execute::Call;
use super::number;
use super::reply::Reply;
use super::table::Hashing;
use super::value::Kind;
use crate::base::{Random, random};

/// How a command runs.
pub type Run = fn(&mut Call<'_>) -> Result<(), Fault>;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// Number of arguments, the name counted; negative when that is the least.
    pub arity: i32,
    /// What it does.
    pub flags: Flags,
    /// Index of the first key; 0 when there is none or it moves.
    pub first_key: i32,
    /// Index of the last key; negative counts from the end.
    pub last_key: i32,
    /// Steps from key to key.
    pub step: i32,
    /// How it runs; `None` for commands of the door (`HELLO`, `INFO`, …).
    pub run: Option<Run>,
    /// Where the first argument names one of a few subcommands: their full names (`object|encoding`) and arities. Empty
    /// when any first argument goes, or when the command looks for itself.
    pub subcommands: &'static [(&'static str, i32)],
}

impl Command {
    /// Whether it may have `count` arguments, the name counted.
    pub const fn takes(&self, count: usize) -> bool {
        takes(self.arity, count)
    }

    /// Checks the number of arguments and the subcommand; `args` starts with the name.
    pub(super) fn check(&self, args: &[&[u8]]) -> Result<(), Fault> {
        if !self.takes(args.len()) {
            return Err(Fault::Arity(self.name));
        }
        let Some(given) = args.get(1).filter(|_| !self.subcommands.is_empty()) else { return Ok(()) };
        let named = |(name, _): &&(&str, i32)| {
            name.split_once('|').is_some_and(|(_, name)| name.as_bytes().eq_ignore_ascii_case(given))
        };
        match self.subcommands.iter().find(named) {
            Some((_, arity)) if takes(*arity, args.len()) => Ok(()),
            Some((name, _)) => Err(Fault::Arity(name)),
            None => Err(unknown_subcommand(given, &self.name.to_ascii_uppercase())),
        }
    }
}

/// Whether `arity` allows `count` arguments.
const fn takes(arity: i32, count: usize) -> bool {
    let least = arity.unsigned_abs() as usize;
    if arity < 0 { count >= least } else { count == least }
}

/// What a command does, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Changes keys.
    pub const WRITE: Self = Self(1);
    /// Reads keys only.
    pub const READONLY: Self = Self(1 << 1);
    /// Refused when memory is full.
    pub const DENYOOM: Self = Self(1 << 2);
    /// Takes constant or logarithmic time.
    pub const FAST: Self = Self(1 << 3);
    /// May block its client.
    pub const BLOCKING: Self = Self(1 << 4);
    /// About channels.
    pub const PUBSUB: Self = Self(1 << 5);
    /// Not from scripts.
    pub const NOSCRIPT: Self = Self(1 << 6);
    /// Keys cannot be told from first, last and step alone.
    pub const MOVABLE_KEYS: Self = Self(1 << 7);
    /// For operators.
    pub const ADMIN: Self = Self(1 << 8);
    /// Allowed before `AUTH`.
    pub const NO_AUTH: Self = Self(1 << 9);
    /// Not inside of a transaction.
    pub const NO_MULTI: Self = Self(1 << 10);
    /// Runs at once inside of a transaction (`EXEC` and its kin).
    pub const AT_ONCE: Self = Self(1 << 11);
    /// Allowed to RESP2 clients with subscriptions.
    pub const SUBSCRIBED: Self = Self(1 << 12);
    /// Answered while the server loads, and by stale replicas; neither happens here, but clients see the flags.
    pub const LOADING: Self = Self(1 << 13);
    /// May run a script.
    pub const SCRIPT: Self = Self(1 << 14);
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names `COMMAND INFO` shows.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Flags, &str); 13] = [
            (Flags::WRITE, "write"),
            (Flags::READONLY, "readonly"),
            (Flags::DENYOOM, "denyoom"),
            (Flags::ADMIN, "admin"),
            (Flags::PUBSUB, "pubsub"),
            (Flags::NOSCRIPT, "noscript"),
            (Flags::BLOCKING, "blocking"),
            (Flags::LOADING, "loading"),
            (Flags::LOADING, "stale"),
            (Flags::FAST, "fast"),
            (Flags::NO_AUTH, "no_auth"),
            (Flags::NO_MULTI, "no_multi"),
            (Flags::MOVABLE_KEYS, "movablekeys"),
        ];
        NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
/// Changes keys and may add memory.
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);
/// Changes keys and only frees memory.
const FREE: Flags = Flags::WRITE;
const FREE_FAST: Flags = Flags::WRITE.and(Flags::FAST);

/// A command on keys from `first` to `last`, one after the other.
const fn keyed(name: &'static str, arity: i32, flags: Flags, last_key: i32, run: Run) -> Command {
    Command { name, arity, flags, first_key: 1, last_key, step: 1, run: Some(run), subcommands: &[] }
}

/// A command on no key, or on keys that cannot be told by position.
const fn keyless(name: &'static str, arity: i32, flags: Flags, run: Run) -> Command {
    Command { name, arity, flags, first_key: 0, last_key: 0, step: 0, run: Some(run), subcommands: &[] }
}

/// A command the door runs.
const fn door(name: &'static str, arity: i32, flags: Flags) -> Command {
    Command { name, arity, flags, first_key: 0, last_key: 0, step: 0, run: None, subcommands: &[] }
}

/// All families.
static FAMILIES: &[&[Command]] = &[
    bits::COMMANDS,
    blocking::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    dump_restore::COMMANDS,
    expiry::COMMANDS,
    functions::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hashes::COMMANDS,
    hyperloglogs::COMMANDS,
    keys::COMMANDS,
    lcs::COMMANDS,
    lists::COMMANDS,
    multi_pops::COMMANDS,
    pubsub::COMMANDS,
    scan::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    sets::COMMANDS,
    sort::COMMANDS,
    stream_groups::COMMANDS,
    stream_info::COMMANDS,
    stream_reads::COMMANDS,
    streams::COMMANDS,
    strings::COMMANDS,
    throttle::COMMANDS,
    transactions::COMMANDS,
    zset_algebra::COMMANDS,
    zset_random::COMMANDS,
    zset_ranges::COMMANDS,
    zsets::COMMANDS,
];

/// Longest command name.
const LONGEST: usize = 24;

const SLOTS: usize = 1024;

/// Slot of a name -> family and index in it, both plus one in a byte; 0 is free. Open addressing, built at compile time.
static INDEX: [[u8; 2]; SLOTS] = index();

const fn slot(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

const fn index() -> [[u8; 2]; SLOTS] {
    let mut index = [[0; 2]; SLOTS];
    let mut family = 0;
    while family < FAMILIES.len() {
        let mut at = 0;
        while at < FAMILIES[family].len() {
            let mut place = slot(FAMILIES[family][at].name.as_bytes());
            while index[place][0] != 0 {
                place = (place + 1) % SLOTS;
            }
            index[place] = [family as u8 + 1, at as u8 + 1];
            at += 1;
        }
        family += 1;
    }
    index
}

/// The command called `name`, in whatever case.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    if name.len() > LONGEST {
        return None;
    }
    let mut place = slot(name);
    loop {
        let [family, at] = INDEX[place];
        let command =
            FAMILIES.get(usize::from(family).checked_sub(1)?).and_then(|family| family.get(usize::from(at) - 1))?;
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        place = (place + 1) % SLOTS;
    }
}

/// Every command, by family.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// A range of indexes from `start` to `end`, both included and negative ones counted from the end, within `len`
/// elements. Empty when nothing is in it.
fn range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let whole = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { index.saturating_add(whole).max(0) } else { index };
    let (start, end) = (from_end(start), if end < 0 { end.saturating_add(whole) } else { end.min(whole - 1) });
    if start > end || start >= whole { 0..0 } else { start as usize..end as usize + 1 }
}

/// Runs `work` with the entry at argument `index`, if it is there and of `kind`, and with the rest of the call.
fn with_entry<R>(
    call: &mut Call<'_>,
    index: usize,
    kind: Kind,
    work: impl FnOnce(Option<&Entry>, &mut dyn Reply, &Hashing) -> R,
) -> Result<R, Fault> {
    let place = call.keyspace.read_place(call.client.db, call.arg(index)?);
    if let Some(place) = place {
        let database = call.keyspace.database(call.client.db);
        if database.entries.get(place).is_some_and(|entry| entry.kind() != kind) {
            return Err(Fault::WrongType);
        }
        call.keyspace.thaw(call.keyspace.store(call.client.db), place)?;
    }
    let keyspace = &*call.keyspace;
    let entry = place.and_then(|place| keyspace.database(call.client.db).entries.get(place));
    Ok(work(entry, call.reply, &keyspace.hashing))
}

/// A count that must not be negative.
fn count(call: &Call<'_>, index: usize) -> Result<usize, Fault> {
    number::integer(call.arg(index)?).and_then(|count| usize::try_from(count).ok()).ok_or(Fault::NotPositive)
}

/// Most draws with repetition one command answers (`SRANDMEMBER key -n`): a reply has to end somewhere.
const MOST_DRAWN: u64 = 1_000_000;

/// A count of draws: with repetition when negative.
fn draws(call: &Call<'_>, index: usize) -> Result<i64, Fault> {
    let count = call.integer(index)?;
    if count < 0 && count.unsigned_abs() > MOST_DRAWN { Err(Fault::CountRange) } else { Ok(count) }
}

/// Refuses a count of draws that would not fit when each is answered by two values.
fn check_pairs(count: Option<i64>, paired: bool) -> Result<(), Fault> {
    let most = i64::MAX.unsigned_abs() / 2;
    let fits = !paired || count.is_none_or(|count| count.unsigned_abs() <= most);
    if fits { Ok(()) } else { Err(Fault::Text("ERR value is out of range")) }
}

/// Keeps `count` of the items, drawn without repetition, in random order.
fn keep_random<T>(items: &mut Vec<T>, count: usize, random: &dyn Random) {
    let count = count.min(items.len());
    for at in 0..count {
        let other = at + random::below(random, (items.len() - at) as u64) as usize;
        items.swap(at, other);
    }
    items.truncate(count);
}

/// The error of a subcommand nobody knows.
fn unknown_subcommand(name: &[u8], command: &str) -> Fault {
    let shown = name.get(..128).unwrap_or(name);
    Fault::quoting(&[b"ERR unknown subcommand '", shown, b"'. Try ", command.as_bytes(), b" HELP."])
}

/// Answers the lines of a `HELP` subcommand, and the one about `HELP` itself.
fn answer_help(reply: &mut dyn Reply, lines: &[&str]) {
    reply.array(lines.len() + 2);
    lines.iter().chain(&["HELP", "    Print this help."]).for_each(|line| reply.simple(line));
}
