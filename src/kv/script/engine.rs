//! The one Lua state, the chunks it has compiled, and how one of them is run.

use std::fmt;
use std::sync::Arc;

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Integer, Lua, LuaOptions, LuaString, Result, StdLib, Table, Value, VmState};

use super::cache::{Cache, Sha};
use super::desk::{Desk, Lent};
use super::json::{self, Shared};
use super::raise::{self, OUT_OF_MEMORY, text_of};
use super::raw::{Answer, Machine, Work};
use super::session::{BEAT, Rules, SELDOM, beat, collect_every};
use super::tape::Buffers;
use super::{Host, convert, natives};
use crate::base::{Random, random};
use crate::kv::error::up_to_zero;
use crate::kv::keyspace::Keyspace;
use crate::kv::reply::Reply;

/// Memory beyond twice what is in use for good at which the state is swept after a script.
const SLACK: usize = 8 << 20;

/// Scripts of all clients share one state: what it costs to make is paid once, and nothing that one script can reach
/// outlives it.
pub struct Engine {
    pub(super) lua: Lua,
    machine: Machine,
    pub(super) desk: Arc<Desk>,
    pub(super) buffers: Buffers,
    /// Makes a function of a text, or says why not.
    compile: Function,
    /// Runs the code of a library.
    pub(super) load: Function,
    /// What libraries have for `redis` while they are loaded.
    pub(super) library: Table,
    pub(super) globals: Table,
    pub(super) chunks: Table,
    pub(super) json: Shared,
    free: Vec<Integer>,
    slots: Integer,
    /// Compiled scripts by their hash.
    pub cache: Cache,
    /// Bytes in use after the last full sweep.
    rested: usize,
    /// Bytes it may use.
    limit: usize,
}

/// A compiled chunk or a function, by its place in the state.
pub type Slot = Integer;

/// What is run, as errors call it.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// A script, by its hash.
    Script(&'a Sha),
    /// A function of a library.
    Function(&'a str),
}

impl Name<'_> {
    /// What is said about scripts, as it is said about this.
    fn spell(self, text: &str) -> String {
        match self {
            Self::Script(_) => text.to_owned(),
            Self::Function(_) => text.replace("killed by user with SCRIPT KILL", "killed by user with FUNCTION KILL"),
        }
    }
}

