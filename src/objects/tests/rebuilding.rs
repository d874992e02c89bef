//! An index that is lost and made anew: all is there that an export or a blob tells of, and nothing else.

use std::collections::BTreeMap;

use super::*;
use crate::base::{Id128, SystemRandom};
use crate::objects::lifecycle::{Expiration, LifecycleFilter, LifecycleRule};
use crate::objects::rebuild::{Beside, Rebuilt, finish, load};
use crate::objects::usage::Quota;
use crate::store::OBJECTS_REBUILT;

/// Just too large for the index.
const LARGE: usize = 9_000;

/// The index of `world` made anew, by a server that has no other; then the server that is started on it.
pub(super) async fn rebuilt(world: &World) -> (World, Rebuilt) {
    let (disk, clock) = (world.disk.clone(), world.clock.clone());
    // On a thread of its own, as the command does it.
    let made = tokio::task::spawn_blocking(move || {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, random, keyring) = (memory_store(), Arc::new(SystemRandom), backups::same_keyring(&disk));
        let loaded = load(&shared, Path::new(ROOT), keyring, random, (&OBJECTS_REBUILT, &store)).unwrap();
        let after = World::on(disk, store, clock, ObjectsConfig::default());
        let rebuilt = finish(&after.objects, loaded, Beside::Mend, &mut |_, _| {}).unwrap();
        (after, rebuilt)
    });
    let (after, rebuilt) = made.await.unwrap();
    (after.restarted(world.disk.clone()), rebuilt)
}

fn name(text: &str) -> BucketName {
    text.parse().unwrap()
}

impl World {
    pub(super) fn export(&self) {
        self.objects.export_now(&|| true).unwrap().unwrap();
    }

    /// As time goes by, and what was let go of with it.
    pub(super) async fn later(&self) {
        self.clock.advance(Duration::from_secs(1));
        self.jobs().run_due().await.unwrap();
    }

    pub(super) async fn put_in(&self, bucket: &str, name: &str, bytes: &[u8]) -> ObjectInfo {
        let metadata = Metadata {
            content_type: Some("a/b".to_owned()),
            user: vec![("seen".to_owned(), name.to_owned())],
            ..Metadata::default()
        };
        let bucket = rebuilding::name(bucket);
        let stored = self.objects.put(&bucket, &key(name), metadata, PutExpect::default(), body(bytes)).await.unwrap();
        self.later().await;
        stored
    }

    pub(super) async fn begin_in(&self, bucket: &str, name: &str) -> UploadId {
        let metadata = Metadata { content_type: Some("video/mp4".to_owned()), ..Metadata::default() };
        self.objects.create_upload(&rebuilding::name(bucket), &key(name), metadata).await.unwrap()
    }

    pub(super) async fn part_in(&self, bucket: &str, name: &str, upload: UploadId, at: u64, bytes: &[u8]) -> PartInfo {
        let (bucket, key, body) = (rebuilding::name(bucket), key(name), body(bytes));
        let checksum = Checksum { algorithm: "CRC32".to_owned(), value: format!("{at}") };
        let put = self.objects.put_part(&bucket, &key, upload, number(at), PutExpect::default(), Some(checksum), body);
        let part = put.await.unwrap();
        self.later().await;
        part
    }

    /// An object in two parts, with one that is replaced and one that is left out.
    pub(super) async fn multipart_in(&self, bucket: &str, name: &str, seed: u8) {
        let upload = self.begin_in(bucket, name).await;
        let large = PART_LEAST as usize;
        self.part_in(bucket, name, upload, 7, b"left out").await;
        self.part_in(bucket, name, upload, 2, b"replaced").await;
        let first = self.part_in(bucket, name, upload, 1, &bytes(seed, large)).await;
        let second = self.part_in(bucket, name, upload, 2, &bytes(seed, 70_000)).await;
        let chosen = [first, second].map(|part| PartChoice { number: part.number, etag: part.etag }).to_vec();
        let (bucket, key) = (rebuilding::name(bucket), key(name));
        self.objects.complete_upload(&bucket, &key, upload, chosen, None, Condition::Any).await.unwrap();
        self.later().await;
    }

