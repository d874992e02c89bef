//! The scrub finds what is damaged, goes on where it was, and knows what is whole again.

use super::*;
use crate::base::{ByteSize, Span};
use crate::objects::damage::DAMAGE_MAX;

const MIB: usize = 1 << 20;

/// Begins a pass and follows it to its end; the longest wait between two steps.
async fn pass(world: &World) -> Duration {
    assert!(world.objects.start_scrub().await.unwrap());
    follow(world).await
}

async fn follow(world: &World) -> Duration {
    let mut longest = Duration::ZERO;
    while world.objects.scrub_status().await.unwrap().running.is_some() {
        let wait = world.objects.scrub_step().unwrap();
        longest = longest.max(wait);
        world.clock.advance(wait);
    }
    longest
}

async fn damaged(world: &World) -> Vec<(String, String)> {
    let damage = world.objects.scrub_status().await.unwrap().damage;
    damage.into_iter().map(|one| (one.damaged.key.unwrap_or_default(), one.damaged.what)).collect()
}

fn pair(key: &str, what: &str) -> (String, String) {
    (key.to_owned(), what.to_owned())
}

/// Stores an object and turns a bit of its file over.
async fn store_and_flip(world: &World, key: &str) {
    let before = world.files();
    world.put(key, &bytes(3, 400_000)).await.unwrap();
    let file = world.files().into_iter().find(|path| !before.contains(path)).unwrap();
    world.disk.flip(&file, 200_000, 4).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_on_the_list_until_the_object_is_stored_anew() {
    let world = World::new().await;
    world.put("whole", &bytes(1, 100_000)).await.unwrap();
    store_and_flip(&world, "k").await;
    pass(&world).await;
    assert_eq!(damaged(&world).await, [pair("k", "a segment does not verify")]);
    assert!(matches!(world.objects.is_undamaged().await, Err(ObjectError::Damaged { count: 1 })));
    assert_eq!(world.objects.0.metrics.damaged.value(), 1);
    let last = world.objects.scrub_status().await.unwrap().last.unwrap();
    assert_eq!((last.counts.objects, last.counts.damaged, last.counts.unlisted), (2, 1, 0));

    let first = world.objects.scrub_status().await.unwrap().damage[0].found_at;
    world.clock.advance(Duration::from_hours(1));
    pass(&world).await;
    assert_eq!(world.objects.scrub_status().await.unwrap().damage[0].found_at, first);

    world.put("k", &bytes(4, 10)).await.unwrap();
    assert_eq!(damaged(&world).await, []);
    world.collect_garbage().await;
    assert_eq!(world.objects.0.metrics.damaged.value(), 0);
}

#[tokio::test]
async fn a_deleted_object_a_replaced_part_and_a_given_up_upload_leave_the_list() {
    let world = World::new().await;
    store_and_flip(&world, "k").await;
    let upload = world.objects.create_upload(&bucket(), &key("u"), Metadata::default()).await.unwrap();
    let part = async |number| {
        let before = world.files();
        let (name, body) = (key("u"), body(&bytes(4, 300_000)));
        let number = super::number(number);
        world.objects.put_part(&bucket(), &name, upload, number, PutExpect::default(), None, body).await.unwrap();
        world.files().into_iter().find(|path| !before.contains(path)).unwrap()
    };
    let first = part(1).await;
    world.disk.flip(&first, 100_000, 1).unwrap();
    pass(&world).await;
    let wrong = "a segment does not verify";
    assert_eq!(damaged(&world).await, [pair("k", wrong), pair("u", wrong)]);
    assert_eq!(world.objects.scrub_status().await.unwrap().damage[1].damaged.upload_part, Some(1));

    part(2).await;
    assert_eq!(damaged(&world).await.len(), 2);
    part(1).await;
    assert_eq!(damaged(&world).await, [pair("k", wrong)]);
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    assert_eq!(damaged(&world).await, []);
    let second = part(2).await;
    world.disk.flip(&second, 100_000, 1).unwrap();
    pass(&world).await;
    assert_eq!(damaged(&world).await, [pair("u", wrong)]);
    world.objects.abort_upload(&bucket(), &key("u"), upload).await.unwrap();
    assert_eq!(damaged(&world).await, []);
}

#[tokio::test]
async fn damage_stays_on_the_list_when_a_newer_version_takes_its_place() {
    let world = World::new().await;
    world.objects.set_versioning(&bucket(), true).await.unwrap();
    store_and_flip(&world, "k").await;
    pass(&world).await;
    world.put("k", b"newer").await.unwrap();
    assert_eq!(damaged(&world).await.len(), 1);
    pass(&world).await;
    let damage = world.objects.scrub_status().await.unwrap().damage;
    let version = damage[0].damaged.version.clone().unwrap();
    let target = Target { key: key("k"), version: Some(version.parse().unwrap()) };
    world.objects.delete_version(&bucket(), target, Condition::Any).await.unwrap();
    assert_eq!(damaged(&world).await, []);
}

#[tokio::test]
async fn what_a_pass_finds_whole_again_leaves_the_list() {
    let world = World::new().await;
    let before = world.files();
    world.put("k", &bytes(3, 400_000)).await.unwrap();
    let file = world.files().into_iter().find(|path| !before.contains(path)).unwrap();
    let aside = Path::new(ROOT).join("aside");
    world.disk.rename(&file, &aside).unwrap();
    pass(&world).await;
    assert_eq!(damaged(&world).await, [pair("k", "its file is missing")]);
    world.disk.rename(&aside, &file).unwrap();
    pass(&world).await;
    assert_eq!(damaged(&world).await, []);
}

#[tokio::test]
async fn a_pass_goes_on_after_a_restart_where_it_was() {
    let world = World::new().await;
    for key in ["a", "b", "c", "d"] {
        world.put(key, &bytes(1, 10 * MIB)).await.unwrap();
    }
    assert!(world.objects.start_scrub().await.unwrap());
    assert!(!world.objects.start_scrub().await.unwrap());
    world.objects.scrub_step().unwrap();
    let sofar = world.objects.scrub_status().await.unwrap().running.unwrap();
    assert!(sofar.counts.bytes >= 19 * MIB as u64 && sofar.expected_bytes == 40 * MIB as u64, "{sofar:?}");
    let again = world.restarted(world.disk.clone());
    assert_eq!(again.objects.scrub_status().await.unwrap().running, Some(sofar));
    follow(&again).await;
    let last = again.objects.scrub_status().await.unwrap().last.unwrap();
    assert_eq!((last.counts.objects, last.counts.bytes, last.began), (4, 40 * MIB as u64, sofar.began));
    assert_eq!(again.objects.0.metrics.scrubbed.value() + sofar.counts.bytes, 40 * MIB as u64);
}

#[tokio::test]
async fn no_more_is_read_in_a_second_than_the_setting_says() {
    let config = ObjectsConfig { scrub_rate: ByteSize::mib(1), ..ObjectsConfig::default() };
    let clock = Arc::new(TestClock::default());
    let world = World::on(FaultyDisk::with_clock(clock.clone()), memory_store(), clock.clone(), config);
    world.objects.create_bucket(&bucket()).await.unwrap();
    world.put("k", &bytes(1, 10 * MIB)).await.unwrap();
    let began = crate::base::Clock::monotonic(clock.as_ref());
    let longest = pass(&world).await;
    let took = crate::base::Clock::monotonic(clock.as_ref()).checked_sub(began).unwrap();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(11), "{took:?}");
    assert!(longest < Duration::from_millis(1100), "{longest:?}");
}

