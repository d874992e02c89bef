//! The server's own data back into an empty folder, and single objects out of a backup.
//!
//! Bytes first, the name that counts last: the folder gets a file [`UNFINISHED`] before anything else, durably, and loses
//! it when everything is synced. A server refuses a folder with that file in it, so a restore that was cut off is never
//! taken for data.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

pub use super::error::RestoreError;
use super::keys::{self, is_damage};
use super::losses::{self, Losses, NAMED};
use super::single::find;
use super::{ABOUT, About, BLOBS, BUCKET_KEYS, CERTIFICATE, FILES, FORMAT, KEYSPACE, RING, SOURCE, STORES};
use crate::backup::pieces::{Pieces, is_in_pieces};
use crate::backup::{BackupError, Entry, Progress, Repository, SnapshotInfo, SnapshotName};
use crate::base::disk::EntryKind;
use crate::base::{ByteSize, Clock, Disk, Id128, Random, Secret, Supervisor, disk};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey};
use crate::kv::persist::{self, OnDamage, PersistError, Place};
use crate::objects::ObjectError;
use crate::objects::backup::{Restoring, bring_home, bucket_key_in, objects_of};
use crate::store::dump::{DumpError, restore};
use crate::store::recover::{self, Recovered};
use crate::store::{DataFile, OBJECTS, Opening, Store, StoreConfig, StoreError};
use crate::telemetry::Metrics;

/// The file that stands in a folder while it is being restored.
pub const UNFINISHED: &str = "restore-unfinished";

/// Most bytes of a small file.
const SMALL_MAX: u64 = 1 << 20;

/// Most bytes of a bucket's wrapped key, and most buckets: far above what any server has.
const BUCKET_KEY_MAX: u64 = 1024;
const BUCKETS_MAX: usize = 1_000_000;

/// The report of what is lost, in the folder.
pub const REPORT: &str = "restore-losses.json";

/// What a restore needs of the world.
#[derive(Debug)]
pub struct RestoreWorld {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Runs the writers of the data files.
    pub supervisor: Supervisor,
    /// The settings of data files.
    pub store: StoreConfig,
    /// Bytes of a segment of the keyspace's journal.
    pub journal_segment: ByteSize,
    /// Whether the master key is written into the folder, so that the server starts without being given it.
    pub keep_master: bool,
}

/// What a restore brought back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: String,
    /// Bucket keys, blobs and other files.
    pub files: u64,
    /// Rows of all data files.
    pub rows: u64,
    /// Whether the snapshot has a keyspace.
    pub keyspace: bool,
    /// Objects whose bytes are damaged or missing in the backup, as `bucket/key`; everything else is whole.
    pub lost: Vec<String>,
    /// Blobs that are damaged or missing, each with what is wrong; `lost` names the objects they belong to.
    pub damaged: Vec<String>,
    /// What else is lost.
    pub losses: Losses,
}

/// What to do about a damaged backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The folder stays unusable when more is lost than the bytes of objects.
    Refuse,
    /// What is left will do.
    KeepTheRest,
}

/// The snapshot of `source` called `name`, or the newest one.
///
/// # Errors
/// There is none.
pub fn choose(repository: &Repository, source: &str, name: Option<&str>) -> Result<SnapshotInfo, RestoreError> {
    let missing = || RestoreError::NoSnapshot { what: name.unwrap_or(source).to_owned() };
    if let Some(name) = name {
        let name = SnapshotName::parse(name).ok_or_else(missing)?;
        return Ok(repository.snapshot(&name)?);
    }
    repository.snapshots()?.into_iter().rev().find(|snapshot| snapshot.source == source).ok_or_else(missing)
}

