//! What a bucket is, beside its blobs: a sealed file each, so that no bucket is lost with the index.
//!
//! `buckets/<bucket id>` holds the bucket's rows as they are in the index: name, wrapped key, versioning, and all that is
//! set. It is replaced before a change is acknowledged. Deleting a bucket replaces it by the word that the bucket is gone,
//! before that is acknowledged too; the file goes with the bucket's key, right after. What an older release has left
//! without a file gets one at the start. Format version 1, integers big endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | magic `MSTYBUCK` |
//! | 8..10 | format version, 1 |
//! | 10..16 | 0 |
//! | 16..32 | bucket id |
//! | 32..64 | salt, random |
//! | 64..124 | data key of this file alone, wrapped by the keyring for the context `objects/bucket-file/<id>` |
//! | then | [`BucketState`] in postcard, tag (16) |
//!
//! The key is derived from data key and salt, fresh at each writing, so its one nonce is 0; bytes 0..124 are associated
//! data.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::blob::{Fault, remove_if_there};
use super::error::ObjectError;
use super::index::{BUCKETS, BucketRow, SETTINGS, decode};
use super::names::BucketName;
use super::rewrap::Rewrapped;
use super::service::Objects;
use crate::base::{Disk, Id128, Random, disk, random};
use crate::crypto::aead::{NONCE, TAG};
use crate::crypto::{Aead, Key, Keyring, derive, keyring};

const MAGIC: &[u8; 8] = b"MSTYBUCK";
const VERSION: u16 = 1;
/// Where the wrapped key begins.
const HEAD: usize = 64;
/// Bytes in front of what is sealed.
const BOUND: usize = HEAD + keyring::WRAPPED;
/// Most bytes of a file: above what the rows of a bucket may have.
const FILE_MAX: u64 = 9 << 20;
const PURPOSE: &[u8] = b"mainstay/bucket-file/v1";

/// What a file says about its bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BucketState {
    /// It is there.
    Live {
        /// Its name.
        name: String,
        /// Its row in `objects.buckets`.
        row: Vec<u8>,
        /// Its row in `objects.settings`, when anything is set.
        settings: Option<Vec<u8>>,
    },
    /// It was deleted.
    Gone,
}

/// The files of all buckets. All functions block.
#[derive(Debug)]
pub(super) struct BucketFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keyring: Arc<Keyring>,
    random: Arc<dyn Random>,
    /// One writer at a time, so that what is read last is written last.
    turn: Mutex<()>,
}

impl BucketFiles {
    /// Files in `folder`, which is made.
    pub fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        keyring: Arc<Keyring>,
        random: Arc<dyn Random>,
    ) -> std::io::Result<Self> {
        disk::make_folder(disk.as_ref(), &folder)?;
        Ok(Self { disk, folder, keyring, random, turn: Mutex::default() })
    }

    /// What is said of the bucket `id`; `None` without a file, a [`Fault`] when the file is not what was written.
    pub fn read(&self, id: Id128) -> std::io::Result<Option<Result<BucketState, Fault>>> {
        let bytes = disk::read_file(self.disk.as_ref(), &self.path(id), FILE_MAX)?;
        Ok(bytes.map(|bytes| unseal(&self.keyring, id, &bytes)))
    }

    /// The ids that have a file, in order.
    pub fn ids(&self) -> std::io::Result<Vec<Id128>> {
        let names = self.disk.list(&self.folder)?;
        let id = |entry: &crate::base::Entry| entry.path.file_name()?.to_str()?.parse().ok();
        let mut out: Vec<Id128> = names.iter().filter_map(id).collect();
        out.sort_unstable();
        Ok(out)
    }

    /// Removes the file of the bucket `id`.
    pub fn remove(&self, id: Id128) -> std::io::Result<()> {
        remove_if_there(self.disk.as_ref(), &self.path(id))?;
        self.disk.sync_dir(&self.folder)
    }

    /// Makes the file of the bucket `id` say `state`, unless it does already.
    pub fn put(&self, id: Id128, state: &BucketState) -> std::io::Result<()> {
        if matches!(self.read(id), Ok(Some(Ok(there))) if there == *state) {
            return Ok(());
        }
        disk::replace_file(self.disk.as_ref(), &self.path(id), &seal(&self.keyring, self.random.as_ref(), id, state))
    }

    /// Writes the files anew whose key an older master key has wrapped, as long as `go_on` says so.
    pub fn rewrap(&self, go_on: &dyn Fn() -> bool, done: &mut Rewrapped) -> std::io::Result<()> {
        // Whoever had sealed a file and not written it yet has by now.
        drop(self.turn());
        for id in self.ids()? {
            if !go_on() {
                return Ok(());
            }
            let _turn = self.turn();
            let Some(bytes) = disk::read_file(self.disk.as_ref(), &self.path(id), FILE_MAX)? else { continue };
            let wrapped = bytes.get(HEAD..BOUND).unwrap_or_default();
            if done.bucket_files.of(self.keyring.rewrap(&context(id), wrapped)).is_none() {
                continue;
            }
            // What is wrapped is associated data of the rest, so all of it is sealed anew.
            match unseal(&self.keyring, id, &bytes) {
                Ok(state) => {
                    let sealed = seal(&self.keyring, self.random.as_ref(), id, &state);
                    disk::replace_file(self.disk.as_ref(), &self.path(id), &sealed)?;
                }
                Err(fault) => tracing::warn!(bucket = %id, fault = fault.0, "the file of a bucket does not read"),
            }
        }
        // What an earlier attempt has renamed, and failed to sync.
        self.disk.sync_dir(&self.folder)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: Id128) -> PathBuf {
        self.folder.join(id.to_string())
    }
}

