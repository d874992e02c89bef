//! Settings of the keyspace.

use super::eviction::Eviction;
use super::max_memory::MaxMemory;
use super::notify::Events;
use super::persist::{OnDamage, SyncMode};
use crate::base::{ByteSize, Span};

/// Number of databases (`SELECT 0` to `SELECT 15`), as in Redis' default configuration.
pub const DATABASES: u8 = 16;

crate::settings! {
    /// The keyspace behind the Redis door.
    pub struct KvConfig {
        /// Most bytes keys and values may take in memory: `auto` (two fifths of the machine's or the container's
        /// memory), a size, or 0 for no limit. Below 220 MiB the program's own memory is taken from it (a quarter at
        /// most), so that the process stays within a fifth of it. It is the size of a cache, not of the data: beyond
        /// it, values not used for long move to disk and come back when they are wanted, or keys are deleted in
        /// databases that `eviction` names. Only when neither can be done (the disk is full) do writes that could add
        /// to memory answer `OOM command not allowed when used memory > 'maxmemory'.`
        pub max_memory: MaxMemory = MaxMemory::Auto,
        /// What databases do with their keys when memory is full, such as `0=allkeys-lru, 2=volatile-ttl`: the
        /// policies of Redis, by database number. A database that is not named keeps every key (`noeviction`).
        pub eviction: Eviction = Eviction::default(),
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
        /// Which changes of keys are published to subscribers, by the letters of Redis: `K` to channels named for the key,
        /// `E` to channels named for the event; `A` for all events, or some of `g$lshzxetd` and, which `A` does not ask for,
        /// `m` (a key was looked for in vain) and `n` (a key is new). Empty for none. It costs a look at each change.
        pub notify_keyspace_events: Events = Events::default(),
        /// Most keys a client may watch.
        pub watched_keys: u32 = 100_000,
        /// Most keys and elements one call of the `SCAN` family looks at, whatever `COUNT` says.
        pub scan_count: u32 = 100_000,
        /// Most bytes of memory that Lua may use, for all scripts together; a script that needs more fails, and what it
        /// held is given back.
        pub script_memory: ByteSize = ByteSize::mib(128),
        /// Most compiled scripts that are kept. Those that came by `SCRIPT LOAD` stay until `SCRIPT FLUSH`; of the others
        /// the one not used for longest makes room.
        pub scripts: u32 = 10_000,
        /// Most bytes of text of compiled scripts.
        pub script_bytes: ByteSize = ByteSize::mib(16),
        /// Most libraries of functions (`FUNCTION LOAD`). Functions have a Lua state of their own, which may use as much
        /// memory again as `script_memory` says.
        pub libraries: u32 = 1_000,
        /// Most bytes of code of all libraries.
        pub library_bytes: ByteSize = ByteSize::mib(16),
        /// How long a script may run before other clients are answered `BUSY` and may end it by `SCRIPT KILL`.
        pub script_busy: Span = Span::secs(5),
        /// How long a script may run at all. What it has changed by then stays, as after any error in a script. `0s` sets
        /// no limit.
        pub script_limit: Span = Span::secs(60),
        /// When changes are made to survive a power cut: `always` (before the reply), `everysec` (within a second), `no`
        /// (when the operating system likes). In every mode they survive the end of the process.
        pub sync: SyncMode = SyncMode::EverySec,
        /// A journal file that has grown to this size is followed by the next.
        pub journal_segment: ByteSize = ByteSize::mib(64),
        /// A checkpoint is written when the journal has grown to this size, or to that of the last checkpoint if that is
        /// more.
        pub checkpoint_after: ByteSize = ByteSize::mib(64),
        /// What to do when the journal holds damage that no crash can have made: `refuse` to start, or `cut` it there
        /// and lose what was written later.
        pub on_damage: OnDamage = OnDamage::Refuse,
    }
}
