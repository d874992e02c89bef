//! Scripts: Lua 5.1 beside the keyspace, as Redis 7.2 has it.
//!
//! What it promises:
//! - a script is one unit: nothing runs in between, its changes lie in one frame of the journal, and time stands still
//!   in it. What it changed before an error stays, as in Redis;
//! - a script reaches the commands of the keyspace and nothing else: no files, no network, no environment, no
//!   coroutines, no compiled chunks. What scripts share (the library tables) they cannot change;
//! - a script that does not end does not hold up the others for long: every [`BEAT`](session::BEAT) instructions and
//!   every few commands the door is asked ([`Host`]), which answers its clients and may end the script. No `pcall`
//!   catches that;
//! - memory has a cap (`kv.script_memory`); a script that meets it fails and what it held is given back.
//!
//! Lua comes from the `mlua` crate. What runs for every script and every command in it ([`raw`], [`desk`]) goes past the
//! crate's handles to Lua's own stack, at a third of the cost; with the look at the stack of an error ([`place`]) it is the
//! room's only unsafe code. Handles into the
//! state are few and short-lived: compiled chunks lie in a Lua table by number, for the state has room for some thousand
//! handles only.
//!
//! Start reading at [`engine`] (one state, one run), then [`call`] (a command from a script), [`library`] (functions) and [`session`] (the script
//! under way). `prelude.lua` is the sandbox, [`natives`] what Rust adds to it, [`raise`] how errors travel, [`tape`]
//! the reply to a command on its way to Lua, [`convert`] a script's answer on its way out. [`json`], [`msgpack`], [`structure`] and [`bits`] are the libraries `cjson`, `cmsgpack`, `struct` and `bit`.

mod bits;
mod cache;
mod call;
mod convert;
mod desk;
mod engine;
mod format;
mod json;
mod json_read;
mod library;
mod msgpack;
mod natives;
mod place;
mod raise;
mod raw;
mod session;
mod shebang;
mod structure;
mod tape;

pub(super) use cache::{Room, Sha};
pub(super) use engine::{Engine, Name, Slot};
pub(super) use library::{BAD_NAME, is_name};
pub(super) use session::Rules;
pub(super) use shebang::{Declared, words};

/// The door, as a running script sees it.
pub trait Host {
    /// A script begins; or, by its name, a function, with the command that calls it.
    fn begin(&mut self, function: Option<(&str, &[&[u8]])>) {
        let _ = function;
    }

    /// Called every so often while a script runs: the door may answer its clients here, and says whether it may go on.
    fn pulse(&mut self, script: Progress) -> Verdict;

    /// Why nothing can be written now, as the error a client gets.
    fn refusal(&self) -> Option<String> {
        None
    }
}

/// The script under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It has run a command that writes.
    pub dirty: bool,
}

/// What the door thinks of a running script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Go,
    /// Somebody has asked for its end.
    Kill,
    /// It has run for too long.
    Stop,
}

/// No door: a script ends by itself or after some 10^9 instructions.
#[derive(Debug, Default)]
pub struct Alone {
    beats: u32,
}

/// Beats of a script nobody watches, some ten seconds.
const ALONE: u32 = 20_000;

impl Host for Alone {
    fn begin(&mut self, _function: Option<(&str, &[&[u8]])>) {
        self.beats = 0;
    }

    fn pulse(&mut self, _script: Progress) -> Verdict {
        self.beats = self.beats.saturating_add(1);
        if self.beats > ALONE { Verdict::Stop } else { Verdict::Go }
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The hash of a script as clients write it; `None` when it is none.
pub(super) fn sha(text: &[u8]) -> Option<Sha> {
    let mut out = [0; 20];
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    if pairs.len() != out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(out)
}