impl Objects {
    /// Has the file of the bucket called `name` say what the index says. Blocks; a bucket that is not there has none.
    pub(super) fn note_bucket(&self, name: &BucketName) -> Result<(), ObjectError> {
        let files = &self.0.bucket_files;
        let _turn = files.turn();
        let key = name.as_str().as_bytes();
        let found = self.0.store.read_blocking(|tx| {
            let Some(row) = tx.get(BUCKETS, key)? else { return Ok(None) };
            let id = decode::<BucketRow>(BUCKETS, &row)?.id;
            Ok::<_, ObjectError>(Some((id, row, tx.get(SETTINGS, id.as_bytes())?)))
        })?;
        let Some((id, row, settings)) = found else { return Ok(()) };
        Ok(files.put(id, &BucketState::Live { name: name.to_string(), row, settings })?)
    }

    /// Has the file of the bucket `id`, which was deleted, say so, unless all of it is gone by now. Blocks.
    pub(super) fn note_gone(&self, id: Id128) -> Result<(), ObjectError> {
        let _turn = self.0.bucket_files.turn();
        if self.0.keys.wrapped(id)?.is_some() {
            self.0.bucket_files.put(id, &BucketState::Gone)?;
        }
        Ok(())
    }

    /// Destroys the key of the bucket `id`, then removes the file that says it is gone. Blocks.
    pub(super) fn destroy_bucket(&self, id: Id128) -> Result<(), ObjectError> {
        let _turn = self.0.bucket_files.turn();
        self.0.keys.destroy(id)?;
        Ok(self.0.bucket_files.remove(id)?)
    }

    /// [`Objects::note_bucket`] of all buckets. Blocks.
    pub(super) fn note_buckets(&self) -> Result<(), ObjectError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows = self.0.store.read_blocking(|tx| super::buckets::names_after(tx, &after))?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.as_str().as_bytes().to_vec();
            rows.iter().try_for_each(|name| self.note_bucket(name))?;
        }
    }
}

fn context(id: Id128) -> Vec<u8> {
    format!("objects/bucket-file/{id}").into_bytes()
}

pub(super) fn seal(keyring: &Keyring, random: &dyn Random, id: Id128, state: &BucketState) -> Vec<u8> {
    let (data_key, salt) = (Key::random(random), random::bytes::<32>(random));
    let mut out = Vec::with_capacity(BOUND);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&keyring.wrap(&context(id), &data_key));
    // Writing this type to a Vec cannot fail: no map without length, no foreign Serialize.
    let mut sealed = postcard::to_allocvec(state).unwrap_or_default();
    let tag = Aead::new(&derive(&data_key, &salt, PURPOSE)).seal(&[0; NONCE], &out, &mut sealed);
    out.extend_from_slice(&sealed);
    out.extend_from_slice(&tag);
    out
}

