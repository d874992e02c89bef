//! Power cuts and kills at every step: what was acknowledged is whole, what was not is absent, leftovers are swept.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::blob::BlobFile;
use super::*;
use crate::base::Id128;
use crate::store::{Direction, OBJECTS, StoreError};
use crate::testing::{Act, Fault, store_on};

/// What a client did and was told: the contents of each key it has an answer for.
#[derive(Clone, Debug, Default)]
struct Told {
    contents: BTreeMap<&'static str, Option<Vec<u8>>>,
    /// The step that got no answer, and what it would have made of its key.
    open: Option<(&'static str, Option<Vec<u8>>)>,
}

enum Step {
    Put(&'static str, Vec<u8>),
    Multipart(&'static str, Vec<u8>),
    /// From the first key to the second.
    Copy(&'static str, &'static str),
    Delete(&'static str),
}

fn steps() -> Vec<Step> {
    vec![
        Step::Put("a", bytes(1, 70_000)),
        Step::Put("small", bytes(2, 100)),
        Step::Put("a", bytes(3, 20_000)),
        Step::Multipart("m", bytes(4, 30_000)),
        Step::Copy("m", "copy"),
        Step::Multipart("a", bytes(5, 9_000)),
        Step::Copy("small", "m"),
        Step::Put("small", bytes(6, 8_193)),
        Step::Delete("m"),
        Step::Put("small", bytes(7, 5)),
        Step::Delete("a"),
    ]
}

/// Does the steps until one fails.
async fn run(world: &World, told: &mut Told) {
    for step in steps() {
        let (key, contents, done) = match step {
            Step::Put(key, bytes) => {
                let done = world.put(key, &bytes).await.map(|_| ());
                (key, Some(bytes), done)
            }
            Step::Multipart(key, bytes) => {
                let done = multipart(world, key, &bytes).await;
                (key, Some(bytes), done)
            }
            Step::Copy(from, to) => {
                let source = CopySource { bucket: bucket(), target: newest(from), range: None, etag: None };
                let (name, key) = (bucket(), key(to));
                let done = world.objects.copy(&source, &name, &key, CopyMetadata::Keep, Condition::Any).await;
                (to, told.contents.get(from).cloned().flatten(), done.map(|_| ()))
            }
            Step::Delete(name) => {
                (name, None, world.objects.delete(&bucket(), &key(name), Condition::Any).await.map(|_| ()))
            }
        };
        if done.is_err() {
            told.open = Some((key, contents));
            return;
        }
        told.contents.insert(key, contents);
        // A removal may meet the power cut; then its job waits for the next start.
        world.collect_garbage().await;
    }
}

async fn multipart(world: &World, name: &str, bytes: &[u8]) -> Result<(), ObjectError> {
    let (bucket, key) = (bucket(), key(name));
    let upload = world.objects.create_upload(&bucket, &key, Metadata::default()).await?;
    let put = async |at, bytes: &[u8]| {
        let body = body(bytes);
        world.objects.put_part(&bucket, &key, upload, number(at), PutExpect::default(), None, body).await
    };
    put(1, b"left out").await?;
    put(2, b"replaced").await?;
    let part = put(2, bytes).await?;
    let chosen = vec![PartChoice { number: part.number, etag: part.etag }];
    world.objects.complete_upload(&bucket, &key, upload, chosen, None, Condition::Any).await.map(|_| ())
}

/// Everything told is there, and nothing else but what got no answer.
async fn check_contents(world: &World, told: &Told, what: &str) {
    for (key, contents) in &told.contents {
        let read = match world.read(key).await {
            Ok(bytes) => Some(bytes),
            Err(ObjectError::NoSuchKey) => None,
            Err(error) => panic!("{what}: {key}: {error}"),
        };
        let unanswered = told.open.as_ref().filter(|(open, _)| open == key).map(|(_, contents)| contents);
        assert!(read == *contents || Some(&read) == unanswered, "{what}: {key} is not what was acknowledged");
    }
    if let Some((key, contents)) = told.open.as_ref().filter(|(key, _)| !told.contents.contains_key(key)) {
        match world.read(key).await {
            Err(ObjectError::NoSuchKey) => {}
            read => assert_eq!(read.ok(), *contents, "{what}: {key} is half there"),
        }
    }
}

/// The blob under a name below the blobs' folder; `None` for a temporary name.
fn blob_at(path: &Path) -> Option<Id128> {
    path.extension().is_none().then(|| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

/// What is told is there before and after a sweep; what has a final name is whole; a day later nothing is left but what
/// the index names.
async fn check(world: &World, told: &Told, what: &str) {
    let objects = &world.objects.0;
    for id in world.files().iter().filter_map(|path| blob_at(path)) {
        let whole = BlobFile::is_whole(&objects.blobs, id, |bucket| objects.keys.beside_blobs(bucket).unwrap());
        assert!(whole.unwrap(), "{what}: {id} has its name and is not whole");
    }
    check_contents(world, told, what).await;
    world.objects.sweep().unwrap();
    let left = world.files();
    assert!(left.iter().all(|path| blob_at(path).is_some()), "{what}: {left:?}");
    check_contents(world, told, what).await;

    world.collect_garbage().await;
    world.clock.advance(Duration::from_hours(25));
    world.objects.sweep().unwrap();
    let mut left: Vec<Id128> = world.files().iter().filter_map(|path| blob_at(path)).collect();
    left.sort_unstable();
    let rows = world.store.read_blocking::<_, StoreError>(|tx| {
        tx.scan(index::BLOBS, Bound::Unbounded, Bound::Unbounded, Direction::Forward, usize::MAX)
    });
    let named: Vec<_> = rows.unwrap().into_iter().map(|(key, _)| key).collect();
    let left: Vec<_> = left.iter().map(|id| id.as_bytes().to_vec()).collect();
    // Parts of the upload that was under way are named too.
    assert_eq!(left, named, "{what}: leftovers");
    check_contents(world, told, what).await;
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_and_a_kill_at_every_step() {
    let world = World::new().await;
    let before = world.disk.operations();
    let mut told = Told::default();
    run(&world, &mut told).await;
    assert!(told.open.is_none());
    check(&world, &told, "no power cut").await;
    let steps = world.disk.operations() - before;
    assert!(steps > 50, "{steps}");

    for step in 1..=steps {
        let world = World::new().await;
        world.disk.cut_power_at(step);
        let mut told = Told::default();
        run(&world, &mut told).await;
        for seed in 0..2 {
            let after = world.restarted(world.disk.crash(seed));
            check(&after, &told, &format!("power cut at step {step} of {steps}, outcome {seed}")).await;
        }
        let after = world.restarted(world.disk.kill());
        check(&after, &told, &format!("killed at step {step} of {steps}")).await;
    }
}

/// A service whose index lies on the same disk as its blobs.
fn all_on_one_disk(disk: &FaultyDisk, seed: u64) -> World {
    let store = store_on(disk, &OBJECTS, seed).unwrap();
    World::on(disk.clone(), store, Arc::default(), ObjectsConfig::default())
}

#[tokio::test]
async fn a_row_never_names_bytes_that_a_power_cut_has_taken_though_both_are_synced_at_once() {
    let scenario = async |world: &World, told: &mut Told| {
        for (key, len) in [("a", 20_000), ("b", 70_000), ("a", 9_000)] {
            let sent = bytes(len as u8, len);
            if world.put(key, &sent).await.is_err() {
                told.open = Some((key, Some(sent)));
                return;
            }
            told.contents.insert(key, Some(sent));
        }
    };
    let steps = {
        let disk = FaultyDisk::new();
        let world = all_on_one_disk(&disk, 1);
        world.objects.create_bucket(&bucket()).await.unwrap();
        let before = disk.operations();
        let mut told = Told::default();
        scenario(&world, &mut told).await;
        assert_eq!(told.contents.len(), 2);
        disk.operations() - before
    };
    for step in 1..=steps {
        let disk = FaultyDisk::new();
        let world = all_on_one_disk(&disk, 1);
        world.objects.create_bucket(&bucket()).await.unwrap();
        disk.cut_power_at(step);
        let mut told = Told::default();
        scenario(&world, &mut told).await;
        for seed in 0..2 {
            let after = all_on_one_disk(&disk.crash(seed), 2);
            let what = format!("power cut at step {step} of {steps}, outcome {seed}");
            check_contents(&after, &told, &what).await;
            after.objects.sweep().unwrap();
            check_contents(&after, &told, &what).await;
        }
    }
}

#[tokio::test]
async fn a_failing_disk_is_an_error_and_loses_nothing_acknowledged() {
    let mut world = World::new().await;
    let mut told = Told::default();
    for (at, fault) in [Fault::Io, Fault::NoSpace, Fault::SyncError, Fault::NoSpaceAtSync].into_iter().enumerate() {
        for nth in 1..8 {
            let sent = bytes(at as u8 * 10 + nth as u8, 30_000);
            world.disk.fail_at(nth, fault);
            match world.put("a", &sent).await {
                Ok(_) => told.contents.insert("a", Some(sent)),
                Err(ObjectError::Disk(_) | ObjectError::Full { .. }) => None,
                Err(error) => panic!("{fault:?}: {error}"),
            };
            world.disk.heal();
            check_contents(&world, &told, &format!("{fault:?} at {nth}")).await;
            if world.objects.health().await.is_err() {
                world = world.restarted(world.disk.kill());
            }
        }
    }
    let after = world.restarted(world.disk.crash(1));
    check(&after, &told, "power cut afterwards").await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_synced_again_and_no_upload_is_taken_until_a_restart() {
    // Of the file, and of its folder.
    for failing in [1, 2] {
        let world = World::new().await;
        world.put("before", &bytes(1, 30_000)).await.unwrap();
        let nth = sync_of_a_put(&world, failing).await;
        world.disk.fail_at(nth, Fault::SyncError);
        assert!(matches!(world.put("k", &bytes(3, 30_000)).await, Err(ObjectError::Disk(_))));
        assert!(world.objects.health().await.is_err());

        world.disk.trace();
        let refused = world.put("k", &bytes(4, 30_000)).await.unwrap_err().to_string();
        assert!(refused.contains("until a restart"), "{refused}");
        assert!(world.disk.steps().iter().all(|(act, _)| *act == Act::Remove), "{:?}", world.disk.steps());
        assert_eq!(world.read("k").await.unwrap(), bytes(2, 30_000));
        // What lies in the index has syncs of its own.
        world.put("small", b"inline").await.unwrap();

        let after = world.restarted(world.disk.crash(failing as u64));
        after.put("new", &bytes(5, 30_000)).await.unwrap();
        assert_eq!(after.read("k").await.unwrap(), bytes(2, 30_000));
        assert_eq!(after.read("before").await.unwrap(), bytes(1, 30_000));
    }
}

/// The step, from now, at which an upload syncs for the `nth` time: its file first, then the file's folder.
async fn sync_of_a_put(world: &World, nth: usize) -> u64 {
    world.disk.trace();
    world.put("k", &bytes(2, 30_000)).await.unwrap();
    let steps = world.disk.steps();
    let syncs = steps.iter().enumerate().filter(|(_, (act, _))| *act == Act::Sync);
    syncs.map(|(at, _)| at as u64 + 1).nth(nth - 1).unwrap()
}

#[tokio::test]
async fn a_disk_that_turns_out_full_at_the_sync_of_a_file_costs_that_file_alone() {
    let world = World::new().await;
    // The data folder itself is not this room's to make durable.
    world.disk.sync_dir(Path::new("/")).unwrap();
    let nth = sync_of_a_put(&world, 1).await;
    world.disk.fail_at(nth, Fault::NoSpaceAtSync);
    assert!(matches!(world.put("k", &bytes(3, 30_000)).await, Err(ObjectError::Full { .. })));
    world.objects.health().await.unwrap();
    assert_eq!(world.read("k").await.unwrap(), bytes(2, 30_000));
    // Others go on, and after a power cut nothing tells of the one that was refused.
    world.put("next", &bytes(4, 30_000)).await.unwrap();
    for seed in 0..3 {
        let after = world.restarted(world.disk.crash(seed));
        let mut told = Told::default();
        told.contents.insert("k", Some(bytes(2, 30_000)));
        told.contents.insert("next", Some(bytes(4, 30_000)));
        check(&after, &told, &format!("outcome {seed}")).await;
    }
}

#[tokio::test]
async fn a_disk_that_turns_out_full_at_the_sync_of_a_folder_ends_uploads_until_a_restart() {
    let world = World::new().await;
    let nth = sync_of_a_put(&world, 2).await;
    world.disk.fail_at(nth, Fault::NoSpaceAtSync);
    assert!(matches!(world.put("k", &bytes(3, 30_000)).await, Err(ObjectError::Full { .. })));
    assert!(world.objects.health().await.is_err());
    let refused = world.put("other", &bytes(4, 30_000)).await.unwrap_err().to_string();
    assert!(refused.contains("until a restart"), "{refused}");
    let after = world.restarted(world.disk.crash(1));
    assert_eq!(after.read("k").await.unwrap(), bytes(2, 30_000));
    after.put("other", &bytes(4, 30_000)).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_when_a_file_gets_its_name_costs_that_file_alone() {
    let world = World::new().await;
    world.disk.trace();
    world.put("k", &bytes(2, 30_000)).await.unwrap();
    let steps = world.disk.steps();
    let nth = steps.iter().position(|(act, _)| *act == Act::Rename).unwrap() as u64 + 1;
    // The renaming is the last step that can meet a full disk.
    world.disk.fail_at(nth, Fault::NoSpace);
    assert!(matches!(world.put("k", &bytes(3, 30_000)).await, Err(ObjectError::Full { .. })));
    world.objects.health().await.unwrap();
    world.put("k", &bytes(4, 30_000)).await.unwrap();
    assert_eq!(world.read("k").await.unwrap(), bytes(4, 30_000));
}

#[tokio::test]
async fn a_bucket_acknowledged_has_its_key_after_a_power_cut() {
    for step in 1..15 {
        let world = World::new().await;
        // The data folder itself is not this room's to make durable.
        world.disk.sync_dir(Path::new("/")).unwrap();
        world.disk.cut_power_at(step);
        let other: BucketName = "other".parse().unwrap();
        let made = world.objects.create_bucket(&other).await;
        let after = world.restarted(world.disk.crash(step));
        match (&made, after.objects.bucket(&other).await) {
            // Without an answer it may be there, or not.
            (_, Ok(_)) => {
                let id = after.objects.open_bucket(&other).await.unwrap().id;
                assert!(after.objects.0.keys.beside_blobs(id).unwrap().is_some(), "{step}");
                let filed = after.objects.0.bucket_files.read(id).unwrap();
                assert!(made.is_err() || matches!(filed, Some(Ok(_))), "{step}");
            }
            (Err(_), Err(ObjectError::NoSuchBucket)) => {}
            other => panic!("{step}: {other:?}"),
        }
    }
}
