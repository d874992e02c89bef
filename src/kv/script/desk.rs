//! What Lua reaches of ours while a script runs: the keyspace and the door are lent to it for exactly that long.
//!
//! Lua knows values that live for ever, and a script's commands need the keyspace that the caller holds. In between lies
//! one pointer, which is set while [`Desk::lend`] runs and taken away while it is used, so that nobody has the keyspace
//! twice. What makes that sound: the state is used by one thread at a time (whoever holds the engine), and a loan ends
//! before the borrow it is made of.
#![expect(unsafe_code, reason = "a loan to Lua cannot be written as a borrow; see the file's doc for why it is sound")]

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlua::Lua;

use super::Host;
use super::session::Session;
use super::tape::{Buffers, Tape};
use crate::kv::keyspace::Keyspace;

/// What a script is lent.
pub struct Lent<'a> {
    /// Where its commands run; `None` while a library is loaded.
    pub keyspace: Option<&'a mut Keyspace>,
    /// The door.
    pub host: &'a mut dyn Host,
    /// Arguments and reply of the command being called.
    pub buffers: &'a mut Buffers,
    /// The panic that ended a command; it goes on when Lua has come to its end.
    pub panic: Option<Box<dyn Any + Send>>,
}

/// The meeting place of a state and those who run scripts in it.
pub struct Desk {
    session: Mutex<Session>,
    lent: AtomicPtr<c_void>,
}

/// Puts the pointer back, whatever ends the work.
struct Back<'a> {
    to: &'a AtomicPtr<c_void>,
    at: *mut c_void,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.to.store(self.at, Ordering::Relaxed);
    }
}

impl Desk {
    /// Nothing is lent; `seed` is where `math.random` begins.
    pub const fn new(seed: u64) -> Self {
        Self { session: Mutex::new(Session::new(seed)), lent: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The desk of a state.
    pub fn of(lua: &Lua) -> Option<Arc<Self>> {
        lua.app_data_ref::<Arc<Self>>().map(|desk| Arc::clone(&desk))
    }

    /// The script under way.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends `lent` while `work` runs.
    pub fn lend<R>(&self, lent: &mut Lent<'_>, work: impl FnOnce() -> R) -> R {
        let before = self.lent.swap(ptr::from_mut(lent).cast(), Ordering::Relaxed);
        let _back = Back { to: &self.lent, at: before };
        work()
    }

    /// Uses what is lent; `None` when nothing is, or somebody uses it already.
    pub fn with_lent<R>(&self, work: impl FnOnce(&mut Lent<'_>) -> R) -> Option<R> {
        let at = self.lent.swap(ptr::null_mut(), Ordering::Relaxed);
        let _back = Back { to: &self.lent, at };
        // SAFETY: set by `lend` alone, which holds the borrow until it has taken the pointer back; nobody else finds it
        // until `_back` is dropped.
        let lent = unsafe { at.cast::<Lent<'_>>().as_mut() }?;
        Some(work(lent))
    }

    /// Where the reply to the last command lies, for a caller that must leave nothing behind on its stack; null when
    /// nothing is lent.
    pub fn tape(&self) -> *mut Tape {
        self.with_lent(|lent| &raw mut lent.buffers.tape).unwrap_or(ptr::null_mut())
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}
