//! Keys of buckets: master key -> bucket key -> data key of each blob.
//!
//! A bucket's key is 32 random bytes, wrapped by the keyring for the context `objects/bucket/<id>`, and kept twice: in
//! the bucket's row (with a copy in the bucket's own file, `bucket_files.rs`), and beside the blobs as `keys/<bucket id>`, so
//! that blobs and the master key are enough to read everything without the index. Exports of the index leave keys out.
//!
//! While a bucket's key is being changed (`key_change.rs`), all of these hold the wrapped key before behind the new one, 60 bytes
//! each.
//!
//! Deleting a bucket destroys all of them, and with them every blob of it that still lies anywhere, also in copies of the blob
//! files. Deleting an object removes its row and its file, with the wrapped data key in its header. Honest limits: freed
//! blocks of the disk and pages of the index keep bytes until they are used again; the bytes of a small object, which lie in the
//! index, stay in its two newest exports until these are replaced; and a backup holds what it holds; its
//! bucket keys are out of reach only with that backup's own expiry.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backends::BackendName;
use super::blob::{BucketKey, remove_if_there};
use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, row};
use super::names::BucketName;
use super::rewrap::Rewrapped;
use super::settings::BucketSettings;
use crate::base::{Disk, Id128, Random, disk};
use crate::crypto::keyring::WRAPPED;
use crate::crypto::{Key, Keyring, KeyringError, Opener};
use crate::store::ReadTx;

/// Most bucket keys kept unwrapped.
const CACHED: usize = 1024;

/// Most bytes of a key file.
const FILE_MAX: u64 = 1024;

/// A bucket that was there when it was looked up; every change checks that it still is.
#[derive(Debug)]
pub(super) struct OpenBucket {
    /// Its name.
    pub name: BucketName,
    /// Its id.
    pub id: Id128,
    /// Its key.
    pub key: BucketKey,
    /// Where its new bodies go; `None` for the local disk. A change lets go of this value, as one of the settings does.
    pub home: Option<BackendName>,
    /// What is set for it. A change lets go of this value, so that the next request reads anew.
    pub settings: Arc<BucketSettings>,
}

impl OpenBucket {
    /// Proves within a transaction that the bucket is still the same, and gives its row.
    pub fn check(&self, tx: &dyn ReadTx) -> Result<BucketRow, ObjectError> {
        match row::<BucketRow>(tx, BUCKETS, self.name.as_str().as_bytes())? {
            Some(bucket) if bucket.id == self.id => Ok(bucket),
            _ => Err(ObjectError::NoSuchBucket),
        }
    }
}

/// Makes, opens and destroys bucket keys.
#[derive(Debug)]
pub(super) struct BucketKeys {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keyring: Arc<Keyring>,
    /// One who makes, rewraps or destroys a file at a time: what is destroyed never comes back, and who looks at the files
    /// finds each key wrapped so far.
    turn: Mutex<()>,
    open: Mutex<HashMap<BucketName, Arc<OpenBucket>>>,
    /// The key of every bucket that was opened, so that a change of it reaches whoever is at work with it;
    /// `objects.max_buckets` bounds their number.
    shared: Mutex<HashMap<Id128, BucketKey>>,
    /// How often a bucket was forgotten.
    forgotten: AtomicU64,
}

impl BucketKeys {
    /// Keys in `folder`, which is made. Blocks.
    pub fn open(disk: Arc<dyn Disk>, folder: PathBuf, keyring: Arc<Keyring>) -> std::io::Result<Self> {
        disk.create_dir(&folder)?;
        disk.sync_dir(disk::parent(&folder))?;
        let (open, shared) = (Mutex::default(), Mutex::default());
        Ok(Self { disk, folder, keyring, turn: Mutex::default(), open, shared, forgotten: AtomicU64::new(0) })
    }

    /// What wraps the keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// A fresh key for the bucket `id`, wrapped, and durable beside the blobs. Blocks.
    pub fn create(&self, id: Id128, random: &dyn Random) -> std::io::Result<Vec<u8>> {
        let _turn = self.turn();
        let wrapped = self.keyring.wrap(&context(id), &Key::random(random));
        disk::replace_file(self.disk.as_ref(), &self.path(id), &wrapped)?;
        Ok(wrapped)
    }

