//! Stored bytes that were changed are never served.

use super::*;
use crate::base::OpenMode;
use crate::crypto::stream::SEALED_SEGMENT;

const SIZE: usize = 400_000;

async fn world_with_a_blob() -> (World, PathBuf) {
    let world = World::new().await;
    world.put("k", &bytes(7, SIZE)).await.unwrap();
    let path = world.files().pop().unwrap();
    (world, path)
}

/// Reading gives the right bytes or an error; an error is counted.
async fn never_wrong(world: &World, what: &str) -> bool {
    let failures = world.objects.0.metrics.integrity_failures.value();
    match world.read("k").await {
        Ok(read) => {
            assert!(read == bytes(7, SIZE), "{what}: wrong bytes were served");
            true
        }
        Err(ObjectError::Corrupt { .. }) => {
            assert_eq!(world.objects.0.metrics.integrity_failures.value(), failures + 1, "{what}");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_an_error_or_harmless() {
    let (world, path) = world_with_a_blob().await;
    let len = world.disk.entry(&path).unwrap().unwrap().len;
    let header = 180;
    let mut harmless = 0;
    for at in (0..header).chain((header..len).step_by(9_973)) {
        world.disk.flip(&path, at, 1 << (at % 8)).unwrap();
        let read = never_wrong(&world, &format!("byte {at}")).await;
        assert!(!read || at >= header, "byte {at} of the header may be changed");
        harmless += u32::from(read);
        world.disk.flip(&path, at, 1 << (at % 8)).unwrap();
    }
    // Only the sealed record, which reading does not need.
    assert!(harmless <= 1, "{harmless}");
    assert!(never_wrong(&world, "untouched").await);
}

#[tokio::test]
async fn a_cut_file_is_an_error_at_every_length() {
    let (world, path) = world_with_a_blob().await;
    let file = world.disk.open(&path, OpenMode::ReadWrite).unwrap();
    let len = file.len().unwrap();
    // The last bytes are the footer, which reading does not need.
    for cut in [100, SEALED_SEGMENT as u64, len / 2, len - 180, len - 1] {
        file.set_len(len - cut).unwrap();
        assert!(!never_wrong(&world, &format!("{cut} bytes cut")).await);
    }
}

#[tokio::test]
async fn exchanged_segments_are_an_error() {
    let (world, path) = world_with_a_blob().await;
    let file = world.disk.open(&path, OpenMode::ReadWrite).unwrap();
    let len = file.len().unwrap();
    let body = len - 60 - crate::crypto::stream::sealed_len(SIZE as u64);
    for shift in 0..60 {
        // Wherever the body begins exactly, two full segments change places.
        let start = body + shift;
        let mut one = vec![0; SEALED_SEGMENT];
        let mut two = one.clone();
        file.read_at(start, &mut one).unwrap();
        file.read_at(start + SEALED_SEGMENT as u64, &mut two).unwrap();
        file.write_at(start, &two).unwrap();
        file.write_at(start + SEALED_SEGMENT as u64, &one).unwrap();
        assert!(!never_wrong(&world, "exchanged").await);
        file.write_at(start, &one).unwrap();
        file.write_at(start + SEALED_SEGMENT as u64, &two).unwrap();
    }
    assert!(never_wrong(&world, "put back").await);
}

#[tokio::test]
async fn exchanged_blobs_are_an_error() {
    let (world, first) = world_with_a_blob().await;
    world.put("other", &bytes(9, SIZE)).await.unwrap();
    let second = world.files().into_iter().find(|path| *path != first).unwrap();
    world.disk.rename(&second, &first).unwrap();
    assert!(!never_wrong(&world, "another object's blob").await);
    assert!(matches!(world.read("other").await, Err(ObjectError::Corrupt { fault: "its file is missing", .. })));
    assert!(world.metrics.exposition().contains("mainstay_objects_integrity_failures_total 2"));
}

#[tokio::test]
async fn a_fault_behind_the_first_batch_ends_the_stream_with_an_error() {
    let (world, path) = world_with_a_blob().await;
    let len = world.disk.entry(&path).unwrap().unwrap().len;
    world.disk.flip(&path, len - 1_000, 1).unwrap();
    let mut body = world.objects.get(&bucket(), &key("k"), None).await.unwrap().body;
    let mut right = 0;
    let last = loop {
        match body.next().await.unwrap() {
            Ok(chunk) => {
                assert_eq!(chunk, bytes(7, SIZE)[right..right + chunk.len()]);
                right += chunk.len();
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(last, ObjectError::Corrupt { fault: "a segment does not verify", .. }));
    assert!((256 << 10..SIZE).contains(&right));
    assert!(body.next().await.is_none());
}
