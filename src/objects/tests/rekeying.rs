//! Another key for a bucket: everything opens at every moment, nothing hangs on the old key at the end, and a power cut or a kill
//! at any step leaves all whole.

use proptest::prelude::*;

use super::*;
use crate::base::{Id128, disk};
use crate::objects::blob::{BlobFile, BucketKey, Rewrap, rewrap};
use crate::objects::index::{BUCKETS, BucketRow, INLINE, REWRAPS, ROTATIONS, row};
use crate::objects::keys::{is_changing, unwrap};
use crate::store::{Direction, OBJECTS, StoreError, Table};
use crate::testing::{Fault, store_on};

fn bucket_row(world: &World) -> BucketRow {
    world.store.read_blocking(|tx| row::<BucketRow>(tx, BUCKETS, bucket().as_str().as_bytes())).unwrap().unwrap()
}

/// The bucket's key as it is wrapped now, which no change reaches.
fn key_of(world: &World) -> BucketKey {
    let row = bucket_row(world);
    unwrap(world.objects.0.keys.keyring(), row.id, &row.wrapped_key).unwrap()
}

fn rows(world: &World, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = std::ops::Bound::Unbounded;
    let read =
        world.store.read_blocking::<_, StoreError>(|tx| tx.scan(table, all, all, Direction::Forward, usize::MAX));
    read.unwrap()
}

/// Goes on with changes until none is left, or something is in the way.
fn finish(world: &World) -> Result<(), ObjectError> {
    loop {
        let found = world.store.read_blocking(|tx| row::<BucketRow>(tx, BUCKETS, bucket().as_str().as_bytes()))?;
        let Some(found) = found.filter(|found| is_changing(&found.wrapped_key)) else { return Ok(()) };
        world.objects.change_keys(&|| true)?;
        let told = world.store.read_blocking(|tx| world.objects.key_change(tx, &found))?;
        if let Some(reason) = told.and_then(|change| change.waits_for) {
            return Err(ObjectError::Disk(std::io::Error::other(reason)));
        }
    }
}

fn change(world: &World) -> Result<(), ObjectError> {
    world.objects.begin_key_change(&bucket())?;
    finish(world)
}

async fn multipart(world: &World, name: &str, parts: &[Vec<u8>], complete: bool) {
    let (bucket, key) = (bucket(), key(name));
    let upload = world.objects.create_upload(&bucket, &key, Metadata::default()).await.unwrap();
    let mut chosen = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let body = body(part);
        let put =
            world.objects.put_part(&bucket, &key, upload, number(at as u64 + 1), PutExpect::default(), None, body);
        let part = put.await.unwrap();
        chosen.push(PartChoice { number: part.number, etag: part.etag });
    }
    if complete {
        world.objects.complete_upload(&bucket, &key, upload, chosen, None, Condition::Any).await.unwrap();
    }
}

const CONTENTS: [(&str, u8, usize); 4] = [("large", 1, 70_000), ("small", 2, 100), ("kept", 3, 9_000), ("empty", 4, 0)];

/// Objects of every sort, and an upload in progress.
async fn fill(world: &World) {
    for (name, seed, len) in CONTENTS {
        world.put(name, &bytes(seed, len)).await.unwrap();
    }
    multipart(world, "parts", &[bytes(5, 6 << 20), bytes(6, 500)], true).await;
    multipart(world, "begun", &[bytes(7, 9_000)], false).await;
    world.objects.export_now(&|| true).unwrap().unwrap();
}

async fn check(world: &World, what: &str) {
    for (name, seed, len) in CONTENTS {
        assert_eq!(world.read(name).await.unwrap(), bytes(seed, len), "{what}: {name}");
    }
    let parts = [bytes(5, 6 << 20), bytes(6, 500)].concat();
    assert!(world.read("parts").await.unwrap() == parts, "{what}: parts");
}

/// Every blob there is, also the ones in the index: its id and its first bytes.
fn headers(world: &World) -> Vec<(Id128, Vec<u8>)> {
    let named = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let files = world.files().into_iter().map(|path| {
        let bytes = disk::read_file(&world.disk, &path, 1 << 30).unwrap().unwrap();
        (named(&path), bytes[..180].to_vec())
    });
    let id = |bytes: Vec<u8>| Id128::from_bytes(bytes.try_into().unwrap());
    files.chain(rows(world, INLINE).into_iter().map(|(at, bytes)| (id(at), bytes))).collect()
}

