//! Buckets that move between the disk and a backend while they are in use, and are cut off at every step.

use std::collections::BTreeMap;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt as _, PutPayload};

use super::backends::BackendName;
use super::index::BUCKETS;
use super::place::Placed;
use super::remote::{Remote, cold, home, joined_bytes, world_over};
use super::*;
use crate::objects::backup::{bring_home, stored_blobs};
use crate::store::OBJECTS;
use crate::testing::store_on;

/// What the bucket holds.
fn contents() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([("a", bytes(1, 9_000)), ("b", bytes(2, 250_000)), ("m", joined_bytes(3)), ("small", bytes(4, 10))])
}

/// Has the bucket hold it.
async fn fill(remote: &Remote) {
    for (key, bytes) in contents() {
        if key == "m" {
            remote.multipart("m", 3).await.unwrap();
        } else {
            remote.world.put(key, &bytes).await.unwrap();
        }
    }
}

async fn check(remote: &Remote, what: &str) {
    for (key, contents) in contents() {
        assert!(remote.world.read(key).await.unwrap() == contents, "{what}: {key}");
    }
}

/// Carries the move under way out, as far as that goes.
async fn follow(remote: &Remote) -> Result<(), ObjectError> {
    loop {
        let status = remote.world.objects.move_status(&bucket()).await?;
        if status.is_none_or(|status| status.ended.is_some()) {
            return Ok(());
        }
        remote.blocking(|objects| objects.move_step().map(drop)).await?;
    }
}

async fn move_to(remote: &Remote, to: Option<BackendName>) -> Result<(), ObjectError> {
    remote.world.objects.start_move(&bucket(), to).await?;
    follow(remote).await
}

/// All bodies are in one place.
fn all_at(remote: &Remote, to: Option<&BackendName>, what: &str) {
    for (id, placed) in remote.placed() {
        assert_eq!(placed.backend(), to, "{what}: {id}");
    }
}

#[tokio::test]
async fn a_bucket_moves_there_and_back_with_all_its_bodies() {
    let remote = Remote::local();
    remote.world.objects.create_bucket(&bucket()).await.unwrap();
    fill(&remote).await;
    remote.check_places("at first").await;
    for to in [Some(home()), None] {
        move_to(&remote, to.clone()).await.unwrap();
        let what = format!("moved to {to:?}");
        check(&remote, &what).await;
        remote.check_places(&what).await;
        all_at(&remote, to.as_ref(), &what);
        let status = remote.world.objects.move_status(&bucket()).await.unwrap().unwrap();
        // Two objects, two parts, and what tells them.
        assert_eq!((status.moved, status.stayed, status.trouble), (5, 0, None));
        assert_eq!(status.to, BackendName::home(to.as_ref()));
    }
    assert!(remote.names().await.is_empty());
}

#[tokio::test]
async fn new_bodies_go_to_the_new_place_at_once_and_those_begun_before_follow() {
    let remote = Remote::local();
    remote.world.objects.create_bucket(&bucket()).await.unwrap();
    let upload = remote.world.objects.create_upload(&bucket(), &key("m"), Metadata::default()).await.unwrap();
    let part = async |at, seed| {
        let sent = body(&bytes(seed, PART_LEAST as usize));
        let (bucket, key) = (bucket(), key("m"));
        let put = remote.world.objects.put_part(&bucket, &key, upload, number(at), PutExpect::default(), None, sent);
        let stored = put.await.unwrap();
        PartChoice { number: stored.number, etag: stored.etag }
    };
    let first = part(1, 1).await;
    // Opened before the move, and read after it.
    remote.world.put("a", &bytes(5, 900_000)).await.unwrap();
    let open = remote.world.objects.get(&bucket(), &key("a"), None).await.unwrap();
    remote.world.objects.start_move(&bucket(), Some(home())).await.unwrap();
    let second = part(2, 2).await;
    remote.world.put("new", &bytes(6, 9_000)).await.unwrap();
    assert_eq!(remote.placed().values().filter(|placed| **placed != Placed::Here).count(), 2);
    follow(&remote).await.unwrap();
    all_at(&remote, Some(&home()), "moved");
    assert!(collect(open.body).await.unwrap() == bytes(5, 900_000));
    remote
        .world
        .objects
        .complete_upload(&bucket(), &key("m"), upload, vec![first, second], None, Condition::Any)
        .await
        .unwrap();
    let wanted = [bytes(1, PART_LEAST as usize), bytes(2, PART_LEAST as usize)].concat();
    assert!(remote.world.read("m").await.unwrap() == wanted);
    remote.check_places("completed").await;
}

