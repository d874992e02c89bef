//! Lifecycles: what they end, what they leave, and that a walk goes on after a restart. Pages are small in tests, so that
//! every walk here is a chain of jobs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::Timestamp;
use crate::objects::lifecycle::{Expiration, LifecycleFilter, LifecycleRule, Noncurrent, due};
use crate::store::WriteTx;

const DAY: Duration = Duration::from_hours(24);

fn rule() -> LifecycleRule {
    LifecycleRule { id: "rule".to_owned(), enabled: true, ..LifecycleRule::default() }
}

fn under(prefix: &str) -> LifecycleFilter {
    LifecycleFilter { prefix: prefix.to_owned(), ..LifecycleFilter::default() }
}

impl World {
    async fn rules(&self, rules: &[LifecycleRule]) {
        let rules = rules.to_vec();
        let set = move |settings: &mut BucketSettings| settings.lifecycle.clone_from(&rules);
        self.objects.change_bucket_settings(&bucket(), set).await.unwrap();
    }

    /// Puts a walk in, as the schedule does.
    async fn walk(&self) {
        let this = self.objects.clone();
        let put = move |tx: &mut dyn WriteTx| {
            let now = this.0.clock.now();
            this.0.jobs.enqueue(tx, expire::KIND, &[], now, Some("walk"))?;
            Ok::<_, ObjectError>(())
        };
        self.store.write(put).await.unwrap();
    }

    /// Does what is due, a second at a time, until nothing is; gives the number of runs.
    async fn until_done(&self) -> usize {
        let mut runs = 0;
        loop {
            let due = self.jobs().run_due().await.unwrap();
            if due == 0 {
                return runs;
            }
            runs += due;
            self.clock.advance(Duration::from_secs(1));
        }
    }

    async fn expire(&self) {
        self.walk().await;
        self.until_done().await;
    }

    async fn keys(&self) -> Vec<String> {
        let query = ListQuery { max_keys: 1000, ..ListQuery::default() };
        let page = self.objects.list(&bucket(), query).await.unwrap();
        page.objects.into_iter().map(|object| object.key).collect()
    }

    /// Versions and markers of each key, newest first; markers are `None`.
    async fn all(&self) -> Vec<(String, Option<u64>)> {
        let query = VersionQuery { max_keys: 1000, ..VersionQuery::default() };
        let page = self.versions(query).await.versions;
        page.into_iter().map(|one| (one.key, one.object.map(|(_, size)| size))).collect()
    }
}

#[tokio::test]
async fn objects_end_so_many_days_after_they_were_stored() {
    let world = World::new().await;
    for number in 0..20 {
        world.put(&format!("tmp/{number:02}"), &bytes(number, 10_000)).await.unwrap();
        world.put(&format!("stay/{number:02}"), b"x").await.unwrap();
    }
    world.rules(&[LifecycleRule { filter: under("tmp/"), expiration: Some(Expiration::Days(3)), ..rule() }]).await;
    world.clock.advance(DAY * 2);
    world.put("tmp/07", b"stored anew").await.unwrap();
    world.expire().await;
    assert_eq!(world.keys().await.len(), 40);
    world.clock.advance(DAY * 2);
    world.expire().await;
    let left = world.keys().await;
    assert_eq!((left.len(), left.last().unwrap().as_str()), (21, "tmp/07"));
    world.collect_garbage().await;
    assert_eq!(world.files().len(), 0, "the bytes are gone too");
    world.clock.advance(DAY * 2);
    world.expire().await;
    assert_eq!(world.keys().await.len(), 20);
}

#[tokio::test]
async fn rules_that_are_off_or_about_others_end_nothing() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.put(name, b"four").await.unwrap();
    }
    let end = Some(Expiration::Days(1));
    let filter = |filter| LifecycleRule { filter, expiration: end, ..rule() };
    world
        .rules(&[
            LifecycleRule { enabled: false, expiration: end, ..rule() },
            filter(under("c")),
            filter(LifecycleFilter { larger_than: Some(4), ..under("") }),
            filter(LifecycleFilter { tags: vec![("a".to_owned(), "b".to_owned())], ..under("") }),
        ])
        .await;
    world.clock.advance(DAY * 9);
    world.expire().await;
    assert_eq!(world.keys().await, ["a", "b"]);
    world.objects.set_tags(&bucket(), &newest("b"), vec![("a".to_owned(), "b".to_owned())]).await.unwrap();
    world.expire().await;
    assert_eq!(world.keys().await, ["a"]);
}

#[tokio::test]
async fn where_versions_are_kept_what_ends_leaves_a_marker_and_markers_end_when_they_hide_nothing() {
    let world = World::new().await;
    world.keep_versions(true).await;
    for name in ["a", "b"] {
        world.put(name, b"1").await.unwrap();
        world.put(name, b"22").await.unwrap();
    }
    world.rules(&[LifecycleRule { expiration: Some(Expiration::Days(1)), ..rule() }]).await;
    world.clock.advance(DAY * 2);
    world.expire().await;
    let three = |name: &str| [None, Some(2), Some(1)].map(|size| (name.to_owned(), size));
    assert_eq!(world.all().await, [three("a"), three("b")].concat());
    let noncurrent = Some(Noncurrent { days: 1, keep: None });
    world.rules(&[LifecycleRule { noncurrent, expiration: Some(Expiration::Markers), ..rule() }]).await;
    world.clock.advance(DAY * 2);
    world.expire().await;
    world.expire().await;
    assert_eq!(world.all().await, []);
    assert!(world.objects.delete_bucket(&bucket()).await.is_ok());
}

