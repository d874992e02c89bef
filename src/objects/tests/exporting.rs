//! What is kept beside the blobs for the day on which the index is lost: when it is written, and that it goes.

use super::*;
use crate::base::Span;

#[tokio::test]
async fn exports_come_around_and_are_not_made_for_nothing() {
    let world = World::new().await;
    let numbers = || world.objects.0.exports.list().unwrap().iter().map(|export| export.number).collect::<Vec<_>>();
    assert_eq!(world.objects.export_step(&|| true).unwrap(), Duration::ZERO);
    assert_eq!(numbers(), [1]);
    assert!(world.objects.export_step(&|| true).unwrap() > Duration::ZERO);
    world.clock.advance(Duration::from_mins(59));
    world.objects.export_step(&|| true).unwrap();
    assert_eq!(numbers(), [1]);
    world.clock.advance(Duration::from_mins(1));
    world.objects.export_step(&|| true).unwrap();
    assert_eq!(numbers(), [2, 1]);
    // A restart knows when the last was made.
    let again = world.restarted(world.disk.clone());
    assert!(again.objects.export_step(&|| true).unwrap() > Duration::ZERO);
    assert_eq!(numbers(), [2, 1]);
    // None is made on the disk's reserve.
    let never = ObjectsConfig { export_every: Span::secs(0), ..ObjectsConfig::default() };
    let off = World::on(world.disk.clone(), world.store.clone(), world.clock.clone(), never);
    world.clock.advance(Duration::from_hours(5));
    off.objects.export_step(&|| true).unwrap();
    assert_eq!(numbers(), [2, 1]);
}

#[tokio::test]
async fn a_bucket_has_its_file_and_a_deleted_one_has_none() {
    let world = World::new().await;
    let folder = Path::new(ROOT).join("buckets");
    let ids = || world.objects.0.bucket_files.ids().unwrap();
    assert_eq!(ids().len(), 1);
    // What an older release has left without one gets one.
    world.disk.remove_file(&folder.join(ids()[0].to_string())).unwrap();
    world.objects.note_buckets().unwrap();
    assert_eq!(ids().len(), 1);
    // An answer that was an error is made good by the next.
    world.disk.remove_file(&folder.join(ids()[0].to_string())).unwrap();
    assert_eq!(world.objects.create_bucket(&bucket()).await.unwrap(), Created::Already);
    assert_eq!(ids().len(), 1);
    world.objects.delete_bucket(&bucket()).await.unwrap();
    let said = world.objects.0.bucket_files.read(ids()[0]).unwrap();
    assert_eq!(said, Some(Ok(bucket_files::BucketState::Gone)));
    world.collect_garbage().await;
    assert_eq!(ids().len(), 0);
}