impl Engine {
    /// A state that may use `memory` bytes; `random` is where `math.random` begins.
    ///
    /// # Errors
    /// The memory is too little for the sandbox itself.
    pub fn new(memory: usize, random: &dyn Random) -> Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        lua.set_memory_limit(memory)?;
        let desk = Arc::new(Desk::new(u64::from_le_bytes(random::bytes(random)) | 1));
        lua.set_app_data(Arc::clone(&desk));
        let json = Shared::default();
        let natives = natives::all(&lua, &json, &desk)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name(raise::PRELUDE).set_mode(ChunkMode::Text);
        let (env, globals, chunks, parts): (Table, Table, Table, Table) = prelude.call(natives)?;
        lua.set_globals(env)?;
        lua.set_global_hook(HookTriggers::new().every_nth_instruction(BEAT), |lua, _| {
            beat(lua)?;
            Ok(VmState::Continue)
        })?;
        let (compile, load, on_error) = (parts.raw_get("compile")?, parts.raw_get("load")?, parts.raw_get("on_error")?);
        let machine = Machine::new(&lua, &on_error, &globals, &chunks)?;
        let library = parts.raw_get("library")?;
        lua.gc_collect()?;
        collect_every(&lua, SELDOM);
        let rested = lua.used_memory();
        let cache = Cache::default();
        Ok(Self {
            lua,
            machine,
            desk,
            buffers: Buffers::default(),
            compile,
            load,
            library,
            globals,
            chunks,
            json,
            free: Vec::new(),
            slots: 0,
            cache,
            rested,
            limit: memory,
        })
    }

    /// Bytes the state uses.
    pub fn used(&self) -> usize {
        self.lua.used_memory()
    }

    /// Compiles `text`; `name` is what errors call it.
    ///
    /// # Errors
    /// What the compiler says, without a code word.
    pub fn compile(&mut self, text: &[u8], name: &str) -> std::result::Result<Slot, Vec<u8>> {
        // Lua's own function is asked, not the crate's: what the crate says is text, and a script may be none.
        let text = self.lua.create_string(text);
        let compiled = text.and_then(|text| self.compile.call::<(Option<Function>, Option<LuaString>)>((text, name)));
        match compiled {
            Ok((Some(function), _)) => self.keep(function).map_err(|error| text_of(&error).into_owned()),
            Ok((None, why)) => Err(why.map_or_else(Vec::new, |why| why.as_bytes().to_vec())),
            Err(error) => Err(text_of(&error).into_owned()),
        }
    }

    /// Gives a function a place of its own: handles on this side are few.
    ///
    /// # Errors
    /// Lua's memory is used up.
    pub fn keep(&mut self, function: Function) -> Result<Slot> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots
        });
        if let Err(error) = self.chunks.raw_set(slot, function) {
            self.free.push(slot);
            return Err(error);
        }
        Ok(slot)
    }

    /// Forgets what is at `slot`.
    pub fn forget(&mut self, slot: Slot) {
        // A false needs no memory that is not there already.
        if self.chunks.raw_set(slot, false).is_ok() {
            self.free.push(slot);
        }
    }

    /// Runs a program with `keys` and `arguments` for a client on database `db`, on the keyspace it is lent for the while.
    /// What it returned (see [`Engine::answer`]) and whether it chose version three of the protocol; or the error it ended
    /// with, code word and place included.
    #[expect(clippy::too_many_arguments, reason = "who, what, on what, under which rules: each is its own")]
    pub fn run(
        &mut self,
        keyspace: &mut Keyspace,
        host: &mut dyn Host,
        slot: Slot,
        name: Name<'_>,
        (keys, arguments): (&[&[u8]], &[&[u8]]),
        db: u8,
        rules: Rules,
    ) -> std::result::Result<(Answer, bool), Vec<u8>> {
        json::reset(&self.json);
        self.desk.session().begin(db, rules, keyspace.effects.mark());
        let work = Work { slot, is_function: matches!(name, Name::Function(_)), keys, arguments };
        let mut lent = Lent { keyspace: Some(keyspace), host, buffers: &mut self.buffers, panic: None };
        let done = self.machine.run(&self.desk, &mut lent, &work);
        let (ended, resp3, heavy) = {
            let mut session = self.desk.session();
            session.end();
            (session.ended, session.resp3, session.heavy)
        };
        self.buffers.shrink();
        if heavy {
            collect_every(&self.lua, SELDOM);
        }
        let outcome = match done {
            // Whatever the script made of it: it was ended.
            Ok(_) if ended.is_some() => Err(name.spell(ended.map_or("", raise::Ended::text)).into_bytes()),
            Ok(answer) => Ok((answer, resp3)),
            Err(problem) if ended.is_some() => {
                Err(name.spell(&String::from_utf8_lossy(&told(&problem, name))).into_bytes())
            }
            Err(problem) => Err(told(&problem, name)),
        };
        self.rest();
        outcome
    }

    /// Answers what the last program returned. `resp3` is the version it chose, which decides about truth values only.
    ///
    /// # Errors
    /// Lua's memory is used up; a part of the reply may be written then.
    pub fn answer(&self, answer: &Answer, reply: &mut dyn Reply, resp3: bool) -> Result<()> {
        match answer {
            Answer::Nil => reply.null(),
            Answer::Boolean(value) => convert::write_boolean(*value, reply, resp3),
            Answer::Number(value) => reply.integer(convert::truncated(*value)),
            Answer::Text => reply.bulk(&self.buffers.text),
            Answer::Other(value) => return convert::answer(value, reply, resp3),
        }
        Ok(())
    }

    /// Gives memory back when a script has left much behind.
    pub(super) fn rest(&mut self) {
        if self.lua.used_memory() > (2 * self.rested + SLACK).min(self.limit / 2) {
            self.sweep();
        }
    }

    /// Sweeps the state.
    pub fn sweep(&mut self) {
        // Nothing of ours is collected with side effects, so it cannot fail; were it to, memory comes back later.
        let _ = self.lua.gc_collect();
        self.rested = self.lua.used_memory();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("used", &self.used()).finish_non_exhaustive()
    }
}

/// The error reply of an uncaught problem of what is called `name`.
fn told(problem: &Value, name: Name<'_>) -> Vec<u8> {
    let (mut text, place) = raw_error(problem);
    let name = match name {
        Name::Script(sha) => super::hex(sha),
        Name::Function(name) => name.to_owned(),
    };
    if let Some(place) = place {
        text = [text.as_slice(), format!(" script: {name}, on ").as_bytes(), &place, b"."].concat();
    }
    text
}

/// Text and place of an uncaught problem.
pub(super) fn raw_error(problem: &Value) -> (Vec<u8>, Option<Vec<u8>>) {
    let table = match problem {
        Value::Table(table) => table,
        Value::String(text) => {
            let text = text.as_bytes();
            let memory: &[u8] = if *text == *OUT_OF_MEMORY.as_bytes() { b" (kv.script_memory)" } else { b"" };
            return ([&b"ERR "[..], up_to_zero(&text), memory].concat(), None);
        }
        Value::Error(error) => return ([&b"ERR "[..], &text_of(error)].concat(), None),
        _ => return (b"ERR unknown error".to_vec(), None),
    };
    let text = match table.raw_get("err") {
        Ok(Value::String(text)) => up_to_zero(&text.as_bytes()).to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    let source = table.raw_get::<Option<LuaString>>("source").ok().flatten();
    let line = table.raw_get::<Option<Integer>>("line").ok().flatten();
    let place = source.zip(line).map(|(source, line)| [&*source.as_bytes(), format!(":{line}").as_bytes()].concat());
    (text, place)
}