pub(super) fn unseal(keyring: &Keyring, id: Id128, bytes: &[u8]) -> Result<BucketState, Fault> {
    let (bound, sealed) = bytes.split_first_chunk::<BOUND>().ok_or(Fault("it is cut off"))?;
    let (head, wrapped) = bound.split_at(HEAD);
    if head.get(..8) != Some(MAGIC.as_slice()) {
        return Err(Fault("it does not begin as a bucket's file"));
    }
    if head.get(8..10) != Some(VERSION.to_be_bytes().as_slice()) {
        return Err(Fault("its format is of a later release, or its head was changed"));
    }
    if head.get(16..32) != Some(id.as_bytes().as_slice()) {
        return Err(Fault("it is another bucket's"));
    }
    let salt = head.get(32..).unwrap_or_default();
    let unwrapped = keyring.unwrap(&context(id), wrapped);
    let data_key = unwrapped.map_err(|_tampered| Fault("its key does not open with the master key"))?;
    let (sealed, tag) = sealed.split_last_chunk::<TAG>().ok_or(Fault("it is cut off"))?;
    let mut plain = sealed.to_vec();
    let opened = Aead::new(&derive(&data_key, salt, PURPOSE)).open(&[0; NONCE], bound, &mut plain, tag);
    opened.map_err(|_tampered| Fault("it does not verify"))?;
    postcard::from_bytes(&plain).map_err(|_malformed| Fault("it is malformed"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::crypto::MasterKey;
    use crate::crypto::keyring::MasterSource;
    use crate::testing::{FaultyDisk, TestRandom};

    const ID: Id128 = Id128::from_bytes([7; 16]);

    fn files(disk: &FaultyDisk) -> BucketFiles {
        let random = Arc::new(TestRandom::new(5));
        let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let keyring = Keyring::open(shared.clone(), random.clone(), Path::new("/data"), master, false).unwrap();
        let files =
            BucketFiles::open(shared, PathBuf::from("/data/objects/buckets"), Arc::new(keyring), random).unwrap();
        // The data folder itself is not this room's to make durable.
        disk.sync_dir(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        files
    }

    fn live(text: &[u8]) -> BucketState {
        BucketState::Live { name: "photos".to_owned(), row: text.to_vec(), settings: Some(b"settings".to_vec()) }
    }

    #[test]
    fn a_file_says_what_was_put_and_any_change_of_it_is_noticed() {
        let disk = FaultyDisk::new();
        let files = files(&disk);
        assert_eq!(files.read(ID).unwrap(), None);
        files.put(ID, &live(b"row")).unwrap();
        assert_eq!(files.read(ID).unwrap(), Some(Ok(live(b"row"))));
        assert_eq!(files.ids().unwrap(), [ID]);
        let path = files.path(ID);
        let bytes = disk::read_file(&disk, &path, FILE_MAX).unwrap().unwrap();
        for (at, _) in bytes.iter().enumerate() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(unseal(&files.keyring, ID, &changed).is_err(), "{at}");
            assert!(unseal(&files.keyring, ID, &bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(unseal(&files.keyring, Id128::from_bytes([8; 16]), &bytes).is_err(), "of another bucket");
        files.put(ID, &BucketState::Gone).unwrap();
        assert_eq!(files.read(ID).unwrap(), Some(Ok(BucketState::Gone)));
        files.remove(ID).unwrap();
        assert_eq!(files.read(ID).unwrap(), None);
    }

    #[test]
    fn a_power_cut_at_any_step_leaves_the_old_state_or_the_new_one() {
        let (old, new) = (live(b"old"), live(&[9; 3_000]));
        for step in 1..12 {
            let disk = FaultyDisk::new();
            let before = files(&disk);
            before.put(ID, &old).unwrap();
            disk.cut_power_at(step);
            let answered = before.put(ID, &new);
            for seed in 0..4 {
                let there = files(&disk.crash(seed)).read(ID).unwrap().unwrap().unwrap();
                assert!(there == new || (there == old && answered.is_err()), "{step} {seed}");
            }
        }
    }
}