    pub(super) async fn delete_in(&self, bucket: &str, name: &str) {
        self.objects.delete(&rebuilding::name(bucket), &key(name), Condition::Any).await.unwrap();
        self.later().await;
    }

    /// Everything there is, written out.
    pub(super) async fn state(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for bucket in self.objects.buckets().await.unwrap() {
            let detail = self.objects.bucket_detail(&bucket.name).await.unwrap();
            out.insert(bucket.name.to_string(), format!("{detail:?}"));
            let query = VersionQuery { max_keys: 1000, ..VersionQuery::default() };
            for version in self.objects.list_versions(&bucket.name, query).await.unwrap().versions {
                let at = format!("{}/{} {}", bucket.name, version.key, version.version);
                let mut told = format!("{version:?}");
                if version.object.is_some() {
                    let target = Target { key: key(&version.key), version: Some(version.version) };
                    let found = self.objects.get_version(&bucket.name, &target, None).await.unwrap();
                    let info = format!("{:?}", found.info);
                    let read = collect(found.body).await.unwrap();
                    told = format!("{told} {info} {}", blake3::hash(&read));
                    let part = self.objects.get_part(&bucket.name, &target, number(1)).await;
                    told = format!("{told} {:?}", part.map(|part| (part.parts, part.range)).ok());
                }
                out.insert(at, told);
            }
            let query = UploadQuery { max_uploads: 1000, ..UploadQuery::default() };
            for upload in self.objects.list_uploads(&bucket.name, query).await.unwrap().uploads {
                let at = key(&upload.key);
                let parts = self.objects.list_parts(&bucket.name, &at, upload.upload, None, 1000).await.unwrap();
                out.insert(format!("{} {}", bucket.name, upload.upload), format!("{upload:?} {parts:?}"));
            }
        }
        out
    }
}

pub(super) fn same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    for (at, told) in before {
        assert_eq!(Some(told), after.get(at), "{at}");
    }
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
}

/// Two buckets with all that can be set, one of which keeps versions.
async fn two_buckets() -> World {
    let world = World::new().await;
    world.objects.create_bucket(&name("kept")).await.unwrap();
    world.objects.set_versioning(&name("kept"), true).await.unwrap();
    let set = |settings: &mut BucketSettings| {
        settings.policy = Some("{}".to_owned());
        settings.tags = vec![("a".to_owned(), "b".to_owned())];
        settings.quota = Quota { max_bytes: Some(1 << 30), max_objects: None };
        settings.files.download = true;
        settings.lifecycle = vec![LifecycleRule {
            id: "r".to_owned(),
            enabled: true,
            filter: LifecycleFilter { prefix: "tmp/".to_owned(), ..LifecycleFilter::default() },
            expiration: Some(Expiration::Days(3)),
            ..LifecycleRule::default()
        }];
    };
    world.objects.change_bucket_settings(&name("kept"), set).await.unwrap();
    world
}

#[tokio::test]
async fn what_the_export_has_comes_back_as_it_was() {
    let world = two_buckets().await;
    world.put_in("photos", "small", b"inlined").await;
    world.put_in("photos", "large", &bytes(1, 300_000)).await;
    for seed in 0..3 {
        world.put_in("kept", "k", &bytes(seed, LARGE)).await;
        world.put_in("kept", "s", &bytes(seed, 10)).await;
    }
    world.delete_in("kept", "k").await;
    world.multipart_in("photos", "joined", 3).await;
    let upload = world.begin_in("kept", "unfinished").await;
    world.part_in("kept", "unfinished", upload, 3, &bytes(3, 100)).await;
    world.export();
    let before = world.state().await;
    let (after, rebuilt) = rebuilt(&world).await;
    same(&before, &after.state().await);
    assert_eq!((rebuilt.buckets, rebuilt.objects, rebuilt.uploads, rebuilt.from_blobs), (2, 9, 1, 0));
    assert_eq!((rebuilt.lost.len(), rebuilt.unreadable.len(), rebuilt.left, rebuilt.notes.len()), (0, 0, 0, 0));
    assert!(rebuilt.export.is_some_and(|export| export.whole));
    assert_eq!(after.objects.sweep().unwrap().orphans, 0);
}

