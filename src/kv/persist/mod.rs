//! Keeping the keyspace: a sealed journal of effects, and checkpoints that keep the journal short.
//!
//! # Promises
//! - A change that was acknowledged survives the end of the process in every mode, since its frame was handed to the
//!   kernel (`write`) before the reply left. It survives a power cut at once with `kv.sync = "always"`, and a second
//!   later with `everysec`.
//! - After any crash the keyspace is that of a prefix of the loop's turns. A transaction lies within one frame, and
//!   frames verify as a whole or not at all, so it is there or not.
//! - Nobody is told that a change was kept which was not. A full disk is waited out: the frame that did not fit is
//!   kept, writes are refused (reads go on), and it is written when there is room again. After any other error, and
//!   after a failed sync above all, writes are refused until a restart: what the disk holds is unknown then.
//! - Damage is not mistaken for a crash: see *Torn or damaged* below.
//! - The server never forks and never stops to save.
//!
//! # Why files of its own, and not the store
//! The store's B-tree costs 1.6 to 5.2 KB of writes and up to 45 µs of processor for a change of 100 bytes; an
//! appended frame costs its bytes and one `write`. Recovery reads one stream instead of a tree. The keyspace is in
//! memory anyway, so nothing is ever looked up here.
//!
//! # Files
//! In `<data>/kv/`, all numbers little-endian:
//! - `journal-<n>`: segments, `n` ten or more decimal digits from 1 upwards without a gap;
//! - `checkpoint-<n>`: all keys; what happened since begins in `journal-<n>`. `checkpoint-<n>.tmp` is being written, or
//!   was when the process ended.
//!
//! Both begin with a header of 80 bytes:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `MAINKVJ\n` (journal) or `MAINKVC\n` (checkpoint) |
//! | 8 | 4 | format, 1 |
//! | 12 | 4 | 0 |
//! | 16 | 8 | `n` |
//! | 24 | 8 | journal: bytes of segment `n - 1` when it was left, 0 for none; checkpoint: 0 |
//! | 32 | 32 | random salt; the file's key is HKDF-SHA256 of the key `kv/journal`, the salt, and `kv/journal/v1` or `kv/checkpoint/v1` |
//! | 64 | 16 | AES-256-GCM tag of nothing: nonce twelve times `ff`, associated data the 64 bytes before |
//!
//! then frames, indexed from 0, one behind the other:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | the first four bytes of the salt, to look for behind a bad frame |
//! | 4 | 4 | length of the body |
//! | 8 | 8 | index |
//! | 16 | length | body, sealed with AES-256-GCM: nonce index (8) and four zero bytes, associated data `n` (8) and the 16 bytes before |
//! | 16 + length | 16 | tag |
//!
//! A nonce is used once: indices only grow, every file has its own key, a frame that could not be written is written
//! again unchanged, and a journal found at a start is never appended to: a new segment begins.
//!
//! A journal body:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8, 8 | segment and offset up to which the journal was known to be durable when this frame was written |
//! | 16 | 1 | 1 when a marker follows, else 0 |
//! | 17 | 8, 4 | marker: number of a checkpoint, index of a block in it |
//! | 17 or 29 | rest | effects of one loop turn (see [`effect`](super::effect)) |
//!
//! A checkpoint body is 0 and the values of one slice of the keyspace, or, in the last frame, 1, the number of blocks
//! (4), of keys (8), and the bytes of the file (8).
//!
//! # Fuzzy checkpoints
//! The loop begins segment `n` (its first frame says which store each database number names), and from then on, turn
//! by turn, walks a slice of the keyspace into block `i` and puts the marker *(n, i)* into the same frame, behind the
//! effects of the turn. When every key has been walked: the checkpoint is synced, the journal is synced up to the last
//! marker, the checkpoint is renamed, the folder is synced; then older segments and checkpoints are removed.
//!
//! Recovery starts empty, replays the segments from `n`, and at the marker *(n, i)* gives the keys of block `i` the
//! values they have there. **Why that is the keyspace again.** Effects name one key (or flush a store) and carry
//! absolute values, and replaying is total: an effect on a key in an unexpected state does something, never fails. Take
//! any key `k` and the end of the journal.
//! 1. *A block holds `k`.* Take the last marker whose block does. Its frame's effects lie before the block's moment, so
//!    after loading, `k` has exactly the value it had then, whatever the replay had made of it before. From there on
//!    every effect on `k` is replayed over the right value, hence gives the right value.
//! 2. *No block holds `k`.* The walk meets every key that is there from its beginning to its end. So `k` was absent at
//!    some moment between the start of segment `n` and the end of the walk. If it was there before that moment, it
//!    vanished by an effect in the journal (delete, flush: keys never vanish without one), and the replay has it absent
//!    too, whatever partial value it had built; if it was not, then the replay, which starts empty, has it absent as
//!    well. From that moment on every effect on `k` is replayed over the right value.
//!
//! A flush of a store is an effect on every key of it. A crash before the last marker leaves `checkpoint-<n>` without
//! its name, and the former one with all segments since is used. A checkpoint that was given up (the journal refused
//! its marker) leaves markers nobody looks for: numbers are not used twice.
//!
//! # Torn or damaged
//! A bad frame is where the journal was torn by a power cut, or where bytes that had been durable have changed. Every
//! frame says how far the journal was durable when it was written, so a frame *behind* the bad one, in the same segment
//! or a later one, that names a durable position beyond it proves damage: the server refuses to start and says which
//! byte of which file. A segment that is shorter than the next one says has a bad frame at its end. Without such a proof the journal ends before the bad frame, and what is behind it, never having
//! been synced, is dropped. (The very last synced frame has no witness: damage to it looks torn.) A bad frame in a
//! checkpoint, which was synced before it got its name, is always damage.
//!
//! # Where to start reading
//! [`Persistence`] is what the loop holds; [`journal`] writes, [`recover`] reads, [`checkpoint`] does both,
//! [`export`] reads for backups.

pub mod checkpoint;
pub mod error;
pub mod export;
pub mod format;
pub mod journal;
pub mod recover;
pub mod salvage;
pub mod segment;
pub mod service;
mod threads;
pub mod value;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod salvage_tests;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::{PersistError, Refusal};
pub use export::{Cut, Live};
pub use recover::{OnDamage, Place, Report, Restored, recover};
pub use service::{Pace, Persistence, Status, SyncMode, folder};

/// The folder of a file, for error texts.
fn folder_of(path: &Path) -> &Path {
    crate::base::disk::parent(path)
}
