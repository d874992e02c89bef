//! Commands about the server, which the door runs; they are only listed here.

use super::{Command, Flags, door};

const SHOWN: Flags = Flags::LOADING;
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING);

const ACL: &[(&str, i32)] = &[
    ("acl|cat", -2),
    ("acl|deluser", -3),
    ("acl|dryrun", -4),
    ("acl|genpass", -2),
    ("acl|getuser", 3),
    ("acl|help", 2),
    ("acl|list", 2),
    ("acl|load", 2),
    ("acl|log", -2),
    ("acl|save", 2),
    ("acl|setuser", -3),
    ("acl|users", 2),
    ("acl|whoami", 2),
];

const LATENCY: &[(&str, i32)] = &[
    ("latency|doctor", 2),
    ("latency|graph", 3),
    ("latency|help", 2),
    ("latency|histogram", -2),
    ("latency|history", 3),
    ("latency|latest", 2),
    ("latency|reset", -2),
];

const SLOWLOG: &[(&str, i32)] = &[("slowlog|get", -2), ("slowlog|help", 2), ("slowlog|len", 2), ("slowlog|reset", 2)];

pub(super) const COMMANDS: &[Command] = &[
    Command { subcommands: ACL, ..door("acl", -2, Flags::NOSCRIPT.and(Flags::LOADING)) },
    door("bgrewriteaof", 1, ADMIN),
    door("bgsave", -1, ADMIN),
    door("cluster", -2, SHOWN),
    door("failover", -1, ADMIN),
    Command { subcommands: LATENCY, ..door("latency", -2, ADMIN) },
    door("lastsave", 1, SHOWN.and(Flags::FAST)),
    door("module", -2, ADMIN),
    door("monitor", 1, ADMIN.and(Flags::NO_MULTI)),
    door("replicaof", 3, ADMIN),
    door("role", 1, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::FAST)),
    door("save", 1, ADMIN.and(Flags::NO_MULTI)),
    door("shutdown", -1, ADMIN.and(Flags::NO_MULTI)),
    door("slaveof", 3, ADMIN),
    Command { subcommands: SLOWLOG, ..door("slowlog", -2, ADMIN) },
    door("wait", 3, Flags::NONE),
    door("waitaof", 4, Flags::NOSCRIPT),
];
