//! Leftovers are found, and nothing that might be needed is removed.

use super::*;
use crate::base::{Id128, OpenMode};
use crate::store::StoreError;

fn day() -> Duration {
    Duration::from_hours(24)
}

#[tokio::test]
async fn temporary_files_of_former_runs_are_removed_and_those_in_use_are_not() {
    let world = World::new().await;
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let (reached, half) = tokio::sync::oneshot::channel::<()>();
    let end = stream::once(async move {
        reached.send(()).unwrap();
        wait.await.unwrap();
        Ok(Bytes::from_static(b"end"))
    });
    let body = body(&bytes(1, 600_000)).chain(end);
    let name = bucket();
    let to = key("k");
    let put = world.objects.put(&name, &to, Metadata::default(), PutExpect::default(), body);
    let leftover = Path::new(ROOT).join("blobs/ab").join(format!("{}.tmp", Id128::from_bytes([0xab; 16])));
    let sweep = async {
        half.await.unwrap();
        world.disk.open(&leftover, OpenMode::CreateNew).unwrap();
        // The first batch is on its way to disk; whether its file is there already or not, it must stay.
        let swept = world.objects.sweep().unwrap();
        assert_eq!((swept.temporaries, swept.blobs), (1, 0));
        go_on.send(()).unwrap();
    };
    let (put, ()) = futures_util::future::join(put, sweep).await;
    put.unwrap();
    assert_eq!(world.read("k").await.unwrap().len(), 600_003);
    assert!(world.disk.entry(&leftover).unwrap().is_none());
}

#[tokio::test]
async fn a_dropped_upload_removes_its_own_file() {
    let world = World::new().await;
    let body = body(&bytes(1, 600_000)).chain(stream::pending());
    let (name, to) = (bucket(), key("k"));
    let put = world.objects.put(&name, &to, Metadata::default(), PutExpect::default(), body);
    let cut = tokio::time::timeout(Duration::from_millis(200), put).await;
    assert!(cut.is_err());
    while !world.files().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));
}

#[tokio::test]
async fn a_blob_without_a_row_is_put_aside_after_two_sweeps_a_day_apart_and_never_deleted() {
    let world = World::new().await;
    world.put("k", &bytes(1, 50_000)).await.unwrap();
    world.put("kept", &bytes(2, 50_000)).await.unwrap();
    // The row gets lost: not what a deletion does.
    let at = index::object_key(world.objects.open_bucket(&bucket()).await.unwrap().id, &key("k"));
    let lose = move |tx: &mut dyn crate::store::WriteTx| {
        let row: index::ObjectRow = index::row(tx, index::CURRENT, &at)?.unwrap();
        let index::Content::Blob(id) = row.content else { panic!("a file") };
        tx.delete(index::BLOBS, id.as_bytes())?;
        tx.delete(index::CURRENT, &at)?;
        Ok::<_, ObjectError>(id)
    };
    let id = world.store.write(lose).await.unwrap();
    let quarantined = Path::new(ROOT).join("quarantine").join(id.to_string());

    for _ in 0..2 {
        let swept = world.objects.sweep().unwrap();
        assert_eq!((swept.blobs, swept.orphans, swept.quarantined), (2, 1, 0));
    }
    world.clock.advance(day());
    let swept = world.objects.sweep().unwrap();
    assert_eq!((swept.orphans, swept.quarantined), (1, 1));
    assert!(world.disk.entry(&quarantined).unwrap().is_some());
    let swept = world.objects.sweep().unwrap();
    assert_eq!((swept.blobs, swept.orphans), (1, 0));
    assert_eq!(swept.bytes as i64, world.objects.0.metrics.used.value());
    assert_eq!(world.read("kept").await.unwrap(), bytes(2, 50_000));
    let noted = |tx: &dyn crate::store::ReadTx| tx.get(index::ORPHANS, id.as_bytes());
    assert_eq!(world.store.read_blocking::<_, StoreError>(noted).unwrap(), None);
}

