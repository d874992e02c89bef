//! What the index names and is not there, or not whole, is found and named.

use super::*;
use crate::objects::check::{Damaged, Depth, Piece, Place};
use crate::store::{StoreError, WriteTx};

/// All pieces as one.
async fn whole(world: &World, depth: Depth) -> Piece {
    let mut all = Piece { next: Some(Place::default()), ..Piece::default() };
    while let Some(place) = all.next.take() {
        // As it travels.
        let place = serde_json::from_slice(&serde_json::to_vec(&place).unwrap()).unwrap();
        let piece = world.objects.check(place, depth).await.unwrap();
        all = Piece {
            next: piece.next,
            buckets: all.buckets + piece.buckets,
            objects: all.objects + piece.objects,
            uploads: all.uploads + piece.uploads,
            bytes: all.bytes + piece.bytes,
            damaged: [all.damaged, piece.damaged].concat(),
            unknown: all.unknown + piece.unknown,
        };
    }
    all
}

fn damaged(key: &str, what: &str) -> Damaged {
    let (bucket, what) = ("photos".to_owned(), what.to_owned());
    Damaged { bucket, key: Some(key.to_owned()), version: None, upload_part: None, what }
}

async fn blob_of(world: &World, key: &str) -> PathBuf {
    let before = world.files();
    world.put(key, &bytes(3, 400_000)).await.unwrap();
    world.files().into_iter().find(|path| !before.contains(path)).unwrap()
}

/// A multipart object of two parts, and an upload in progress with one.
async fn uploads(world: &World) {
    for (key, parts) in [("joined", 2), ("unfinished", 1)] {
        let upload = world.objects.create_upload(&bucket(), &super::key(key), Metadata::default()).await.unwrap();
        let mut chosen = Vec::new();
        for number in 1..=parts {
            let (number, key) = (super::number(number), super::key(key));
            let part = body(&bytes(4, 5 << 20));
            let stored =
                world.objects.put_part(&bucket(), &key, upload, number, PutExpect::default(), None, part).await;
            chosen.push(PartChoice { number, etag: stored.unwrap().etag });
        }
        if key == "joined" {
            let key = super::key(key);
            world.objects.complete_upload(&bucket(), &key, upload, chosen, None, Condition::Any).await.unwrap();
        }
    }
}

#[tokio::test]
async fn whatever_is_whole_is_counted_and_nothing_is_damaged() {
    let world = World::new().await;
    assert_eq!(whole(&world, Depth::Whole).await, Piece { buckets: 1, ..Piece::default() });
    world.put("empty", b"").await.unwrap();
    world.put("small", &bytes(1, 5_000)).await.unwrap();
    world.put("large", &bytes(2, 18 << 20)).await.unwrap();
    uploads(&world).await;
    for depth in [Depth::Ends, Depth::Whole] {
        let found = whole(&world, depth).await;
        assert_eq!(found.damaged, Vec::new());
        assert_eq!((found.buckets, found.objects, found.uploads), (1, 4, 1));
        assert_eq!(found.bytes, 5_000 + (18 << 20) + (15 << 20), "{depth:?}");
    }
}

#[tokio::test]
async fn a_missing_a_cut_and_an_exchanged_blob_are_named_by_looking_at_their_ends() {
    let world = World::new().await;
    let [one, two, three, _whole] = [
        blob_of(&world, "cut").await,
        blob_of(&world, "exchanged").await,
        blob_of(&world, "missing").await,
        blob_of(&world, "whole").await,
    ];
    let file = world.disk.open(&one, crate::base::OpenMode::ReadWrite).unwrap();
    file.set_len(file.len().unwrap() - 70_000).unwrap();
    world.disk.rename(&three, &two).unwrap();
    let found = whole(&world, Depth::Ends).await;
    assert_eq!(found.objects, 4);
    let keys: Vec<_> = found.damaged.iter().map(|damaged| damaged.key.as_deref().unwrap()).collect();
    assert_eq!(keys, ["cut", "exchanged", "missing"]);
    assert_eq!(found.damaged[1], damaged("exchanged", "it is another blob, or another bucket's"));
    assert_eq!(found.damaged[2], damaged("missing", "its file is missing"));
    assert_eq!(world.objects.0.metrics.integrity_failures.value(), 3);
}

#[tokio::test]
async fn a_flipped_bit_in_a_body_is_found_by_reading_it() {
    let world = World::new().await;
    let path = blob_of(&world, "k").await;
    world.disk.flip(&path, 200_000, 4).unwrap();
    assert_eq!(whole(&world, Depth::Ends).await.damaged, Vec::new());
    let found = whole(&world, Depth::Whole).await;
    assert_eq!(found.damaged, [damaged("k", "a segment does not verify")]);
}

#[tokio::test]
async fn more_damage_than_a_piece_tells_is_told_in_the_next() {
    let world = World::new().await;
    for number in 0..150 {
        world.put(&format!("{number:03}"), &bytes(1, 9_000)).await.unwrap();
    }
    for path in world.files() {
        world.disk.remove_file(&path).unwrap();
    }
    let found = whole(&world, Depth::Ends).await;
    assert_eq!((found.objects, found.damaged.len()), (150, 150));
    assert!(found.damaged.is_sorted_by_key(|damaged| damaged.key.clone()));
}

#[tokio::test]
async fn older_versions_parts_inlined_bytes_and_bucket_keys_are_looked_at() {
    let world = World::new().await;
    world.objects.set_versioning(&bucket(), true).await.unwrap();
    let old = blob_of(&world, "k").await;
    let new = blob_of(&world, "k").await;
    assert!(old != new);
    uploads(&world).await;
    for path in world.files().into_iter().filter(|path| *path != new) {
        world.disk.remove_file(&path).unwrap();
    }
    world.put("small", b"inlined").await.unwrap();
    let lose = |tx: &mut dyn WriteTx| {
        let all = tx.scan(
            index::INLINE,
            std::ops::Bound::Unbounded,
            std::ops::Bound::Unbounded,
            crate::store::Direction::Forward,
            9,
        )?;
        all.iter().try_for_each(|(at, _)| tx.delete(index::INLINE, at).map(drop))
    };
    world.store.write::<_, StoreError>(lose).await.unwrap();
    let id = world.objects.open_bucket(&bucket()).await.unwrap().id;
    world.objects.0.keys.destroy(id).unwrap();

    let found = whole(&world, Depth::Ends).await.damaged;
    let missing = "its file is missing";
    let bucket_key = Damaged { key: None, ..damaged("", "its key is missing beside the blobs") };
    let version = found[3].version.clone();
    assert!(version.is_some());
    let expected = [
        bucket_key,
        damaged("joined", missing),
        damaged("small", "its bytes are missing from the index"),
        Damaged { version, ..damaged("k", missing) },
        Damaged { upload_part: Some(1), ..damaged("unfinished", missing) },
    ];
    assert_eq!(found, expected);
}
