//! Running a script and its commands on Lua's own stack: what thousands of scripts a second do is too short for handles
//! that are made and dropped around every value.
//!
//! An error of Lua's (memory used up, an error raised) leaps from where it arises to the [`ffi::lua_pcall`] around it.
//! What makes this sound: every frame in between that is ours owns nothing while it calls a function that may raise. A
//! command has therefore run to its end, with its reply noted on the [`Tape`], before the first value of it is made; and
//! a panic in a command is caught, ends the script, and goes on behind Lua.
#![expect(unsafe_code, reason = "Lua's stack has a C interface; see the file's doc for what makes its use sound")]

use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use mlua::{Function, Lua, LuaString, Result, Table, Value, ffi};

use super::call::{self, NO_ARGUMENTS, NO_KEYSPACE, Told};
use super::desk::{Desk, Lent};
use super::engine::Slot;
use super::raise::{Ended, Raised};
use super::session::Session;
use super::tape::{Buffers, Frame, Kind, Step, Tape};

/// Values of an aggregate that room is made for at once.
const ROOM: usize = 1 << 16;
/// Stack slots an open aggregate and the value put into it take at most.
const SLOTS: c_int = 8;
const TOO_DEEP: &str = "ERR the reply is nested too deeply for a script";

/// What a script returned.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing.
    Nil,
    /// A truth value.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A text, in [`Buffers::text`].
    Text,
    /// Anything else.
    Other(Value),
}

/// A state, and where in its registry lies what running needs.
pub struct Machine {
    state: State,
    places: Places,
    /// Values that are handed over lie here for a moment, under 1.
    handed: Table,
}

/// The state itself.
struct State(NonNull<ffi::lua_State>);

// SAFETY: it is used by the owner of the `Lua` it belongs to only, and with that owner goes to another thread.
unsafe impl Send for State {}

#[derive(Clone, Copy, Default)]
struct Places {
    begin: c_int,
    on_error: c_int,
    globals: c_int,
    chunks: c_int,
    handed: c_int,
}

/// What is to be run.
pub struct Work<'a> {
    /// The chunk or function.
    pub slot: Slot,
    /// It is a function, which gets keys and arguments as its own; a script finds them as `KEYS` and `ARGV`.
    pub is_function: bool,
    /// Keys it is given.
    pub keys: &'a [&'a [u8]],
    /// Arguments it is given.
    pub arguments: &'a [&'a [u8]],
}

/// What the function that runs inside is told.
struct Start<'a> {
    work: &'a Work<'a>,
    places: Places,
}

/// `redis.call` and `redis.pcall` of a state; `desk` has to outlive what runs in it.
///
/// # Errors
/// Lua's memory is used up.
pub fn functions(lua: &Lua, desk: &Arc<Desk>) -> Result<(Function, Function)> {
    let raise = lua.create_function(raise)?;
    let at = Arc::as_ptr(desk).cast_mut().cast::<c_void>();
    let closure = |raise: &Function, function: ffi::lua_CFunction| {
        // SAFETY: the closure given to `exec_raw` owns nothing; the one upvalue is on the stack.
        unsafe {
            lua.exec_raw::<Function>(raise, move |state| {
                ffi::lua_pushlightuserdata(state, at);
                ffi::lua_insert(state, -2);
                ffi::lua_pushcclosure(state, function, 2);
            })
        }
    };
    Ok((closure(&raise, redis_call)?, closure(&raise, redis_pcall)?))
}

/// Raises the error of a command; without one, the end of the script.
fn raise(lua: &Lua, text: Option<LuaString>) -> Result<()> {
    let text = match text {
        Some(text) => text.as_bytes().to_vec(),
        None => match Desk::of(lua).and_then(|desk| desk.session().ended) {
            Some(ended) => return Err(Raised::Ended(ended).into()),
            None => NO_KEYSPACE.into(),
        },
    };
    Err(Raised::Reply(text).into())
}