#[tokio::test]
async fn what_was_stored_since_comes_back_from_blobs_with_its_version() {
    let world = two_buckets().await;
    world.put_in("photos", "over", &bytes(1, LARGE)).await;
    world.put_in("photos", "shrunk", b"inlined").await;
    world.put_in("kept", "k", &bytes(1, LARGE)).await;
    let begun = world.begin_in("photos", "begun").await;
    let first = world.part_in("photos", "begun", begun, 1, &bytes(8, 20_000)).await;
    world.part_in("photos", "begun", begun, 2, &bytes(8, 10)).await;
    let open = world.begin_in("kept", "open").await;
    world.part_in("kept", "open", open, 1, &bytes(8, 10)).await;
    world.export();
    world.put_in("photos", "over", &bytes(2, 200_000)).await;
    world.put_in("photos", "shrunk", &bytes(2, LARGE)).await;
    world.put_in("photos", "new", &bytes(3, LARGE)).await;
    world.put_in("kept", "k", &bytes(2, LARGE)).await;
    world.put_in("kept", "k", &bytes(3, LARGE)).await;
    world.put_in("kept", "other", &bytes(3, LARGE)).await;
    world.multipart_in("photos", "joined", 3).await;
    world.multipart_in("kept", "k", 4).await;
    // Begun before the export and completed after; begun before and continued after.
    let chosen = vec![PartChoice { number: first.number, etag: first.etag }];
    let (photos, at) = (name("photos"), key("begun"));
    world.objects.complete_upload(&photos, &at, begun, chosen, None, Condition::Any).await.unwrap();
    world.later().await;
    world.part_in("kept", "open", open, 1, &bytes(9, 30)).await;
    world.part_in("kept", "open", open, 2, &bytes(9, 40)).await;
    // A bucket of its own, and what is set.
    world.objects.create_bucket(&name("younger")).await.unwrap();
    world.put_in("younger", "k", &bytes(5, LARGE)).await;
    world.objects.set_versioning(&name("younger"), true).await.unwrap();
    let tag = |settings: &mut BucketSettings| settings.tags = vec![("x".to_owned(), "y".to_owned())];
    world.objects.change_bucket_settings(&name("photos"), tag).await.unwrap();
    let before = world.state().await;
    let (after, rebuilt) = rebuilt(&world).await;
    let mut there = after.state().await;
    // Stored before the bucket kept versions: nothing tells that.
    let null = before.keys().find(|at| at.starts_with("younger/k")).unwrap();
    let made = there.keys().find(|at| at.starts_with("younger/k")).unwrap().clone();
    assert!(null.ends_with("null") && !made.ends_with("null"));
    there.remove(&made);
    there.insert(null.clone(), before[null].clone());
    same(&before, &there);
    assert_eq!(rebuilt.lost, Vec::<String>::new());
    assert_eq!((rebuilt.left, rebuilt.from_blobs), (0, 10));
    after.collect_garbage().await;
    same(&there.into_iter().filter(|(at, _)| !at.starts_with("younger")).collect(), &{
        let all = after.state().await;
        all.into_iter().filter(|(at, _)| !at.starts_with("younger")).collect()
    });
}

