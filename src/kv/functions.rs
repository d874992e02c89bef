//! Libraries of functions: what is kept of them, and the Lua state they are loaded into.
//!
//! A library is its code, which is recorded as an [effect](super::effect) and so lies in journal, checkpoints and backups.
//! What it registers is found by running the code: when it is loaded, and once more after a start, when somebody wants
//! functions for the first time. Functions have a state of their own, apart from scripts, so that `SCRIPT FLUSH` does not
//! touch them.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::effect::Effects;
use super::error::up_to_zero;
use super::script::{Declared, Engine, Slot, is_name, words};
use crate::base::Random;

/// The libraries.
#[derive(Debug, Default)]
pub(super) struct Functions {
    /// Their code, by name.
    libraries: BTreeMap<String, Box<[u8]>>,
    bytes: usize,
    /// `None` until they are wanted.
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    /// `None` while a function runs.
    engine: Option<Box<Engine>>,
    /// By name in small letters: two that differ in nothing else are one.
    functions: HashMap<String, Registration>,
}

/// A function.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    /// Its library.
    pub library: String,
    /// Its name as it was given.
    pub name: String,
    /// Where the state has it.
    pub slot: Slot,
    /// What its flags say.
    pub declared: Declared,
    /// The flags as they were given.
    pub flags: Vec<String>,
    /// What it is for.
    pub description: Option<Vec<u8>>,
}

/// How much there may be, and where what is random begins.
#[derive(Clone)]
pub(super) struct Room {
    /// Libraries.
    pub count: usize,
    /// Bytes of code.
    pub bytes: usize,
    /// Bytes Lua may use.
    pub memory: usize,
    /// Where `math.random` begins.
    pub random: Arc<dyn Random>,
}

impl Room {
    fn check(&self, count: usize, bytes: usize) -> Result<(), Vec<u8>> {
        if count > self.count || bytes > self.bytes {
            return Err(b"ERR no room for another library (kv.libraries, kv.library_bytes)".to_vec());
        }
        Ok(())
    }
}

/// What happens to libraries that are there when others are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restore {
    /// A library of the same name ends the restore.
    Append,
    /// A library of the same name is replaced.
    Replace,
    /// All go before.
    Flush,
}

impl Functions {
    /// All libraries go.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A library is there, as replay tells; it is loaded when functions are wanted.
    pub fn keep(&mut self, name: &str, code: &[u8]) {
        self.loaded = None;
        self.put(name, code);
    }

    fn put(&mut self, name: &str, code: &[u8]) {
        let old = self.libraries.insert(name.to_owned(), code.into());
        self.bytes = (self.bytes + code.len()).saturating_sub(old.map_or(0, |old| old.len()));
    }

    /// A library goes; says whether it was there.
    pub fn drop_library(&mut self, name: &str) -> bool {
        let Some(code) = self.libraries.remove(name) else { return false };
        self.bytes = self.bytes.saturating_sub(code.len());
        if let Some(Loaded { engine: Some(engine), functions }) = &mut self.loaded {
            forget(engine, functions, name);
            engine.sweep();
        }
        true
    }

    /// Records all libraries, after what removes those of before.
    pub fn record(&self, effects: &mut Effects) {
        if !self.libraries.is_empty() {
            effects.no_libraries();
            self.libraries.iter().for_each(|(name, code)| effects.library(name.as_bytes(), code));
        }
    }

