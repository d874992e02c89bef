//! Quotas: what a bucket holds is known exactly at every commit, and nothing goes beyond. Pages are small in tests, so that
//! a count and what is written meanwhile mix.

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::objects::BucketSet;
use crate::objects::index::{BUCKETS, BucketRow, USAGE, row};
use crate::objects::usage::Usage;
use crate::store::WriteTx;

impl World {
    async fn quota(&self, max_bytes: Option<u64>, max_objects: Option<u64>) {
        let quota = vec![BucketSet::QuotaBytes(max_bytes), BucketSet::QuotaObjects(max_objects)];
        self.objects.set_bucket(&bucket(), quota).await.unwrap();
    }

    async fn usage(&self) -> Usage {
        self.objects.bucket_detail(&bucket()).await.unwrap().usage
    }

    /// As if an older release had made the bucket.
    async fn forget_usage(&self) {
        let name = bucket().as_str().as_bytes().to_vec();
        let forget = move |tx: &mut dyn WriteTx| {
            let bucket: BucketRow = row(tx, BUCKETS, &name)?.unwrap();
            Ok::<_, ObjectError>(tx.delete(USAGE, bucket.id.as_bytes())?)
        };
        assert!(self.objects.0.store.write(forget).await.unwrap());
    }

    /// What is there, added up.
    async fn added_up(&self) -> (u64, u64) {
        let page = self.versions(VersionQuery { max_keys: 1000, ..VersionQuery::default() }).await;
        let sizes = page.versions.iter().filter_map(|version| version.object.map(|(_, size)| size));
        sizes.fold((0, 0), |(bytes, objects), size| (bytes + size, objects + 1))
    }
}

fn exceeded(result: &Result<ObjectInfo, ObjectError>) -> bool {
    matches!(result, Err(ObjectError::QuotaExceeded { .. }))
}

#[tokio::test]
async fn what_would_go_beyond_is_refused_and_changes_nothing() {
    let world = World::new().await;
    world.quota(Some(20_000), Some(2)).await;
    world.put("a", &bytes(1, 15_000)).await.unwrap();
    assert!(exceeded(&world.put("b", &bytes(2, 5_001)).await));
    world.put("b", &bytes(2, 5_000)).await.unwrap();
    assert!(exceeded(&world.put("c", b"").await), "two objects at most");
    assert!(exceeded(&world.put("a", &bytes(3, 15_001)).await));
    assert_eq!(world.read("a").await.unwrap(), bytes(1, 15_000));
    world.put("a", b"less").await.unwrap();
    world.objects.delete(&bucket(), &key("b"), Condition::Any).await.unwrap();
    world.put("c", &bytes(4, 19_996)).await.unwrap();
    assert_eq!(world.usage().await, Usage { bytes: 20_000, objects: 2, counting: false });
    world.quota(Some(10), None).await;
    assert!(exceeded(&world.put("a", b"more!").await));
    world.put("a", b"les").await.unwrap();
    world.quota(None, None).await;
    world.put("d", &bytes(4, 30_000)).await.unwrap();
}

#[tokio::test]
async fn many_at_once_do_not_go_beyond_together() {
    let world = World::new().await;
    world.quota(Some(10_000), None).await;
    let puts = (0..20_u8).map(|number| {
        let world = &world;
        async move { world.put(&format!("{number}"), &bytes(number, 1_500)).await }
    });
    let done = join_all(puts).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 6);
    assert_eq!(world.added_up().await, (9_000, 6));
}

#[tokio::test]
async fn an_upload_in_parts_is_held_to_the_quota_when_it_is_completed() {
    let world = World::new().await;
    world.quota(Some(8_000), None).await;
    let upload = world.objects.create_upload(&bucket(), &key("m"), Metadata::default()).await.unwrap();
    let expect = PutExpect::default();
    let part = async |key: &ObjectKey, expect: PutExpect| {
        world.objects.put_part(&bucket(), key, upload, number(1), expect, None, body(&bytes(1, 9_000))).await
    };
    let announced = PutExpect { length: Some(9_000), ..PutExpect::default() };
    assert!(matches!(part(&key("m"), announced).await, Err(ObjectError::QuotaExceeded { .. })), "before it is sent");
    let etag = part(&key("m"), expect).await.unwrap().etag;
    let choice = vec![PartChoice { number: number(1), etag }];
    let done = world.objects.complete_upload(&bucket(), &key("m"), upload, choice, None, Condition::Any).await;
    assert!(exceeded(&done));
    assert!(matches!(world.read("m").await, Err(ObjectError::NoSuchKey)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8, u16),
    Delete(u8),
    DeleteNewest(u8),
    Versions(bool),
    Count,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..400_u16).prop_map(|(key, size)| Step::Put(key, size)),
        2 => (0..6_u8).prop_map(Step::Delete),
        2 => (0..6_u8).prop_map(Step::DeleteNewest),
        1 => any::<bool>().prop_map(Step::Versions),
        1 => Just(Step::Count),
    ]
}

impl World {
    async fn step(&self, step: Step) {
        match step {
            Step::Put(name, size) => drop(self.put(&name.to_string(), &bytes(0, size.into())).await.unwrap()),
            Step::Delete(name) => drop(self.delete(&name.to_string(), None).await),
            Step::DeleteNewest(name) => {
                let page = self.versions(VersionQuery { max_keys: 1000, ..VersionQuery::default() }).await;
                let newest = page.versions.iter().find(|version| version.key == name.to_string());
                if let Some(newest) = newest {
                    self.delete(&name.to_string(), Some(newest.version)).await;
                }
            }
            Step::Versions(keep) => self.keep_versions(keep).await,
            Step::Count => {
                let this = self.objects.clone();
                tokio::task::spawn_blocking(move || this.count_usage_page(bucket().as_str().as_bytes()))
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_count_is_exact_whatever_is_written_while_it_is_made(
        before in proptest::collection::vec(step(), 0..40), after in proptest::collection::vec(step(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            for one in before {
                world.step(one).await;
            }
            world.forget_usage().await;
            for one in after {
                world.step(one).await;
            }
            let this = world.objects.clone();
            tokio::task::spawn_blocking(move || this.count_usage()).await.unwrap().unwrap();
            let (bytes, objects) = world.added_up().await;
            assert_eq!(world.usage().await, Usage { bytes, objects, counting: false });
        });
    }
}
