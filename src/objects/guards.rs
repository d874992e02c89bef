//! What this process is busy with, so that cleaning up keeps its hands off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id128;

/// Ids in use. Clones share one account.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse(Arc<Mutex<HashMap<Id128, u32>>>);

/// The count of an id that somebody has alone.
const ALONE: u32 = u32::MAX;

impl InUse {
    /// Marks `id` until the guard is dropped.
    pub fn hold(&self, id: Id128) -> Hold {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        Hold { all: self.clone(), id }
    }

    /// Marks `id` until the guard is dropped, unless somebody has it alone.
    pub fn share(&self, id: Id128) -> Option<Hold> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(id).or_default();
        if *count == ALONE {
            return None;
        }
        *count += 1;
        drop(all);
        Some(Hold { all: self.clone(), id })
    }

    /// Has `id` alone until the guard is dropped, unless somebody holds it. Only for accounts whose ids are shared, never
    /// held.
    pub fn alone(&self, id: Id128) -> Option<Hold> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&id) {
            return None;
        }
        all.insert(id, ALONE);
        drop(all);
        Some(Hold { all: self.clone(), id })
    }

    /// Every id somebody holds.
    pub fn all(&self) -> Vec<Id128> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Whether somebody holds `id`.
    pub fn holds(&self, id: Id128) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }
}

/// Marks an id as in use.
#[derive(Debug)]
pub(super) struct Hold {
    all: InUse,
    id: Id128,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.id) {
            *count = if *count == ALONE { 0 } else { *count - 1 };
            if *count == 0 {
                all.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_free_when_its_last_holder_is_gone() {
        let in_use = InUse::default();
        let id = Id128::from_bytes([1; 16]);
        let (first, second) = (in_use.hold(id), in_use.hold(id));
        drop(first);
        assert!(in_use.holds(id));
        drop(second);
        assert!(!in_use.holds(id));
    }

    #[test]
    fn an_id_is_had_alone_or_shared() {
        let in_use = InUse::default();
        let id = Id128::from_bytes([1; 16]);
        let shared = in_use.share(id).unwrap();
        assert!(in_use.alone(id).is_none());
        drop(shared);
        let alone = in_use.alone(id).unwrap();
        assert!(in_use.share(id).is_none() && in_use.alone(id).is_none());
        drop(alone);
        assert!(in_use.share(id).is_some());
    }
}
