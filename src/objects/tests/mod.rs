//! The service as a whole, on a disk that forgets and a store that runs every closure twice.

mod backups;
mod checking;
mod crash;
mod expiring;
mod exporting;
mod files;
mod integrity;
mod memory;
mod multipart;
mod objects;
mod quota;
mod rebuilding;
mod rekeying;
mod remote;
mod remote_crash;
mod remote_moving;
mod remote_rebuilding;
mod rewrapping;
mod scrubbing;
mod sweeping;
mod usage_days;
mod versions;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use super::*;
use crate::base::{Disk, Shutdown, Supervisor, SystemRandom};
use crate::crypto::keyring::MasterSource;
use crate::crypto::{Keyring, MasterKey};
use crate::jobs::Jobs;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::testing::{FaultyDisk, TestClock, TestRandom, memory_store};

pub(super) const ROOT: &str = "/data/objects";

/// A service and the outside it lives in.
pub(super) struct World {
    pub objects: Objects,
    pub disk: FaultyDisk,
    pub store: Store,
    pub clock: Arc<TestClock>,
    pub metrics: Metrics,
}

impl World {
    /// A fresh service with the bucket `photos`.
    pub async fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let world = Self::on(FaultyDisk::with_clock(clock.clone()), memory_store(), clock, ObjectsConfig::default());
        // The data folder itself is not this room's to make durable.
        world.disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(world.objects.create_bucket(&bucket()).await.unwrap(), Created::New);
        world
    }

    /// A service over what is there.
    pub fn on(disk: FaultyDisk, store: Store, clock: Arc<TestClock>, config: ObjectsConfig) -> Self {
        let metrics = Metrics::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let objects = open(shared, Path::new("/data"), store.clone(), clock.clone(), &metrics, config);
        Self { objects, disk, store, clock, metrics }
    }

    /// The same service after its process was started again on `disk`.
    pub fn restarted(&self, disk: FaultyDisk) -> Self {
        Self::on(disk, self.store.clone(), self.clock.clone(), ObjectsConfig::default())
    }

    /// The whole of an object, or the error that kept it from being read.
    pub async fn read(&self, key: &str) -> Result<Vec<u8>, ObjectError> {
        collect(self.objects.get(&bucket(), &self::key(key), None).await?.body).await
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) -> Result<ObjectInfo, ObjectError> {
        let body = body(bytes);
        self.objects.put(&bucket(), &self::key(key), Metadata::default(), PutExpect::default(), body).await
    }

    /// Names below the blobs' folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let blobs = Path::new(ROOT).join("blobs");
        let inner = self.disk.list(&blobs).unwrap();
        let files = inner.iter().flat_map(|folder| self.disk.list(&folder.path).unwrap());
        files.map(|entry| entry.path).collect()
    }

    /// Does the removals that are due now or within an hour.
    pub async fn collect_garbage(&self) {
        self.clock.advance(Duration::from_hours(1));
        self.jobs().run_due().await.unwrap();
    }

    fn jobs(&self) -> &Jobs {
        &self.objects.0.jobs
    }
}

/// A service on any disk.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    data: &Path,
    store: Store,
    clock: Arc<TestClock>,
    metrics: &Metrics,
    config: ObjectsConfig,
) -> Objects {
    open_over(disk, data, store, clock, metrics, config, backends::Backends::default())
}

/// A service on any disk, with backends.
pub(super) fn open_over(
    disk: Arc<dyn Disk>,
    data: &Path,
    store: Store,
    clock: Arc<TestClock>,
    metrics: &Metrics,
    config: ObjectsConfig,
    backends: backends::Backends,
) -> Objects {
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let keyring = Arc::new(Keyring::open(disk.clone(), Arc::new(SystemRandom), data, master, false).unwrap());
    open_with_keys(disk, data, store, keyring, clock, metrics, config, backends)
}

/// As [`open`], with the keys of `keyring`.
pub(super) fn open_with(
    disk: Arc<dyn Disk>,
    data: &Path,
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<TestClock>,
    metrics: &Metrics,
    config: ObjectsConfig,
) -> Objects {
    open_with_keys(disk, data, store, keyring, clock, metrics, config, backends::Backends::default())
}

#[expect(clippy::too_many_arguments, reason = "the outside world is an argument")]
fn open_with_keys(
    disk: Arc<dyn Disk>,
    data: &Path,
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<TestClock>,
    metrics: &Metrics,
    config: ObjectsConfig,
    backends: backends::Backends,
) -> Objects {
    let random = Arc::new(SystemRandom);
    let supervisor = Supervisor::new(Shutdown::new());
    let jobs = Jobs::new(store.clone(), clock.clone(), random.clone(), supervisor, metrics);
    let root = data.join("objects");
    Objects::open_with(disk, root, store, keyring, jobs, clock, random, metrics, config, backends).unwrap()
}

pub(super) fn bucket() -> BucketName {
    "photos".parse().unwrap()
}

pub(super) fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

/// The newest version of an object.
pub(super) fn newest(text: &str) -> Target {
    Target { key: key(text), version: None }
}

pub(super) fn number(number: u64) -> PartNumber {
    PartNumber::try_from(number).unwrap()
}

/// `len` bytes that differ from segment to segment and from `seed` to `seed`.
pub(super) fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8) ^ ((at >> 13) as u8).wrapping_mul(31) ^ seed).collect()
}

/// A body in chunks of odd sizes.
pub(super) fn body(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + use<> {
    let chunks: Vec<_> = bytes.chunks(10_007).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

pub(super) async fn collect(mut body: ObjectBody) -> Result<Vec<u8>, ObjectError> {
    let mut out = Vec::new();
    while let Some(chunk) = body.next().await {
        out.extend_from_slice(&chunk?);
    }
    Ok(out)
}
