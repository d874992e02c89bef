//! Another master key: the ring changes at one moment, and what lies elsewhere is wrapped anew behind it.
//!
//! 1. The new key is durable in `keys/master.key.next`, unless the operator gives it.
//! 2. The ring is replaced: the new key is the one in use, every key of the ring is wrapped by it, and so is the old master
//!    key, under `older`. From here on all that is wrapped is wrapped by the new key, and both open.
//! 3. `keys/master.key` is replaced by the new key, `master.key.next` removed.
//! 4. Whoever keeps wrapped keys elsewhere (buckets, exports of the index, backup repositories) has them wrapped anew, with
//!    [`Keyring::rewrap`].
//! 5. When nothing refers to the old key any more, [`Keyring::forget`] takes it out of the ring.
//!
//! A crash between 1 and 2 has changed nothing: the next attempt takes the key that lies there. Between 2 and 3 the ring names
//! the key in `master.key.next`, which the next start finds and puts in its place ([`Keyring::settle`]). Step 4 may be done
//! any number of times, and goes on as long as the ring has older keys. A ring that could be replaced or not (an error of the
//! disk) opens either way: a key that was wrapped by the old one meanwhile is one of those of step 4.

use std::sync::Arc;

use super::MasterKey;
use super::keyring::{Keyring, KeyringError, Origin, State, at, next_path, read_master, write_master};
use super::wrapping::{Wrapping, unopened};
use crate::base::Secret;

/// The ids of the master keys that open something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masters {
    /// The one in use.
    pub active: String,
    /// Those being left.
    pub older: Vec<String>,
    /// Where the one in use comes from, when the operator gives it.
    pub given: Option<&'static str>,
}

/// What a change of the master key came to.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Id of the key in use from now on.
    pub active: String,
    /// Id of the one before.
    pub previous: String,
    /// The one before, written out: backups made until now need it.
    pub previous_key: Secret<String>,
}

/// As long as it lives, the master keys stay as they are.
#[derive(Clone, Debug)]
pub struct Hold {
    _held: Arc<()>,
}

impl Keyring {
    /// The master keys.
    pub fn masters(&self) -> Masters {
        let state = self.state();
        let given = match &self.origin {
            Origin::Folder => None,
            Origin::Given { from, .. } => Some(*from),
        };
        let older = state.older.iter().map(|older| older.id().to_owned()).collect();
        Masters { active: state.active.id().to_owned(), older, given }
    }

    /// Whether a master key is being left.
    pub fn is_changing(&self) -> bool {
        !self.state().older.is_empty()
    }

    /// Has the master keys stay as they are, for who reads the ring at one moment and what it has wrapped at another.
    pub fn hold(&self) -> Hold {
        let _state = self.state();
        Hold { _held: Arc::clone(&self.held) }
    }

    /// Makes a new master key in the folder, and has it wrap everything from now on. Blocks.
    ///
    /// # Errors
    /// [`KeyringError::Given`], [`KeyringError::Changing`], [`KeyringError::Held`]: nothing has changed.
    /// [`KeyringError::Disk`]: it may have; the folder opens either way.
    pub fn rotate(&self) -> Result<Changed, KeyringError> {
        if let Origin::Given { from, .. } = &self.origin {
            return Err(KeyringError::Given { from });
        }
        let mut state = self.state_mut();
        if let Some(older) = state.older.first() {
            return Err(KeyringError::Changing { older: older.id().to_owned() });
        }
        self.free()?;
        let path = next_path(&self.master_path());
        // One that lies there may be the one that the ring on disk names.
        let there = read_master(self.disk.as_ref(), &path)?.filter(|there| there.id() != state.active.id());
        let next = if let Some(next) = there {
            next
        } else {
            let next = MasterKey::random(self.random.as_ref());
            write_master(self.disk.as_ref(), &path, &next)?;
            next
        };
        let changed = self.change(&mut state, next)?;
        self.settle_file(&state)?;
        Ok(changed)
    }

