//! Walking the keyspace in slices, for a checkpoint beside running commands.

use super::cold::Cold;
use super::cold::loader::Wanted;
use super::config::DATABASES;
use super::entry::Entry;
use super::keyspace::Keyspace;

/// A walk over all keys. It meets every key that is there from its start to its end, some perhaps twice; of keys that
/// come or go meanwhile it may meet either state, which the effects recorded around it set right.
#[derive(Debug, Default)]
pub struct Walk {
    store: u8,
    cursor: u64,
    begun: bool,
}

/// A key the walk meets.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The store it lies in (see [`effect`](super::effect)).
    pub store: u8,
    /// The key.
    pub key: &'a [u8],
    /// When it vanishes: milliseconds since the Unix epoch.
    pub expires: Option<u64>,
    entry: &'a Entry,
    cold: Option<&'a Cold>,
}

impl Item<'_> {
    /// Where the value is when it is on disk only, and the bytes of its dump.
    pub fn wanted(&self) -> Option<(Wanted, usize)> {
        let spot = self.entry.spot().filter(|_| self.entry.is_cold())?;
        Some((Keyspace::want(self.cold, self.store, self.entry)?, spot.len as usize))
    }

    /// Appends the value, which must be in memory, to `target`, in the layout of [`dump`](super::dump).
    pub fn dump(&self, target: &mut Vec<u8>) {
        super::dump::dump(self.entry, target);
    }
}

impl Keyspace {
    /// Shows the next keys of a walk until `budget` bytes of keys and values have been shown (at least one bucket of keys) and
    /// says whether the walk is over. Keys whose time has come but that nobody met yet are shown too: leaving them out
    /// would leave what older effects made of them.
    ///
    /// The first slice also records which store each database number names, as an effect: replaying from the start of
    /// the walk must know what `SWAPDB` did before. The libraries of functions go the same way.
    pub fn walk(&mut self, walk: &mut Walk, budget: usize, mut visit: impl FnMut(Item<'_>)) -> bool {
        if !walk.begun {
            walk.begun = true;
            self.effects.databases(&self.stores);
            self.functions.record(&mut self.effects);
        }
        let mut shown = 0;
        while walk.store < DATABASES {
            let store = walk.store;
            let cold = self.cold.as_ref();
            let table = &self.databases[usize::from(store)].entries;
            walk.cursor = table.scan(walk.cursor, |entry| {
                shown += entry.memory();
                if entry.is_cold() {
                    shown += entry.spot().map_or(0, |spot| spot.len as usize);
                }
                visit(Item { store, key: entry.key(), expires: entry.expires(), entry, cold });
            });
            // An empty bucket costs something too.
            shown += 16;
            if walk.cursor == 0 {
                walk.store += 1;
            }
            if shown >= budget {
                return walk.store == DATABASES;
            }
        }
        true
    }
}
