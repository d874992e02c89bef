//! Compiled scripts by the SHA-1 of their text.

use hashbrown::HashMap;

use super::engine::{Engine, Slot};
use super::shebang::Declared;
use crate::kv::error::up_to_zero;

const FULL: &str = "ERR no room for another script: SCRIPT LOAD has filled kv.scripts or kv.script_bytes, and SCRIPT FLUSH empties them";

/// The SHA-1 of a script's text, which is its name.
pub type Sha = [u8; 20];

/// A compiled script.
#[derive(Clone, Copy, Debug)]
pub struct Cached {
    /// Where the state has it.
    pub slot: Slot,
    /// What its first line declares.
    pub declared: Declared,
    /// It came by `SCRIPT LOAD`, which promises that it stays.
    kept: bool,
    bytes: usize,
    used: u64,
}

/// The compiled scripts.
#[derive(Debug, Default)]
pub struct Cache {
    scripts: HashMap<Sha, Cached>,
    bytes: usize,
    clock: u64,
}

/// How many scripts there may be, and of how much text.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Scripts.
    pub count: usize,
    /// Bytes of text.
    pub bytes: usize,
}

impl Cache {
    /// Scripts in it.
    pub fn len(&self) -> usize {
        self.scripts.len()
    }

    /// Bytes of their texts.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it has a script.
    pub fn contains(&self, sha: &Sha) -> bool {
        self.scripts.contains_key(sha)
    }

    /// A script, noting its use.
    pub fn find(&mut self, sha: &Sha) -> Option<Cached> {
        self.clock += 1;
        let found = self.scripts.get_mut(sha)?;
        found.used = self.clock;
        Some(*found)
    }
}

impl Engine {
    /// Compiles `text` and keeps it under `sha`, for good when `kept`; room is made by dropping what `EVAL` left and was
    /// not used for longest.
    ///
    /// # Errors
    /// The reply: it does not compile, or `SCRIPT LOAD` has filled the room.
    pub fn add(&mut self, sha: Sha, text: &[u8], kept: bool, room: Room) -> Result<Cached, Vec<u8>> {
        if let Some(found) = self.cache.scripts.get_mut(&sha) {
            found.kept |= kept;
            return Ok(*found);
        }
        let (declared, code) = Declared::read(text)?;
        if !self.make_room(text.len(), room) {
            return Err(FULL.into());
        }
        let slot = self
            .compile(code, "@user_script")
            .map_err(|error| [&b"ERR Error compiling script (new function): "[..], up_to_zero(&error)].concat())?;
        self.cache.clock += 1;
        let cached = Cached { slot, declared, kept, bytes: text.len(), used: self.cache.clock };
        self.cache.bytes += text.len();
        self.cache.scripts.insert(sha, cached);
        Ok(cached)
    }

    fn make_room(&mut self, bytes: usize, room: Room) -> bool {
        let fits = |cache: &Cache| cache.len() < room.count && cache.bytes.saturating_add(bytes) <= room.bytes;
        if fits(&self.cache) {
            return true;
        }
        let scripts = &self.cache.scripts;
        let mut old: Vec<(u64, Sha)> =
            scripts.iter().filter(|(_, script)| !script.kept).map(|(sha, script)| (script.used, *sha)).collect();
        old.sort_unstable();
        // An eighth at once, so that a client whose every script is new does not sort all of them each time.
        let least = old.len().div_ceil(8);
        for (done, (_, sha)) in old.into_iter().enumerate() {
            if done >= least && fits(&self.cache) {
                break;
            }
            if let Some(script) = self.cache.scripts.remove(&sha) {
                self.cache.bytes = self.cache.bytes.saturating_sub(script.bytes);
                self.forget(script.slot);
            }
        }
        fits(&self.cache)
    }
}
