//! Blobs into a backup and back.

use std::io::Read as _;

use super::*;
use crate::base::disk::read_file;
use crate::crypto::Opener;
use crate::objects::backup::{Located, Restoring, Search, body, stored_blobs};
use crate::store::OBJECTS;
use crate::store::dump::{Dump, Rows};

fn streams(world: &World) -> Vec<(crate::base::Id128, Vec<u8>)> {
    let blobs = world.store.read_blocking(|tx| stored_blobs(tx, None, 100)).unwrap();
    let stream = |blob: backup::StoredBlob| {
        let mut bytes = Vec::new();
        world.objects.blob(&blob).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(world.objects.blob_stream_len(&blob).unwrap(), Some(bytes.len() as u64));
        (blob.id, bytes)
    };
    blobs.into_iter().map(stream).collect()
}

pub(super) fn same_keyring(disk: &FaultyDisk) -> Arc<Keyring> {
    let master = MasterSource::Given { key: MasterKey::random(&TestRandom::new(1)), from: "test" };
    let random = Arc::new(SystemRandom);
    Arc::new(Keyring::open(Arc::new(disk.clone()), random, Path::new("/data"), master, false).unwrap())
}

fn begin(target: &FaultyDisk) -> Restoring {
    let disk: Arc<dyn Disk> = Arc::new(target.clone());
    Restoring::begin(&disk, Path::new(ROOT), same_keyring(target)).unwrap()
}

#[tokio::test]
async fn a_restored_blob_is_the_same_file_byte_for_byte() {
    let world = World::new().await;
    for (name, len) in [("just over a row", 8_193), ("whole segments", 131_072), ("odd", 300_001)] {
        world.put(name, &bytes(1, len)).await.unwrap();
    }
    let target = FaultyDisk::new();
    let mut restoring = begin(&target);
    for (bucket, wrapped) in world.objects.key_files().unwrap() {
        restoring.put_key(bucket, &wrapped).unwrap();
    }
    for (id, stream) in streams(&world) {
        restoring.put_blob(id, &mut stream.as_slice()).unwrap();
    }
    restoring.finish().unwrap();
    let files = world.files();
    assert_eq!(files.len(), 3);
    for file in files {
        let read = |disk: &FaultyDisk| read_file(disk, &file, 1 << 20).unwrap();
        assert!(read(&world.disk) == read(&target), "{}", file.display());
    }
}

#[tokio::test]
async fn a_blob_that_is_not_whole_or_another_ones_is_not_restored() {
    let world = World::new().await;
    world.put("a", &bytes(1, 100_000)).await.unwrap();
    world.put("b", &bytes(2, 100_000)).await.unwrap();
    let target = FaultyDisk::new();
    let mut restoring = begin(&target);
    for (bucket, wrapped) in world.objects.key_files().unwrap() {
        restoring.put_key(bucket, &wrapped).unwrap();
    }
    let [(first, a), (second, _)] = streams(&world).try_into().unwrap();
    for length in [0, 12, 13, 100, 300, 5_000, a.len() - 1] {
        assert!(restoring.put_blob(first, &mut &a[..length]).is_err(), "{length}");
    }
    assert!(restoring.put_blob(second, &mut a.as_slice()).is_err());
    restoring.put_blob(first, &mut a.as_slice()).unwrap();
}

#[tokio::test]
async fn blob_files_stay_while_a_backup_reads_them() {
    let world = World::new().await;
    world.put("a", &bytes(1, 100_000)).await.unwrap();
    let before = world.files();
    let kept = world.objects.keep_blobs();
    world.put("a", &bytes(2, 100_000)).await.unwrap();
    world.collect_garbage().await;
    assert!(before.iter().all(|file| world.files().contains(file)));
    drop(kept);
    world.collect_garbage().await;
    assert!(before.iter().all(|file| !world.files().contains(file)));
}

#[tokio::test]
async fn an_object_is_found_among_the_rows_of_a_backup() {
    let world = World::new().await;
    world.put("small", b"hello").await.unwrap();
    world.put("large", &bytes(3, 100_000)).await.unwrap();
    let master = Opener::new(&MasterKey::random(&TestRandom::new(1)));
    let find = |name: &str| {
        let mut search = Search::new(bucket(), key(name), &master);
        let mut dump = Dump::new(world.store.snapshot().unwrap()).unwrap();
        let mut rows = Rows::new(&OBJECTS, &mut dump).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            search.row(row.table, &row.key, &row.value).unwrap();
        }
        search.finish()
    };
    assert_eq!(find("small").unwrap(), Located::Inline(b"hello".to_vec()));
    let Located::Blobs(blobs) = find("large").unwrap() else { panic!("it is no row") };
    let mut plain = Vec::new();
    let stored = world.store.read_blocking(|tx| stored_blobs(tx, None, 100)).unwrap();
    let found = stored.iter().find(|blob| blob.id == blobs[0]).unwrap();
    body(world.objects.blob(found).unwrap()).unwrap().read_to_end(&mut plain).unwrap();
    assert!(plain == bytes(3, 100_000));
    assert!(matches!(find("none"), Err(ObjectError::NoSuchKey)));
}