#[tokio::test]
async fn what_is_in_quarantine_stays_there_unless_the_setting_says_for_how_long() {
    let world = World::new().await;
    let id = Id128::from_bytes([0xab; 16]);
    let path = Path::new(ROOT).join("quarantine").join(id.to_string());
    world.disk.open(&path, OpenMode::CreateNew).unwrap();
    for _ in 0..2 {
        let swept = world.objects.sweep().unwrap();
        assert_eq!((swept.in_quarantine, swept.removed), (1, 0));
        world.clock.advance(day() * 400);
    }
    let config = ObjectsConfig { quarantine: crate::base::Span::days(900), ..ObjectsConfig::default() };
    let again = World::on(world.disk.clone(), world.store.clone(), world.clock.clone(), config);
    assert_eq!(again.objects.sweep().unwrap().in_quarantine, 1);
    again.clock.advance(day() * 200);
    // Somebody wants it again.
    let row = crate::store::record::encode(&index::BlobRow { bucket: id, placed: place::Placed::Here });
    let name = move |tx: &mut dyn crate::store::WriteTx| tx.put(index::BLOBS, id.as_bytes(), &row);
    again.store.write::<_, StoreError>(name).await.unwrap();
    assert_eq!(again.objects.sweep().unwrap().removed, 0);
    let forget = move |tx: &mut dyn crate::store::WriteTx| tx.delete(index::BLOBS, id.as_bytes());
    again.store.write::<_, StoreError>(forget).await.unwrap();
    let swept = again.objects.sweep().unwrap();
    assert_eq!((swept.in_quarantine, swept.removed), (0, 1));
    assert!(again.disk.entry(&path).unwrap().is_none());
    let noted = |tx: &dyn crate::store::ReadTx| tx.get(index::QUARANTINED, id.as_bytes());
    assert_eq!(again.store.read_blocking::<_, StoreError>(noted).unwrap(), None);
}

#[tokio::test]
async fn a_quarantine_of_more_than_a_page_is_looked_through_whole() {
    let config = ObjectsConfig { quarantine: crate::base::Span::days(10), ..ObjectsConfig::default() };
    let clock = Arc::new(TestClock::default());
    let world = World::on(FaultyDisk::with_clock(clock.clone()), memory_store(), clock, config);
    let put_aside = |ids: std::ops::Range<u128>| {
        for id in ids {
            let name = Id128::from_bytes(id.to_be_bytes()).to_string();
            world.disk.open(&Path::new(ROOT).join("quarantine").join(name), OpenMode::CreateNew).unwrap();
        }
    };
    let sweep = || {
        let swept = world.objects.sweep().unwrap();
        (swept.in_quarantine, swept.removed)
    };
    put_aside(0..600);
    assert_eq!(sweep(), (600, 0));
    world.clock.advance(day() * 5);
    put_aside(600..700);
    assert_eq!(sweep(), (700, 0));
    world.clock.advance(day() * 5);
    assert_eq!(sweep(), (100, 600));
}

#[tokio::test]
async fn a_sweep_that_is_asked_for_runs_behind_the_scenes_and_tells_what_it_did() {
    let world = World::new().await;
    world.put("k", &bytes(1, 50_000)).await.unwrap();
    assert_eq!(world.objects.asked_sweep(), AskedSweep::default());
    world.objects.begin_sweep();
    while world.objects.asked_sweep().running {
        tokio::task::yield_now().await;
    }
    let Some(Ok(swept)) = world.objects.asked_sweep().last else { panic!("it failed") };
    assert_eq!((swept.blobs, swept.orphans), (1, 0));
}

