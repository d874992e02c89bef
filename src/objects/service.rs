//! The service: what it is made of, and how its parts are opened.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::backends::Backends;
use super::blob::{BlobFolder, Fault, OpenFault, RemoteFile, Source};
use super::bucket_files::BucketFiles;
use super::config::ObjectsConfig;
use super::error::ObjectError;
use super::export::{Exports, Kept};
use super::guards::InUse;
use super::index::{BUCKETS, BucketRow, row};
use super::key_change::KeyChanges;
use super::keys::{BucketKeys, OpenBucket};
use super::metrics::ObjectMetrics;
use super::names::BucketName;
use super::place::{self, Placed};
use super::scrub::Bell;
use super::settings::settings_row;
use super::space::Room;
use super::sweep::AskedSweep;
use crate::base::{Clock, Disk, Id128, Random};
use crate::crypto::Keyring;
use crate::jobs::Jobs;
use crate::store::{Store, WriteTx};
use crate::telemetry::Metrics;

/// Buckets and objects. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Objects(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub store: Store,
    pub jobs: Jobs,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub config: ObjectsConfig,
    pub metrics: ObjectMetrics,
    pub blobs: BlobFolder,
    /// Where else blobs may be.
    pub backends: Backends,
    pub keys: BucketKeys,
    pub bucket_files: BucketFiles,
    /// Sealed exports of the index.
    pub exports: Exports,
    /// What is known of the last export, and what wakes the thread that makes them.
    pub export_kept: Kept,
    /// Set while an index is made anew: what is let go of stays on disk, for a sweep to put aside.
    pub keep_files: AtomicBool,
    pub room: Room,
    /// Blobs being written, until their index row is committed.
    pub writing: InUse,
    /// Multipart contents being read.
    pub reading: InUse,
    /// Blobs being read at a backend, each shared by its readers; a removal wants it alone.
    pub reading_there: InUse,
    /// One sweep at a time: the first of a start and the first of the schedule may meet.
    pub sweeping: Mutex<()>,
    /// The last sweep that was asked for.
    pub asked_sweep: Mutex<AskedSweep>,
    /// Wakes the thread that scrubs.
    pub scrub_bell: Arc<Bell>,
    /// Wakes the thread that moves.
    pub move_bell: Arc<Bell>,
    /// Whether what takes long should come to its end.
    pub stopping: AtomicBool,
    /// Changes of buckets' keys, and what wakes the thread that does them.
    pub key_changes: KeyChanges,
    /// Where a sweep puts files nothing refers to.
    pub quarantine: PathBuf,
    /// How many backups need every blob file to stay. Files are removed and put aside inside the lock.
    pub kept: Mutex<u32>,
}

impl Objects {
    /// Opens the object store in `root` (made if need be) over its index and registers its jobs. Blocks; call it once,
    /// before `jobs` is started, and [`Objects::start`] after.
    ///
    /// # Errors
    /// The folders cannot be made or made durable, or the disk's room is unknown; [`ObjectError::Backends`].
    #[expect(clippy::too_many_arguments, reason = "the outside world is an argument, each by its own type")]
    pub fn open(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        store: Store,
        keyring: Arc<Keyring>,
        jobs: Jobs,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: &Metrics,
        config: ObjectsConfig,
    ) -> Result<Self, ObjectError> {
        let backends = Backends::open(&config.backends, disk.as_ref(), &clock, metrics)?;
        Self::open_with(disk, root, store, keyring, jobs, clock, random, metrics, config, backends)
    }

    /// As [`open`](Self::open), with backends that are there already.
    #[expect(clippy::too_many_arguments, reason = "the outside world is an argument, each by its own type")]
    pub(super) fn open_with(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        store: Store,
        keyring: Arc<Keyring>,
        jobs: Jobs,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: &Metrics,
        config: ObjectsConfig,
        backends: Backends,
    ) -> Result<Self, ObjectError> {
        store.read_blocking(|tx| place::check(tx, &backends))?;
        let quarantine = root.join("quarantine");
        disk.create_dir(&quarantine)?;
        let blobs = BlobFolder::open(Arc::clone(&disk), root.join("blobs"))?;
        let keys = BucketKeys::open(Arc::clone(&disk), root.join("keys"), Arc::clone(&keyring))?;
        let beside = (Arc::clone(&disk), Arc::clone(&keyring), Arc::clone(&random));
        let bucket_files = BucketFiles::open(beside.0, root.join("buckets"), beside.1, beside.2)?;
        let exports = Exports::open(Arc::clone(&disk), root.join("index"), keyring, Arc::clone(&random))?;
        disk.sync_dir(&root)?;
        disk.sync_dir(crate::base::disk::parent(&root))?;
        let room = Room::new(disk, root, Arc::clone(&clock), &config);
        room.ask()?;
        let objects = Self(Arc::new(Inner {
            store,
            jobs,
            clock,
            random,
            config,
            metrics: ObjectMetrics::new(metrics),
            blobs,
            backends,
            keys,
            bucket_files,
            exports,
            export_kept: Kept::default(),
            keep_files: AtomicBool::new(false),
            room,
            writing: InUse::default(),
            reading: InUse::default(),
            reading_there: InUse::default(),
            sweeping: Mutex::default(),
            asked_sweep: Mutex::default(),
            scrub_bell: Arc::default(),
            move_bell: Arc::default(),
            stopping: AtomicBool::new(false),
            key_changes: KeyChanges::default(),
            quarantine,
            kept: Mutex::default(),
        }));
        objects.redo_rewraps()?;
        objects.register_jobs();
        Ok(objects)
    }

