//! The server's own data back into an empty folder, and single objects out of a backup.
//!
//! Bytes first, the name that counts last: the folder gets a file [`UNFINISHED`] before anything else, durably, and loses
//! it when everything is synced. A server refuses a folder with that file in it, so a restore that was cut off is never
//! taken for data.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::{ABOUT, About, BLOBS, BUCKET_KEYS, CERTIFICATE, FILES, FORMAT, KEYSPACE, RING, SOURCE, STORES};
use crate::backup::{BackupError, Entry, EntryPath, Progress, Repository, SnapshotInfo, SnapshotName};
use crate::base::{ByteSize, Clock, Disk, Id128, Random, Secret, Supervisor, disk};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, KeyringError, MasterKey};
use crate::kv::persist::{self, OnDamage, PersistError, Place};
use crate::objects::backup::{Located, Restoring, Search, body, objects_of};
use crate::objects::{BucketName, ObjectError, ObjectKey};
use crate::store::dump::{DumpError, Rows, restore};
use crate::store::{OBJECTS, Opening, Store, StoreConfig, StoreError};
use crate::telemetry::Metrics;

/// The file that stands in a folder while it is being restored.
pub const UNFINISHED: &str = "restore-unfinished";

/// Most bytes of a small file.
const SMALL_MAX: u64 = 1 << 20;

/// Most bytes of a bucket's wrapped key, and most buckets: far above what any server has.
const BUCKET_KEY_MAX: u64 = 1024;
const BUCKETS_MAX: usize = 1_000_000;

/// Most things named one by one.
const NAMED: usize = 10_000;

/// Why a restore did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is no snapshot to restore.
    #[error("there is no snapshot of {what} at the target")]
    NoSnapshot {
        /// What was asked for.
        what: String,
    },
    /// A later release made it.
    #[error(
        "the backup has format {found}, this Mainstay knows up to {FORMAT}; restore it with the newer release ({release})"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The release that made it.
        release: String,
    },
    /// A part without which there is no server cannot be read.
    #[error("`{path}` of the backup cannot be restored: {reason}; the folder is not usable")]
    Part {
        /// Its path in the snapshot.
        path: String,
        /// Why.
        reason: String,
    },
    /// The disk refuses.
    #[error("{path}: {source}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// An object.
    #[error("{name}: {source}")]
    Object {
        /// What was asked for.
        name: String,
        /// What is wrong.
        source: ObjectError,
    },
    /// Writing out what was asked for failed.
    #[error("writing {name}: {source}")]
    Output {
        /// What was asked for.
        name: String,
        /// What the operating system says.
        source: io::Error,
    },
}

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
/// # Errors
/// [`RestoreError`]: the folder is marked as unfinished, and no server starts on it.
pub fn into_folder(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    data: &Path,
    master: &MasterKey,
    world: &RestoreWorld,
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
        data,
        master,
        world,
        keyring: None,
        objects: None,
        bucket_keys: Vec::new(),
        stores: 0,
        lost: BTreeSet::new(),
        restored: Restored { snapshot: snapshot.name.to_string(), ..Restored::default() },
    };
    for entry in repository.entries(snapshot) {
        if progress.is_cancelled() {
            return Err(BackupError::Cancelled.into());
        }
        // Which entry does not read is not known, so it could be any.
        job.entry(&entry?)?;
    }
    let restored = job.finish()?;
    disk.remove_file(&marker).map_err(at(&marker))?;
    disk.sync_dir(data).map_err(at(data))?;
    Ok(restored)
}

/// A restore under way.
struct Job<'a> {
    repository: &'a Repository,
    data: &'a Path,
    master: &'a MasterKey,
    world: &'a RestoreWorld,
    /// Open once the ring is back.
    keyring: Option<Arc<Keyring>>,
    objects: Option<Restoring>,
    bucket_keys: Vec<(Id128, Vec<u8>)>,
    /// Data files restored.
    stores: usize,
    lost: BTreeSet<Id128>,
    restored: Restored,
}