#[tokio::test]
async fn an_orphan_that_finds_its_row_again_is_no_orphan() {
    let world = World::new().await;
    world.put("k", &bytes(1, 50_000)).await.unwrap();
    let id: Id128 = world.files()[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let row = world.store.read_blocking::<_, StoreError>(|tx| tx.get(index::BLOBS, id.as_bytes())).unwrap().unwrap();
    let remove = move |tx: &mut dyn crate::store::WriteTx| tx.delete(index::BLOBS, id.as_bytes());
    world.store.write::<_, StoreError>(remove).await.unwrap();
    assert_eq!(world.objects.sweep().unwrap().orphans, 1);
    let restore = move |tx: &mut dyn crate::store::WriteTx| tx.put(index::BLOBS, id.as_bytes(), &row);
    world.store.write::<_, StoreError>(restore).await.unwrap();
    world.clock.advance(day());
    assert_eq!(world.objects.sweep().unwrap().orphans, 0);
    world.clock.advance(day());
    assert_eq!(world.objects.sweep().unwrap().quarantined, 0);
    assert_eq!(world.read("k").await.unwrap().len(), 50_000);
}

#[tokio::test]
async fn a_sweep_that_meets_an_error_puts_nothing_aside() {
    let world = World::new().await;
    world.put("k", &bytes(1, 50_000)).await.unwrap();
    let id: Id128 = world.files()[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    let remove = move |tx: &mut dyn crate::store::WriteTx| tx.delete(index::BLOBS, id.as_bytes());
    world.store.write::<_, StoreError>(remove).await.unwrap();
    world.objects.sweep().unwrap();
    world.clock.advance(day());
    world.disk.cut_power_at(0);
    world.objects.sweep().unwrap_err();
    world.disk.heal();
    assert_eq!(world.files().len(), 1);
}

/// Takes the final name of the one blob there is away again, as a power cut may, and its rows where `forget` says so.
async fn with_the_name_taken_back(world: &World, forget: bool) -> (Id128, PathBuf) {
    let path = world.files().pop().unwrap();
    let id: Id128 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let temporary = path.with_extension("tmp");
    world.disk.rename(&path, &temporary).unwrap();
    if forget {
        let at = index::object_key(world.objects.open_bucket(&bucket()).await.unwrap().id, &key("k"));
        let forget = move |tx: &mut dyn crate::store::WriteTx| {
            tx.delete(index::BLOBS, id.as_bytes())?;
            tx.delete(index::CURRENT, &at)
        };
        world.store.write::<_, StoreError>(forget).await.unwrap();
    }
    (id, temporary)
}

#[tokio::test]
async fn a_blob_that_a_power_cut_took_the_name_from_is_read_and_gets_it_back() {
    let world = World::new().await;
    world.put("k", &bytes(1, 500_000)).await.unwrap();
    let (id, _) = with_the_name_taken_back(&world, false).await;
    assert_eq!(world.read("k").await.unwrap(), bytes(1, 500_000));
    let swept = world.objects.sweep().unwrap();
    assert_eq!((swept.temporaries, swept.blobs, swept.orphans), (0, 1, 0));
    assert_eq!(world.files(), [world.objects.0.blobs.path(id)]);
    assert_eq!(world.read("k").await.unwrap(), bytes(1, 500_000));
}

#[tokio::test]
async fn a_blob_that_a_power_cut_took_the_name_from_is_removed_with_its_object() {
    let world = World::new().await;
    world.put("k", &bytes(1, 50_000)).await.unwrap();
    with_the_name_taken_back(&world, false).await;
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.collect_garbage().await;
    assert!(world.files().is_empty());
    assert_eq!(world.objects.0.metrics.used.value(), 0);
}

#[tokio::test]
async fn a_whole_blob_under_a_temporary_name_is_kept_even_when_no_row_names_it() {
    let world = World::new().await;
    world.put("k", &bytes(1, 500_000)).await.unwrap();
    let (id, _) = with_the_name_taken_back(&world, true).await;
    let swept = world.objects.sweep().unwrap();
    assert_eq!((swept.temporaries, swept.blobs, swept.orphans), (0, 1, 1));
    world.clock.advance(day());
    assert_eq!(world.objects.sweep().unwrap().quarantined, 1);
    assert!(world.disk.entry(&Path::new(ROOT).join("quarantine").join(id.to_string())).unwrap().is_some());
}

#[tokio::test]
async fn a_torn_blob_under_a_temporary_name_is_removed_though_its_footer_opens() {
    let world = World::new().await;
    world.put("k", &bytes(1, 500_000)).await.unwrap();
    let (_, temporary) = with_the_name_taken_back(&world, true).await;
    world.disk.flip(&temporary, 300_000, 1).unwrap();
    let swept = world.objects.sweep().unwrap();
    assert_eq!((swept.temporaries, swept.blobs, swept.orphans), (1, 0, 0));
    assert!(world.files().is_empty());
}
