//! The keyspace: sixteen databases in the hands of one thread.

use std::sync::Arc;
use std::time::Duration;

use super::client::ClientId;
use super::clock;
use super::cold::{Cold, Share, Sums};
use super::config::{DATABASES, KvConfig};
use super::deliver::Delivery;
use super::effect::{Effects, Stores};
use super::entry::Entry;
use super::error::Fault;
use super::eviction::Policy;
use super::memory::Memory;
use super::notify::{Class, Notes};
use super::pubsub::Channels;
use super::table::{Hashing, Place, Table};
use super::value::{Kind, Limits};
use super::wait::Waits;
use super::watch::Watches;
use crate::base::{Random, Timestamp};

/// All keys, and what hangs on them: watches, blocked clients, subscriptions.
///
/// One thread owns it. Time comes in by [`Keyspace::set_now`], once a loop turn; no command reads a clock.
#[derive(Debug)]
pub struct Keyspace {
    pub(super) config: KvConfig,
    pub(super) random: Arc<dyn Random>,
    pub(super) hashing: Hashing,
    /// By store, see [`Stores`].
    pub(super) databases: Vec<Database>,
    pub(super) stores: Stores,
    pub(super) clock: Now,
    pub(super) effects: Effects,
    pub(super) watches: Watches,
    pub(super) waits: Waits,
    pub(super) channels: Channels,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) notes: Notes,
    pub(super) sweep: super::expiry::Sweep,
    pub(super) counts: Counts,
    /// Tables of flushed databases, to be dropped in slices.
    pub(super) dying: Vec<Table<Entry>>,
    /// What each database number does when memory is full.
    pub(super) policies: [Policy; DATABASES as usize],
    pub(super) memory: Memory,
    /// Where values go that do not fit into memory.
    pub(super) cold: Option<Cold>,
    /// Lua, once a client has asked for it.
    pub(super) scripts: Option<Box<super::script::Engine>>,
    /// Libraries of functions.
    pub(super) functions: super::functions::Functions,
}

/// The moment of the current loop turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall: u64,
    /// Since an arbitrary start.
    pub monotonic: Duration,
}

impl Now {
    /// What an entry used now notes (see [`clock`]).
    pub const fn second(self) -> u32 {
        clock::stamp(self.monotonic.as_secs())
    }

    /// Seconds since the use that `access` tells of.
    pub const fn idle(self, access: u32) -> u32 {
        clock::idle(access, self.monotonic.as_secs())
    }
}

/// What `INFO stats` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lookups of reading commands that found their key.
    pub hits: u64,
    /// Lookups of reading commands that did not.
    pub misses: u64,
    /// Keys that vanished because their time had come.
    pub expired: u64,
    /// Keys deleted to make room.
    pub evicted: u64,
}

/// What `INFO keyspace` shows of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Keys, expired ones not yet met included.
    pub keys: usize,
    /// Keys with an expiry.
    pub expiring: usize,
    /// Bytes keys and values take in memory, the table's among them.
    pub memory: usize,
    /// Keys whose value is on disk only.
    pub cold: usize,
}

/// The keys of one store.
#[derive(Debug, Default)]
pub(super) struct Database {
    pub entries: Table<Entry>,
    /// Entries with an expiry.
    pub expiring: usize,
    /// Sum of [`Entry::memory`].
    pub used: usize,
    pub cold: Sums,
}

impl Database {
    pub fn find(&self, hashing: &Hashing, key: &[u8]) -> Option<Place> {
        self.entries.find(hashing.hash(key), |entry| entry.key() == key)
    }

    /// Bytes keys and values take in memory, the table's among them.
    pub fn memory(&self) -> usize {
        // The slots are counted with the entries.
        self.used + self.entries.overhead() - self.entries.len() * size_of::<Entry>()
    }

    /// Takes a key out.
    pub fn take(&mut self, hashing: &Hashing, place: Place) -> Option<Entry> {
        let entry = self.entries.remove(place, |entry| hashing.hash(entry.key()))?;
        self.used = self.used.saturating_sub(entry.memory());
        self.expiring = self.expiring.saturating_sub(usize::from(entry.expires().is_some()));
        self.cold.remove(Share::of(&entry));
        Some(entry)
    }

    /// Adds a key that is not there.
    pub fn add(&mut self, hashing: &Hashing, entry: Entry) -> Place {
        self.used += entry.memory();
        self.expiring += usize::from(entry.expires().is_some());
        self.cold.add(Share::of(&entry));
        self.entries.insert(hashing.hash(entry.key()), entry, |entry| hashing.hash(entry.key()))
    }

