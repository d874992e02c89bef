//! Bodies at a backend: read back whole, sealed and without names there, and what happens when it does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use futures_util::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path as FarPath;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutPayload};

use super::backends::{Backend, BackendConfig, BackendName, Backends, BackendsError, Cut, Trouble};
use super::check::{Depth, Place};
use super::index::{BACKENDS, BLOBS, BlobRow, JOINED, SENDING};
use super::place::{HeldRow, Placed};
use super::*;
use crate::base::{ByteSize, Id128};
use crate::store::{Direction, Row, StoreError, Table, record};

/// A service with a backend that outlives it.
pub(super) struct Remote {
    pub world: World,
    /// What the backend holds.
    pub far: Arc<InMemory>,
}

/// The settings of a backend called `cold`.
pub(super) fn cold() -> BackendConfig {
    BackendConfig {
        name: "cold".to_owned(),
        bucket: "bodies".to_owned(),
        prefix: "of/photos".to_owned(),
        ..BackendConfig::default()
    }
}

pub(super) fn home() -> BackendName {
    "cold".parse().unwrap()
}

/// A service over what is there and what is far away.
pub(super) fn world_over(
    disk: &FaultyDisk,
    store: Store,
    clock: Arc<TestClock>,
    far: &Arc<InMemory>,
    backend: BackendConfig,
) -> World {
    let metrics = Metrics::new();
    let config =
        ObjectsConfig { backends: vec![backend.clone()], move_rate: ByteSize::kib(0), ..ObjectsConfig::default() };
    let at: Arc<dyn crate::base::Clock> = clock.clone();
    let backends = Backends::over(vec![(backend, far.clone())], &at, &metrics).unwrap();
    let (shared, data): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), Path::new("/data"));
    let objects = open_over(shared, data, store.clone(), clock.clone(), &metrics, config, backends);
    // The data folder itself is not this room's to make durable.
    disk.sync_dir(Path::new("/")).unwrap();
    World { objects, disk: disk.clone(), store, clock, metrics }
}

impl Remote {
    /// A fresh service whose bucket `photos` keeps its bodies far away.
    pub async fn new() -> Self {
        let remote = Self::local();
        remote.world.objects.create_bucket_at(&bucket(), Some(home())).await.unwrap();
        remote
    }

    /// A fresh service without a bucket.
    pub fn local() -> Self {
        let clock = Arc::new(TestClock::default());
        let far = Arc::new(InMemory::new());
        let disk = FaultyDisk::with_clock(clock.clone());
        Self { world: world_over(&disk, memory_store(), clock, &far, cold()), far }
    }

    /// The same service after its process was started again on `disk`.
    pub fn restarted(&self, disk: &FaultyDisk) -> Self {
        let (store, clock) = (self.world.store.clone(), self.world.clock.clone());
        Self { world: world_over(disk, store, clock, &self.far, cold()), far: self.far.clone() }
    }

    pub fn backend(&self) -> Arc<Backend> {
        self.world.objects.0.backends.all()[0].clone()
    }

    /// Cuts the wire after that many requests.
    pub fn cut(&self, after: u64, arrives: bool) {
        *self.backend().cut.lock().unwrap() = Some(Cut { after, arrives });
    }

    pub fn mend(&self) {
        *self.backend().cut.lock().unwrap() = None;
    }