    /// Removes the key of the bucket `id` from beside the blobs. Blocks.
    pub fn destroy(&self, id: Id128) -> std::io::Result<()> {
        let _turn = self.turn();
        self.shared().remove(&id);
        remove_if_there(self.disk.as_ref(), &self.path(id))?;
        self.disk.sync_dir(&self.folder)
    }

    /// The key of the bucket `id` from beside the blobs; `None` when there is none. Blocks.
    pub fn beside_blobs(&self, id: Id128) -> Result<Option<BucketKey>, ObjectError> {
        let Some(wrapped) = self.wrapped(id)? else { return Ok(None) };
        let key = unwrap(&self.keyring, id, &wrapped)?;
        // Not put there: a file may have a new key that its row did not get.
        Ok(Some(self.shared().get(&id).cloned().unwrap_or(key)))
    }

    /// The key of the bucket `id` from beside the blobs, wrapped; `None` when there is none. Blocks.
    pub fn wrapped(&self, id: Id128) -> std::io::Result<Option<Vec<u8>>> {
        disk::read_file(self.disk.as_ref(), &self.path(id), FILE_MAX)
    }

    /// Every key beside the blobs, wrapped, in the order of the buckets' ids. Blocks.
    pub fn files(&self) -> std::io::Result<Vec<(Id128, Vec<u8>)>> {
        let mut out = Vec::new();
        for entry in self.disk.list(&self.folder)? {
            let id: Option<Id128> = entry.path.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok());
            let Some(id) = id else { continue };
            // Gone since: its bucket was deleted.
            if let Some(wrapped) = disk::read_file(self.disk.as_ref(), &entry.path, FILE_MAX)? {
                out.push((id, wrapped));
            }
        }
        out.sort_unstable();
        Ok(out)
    }

    /// Wraps the keys beside the blobs anew that an older master key has wrapped, as long as `go_on` says so. Blocks.
    pub fn rewrap(&self, go_on: &dyn Fn() -> bool, done: &mut Rewrapped) -> std::io::Result<()> {
        // Whoever had wrapped a key and not written it yet has by now; all others wrap with the master key in use.
        drop(self.turn());
        for (id, _) in self.files()? {
            if !go_on() {
                return Ok(());
            }
            let _turn = self.turn();
            let Some(wrapped) = self.wrapped(id)? else { continue };
            if let Some(wrapped) = done.key_files.of(self.rewrapped(id, &wrapped)) {
                self.put_back(id, &wrapped)?;
            }
        }
        // What an earlier attempt has renamed, and failed to sync.
        self.disk.sync_dir(&self.folder)
    }

    /// As [`Keyring::rewrap`], of the keys of the bucket `id`.
    pub fn rewrapped(&self, id: Id128, wrapped: &[u8]) -> Result<Option<Vec<u8>>, KeyringError> {
        let (mut out, mut any) = (Vec::with_capacity(wrapped.len()), false);
        for one in each(wrapped) {
            let again = self.keyring.rewrap(&context(id), one)?;
            any |= again.is_some();
            out.extend_from_slice(again.as_deref().unwrap_or(one));
        }
        Ok(any.then_some(out))
    }

    /// A fresh key for the bucket `id` in front of those in `wrapped`, durable beside the blobs. Blocks.
    pub fn put_before(&self, id: Id128, wrapped: &[u8], random: &dyn Random) -> Result<Vec<u8>, ObjectError> {
        let _turn = self.turn();
        let mut out = self.keyring.wrap(&context(id), &Key::random(random));
        out.extend_from_slice(self.rewrapped(id, wrapped)?.as_deref().unwrap_or(wrapped));
        self.put_back(id, &out)?;
        Ok(out)
    }

    /// Has the file of the bucket `id`, if there is one, hold the keys in `wrapped`, its row's. Blocks.
    pub fn settle(&self, id: Id128, wrapped: &[u8]) -> Result<(), ObjectError> {
        let _turn = self.turn();
        match self.wrapped(id)? {
            // How they are wrapped may differ, and another master key may have come since the row was read.
            Some(there) if there.len() != wrapped.len() => {
                let again = self.rewrapped(id, wrapped)?;
                Ok(self.put_back(id, again.as_deref().unwrap_or(wrapped))?)
            }
            _ => Ok(()),
        }
    }

    /// The key of the bucket `id`, whose row has `wrapped`.
    pub fn of_row(&self, id: Id128, wrapped: &[u8]) -> Result<BucketKey, KeyringError> {
        let key = unwrap(&self.keyring, id, wrapped)?;
        Ok(self.shared().entry(id).or_insert(key).clone())
    }

    /// Has whoever is at work with the bucket `id` use the keys in `wrapped`, its row's.
    pub fn adopt(&self, id: Id128, wrapped: &[u8]) -> Result<BucketKey, KeyringError> {
        let key = unwrap(&self.keyring, id, wrapped)?;
        let shared = self.shared().entry(id).or_insert_with(|| key.clone()).clone();
        if !shared.is(&key) {
            shared.become_as(&key);
        }
        Ok(shared)
    }

    fn shared(&self) -> MutexGuard<'_, HashMap<Id128, BucketKey>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the wrapped key of the bucket `id` from a backup beside the blobs. Blocks.
    pub fn put_back(&self, id: Id128, wrapped: &[u8]) -> std::io::Result<()> {
        disk::replace_file(self.disk.as_ref(), &self.path(id), wrapped)
    }

    /// The bucket called `name`, if it was opened before.
    pub fn known(&self, name: &BucketName) -> Option<Arc<OpenBucket>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// What [`BucketKeys::learn`] must be given: taken before the row is read.
    pub fn moment(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Opens the bucket called `name` from its row and settings, and keeps it, unless something was forgotten since
    /// `moment`: what was read may be what had to be forgotten.
    pub fn learn(
        &self,
        name: &BucketName,
        row: &BucketRow,
        settings: BucketSettings,
        moment: u64,
    ) -> Result<Arc<OpenBucket>, KeyringError> {
        let key = self.of_row(row.id, &row.wrapped_key)?;
        let settings = Arc::new(settings);
        let bucket = Arc::new(OpenBucket { name: name.clone(), id: row.id, key, home: row.home.clone(), settings });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.moment() != moment {
            return Ok(bucket);
        }
        if open.len() >= CACHED {
            open.clear();
        }
        open.insert(name.clone(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Forgets the bucket called `name`: it was deleted, or is not what it was.
    pub fn forget(&self, name: &BucketName) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        open.remove(name);
    }

    fn path(&self, id: Id128) -> PathBuf {
        self.folder.join(id.to_string())
    }
}

/// The key of the bucket `id` that the keyring has wrapped.
pub(super) fn unwrap(keyring: &Keyring, id: Id128, wrapped: &[u8]) -> Result<BucketKey, KeyringError> {
    open_all(id, wrapped, |wrapped| keyring.unwrap(&context(id), wrapped))
}

/// As [`unwrap`], without a keyring.
pub(super) fn unwrap_with(opener: &Opener, id: Id128, wrapped: &[u8]) -> Result<BucketKey, KeyringError> {
    open_all(id, wrapped, |wrapped| opener.unwrap(&context(id), wrapped))
}

/// Whether `wrapped` holds the key before, too.
pub(super) const fn is_changing(wrapped: &[u8]) -> bool {
    wrapped.len() > WRAPPED
}

/// The wrapped key in use alone, of a bucket's.
pub(super) fn newest(wrapped: &[u8]) -> &[u8] {
    wrapped.get(..WRAPPED).unwrap_or(wrapped)
}

/// Each wrapped key in `wrapped`, the newest first; one that is none at all when that is empty.
fn each(wrapped: &[u8]) -> Vec<&[u8]> {
    if wrapped.is_empty() { vec![wrapped] } else { wrapped.chunks(WRAPPED).collect() }
}

fn open_all(
    id: Id128,
    wrapped: &[u8],
    open: impl Fn(&[u8]) -> Result<Key, KeyringError>,
) -> Result<BucketKey, KeyringError> {
    let keys = each(wrapped).into_iter().map(open).collect::<Result<Vec<Key>, KeyringError>>()?;
    let unopened = || KeyringError::Unwrap { context: String::from_utf8_lossy(&context(id)).into_owned() };
    let (active, older) = keys.split_first().ok_or_else(unopened)?;
    Ok(BucketKey::new(id, active, older))
}

fn context(bucket: Id128) -> Vec<u8> {
    format!("objects/bucket/{bucket}").into_bytes()
}