    /// Changes an entry and keeps the sums right.
    pub fn change<R>(&mut self, place: Place, work: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entries.get_mut(place)?;
        let (memory, expiring, share) = (entry.memory(), entry.expires().is_some(), Share::of(entry));
        let done = work(entry);
        self.used = (self.used + entry.memory()).saturating_sub(memory);
        self.expiring = (self.expiring + usize::from(entry.expires().is_some())).saturating_sub(usize::from(expiring));
        let now = Share::of(entry);
        if now != share {
            self.cold.remove(share);
            self.cold.add(now);
        }
        Some(done)
    }
}

/// An entry under change, and what a change needs.
pub(super) struct Edit<'a> {
    pub entry: &'a mut Entry,
    pub effects: &'a mut Effects,
    pub hashing: &'a Hashing,
    pub random: &'a dyn Random,
    pub limits: Limits,
    pub store: u8,
    pub key: &'a [u8],
    /// Whether the key was not there before.
    pub fresh: bool,
    /// Its database, by the number clients know it by.
    pub db: u8,
    /// What effects do not tell of this change.
    pub notes: &'a mut Notes,
}

/// Whether [`Keyspace::edit`] makes a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Starts with an empty value; nothing stays when it is still empty afterwards.
    Create,
    /// Nothing to do.
    Skip,
}

impl Keyspace {
    /// An empty keyspace. `random` draws its hash function and what `SPOP` and the like pick.
    pub fn new(config: KvConfig, random: Arc<dyn Random>) -> Self {
        Self {
            hashing: Hashing::new(&*random),
            policies: config.eviction.policies(),
            memory: Memory::new(&config, &*random),
            cold: None,
            random,
            databases: (0..DATABASES).map(|_| Database::default()).collect(),
            stores: std::array::from_fn(|db| db as u8),
            clock: Now::default(),
            effects: Effects::default(),
            watches: Watches::default(),
            waits: Waits::default(),
            channels: Channels::default(),
            deliveries: Vec::new(),
            notes: Notes::new(config.notify_keyspace_events),
            sweep: super::expiry::Sweep::default(),
            counts: Counts::default(),
            dying: Vec::new(),
            scripts: None,
            functions: super::functions::Functions::default(),
            config,
        }
    }

    /// An empty one with the same settings, to stand where this one is taken from for a while.
    #[must_use]
    pub fn stand_in(&self) -> Self {
        Self::new(self.config.clone(), Arc::clone(&self.random))
    }

    /// Sets the time of this loop turn: the wall clock for expiry, a clock that never goes back for waits.
    pub fn set_now(&mut self, wall: Timestamp, monotonic: Duration) {
        self.clock = Now { wall: wall.millis(), monotonic };
    }

    /// The wall clock of this loop turn.
    pub const fn now(&self) -> Timestamp {
        Timestamp(self.clock.wall)
    }

    /// The settings it runs by.
    pub const fn config(&self) -> &KvConfig {
        &self.config
    }

    /// The settings it runs by, for what `CONFIG SET` may change.
    pub const fn config_mut(&mut self) -> &mut KvConfig {
        &mut self.config
    }