#[tokio::test]
async fn without_an_export_blobs_are_there_and_small_objects_are_not() {
    let world = two_buckets().await;
    world.put_in("photos", "small", b"inlined").await;
    world.put_in("photos", "large", &bytes(1, 300_000)).await;
    world.put_in("kept", "k", &bytes(1, LARGE)).await;
    world.put_in("kept", "k", &bytes(2, LARGE)).await;
    world.multipart_in("photos", "joined", 3).await;
    let upload = world.begin_in("photos", "unfinished").await;
    world.part_in("photos", "unfinished", upload, 3, &bytes(3, 100)).await;
    let mut before = world.state().await;
    let (after, rebuilt) = rebuilt(&world).await;
    assert_eq!(rebuilt.export, None);
    let there = after.state().await;
    assert!(before.remove("photos/small null").is_some());
    before.retain(|at, _| at != "photos");
    // When the upload was begun is when its first part was.
    before.retain(|at, _| !at.starts_with("photos "));
    for (at, told) in &before {
        assert_eq!(Some(told), there.get(at), "{at}");
    }
    let parts = after.objects.list_parts(&name("photos"), &key("unfinished"), upload, None, 10).await.unwrap().parts;
    let part = &parts[0];
    assert_eq!((parts.len(), part.size, part.checksum.as_ref().unwrap().value.as_str()), (1, 100, "3"));
    assert_eq!((rebuilt.objects, rebuilt.from_blobs, rebuilt.uploads), (4, 4, 1));
}

#[tokio::test]
async fn what_was_deleted_stays_deleted() {
    let world = two_buckets().await;
    world.put_in("photos", "before", &bytes(1, LARGE)).await;
    world.put_in("photos", "after", &bytes(2, LARGE)).await;
    world.multipart_in("photos", "joined", 3).await;
    world.objects.create_bucket(&name("gone")).await.unwrap();
    world.put_in("gone", "k", b"inlined").await;
    let upload = world.begin_in("gone", "u").await;
    world.part_in("gone", "u", upload, 1, &bytes(3, 100)).await;
    world.delete_in("photos", "before").await;
    world.export();
    world.delete_in("photos", "after").await;
    world.delete_in("photos", "joined").await;
    world.delete_in("gone", "k").await;
    // A backup keeps what is let go of on disk: the word of the bucket's file is what counts.
    let kept = world.objects.keep_blobs();
    world.objects.delete_bucket(&name("gone")).await.unwrap();
    world.later().await;
    let before = world.state().await;
    let (after, rebuilt) = rebuilt(&world).await;
    same(&before, &after.state().await);
    assert_eq!(rebuilt.lost, ["photos/after", "photos/joined"]);
    assert_eq!((rebuilt.buckets, rebuilt.without_key), (2, 1));
    drop(kept);
}

#[tokio::test]
async fn a_deletion_of_a_small_object_since_the_export_is_undone_and_a_destroyed_bucket_is_not() {
    let world = two_buckets().await;
    world.put_in("photos", "small", b"inlined").await;
    world.objects.create_bucket(&name("gone")).await.unwrap();
    world.put_in("gone", "k", b"inlined").await;
    world.export();
    world.delete_in("photos", "small").await;
    world.delete_in("gone", "k").await;
    world.objects.delete_bucket(&name("gone")).await.unwrap();
    world.collect_garbage().await;
    let (after, rebuilt) = rebuilt(&world).await;
    assert_eq!(after.read("small").await.unwrap(), b"inlined");
    assert!(matches!(after.objects.bucket(&name("gone")).await, Err(ObjectError::NoSuchBucket)));
    assert_eq!(rebuilt.buckets, 2);
    assert!(rebuilt.notes[0].contains("bucket gone has no key"), "{:?}", rebuilt.notes);
}

#[tokio::test]
async fn blobs_that_were_let_go_of_before_the_export_are_no_objects_and_stay_on_disk() {
    let world = World::new().await;
    world.put_in("photos", "k", &bytes(1, LARGE)).await;
    let kept = world.objects.keep_blobs();
    world.delete_in("photos", "k").await;
    for known in [true, false] {
        if !known {
            // That it waits to be removed is lost too.
            crate::store::recover::clear(&world.store, index::GARBAGE).unwrap();
            world.clock.advance(Duration::from_hours(1));
        }
        world.export();
        let (after, rebuilt) = rebuilt(&world).await;
        assert!(matches!(after.read("k").await, Err(ObjectError::NoSuchKey)));
        assert_eq!((rebuilt.left, rebuilt.objects), (1, 0), "{known}");
        assert_eq!(after.files().len(), 1);
    }
    drop(kept);
}

