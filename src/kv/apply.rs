//! Replaying effects: total, whatever the bytes say.
//!
//! Recovery replays effects over a checkpoint that was taken while they happened, so an effect may meet an absent or a
//! half-built value. It then does what fits and skips what does not; the checkpoint's slice of that key comes later in
//! the replay and sets the whole value right. Over a complete value an effect has exactly one outcome.

use super::dump;
use super::effect::Effect;
use super::entry::Entry;
use super::error::Fault;
use super::keyspace::{Database, Keyspace};
use super::table::Hashing;
use super::value::{Kind, Limits};

impl Keyspace {
    /// Replays one effect; records none.
    ///
    /// # Errors
    /// The value it changes is on disk and cannot be read; the effect is not replayed.
    pub fn apply(&mut self, effect: &Effect<'_>) -> Result<(), Fault> {
        if let Some((store, key)) = effect.changes() {
            self.thaw_key(store, key)?;
        }
        let (limits, second) = (Limits::of(&self.config), self.clock.second());
        let most = self.config.max_value.as_usize();
        let Self { databases, hashing, stores, .. } = self;
        match *effect {
            Effect::Begin | Effect::End => {}
            Effect::Databases(map) => *stores = map,
            Effect::NoLibraries => self.functions.clear(),
            Effect::Library { name, code } => self.functions.keep(&String::from_utf8_lossy(name), code),
            Effect::LibraryDelete { name } => {
                self.functions.drop_library(&String::from_utf8_lossy(name));
            }
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
            Effect::Push { store, key, .. }
            | Effect::Pop { store, key, .. }
            | Effect::ListSet { store, key, .. }
            | Effect::ListInsert { store, key, .. }
            | Effect::ListRemove { store, key, .. }
            | Effect::ListKeep { store, key, .. } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::List, second, |entry| change_list(entry, effect, limits));
                }
            }
            Effect::HashSet { store, key, ref pairs } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::Hash, second, |entry| {
                        let mut pairs = pairs.clone();
                        while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
                            entry.hash_set(field, value, limits, hashing);
                        }
                    });
                }
            }
            Effect::HashDelete { store, key, ref fields } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::Hash, second, |entry| {
                        fields.clone().for_each(|field| {
                            entry.hash_delete(field, hashing);
                        });
                    });
                }
            }
            Effect::SetAdd { store, key, ref members } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::Set, second, |entry| {
                        members.clone().for_each(|member| {
                            entry.set_add(member, limits, hashing);
                        });
                    });
                }
            }
            Effect::SetRemove { store, key, ref members } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::Set, second, |entry| {
                        members.clone().for_each(|member| {
                            entry.set_remove(member, hashing);
                        });
                    });
                }
            }
            Effect::ZSetAdd { store, key, ref members } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::ZSet, second, |entry| {
                        members.clone().for_each(|(score, member)| {
                            entry.zset_set(member, score, limits, hashing);
                        });
                    });
                }
            }
            Effect::ZSetRemove { store, key, ref members } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::ZSet, second, |entry| {
                        members.clone().for_each(|member| {
                            entry.zset_remove(member, hashing);
                        });
                    });
                }
            }
            Effect::Stream { store, key, ref change } => {
                if let Some(mut target) = Target::of(databases, hashing, store, key) {
                    target.edit(Kind::Stream, second, |entry| {
                        if (change.creates() || entry.stream().is_some())
                            && let Some(stream) = entry.stream_mut()
                        {
                            stream.apply(change);
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

/// What an effect does to a list.
fn change_list(entry: &mut Entry, effect: &Effect<'_>, limits: Limits) {
    match *effect {
        Effect::Push { end, ref items, .. } => items.clone().for_each(|item| entry.list_push(end, item, limits)),
        Effect::Pop { end, count, .. } => {
            for _ in 0..count {
                if entry.list_pop(end).is_none() {
                    return;
                }
            }
        }
        Effect::ListSet { index, value, .. } => entry.list_set(saturate(index), value, limits),
        Effect::ListInsert { index, value, .. } => entry.list_insert(saturate(index), value, limits),
        Effect::ListRemove { count, value, .. } => {
            entry.list_remove(count, value);
        }
        Effect::ListKeep { start, len, .. } => entry.list_keep(saturate(start), saturate(len)),
        _ => {}
    }
}

fn saturate(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
        let Some(place) = self.database.find(self.hashing, self.key) else {
            let mut entry = Entry::packed(kind, self.key, &[], second);
            work(&mut entry);
            if !entry.is_empty_collection() {
                self.database.add(self.hashing, entry);
            }
            return;
        };
        if self.database.entries.get(place).is_none_or(|entry| entry.kind() != kind) {
            return;
        }
        let empty = self.database.change(place, |entry| {
            work(entry);
            entry.is_empty_collection()
        });
        if empty == Some(true) {
            self.database.take(self.hashing, place);
        }
    }
}