    /// Ends what a crash has cut off: the folder's master key is the ring's. Has the key that the operator gives wrap
    /// everything from now on, when the ring still names the one before. Call it at a start. Blocks.
    ///
    /// # Errors
    /// [`KeyringError::Disk`], [`KeyringError::MasterFile`]; it may be called again.
    pub fn settle(&self) -> Result<Option<Changed>, KeyringError> {
        let mut state = self.state_mut();
        if !state.older.is_empty() {
            // The ring may be one whose name a failed sync has left in doubt.
            let path = self.master_path();
            let folder = crate::base::disk::parent(&path);
            self.disk.sync_dir(folder).map_err(at(folder))?;
        }
        match &self.origin {
            Origin::Folder => self.settle_file(&state).map(|()| None),
            Origin::Given { next: Some(next), .. } if next.id() != state.active.id() => {
                self.free()?;
                self.change(&mut state, next.clone()).map(Some)
            }
            Origin::Given { .. } => Ok(None),
        }
    }

    /// What `wrapped` becomes under the master key in use; `None` when that one has wrapped it.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] when no master key of the ring has: it refers to none of them.
    pub fn rewrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Option<Vec<u8>>, KeyringError> {
        let state = self.state();
        if state.active.unwrap(context, wrapped).is_some() {
            return Ok(None);
        }
        let key = state.older.iter().find_map(|older| older.unwrap(context, wrapped));
        let key = key.ok_or_else(|| unopened(context))?;
        Ok(Some(state.active.wrap(self.random.as_ref(), context, &key)))
    }

    /// Takes the older master keys out of the ring, and tells which. Call it when nothing refers to them. Blocks.
    ///
    /// # Errors
    /// [`KeyringError::Held`]; [`KeyringError::Disk`]: they may be gone or not, and it may be called again.
    pub fn forget(&self) -> Result<Vec<String>, KeyringError> {
        self.settle()?;
        let mut state = self.state_mut();
        self.free()?;
        let forgotten: Vec<String> = state.older.iter().map(|older| older.id().to_owned()).collect();
        if forgotten.is_empty() {
            return Ok(forgotten);
        }
        // The file of a folder whose key the operator gives by now. The ring has it still.
        let path = self.master_path();
        if matches!(self.origin, Origin::Given { .. })
            && read_master(self.disk.as_ref(), &path)?.is_some_and(|there| forgotten.contains(&there.id()))
        {
            self.remove(&path)?;
        }
        let active = state.active.clone();
        self.replace(&mut state, active, Vec::new())?;
        Ok(forgotten)
    }

    /// Puts `next` in the place of the master key in use.
    fn change(&self, state: &mut State, next: MasterKey) -> Result<Changed, KeyringError> {
        let (previous, previous_key) = (state.active.id().to_owned(), state.active.master().export());
        let next = Wrapping::new(next);
        let older = state.all().filter(|older| older.id() != next.id()).cloned().collect();
        self.replace(state, next, older)?;
        Ok(Changed { active: state.active.id().to_owned(), previous, previous_key })
    }

    /// Makes `keys/master.key` hold the ring's master key, and removes `master.key.next` when it is the same.
    fn settle_file(&self, state: &State) -> Result<(), KeyringError> {
        let path = self.master_path();
        let disk = self.disk.as_ref();
        if read_master(disk, &path)?.is_none_or(|there| there.id() != state.active.id()) {
            write_master(disk, &path, state.active.master())?;
        }
        let next = next_path(&path);
        if read_master(disk, &next)?.is_some_and(|there| there.id() == state.active.id()) {
            self.remove(&next)?;
        }
        Ok(())
    }

    fn remove(&self, path: &std::path::Path) -> Result<(), KeyringError> {
        self.disk.remove_file(path).map_err(at(path))?;
        let folder = crate::base::disk::parent(path);
        self.disk.sync_dir(folder).map_err(at(folder))
    }

    /// Whether nobody holds the master keys.
    fn free(&self) -> Result<(), KeyringError> {
        // Who holds them has come by the lock that is held here.
        if Arc::strong_count(&self.held) > 1 { Err(KeyringError::Held) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
