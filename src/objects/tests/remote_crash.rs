//! Power cuts, kills and cut wires at every step of what goes to a backend: what was acknowledged is whole, what was not is
//! absent, leftovers are swept, there too.

use object_store::memory::InMemory;

use super::remote::{Remote, cold, home, world_over};
use super::*;
use crate::store::OBJECTS;
use crate::testing::store_on;

/// The contents of each key that has an answer, and the step that got none.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    contents: std::collections::BTreeMap<&'static str, Option<Vec<u8>>>,
    open: Option<(&'static str, Option<Vec<u8>>)>,
}

impl Told {
    /// Notes what became of a step; false when it failed.
    fn note(&mut self, key: &'static str, contents: Option<Vec<u8>>, done: &Result<(), ObjectError>) -> bool {
        if done.is_err() {
            self.open = Some((key, contents));
            return false;
        }
        self.contents.insert(key, contents);
        true
    }

    /// Everything told is there, and nothing else but what got no answer.
    async fn check(&self, world: &World, what: &str) {
        let unanswered =
            self.open.iter().filter(|(key, _)| !self.contents.contains_key(key)).map(|(key, _)| (key, &None));
        for (key, contents) in self.contents.iter().chain(unanswered) {
            let read = match world.read(key).await {
                Ok(bytes) => Some(bytes),
                Err(ObjectError::NoSuchKey) => None,
                Err(error) => panic!("{what}: {key}: {error}"),
            };
            let open = self.open.as_ref().filter(|(open, _)| open == key).map(|(_, contents)| contents);
            assert!(read == *contents || Some(&read) == open, "{what}: {key} is not what was acknowledged");
        }
    }
}

/// Stores, replaces and deletes until a step fails.
async fn run(remote: &Remote, told: &mut Told) {
    let put = async |key, len: usize, seed| {
        let sent = bytes(seed, len);
        (key, Some(sent.clone()), remote.world.put(key, &sent).await.map(drop))
    };
    let steps: [(&str, usize); 5] = [("a", 9_000), ("b", 250_000), ("a", 120_000), ("small", 10), ("b", 9_000)];
    for (seed, (key, len)) in (1..).zip(steps) {
        let (key, contents, done) = put(key, len, seed).await;
        if !told.note(key, contents, &done) {
            return;
        }
    }
    let done = remote.multipart_of("m", 7, &[150_000]).await;
    if !told.note("m", Some(bytes(7, 150_000)), &done) {
        return;
    }
    let done = remote.world.objects.delete(&bucket(), &key("b"), Condition::Any).await.map(drop);
    if told.note("b", None, &done) {
        remote.world.collect_garbage().await;
    }
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_wire_that_is_cut_at_every_request() {
    let requests = {
        let (remote, mut told) = (Remote::new().await, Told::default());
        run(&remote, &mut told).await;
        assert!(told.open.is_none());
        let requests = remote.backend().requests();
        told.check(&remote.world, "nothing cut").await;
        remote.check_places("nothing cut").await;
        requests
    };
    assert!(requests >= 15, "{requests}");
    for at in 0..requests {
        for arrives in [false, true] {
            let (remote, mut told) = (Remote::new().await, Told::default());
            remote.cut(at, arrives);
            run(&remote, &mut told).await;
            let what = format!("cut after {at} of {requests} requests, {arrives}");
            // It comes back, or the process has ended meanwhile.
            for after in [None, Some(remote.restarted(&remote.world.disk.kill()))] {
                let after = after.as_ref().unwrap_or(&remote);
                after.mend();
                told.check(&after.world, &what).await;
                after.check_places(&what).await;
                told.check(&after.world, &what).await;
            }
        }
    }
}

/// A service whose index lies on the same disk as its files.
fn all_on(disk: &FaultyDisk, seed: u64, far: &Arc<InMemory>) -> Remote {
    let store = store_on(disk, &OBJECTS, seed).unwrap();
    Remote { world: world_over(disk, store, Arc::default(), far, cold()), far: far.clone() }
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_at_every_step() {
    let scenario = async |world: &World, told: &mut Told| {
        for (seed, (key, len)) in (1..).zip([("a", 9_000), ("b", 150_000), ("a", 20_000)]) {
            let sent = bytes(seed, len);
            let done = world.put(key, &sent).await.map(drop);
            if !told.note(key, Some(sent), &done) {
                return;
            }
        }
    };
    let steps = {
        let (disk, far) = (FaultyDisk::new(), Arc::new(InMemory::new()));
        let remote = all_on(&disk, 1, &far);
        remote.world.objects.create_bucket_at(&bucket(), Some(home())).await.unwrap();
        let before = disk.operations();
        let mut told = Told::default();
        scenario(&remote.world, &mut told).await;
        assert!(told.open.is_none());
        disk.operations() - before
    };
    for step in 1..=steps {
        let (disk, far) = (FaultyDisk::new(), Arc::new(InMemory::new()));
        let remote = all_on(&disk, 1, &far);
        remote.world.objects.create_bucket_at(&bucket(), Some(home())).await.unwrap();
        disk.cut_power_at(step);
        let mut told = Told::default();
        scenario(&remote.world, &mut told).await;
        let after = all_on(&disk.crash(step), 2, &far);
        let what = format!("power cut at step {step} of {steps}");
        told.check(&after.world, &what).await;
        after.check_places(&what).await;
        told.check(&after.world, &what).await;
    }
}