    /// Names and code.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.libraries.iter().map(|(name, code)| (name.as_str(), &**code))
    }

    /// Libraries, functions as far as they are loaded, and bytes Lua uses for them.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (functions, memory) = self.loaded.as_ref().map_or((0, 0), |loaded| {
            (loaded.functions.len(), loaded.engine.as_ref().map_or(0, |engine| engine.used()))
        });
        (self.libraries.len(), functions, memory)
    }

    /// The functions of a library, by name.
    pub fn of<'a>(&'a self, library: &str) -> Vec<&'a Registration> {
        let all = self.loaded.iter().flat_map(|loaded| loaded.functions.values());
        let mut of: Vec<&Registration> = all.filter(|function| function.library == library).collect();
        of.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        of
    }

    /// Loads the libraries, unless they are.
    ///
    /// # Errors
    /// Lua has too little memory for itself. A library that does not load any more is told in the log and has no functions.
    pub fn load(&mut self, room: &Room) -> Result<(), Vec<u8>> {
        if self.loaded.is_some() {
            return Ok(());
        }
        let mut engine = start(room)?;
        let mut functions = HashMap::new();
        for (name, code) in &self.libraries {
            if let Err(error) = add(&mut engine, &mut functions, name, code) {
                tracing::error!(
                    library = name,
                    error = %String::from_utf8_lossy(&error),
                    "a library of functions does not load; its functions are not there"
                );
            }
        }
        self.loaded = Some(Loaded { engine: Some(engine), functions });
        Ok(())
    }

    /// A function, whatever the case of its name.
    pub fn find(&self, name: &[u8]) -> Option<Registration> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.loaded.as_ref()?.functions.get(&name).cloned()
    }

    /// Takes the state to run a function in.
    pub fn take_engine(&mut self) -> Option<Box<Engine>> {
        self.loaded.as_mut()?.engine.take()
    }

    /// Puts it back.
    pub fn put_engine(&mut self, engine: Box<Engine>) {
        if let Some(loaded) = &mut self.loaded {
            loaded.engine = Some(engine);
        }
    }

    /// Loads one more library; its name.
    ///
    /// # Errors
    /// The reply. Nothing has changed then.
    pub fn add(&mut self, code: &[u8], replace: bool, room: &Room) -> Result<String, Vec<u8>> {
        let name = name_in(code)?;
        let old = self.libraries.get(&name).map(|code| code.len());
        if old.is_some() && !replace {
            return Err(format!("ERR Library '{name}' already exists").into());
        }
        let count = self.libraries.len() + usize::from(old.is_none());
        room.check(count, (self.bytes + code.len()).saturating_sub(old.unwrap_or(0)))?;
        self.load(room)?;
        let Some(Loaded { engine: Some(engine), functions }) = &mut self.loaded else {
            return Err(b"ERR functions cannot be loaded by a function".to_vec());
        };
        add(engine, functions, &name, code)?;
        self.put(&name, code);
        Ok(name)
    }

    /// Loads libraries beside, or in place of, those that are there: all or none. Their names.
    ///
    /// # Errors
    /// The reply. Nothing has changed then.
    pub fn restore(&mut self, codes: &[Vec<u8>], how: Restore, room: &Room) -> Result<Vec<String>, Vec<u8>> {
        let mut next = Self::default();
        if how != Restore::Flush {
            self.libraries.iter().for_each(|(name, code)| next.put(name, code));
        }
        let mut names = Vec::with_capacity(codes.len());
        for code in codes {
            let name = name_in(code)?;
            if names.contains(&name) || how == Restore::Append && next.libraries.contains_key(&name) {
                return Err(format!("ERR Library {name} already exists").into());
            }
            next.put(&name, code);
            names.push(name);
        }
        room.check(next.libraries.len(), next.bytes)?;
        let mut engine = start(room)?;
        let mut functions = HashMap::new();
        for (name, code) in &next.libraries {
            add(&mut engine, &mut functions, name, code)?;
        }
        next.loaded = Some(Loaded { engine: Some(engine), functions });
        *self = next;
        Ok(names)
    }

    /// The code of a library.
    pub fn code(&self, name: &str) -> &[u8] {
        self.libraries.get(name).map_or(&[], |code| code)
    }
}

fn start(room: &Room) -> Result<Box<Engine>, Vec<u8>> {
    let engine = Engine::new(room.memory, &*room.random);
    engine.map(Box::new).map_err(|error| format!("ERR Lua cannot be started (kv.script_memory): {error}").into())
}

/// Loads a library in place of what there was of that name.
fn add(
    engine: &mut Engine,
    functions: &mut HashMap<String, Registration>,
    library: &str,
    code: &[u8],
) -> Result<(), Vec<u8>> {
    let registered = engine.load_library(code)?;
    let others = |name: &str| functions.get(name).is_some_and(|function| function.library != library);
    if let Some((taken, _)) = registered.iter().find(|(one, _)| others(&one.name.to_ascii_lowercase())) {
        let error = format!("ERR Function {} already exists", taken.name).into_bytes();
        for (_, slot) in &registered {
            engine.forget(*slot);
        }
        return Err(error);
    }
    if forget(engine, functions, library) {
        engine.sweep();
    }
    for (one, slot) in registered {
        functions.insert(
            one.name.to_ascii_lowercase(),
            Registration {
                library: library.to_owned(),
                name: one.name,
                slot,
                declared: one.declared,
                flags: one.flags,
                description: one.description,
            },
        );
    }
    Ok(())
}

/// Takes the functions of a library out; says whether there were any.
fn forget(engine: &mut Engine, functions: &mut HashMap<String, Registration>, library: &str) -> bool {
    let before = functions.len();
    functions.retain(|_, function| {
        let stays = function.library != library;
        if !stays {
            engine.forget(function.slot);
        }
        stays
    });
    functions.len() != before
}

/// The name that the first line of a library gives it: `#!lua name=<name>`.
fn name_in(code: &[u8]) -> Result<String, Vec<u8>> {
    if !code.starts_with(b"#!") {
        return Err(b"ERR Missing library metadata".to_vec());
    }
    let end = memchr::memchr(b'\n', code).ok_or(b"ERR Invalid library metadata")?;
    let mut words = words(code.get(2..end).unwrap_or_default());
    let engine = words.next().unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err([&b"ERR Engine '"[..], up_to_zero(engine), b"' not found"].concat());
    }
    let mut name = None;
    for word in words {
        let given = word
            .split_at_checked(5)
            .filter(|(key, _)| key.eq_ignore_ascii_case(b"name="))
            .ok_or_else(|| [&b"ERR Invalid metadata value given: "[..], up_to_zero(word)].concat())?
            .1;
        if name.replace(given).is_some() {
            return Err(b"ERR Invalid metadata value, name argument was given multiple times".to_vec());
        }
    }
    let name = name.ok_or(b"ERR Library name was not given")?;
    let name = std::str::from_utf8(name).map(|name| name.trim_matches('"')).ok().filter(|name| is_name(name));
    name.map(str::to_owned).ok_or_else(|| super::script::BAD_NAME.into())
}
