//! Replaying effects: total, whatever the bytes say.
//!
//! Recovery replays effects over a checkpoint that was taken while they happened, so an effect may meet an absent or a
//! half-built value. It then does what fits and skips what does not; the checkpoint's slice of that key comes later in
//! the replay and sets the whole value right. Over a complete value an effect has exactly one outcome.

use super::dump;
use super::effect::Effect;
use super::entry::Entry;
use super::keyspace::{Database, Keyspace};
use super::table::Hashing;
use super::value::Kind;

impl Keyspace {
    /// Replays one effect; records none.
    pub fn apply(&mut self, effect: &Effect<'_>) {
        let second = self.clock.second();
        let most = self.config.max_value.as_usize();
        let Self { databases, hashing, stores, .. } = self;
        match *effect {
            Effect::Begin | Effect::End => {}
            Effect::Databases(map) => *stores = map,
            Effect::Flush { store } => {
                if let Some(database) = databases.get_mut(usize::from(store)) {
                    *database = Database::default();
                }
            }
            Effect::Restore { store, key, expires, dump } => {
                // Malformed bytes leave the key as it was: the journal's seal already vouches for them.
                let _ = self.load(store, key, expires, dump);
            }
            Effect::Delete { store, key } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.delete();
                }
            }
            Effect::Set { store, key, expires, value } => {
                let mut entry = dump::string(key, value, second);
                entry.set_expires(expires);
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.put(entry);
                }
            }
            Effect::Expire { store, key, expires } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.change(|entry| entry.set_expires(expires));
                }
            }
            Effect::Append { store, key, bytes } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::String, second, |entry| entry.append(bytes, most));
                }
            }
            Effect::SetRange { store, key, offset, bytes } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::String, second, |entry| entry.set_range(offset, bytes, most));
                }
            }
            _ => {}
        }
    }
}

/// A key of a store.
pub(super) struct Target<'a> {
    database: &'a mut Database,
    hashing: &'a Hashing,
    key: &'a [u8],
}

impl<'a> Target<'a> {
    pub fn of(databases: &'a mut [Database], hashing: &'a Hashing, store: u8, key: &'a [u8]) -> Option<Self> {
        Some(Self { database: databases.get_mut(usize::from(store))?, hashing, key })
    }

    fn delete(&mut self) {
        if let Some(place) = self.database.find(self.hashing, self.key) {
            self.database.take(self.hashing, place);
        }
    }

    fn put(&mut self, entry: Entry) {
        match self.database.find(self.hashing, self.key) {
            Some(place) => {
                self.database.change(place, |old| *old = entry);
            }
            None => {
                self.database.add(self.hashing, entry);
            }
        }
    }

    fn change(&mut self, work: impl FnOnce(&mut Entry)) {
        if let Some(place) = self.database.find(self.hashing, self.key) {
            self.database.change(place, work);
        }
    }

    /// Changes a value of one kind, making it when absent; leaves other kinds alone. An emptied collection stays out.
    pub fn edit(&mut self, kind: Kind, second: u32, work: impl FnOnce(&mut Entry)) {
        match self.database.find(self.hashing, self.key) {
            Some(place) => {
                if self.database.entries.get(place).is_some_and(|entry| entry.kind() == kind) {
                    let empty = self.database.change(place, |entry| {
                        work(entry);
                        entry.is_empty_collection()
                    });
                    if empty == Some(true) {
                        self.database.take(self.hashing, place);
                    }
                }
            }
            None => {
                let mut entry = Entry::packed(kind, self.key, &[], second);
                work(&mut entry);
                if !entry.is_empty_collection() {
                    self.database.add(self.hashing, entry);
                }
            }
        }
    }
}