impl Job<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let path = entry.path.to_string();
        let mut stream = self.repository.read(entry);
        match path.split_once('/') {
            None if path == ABOUT => check_about(&mut stream),
            None if path == KEYSPACE => self.keyspace(&path, &mut stream),
            Some((BUCKET_KEYS, id)) => self.bucket_key(&path, id, &mut stream),
            Some((BLOBS, id)) => self.blob(&path, id, &mut stream),
            Some((STORES, file)) => self.store(&path, file, &mut stream),
            Some(_) if path == RING || path == CERTIFICATE => self.file(&path, &mut stream),
            // Of a later release that kept the format: nothing this one needs.
            _ => Ok(()),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` hands errors over in")]
    fn part(path: &str, error: impl ToString) -> RestoreError {
        RestoreError::Part { path: path.to_owned(), reason: error.to_string() }
    }

    fn file(&mut self, path: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        stream.take(SMALL_MAX).read_to_end(&mut bytes).map_err(|error| Self::part(path, error))?;
        let target = self.data.join(path);
        let folder = disk::parent(&target);
        let disk = self.world.disk.as_ref();
        disk.create_dir(folder).map_err(at(folder))?;
        disk.sync_dir(self.data).map_err(at(self.data))?;
        disk::replace_file(disk, &target, &bytes).map_err(at(&target))?;
        self.restored.files += 1;
        Ok(())
    }

    /// The keyring, once its file is back.
    fn keyring(&mut self) -> Result<Arc<Keyring>, RestoreError> {
        if let Some(keyring) = &self.keyring {
            return Ok(Arc::clone(keyring));
        }
        let source = MasterSource::Given { key: self.master.clone(), from: "the key file" };
        let (disk, random) = (Arc::clone(&self.world.disk), Arc::clone(&self.world.random));
        let keyring = Arc::new(Keyring::open(disk, random, self.data, source, true)?);
        if self.world.keep_master {
            let path = self.data.join("keys").join("master.key");
            let text = Secret::new(format!("{}\n", self.master.export().expose()));
            disk::replace_file(self.world.disk.as_ref(), &path, text.expose().as_bytes()).map_err(at(&path))?;
        }
        self.keyring = Some(Arc::clone(&keyring));
        Ok(keyring)
    }

    fn keyspace(&mut self, path: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let place = Place {
            disk: Arc::clone(&self.world.disk),
            random: Arc::clone(&self.world.random),
            folder: persist::folder(self.data),
            key: self.keyring()?.key("kv/journal")?,
            segment_bytes: self.world.journal_segment.bytes(),
            on_damage: OnDamage::Refuse,
        };
        persist::export::restore(&place, stream).map_err(|error: PersistError| Self::part(path, error))?;
        self.restored.keyspace = true;
        Ok(())
    }

    /// Bucket keys come before the keyring, without which there is no object store: they wait.
    fn bucket_key(&mut self, path: &str, id: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let id: Id128 = id.parse().map_err(|_malformed| Self::part(path, "its name is none of a bucket"))?;
        let mut wrapped = Vec::new();
        stream.take(BUCKET_KEY_MAX).read_to_end(&mut wrapped).map_err(|error| Self::part(path, error))?;
        if self.bucket_keys.len() >= BUCKETS_MAX {
            return Err(Self::part(path, format!("there are more than {BUCKETS_MAX} buckets")));
        }
        self.bucket_keys.push((id, wrapped));
        Ok(())
    }

    fn blob(&mut self, path: &str, id: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let id: Id128 = id.parse().map_err(|_malformed| Self::part(path, "its name is none of a blob"))?;
        match self.objects()?.put_blob(id, stream) {
            Ok(()) => self.restored.files += 1,
            // Of the target, not of the backup.
            Err(ObjectError::Disk(source)) if is_of_the_disk(&source) => {
                return Err(RestoreError::Disk { path: self.data.join("objects"), source });
            }
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
        self.objects.as_mut().ok_or_else(|| Self::part(BLOBS, "they were not begun"))
    }

    fn store(&mut self, path: &str, file: &str, stream: &mut dyn Read) -> Result<(), RestoreError> {
        let Some((file, key)) = FILES.iter().find(|(known, _)| known.name() == file) else {
            return Err(Self::part(path, "this Mainstay has no such data file"));
        };
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
        let store = Store::open_as_it_is(file, opening).map_err(|error: StoreError| Self::part(path, error))?;
        let rows = restore(file, &store, stream).map_err(|error: DumpError| Self::part(path, error));
        if rows.is_ok() && file.name() == OBJECTS.name() && !self.lost.is_empty() {
            let lost = self.lost.clone();
            let named = store.read_blocking(|tx| objects_of(tx, &lost, NAMED));
            self.restored.lost = named.map_err(|error| Self::part(path, error))?;
        }
        store.close_blocking();
        self.restored.rows += rows?;
        self.stores += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Restored, RestoreError> {
        self.objects()?;
        if self.stores != FILES.len() {
            return Err(Self::part(STORES, "a data file is missing"));
        }
        if let Some(objects) = self.objects.take() {
            let root = self.data.join("objects");
            objects.finish().map_err(|error| RestoreError::Disk { path: root, source: io::Error::other(error) })?;
        }
        Ok(self.restored)
    }
}

fn check_about(stream: &mut dyn Read) -> Result<(), RestoreError> {
    let mut bytes = Vec::new();
    let part = |reason: String| RestoreError::Part { path: ABOUT.to_owned(), reason };
    stream.take(SMALL_MAX).read_to_end(&mut bytes).map_err(|error| part(error.to_string()))?;
    let about: About = serde_json::from_slice(&bytes).map_err(|error| part(error.to_string()))?;
    if about.format > FORMAT {
        return Err(RestoreError::Newer { found: about.format, release: about.release });
    }
    Ok(())
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

/// Writes the object `bucket`/`key` of `snapshot` to `out`; returns its bytes. Blocks.
///
/// # Errors
/// It is not in the snapshot, or not whole: part of it may be written then.
pub fn one_object(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    (bucket, key): (BucketName, ObjectKey),
    master: &MasterKey,
    out: &mut dyn Write,
) -> Result<u64, RestoreError> {
    let name = format!("{}/{}", bucket.as_str(), key.as_str());
    let index = find(repository, snapshot, &format!("{STORES}/{}", OBJECTS.name()))?;
    let mut search = Search::new(bucket, key, master);
    let mut stream = repository.read(&index);
    let part = |error: DumpError| Job::part(&index.path.to_string(), error);
    let object = |source| RestoreError::Object { name: name.clone(), source };
    let mut rows = Rows::new(&OBJECTS, &mut stream).map_err(part)?;
    while let Some(row) = rows.next_row().map_err(part)? {
        search.row(row.table, &row.key, &row.value).map_err(object)?;
    }
    let output = |source| RestoreError::Output { name: name.clone(), source };
    match search.finish().map_err(object)? {
        Located::Inline(bytes) => {
            out.write_all(&bytes).map_err(output)?;
            Ok(bytes.len() as u64)
        }
        Located::Blobs(blobs) => {
            let mut total = 0;
            for blob in blobs {
                let entry = find(repository, snapshot, &format!("{BLOBS}/{blob}"))?;
                let mut plain = body(repository.read(&entry)).map_err(object)?;
                total += io::copy(&mut plain, out).map_err(output)?;
            }
            Ok(total)
        }
    }
}

/// Writes what was piped in as `name` to `out`; returns its bytes. Blocks.
///
/// # Errors
/// It is not in the snapshot, or not whole: part of it may be written then.
pub fn one_stream(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    name: &str,
    out: &mut dyn Write,
) -> Result<u64, RestoreError> {
    let entry = find(repository, snapshot, name)?;
    io::copy(&mut repository.read(&entry), out).map_err(|source| RestoreError::Output { name: name.to_owned(), source })
}

fn find(repository: &Repository, snapshot: &SnapshotInfo, path: &str) -> Result<Entry, RestoreError> {
    let wanted = EntryPath::new(path)?;
    for entry in repository.entries(snapshot) {
        let entry = entry?;
        if entry.path == wanted {
            return Ok(entry);
        }
        if entry.path > wanted {
            break;
        }
    }
    Err(RestoreError::NoSnapshot { what: path.to_owned() })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::Disk { path, source }
}
