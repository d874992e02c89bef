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

const CLUSTER: &[(&str, i32)] = &[
    ("cluster|addslots", -3),
    ("cluster|addslotsrange", -4),
    ("cluster|bumpepoch", 2),
    ("cluster|count-failure-reports", 3),
    ("cluster|countkeysinslot", 3),
    ("cluster|delslots", -3),
    ("cluster|delslotsrange", -4),
    ("cluster|failover", -2),
    ("cluster|flushslots", 2),
    ("cluster|forget", 3),
    ("cluster|getkeysinslot", 4),
    ("cluster|help", 2),
    ("cluster|info", 2),
    ("cluster|keyslot", 3),
    ("cluster|links", 2),
    ("cluster|meet", -4),
    ("cluster|myid", 2),
    ("cluster|myshardid", 2),
    ("cluster|nodes", 2),
    ("cluster|replicas", 3),
    ("cluster|replicate", 3),
    ("cluster|reset", -2),
    ("cluster|saveconfig", 2),
    ("cluster|set-config-epoch", 3),
    ("cluster|setslot", -4),
    ("cluster|shards", 2),
    ("cluster|slaves", 3),
    ("cluster|slots", 2),
];

const MODULE: &[(&str, i32)] =
    &[("module|help", 2), ("module|list", 2), ("module|load", -3), ("module|loadex", -3), ("module|unload", 3)];

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
    door("asking", 1, Flags::FAST),
    door("bgrewriteaof", 1, ADMIN),
    door("bgsave", -1, ADMIN),
    Command { subcommands: CLUSTER, ..door("cluster", -2, SHOWN) },
    door("failover", -1, ADMIN),
    Command { subcommands: LATENCY, ..door("latency", -2, ADMIN) },
    door("lastsave", 1, SHOWN.and(Flags::FAST)),
    door("lolwut", -1, Flags::READONLY.and(Flags::FAST)),
    Command { subcommands: MODULE, ..door("module", -2, ADMIN) },
    door("monitor", 1, ADMIN.and(Flags::NO_MULTI)),
    door("psync", -3, ADMIN.and(Flags::NO_MULTI)),
    door("readonly", 1, Flags::LOADING.and(Flags::FAST)),
    door("readwrite", 1, Flags::LOADING.and(Flags::FAST)),
    door("replconf", -1, ADMIN),
    door("replicaof", 3, ADMIN),
    door("role", 1, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::FAST)),
    door("save", 1, ADMIN.and(Flags::NO_MULTI)),
    door("shutdown", -1, ADMIN.and(Flags::NO_MULTI)),
    door("slaveof", 3, ADMIN),
    Command { subcommands: SLOWLOG, ..door("slowlog", -2, ADMIN) },
    door("sync", 1, ADMIN.and(Flags::NO_MULTI)),
    door("wait", 3, Flags::NONE),
    door("waitaof", 4, Flags::NOSCRIPT),
];
