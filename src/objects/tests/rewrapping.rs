//! Another master key: everything opens meanwhile and after, and a power cut or a kill at any step leaves all whole.

use super::*;
use crate::crypto::KeyringError;
use crate::objects::rewrap::Rewrapped;
use crate::testing::Fault;

fn keyring(disk: &FaultyDisk) -> Arc<Keyring> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let keyring = Keyring::open(shared, Arc::new(SystemRandom), Path::new("/data"), MasterSource::Folder, false);
    let keyring = keyring.unwrap();
    keyring.settle().unwrap();
    Arc::new(keyring)
}

/// A service whose master key is the folder's, and that keyring.
fn on(disk: &FaultyDisk, store: &Store) -> (World, Arc<Keyring>) {
    let (metrics, keyring, clock) = (Metrics::new(), keyring(disk), Arc::<TestClock>::default());
    let (shared, config): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), ObjectsConfig::default());
    let data = Path::new("/data");
    let objects = open_with(shared, data, store.clone(), keyring.clone(), clock.clone(), &metrics, config);
    (World { objects, disk: disk.clone(), store: store.clone(), clock, metrics }, keyring)
}

/// A service with two buckets, objects in the index and in files, and two exports.
async fn filled() -> (World, Arc<Keyring>) {
    let disk = FaultyDisk::new();
    let (world, keyring) = on(&disk, &memory_store());
    for name in ["photos", "other"] {
        world.objects.create_bucket(&name.parse().unwrap()).await.unwrap();
    }
    world.put("large", &bytes(1, 30_000)).await.unwrap();
    world.put("small", b"small").await.unwrap();
    for _ in 0..2 {
        world.objects.export_now(&|| true).unwrap().unwrap();
    }
    // The data folder itself is not this room's to make durable.
    disk.sync_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (world, keyring)
}

/// Everything is there, whichever way it is reached.
async fn check(world: &World, what: &str) {
    assert_eq!(world.read("large").await.unwrap(), bytes(1, 30_000), "{what}");
    assert_eq!(world.read("small").await.unwrap(), b"small", "{what}");
    let inner = &world.objects.0;
    for name in ["photos", "other"] {
        let id = world.objects.open_bucket(&name.parse().unwrap()).await.unwrap().id;
        assert!(inner.keys.beside_blobs(id).unwrap().is_some(), "{what}: {name}");
        assert!(matches!(inner.bucket_files.read(id).unwrap(), Some(Ok(_))), "{what}: {name}");
    }
    let exports = inner.exports.list().unwrap();
    assert_eq!(exports.len(), 2, "{what}");
    for export in exports {
        assert!(inner.exports.read(&export).is_ok_and(export::ExportReader::reads_whole), "{what}: an export");
    }
}

/// Changes the master key and forgets the one before.
fn change(world: &World, keyring: &Keyring) -> Result<(), ObjectError> {
    if !keyring.is_changing() {
        keyring.rotate()?;
    }
    while world.objects.rewrap(&|| true)?.done() > 0 {}
    keyring.forget()?;
    Ok(())
}

#[tokio::test]
async fn everything_opens_with_the_new_master_key_alone_and_nothing_with_the_old_one() {
    let (world, keyring) = filled().await;
    let old = keyring.export();
    keyring.rotate().unwrap();
    check(&world, "changed").await;
    let done = world.objects.rewrap(&|| true).unwrap();
    assert_eq!(done.rows.done, 2);
    assert_eq!((done.key_files.done, done.exports.done, done.damaged()), (2, 2, 0));
    assert_eq!(world.objects.rewrap(&|| true).unwrap(), Rewrapped::default());
    check(&world, "wrapped anew").await;
    keyring.forget().unwrap();
    check(&world, "forgotten").await;
    let (after, keyring) = on(&world.disk, &world.store);
    check(&after, "started again").await;
    assert!(!keyring.is_changing());

    let old = MasterSource::Given { key: MasterKey::parse(old.expose()).unwrap(), from: "test" };
    let shared: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let refused = Keyring::open(shared, Arc::new(SystemRandom), Path::new("/data"), old, true);
    assert!(matches!(refused, Err(KeyringError::WrongMaster { .. })));
}