#[tokio::test]
async fn nothing_is_removed_from_disk_for_what_a_rebuild_takes_for_newer() {
    let world = World::new().await;
    world.put_in("photos", "k", &bytes(1, LARGE)).await;
    world.export();
    let kept = world.objects.keep_blobs();
    world.put_in("photos", "k", &bytes(2, LARGE)).await;
    assert_eq!(world.files().len(), 2);
    drop(kept);
    let (after, _) = rebuilt(&world).await;
    assert_eq!(after.read("k").await.unwrap(), bytes(2, LARGE));
    after.collect_garbage().await;
    assert_eq!(after.files().len(), 2, "the older one waits for the operator");
    assert_eq!(after.objects.sweep().unwrap().orphans, 1);
}

/// A place in the second piece of the export at `path`: the names are in the first, the file's own rows in the last.
fn in_second_piece(world: &World, path: &Path) -> u64 {
    let bytes = crate::base::disk::read_file(&world.disk, path, 64 << 20).unwrap().unwrap();
    let first = u32::from_be_bytes(bytes[164..168].try_into().unwrap());
    168 + u64::from(first) + 4 + 10
}

#[tokio::test]
async fn a_damaged_export_gives_way_to_the_one_before_and_two_damaged_ones_to_what_reads() {
    let world = World::new().await;
    // Some pieces of an export.
    for number in 0..300_u16 {
        world.put(&format!("{number:03}"), &bytes(number as u8, 8_000)).await.unwrap();
    }
    world.export();
    world.put_in("photos", "later", b"small").await;
    world.put_in("photos", "later-large", &bytes(9, LARGE)).await;
    world.export();
    let exports = world.objects.0.exports.list().unwrap();
    world.disk.flip(&exports[0].path, in_second_piece(&world, &exports[0].path), 1).unwrap();
    let (after, told) = rebuilt(&world).await;
    assert_eq!((told.export.unwrap().number, told.damaged_exports.len(), told.objects), (1, 1, 301));
    assert!(matches!(after.read("later").await, Err(ObjectError::NoSuchKey)));
    assert_eq!(after.read("later-large").await.unwrap(), bytes(9, LARGE));

    world.disk.flip(&exports[1].path, in_second_piece(&world, &exports[1].path), 1).unwrap();
    let (after, told) = rebuilt(&world).await;
    let export = told.export.unwrap();
    assert_eq!((export.number, export.whole, told.damaged_exports.len()), (2, false, 2));
    assert!((1..302).contains(&told.objects), "{}", told.objects);
    assert_eq!(told.objects + told.lost.len() as u64, 302, "{:?}", told.lost);
    assert_eq!(after.read("later-large").await.unwrap(), bytes(9, LARGE));
}

#[tokio::test]
async fn a_bucket_file_that_is_damaged_or_missing_is_made_up_for() {
    for damage in [true, false] {
        let world = two_buckets().await;
        world.put_in("photos", "k", &bytes(1, LARGE)).await;
        world.put_in("kept", "k", &bytes(1, LARGE)).await;
        let id = world.objects.open_bucket(&name("kept")).await.unwrap().id;
        let path = Path::new(ROOT).join("buckets").join(id.to_string());
        if damage {
            world.disk.flip(&path, 150, 1).unwrap();
        } else {
            world.disk.remove_file(&path).unwrap();
        }
        // Nothing but the key and the blob tell of it.
        let (after, told) = rebuilt(&world).await;
        assert_eq!((told.buckets, told.objects), (2, 2), "{:?}", told.notes);
        assert!(
            told.notes.iter().any(|note| note.contains("bucket kept: what was set for it is lost")),
            "{:?}",
            told.notes
        );
        let found = after.objects.get(&name("kept"), &key("k"), None).await.unwrap();
        assert_eq!(collect(found.body).await.unwrap(), bytes(1, LARGE));
        // With an export it is as it was then.
        world.export();
        let before = world.state().await;
        same(&before, &rebuilt(&world).await.0.state().await);
    }
}

