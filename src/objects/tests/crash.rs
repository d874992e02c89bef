//! Power cuts at every step: what was acknowledged is whole, what was not is absent, leftovers are swept.

use std::collections::BTreeMap;

use super::*;

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
    Delete(&'static str),
}

fn steps() -> Vec<Step> {
    vec![
        Step::Put("a", bytes(1, 70_000)),
        Step::Put("small", bytes(2, 100)),
        Step::Put("a", bytes(3, 20_000)),
        Step::Multipart("m", bytes(4, 30_000)),
        Step::Multipart("a", bytes(5, 9_000)),
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

/// Everything told is there, nothing else is, and after a sweep no temporary file.
async fn check(world: &World, told: &Told, what: &str) {
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
    world.objects.sweep().unwrap();
    let left = world.files();
    assert!(left.iter().all(|path| path.extension().is_none()), "{what}: {left:?}");
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_at_every_step() {
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
    }
}

#[tokio::test]
async fn a_failing_disk_is_an_error_and_loses_nothing_acknowledged() {
    let world = World::new().await;
    let mut told = Told::default();
    for (at, fault) in [crate::testing::Fault::Io, crate::testing::Fault::NoSpace, crate::testing::Fault::SyncError]
        .into_iter()
        .enumerate()
    {
        for nth in 1..8 {
            let sent = bytes(at as u8 * 10 + nth as u8, 30_000);
            world.disk.fail_at(nth, fault);
            match world.put("a", &sent).await {
                Ok(_) => told.contents.insert("a", Some(sent)),
                Err(ObjectError::Disk(_) | ObjectError::Full { .. }) => None,
                Err(error) => panic!("{fault:?}: {error}"),
            };
            world.disk.heal();
            check(&world, &told, &format!("{fault:?} at {nth}")).await;
        }
    }
    let after = world.restarted(world.disk.crash(1));
    check(&after, &told, "power cut afterwards").await;
}

#[tokio::test]
async fn a_bucket_acknowledged_has_its_key_after_a_power_cut() {
    for step in 1..8 {
        let world = World::new().await;
        world.disk.cut_power_at(step);
        let other: BucketName = "other".parse().unwrap();
        let made = world.objects.create_bucket(&other).await;
        let after = world.restarted(world.disk.crash(step));
        match (made, after.objects.bucket(&other).await) {
            (Ok(_), Ok(_)) => {
                let id = after.objects.open_bucket(&other).await.unwrap().id;
                assert!(after.objects.0.keys.beside_blobs(id).unwrap().is_some(), "{step}");
            }
            (Err(_), Err(ObjectError::NoSuchBucket)) => {}
            other => panic!("{step}: {other:?}"),
        }
    }
}
