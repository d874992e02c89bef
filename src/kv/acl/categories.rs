//! Which commands belong to which category, as `ACL CAT` of Redis 7.2 lists them.

use crate::kv::Flags;
use crate::kv::commands::{Command, all};

/// How a category knows its commands.
#[derive(Clone, Copy)]
enum Of {
    /// By a flag.
    Flag(Flags),
    /// By the lack of it.
    Without(Flags),
    /// By name: `get`, `config|set`, or `slowlog|` for all subcommands but `help`.
    Names(&'static [&'static str]),
}

/// The names, and whose they are.
const CATEGORIES: &[(&str, Of)] = &[
    ("keyspace", Of::Names(KEYSPACE)),
    ("read", Of::Flag(Flags::READONLY)),
    ("write", Of::Flag(Flags::WRITE)),
    ("set", Of::Names(SET)),
    ("sortedset", Of::Names(SORTED_SET)),
    ("list", Of::Names(LIST)),
    ("hash", Of::Names(HASH)),
    ("string", Of::Names(STRING)),
    ("bitmap", Of::Names(BITMAP)),
    ("hyperloglog", Of::Names(HYPERLOGLOG)),
    ("geo", Of::Names(GEO)),
    ("stream", Of::Names(STREAM)),
    ("pubsub", Of::Names(PUBSUB)),
    ("admin", Of::Names(ADMIN)),
    ("fast", Of::Flag(Flags::FAST)),
    ("slow", Of::Without(Flags::FAST)),
    ("blocking", Of::Flag(Flags::BLOCKING)),
    ("dangerous", Of::Names(DANGEROUS)),
    ("connection", Of::Names(CONNECTION)),
    ("transaction", Of::Names(&["exec", "multi", "discard", "watch", "unwatch"])),
    ("scripting", Of::Names(SCRIPTING)),
];

#[rustfmt::skip]
const KEYSPACE: &[&str] = &[
    "copy", "dbsize", "del", "dump", "exists", "expire", "expireat", "expiretime", "flushall", "flushdb", "keys",
    "migrate", "move", "object|", "object|help", "persist", "pexpire", "pexpireat", "pexpiretime", "pttl", "randomkey",
    "rename", "renamenx", "restore", "scan", "swapdb", "touch", "ttl", "type", "unlink",
];

#[rustfmt::skip]
const SET: &[&str] = &[
    "sadd", "scard", "sdiff", "sdiffstore", "sinter", "sintercard", "sinterstore", "sismember", "smembers",
    "smismember", "smove", "sort", "sort_ro", "spop", "srandmember", "srem", "sscan", "sunion", "sunionstore",
];

#[rustfmt::skip]
const SORTED_SET: &[&str] = &[
    "bzmpop", "bzpopmax", "bzpopmin", "sort", "sort_ro", "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby",
    "zinter", "zintercard", "zinterstore", "zlexcount", "zmpop", "zmscore", "zpopmax", "zpopmin", "zrandmember",
    "zrange", "zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank",
    "zremrangebyscore", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore", "zunion",
    "zunionstore",
];

#[rustfmt::skip]
const LIST: &[&str] = &[
    "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "lindex", "linsert", "llen", "lmove", "lmpop", "lpop", "lpos",
    "lpush", "lpushx", "lrange", "lrem", "lset", "ltrim", "rpop", "rpoplpush", "rpush", "rpushx", "sort", "sort_ro",
];

#[rustfmt::skip]
const HASH: &[&str] = &[
    "hdel", "hexists", "hget", "hgetall", "hincrby", "hincrbyfloat", "hkeys", "hlen", "hmget", "hmset", "hrandfield",
    "hscan", "hset", "hsetnx", "hstrlen", "hvals",
];

#[rustfmt::skip]
const STRING: &[&str] = &[
    "append", "decr", "decrby", "get", "getdel", "getex", "getrange", "getset", "incr", "incrby", "incrbyfloat", "lcs",
    "mget", "mset", "msetnx", "psetex", "set", "setex", "setnx", "setrange", "strlen", "substr",
];