#[tokio::test]
async fn a_key_that_is_lost_beside_the_blobs_comes_back_from_the_buckets_file() {
    let world = World::new().await;
    world.put_in("photos", "k", &bytes(1, LARGE)).await;
    let id = world.objects.open_bucket(&bucket()).await.unwrap().id;
    world.objects.0.keys.destroy(id).unwrap();
    let (after, _) = rebuilt(&world).await;
    assert_eq!(after.read("k").await.unwrap(), bytes(1, LARGE));
    assert!(after.objects.0.keys.beside_blobs(id).unwrap().is_some());
}

#[tokio::test]
async fn blobs_that_do_not_read_are_named() {
    let world = World::new().await;
    world.put_in("photos", "k", &bytes(1, LARGE)).await;
    let file = world.files().pop().unwrap();
    let id: Id128 = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
    world.disk.flip(&file, 100, 1).unwrap();
    let (_, told) = rebuilt(&world).await;
    assert_eq!(told.unreadable, [format!("{id}: its data key does not open with the bucket's key")]);
    assert_eq!(told.objects, 0);
}

/// What a random history does next; small numbers choose among few names.
async fn step(world: &World, choice: u64, seed: u8) {
    let bucket = if choice.is_multiple_of(2) { "photos" } else { "kept" };
    let at = format!("k{}", choice / 2 % 3);
    match choice / 6 % 8 {
        0 | 1 => drop(world.put_in(bucket, &at, &bytes(seed, 40)).await),
        2 | 3 => drop(world.put_in(bucket, &at, &bytes(seed, LARGE)).await),
        4 => world.delete_in(bucket, &at).await,
        5 => world.multipart_in(bucket, &at, seed).await,
        6 => {
            let query = VersionQuery { max_keys: 1000, ..VersionQuery::default() };
            let all = world.objects.list_versions(&name(bucket), query).await.unwrap().versions;
            if let Some(one) = all.get(usize::from(seed) % all.len().max(1)) {
                let target = Target { key: key(&one.key), version: Some(one.version) };
                world.objects.delete_version(&name(bucket), target, Condition::Any).await.unwrap();
            }
            world.later().await;
        }
        _ => {
            let upload = world.begin_in(bucket, &at).await;
            world.part_in(bucket, &at, upload, u64::from(seed % 3) + 1, &bytes(seed, 100)).await;
            world.objects.set_versioning(&name("kept"), !seed.is_multiple_of(4)).await.unwrap();
            let source = CopySource { bucket: name(bucket), target: newest(&at), etag: None, range: None };
            let copied =
                world.objects.copy(&source, &name("photos"), &key("copy"), CopyMetadata::Keep, Condition::Any).await;
            assert!(matches!(copied, Ok(_) | Err(ObjectError::NoSuchKey | ObjectError::DeleteMarker { .. })));
            world.later().await;
        }
    }
}

#[tokio::test]
async fn after_any_history_the_index_made_anew_is_the_one_of_the_last_export() {
    for history in 0..5_u64 {
        let world = two_buckets().await;
        let mut state = history.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for nth in 0..24_u8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            step(&world, state >> 33, nth).await;
            if nth % 11 == 5 {
                world.export();
            }
        }
        world.later().await;
        world.export();
        let before = world.state().await;
        let (after, told) = rebuilt(&world).await;
        same(&before, &after.state().await);
        assert_eq!((told.from_blobs, told.left, told.lost.len()), (0, 0, 0), "history {history}");
        // And it goes on from there.
        after.put_in("photos", "k0", &bytes(1, LARGE)).await;
        after.collect_garbage().await;
        assert_eq!(after.read("k0").await.unwrap(), bytes(1, LARGE));
    }
}
