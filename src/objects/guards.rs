//! What this process is busy with, so that cleaning up keeps its hands off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Id128;

/// Ids in use. Clones share one account.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse(Arc<Mutex<HashMap<Id128, u32>>>);

impl InUse {
    /// Marks `id` until the guard is dropped.
    pub fn hold(&self, id: Id128) -> Hold {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
        Hold { all: self.clone(), id }
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
            *count -= 1;
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
}