#[tokio::test]
async fn a_body_being_read_far_away_stays_until_it_is_read() {
    let remote = Remote::new().await;
    let sent = bytes(1, 6 << 20);
    remote.world.put("large", &sent).await.unwrap();
    let open = remote.world.objects.get(&bucket(), &key("large"), None).await.unwrap();
    move_to(&remote, None).await.unwrap();
    remote.world.collect_garbage().await;
    assert_eq!(remote.names().await.len(), 1);
    assert!(collect(open.body).await.unwrap() == sent);
    remote.check_places("read").await;
    assert!(remote.names().await.is_empty());
}

#[tokio::test]
async fn a_damaged_body_stays_where_it_is_and_is_told() {
    let remote = Remote::local();
    remote.world.objects.create_bucket(&bucket()).await.unwrap();
    remote.world.put("whole", &bytes(1, 90_000)).await.unwrap();
    let whole = remote.world.files();
    remote.world.put("damaged", &bytes(2, 90_000)).await.unwrap();
    let file = remote.world.files().into_iter().find(|path| !whole.contains(path)).unwrap();
    remote.world.disk.flip(&file, 50_000, 1).unwrap();
    move_to(&remote, Some(home())).await.unwrap();
    let status = remote.world.objects.move_status(&bucket()).await.unwrap().unwrap();
    assert_eq!((status.moved, status.stayed), (1, 1));
    assert!(remote.world.read("whole").await.unwrap() == bytes(1, 90_000));
    assert!(matches!(remote.world.read("damaged").await, Err(ObjectError::Corrupt { .. })));
    remote.check_places("one stayed").await;
    assert_eq!(remote.world.files(), [file]);
}

#[tokio::test]
async fn what_is_missing_or_cut_far_away_holds_up_nothing_behind_it() {
    let remote = Remote::new().await;
    for at in 0..4_u8 {
        remote.world.put(&format!("k{at}"), &bytes(at, 90_000)).await.unwrap();
    }
    let names: Vec<String> = remote.names().await.into_keys().collect();
    remote.far.delete(&names[0].as_str().into()).await.unwrap();
    remote.far.put(&names[1].as_str().into(), PutPayload::from_static(b"cut")).await.unwrap();
    move_to(&remote, None).await.unwrap();
    let status = remote.world.objects.move_status(&bucket()).await.unwrap().unwrap();
    assert_eq!((status.moved, status.stayed, status.trouble), (2, 2, None));
}

#[tokio::test]
async fn a_move_whose_wire_is_cut_at_any_request_loses_nothing_and_goes_on() {
    for there in [true, false] {
        let begin = async || {
            let remote = if there { Remote::local() } else { Remote::new().await };
            if there {
                remote.world.objects.create_bucket(&bucket()).await.unwrap();
            }
            for (key, bytes) in contents().into_iter().filter(|(key, _)| *key != "m") {
                remote.world.put(key, &bytes).await.unwrap();
            }
            remote
        };
        let to = there.then(home);
        let check = async |remote: &Remote, what: &str| {
            for (key, contents) in contents().into_iter().filter(|(key, _)| *key != "m") {
                assert!(remote.world.read(key).await.unwrap() == contents, "{what}: {key}");
            }
        };
        let requests = {
            let remote = begin().await;
            let before = remote.backend().requests();
            move_to(&remote, to.clone()).await.unwrap();
            remote.world.collect_garbage().await;
            remote.backend().requests() - before
        };
        assert!(requests >= 4, "{requests}");
        for at in 0..requests {
            for arrives in [false, true] {
                let what = format!("to {to:?}, cut after {at} of {requests} requests, {arrives}");
                let remote = begin().await;
                remote.cut(at, arrives);
                let moved = move_to(&remote, to.clone()).await;
                assert!(moved.is_ok() || matches!(moved, Err(ObjectError::Backend(_))), "{what}: {moved:?}");
                let after = remote.restarted(&remote.world.disk.kill());
                check(&after, &what).await;
                follow(&after).await.unwrap();
                check(&after, &what).await;
                after.check_places(&what).await;
                check(&after, &what).await;
                all_at(&after, to.as_ref(), &what);
            }
        }
    }
}

