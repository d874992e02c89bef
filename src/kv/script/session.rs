//! What a script under way may do, what it has done, and how its functions reach the keyspace.

use std::sync::Arc;

use mlua::Lua;
use mlua::state::{GcIncParams, GcMode};

use super::desk::Desk;
use super::library::Registered;
use super::raise::{Ended, Raised};
use super::{Progress, Verdict};
use crate::kv::acl::Acl;
use crate::kv::client::Client;

/// Instructions of the virtual machine between two looks at the clock.
pub const BEAT: u32 = 50_000;
/// Commands of a script between two looks at the clock: some take far longer than their instructions.
const CALLS: u32 = 32;

/// What a script may do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// It may change nothing.
    pub read_only: bool,
    /// It may add memory though there is too little.
    pub allow_oom: bool,
    /// There was too little memory when it began.
    pub full: bool,
    /// Why nothing can be written now, as the error a client gets.
    pub refusal: Option<String>,
    /// What its user may do; `None` for everything.
    pub acl: Option<Arc<Acl>>,
}

/// The state of the one script that runs; Lua keeps it.
#[derive(Debug)]
pub struct Session {
    /// The client its commands run as.
    pub client: Client,
    /// Whether replies to it come in the third version of the protocol (`redis.setresp`).
    pub resp3: bool,
    /// What it may do.
    pub rules: Rules,
    /// It has run a command that writes.
    pub dirty: bool,
    /// Why it is over.
    pub ended: Option<Ended>,
    /// Bytes of effects there were when it began.
    pub effects: usize,
    /// State of `math.random`.
    pub seed: u64,
    /// What the library being loaded has registered; `None` when none is loaded.
    pub registered: Option<Vec<Registered>>,
    /// It uses so much memory that Lua collects often.
    pub heavy: bool,
    calls: u32,
}

impl Session {
    /// No script runs. `seed` is where `math.random` begins.
    pub const fn new(seed: u64) -> Self {
        Self {
            client: Client::new(0),
            resp3: false,
            rules: Rules { read_only: false, allow_oom: false, full: false, refusal: None, acl: None },
            dirty: false,
            ended: None,
            effects: 0,
            seed,
            registered: None,
            heavy: false,
            calls: 0,
        }
    }

    /// A script begins.
    pub fn begin(&mut self, db: u8, rules: Rules, effects: usize) {
        self.client.db = db;
        self.resp3 = false;
        self.client.acl.clone_from(&rules.acl);
        self.rules = rules;
        self.dirty = false;
        self.ended = None;
        self.effects = effects;
        self.heavy = false;
        self.calls = 0;
    }

    /// The script has come to its end.
    pub fn end(&mut self) {
        self.rules = Rules::default();
        self.client.acl = None;
    }

    /// Counts a command; says whether it is time to look at the clock.
    pub const fn is_call_due(&mut self) -> bool {
        self.calls = self.calls.wrapping_add(1);
        self.calls.is_multiple_of(CALLS)
    }

    /// What the door is told.
    pub const fn progress(&self) -> Progress {
        Progress { dirty: self.dirty }
    }

    /// Does what the door says: why the script is over, also when it was over already.
    pub fn heed(&mut self, verdict: Verdict) -> Option<Ended> {
        self.ended = self.ended.or(match verdict {
            Verdict::Go => None,
            Verdict::Kill => Some(Ended::Killed),
            Verdict::Stop => Some(Ended::TooLong),
        });
        self.ended
    }
}

/// Asks whether the script may go on; called every so often while one runs.
///
/// # Errors
/// The end of the script.
pub fn beat(lua: &Lua) -> mlua::Result<()> {
    let Some(desk) = Desk::of(lua) else { return Ok(()) };
    collect_often(lua, &desk);
    let ended = desk.with_lent(|lent| {
        let mut session = desk.session();
        let verdict = if session.ended.is_some() { Verdict::Go } else { lent.host.pulse(session.progress()) };
        session.heed(verdict)
    });
    ended.flatten().map_or(Ok(()), |ended| Err(Raised::Ended(ended).into()))
}

/// Percent of what is in use that may be allocated beside it before the next collection begins. Most scripts leave
/// little behind, and marking what is in use for good costs more than they do.
pub const SELDOM: i32 = 400;
/// As [`SELDOM`], for a script that uses much: Lua's own choice.
const OFTEN: i32 = 200;
/// Bytes beyond which a script uses much.
const MUCH: usize = 4 << 20;

/// Sets how often Lua collects.
pub fn collect_every(lua: &Lua, percent: i32) {
    lua.gc_set_mode(GcMode::Incremental(GcIncParams::default().pause(percent)));
}

fn collect_often(lua: &Lua, desk: &Desk) {
    if lua.used_memory() <= MUCH {
        return;
    }
    let mut session = desk.session();
    if !session.heavy {
        session.heavy = true;
        collect_every(lua, OFTEN);
        lua.gc_restart();
    }
}