impl Machine {
    /// What runs in `lua`: chunks by their places in `chunks`, with their keys and arguments among `globals` and `on_error`
    /// as the handler of what they do not catch.
    ///
    /// # Errors
    /// Lua's memory is used up.
    pub fn new(lua: &Lua, on_error: &Function, globals: &Table, chunks: &Table) -> Result<Self> {
        let handed = lua.create_sequence_from([false])?;
        let (mut state, mut places) = (None, Places::default());
        let (into, to) = (&mut state, &mut places);
        // SAFETY: it is only ever called by `run`, with what it expects.
        let begin = unsafe { lua.create_c_function(begin)? };
        let what = (begin, on_error, globals, chunks, &handed);
        // SAFETY: the closure owns nothing; the five values are on the stack, the last one on top.
        unsafe {
            lua.exec_raw::<()>(what, |state| {
                to.handed = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                to.chunks = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                to.globals = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                to.on_error = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                to.begin = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX);
                *into = NonNull::new(state);
            })?;
        }
        let state = state.map(State).ok_or_else(|| mlua::Error::runtime("there is no state"))?;
        Ok(Self { state, places, handed })
    }

    /// Runs `work` with what is lent; `Err` is what it failed with.
    pub fn run(&self, desk: &Desk, lent: &mut Lent<'_>, work: &Work<'_>) -> std::result::Result<Answer, Value> {
        let state = self.state.0.as_ptr();
        let start = Start { work, places: self.places };
        let (top, status) = desk.lend(lent, || {
            // SAFETY: the state is the main one and nothing runs in it. Nothing in front of the protected call raises:
            // there is always room for a few values, and the registry is only read. `start` outlives the call.
            unsafe {
                let top = ffi::lua_gettop(state);
                ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.places.on_error);
                ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.places.begin);
                ffi::lua_pushlightuserdata(state, ptr::from_ref(&start).cast_mut().cast());
                (top, ffi::lua_pcall(state, 1, 1, top + 1))
            }
        });
        // SAFETY: one value was returned, or one error. Nothing here raises: the text is no number to be converted, and
        // what is handed over takes the place of what was there.
        let answer = unsafe {
            let answer = match (status, ffi::lua_type(state, -1)) {
                (0, ffi::LUA_TNIL) => Some(Answer::Nil),
                (0, ffi::LUA_TBOOLEAN) => Some(Answer::Boolean(ffi::lua_toboolean(state, -1) != 0)),
                (0, ffi::LUA_TNUMBER) => Some(Answer::Number(ffi::lua_tonumber(state, -1))),
                (0, ffi::LUA_TSTRING) => {
                    lent.buffers.text.clear();
                    lent.buffers.text.extend_from_slice(text_at(state, -1));
                    Some(Answer::Text)
                }
                _ => {
                    ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.places.handed);
                    ffi::lua_insert(state, -2);
                    ffi::lua_rawseti_(state, -2, 1);
                    None
                }
            };
            ffi::lua_settop(state, top);
            answer
        };
        if let Some(panic) = lent.panic.take() {
            resume_unwind(panic);
        }
        match answer {
            Some(answer) => Ok(answer),
            None if status == 0 => Ok(Answer::Other(self.take())),
            None => Err(self.take()),
        }
    }

    fn take(&self) -> Value {
        let value = self.handed.raw_get(1).unwrap_or(Value::Nil);
        // It must not stay alive here; a failure would leave it until the next one.
        let _ = self.handed.raw_set(1, false);
        value
    }
}

/// Runs the work whose [`Start`] is its argument.
unsafe extern "C-unwind" fn begin(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: `Machine::run` has pushed it and holds it. What may raise here finds no owner on this frame.
    unsafe {
        let start = &*ffi::lua_touserdata(state, 1).cast::<Start<'_>>();
        let Start { work, places } = start;
        ffi::lua_settop(state, 0);
        ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, places.chunks);
        ffi::lua_rawgeti_(state, 1, work.slot as c_int);
        if work.is_function {
            push_list(state, work.keys);
            push_list(state, work.arguments);
            ffi::lua_call(state, 2, 1);
        } else {
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, places.globals);
            push_list(state, work.keys);
            set_field(state, c"KEYS");
            push_list(state, work.arguments);
            set_field(state, c"ARGV");
            ffi::lua_settop(state, 2);
            ffi::lua_call(state, 0, 1);
        }
    }
    1
}

unsafe extern "C-unwind" fn redis_call(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { enter(state, true) }
}

unsafe extern "C-unwind" fn redis_pcall(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: called by Lua.
    unsafe { enter(state, false) }
}

/// Runs the command whose arguments are on the stack, and pushes its reply.
unsafe fn enter(state: *mut ffi::lua_State, raises: bool) -> c_int {
    // SAFETY: the first upvalue is a desk that outlives the state's scripts (see `functions`). `Told` owns nothing, and
    // neither does anything else here once `serve` is over. The tape lies in what is lent, which stays where it is.
    unsafe {
        let desk = &*ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Desk>();
        match serve(state, desk) {
            Told::Value => push_reply(state, desk.tape()),
            Told::Ended => raise_text(state, None),
            Told::Text(text) => refuse(state, raises, text.as_bytes()),
            Told::Error => {
                let tape = desk.tape();
                let text = tape.as_ref().and_then(|tape| tape.error.as_deref()).unwrap_or(NO_KEYSPACE.as_bytes());
                refuse(state, raises, text);
            }
        }
    }
    1
}