#[tokio::test]
async fn a_pass_begins_when_it_is_due_and_not_before() {
    let world = World::new().await;
    world.put("k", &bytes(1, 10)).await.unwrap();
    // The first of all is due at once.
    assert_eq!(world.objects.scrub_step().unwrap(), Duration::ZERO);
    follow(&world).await;
    let passes = async || world.objects.scrub_status().await.unwrap().pass;
    assert_eq!(passes().await, 1);
    world.clock.advance(Duration::from_hours(24 * 29));
    assert!(world.objects.scrub_step().unwrap() > Duration::ZERO);
    assert_eq!(passes().await, 1);
    world.clock.advance(Duration::from_hours(25));
    assert_eq!(world.objects.scrub_step().unwrap(), Duration::ZERO);
    assert_eq!(passes().await, 2);

    let never = ObjectsConfig { scrub_every: Span::secs(0), ..ObjectsConfig::default() };
    let clock = Arc::new(TestClock::default());
    let asked = World::on(FaultyDisk::with_clock(clock.clone()), memory_store(), clock, never);
    assert!(asked.objects.scrub_step().unwrap() > Duration::ZERO);
    assert_eq!(asked.objects.scrub_status().await.unwrap().next, None);
    pass(&asked).await;
    assert_eq!(asked.objects.scrub_status().await.unwrap().pass, 1);
}

#[tokio::test]
async fn the_list_is_bounded_and_the_rest_is_counted() {
    let world = World::new().await;
    for number in 0..DAMAGE_MAX + 3 {
        world.put(&format!("{number}"), &bytes(1, 9_000)).await.unwrap();
    }
    for path in world.files() {
        world.disk.remove_file(&path).unwrap();
    }
    pass(&world).await;
    let status = world.objects.scrub_status().await.unwrap();
    let counts = status.last.unwrap().counts;
    assert_eq!((status.damage.len(), counts.damaged, counts.unlisted), (DAMAGE_MAX, DAMAGE_MAX as u64 + 3, 3));
}

#[tokio::test]
async fn nothing_is_noted_of_an_object_that_was_replaced_while_it_was_read() {
    let world = World::new().await;
    store_and_flip(&world, "k").await;
    let (piece, named) = world
        .objects
        .check_piece(check::Place::default(), check::Depth::Whole, check::Asked::ByScrub, check::PIECE_BYTES)
        .unwrap();
    world.put("k", b"new").await.unwrap();
    let found: Vec<_> = named.into_iter().zip(piece.damaged).collect();
    assert_eq!(found.len(), 1);
    let note = move |tx: &mut dyn crate::store::WriteTx| damage::note(tx, &found, 1, crate::base::Timestamp(1));
    world.store.write::<_, ObjectError>(note).await.unwrap();
    assert_eq!(damaged(&world).await, []);
}