    /// What may wait for the backend, as the service does it.
    pub async fn blocking<T: Send + 'static>(&self, op: impl FnOnce(&Objects) -> T + Send + 'static) -> T {
        let objects = self.world.objects.clone();
        tokio::task::spawn_blocking(move || op(&objects)).await.unwrap()
    }

    /// Names far away, with the bytes there.
    pub async fn names(&self) -> BTreeMap<String, u64> {
        let all: Vec<_> = self.far.list(None).try_collect().await.unwrap();
        all.into_iter().map(|one| (one.location.to_string(), one.size)).collect()
    }

    pub fn rows(&self, table: Table) -> Vec<Row> {
        let all = |tx: &dyn crate::store::ReadTx| {
            tx.scan(table, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)
        };
        self.world.store.read_blocking::<_, StoreError>(all).unwrap()
    }

    /// Every blob of the index, with its place.
    pub fn placed(&self) -> BTreeMap<Id128, Placed> {
        let decoded = |(key, value): Row| {
            let row: BlobRow = record::decode(&value).unwrap();
            (Id128::from_bytes(key.as_slice().try_into().unwrap()), row.placed)
        };
        self.rows(BLOBS).into_iter().map(decoded).collect()
    }

    /// Has everything swept that can be; then there is what the index names, here and there, and nothing else.
    pub async fn check_places(&self, what: &str) {
        self.world.collect_garbage().await;
        self.blocking(|objects| objects.sweep().map(drop)).await.unwrap();
        self.world.collect_garbage().await;
        self.world.clock.advance(Duration::from_hours(25));
        self.blocking(|objects| objects.sweep().map(drop)).await.unwrap();
        self.world.collect_garbage().await;
        let (mut here, mut there) = (BTreeSet::new(), BTreeMap::new());
        for (id, placed) in self.placed() {
            match placed {
                Placed::Here => drop(here.insert(id.to_string())),
                Placed::There(remote) => {
                    let name = format!("of/photos/{id}-{:016x}", remote.nonce);
                    there.insert(name, remote.stored);
                }
            }
        }
        let files = self.world.files().into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        assert_eq!(files.collect::<BTreeSet<_>>(), here, "{what}: files");
        assert_eq!(self.names().await, there, "{what}: bodies far away");
        assert_eq!(self.rows(SENDING), [], "{what}: nothing is on its way");
        let held: Vec<HeldRow> = self.rows(BACKENDS).iter().map(|(_, row)| record::decode(row).unwrap()).collect();
        let sums: Vec<(u64, u64)> = held.iter().map(|row| (row.held, row.bytes)).collect();
        let wanted = [(there.len() as u64, there.values().sum())];
        assert_eq!(sums, if there.is_empty() { &wanted[..0] } else { &wanted[..] }, "{what}: the count of them");
    }

    /// An object of two parts.
    pub async fn multipart(&self, name: &str, seed: u8) -> Result<(), ObjectError> {
        self.multipart_of(name, seed, &[PART_LEAST as usize, 70_000]).await
    }

    /// An object of parts of these lengths.
    pub async fn multipart_of(&self, name: &str, seed: u8, lengths: &[usize]) -> Result<(), ObjectError> {
        let (bucket, key, objects) = (bucket(), key(name), &self.world.objects);
        let upload = objects.create_upload(&bucket, &key, Metadata::default()).await?;
        let mut chosen = Vec::new();
        for (at, len) in (1..).zip(lengths) {
            let part = body(&bytes(seed, *len));
            let stored = objects.put_part(&bucket, &key, upload, number(at), PutExpect::default(), None, part).await?;
            chosen.push(PartChoice { number: stored.number, etag: stored.etag });
        }
        objects.complete_upload(&bucket, &key, upload, chosen, None, Condition::Any).await.map(drop)
    }
}

/// The parts of [`Remote::multipart`], one behind the other.
pub(super) fn joined_bytes(seed: u8) -> Vec<u8> {
    [bytes(seed, PART_LEAST as usize), bytes(seed, 70_000)].concat()
}

fn is_down(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Backend(error) if error.is_passing())
}

