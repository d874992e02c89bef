//! Where in a script something happens: the names of chunks are bytes, of which the crate's own look at the stack makes
//! text.
#![expect(unsafe_code, reason = "the crate shows the names of chunks as text only, and they need not be any")]

use std::ffi::{CStr, c_char, c_int};

use mlua::{Lua, ffi};

/// A place on Lua's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the chunk, as it was compiled under.
    pub source: Vec<u8>,
    /// The same as errors write it.
    pub short: Vec<u8>,
    /// The line; `None` where none of a script runs.
    pub line: Option<usize>,
}

/// What runs at `level` of the stack, 0 for the running function itself; `None` beyond the end of the stack.
pub fn place(lua: &Lua, level: usize) -> Option<Place> {
    // One level more: the closure below runs as a function of its own.
    let level = c_int::try_from(level).ok()?.checked_add(1)?;
    let mut found = None;
    let into = &mut found;
    // SAFETY: neither of the two functions called raises an error or touches the stack's values. They fill in what they are
    // given, whose texts live as long as the function on the stack does, and are copied here.
    let looked = unsafe {
        lua.exec_raw::<()>((), |state| {
            let mut at = std::mem::zeroed::<ffi::lua_Debug>();
            if ffi::lua_getstack(state, level, &raw mut at) == 0
                || ffi::lua_getinfo(state, c"Sl".as_ptr(), &raw mut at) == 0
            {
                return;
            }
            *into = Some(Place {
                source: text(at.source),
                short: text(at.short_src.as_ptr()),
                line: usize::try_from(at.currentline).ok(),
            });
        })
    };
    looked.ok().and(found)
}

/// The bytes of a text of C's.
unsafe fn text(at: *const c_char) -> Vec<u8> {
    if at.is_null() {
        return Vec::new();
    }
    // SAFETY: Lua ends its texts with a zero.
    unsafe { CStr::from_ptr(at) }.to_bytes().to_vec()
}