#[tokio::test]
async fn the_newest_of_the_older_versions_stay() {
    let world = World::new().await;
    world.keep_versions(true).await;
    for size in 1..=9 {
        world.put("k", &bytes(0, size)).await.unwrap();
    }
    world.rules(&[LifecycleRule { noncurrent: Some(Noncurrent { days: 1, keep: Some(4) }), ..rule() }]).await;
    world.clock.advance(DAY * 3);
    world.expire().await;
    let sizes: Vec<Option<u64>> = world.all().await.into_iter().map(|(_, size)| size).collect();
    assert_eq!(sizes, [9, 8, 7, 6, 5].map(Some));
    assert_eq!(world.read("k").await.unwrap(), bytes(0, 9));
}

#[tokio::test]
async fn uploads_that_nobody_finishes_end() {
    let world = World::new().await;
    for name in ["in/a", "in/b", "other"] {
        let upload = world.objects.create_upload(&bucket(), &key(name), Metadata::default()).await.unwrap();
        let part = body(&bytes(1, 9_000));
        let expect = PutExpect::default();
        world.objects.put_part(&bucket(), &key(name), upload, number(1), expect, None, part).await.unwrap();
    }
    world.rules(&[LifecycleRule { filter: under("in/"), abort_days: Some(1), ..rule() }]).await;
    world.clock.advance(DAY * 2 + Duration::from_secs(1));
    world.expire().await;
    world.collect_garbage().await;
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn a_walk_goes_on_where_a_restart_cut_it_off() {
    for cut in 0..12 {
        let world = World::new().await;
        // The data folder itself is not this room's to make durable.
        world.disk.sync_dir(Path::new("/")).unwrap();
        for number in 0..30 {
            let prefix = if number % 3 == 0 { "keep" } else { "end" };
            world.put(&format!("{prefix}/{number:02}"), &bytes(number, 9_000)).await.unwrap();
        }
        world.rules(&[LifecycleRule { filter: under("end/"), expiration: Some(Expiration::Days(1)), ..rule() }]).await;
        world.clock.advance(DAY * 3);
        world.walk().await;
        for _ in 0..cut {
            world.jobs().run_due().await.unwrap();
            world.clock.advance(Duration::from_secs(1));
        }
        let world = world.restarted(world.disk.crash(cut));
        world.jobs().recover().await.unwrap();
        world.until_done().await;
        assert_eq!(world.keys().await.len(), 10, "cut off after {cut}");
        for number in (0..30).step_by(3) {
            assert_eq!(world.read(&format!("keep/{number:02}")).await.unwrap(), bytes(number, 9_000));
        }
    }
}

/// A change of a key, in the model and in the service.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u8, 1..200_u8).prop_map(|(key, size)| Step::Put(key, size)),
        (0..3_u8).prop_map(Step::Delete),
        Just(Step::Wait)
    ]
}

/// What stays of a key's versions (newest first: size, none for a marker, and when it was made) by one rule with everything.
fn stays(versions: &[(Option<u64>, Timestamp)], days: u32, keep: u32, now: Timestamp) -> Vec<Option<u64>> {
    let mut out = Vec::new();
    let mut replaced = Timestamp::default();
    for (at, (size, made)) in versions.iter().enumerate() {
        let older = at > 0 && at as u32 > keep && due(replaced, days) <= now;
        if !older {
            out.push(*size);
        }
        replaced = *made;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn older_versions_end_as_the_rule_says(
        steps in proptest::collection::vec(step(), 1..40), days in 1..4_u32, keep in 1..4_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            world.keep_versions(true).await;
            let mut model: BTreeMap<String, Vec<(Option<u64>, Timestamp)>> = BTreeMap::new();
            for step in steps {
                let now = world.objects.0.clock.now();
                match step {
                    Step::Put(key, size) => {
                        world.put(&key.to_string(), &bytes(0, size.into())).await.unwrap();
                        model.entry(key.to_string()).or_default().insert(0, (Some(size.into()), now));
                    }
                    Step::Delete(key) => {
                        world.delete(&key.to_string(), None).await;
                        model.entry(key.to_string()).or_default().insert(0, (None, now));
                    }
                    Step::Wait => world.clock.advance(DAY),
                }
            }
            world.rules(&[LifecycleRule { noncurrent: Some(Noncurrent { days, keep: Some(keep) }), ..rule() }]).await;
            let now = world.objects.0.clock.now();
            world.expire().await;
            let mut wanted = Vec::new();
            for (key, versions) in &model {
                wanted.extend(stays(versions, days, keep, now).into_iter().map(|size| (key.clone(), size)));
            }
            assert_eq!(world.all().await, wanted);
        });
    }
}
