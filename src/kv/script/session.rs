//! What a script under way may do, what it has done, and how its functions reach the keyspace.

use std::sync::Arc;

use mlua::{AnyUserData, Function, Lua};

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
    /// The keyspace, while a script runs.
    pub lease: Option<AnyUserData>,
    /// Asks the door whether to go on, while a script runs.
    pub pulse: Option<Function>,
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
    /// Arguments of the command being called.
    pub arguments: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// State of `math.random`.
    pub seed: u64,
    /// What the library being loaded has registered; `None` when none is loaded.
    pub registered: Option<Vec<Registered>>,
    calls: u32,
}

impl Session {
    /// No script runs. `seed` is where `math.random` begins.
    pub const fn new(seed: u64) -> Self {
        Self {
            lease: None,
            pulse: None,
            client: Client::new(0),
            resp3: false,
            rules: Rules { read_only: false, allow_oom: false, full: false, refusal: None, acl: None },
            dirty: false,
            ended: None,
            effects: 0,
            arguments: Vec::new(),
            ends: Vec::new(),
            seed,
            registered: None,
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
        self.calls = 0;
    }

    /// The script has come to its end.
    pub fn end(&mut self) {
        self.lease = None;
        self.pulse = None;
        self.rules = Rules::default();
        self.client.acl = None;
        // One large call must not hold its memory for ever.
        self.arguments.shrink_to(64 << 10);
        self.ends.shrink_to(1 << 10);
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
}

/// Asks whether the script may go on; called every so often while one runs.
///
/// # Errors
/// The end of the script.
pub fn beat(lua: &Lua) -> mlua::Result<()> {
    let pulse = {
        let Ok(Some(session)) = lua.try_app_data_ref::<Session>() else { return Ok(()) };
        if let Some(ended) = session.ended {
            return Err(Raised::Ended(ended).into());
        }
        let Some(pulse) = session.pulse.clone() else { return Ok(()) };
        pulse
    };
    let ended = match pulse.call::<u8>(())? {
        code if code == Verdict::Kill as u8 => Ended::Killed,
        code if code == Verdict::Stop as u8 => Ended::TooLong,
        _ => return Ok(()),
    };
    if let Ok(Some(mut session)) = lua.try_app_data_mut::<Session>() {
        session.ended = Some(ended);
    }
    Err(Raised::Ended(ended).into())
}
