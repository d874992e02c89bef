//! Consumer groups: how far a group has read, and who has been given what without having acknowledged it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Id;

/// A consumer group.
#[derive(Debug, Default)]
pub struct Group {
    /// The last entry given to anybody.
    pub last: Id,
    /// Entries ever read, deleted ones counted; `None` when that cannot be told.
    pub read: Option<u64>,
    pending: BTreeMap<Id, Pending>,
    consumers: BTreeMap<Arc<[u8]>, Consumer>,
    /// Bytes of the consumers' names.
    names: usize,
}

/// An entry given out and not acknowledged.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who has it.
    pub consumer: Arc<[u8]>,
    /// When it was given out last, in milliseconds since the Unix epoch.
    pub time: u64,
    /// How often it was given out.
    pub count: u64,
}

/// One reader of a group.
#[derive(Debug, Default)]
pub struct Consumer {
    /// When it last tried to read.
    pub seen: u64,
    /// When it last got something.
    pub active: Option<u64>,
    pending: BTreeSet<Id>,
}

impl Consumer {
    /// Entries it has not acknowledged.
    pub fn pending(&self) -> &BTreeSet<Id> {
        &self.pending
    }
}

impl Group {
    /// A group that has read up to `last`.
    pub fn new(last: Id, read: Option<u64>) -> Self {
        Self { last, read, ..Self::default() }
    }

    /// Everything given out and not acknowledged.
    pub const fn pending(&self) -> &BTreeMap<Id, Pending> {
        &self.pending
    }

    /// The consumers by name.
    pub const fn consumers(&self) -> &BTreeMap<Arc<[u8]>, Consumer> {
        &self.consumers
    }

    /// A consumer.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Bytes it takes, roughly: what maps add is counted as a half.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.pending.len() * (size_of::<(Id, Pending)>() + size_of::<Id>()) * 3 / 2
            + self.consumers.len() * (size_of::<(Arc<[u8]>, Consumer)>() * 3 / 2 + 16)
            + self.names
    }

    /// Notes when a consumer was seen, which makes it if need be.
    pub fn see(&mut self, name: &[u8], seen: u64, active: Option<u64>) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen = seen;
            consumer.active = active;
        } else {
            self.names += name.len();
            self.consumers.insert(name.into(), Consumer { seen, active, pending: BTreeSet::new() });
        }
    }

    /// Gives an entry to a consumer that is there, from whoever has it.
    pub fn give(&mut self, name: &[u8], id: Id, time: u64, count: u64) {
        let Some((name, _)) = self.consumers.get_key_value(name) else { return };
        let name = Arc::clone(name);
        self.acknowledge(id);
        if let Some(consumer) = self.consumers.get_mut(&name) {
            consumer.pending.insert(id);
            self.pending.insert(id, Pending { consumer: name, time, count });
        }
    }

    /// Takes an entry back from whoever has it; says whether anybody had.
    pub fn acknowledge(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        true
    }

    /// Forgets a consumer and what it has.
    pub fn forget(&mut self, name: &[u8]) {
        if let Some(consumer) = self.consumers.remove(name) {
            self.names -= name.len();
            consumer.pending.iter().for_each(|id| {
                self.pending.remove(id);
            });
        }
    }
}
