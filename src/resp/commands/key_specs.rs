//! What `COMMAND` tells about keys: where they stand, and what is done with them.
//!
//! Where keys of a given request stand is found by [`keys_of`](crate::kv::commands::keys_of); this is its description for
//! clients that route by keys. Source: the documentation of Redis, "Command key specifications".

use crate::kv::{Command, Flags, Reply};

/// Where to begin to look for keys.
#[derive(Clone, Copy, Debug)]
enum Begin {
    Index(i32),
    Keyword(&'static str, i32),
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug)]
enum Find {
    /// Up to the last, in steps; of the rest only one in so many.
    Range {
        last: i32,
        step: i32,
        limit: i32,
    },
    /// As many as the number there says, which follow it.
    Counted,
    Unknown,
}

/// One specification.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    begin: Begin,
    find: Find,
    flags: &'static [&'static str],
}

type Access = &'static [&'static str];

const READ: Access = &["RO", "access"];
const LOOK: Access = &["RO"];
const OVERWRITE: Access = &["OW", "update"];
const OVERWRITE_NEW: Access = &["OW", "insert"];
const INSERT: Access = &["RW", "insert"];
const UPDATE: Access = &["RW", "update"];
const READ_UPDATE: Access = &["RW", "access", "update"];
const READ_DELETE: Access = &["RW", "access", "delete"];
const DELETE: Access = &["RW", "delete"];
const REMOVE: Access = &["RM", "delete"];

const CHANNEL: Access = &["not_key"];

/// What is done with the `nth` key of `command`.
pub fn access(command: &Command, nth: usize) -> Access {
    if nth == 0 {
        match command.name {
            "rename" | "renamenx" | "move" | "lmove" | "rpoplpush" | "blmove" | "brpoplpush" | "smove" => {
                return READ_DELETE;
            }
            "copy" | "sort" | "georadius" | "georadiusbymember" => return READ,
            _ => {}
        }
    } else if command.name.ends_with("store") || matches!(command.name, "bitop" | "pfmerge") {
        return READ;
    }
    match command.name {
        "exists" | "expiretime" | "hexists" | "hlen" | "hstrlen" | "llen" | "object" | "pexpiretime" | "pfcount"
        | "pttl" | "scard" | "sismember" | "smismember" | "strlen" | "touch" | "ttl" | "type" | "watch" | "xlen"
        | "zcard" | "memory" | "sintercard" | "zintercard" => LOOK,
        "set" | "mset" | "msetnx" | "psetex" | "setex" | "restore" | "rename" | "copy" | "sort" | "georadius"
        | "georadiusbymember" | "bitop" => OVERWRITE,
        "setnx" | "renamenx" => OVERWRITE_NEW,
        "del" | "unlink" => REMOVE,
        "getdel" | "lpop" | "rpop" | "spop" | "zpopmin" | "zpopmax" | "blpop" | "brpop" | "bzpopmin" | "bzpopmax"
        | "lmpop" | "blmpop" | "zmpop" | "bzmpop" => READ_DELETE,
        "append" | "lpush" | "rpush" | "lpushx" | "rpushx" | "linsert" | "sadd" | "hsetnx" | "pfadd" | "lmove"
        | "rpoplpush" | "blmove" | "brpoplpush" | "smove" => INSERT,
        "hdel" | "srem" | "zrem" | "lrem" | "ltrim" | "xdel" | "xtrim" | "zremrangebylex" | "zremrangebyrank"
        | "zremrangebyscore" => DELETE,
        "decr" | "decrby" | "incr" | "incrby" | "incrbyfloat" | "getset" | "getex" | "hincrby" | "hincrbyfloat"
        | "zincrby" | "setbit" | "bitfield" | "eval" | "evalsha" | "fcall" | "cl.throttle" => READ_UPDATE,
        name if name.ends_with("store") => OVERWRITE,
        _ if command.flags.contains(Flags::WRITE) => UPDATE,
        _ => READ,
    }
}

