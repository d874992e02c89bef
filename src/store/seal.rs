//! A row at rest, and the keys that seal it.
//!
//! The value of every row of every table but `store.file` is AES-256-GCM under the key of an *epoch*:
//!
//! ```text
//! offset  bytes  what
//! 0       1      layout, 1
//! 1       4      epoch, big-endian
//! 5       12     nonce: 4 zero bytes, then a counter from 1, big-endian
//! 17      n      ciphertext, as long as the value
//! 17 + n  16     tag over the ciphertext and the associated data: table name, a zero byte, key
//! ```
//!
//! Table names hold no zero byte, so table and key cannot be told apart wrongly, and a row moved to another key or table
//! does not open.
//!
//! Each time a server opens the file it draws 16 random bytes of salt, stores them durably under the next epoch number
//! (`store.file`, key `e` and the epoch's 4 bytes) and only then seals with `HKDF-SHA256(file key, salt,
//! "store/row/v1")`. So the counter may start over: a copy of the file restored elsewhere, or twice, gets another salt,
//! hence another key, and no nonce ever meets its key again. A row tells its epoch, so older rows open forever.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{StoreError, Table};
use crate::crypto::{self, Key, aead};

/// Random bytes that make an epoch's key.
pub(super) const SALT: usize = 16;

const LAYOUT: u8 = 1;
const HEAD: usize = 1 + 4 + aead::NONCE;
const INFO: &[u8] = b"store/row/v1";

/// Opens the rows of one file, of every epoch it knows.
pub(super) struct RowKeys {
    file_key: Key,
    salts: HashMap<u32, [u8; SALT]>,
    /// Expanded keys, made when a row first asks for them.
    expanded: RwLock<HashMap<u32, Arc<aead::Aead>>>,
}

impl RowKeys {
    /// The keys of all epochs in `salts`.
    pub(super) fn new(file_key: Key, salts: HashMap<u32, [u8; SALT]>) -> Self {
        Self { file_key, salts, expanded: RwLock::default() }
    }

    /// The value in `row`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] unless `row` was sealed with this file's key as `key` of `table`.
    pub(super) fn open(&self, table: Table, key: &[u8], row: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = |reason: &str| StoreError::Corrupt { table: table.name(), reason: reason.to_owned() };
        let (head, rest) = row.split_first_chunk::<HEAD>().ok_or_else(|| damaged("it is too short"))?;
        let (sealed, tag) = rest.split_last_chunk::<{ aead::TAG }>().ok_or_else(|| damaged("it is too short"))?;
        let [layout, e0, e1, e2, e3, nonce @ ..] = head;
        if *layout != LAYOUT {
            return Err(damaged("its layout is unknown"));
        }
        let epoch = u32::from_be_bytes([*e0, *e1, *e2, *e3]);
        let aead = self.epoch_key(epoch).ok_or_else(|| damaged("its epoch is unknown"))?;
        let mut value = sealed.to_vec();
        aead.open(nonce, &context(table, key), &mut value, tag)
            .map_err(|crypto::Tampered| damaged("its seal does not verify"))?;
        Ok(value)
    }

    fn epoch_key(&self, epoch: u32) -> Option<Arc<aead::Aead>> {
        if let Some(key) = self.expanded.read().unwrap_or_else(PoisonError::into_inner).get(&epoch) {
            return Some(Arc::clone(key));
        }
        let key = Arc::new(key_of(&self.file_key, self.salts.get(&epoch)?));
        self.expanded.write().unwrap_or_else(PoisonError::into_inner).insert(epoch, Arc::clone(&key));
        Some(key)
    }
}

impl fmt::Debug for RowKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowKeys").field("epochs", &self.salts.len()).finish_non_exhaustive()
    }
}

/// Seals rows under one epoch, and opens those of every epoch.
#[derive(Debug)]
pub(super) struct Sealer {
    pub(super) keys: RowKeys,
    epoch: u32,
    current: aead::Aead,
    counter: AtomicU64,
}

impl Sealer {
    /// Seals under `epoch` with `salt`, which must be durable on disk and never have been used by another process.
    pub(super) fn new(file_key: Key, mut salts: HashMap<u32, [u8; SALT]>, epoch: u32, salt: [u8; SALT]) -> Self {
        salts.insert(epoch, salt);
        let current = key_of(&file_key, &salt);
        Self { keys: RowKeys::new(file_key, salts), epoch, current, counter: AtomicU64::new(0) }
    }

    /// The row that stores `value` as `key` of `table`.
    pub(super) fn seal(&self, table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut nonce = [0; aead::NONCE];
        let count = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        nonce[4..].copy_from_slice(&count.to_be_bytes());
        let mut row = Vec::with_capacity(HEAD + value.len() + aead::TAG);
        row.push(LAYOUT);
        row.extend_from_slice(&self.epoch.to_be_bytes());
        row.extend_from_slice(&nonce);
        row.extend_from_slice(value);
        let tag = self.current.seal(&nonce, &context(table, key), &mut row[HEAD..]);
        row.extend_from_slice(&tag);
        row
    }
}

fn key_of(file_key: &Key, salt: &[u8; SALT]) -> aead::Aead {
    aead::Aead::new(&crypto::derive(file_key, salt, INFO))
}

fn context(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name().as_bytes(), &[0], key].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Table = Table::new("test.a");

    fn sealer(epochs: u32) -> Sealer {
        let salts = (1..epochs).map(|epoch| (epoch, [epoch as u8; SALT])).collect();
        Sealer::new(Key::from_bytes([7; 32]), salts, epochs, [epochs as u8; SALT])
    }

    #[test]
    fn a_row_opens_in_its_place_only() {
        let row = sealer(1).seal(A, b"k", b"value");
        assert_eq!(sealer(1).keys.open(A, b"k", &row).unwrap(), b"value");
        assert!(sealer(1).keys.open(A, b"l", &row).is_err());
        assert!(sealer(1).keys.open(Table::new("test.b"), b"k", &row).is_err());
    }

    #[test]
    fn rows_of_earlier_epochs_open_and_those_of_unknown_ones_do_not() {
        let row = sealer(2).seal(A, b"k", b"value");
        assert_eq!(sealer(3).keys.open(A, b"k", &row).unwrap(), b"value");
        let error = sealer(1).keys.open(A, b"k", &row).unwrap_err();
        assert!(error.to_string().contains("epoch is unknown"), "{error}");
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let sealer = sealer(1);
        let nonces: std::collections::BTreeSet<_> =
            (0..100).map(|_| sealer.seal(A, b"k", b"v")[5..HEAD].to_vec()).collect();
        assert_eq!(nonces.len(), 100);
    }

    proptest! {
        #[test]
        fn a_changed_bit_never_opens(value in proptest::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index, bit in 0..8_u32) {
            let sealer = sealer(1);
            let mut row = sealer.seal(A, b"k", &value);
            let at = at.index(row.len());
            row[at] ^= 1_u8 << bit;
            prop_assert!(sealer.keys.open(A, b"k", &row).is_err());
        }

        #[test]
        fn any_bytes_open_or_are_refused(row in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(sealer(1).keys.open(A, b"k", &row).is_err());
        }
    }
}