/// Restores `snapshot` into the folder `data`, which is empty but for its lock. Blocks.
///
/// A damaged chunk costs what is in it, and what [cannot stay without it](super::losses); all the rest comes back. What
/// that is, is in the answer and in the file [`REPORT`].
///
/// # Errors
/// [`RestoreError`]: the folder is marked as unfinished, and no server starts on it.
pub fn into_folder(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    data: &Path,
    master: &MasterKey,
    world: &RestoreWorld,
    damage: Damage,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    if snapshot.source != SOURCE {
        return Err(RestoreError::NoSnapshot {
            what: format!("the server's own data ({} is of {})", snapshot.name, snapshot.source),
        });
    }
    let disk = world.disk.as_ref();
    let marker = data.join(UNFINISHED);
    disk::replace_file(disk, &marker, snapshot.name.as_str().as_bytes()).map_err(at(&marker))?;
    disk.sync_dir(disk::parent(data)).map_err(at(disk::parent(data)))?;
    let mut job = Job {
        repository,
        snapshot,
        data,
        master,
        world,
        keyring: None,
        ring_is_back: false,
        objects: None,
        bucket_keys: Vec::new(),
        lost_keys: Vec::new(),
        stores: BTreeSet::new(),
        list_is_whole: true,
        lost: BTreeSet::new(),
        restored: Restored { snapshot: snapshot.name.to_string(), ..Restored::default() },
    };
    for entry in repository.entries(snapshot) {
        if progress.is_cancelled() {
            return Err(BackupError::Cancelled.into());
        }
        match entry {
            Ok(entry) => job.entry(&entry)?,
            Err(error) if error.is_damage() => {
                // Which entries those are is not known, so it could be any.
                job.list_is_whole = false;
                job.lose(&format!("a part of the list of what is in the backup: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let restored = job.finish()?;
    let losses = &restored.losses;
    if !losses.is_none() {
        let report = serde_json::to_vec_pretty(losses).unwrap_or_default();
        let path = data.join(REPORT);
        disk::replace_file(disk, &path, &report).map_err(at(&path))?;
        if damage == Damage::Refuse {
            return Err(RestoreError::Losses { losses: Box::new(losses.clone()) });
        }
    }
    disk.remove_file(&marker).map_err(at(&marker))?;
    disk.sync_dir(data).map_err(at(data))?;
    Ok(restored)
}

/// Removes from the folder `data` what a restore has left there that did not come to its end, and then its mark, so that
/// another can begin. Whatever else is in the folder stays. Blocks.
///
/// # Errors
/// The disk; the mark is there still, and it may be done again.
pub fn clear(disk: &dyn Disk, data: &Path) -> Result<(), RestoreError> {
    for entry in disk.list(data).map_err(at(data))? {
        let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name != UNFINISHED && leaves(name) {
            remove(disk, &entry, DEEPEST).map_err(at(&entry.path))?;
        }
    }
    disk.sync_dir(data).map_err(at(data))?;
    let marker = data.join(UNFINISHED);
    if disk.entry(&marker).map_err(at(&marker))?.is_some() {
        disk.remove_file(&marker).map_err(at(&marker))?;
    }
    disk.sync_dir(data).map_err(at(data))
}

/// Whether a restore leaves a file or folder of that name in the folder it is restoring into.
pub fn leaves(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    LEFT.contains(&name) || FILES.iter().any(|(file, _)| file.name() == name)
}

/// What a restore makes besides data files.
const LEFT: [&str; 6] = ["edge", "keys", "kv", "objects", REPORT, UNFINISHED];

/// How deep the folders are that it makes.
const DEEPEST: u8 = 4;

/// Removes a file, or all files of a folder, which itself stays.
fn remove(disk: &dyn Disk, entry: &disk::Entry, deep: u8) -> io::Result<()> {
    match entry.kind {
        EntryKind::Folder if deep > 0 => {
            disk.list(&entry.path)?.iter().try_for_each(|inner| remove(disk, inner, deep - 1))?;
            disk.sync_dir(&entry.path)
        }
        EntryKind::Folder => Ok(()),
        _ => disk.remove_file(&entry.path),
    }
}

/// A restore under way.
struct Job<'a> {
    repository: &'a Repository,
    snapshot: &'a SnapshotInfo,
    data: &'a Path,
    master: &'a MasterKey,
    world: &'a RestoreWorld,
    /// Open once the ring is back, or is known to be lost.
    keyring: Option<Arc<Keyring>>,
    ring_is_back: bool,
    objects: Option<Restoring>,
    bucket_keys: Vec<(Id128, Vec<u8>)>,
    /// Buckets whose key beside the blobs is lost.
    lost_keys: Vec<Id128>,
    /// Data files restored.
    stores: BTreeSet<&'static str>,
    list_is_whole: bool,
    lost: BTreeSet<Id128>,
    restored: Restored,
}

impl Job<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let path = entry.path.to_string();
        let mut stream = self.repository.read(entry);
        match path.split_once('/') {
            None if path == ABOUT => self.about(&mut stream),
            None if path == KEYSPACE => self.keyspace(entry, &path, &mut stream),
            Some((BUCKET_KEYS, id)) => self.bucket_key(&path, id, &mut stream),
            Some((BLOBS, id)) => self.blob(&path, id, &mut stream),
            Some((STORES, file)) => self.store(entry, &path, file),
            Some(_) if path == RING || path == CERTIFICATE => self.file(&path, &mut stream),
            // Of a later release that kept the format: nothing this one needs.
            _ => Ok(()),
        }
    }

    fn lose(&mut self, what: &str) {
        if self.restored.losses.parts.len() < NAMED {
            self.restored.losses.parts.push(what.to_owned());
        }
    }

    /// All bytes of a small entry; `None`, and told, when it is damaged.
    fn small(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        most: u64,
        so: &str,
    ) -> Result<Option<Vec<u8>>, RestoreError> {
        let mut bytes = Vec::new();
        match stream.take(most).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if is_damage(&error) => {
                self.lose(&format!("{path}: {error}; {so}"));
                Ok(None)
            }
            Err(error) => Err(RestoreError::part(path, error)),
        }
    }

    fn about(&mut self, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let so = "which release made the backup is not known";
        let Some(bytes) = self.small(ABOUT, stream, SMALL_MAX, so)? else { return Ok(()) };
        let about: About = serde_json::from_slice(&bytes).map_err(|error| RestoreError::part(ABOUT, error))?;
        if about.format > FORMAT {
            return Err(RestoreError::Newer { found: about.format, release: about.release });
        }
        Ok(())
    }

    fn file(&mut self, path: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let Some(bytes) = self.small(path, stream, SMALL_MAX, "a new one is made")? else { return Ok(()) };
        let target = self.data.join(path);
        let folder = disk::parent(&target);
        let disk = self.world.disk.as_ref();
        disk.create_dir(folder).map_err(at(folder))?;
        disk.sync_dir(self.data).map_err(at(self.data))?;
        disk::replace_file(disk, &target, &bytes).map_err(at(&target))?;
        self.ring_is_back |= path == RING;
        self.restored.files += 1;
        Ok(())
    }

    /// The keyring, once its file is back. Where that is lost a new one does: rows, values and blobs are not sealed with
    /// its keys in a backup, and buckets' keys are wrapped by the master key.
    fn keyring(&mut self) -> Result<Arc<Keyring>, RestoreError> {
        if let Some(keyring) = &self.keyring {
            return Ok(Arc::clone(keyring));
        }
        let told = !self.list_is_whole || self.restored.losses.parts.iter().any(|part| part.starts_with(RING));
        let must_be_there = self.ring_is_back || !told;
        let source = MasterSource::Given { key: self.master.clone(), from: "the key file" };
        let (disk, random) = (Arc::clone(&self.world.disk), Arc::clone(&self.world.random));
        let keyring = Arc::new(Keyring::open(disk, random, self.data, source, must_be_there)?);
        if self.world.keep_master {
            let path = self.data.join("keys").join("master.key");
            let text = Secret::new(format!("{}\n", self.master.export().expose()));
            disk::replace_file(self.world.disk.as_ref(), &path, text.expose().as_bytes()).map_err(at(&path))?;
        }
        self.keyring = Some(Arc::clone(&keyring));
        Ok(keyring)
    }

    fn keyspace(&mut self, entry: &Entry, path: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let place = Place {
            disk: Arc::clone(&self.world.disk),
            random: Arc::clone(&self.world.random),
            folder: persist::folder(self.data),
            key: self.keyring()?.key("kv/journal")?,
            segment_bytes: self.world.journal_segment.bytes(),
            on_damage: OnDamage::Refuse,
        };
        match persist::export::restore(&place, stream) {
            Ok(_) => {
                self.restored.keyspace = true;
                Ok(())
            }
            Err(PersistError::Disk { source, .. }) if is_damage(&source) => {
                let disk = place.disk.as_ref();
                for entry in disk.list(&place.folder).map_err(at(&place.folder))? {
                    disk.remove_file(&entry.path).map_err(at(&entry.path))?;
                }
                disk.sync_dir(&place.folder).map_err(at(&place.folder))?;
                if !is_in_pieces(entry) {
                    self.lose(&format!("{path}: {source}; all keys are lost"));
                    return Ok(());
                }
                let saved = keys::save(self.repository, self.snapshot, entry, &place)?;
                self.restored.losses.of_keys(&saved, &source.to_string());
                self.restored.keyspace = true;
                Ok(())
            }
            Err(error) => Err(RestoreError::part(path, error)),
        }
    }

    /// Bucket keys come before the keyring, without which there is no object store: they wait.
    fn bucket_key(&mut self, path: &str, id: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let id: Id128 = id.parse().map_err(|_malformed| RestoreError::part(path, "its name is none of a bucket"))?;
        let mut wrapped = Vec::new();
        match stream.take(BUCKET_KEY_MAX).read_to_end(&mut wrapped) {
            Ok(_) => {}
            Err(error) if is_damage(&error) => {
                self.lost_keys.push(id);
                return Ok(());
            }
            Err(error) => return Err(RestoreError::part(path, error)),
        }
        if self.bucket_keys.len() >= BUCKETS_MAX {
            return Err(RestoreError::part(path, format!("there are more than {BUCKETS_MAX} buckets")));
        }
        self.bucket_keys.push((id, wrapped));
        Ok(())
    }

    /// Keys of buckets that are lost are in the buckets' rows too.
    fn lost_bucket_keys(&mut self) -> Result<(), RestoreError> {
        if self.lost_keys.is_empty() && self.list_is_whole {
            return Ok(());
        }
        let known: BTreeSet<Id128> = self.bucket_keys.iter().map(|(id, _)| *id).collect();
        let path = format!("{STORES}/{}", OBJECTS.name());
        if let Ok(index) = find(self.repository, self.snapshot, &path)
            && is_in_pieces(&index)
        {
            for (at, piece) in Pieces::new(self.repository, &index).enumerate() {
                let Ok(piece) = piece else { continue };
                let bucket_keys = &mut self.bucket_keys;
                recover::each_row(&OBJECTS, &piece, at == 0, &mut |table, _, value| {
                    bucket_keys.extend(bucket_key_in(table, value).filter(|(id, _)| !known.contains(id)));
                })
                .map_err(|error| RestoreError::part(&path, error))?;
            }
        }
        for id in std::mem::take(&mut self.lost_keys) {
            if !self.bucket_keys.iter().any(|(known, _)| *known == id) {
                self.lose(&format!("{BUCKET_KEYS}/{id}: all objects of the bucket are lost"));
            }
        }
        Ok(())
    }

    fn blob(&mut self, path: &str, id: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let id: Id128 = id.parse().map_err(|_malformed| RestoreError::part(path, "its name is none of a blob"))?;
        match self.objects()?.put_blob(id, stream) {
            Ok(()) => self.restored.files += 1,
            // Of the target, not of the backup.
            Err(ObjectError::Disk(source)) if is_of_the_disk(&source) => {
                return Err(RestoreError::Disk { path: self.data.join("objects"), source });
            }
            // The target is not there now: nothing is known to be damaged.
            Err(ObjectError::Disk(source)) if is_trouble(&source) => return Err(RestoreError::part(path, source)),
            Err(error) => {
                self.lost.insert(id);
                if self.restored.damaged.len() < NAMED {
                    self.restored.damaged.push(format!("{path}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// The object store being restored; at first the bucket keys go into it.
    fn objects(&mut self) -> Result<&mut Restoring, RestoreError> {
        if self.objects.is_none() {
            self.lost_bucket_keys()?;
            let keyring = self.keyring()?;
            let root = self.data.join("objects");
            let disk = &self.world.disk;
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |error: ObjectError| RestoreError::Disk { path, source: io::Error::other(error) }
            };
            let restoring = Restoring::begin(disk, &root, keyring).map_err(failed(&root))?;
            for (id, wrapped) in self.bucket_keys.drain(..) {
                restoring.put_key(id, &wrapped).map_err(failed(&root))?;
                self.restored.files += 1;
            }
            self.objects = Some(restoring);
        }
        self.objects.as_mut().ok_or_else(|| RestoreError::part(BLOBS, "they were not begun"))
    }

    fn store(&mut self, entry: &Entry, path: &str, file: &str) -> Result<(), RestoreError> {
        let Some(file) = FILES.iter().find(|(known, _)| known.name() == file) else {
            return Err(RestoreError::part(path, "this Mainstay has no such data file"));
        };
        let repository = self.repository;
        self.fill(*file, path, &mut |file, store| {
            if !is_in_pieces(entry) {
                return match restore(file, store, &mut repository.read(entry)) {
                    Ok(rows) => Ok(Recovered::whole(rows)),
                    // Of an older release: behind the damage no row can be told from what is in one.
                    Err(DumpError::Read { source, .. }) if is_damage(&source) => {
                        recover::clear_all(store)?;
                        Ok(Recovered::nothing())
                    }
                    Err(error) => Err(error),
                };
            }
            let mut pieces = Pieces::new(repository, entry);
            let mut trouble = None;
            let recovered = recover::recover(file, store, &mut || match pieces.next()? {
                Ok(piece) => Some(Some(piece)),
                Err(error) if error.is_damage() => Some(None),
                Err(error) => {
                    trouble = Some(error);
                    None
                }
            });
            match trouble {
                Some(error) => Err(DumpError::Read { file: file.name(), source: io::Error::other(error) }),
                None => recovered,
            }
        })
    }

    /// Makes a data file of what `rows` puts into it.
    fn fill(
        &mut self,
        (file, key): (&'static DataFile, &str),
        path: &str,
        rows: &mut dyn FnMut(&'static DataFile, &Store) -> Result<Recovered, DumpError>,
    ) -> Result<(), RestoreError> {
        let key = self.keyring()?.key(key)?;
        let metrics = Metrics::new();
        let opening = Opening {
            folder: self.data,
            key,
            config: &self.world.store,
            disk: Arc::clone(&self.world.disk),
            clock: Arc::clone(&self.world.clock),
            random: self.world.random.as_ref(),
            supervisor: &self.world.supervisor,
            metrics: &metrics,
        };
        let part = |error: &dyn std::fmt::Display| RestoreError::part(path, error);
        let store = Store::open_as_it_is(file, opening).map_err(|error: StoreError| part(&error))?;
        let recovered = rows(file, &store).map_err(|error| part(&error));
        let settled = recovered.and_then(|recovered| {
            self.settle(file, &store, &recovered).map_err(|error| part(&error))?;
            Ok(recovered.rows)
        });
        store.close_blocking();
        self.restored.rows += settled?;
        self.stores.insert(file.name());
        Ok(())
    }

    /// Takes out of `store` what cannot stay without what is lost.
    fn settle(&mut self, file: &'static DataFile, store: &Store, recovered: &Recovered) -> Result<(), ObjectError> {
        let is_index = file.name() == OBJECTS.name();
        if is_index {
            bring_home(store)?;
        }
        if !recovered.is_whole() {
            self.restored.losses.of_rows(file.name(), recovered);
            self.restored.losses.left_out.extend(losses::settle(store, recovered)?);
            if is_index && let Some(objects) = &self.objects {
                let settled = objects.settle(store, NAMED)?;
                self.restored.losses.of_objects(settled);
            }
        }
        if is_index
            && !self.list_is_whole
            && let Some(objects) = &self.objects
        {
            self.lost.extend(objects.missing(store)?);
        }
        if is_index && !self.lost.is_empty() {
            let lost = self.lost.clone();
            self.restored.lost = store.read_blocking(|tx| objects_of(tx, &lost, NAMED))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Restored, RestoreError> {
        self.objects()?;
        for file in FILES {
            let (name, path) = (file.0.name(), format!("{STORES}/{}", file.0.name()));
            if self.stores.contains(name) {
                continue;
            }
            if self.list_is_whole {
                return Err(RestoreError::part(STORES, "a data file is missing"));
            }
            self.fill(file, &path, &mut |_, _| Ok(Recovered::nothing()))?;
        }
        if !self.list_is_whole && !self.restored.keyspace {
            self.lose("the keyspace, if there was one");
        }
        if let Some(objects) = self.objects.take() {
            let root = self.data.join("objects");
            objects.finish().map_err(|error| RestoreError::Disk { path: root, source: io::Error::other(error) })?;
        }
        Ok(self.restored)
    }
}

/// Whether a read failed for something else about the repository.
fn is_trouble(error: &io::Error) -> bool {
    error.get_ref().and_then(|error| error.downcast_ref::<BackupError>()).is_some_and(|error| !error.is_damage())
}

/// Errors of the place written to, as opposed to those of what is read.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    let kinds =
        [FileTooLarge, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Disk { path, source }
}