#[tokio::test]
async fn buckets_made_and_deleted_meanwhile_are_as_they_should_be() {
    let (world, keyring) = filled().await;
    keyring.rotate().unwrap();
    let name: BucketName = "made-meanwhile".parse().unwrap();
    world.objects.create_bucket(&name).await.unwrap();
    let other: BucketName = "other".parse().unwrap();
    let deleted = world.objects.open_bucket(&other).await.unwrap().id;
    world.objects.delete_bucket(&other).await.unwrap();
    while world.objects.rewrap(&|| true).unwrap().done() > 0 {}
    world.collect_garbage().await;
    while world.objects.rewrap(&|| true).unwrap().done() > 0 {}
    keyring.forget().unwrap();
    let (after, _) = on(&world.disk, &world.store);
    let id = after.objects.open_bucket(&name).await.unwrap().id;
    assert!(after.objects.0.keys.beside_blobs(id).unwrap().is_some());
    // A destroyed key does not come back.
    assert!(after.objects.0.keys.wrapped(deleted).unwrap().is_none());
}

#[tokio::test]
async fn what_no_master_key_opens_is_counted_and_in_nobodys_way() {
    let (world, keyring) = filled().await;
    let id = world.objects.open_bucket(&"other".parse().unwrap()).await.unwrap().id;
    world.disk.flip(&Path::new(ROOT).join("keys").join(id.to_string()), 20, 1).unwrap();
    keyring.rotate().unwrap();
    let done = world.objects.rewrap(&|| true).unwrap();
    assert_eq!((done.key_files.done, done.key_files.damaged), (1, 1));
    assert_eq!(world.objects.rewrap(&|| true).unwrap().done(), 0);
    keyring.forget().unwrap();
    assert_eq!(world.read("large").await.unwrap(), bytes(1, 30_000));
}

#[tokio::test]
async fn a_power_cut_or_a_kill_at_any_step_leaves_everything_whole_and_the_change_goes_on() {
    let (world, keyring) = filled().await;
    let before = world.disk.operations();
    change(&world, &keyring).unwrap();
    let steps = world.disk.operations() - before;
    assert!(steps > 30, "{steps}");
    for (step, at) in (1..=steps).flat_map(|step| [(step, 0), (step, 1), (step, 2)]) {
        // Anew for each outcome: the index, which is in memory, goes on with the one that it was left to.
        let (world, keyring) = filled().await;
        world.disk.cut_power_at(step);
        assert!(change(&world, &keyring).is_err(), "{step}");
        let disk = if at == 0 { world.disk.kill() } else { world.disk.crash(at) };
        let what = format!("step {step} of {steps}, outcome {at}");
        let (after, keyring) = on(&disk, &world.store);
        check(&after, &what).await;
        change(&after, &keyring).unwrap();
        check(&after, &what).await;
        let (after, _) = on(&disk, &world.store);
        check(&after, &what).await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_at_any_step_is_in_the_way_and_harms_nothing() {
    for (step, fault) in (1..40).flat_map(|step| [(step, Fault::Io), (step, Fault::SyncError)]) {
        let (world, keyring) = filled().await;
        world.disk.fail_at(step, fault);
        let _ = change(&world, &keyring);
        world.disk.heal();
        let what = format!("{fault:?} at {step}");
        check(&world, &what).await;
        if keyring.is_changing() {
            change(&world, &keyring).unwrap();
        }
        for disk in [world.disk.crash(step), world.disk.kill()] {
            let (after, _) = on(&disk, &world.store);
            check(&after, &what).await;
        }
    }
}