/// The specifications of a command.
pub fn specs(command: &Command) -> Vec<Spec> {
    let spec = |begin, find, nth| Spec { begin, find, flags: access(command, nth) };
    let one = |index, nth| spec(Begin::Index(index), Find::Range { last: 0, step: 1, limit: 0 }, nth);
    let counted = |index, nth| spec(Begin::Index(index), Find::Counted, nth);
    match command.name {
        "spublish" | "ssubscribe" | "sunsubscribe" => {
            let last = if command.name == "spublish" { 0 } else { -1 };
            let find = Find::Range { last, step: 1, limit: 0 };
            vec![Spec { begin: Begin::Index(1), find, flags: CHANNEL }]
        }
        "zunion" | "zinter" | "zdiff" | "sintercard" | "zintercard" | "lmpop" | "zmpop" => vec![counted(1, 0)],
        "blmpop" | "bzmpop" | "eval" | "evalsha" | "eval_ro" | "evalsha_ro" | "fcall" | "fcall_ro" => {
            vec![counted(2, 0)]
        }
        "zunionstore" | "zinterstore" | "zdiffstore" => vec![one(1, 0), counted(2, 1)],
        "xread" | "xreadgroup" => {
            let start = if command.name == "xread" { 1 } else { 4 };
            vec![spec(Begin::Keyword("STREAMS", start), Find::Range { last: -1, step: 1, limit: 2 }, 0)]
        }
        "sort" => vec![one(1, 0), spec(Begin::Unknown, Find::Unknown, 1)],
        "sort_ro" => vec![one(1, 0), Spec { flags: READ, ..spec(Begin::Unknown, Find::Unknown, 0) }],
        "georadius" | "georadiusbymember" => {
            let stored = |word| spec(Begin::Keyword(word, 5), Find::Range { last: 0, step: 1, limit: 0 }, 1);
            vec![one(1, 0), stored("STORE"), stored("STOREDIST")]
        }
        "bitop" => vec![one(2, 0), spec(Begin::Index(3), Find::Range { last: -1, step: 1, limit: 0 }, 1)],
        "pfmerge" | "sunionstore" | "sinterstore" | "sdiffstore" => {
            vec![one(1, 0), spec(Begin::Index(2), Find::Range { last: -1, step: 1, limit: 0 }, 1)]
        }
        _ if command.first_key == 0 => Vec::new(),
        // Two keys that are treated differently are two specifications.
        _ if command.last_key == command.first_key + 1 && access(command, 0) != access(command, 1) => {
            vec![one(command.first_key, 0), one(command.last_key, 1)]
        }
        _ => {
            let last = if command.last_key < 0 { command.last_key } else { command.last_key - command.first_key };
            let find = Find::Range { last, step: command.step, limit: 0 };
            vec![spec(Begin::Index(command.first_key), find, 0)]
        }
    }
}

/// Writes the specifications of a command.
pub fn write(command: &Command, reply: &mut dyn Reply) {
    let specs = specs(command);
    reply.array(specs.len());
    for Spec { begin, find, flags } in specs {
        reply.map(3);
        reply.bulk(b"flags");
        write_flags(flags, reply);
        reply.bulk(b"begin_search");
        match begin {
            Begin::Index(index) => write_part(reply, "index", &[("index", index)]),
            Begin::Keyword(word, start) => {
                write_head(reply, "keyword", 2);
                reply.bulk(b"keyword");
                reply.bulk(word.as_bytes());
                write_numbers(reply, &[("startfrom", start)]);
            }
            Begin::Unknown => write_part(reply, "unknown", &[]),
        }
        reply.bulk(b"find_keys");
        match find {
            Find::Range { last, step, limit } => {
                write_part(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", limit)]);
            }
            Find::Counted => write_part(reply, "keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)]),
            Find::Unknown => write_part(reply, "unknown", &[]),
        }
    }
}

/// The flags of a key, as a set.
pub fn write_flags(flags: &[&str], reply: &mut dyn Reply) {
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
}

fn write_head(reply: &mut dyn Reply, kind: &str, pairs: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(pairs);
}

fn write_part(reply: &mut dyn Reply, kind: &str, numbers: &[(&str, i32)]) {
    write_head(reply, kind, numbers.len());
    write_numbers(reply, numbers);
}

fn write_numbers(reply: &mut dyn Reply, numbers: &[(&str, i32)]) {
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(i64::from(*number));
    }
}