    /// Whether uploads are taken: the disk answers, has room above the reserve, and no sync has failed. Cancel safe.
    ///
    /// # Errors
    /// Why not.
    pub async fn health(&self) -> Result<(), ObjectError> {
        self.0.blobs.usable()?;
        let this = self.clone();
        blocking(move || this.0.room.admit_now(0)).await
    }

    /// The bucket called `name`, with its key.
    pub(super) async fn open_bucket(&self, name: &BucketName) -> Result<Arc<OpenBucket>, ObjectError> {
        if let Some(bucket) = self.0.keys.known(name) {
            return Ok(bucket);
        }
        let key = name.as_str().as_bytes().to_vec();
        let moment = self.0.keys.moment();
        let found = self.0.store.read(move |tx| {
            let found: BucketRow = row(tx, BUCKETS, &key)?.ok_or(ObjectError::NoSuchBucket)?;
            let settings = settings_row(tx, found.id)?;
            Ok::<_, ObjectError>((found, settings))
        });
        let (found, settings) = found.await?;
        Ok(self.0.keys.learn(name, &found, settings, moment)?)
    }

    /// Commits `op`, lets go of the open bucket called `name`, and has its file say what is committed, all also when the
    /// caller goes away in between: what is in memory would not be what is stored.
    pub(super) async fn write_and_forget<T: Send + 'static>(
        &self,
        name: &BucketName,
        op: impl Fn(&mut dyn WriteTx) -> Result<T, ObjectError> + Send + Sync + 'static,
    ) -> Result<T, ObjectError> {
        let (this, name) = (self.clone(), name.clone());
        blocking(move || {
            let written = this.0.store.write_blocking(op);
            this.0.keys.forget(&name);
            let answer = written?;
            this.note_bucket(&name)?;
            Ok(answer)
        })
        .await
    }

    /// Looks twice at a bucket that turned out not to be what it was: it may have been deleted and made again.
    pub(super) fn forget_if_gone<T>(
        &self,
        bucket: &OpenBucket,
        result: Result<T, ObjectError>,
    ) -> Result<T, ObjectError> {
        if matches!(result, Err(ObjectError::NoSuchBucket)) {
            self.0.keys.forget(&bucket.name);
        }
        result
    }

    /// Counts and logs stored bytes that fail their check, once, and makes the error of it.
    pub(super) fn corrupt(&self, blob: Id128, fault: Fault) -> ObjectError {
        self.0.metrics.integrity_failures.inc();
        tracing::error!(%blob, fault = fault.0, "stored bytes fail their check and are not served");
        ObjectError::Corrupt { blob: blob.to_string(), fault: fault.0 }
    }

    /// The error for a blob file that cannot be read.
    pub(super) fn unreadable(&self, blob: Id128, fault: OpenFault) -> ObjectError {
        match fault {
            OpenFault::Missing => self.corrupt(blob, Fault("its file is missing")),
            OpenFault::Corrupt(fault) => self.corrupt(blob, fault),
            OpenFault::Disk(error) => ObjectError::Disk(error),
            OpenFault::Backend(error) => ObjectError::Backend(error),
        }
    }

    /// The bytes of the blob `id`, which is in `placed`. Blocks.
    pub(super) fn source(&self, id: Id128, placed: &Placed) -> Result<Source, OpenFault> {
        let Placed::There(remote) = placed else { return Source::file(&self.0.blobs, id) };
        let backend = self.0.backends.find(&remote.backend).map_err(io::Error::other)?;
        // Being deleted, which is known before its row is looked at again.
        let shared = self.0.reading_there.share(id).ok_or(OpenFault::Missing)?;
        let path = backend.path(id, remote);
        Ok(Source::There(RemoteFile::new(Arc::clone(backend), path, remote.stored, shared)))
    }

    /// The bytes of the blob `id`, wherever it is. Blocks.
    pub(super) fn find_source(&self, id: Id128) -> Result<Source, OpenFault> {
        let placed = self.placed(id).map_err(io::Error::other)?;
        self.source(id, &placed)
    }
}

/// Runs `op`, which may block, off the async threads.
///
/// # Cancel safety
/// `op` runs to its end even if the caller goes away.
pub(super) async fn blocking<T: Send + 'static>(
    op: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    match tokio::task::spawn_blocking(op).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(ObjectError::Unavailable("an internal step failed")),
        Err(_stopping) => Err(ObjectError::Unavailable("the server is stopping")),
    }
}
