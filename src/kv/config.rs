//! Settings of the keyspace.

use crate::base::ByteSize;

/// Number of databases (`SELECT 0` to `SELECT 15`), as in Redis' default configuration.
pub const DATABASES: u8 = 16;

crate::settings! {
    /// The keyspace behind the Redis door.
    pub struct KvConfig {
        /// Most bytes keys and values may take in memory; beyond it, writes that could add to them answer
        /// `OOM command not allowed when used memory > 'maxmemory'.` and nothing is evicted. 0 sets no limit.
        pub max_memory: ByteSize = ByteSize(0),
        /// Longest value a string may grow to (`APPEND`, `SETRANGE`), and longest key or argument.
        pub max_value: ByteSize = ByteSize::mib(512),
        /// Hashes, lists, sets and sorted sets up to this many bytes are kept in one packed buffer: the smallest form,
        /// searched from its start.
        pub packed_bytes: u32 = 4096,
        /// Most elements (for hashes: fields) a packed buffer holds.
        pub packed_elements: u32 = 128,
        /// Most commands a client may queue between `MULTI` and `EXEC`.
        pub queue_commands: u32 = 100_000,
        /// Most bytes of arguments a client may queue between `MULTI` and `EXEC`.
        pub queue_bytes: ByteSize = ByteSize::mib(256),
        /// Most channels and patterns a client may be subscribed to.
        pub subscriptions: u32 = 100_000,
        /// Most keys a client may watch.
        pub watched_keys: u32 = 100_000,
        /// Most keys and elements one call of the `SCAN` family looks at, whatever `COUNT` says.
        pub scan_count: u32 = 100_000,
    }
}