#[tokio::test]
async fn a_move_cut_off_by_a_power_cut_at_any_step_loses_nothing_and_goes_on() {
    for there in [true, false] {
        let to = there.then(home);
        let begin = async |seed| {
            let (disk, far) = (FaultyDisk::new(), Arc::new(InMemory::new()));
            let store = store_on(&disk, &OBJECTS, seed).unwrap();
            let world = world_over(&disk, store, Arc::default(), &far, cold());
            let at = (!there).then(home);
            world.objects.create_bucket_at(&bucket(), at).await.unwrap();
            let remote = Remote { world, far };
            remote.world.put("a", &bytes(1, 9_000)).await.unwrap();
            remote.world.put("b", &bytes(2, 130_000)).await.unwrap();
            remote
        };
        let carry_out = async |remote: &Remote| {
            move_to(remote, to.clone()).await?;
            remote.blocking(|objects| objects.collect_garbage().map(drop)).await
        };
        let steps = {
            let remote = begin(1).await;
            let before = remote.world.disk.operations();
            carry_out(&remote).await.unwrap();
            remote.world.disk.operations() - before
        };
        // Every other step, and the others on the way back.
        for step in (1 + u64::from(there)..=steps).step_by(2) {
            let remote = begin(1).await;
            remote.world.disk.cut_power_at(step);
            let _ = carry_out(&remote).await;
            let what = format!("to {to:?}, power cut at step {step} of {steps}");
            let disk = remote.world.disk.crash(step);
            let (store, far) = (store_on(&disk, &OBJECTS, 2).unwrap(), remote.far.clone());
            let after = Remote { world: world_over(&disk, store, Arc::default(), &far, cold()), far };
            let check = async |what: &str| {
                assert!(after.world.read("a").await.unwrap() == bytes(1, 9_000), "{what}");
                assert!(after.world.read("b").await.unwrap() == bytes(2, 130_000), "{what}");
            };
            check(&what).await;
            // The answer may not have been given: then it is asked for again.
            move_to(&after, to.clone()).await.unwrap();
            check(&what).await;
            after.check_places(&what).await;
            check(&what).await;
            all_at(&after, to.as_ref(), &what);
        }
    }
}

#[tokio::test]
async fn a_bucket_gets_another_key_on_the_disk_alone_and_stays_there_meanwhile() {
    let remote = Remote::new().await;
    remote.world.put("k", &bytes(1, 90_000)).await.unwrap();
    let name = bucket();
    let begun = remote.world.objects.rotate_bucket_key(&name).await;
    assert!(matches!(begun, Err(ObjectError::KeptElsewhere)));
    remote.world.objects.start_move(&name, None).await.unwrap();
    let begun = remote.world.objects.rotate_bucket_key(&name).await;
    assert!(matches!(begun, Err(ObjectError::KeptElsewhere)), "not all is there yet");
    follow(&remote).await.unwrap();
    remote.world.objects.rotate_bucket_key(&name).await.unwrap();
    let moved = remote.world.objects.start_move(&name, Some(home())).await;
    assert!(matches!(moved, Err(ObjectError::Unavailable(_))));
    while remote.world.objects.bucket_detail(&name).await.unwrap().key_change.is_some() {
        remote.blocking(|objects| objects.change_keys(&|| true).map(drop)).await.unwrap();
    }
    assert!(remote.world.read("k").await.unwrap() == bytes(1, 90_000));
    move_to(&remote, Some(home())).await.unwrap();
    assert!(remote.world.read("k").await.unwrap() == bytes(1, 90_000));
    remote.check_places("another key, and there again").await;
}

#[tokio::test]
async fn an_index_brought_home_names_nothing_far_away() {
    let remote = Remote::new().await;
    remote.world.put("k", &bytes(1, 9_000)).await.unwrap();
    remote.world.put("gone", &bytes(1, 9_000)).await.unwrap();
    remote.world.objects.start_move(&bucket(), Some(home())).await.unwrap();
    remote.world.objects.delete(&bucket(), &key("gone"), Condition::Any).await.unwrap();
    bring_home(&remote.world.store).unwrap();
    all_at(&remote, None, "brought home");
    for table in [index::BACKENDS, index::SENDING, index::MOVES, index::GARBAGE] {
        assert_eq!(remote.rows(table), [], "{}", table.name());
    }
    let row: index::BucketRow = crate::store::record::decode(&remote.rows(BUCKETS)[0].1).unwrap();
    assert_eq!(row.home, None);
    remote.world.store.read_blocking(|tx| place::check(tx, &backends::Backends::default())).unwrap();
}

#[tokio::test]
async fn a_backup_takes_a_body_for_another_when_its_key_was_changed_and_not_when_it_moved() {
    let remote = Remote::local();
    remote.world.objects.create_bucket(&bucket()).await.unwrap();
    remote.world.put("k", &bytes(1, 90_000)).await.unwrap();
    let identity = || {
        let blob = remote.world.store.read_blocking(|tx| stored_blobs(tx, None, 10)).unwrap().remove(0);
        remote.world.objects.blob_identity(&blob).unwrap()
    };
    let first = identity();
    move_to(&remote, Some(home())).await.unwrap();
    assert_eq!(identity(), first);
    move_to(&remote, None).await.unwrap();
    remote.world.objects.rotate_bucket_key(&bucket()).await.unwrap();
    while remote.world.objects.bucket_detail(&bucket()).await.unwrap().key_change.is_some() {
        remote.blocking(|objects| objects.change_keys(&|| true).map(drop)).await.unwrap();
    }
    let under_another_key = identity();
    assert_ne!(under_another_key, first);
    move_to(&remote, Some(home())).await.unwrap();
    assert_eq!(identity(), under_another_key);
}
