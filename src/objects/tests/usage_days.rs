//! What buckets held on each day.

use super::*;
use crate::objects::index::USAGE_DAYS;
use crate::objects::usage_days::Held;
use crate::store::{Direction, Table};

const DAY: Duration = Duration::from_hours(24);

impl World {
    async fn days(&self, bucket: Option<&BucketName>, days: u32) -> Vec<Option<(u64, u64)>> {
        let held = self.objects.usage_days(bucket, days).await.unwrap();
        held.into_iter().map(|held| held.map(|Held { bytes, objects }| (bytes, objects))).collect()
    }

    async fn note(&self) {
        let objects = self.objects.clone();
        tokio::task::spawn_blocking(move || objects.note_usage()).await.unwrap().unwrap();
    }

    fn rows(&self, table: Table) -> usize {
        use std::ops::Bound::Unbounded;
        self.store.read_blocking(|tx| tx.scan(table, Unbounded, Unbounded, Direction::Forward, 10_000)).unwrap().len()
    }
}

#[tokio::test]
async fn each_day_says_what_was_held_at_its_end_and_today_what_is_held_now() {
    let world = World::new().await;
    world.clock.advance(DAY * 20_000);
    world.put("a", &bytes(1, 100)).await.unwrap();
    world.note().await;
    world.put("b", &bytes(1, 20)).await.unwrap();
    world.note().await;
    world.clock.advance(DAY * 2);
    let other: BucketName = "other".parse().unwrap();
    world.objects.create_bucket(&other).await.unwrap();
    world.put("a", &bytes(2, 50)).await.unwrap();
    assert_eq!(world.days(Some(&bucket()), 4).await, [None, Some((120, 2)), None, Some((70, 2))]);
    world.note().await;
    world.put("c", &bytes(2, 1)).await.unwrap();
    assert_eq!(world.days(None, 3).await, [Some((120, 2)), None, Some((71, 3))]);
    assert_eq!(world.days(Some(&other), 1).await, [Some((0, 0))]);
    assert!(matches!(
        world.objects.usage_days(Some(&"none".parse().unwrap()), 1).await,
        Err(ObjectError::NoSuchBucket)
    ));
}

#[tokio::test]
async fn rows_leave_when_they_are_old_and_with_their_bucket() {
    let world = World::new().await;
    world.clock.advance(DAY * 20_000);
    for _ in 0..3 {
        world.note().await;
        world.clock.advance(DAY);
    }
    assert_eq!(world.rows(USAGE_DAYS), 6);
    world.note().await;
    let before = world.store.read_blocking(|tx| tx.get(USAGE_DAYS, &[0; 20])).unwrap();
    assert_eq!(before, None);
    world.clock.advance(DAY * 401);
    world.note().await;
    // Of the bucket and of all together: the day that is just young enough, and today.
    assert_eq!(world.rows(USAGE_DAYS), 2);
    world.objects.delete_bucket(&bucket()).await.unwrap();
    assert_eq!(world.rows(USAGE_DAYS), 1);
    world.note().await;
    assert_eq!(world.days(None, 1).await, [Some((0, 0))]);
}
