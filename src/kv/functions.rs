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
use super::script::{Declared, Engine, Slot, is_name};
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
    fn check(&self, count: usize, bytes: usize) -> Result<(), String> {
        if count > self.count || bytes > self.bytes {
            return Err("ERR no room for another library (kv.libraries, kv.library_bytes)".to_owned());
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
    pub fn load(&mut self, room: &Room) -> Result<(), String> {
        if self.loaded.is_some() {
            return Ok(());
        }
        let mut engine = start(room)?;
        let mut functions = HashMap::new();
        for (name, code) in &self.libraries {
            if let Err(error) = add(&mut engine, &mut functions, name, code) {
                tracing::error!(
                    library = name,
                    error,
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
    pub fn add(&mut self, code: &[u8], replace: bool, room: &Room) -> Result<String, String> {
        let name = name_in(code)?;
        let old = self.libraries.get(&name).map(|code| code.len());
        if old.is_some() && !replace {
            return Err(format!("ERR Library '{name}' already exists"));
        }
        let count = self.libraries.len() + usize::from(old.is_none());
        room.check(count, (self.bytes + code.len()).saturating_sub(old.unwrap_or(0)))?;
        self.load(room)?;
        let Some(Loaded { engine: Some(engine), functions }) = &mut self.loaded else {
            return Err("ERR functions cannot be loaded by a function".to_owned());
        };
        add(engine, functions, &name, code)?;
        self.put(&name, code);
        Ok(name)
    }

    /// Loads libraries beside, or in place of, those that are there: all or none. Their names.
    ///
    /// # Errors
    /// The reply. Nothing has changed then.
    pub fn restore(&mut self, codes: &[Vec<u8>], how: Restore, room: &Room) -> Result<Vec<String>, String> {
        let mut next = Self::default();
        if how != Restore::Flush {
            self.libraries.iter().for_each(|(name, code)| next.put(name, code));
        }
        let mut names = Vec::with_capacity(codes.len());
        for code in codes {
            let name = name_in(code)?;
            if names.contains(&name) || how == Restore::Append && next.libraries.contains_key(&name) {
                return Err(format!("ERR Library {name} already exists"));
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

fn start(room: &Room) -> Result<Box<Engine>, String> {
    let engine = Engine::new(room.memory, &*room.random);
    engine.map(Box::new).map_err(|error| format!("ERR Lua cannot be started (kv.script_memory): {error}"))
}

/// Loads a library in place of what there was of that name.
fn add(
    engine: &mut Engine,
    functions: &mut HashMap<String, Registration>,
    library: &str,
    code: &[u8],
) -> Result<(), String> {
    let registered = engine.load_library(code)?;
    let others = |name: &str| functions.get(name).is_some_and(|function| function.library != library);
    if let Some((taken, _)) = registered.iter().find(|(one, _)| others(&one.name.to_ascii_lowercase())) {
        let error = format!("ERR Function {} already exists", taken.name);
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
fn name_in(code: &[u8]) -> Result<String, String> {
    if !code.starts_with(b"#!") {
        return Err("ERR Missing library metadata".to_owned());
    }
    let end = memchr::memchr(b'\n', code).ok_or("ERR Invalid library metadata")?;
    let line = String::from_utf8_lossy(code.get(2..end).unwrap_or_default()).into_owned();
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(format!("ERR Engine '{engine}' not found"));
    }
    let mut name = None;
    for word in words {
        let given = word
            .split_at_checked(5)
            .filter(|(key, _)| key.eq_ignore_ascii_case("name="))
            .ok_or_else(|| format!("ERR Invalid metadata value given: {word}"))?
            .1;
        if name.replace(given.trim_matches('"')).is_some() {
            return Err("ERR Invalid metadata value, name argument was given multiple times".to_owned());
        }
    }
    let name = name.ok_or("ERR Library name was not given")?;
    if is_name(name) { Ok(name.to_owned()) } else { Err(super::script::BAD_NAME.to_owned()) }
}