    /// What changed since the journal last took it. The door appends [`Effects::bytes`] to the journal before it sends
    /// the replies of a loop turn, then calls [`Effects::clear`].
    pub const fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// Messages for clients other than the one a command came from, in order; the door takes and sends them.
    pub fn deliveries(&mut self) -> std::vec::Drain<'_, Delivery> {
        self.deliveries.drain(..)
    }

    /// Bytes keys and values take in memory: entries as the allocator rounds them, and tables with their slack.
    pub fn used(&self) -> usize {
        self.databases.iter().map(Database::memory).sum()
    }

    /// Counters since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// A database by its number.
    pub fn database_info(&self, db: u8) -> DatabaseInfo {
        let database = self.database(db);
        DatabaseInfo {
            keys: database.entries.len(),
            expiring: database.expiring,
            memory: database.memory(),
            cold: database.cold.keys,
        }
    }

    /// Clients waiting in a blocking command.
    pub fn blocked_clients(&self) -> usize {
        self.waits.len()
    }

    /// Whether `client` waits in a blocking command.
    pub fn is_blocked(&self, client: ClientId) -> bool {
        self.waits.holds(client)
    }

    /// The store behind a database number.
    pub(super) fn store(&self, db: u8) -> u8 {
        self.stores.get(usize::from(db)).copied().unwrap_or(0)
    }

    pub(super) fn database(&self, db: u8) -> &Database {
        &self.databases[usize::from(self.store(db))]
    }

    pub(super) fn database_mut(&mut self, db: u8) -> &mut Database {
        let store = self.store(db);
        &mut self.databases[usize::from(store)]
    }

    /// Where a live key is; one whose time has come is deleted on the way.
    pub(super) fn find(&mut self, db: u8, key: &[u8]) -> Option<Place> {
        let now = self.clock.wall;
        let database = &self.databases[usize::from(self.store(db))];
        let place = database.find(&self.hashing, key)?;
        if database.entries.get(place)?.expires().is_some_and(|at| at <= now) {
            self.expire_at(db, place);
            return None;
        }
        Some(place)
    }

    /// A live key without its value, which may be on disk; does not note the use.
    pub(super) fn glance(&mut self, db: u8, key: &[u8]) -> Option<&Entry> {
        let place = self.find(db, key)?;
        self.database(db).entries.get(place)
    }

    /// A live key, without noting the use.
    ///
    /// # Errors
    /// Its value is on disk and cannot be read.
    pub(super) fn peek(&mut self, db: u8, key: &[u8]) -> Result<Option<&Entry>, Fault> {
        let Some(place) = self.find(db, key) else { return Ok(None) };
        self.thaw(self.store(db), place)?;
        Ok(self.database(db).entries.get(place))
    }

    /// A live key without its value, for a reading command that is no use of it: counts hit or miss.
    pub(super) fn look(&mut self, db: u8, key: &[u8]) -> Option<&Entry> {
        let place = self.read_place_unused(db, key)?;
        self.database(db).entries.get(place)
    }

    /// Where a live key is, for a reading command: notes the use and counts hit or miss. Its value may be on disk.
    pub(super) fn read_place(&mut self, db: u8, key: &[u8]) -> Option<Place> {
        let place = self.read_place_unused(db, key)?;
        self.touch(db, place);
        Some(place)
    }

    fn read_place_unused(&mut self, db: u8, key: &[u8]) -> Option<Place> {
        let Some(place) = self.find(db, key) else {
            self.counts.misses += 1;
            self.notes.missed(self.effects.mark(), db, key);
            return None;
        };
        self.counts.hits += 1;
        Some(place)
    }

    /// A live key with its value, of one type only, for a command that is about to change it.
    ///
    /// # Errors
    /// [`Fault::WrongType`], or its value is on disk and cannot be read.
    pub(super) fn peek_kind(&mut self, db: u8, key: &[u8], kind: Kind) -> Result<Option<&Entry>, Fault> {
        match self.peek(db, key)? {
            Some(entry) if entry.kind() != kind => Err(Fault::WrongType),
            found => Ok(found),
        }
    }

    /// Notes the use of a value.
    pub(super) fn touch(&mut self, db: u8, place: Place) {
        let second = self.clock.second();
        let counts = self.policy(db).counts_uses();
        let draw = if counts { self.memory.draw() } else { 0 };
        let monotonic = self.clock.monotonic.as_secs();
        if let Some(entry) = self.database_mut(db).entries.get_mut(place) {
            entry.set_access(if counts { clock::counted(entry.access(), monotonic, draw as u32) } else { second });
        }
    }

    /// A live key with its value, as [`Keyspace::read_place`].
    ///
    /// # Errors
    /// Its value is on disk and cannot be read.
    pub(super) fn read(&mut self, db: u8, key: &[u8]) -> Result<Option<&Entry>, Fault> {
        let Some(place) = self.read_place(db, key) else { return Ok(None) };
        self.thaw(self.store(db), place)?;
        Ok(self.database(db).entries.get(place))
    }

    /// As [`Keyspace::read`], of one type only.
    pub(super) fn read_kind(&mut self, db: u8, key: &[u8], kind: Kind) -> Result<Option<&Entry>, Fault> {
        match self.read_place(db, key) {
            None => Ok(None),
            Some(place) if self.database(db).entries.get(place).is_some_and(|entry| entry.kind() != kind) => {
                Err(Fault::WrongType)
            }
            Some(place) => {
                self.thaw(self.store(db), place)?;
                Ok(self.database(db).entries.get(place))
            }
        }
    }

    /// Changes a key of one type. `work` records the effects; a key it leaves empty vanishes, with an explicit effect.
    ///
    /// # Errors
    /// [`Fault::WrongType`], a value that cannot be read from disk, and whatever `work` says; it must not have changed
    /// anything then.
    pub(super) fn edit<R>(
        &mut self,
        db: u8,
        key: &[u8],
        kind: Kind,
        missing: Missing,
        work: impl FnOnce(&mut Edit<'_>) -> Result<R, Fault>,
    ) -> Result<Option<R>, Fault> {
        let place = self.find(db, key);
        let (second, store) = (self.clock.second(), self.store(db));
        if let Some(place) = place {
            if self.database(db).entries.get(place).is_some_and(|entry| entry.kind() != kind) {
                return Err(Fault::WrongType);
            }
            self.thaw(store, place)?;
            self.touch(db, place);
        }
        let mark = self.effects.mark();
        let Self { databases, hashing, effects, random, config, notes, .. } = self;
        let database = &mut databases[usize::from(store)];
        let limits = Limits::of(config);
        let random = &**random;
        let done = match place {
            Some(place) => {
                let done = database.change(place, |entry| {
                    let fresh = false;
                    let done =
                        work(&mut Edit { entry, effects, hashing, random, limits, store, key, fresh, db, notes });
                    (done, entry.is_empty_collection())
                });
                let Some((done, empty)) = done else { return Ok(None) };
                if empty {
                    database.take(hashing, place);
                    effects.delete(store, key);
                }
                done
            }
            None if missing == Missing::Skip => return Ok(None),
            None => {
                let mut entry = Entry::packed(kind, key, &[], second);
                let done = work(&mut Edit {
                    entry: &mut entry,
                    effects,
                    hashing,
                    random,
                    limits,
                    store,
                    key,
                    fresh: true,
                    db,
                    notes,
                });
                if done.is_err() || entry.is_empty_collection() || effects.mark() == mark {
                    effects.truncate(mark);
                } else {
                    database.add(hashing, entry);
                    self.waits.note(db, key);
                    self.notes.new_key(mark, db, key);
                }
                done
            }
        };
        if self.effects.mark() != mark {
            self.watches.touch(db, key);
        }
        done.map(Some)
    }

    /// Puts an entry in place of whatever its key held. The caller records the effect.
    pub(super) fn put(&mut self, db: u8, mut entry: Entry) {
        let store = usize::from(self.store(db));
        let (counts, monotonic) = (self.policy(db).counts_uses(), self.clock.monotonic.as_secs());
        let draw = if counts { self.memory.draw() } else { 0 };
        let Self { databases, hashing, .. } = self;
        if let Some(place) = databases[store].find(hashing, entry.key()) {
            self.watches.touch(db, entry.key());
            self.waits.note(db, entry.key());
            databases[store].change(place, |old| {
                if counts {
                    // What is often used stays so when it is written.
                    entry.set_access(clock::counted(old.access(), monotonic, draw as u32));
                }
                *old = entry;
            });
        } else {
            self.watches.touch(db, entry.key());
            self.waits.note(db, entry.key());
            // The effect is recorded by now; nothing else can have come between.
            self.notes.new_key(self.effects.last(), db, entry.key());
            databases[store].add(hashing, entry);
        }
    }

    /// Deletes a live key and records it; says whether it was there.
    pub(super) fn delete(&mut self, db: u8, key: &[u8]) -> bool {
        let Some(place) = self.find(db, key) else { return false };
        self.delete_at(db, place);
        true
    }

    /// Deletes what is at `place` and records it.
    pub(super) fn delete_at(&mut self, db: u8, place: Place) -> Option<Entry> {
        let store = self.store(db);
        let entry = self.databases[usize::from(store)].take(&self.hashing, place)?;
        self.effects.delete(store, entry.key());
        self.watches.touch(db, entry.key());
        self.waits.note(db, entry.key());
        Some(entry)
    }

    /// Deletes what is at `place`, which no command has asked for; says whether it was there.
    pub(super) fn drop_at(&mut self, db: u8, place: Place, why: Class) -> bool {
        let mark = self.effects.mark();
        let Some(entry) = self.delete_at(db, place) else { return false };
        self.notes.deleted(mark, why, db, entry.key());
        true
    }

    /// Deletes a key whose time has come.
    pub(super) fn expire_at(&mut self, db: u8, place: Place) {
        if self.drop_at(db, place, Class::Expired) {
            self.counts.expired += 1;
        }
    }

    /// Sets or removes the expiry of the key at `place` and records it.
    pub(super) fn set_expires(&mut self, db: u8, place: Place, key: &[u8], expires: Option<u64>) {
        let store = self.store(db);
        self.databases[usize::from(store)].change(place, |entry| entry.set_expires(expires));
        self.effects.expire(store, key, expires);
        self.watches.touch(db, key);
    }
}