#[tokio::test]
async fn bodies_far_away_are_read_back_whole_and_in_ranges() {
    let remote = Remote::new().await;
    let lengths = [8_193, 65_536, 102_000, 300_000];
    for (at, len) in lengths.into_iter().enumerate() {
        remote.world.put(&format!("k{len}"), &bytes(at as u8, len)).await.unwrap();
    }
    remote.multipart("joined", 9).await.unwrap();
    for (at, len) in lengths.into_iter().enumerate() {
        assert!(remote.world.read(&format!("k{len}")).await.unwrap() == bytes(at as u8, len), "{len}");
    }
    let whole = joined_bytes(9);
    assert!(remote.world.read("joined").await.unwrap() == whole);
    let size = whole.len() as u64;
    for (from, to) in [(0, 0), (65_535, 65_536), (5_000_000, 5_300_000), (size - 1, size - 1)] {
        let range = RangeSpec::FromTo(from, to);
        let found = remote.world.objects.get(&bucket(), &key("joined"), Some(range)).await.unwrap();
        assert!(collect(found.body).await.unwrap() == whole[from as usize..=to as usize], "{from}..={to}");
    }
    let source = CopySource { bucket: bucket(), target: newest("k300000"), range: None, etag: None };
    remote.world.objects.copy(&source, &bucket(), &key("copy"), CopyMetadata::Keep, Condition::Any).await.unwrap();
    assert!(remote.world.read("copy").await.unwrap() == bytes(3, 300_000));
    remote.check_places("all stored").await;
    // What tells the parts of the one object is the only file.
    assert_eq!((remote.world.files().len(), remote.names().await.len()), (1, 7));
}