const BITMAP: &[&str] = &["bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "getbit", "setbit"];
const HYPERLOGLOG: &[&str] = &["pfadd", "pfcount", "pfdebug", "pfmerge", "pfselftest"];

#[rustfmt::skip]
const GEO: &[&str] = &[
    "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro", "georadiusbymember",
    "georadiusbymember_ro", "geosearch", "geosearchstore",
];

#[rustfmt::skip]
const STREAM: &[&str] = &[
    "xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup|", "xgroup|help", "xinfo|", "xinfo|help", "xlen",
    "xpending", "xrange", "xread", "xreadgroup", "xrevrange", "xsetid", "xtrim",
];

#[rustfmt::skip]
const PUBSUB: &[&str] = &[
    "psubscribe", "publish", "pubsub|", "punsubscribe", "spublish", "ssubscribe", "subscribe", "sunsubscribe",
    "unsubscribe",
];

#[rustfmt::skip]
const ADMIN: &[&str] = &[
    "acl|deluser", "acl|dryrun", "acl|getuser", "acl|list", "acl|load", "acl|log", "acl|save", "acl|setuser",
    "acl|users", "bgrewriteaof", "bgsave", "client|kill", "client|list", "client|no-evict", "client|pause",
    "client|unblock", "client|unpause", "config|", "debug", "failover", "lastsave", "latency|", "module|", "monitor",
    "pfdebug", "pfselftest", "psync", "replconf", "replicaof", "role", "save", "shutdown", "slaveof", "slowlog|",
    "sync",
];

/// Of the keyspace, besides all of [`ADMIN`].
#[rustfmt::skip]
const DANGEROUS: &[&str] = &[
    "flushall", "flushdb", "info", "keys", "migrate", "restore", "restore-asking", "sort", "sort_ro", "swapdb",
];

#[rustfmt::skip]
const CONNECTION: &[&str] = &[
    "asking", "auth", "client|", "client|help", "command", "command|", "command|help", "echo", "hello", "ping", "quit",
    "readonly", "readwrite", "reset", "select", "wait", "waitaof",
];

#[rustfmt::skip]
const SCRIPTING: &[&str] = &[
    "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "function|", "function|help", "script|",
    "script|help",
];

/// Subcommands that write, of commands that do not as a whole.
const WRITING_PARTS: &[&str] = &["function|delete", "function|flush", "function|load", "function|restore"];

/// The category called `name` as the table spells it, if there is one; `all` is none.
pub fn find(name: &str) -> Option<&'static str> {
    CATEGORIES.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))
}

/// Every category.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    CATEGORIES.iter().map(|(name, _)| *name)
}

/// Every command of `category`, its subcommands one by one where only some belong to it.
pub fn members(category: &str) -> Vec<String> {
    let mut out = Vec::new();
    for command in all() {
        if command.subcommands.is_empty() {
            if has(category, command, None) {
                out.push(command.name.to_owned());
            }
            continue;
        }
        for (name, _) in command.subcommands {
            if has(category, command, name.split_once('|').map(|(_, name)| name)) {
                out.push((*name).to_owned());
            }
        }
    }
    out
}

/// Whether `command`, called with `subcommand` (in small letters) where it has some, belongs to `category`.
pub fn has(category: &str, command: &Command, subcommand: Option<&str>) -> bool {
    let Some((_, of)) = CATEGORIES.iter().find(|(name, _)| *name == category) else { return false };
    match of {
        Of::Flag(flag) => {
            command.flags.contains(*flag) || *flag == Flags::WRITE && listed(WRITING_PARTS, command.name, subcommand)
        }
        Of::Without(flag) => !command.flags.contains(*flag),
        Of::Names(names) => {
            listed(names, command.name, subcommand)
                || category == "dangerous" && listed(ADMIN, command.name, subcommand)
        }
    }
}

fn listed(names: &[&str], command: &str, subcommand: Option<&str>) -> bool {
    names.iter().any(|name| match (name.split_once('|'), subcommand) {
        (None, _) => *name == command,
        (Some((of, "")), Some(subcommand)) => of == command && subcommand != "help",
        (Some((of, named)), Some(subcommand)) => of == command && named == subcommand,
        // A command of which nothing is named: all of it, or none.
        (Some((of, "")), None) => of == command,
        (Some(_), None) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::commands::lookup;

    fn has_all(category: &str, names: &[&str]) {
        for name in names {
            let (command, subcommand) = name.split_once('|').map_or((*name, None), |(name, sub)| (name, Some(sub)));
            assert!(has(category, lookup(command.as_bytes()).unwrap(), subcommand), "{category} {name}");
        }
    }

    #[test]
    fn commands_are_where_redis_has_them() {
        has_all("read", &["get", "hgetall", "keys"]);
        has_all("write", &["set", "flushall"]);
        has_all("admin", &["config|set", "client|kill", "save"]);
        has_all("dangerous", &["config|set", "keys", "flushdb", "info"]);
        has_all("connection", &["client|setname", "hello"]);
        has_all("slow", &["hgetall"]);
        let client = lookup(b"client").unwrap();
        assert!(!has("dangerous", client, Some("setname")) && !has("admin", client, Some("id")));
        assert!(!has("fast", lookup(b"hgetall").unwrap(), None));
        assert!(members("transaction").contains(&String::from("exec")));
    }
}