/// Nothing of the bucket hangs on `old`, and its wrapped form lies nowhere.
fn check_gone(world: &World, old: &BucketKey, wrapped: &[u8], what: &str) {
    for (id, header) in headers(world) {
        assert_eq!(rewrap(&header, id, &key_of(world)), Ok(Rewrap::Current), "{what}");
        assert!(rewrap(&header, id, old).is_err(), "{what}");
    }
    let row = bucket_row(world);
    let beside = world.objects.0.keys.wrapped(row.id).unwrap().unwrap();
    assert_eq!((row.wrapped_key.len(), beside.len()), (60, 60), "{what}");
    assert!(row.wrapped_key != wrapped && beside != wrapped, "{what}");
    match world.objects.0.bucket_files.read(row.id).unwrap() {
        Some(Ok(bucket_files::BucketState::Live { row, .. })) => {
            assert!(!row.windows(60).any(|some| some == wrapped), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
    assert!(rows(world, REWRAPS).is_empty() && rows(world, ROTATIONS).is_empty(), "{what}");
}

#[tokio::test]
async fn everything_opens_and_nothing_hangs_on_the_key_before() {
    let world = World::new().await;
    fill(&world).await;
    let (old, wrapped) = (key_of(&world), bucket_row(&world).wrapped_key);
    let exports = world.objects.0.exports.list().unwrap()[0].number;
    world.objects.begin_key_change(&bucket()).unwrap();
    assert!(matches!(world.objects.begin_key_change(&bucket()), Err(ObjectError::Unavailable(_))));
    check(&world, "begun").await;
    world.put("kept", &bytes(3, 9_000)).await.unwrap();
    finish(&world).unwrap();
    check(&world, "changed").await;
    world.collect_garbage().await;
    check_gone(&world, &old, &wrapped, "changed");
    assert_eq!(world.objects.0.exports.list().unwrap()[0].number, exports + 2);
    let after = world.restarted(world.disk.kill());
    check(&after, "started again").await;
    // And once more, with a backup of it in between.
    let kept = after.objects.keep_blobs();
    assert!(matches!(after.objects.begin_key_change(&bucket()), Err(ObjectError::Unavailable(_))));
    drop(kept);
    change(&after).unwrap();
    check(&after, "changed twice").await;
}

#[tokio::test]
async fn a_header_written_anew_is_another_blob_to_a_backup() {
    let world = World::new().await;
    world.put("k", &bytes(1, 20_000)).await.unwrap();
    let id = headers(&world)[0].0;
    let blob = world.store.read_blocking(|tx| backup::stored_blobs(tx, None, 10)).unwrap().remove(0);
    let before = world.objects.blob_identity(&blob).unwrap();
    assert_eq!(before, id.as_bytes());
    change(&world).unwrap();
    let after = world.objects.blob_identity(&blob).unwrap();
    assert!(after.starts_with(id.as_bytes()) && after.len() > 16);
    change(&world).unwrap();
    assert_ne!(world.objects.blob_identity(&blob).unwrap(), after);
}

#[tokio::test]
async fn what_was_being_written_is_waited_for_and_other_buckets_are_left_alone() {
    let world = World::new().await;
    let other: BucketName = "other".parse().unwrap();
    world.objects.create_bucket(&other).await.unwrap();
    let sent = body(&bytes(9, 20_000));
    world.objects.put(&other, &key("k"), Metadata::default(), PutExpect::default(), sent).await.unwrap();
    let untouched = headers(&world);
    let upload = world.objects.0.writing.hold(Id128::from_bytes([1; 16]));
    world.objects.begin_key_change(&bucket()).unwrap();
    let told = finish(&world).unwrap_err().to_string();
    assert!(told.contains("1 uploads"), "{told}");
    drop(upload);
    // Those that began since are none of it.
    let _later = world.objects.0.writing.hold(Id128::from_bytes([2; 16]));
    world.objects.change_keys(&|| true).unwrap();
    finish(&world).unwrap();
    assert_eq!(headers(&world), untouched);
}

#[tokio::test]
async fn a_header_torn_by_a_crash_is_written_again_before_anything_is_read() {
    let world = World::new().await;
    world.put("k", &bytes(1, 20_000)).await.unwrap();
    let (id, header) = headers(&world).remove(0);
    world.objects.begin_key_change(&bucket()).unwrap();
    let Ok(Rewrap::To(wrapped)) = rewrap(&header, id, &key_of(&world)) else { panic!("it hangs on the key before") };
    let put = move |tx: &mut dyn crate::store::WriteTx| tx.put(REWRAPS, id.as_bytes(), &wrapped);
    world.store.write_blocking::<_, StoreError>(put).unwrap();
    world.disk.flip(&world.files()[0], 150, 0xff).unwrap();
    assert!(matches!(world.read("k").await, Err(ObjectError::Corrupt { .. })));
    let after = world.restarted(world.disk.kill());
    assert_eq!(after.read("k").await.unwrap(), bytes(1, 20_000));
    assert!(rows(&after, REWRAPS).is_empty());
    finish(&after).unwrap();
    assert_eq!(after.read("k").await.unwrap(), bytes(1, 20_000));
}

#[tokio::test]
async fn quarantine_and_what_waits_for_it_are_taken_along() {
    let world = World::new().await;
    world.put("lost", &bytes(1, 20_000)).await.unwrap();
    let id = headers(&world)[0].0;
    let forget = move |tx: &mut dyn crate::store::WriteTx| tx.delete(index::BLOBS, id.as_bytes()).map(drop);
    world.store.write_blocking::<_, StoreError>(forget).unwrap();
    let opens = |world: &World| {
        let header = world.objects.0.blobs.header(id, &world.objects.0.quarantine.join(id.to_string()));
        rewrap(&header.unwrap().unwrap(), id, &key_of(world))
    };
    change(&world).unwrap();
    assert_eq!(opens(&world), Ok(Rewrap::Current));
    world.objects.sweep().unwrap();
    world.clock.advance(Duration::from_hours(25));
    assert_eq!(world.objects.sweep().unwrap().quarantined, 1);
    change(&world).unwrap();
    assert_eq!(opens(&world), Ok(Rewrap::Current));
}

#[tokio::test]
async fn an_index_lost_in_between_is_made_anew_and_the_change_goes_on() {
    let world = World::new().await;
    world.put("before", &bytes(1, 20_000)).await.unwrap();
    world.put("small", b"small").await.unwrap();
    world.objects.export_now(&|| true).unwrap().unwrap();
    world.objects.begin_key_change(&bucket()).unwrap();
    world.put("since", &bytes(2, 20_000)).await.unwrap();
    let (after, _) = rebuilding::rebuilt(&world).await;
    for world in [&after, &after.restarted(after.disk.clone())] {
        assert_eq!(world.read("before").await.unwrap(), bytes(1, 20_000));
        assert_eq!(world.read("since").await.unwrap(), bytes(2, 20_000));
        assert_eq!(world.read("small").await.unwrap(), b"small");
        finish(world).unwrap();
    }
    let (again, _) = rebuilding::rebuilt(&after).await;
    assert_eq!(again.read("small").await.unwrap(), b"small");
    assert_eq!(again.read("since").await.unwrap(), bytes(2, 20_000));
}

#[tokio::test]
async fn both_keys_may_change_at_once() {
    let disk = FaultyDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let random = Arc::new(SystemRandom);
    let keyring = Keyring::open(shared.clone(), random, Path::new("/data"), MasterSource::Folder, false).unwrap();
    let (keyring, metrics, clock, store) =
        (Arc::new(keyring), Metrics::new(), Arc::<TestClock>::default(), memory_store());
    let config = ObjectsConfig::default();
    let objects =
        open_with(shared, Path::new("/data"), store.clone(), keyring.clone(), clock.clone(), &metrics, config);
    let world = World { objects, disk, store, clock, metrics };
    world.objects.create_bucket(&bucket()).await.unwrap();
    world.put("k", &bytes(1, 20_000)).await.unwrap();
    world.objects.begin_key_change(&bucket()).unwrap();
    keyring.rotate().unwrap();
    while world.objects.rewrap(&|| true).unwrap().done() > 0 {}
    keyring.forget().unwrap();
    assert_eq!(world.read("k").await.unwrap(), bytes(1, 20_000));
    finish(&world).unwrap();
    assert_eq!(world.read("k").await.unwrap(), bytes(1, 20_000));
    let id = bucket_row(&world).id;
    assert_eq!(world.objects.0.keys.wrapped(id).unwrap().unwrap().len(), 60);
}

/// A service whose index lies on the same disk as its blobs.
fn on_one_disk(disk: &FaultyDisk, seed: u64) -> World {
    World::on(disk.clone(), store_on(disk, &OBJECTS, seed).unwrap(), Arc::default(), ObjectsConfig::default())
}

/// A bucket with a few small files and one body in the index.
async fn little(disk: &FaultyDisk) -> World {
    let world = on_one_disk(disk, 1);
    world.objects.create_bucket(&bucket()).await.unwrap();
    world.put("a", &bytes(1, 9_000)).await.unwrap();
    world.put("b", &bytes(2, 10_000)).await.unwrap();
    world.put("small", b"small").await.unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    world
}

async fn check_little(world: &World, what: &str) {
    assert!(world.read("a").await.unwrap() == bytes(1, 9_000), "{what}: a");
    assert!(world.read("b").await.unwrap() == bytes(2, 10_000), "{what}: b");
    assert_eq!(world.read("small").await.unwrap(), b"small", "{what}");
    for (id, _) in headers(world).into_iter().filter(|(_, header)| header.len() == 180) {
        let beside = |bucket| world.objects.0.keys.beside_blobs(bucket).unwrap();
        assert!(BlobFile::is_whole(&world.objects.0.blobs, id, beside).unwrap(), "{what}: {id}");
    }
}

#[tokio::test]
async fn a_power_cut_or_a_kill_at_any_step_loses_nothing_and_the_change_goes_on() {
    let disk = FaultyDisk::new();
    let world = little(&disk).await;
    let before = disk.operations();
    change(&world).unwrap();
    let steps = disk.operations() - before;
    assert!(steps > 20, "{steps}");
    for step in 1..=steps {
        let disk = FaultyDisk::new();
        let world = little(&disk).await;
        let (old, wrapped) = (key_of(&world), bucket_row(&world).wrapped_key);
        disk.cut_power_at(step);
        let done = change(&world);
        // A kill is the milder half of a power cut, and each outcome takes a while.
        let outcomes = if step % 4 == 0 { vec![disk.crash(step), disk.kill()] } else { vec![disk.crash(step)] };
        for (at, disk) in outcomes.into_iter().enumerate() {
            let what = format!("step {step} of {steps}, outcome {at}");
            let after = on_one_disk(&disk, 2);
            after.objects.settle_keys().unwrap();
            after.objects.note_buckets().unwrap();
            check_little(&after, &what).await;
            // Acknowledged or not, it is over or it goes on, or nothing of it has begun.
            finish(&after).unwrap();
            let begun = bucket_row(&after).wrapped_key != wrapped;
            assert!(begun || done.is_err(), "{what}");
            if !begun {
                change(&after).unwrap();
            }
            check_little(&after, &what).await;
            check_gone(&after, &old, &wrapped, &what);
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_is_in_the_way_and_harms_nothing() {
    for (step, fault) in (1..30).flat_map(|step| [(step, Fault::Io), (step, Fault::SyncError)]) {
        let world = World::new().await;
        world.put("a", &bytes(1, 9_000)).await.unwrap();
        world.put("small", b"small").await.unwrap();
        // The data folder itself is not this room's to make durable.
        world.disk.sync_dir(Path::new("/")).unwrap();
        world.disk.fail_at(step, fault);
        let begun = change(&world);
        world.disk.heal();
        let what = format!("{fault:?} at {step}: {begun:?}");
        let check = async |world: &World| {
            assert!(world.read("a").await.unwrap() == bytes(1, 9_000), "{what}");
            assert_eq!(world.read("small").await.unwrap(), b"small", "{what}");
        };
        check(&world).await;
        let _ = world.objects.change_keys(&|| true);
        finish(&world).unwrap();
        check(&world).await;
        for disk in [world.disk.crash(step), world.disk.kill()] {
            check(&world.restarted(disk)).await;
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8, usize),
    Delete(u8),
    Begin,
    GoOn,
    Restart,
    Crash(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8, prop_oneof![0..200_usize, 8_000..9_000_usize, 20_000..21_000_usize])
            .prop_map(|(key, len)| Act::Put(key, len)),
        1 => (0..4_u8).prop_map(Act::Delete),
        2 => Just(Act::Begin),
        2 => Just(Act::GoOn),
        1 => Just(Act::Restart),
        1 => any::<u64>().prop_map(Act::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_done_in_between_every_object_is_as_it_was_put(acts in proptest::collection::vec(act(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            world.disk.sync_dir(Path::new("/")).unwrap();
            let mut contents = std::collections::BTreeMap::new();
            for (at, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Put(key, len) => {
                        let sent = bytes(at as u8, len);
                        world.put(&format!("{key}"), &sent).await.unwrap();
                        contents.insert(key, sent);
                    }
                    Act::Delete(name) => {
                        world.objects.delete(&bucket(), &key(&format!("{name}")), Condition::Any).await.unwrap();
                        contents.remove(&name);
                        world.collect_garbage().await;
                    }
                    // Refused while another goes on.
                    Act::Begin => drop(world.objects.begin_key_change(&bucket())),
                    Act::GoOn => {
                        world.objects.change_keys(&|| true).unwrap();
                    }
                    Act::Restart => world = world.restarted(world.disk.kill()),
                    Act::Crash(seed) => world = world.restarted(world.disk.crash(seed)),
                }
                for (key, sent) in &contents {
                    assert!(world.read(&format!("{key}")).await.unwrap() == *sent, "{key}");
                }
            }
            finish(&world).unwrap();
            for (key, sent) in &contents {
                assert!(world.read(&format!("{key}")).await.unwrap() == *sent, "{key}");
            }
        });
    }
}