#[tokio::test]
async fn names_and_contents_are_not_to_be_seen_far_away() {
    let remote = Remote::new().await;
    let plain = b"a very particular sentence ".repeat(1_000);
    remote.world.put("secret-name", &plain).await.unwrap();
    remote.world.put("small", b"in the index").await.unwrap();
    let names = remote.names().await;
    assert_eq!(names.len(), 1);
    let name = names.keys().next().unwrap();
    let digits = name.strip_prefix("of/photos/").unwrap();
    assert!(digits.len() == 49 && digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{name}");
    let there = remote.far.get(&FarPath::from(name.as_str())).await.unwrap().bytes().await.unwrap();
    for hidden in [&b"particular"[..], b"secret-name", b"photos"] {
        assert!(!there.windows(hidden.len()).any(|window| window == hidden));
    }
    assert_eq!(remote.world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn reading_asks_for_a_mebibyte_and_more_at_a_time_and_a_range_for_little() {
    let remote = Remote::new().await;
    let sent = bytes(1, 12 << 20);
    remote.world.put("large", &sent).await.unwrap();
    let before = remote.backend().requests();
    assert!(remote.world.read("large").await.unwrap() == sent);
    let whole = remote.backend().requests() - before;
    assert!(whole <= 9, "{whole} requests for 12 MiB");
    let before = remote.backend().requests();
    let range = Some(RangeSpec::FromTo(7_000_000, 7_000_000));
    let found = remote.world.objects.get(&bucket(), &key("large"), range).await.unwrap();
    assert_eq!(collect(found.body).await.unwrap(), [sent[7_000_000]]);
    assert_eq!(remote.backend().requests() - before, 2);
}

#[tokio::test]
async fn a_backend_that_is_down_fails_reads_and_writes_for_now_and_loses_nothing() {
    let remote = Remote::new().await;
    let world = &remote.world;
    world.put("k", &bytes(1, 150_000)).await.unwrap();
    world.put("gone", &bytes(2, 9_000)).await.unwrap();
    world.put("small", b"in the index").await.unwrap();
    remote.cut(0, false);
    assert!(is_down(&world.read("k").await.unwrap_err()));
    assert!(is_down(&world.put("k", &bytes(3, 9_000)).await.unwrap_err()));
    assert!(is_down(&remote.multipart("joined", 1).await.unwrap_err()));
    // What needs no body goes on.
    assert_eq!(world.objects.head(&bucket(), &key("k")).await.unwrap().size, 150_000);
    assert_eq!(world.read("small").await.unwrap(), b"in the index");
    world.objects.delete(&bucket(), &key("gone"), Condition::Any).await.unwrap();
    // Cleaning up waits, and neither fails nor forgets.
    world.collect_garbage().await;
    remote.blocking(|objects| objects.sweep().map(drop)).await.unwrap();
    assert_eq!(remote.names().await.len(), 2);
    // A check does not take it for damage.
    let checked = world.objects.check(Place::default(), Depth::Whole).await.unwrap();
    assert_eq!((checked.damaged, checked.objects, checked.unknown), (Vec::new(), 2, 1));
    remote.mend();
    assert!(world.read("k").await.unwrap() == bytes(1, 150_000));
    world.put("k", &bytes(4, 9_000)).await.unwrap();
    remote.check_places("up again").await;
    assert_eq!(world.read("k").await.unwrap(), bytes(4, 9_000));
}

#[tokio::test]
async fn a_backend_that_falls_silent_during_a_body_ends_the_body_with_an_error() {
    let remote = Remote::new().await;
    let sent = bytes(1, 6 << 20);
    remote.world.put("large", &sent).await.unwrap();
    let found = remote.world.objects.get(&bucket(), &key("large"), None).await.unwrap();
    remote.cut(0, false);
    assert!(is_down(&collect(found.body).await.unwrap_err()));
    remote.mend();
    assert!(remote.world.read("large").await.unwrap() == sent);
}

#[tokio::test]
async fn what_was_changed_far_away_is_damage_and_never_an_answer() {
    let remote = Remote::new().await;
    remote.world.put("k", &bytes(1, 150_000)).await.unwrap();
    let name = FarPath::from(remote.names().await.into_keys().next().unwrap());
    let whole = remote.far.get(&name).await.unwrap().bytes().await.unwrap();
    let mut flipped = whole.to_vec();
    flipped[100_000] ^= 1;
    let looked = async |depth| {
        let piece = remote.world.objects.check(Place::default(), depth).await.unwrap();
        piece.damaged.into_iter().map(|one| one.what).collect::<Vec<_>>()
    };
    for (there, ends, all) in [
        (flipped, None, Some("a segment does not verify")),
        (whole[..140_000].to_vec(), Some("its file ends early"), Some("its file ends early")),
        (whole.to_vec(), None, None),
    ] {
        remote.far.put(&name, PutPayload::from(there)).await.unwrap();
        let (by_ends, by_all) = (looked(Depth::Ends).await, looked(Depth::Whole).await);
        assert_eq!((by_ends.len(), by_all.len()), (ends.iter().count(), all.iter().count()), "{by_ends:?} {by_all:?}");
        let read = remote.world.read("k").await;
        assert_eq!(read.is_ok(), all.is_none());
        assert!(all.is_none() || matches!(read, Err(ObjectError::Corrupt { .. })));
    }
    remote.far.delete(&name).await.unwrap();
    assert_eq!(looked(Depth::Ends).await, ["its file is missing"]);
}

#[tokio::test]
async fn a_scrub_reads_bodies_far_away_whole_only_where_that_is_set() {
    for scrub in [false, true] {
        let remote = Remote::new().await;
        remote.world.put("k", &bytes(1, 150_000)).await.unwrap();
        let name = FarPath::from(remote.names().await.into_keys().next().unwrap());
        let mut there = remote.far.get(&name).await.unwrap().bytes().await.unwrap().to_vec();
        there[100_000] ^= 1;
        remote.far.put(&name, PutPayload::from(there)).await.unwrap();
        let (store, clock) = (remote.world.store.clone(), remote.world.clock.clone());
        let world = world_over(&remote.world.disk, store, clock, &remote.far, BackendConfig { scrub, ..cold() });
        let remote = Remote { world, far: remote.far.clone() };
        assert!(remote.world.objects.start_scrub().await.unwrap());
        while remote.world.objects.scrub_status().await.unwrap().running.is_some() {
            remote.blocking(|objects| objects.scrub_step().map(drop)).await.unwrap();
        }
        let damage = remote.world.objects.scrub_status().await.unwrap().damage;
        assert_eq!(damage.len(), usize::from(scrub));
    }
}

#[tokio::test]
async fn what_tells_a_rebuild_the_parts_of_an_object_is_looked_at_too() {
    let remote = Remote::new().await;
    remote.multipart("joined", 1).await.unwrap();
    let piece = remote.world.objects.check(Place::default(), Depth::Whole).await.unwrap();
    assert_eq!((piece.damaged, piece.bytes), (Vec::new(), PART_LEAST + 70_000));
    let blob = Id128::from_bytes(remote.rows(JOINED)[0].1.as_slice().try_into().unwrap());
    remote.world.disk.remove_file(&remote.world.objects.0.blobs.path(blob)).unwrap();
    for depth in [Depth::Ends, Depth::Whole] {
        let piece = remote.world.objects.check(Place::default(), depth).await.unwrap();
        assert_eq!(piece.damaged.len(), 1);
        let what = &piece.damaged[0].what;
        assert_eq!(what, "what tells a rebuild of the index its parts: its file is missing");
    }
}

#[tokio::test]
async fn a_start_without_a_backend_that_is_needed_or_with_another_place_for_it_is_refused() {
    let remote = Remote::new().await;
    let refusal = |backends: Vec<BackendConfig>| {
        let stores = backends.into_iter().map(|one| (one, remote.far.clone() as Arc<dyn backends::BodyStore>));
        let clock: Arc<dyn crate::base::Clock> = remote.world.clock.clone();
        let backends = Backends::over(stores.collect(), &clock, &Metrics::new()).unwrap();
        match remote.world.store.read_blocking(|tx| place::check(tx, &backends)) {
            Err(ObjectError::Backends(error)) => Some(error),
            other => {
                other.unwrap();
                None
            }
        }
    };
    let other = || BackendConfig { name: "other".to_owned(), ..cold() };
    assert!(matches!(refusal(vec![other()]), Some(BackendsError::Gone { what, .. }) if what.contains("photos")));
    remote.world.put("k", &bytes(1, 9_000)).await.unwrap();
    assert!(matches!(refusal(vec![]), Some(BackendsError::Gone { .. })));
    let moved = BackendConfig { prefix: "elsewhere".to_owned(), ..cold() };
    assert!(matches!(refusal(vec![moved]), Some(BackendsError::Elsewhere { held: 1, .. })));
    assert!(refusal(vec![other(), cold()]).is_none());
    let unknown = remote.world.objects.create_bucket_at(&"new".parse().unwrap(), Some("none".parse().unwrap())).await;
    assert!(matches!(unknown, Err(ObjectError::Backends(BackendsError::Unknown(_)))));
}

#[tokio::test]
async fn what_a_service_says_becomes_the_trouble_it_is() {
    let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
    let missing = |text: &str| object_store::Error::NotFound { path: "p".to_owned(), source: text.to_owned().into() };
    let refused = object_store::Error::PermissionDenied { path: "p".to_owned(), source: "no".into() };
    for (error, trouble) in [
        (missing("NoSuchKey"), Trouble::Missing),
        (missing("<Code>NoSuchBucket</Code>"), Trouble::Refused),
        (refused, Trouble::Refused),
        (generic("error sending request: connection refused"), Trouble::Down),
        (generic("Server returned non-2xx status code: 503 Service Unavailable"), Trouble::Down),
        (generic("Server returned non-2xx status code: 429 Too Many Requests"), Trouble::Down),
        (generic("Server returned non-2xx status code: 416 Range Not Satisfiable"), Trouble::Length),
        (generic("Server returned non-2xx status code: 400 Bad Request"), Trouble::Refused),
    ] {
        assert_eq!(backends::told(&error), trouble, "{error}");
    }
}
