//! An index that is lost while bodies are at a backend: all of them are found there, also those that were moved since.

use super::index::{BLOBS, GARBAGE, MOVES};
use super::rebuilding::same;
use super::remote::{Remote, cold, home, world_over};
use super::*;
use crate::base::SystemRandom;
use crate::objects::rebuild::{Beside, Rebuilt, finish, load};
use crate::store::OBJECTS_REBUILT;

/// Just too large for the index.
const LARGE: usize = 9_000;

/// The index of `remote` made anew, by a server that has no other; then the server that is started on it.
async fn rebuilt(remote: &Remote, is_down: bool) -> Result<(Remote, Rebuilt), ObjectError> {
    let (disk, clock, far) = (remote.world.disk.clone(), remote.world.clock.clone(), remote.far.clone());
    let made = tokio::task::spawn_blocking(move || {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, random, keyring) = (memory_store(), Arc::new(SystemRandom), backups::same_keyring(&disk));
        let loaded = load(&shared, Path::new(ROOT), keyring, random, (&OBJECTS_REBUILT, &store)).unwrap();
        let after = Remote { world: world_over(&disk, store, clock, &far, cold()), far };
        if is_down {
            after.cut(0, false);
        }
        let rebuilt = finish(&after.world.objects, loaded, Beside::Mend, &mut |_, _| {})?;
        Ok::<_, ObjectError>((after, rebuilt))
    });
    let (after, rebuilt) = made.await.unwrap()?;
    Ok((after.restarted(&remote.world.disk), rebuilt))
}

async fn move_to(remote: &Remote, there: bool) {
    remote.world.objects.start_move(&bucket(), there.then(home)).await.unwrap();
    while remote.world.objects.move_status(&bucket()).await.unwrap().unwrap().ended.is_none() {
        remote.blocking(|objects| objects.move_step().map(drop)).await.unwrap();
    }
    remote.world.later().await;
}

#[tokio::test]
async fn with_and_without_an_export_all_bodies_far_away_come_back() {
    for export in [true, false] {
        let remote = Remote::new().await;
        let world = &remote.world;
        world.put_in("photos", "old", &bytes(1, LARGE)).await;
        world.put_in("photos", "over", &bytes(1, LARGE)).await;
        let begun = world.begin_in("photos", "begun").await;
        let first = world.part_in("photos", "begun", begun, 1, &bytes(8, 20_000)).await;
        if export {
            world.export();
        }
        world.put_in("photos", "over", &bytes(2, 200_000)).await;
        world.put_in("photos", "new", &bytes(3, LARGE)).await;
        world.multipart_in("photos", "joined", 4).await;
        let chosen = vec![PartChoice { number: first.number, etag: first.etag }];
        world.objects.complete_upload(&bucket(), &key("begun"), begun, chosen, None, Condition::Any).await.unwrap();
        world.later().await;
        let before = world.state().await;
        let (after, told) = rebuilt(&remote, false).await.unwrap();
        same(&before, &after.world.state().await);
        assert_eq!((told.lost.len(), told.unreadable.len(), told.objects), (0, 0, 5), "{told:?}");
        after.check_places("made anew").await;
        same(&before, &after.world.state().await);
        // And it goes on from there.
        after.world.put_in("photos", "old", &bytes(5, LARGE)).await;
        after.check_places("replaced").await;
        assert_eq!(after.world.read("old").await.unwrap(), bytes(5, LARGE));
    }
}

#[tokio::test]
async fn what_was_moved_since_the_export_is_found_where_it_is() {
    for there in [true, false] {
        let remote = Remote::local();
        let world = &remote.world;
        world.objects.create_bucket_at(&bucket(), (!there).then(home)).await.unwrap();
        world.put_in("photos", "k", &bytes(1, LARGE)).await;
        world.put_in("photos", "large", &bytes(2, 300_000)).await;
        world.multipart_in("photos", "joined", 3).await;
        world.export();
        move_to(&remote, there).await;
        remote.check_places("moved").await;
        let mut before = world.state().await;
        let (after, told) = rebuilt(&remote, false).await.unwrap();
        assert_eq!((told.lost.len(), told.left, told.objects), (0, 0, 3), "{told:?}");
        let mut state = after.world.state().await;
        // How the move went is not in the export.
        assert!(before.remove("photos").is_some() && state.remove("photos").is_some());
        same(&before, &state);
        after.check_places("made anew").await;
        same(&before, &{
            let mut state = after.world.state().await;
            state.remove("photos");
            state
        });
    }
}

#[tokio::test]
async fn a_move_half_done_at_the_export_and_further_since_goes_on() {
    let remote = Remote::local();
    let world = &remote.world;
    world.objects.create_bucket(&bucket()).await.unwrap();
    for at in 0..6_u8 {
        world.put_in("photos", &format!("k{at}"), &bytes(at, LARGE)).await;
    }
    world.objects.start_move(&bucket(), Some(home())).await.unwrap();
    let step = async || remote.blocking(|objects| objects.move_step().map(drop)).await.unwrap();
    step().await;
    step().await;
    world.export();
    step().await;
    step().await;
    world.later().await;
    let (after, told) = rebuilt(&remote, false).await.unwrap();
    assert_eq!((told.lost.len(), told.objects), (0, 6), "{told:?}");
    while after.world.objects.move_status(&bucket()).await.unwrap().unwrap().ended.is_none() {
        after.blocking(|objects| objects.move_step().map(drop)).await.unwrap();
    }
    after.check_places("moved").await;
    assert_eq!(after.names().await.len(), 6);
    for at in 0..6_u8 {
        assert_eq!(after.world.read(&format!("k{at}")).await.unwrap(), bytes(at, LARGE));
    }
    assert_eq!(after.rows(MOVES).len(), 1);
}

#[tokio::test]
async fn a_backend_that_does_not_answer_ends_a_rebuild_instead_of_costing_objects() {
    let remote = Remote::new().await;
    remote.world.put_in("photos", "k", &bytes(1, LARGE)).await;
    remote.world.export();
    let refused = rebuilt(&remote, true).await.map(drop).unwrap_err();
    assert!(matches!(&refused, ObjectError::Backend(error) if error.is_passing()), "{refused}");
    let (after, _) = rebuilt(&remote, false).await.unwrap();
    assert_eq!(after.world.read("k").await.unwrap(), bytes(1, LARGE));
}

#[tokio::test]
async fn what_was_let_go_of_far_away_does_not_come_back_and_is_not_removed_unseen() {
    let remote = Remote::new().await;
    let world = &remote.world;
    world.put_in("photos", "before", &bytes(1, LARGE)).await;
    world.put_in("photos", "after", &bytes(2, LARGE)).await;
    let kept = world.objects.keep_blobs();
    world.delete_in("photos", "before").await;
    world.export();
    world.put_in("photos", "after", &bytes(3, LARGE)).await;
    drop(kept);
    assert_eq!((remote.names().await.len(), remote.rows(GARBAGE).len()), (3, 2));
    let (after, told) = rebuilt(&remote, false).await.unwrap();
    assert!(matches!(after.world.read("before").await, Err(ObjectError::NoSuchKey)));
    assert_eq!(after.world.read("after").await.unwrap(), bytes(3, LARGE));
    // What the export says is to be deleted will be; what the rebuild itself has replaced stays, and is told.
    assert_eq!(told.notes, ["backend cold: 1 bodies that nothing names stay there"]);
    after.blocking(|objects| objects.sweep().map(drop)).await.unwrap();
    assert_eq!((after.names().await.len(), after.rows(BLOBS).len()), (2, 1));
}