/// Runs the command; a panic in it ends the script.
fn serve(state: *mut ffi::lua_State, desk: &Desk) -> Told {
    let told = desk.with_lent(|lent| {
        let served = catch_unwind(AssertUnwindSafe(|| {
            let mut session = desk.session();
            // SAFETY: called by Lua with its arguments on the stack.
            let count = unsafe { ffi::lua_gettop(state) };
            if count == 0 {
                return Told::Text(NO_ARGUMENTS);
            }
            if let Some(told) = call::is_over(&mut session, lent) {
                return told;
            }
            // SAFETY: as above.
            let whole = unsafe { collect(state, count, lent.buffers) };
            if whole { run(&mut session, lent) } else { Told::Text(call::BAD_ARGUMENTS) }
        }));
        served.unwrap_or_else(|panic| {
            lent.panic = Some(panic);
            // Nothing more may run on what the panic left, whatever the script would catch.
            desk.session().ended = Some(Ended::Killed);
            Told::Ended
        })
    });
    told.unwrap_or(Told::Text(NO_KEYSPACE))
}

fn run(session: &mut Session, lent: &mut Lent<'_>) -> Told {
    match lent.keyspace.as_deref_mut() {
        Some(keyspace) => call::run(session, keyspace, lent.buffers),
        None => Told::Text(NO_KEYSPACE),
    }
}

/// Writes the arguments one behind the other; `false` when one is neither text nor number.
unsafe fn collect(state: *mut ffi::lua_State, count: c_int, buffers: &mut Buffers) -> bool {
    buffers.arguments.clear();
    buffers.ends.clear();
    for index in 1..=count {
        // SAFETY: there are `count` arguments. A text is not converted, so neither function raises.
        match unsafe { ffi::lua_type(state, index) } {
            ffi::LUA_TSTRING => buffers.arguments.extend_from_slice(unsafe { text_at(state, index) }),
            ffi::LUA_TNUMBER => call::write_number(unsafe { ffi::lua_tonumber(state, index) }, &mut buffers.arguments),
            _ => return false,
        }
        buffers.ends.push(buffers.arguments.len());
    }
    true
}

/// The text at `index`, which has to be one; it lives as long as it lies there.
unsafe fn text_at<'a>(state: *mut ffi::lua_State, index: c_int) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: Lua gives the place and the length of a text it holds.
    unsafe {
        let text = ffi::lua_tolstring(state, index, &raw mut len);
        if text.is_null() { &[] } else { slice::from_raw_parts(text.cast(), len) }
    }
}

unsafe fn push_text(state: *mut ffi::lua_State, text: &[u8]) {
    // SAFETY: Lua copies `len` bytes.
    unsafe { ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len()) };
}

unsafe fn push_list(state: *mut ffi::lua_State, items: &[&[u8]]) {
    // SAFETY: the caller's frame owns nothing; there is room for two values.
    unsafe {
        ffi::lua_createtable(state, items.len().min(ROOM) as c_int, 0);
        for (item, index) in items.iter().zip(1..) {
            push_text(state, item);
            ffi::lua_rawseti_(state, -2, index);
        }
    }
}

/// Puts what is on top into the table below it. That has no metatable that minds.
unsafe fn set_field(state: *mut ffi::lua_State, name: &CStr) {
    // SAFETY: there is a table below the value.
    unsafe { ffi::lua_setfield(state, -2, name.as_ptr()) };
}

/// Raises an error or pushes it as a table.
unsafe fn refuse(state: *mut ffi::lua_State, raises: bool, text: &[u8]) {
    // SAFETY: the caller's frame owns nothing.
    unsafe {
        if raises {
            raise_text(state, Some(text));
        } else {
            push_error(state, text);
        }
    }
}

/// The table of an error that a command answered.
unsafe fn push_error(state: *mut ffi::lua_State, text: &[u8]) {
    // SAFETY: the caller's frame owns nothing; there is room for two values.
    unsafe {
        ffi::lua_createtable(state, 0, 2);
        push_text(state, text);
        set_field(state, c"err");
        ffi::lua_pushboolean(state, 1);
        set_field(state, c"ignore_error_stats_update");
    }
}

/// Raises an error, or the end of the script, by [`raise`], the second upvalue.
unsafe fn raise_text(state: *mut ffi::lua_State, text: Option<&[u8]>) {
    // SAFETY: the caller's frame owns nothing; there is room for two values.
    unsafe {
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        match text {
            Some(text) => push_text(state, text),
            None => ffi::lua_pushnil(state),
        }
        ffi::lua_call(state, 1, 1);
    }
}

