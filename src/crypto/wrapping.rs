//! Wrapping keys with a master key, and opening what one or several have wrapped.
//!
//! A wrapped key is `nonce (12) ‖ ciphertext (32) ‖ tag (16)`; AES-256-GCM under a key derived from the master key;
//! associated data `mainstay/wrapped/v1 ‖ 0 ‖ master id ‖ 0 ‖ context`. So it can neither be opened with another master key
//! nor passed off as another one.

use super::aead::{Aead, NONCE, TAG};
use super::keyring::{KeyringError, older_masters};
use super::{Key, MasterKey};
use crate::base::{Random, random};

/// A master key, ready to wrap.
#[derive(Clone)]
pub(super) struct Wrapping {
    master: MasterKey,
    id: String,
    aead: Aead,
}

impl Wrapping {
    /// Expands `master`.
    pub fn new(master: MasterKey) -> Self {
        let (id, aead) = (master.id(), Aead::new(&master.wrapping_key()));
        Self { master, id, aead }
    }

    /// The master key.
    pub const fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The master key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `key` wrapped for `context`.
    pub fn wrap(&self, random: &dyn Random, context: &[u8], key: &Key) -> Vec<u8> {
        let nonce = random::bytes::<NONCE>(random);
        let mut sealed = *key.expose();
        let tag = self.aead.seal(&nonce, &self.associated(context), &mut sealed);
        [&nonce[..], &sealed, &tag].concat()
    }

    /// The key wrapped for `context`, if this master key has wrapped it.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Option<Key> {
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
        let mut key = <[u8; 32]>::try_from(sealed).ok()?;
        self.aead.open(nonce, &self.associated(context), &mut key, tag).ok()?;
        Some(Key::from_bytes(key))
    }

    fn associated(&self, context: &[u8]) -> Vec<u8> {
        [b"mainstay/wrapped/v1\0", self.id.as_bytes(), b"\0", context].concat()
    }
}

/// The error for what no master key opens.
pub(super) fn unopened(context: &[u8]) -> KeyringError {
    KeyringError::Unwrap { context: String::from_utf8_lossy(context).into_owned() }
}

/// Opens what a master key has wrapped, and what those before it have as far as its keyring knows them; for reading a backup
/// without making a keyring of it.
pub struct Opener(Vec<Wrapping>);

impl Opener {
    /// Of `master` alone.
    pub fn new(master: &MasterKey) -> Self {
        Self(vec![Wrapping::new(master.clone())])
    }

    /// Of `master` and those that the keyring file `ring` tells are being left for it. A ring that does not read tells of
    /// none.
    pub fn with_ring(master: &MasterKey, ring: &[u8]) -> Self {
        let active = Wrapping::new(master.clone());
        let older = older_masters(&active, ring);
        Self(std::iter::once(active).chain(older).collect())
    }

    /// The key wrapped for `context`.
    ///
    /// # Errors
    /// [`KeyringError::Unwrap`] when `wrapped` is something else or belongs elsewhere.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Key, KeyringError> {
        self.0.iter().find_map(|wrapping| wrapping.unwrap(context, wrapped)).ok_or_else(|| unopened(context))
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(Wrapping::id)).finish()
    }
}