/// Makes the reply noted on `tape` into one value on top of the stack.
unsafe fn push_reply(state: *mut ffi::lua_State, tape: *mut Tape) {
    // SAFETY: the tape lies in what is lent and nobody else touches it while its reply is made. This frame owns nothing.
    // Values are put into tables that lie right below them, and each open aggregate has made room for them.
    unsafe {
        let Some(Tape { bytes, steps, frames, .. }) = tape.as_mut() else { return ffi::lua_pushnil(state) };
        let bytes: &[u8] = bytes;
        for step in steps.iter() {
            let text = |at: &std::ops::Range<usize>| bytes.get(at.start..at.end).unwrap_or_default();
            match step {
                Step::Nil => ffi::lua_pushnil(state),
                Step::Boolean(value) => ffi::lua_pushboolean(state, c_int::from(*value)),
                Step::Number(value) => ffi::lua_pushnumber(state, *value),
                Step::Text(at) => push_text(state, text(at)),
                Step::Status(at) => {
                    ffi::lua_createtable(state, 0, 1);
                    push_text(state, text(at));
                    set_field(state, c"ok");
                }
                Step::Error(at) => push_error(state, text(at)),
                Step::Double(value) => {
                    ffi::lua_createtable(state, 0, 1);
                    ffi::lua_pushnumber(state, *value);
                    set_field(state, c"double");
                }
                Step::Verbatim(at) => {
                    ffi::lua_createtable(state, 0, 1);
                    ffi::lua_createtable(state, 0, 2);
                    push_text(state, b"txt");
                    set_field(state, c"format");
                    push_text(state, text(at));
                    set_field(state, c"string");
                    set_field(state, c"verbatim_string");
                }
                Step::Open(kind, len) => {
                    if ffi::lua_checkstack(state, SLOTS) == 0 {
                        return raise_text(state, Some(TOO_DEEP.as_bytes()));
                    }
                    open(state, *kind, *len);
                    if *len > 0 {
                        frames.push(Frame { kind: *kind, left: *len, next: 1, keyed: false });
                        continue;
                    }
                    close(state, *kind);
                }
            }
            place(state, frames);
        }
    }
}

unsafe fn open(state: *mut ffi::lua_State, kind: Kind, len: usize) {
    let room = len.min(ROOM) as c_int;
    // SAFETY: the caller's frame owns nothing and has made room.
    unsafe {
        match kind {
            Kind::Array => ffi::lua_createtable(state, room, 0),
            Kind::Map => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_createtable(state, 0, room / 2);
            }
            Kind::Set => {
                ffi::lua_createtable(state, 0, 1);
                ffi::lua_createtable(state, 0, room);
            }
        }
    }
}

/// Puts the inside of an aggregate that is full into its outside.
unsafe fn close(state: *mut ffi::lua_State, kind: Kind) {
    // SAFETY: both lie on top, as `open` has pushed them.
    unsafe {
        match kind {
            Kind::Array => {}
            Kind::Map => set_field(state, c"map"),
            Kind::Set => set_field(state, c"set"),
        }
    }
}

/// Puts the value on top where it belongs, and closes what is full with it.
unsafe fn place(state: *mut ffi::lua_State, frames: &mut Vec<Frame>) {
    while let Some(frame) = frames.last_mut() {
        // SAFETY: below the value lies the table of the innermost frame, or a key and then that table.
        unsafe {
            match (frame.kind, frame.keyed) {
                (Kind::Array, _) => {
                    ffi::lua_rawseti_(state, -2, frame.next);
                    frame.next = frame.next.saturating_add(1);
                }
                // A value that is nil cannot be in a table.
                (Kind::Set, _) if ffi::lua_type(state, -1) == ffi::LUA_TNIL => ffi::lua_settop(state, -2),
                (Kind::Set, _) => {
                    ffi::lua_pushboolean(state, 1);
                    ffi::lua_rawset(state, -3);
                }
                (Kind::Map, false) => frame.keyed = true,
                (Kind::Map, true) => {
                    frame.keyed = false;
                    if ffi::lua_type(state, -2) == ffi::LUA_TNIL {
                        ffi::lua_settop(state, -3);
                    } else {
                        ffi::lua_rawset(state, -3);
                    }
                }
            }
            frame.left = frame.left.saturating_sub(1);
            if frame.left > 0 {
                return;
            }
            close(state, frame.kind);
        }
        frames.pop();
    }
}
