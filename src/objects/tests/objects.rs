//! Buckets and objects in good times.

use std::sync::OnceLock;

use futures_util::FutureExt as _;
use md5::{Digest, Md5};
use proptest::prelude::*;

use super::*;
use crate::base::{ByteSize, Timestamp};

/// Sizes around every edge: empty, inline, one segment, one batch, more.
const SIZES: [usize; 11] = [0, 1, 8192, 8193, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 700_001];

fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

#[tokio::test]
async fn what_is_put_comes_back_whole_at_every_size() {
    let world = World::new().await;
    for size in SIZES {
        let sent = bytes(1, size);
        let info = world.put("k", &sent).await.unwrap();
        assert_eq!((info.size, info.etag), (size as u64, Etag { md5: md5(&sent), parts: 0 }));
        assert_eq!(world.objects.head(&bucket(), &key("k")).await.unwrap(), info);
        assert_eq!(world.read("k").await.unwrap(), sent, "{size}");
    }
}

#[tokio::test]
async fn ranges_give_exactly_their_bytes() {
    let world = World::new().await;
    for size in [5_000usize, 200_000, 600_000] {
        let sent = bytes(2, size);
        world.put("k", &sent).await.unwrap();
        let end = size as u64;
        let ranges = [
            (RangeSpec::FromTo(0, 0), 0..1),
            (RangeSpec::FromTo(1, end), 1..size),
            (RangeSpec::FromTo(4_000, 4_999), 4_000..5_000),
            (RangeSpec::From(end - 1), size - 1..size),
            (RangeSpec::Last(70_000), size.saturating_sub(70_000)..size),
            (RangeSpec::FromTo(65_535, 65_536), 65_535..65_537),
            (RangeSpec::FromTo(65_536, 400_000), 65_536..400_001),
        ];
        for (spec, wanted) in ranges.into_iter().filter(|(_, wanted)| wanted.start < size) {
            let wanted = wanted.start..wanted.end.min(size);
            let found = world.objects.get(&bucket(), &key("k"), Some(spec)).await.unwrap();
            assert_eq!(found.range, wanted.start as u64..wanted.end as u64);
            assert_eq!(collect(found.body).await.unwrap(), &sent[wanted], "{size} {spec:?}");
        }
        let beyond = world.objects.get(&bucket(), &key("k"), Some(RangeSpec::From(end))).await;
        assert!(matches!(beyond, Err(ObjectError::InvalidRange { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_size_and_range_comes_back(size in 0usize..400_000, first in 0u64..400_000, len in 0u64..200_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let sent = bytes(3, size);
            world.put("k", &sent).await.unwrap();
            let found = world.objects.get(&bucket(), &key("k"), Some(RangeSpec::FromTo(first, first + len))).await;
            let wanted = sent.get(first as usize..size.min((first + len + 1) as usize)).filter(|w| !w.is_empty());
            match (found, wanted) {
                (Ok(found), Some(wanted)) => assert_eq!(collect(found.body).await.unwrap(), wanted),
                (Err(ObjectError::InvalidRange { .. }), None) => {}
                (found, wanted) => panic!("{found:?} {:?}", wanted.map(<[u8]>::len)),
            }
        });
    }
}

#[tokio::test]
async fn metadata_and_a_late_checksum_come_back() {
    let world = World::new().await;
    let metadata = Metadata {
        content_type: Some("image/png".to_owned()),
        user: vec![("origin".to_owned(), "camera".to_owned())],
        ..Metadata::default()
    };
    for size in [10, 100_000] {
        let slot = Arc::new(OnceLock::new());
        let sum = Checksum { algorithm: "CRC32".to_owned(), value: "AAAAAA==".to_owned() };
        let (at_end, value) = (slot.clone(), sum.clone());
        let end = stream::once(async move {
            at_end.set(value).unwrap();
            Ok(Bytes::new())
        });
        let expect = PutExpect { late_checksum: Some(slot), ..PutExpect::default() };
        let sent = body(&bytes(1, size)).chain(end);
        world.objects.put(&bucket(), &key("k"), metadata.clone(), expect, sent).await.unwrap();
        let info = world.objects.head(&bucket(), &key("k")).await.unwrap();
        assert_eq!(info.metadata, Metadata { checksum: Some(sum), ..metadata.clone() });
        assert_eq!(info.modified, Timestamp(1_767_225_600_000));
    }
    let large = Metadata { user: vec![("x".to_owned(), "y".repeat(Metadata::BYTES_MAX))], ..Metadata::default() };
    let refused = world.objects.put(&bucket(), &key("k"), large, PutExpect::default(), body(b"")).await;
    assert!(matches!(refused, Err(ObjectError::MetadataTooLarge { .. })));
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_changes_nothing() {
    let world = World::new().await;
    for size in [10, 300_000] {
        world.put("k", b"before").await.unwrap();
        let sent = bytes(1, size);
        let length = |length| PutExpect { length: Some(length), ..PutExpect::default() };
        let put = async |expect, body| world.objects.put(&bucket(), &key("k"), Metadata::default(), expect, body).await;
        let short = put(length(size as u64 + 1), body(&sent)).await;
        assert!(matches!(short, Err(ObjectError::WrongLength { .. })), "{short:?}");
        let long = put(length(size as u64 - 1), body(&sent)).await;
        assert!(matches!(long, Err(ObjectError::WrongLength { .. })), "{long:?}");
        let other = put(PutExpect { md5: Some([0; 16]), ..PutExpect::default() }, body(&sent)).await;
        assert!(matches!(other, Err(ObjectError::BadDigest)), "{other:?}");
        let failing = body(&sent).chain(stream::iter([Err(BodyError::new(std::io::Error::other("signature")))]));
        let failed = world.objects.put(&bucket(), &key("k"), Metadata::default(), PutExpect::default(), failing).await;
        let Err(ObjectError::Body(error)) = failed else { panic!("{failed:?}") };
        assert_eq!(error.cause::<std::io::Error>().unwrap().to_string(), "signature");
        assert_eq!(world.read("k").await.unwrap(), b"before");
    }
    // Dropped uploads remove their files on blocking threads.
    while !world.files().is_empty() {
        tokio::task::yield_now().await;
    }
    let right = PutExpect { md5: Some(md5(b"after")), length: Some(5), ..PutExpect::default() };
    world.objects.put(&bucket(), &key("k"), Metadata::default(), right, body(b"after")).await.unwrap();
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_announced_or_not() {
    let clock = Arc::new(TestClock::default());
    let config = ObjectsConfig { max_put: ByteSize::kib(100), ..ObjectsConfig::default() };
    let world = World::on(FaultyDisk::new(), memory_store(), clock, config);
    world.objects.create_bucket(&bucket()).await.unwrap();
    for length in [None, Some(102_401)] {
        let expect = PutExpect { length, ..PutExpect::default() };
        let sent = body(&bytes(1, 102_401));
        let put = world.objects.put(&bucket(), &key("k"), Metadata::default(), expect, sent).await;
        assert!(matches!(put, Err(ObjectError::TooLarge { limit: 102_400 })), "{put:?}");
    }
    world.put("k", &bytes(1, 102_400)).await.unwrap();
}

#[tokio::test]
async fn conditions_are_decided_in_the_commit() {
    let world = World::new().await;
    let put = async |bytes: &[u8], condition| {
        let expect = PutExpect { condition, ..PutExpect::default() };
        world.objects.put(&bucket(), &key("k"), Metadata::default(), expect, body(bytes)).await
    };
    assert!(matches!(put(b"x", Condition::Present).await, Err(ObjectError::PreconditionFailed)));
    let one = put(b"one", Condition::Absent).await.unwrap();
    assert!(matches!(put(b"x", Condition::Absent).await, Err(ObjectError::PreconditionFailed)));
    let two = put(b"two", Condition::Matches(one.etag)).await.unwrap();
    assert!(matches!(put(b"x", Condition::Matches(one.etag)).await, Err(ObjectError::PreconditionFailed)));
    let gone = world.objects.delete(&bucket(), &key("k"), Condition::Matches(one.etag)).await;
    assert!(matches!(gone, Err(ObjectError::PreconditionFailed)));
    world.objects.delete(&bucket(), &key("k"), Condition::Matches(two.etag)).await.unwrap();
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));

    let racers = [b"a", b"b", b"c", b"d", b"e", b"f"].map(|bytes| put(bytes, Condition::Absent));
    let won = futures_util::future::join_all(racers).await.into_iter().flatten().count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn overwritten_and_deleted_blobs_leave_the_disk() {
    let world = World::new().await;
    for seed in 0..3 {
        world.put("k", &bytes(seed, 100_000)).await.unwrap();
        world.put("other", &bytes(seed, 100)).await.unwrap();
    }
    assert_eq!(world.files().len(), 3);
    world.collect_garbage().await;
    assert_eq!(world.files().len(), 1);
    assert_eq!(world.read("k").await.unwrap(), bytes(2, 100_000));
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    assert_eq!(world.read("other").await.unwrap(), bytes(2, 100));
}

#[tokio::test]
async fn a_reader_keeps_what_it_opened_when_it_is_overwritten() {
    let world = World::new().await;
    world.put("k", &bytes(1, 900_000)).await.unwrap();
    let found = world.objects.get(&bucket(), &key("k"), None).await.unwrap();
    world.put("k", b"new").await.unwrap();
    world.collect_garbage().await;
    assert_eq!(collect(found.body).await.unwrap(), bytes(1, 900_000));
}

#[tokio::test]
async fn many_keys_are_deleted_in_one_commit() {
    let world = World::new().await;
    for at in 0..10 {
        world.put(&format!("k{at}"), &bytes(at, 10_000)).await.unwrap();
    }
    let keys = (5..15).map(|at| newest(&format!("k{at}"))).collect();
    world.objects.delete_many(&bucket(), keys).await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.files().len(), 5);
    let too_many = vec![newest("k"); DELETE_MANY_MAX + 1];
    assert!(world.objects.delete_many(&bucket(), too_many).await.is_err());
}

#[tokio::test]
async fn copies_live_on_their_own() {
    let world = World::new().await;
    let metadata = Metadata { content_type: Some("a/b".to_owned()), ..Metadata::default() };
    let sent = body(&bytes(1, 300_000));
    let first = world.objects.put(&bucket(), &key("a"), metadata, PutExpect::default(), sent).await.unwrap();
    let source = CopySource { bucket: bucket(), target: newest("a"), etag: Some(first.etag), range: None };
    let copy = async |source: &CopySource, to: &str, metadata| {
        world.objects.copy(source, &bucket(), &key(to), metadata, Condition::Any).await
    };
    let kept = copy(&source, "b", CopyMetadata::Keep).await.unwrap();
    assert_eq!((kept.etag, kept.metadata.content_type.as_deref()), (first.etag, Some("a/b")));
    // Onto itself, with other metadata.
    let replaced = copy(&source, "a", CopyMetadata::Replace(Metadata::default())).await.unwrap();
    assert_eq!(replaced.metadata, Metadata::default());
    world.objects.delete(&bucket(), &key("a"), Condition::Any).await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.read("b").await.unwrap(), bytes(1, 300_000));
    assert!(matches!(copy(&source, "c", CopyMetadata::Keep).await, Err(ObjectError::NoSuchKey)));
    let other = CopySource { target: newest("b"), etag: Some(Etag { md5: [0; 16], parts: 0 }), ..source };
    assert!(matches!(copy(&other, "c", CopyMetadata::Keep).await, Err(ObjectError::PreconditionFailed)));
}

#[tokio::test]
async fn a_bucket_is_deleted_only_when_empty_and_takes_its_key_along() {
    let world = World::new().await;
    let keys = Path::new(ROOT).join("keys");
    world.put("k", b"x").await.unwrap();
    assert!(matches!(world.objects.delete_bucket(&bucket()).await, Err(ObjectError::BucketNotEmpty)));
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    let upload = world.objects.create_upload(&bucket(), &key("u"), Metadata::default()).await.unwrap();
    let part = body(&bytes(1, 100));
    world.objects.put_part(&bucket(), &key("u"), upload, number(1), PutExpect::default(), None, part).await.unwrap();
    assert_eq!(world.disk.list(&keys).unwrap().len(), 1);
    world.objects.delete_bucket(&bucket()).await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    assert_eq!(world.disk.list(&keys).unwrap().len(), 0);
    for result in [world.put("k", b"x").await.map(|_| ()), world.read("k").await.map(|_| ())] {
        assert!(matches!(result, Err(ObjectError::NoSuchBucket)), "{result:?}");
    }
    assert!(matches!(world.objects.delete_bucket(&bucket()).await, Err(ObjectError::NoSuchBucket)));

    assert_eq!(world.objects.create_bucket(&bucket()).await.unwrap(), Created::New);
    assert_eq!(world.objects.create_bucket(&bucket()).await.unwrap(), Created::Already);
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));
    assert_eq!(world.objects.buckets().await.unwrap().len(), 1);
    assert_eq!(world.disk.list(&keys).unwrap().len(), 1);
}

#[tokio::test]
async fn a_bucket_deleted_and_made_again_elsewhere_is_noticed() {
    let world = World::new().await;
    world.put("k", b"x").await.unwrap();
    let other = world.restarted(world.disk.clone());
    other.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    other.objects.delete_bucket(&bucket()).await.unwrap();
    other.objects.create_bucket(&bucket()).await.unwrap();
    assert!(matches!(world.put("k", b"x").await, Err(ObjectError::NoSuchBucket)));
    world.put("k", b"again").await.unwrap();
    assert_eq!(other.read("k").await.unwrap(), b"again");
}

#[tokio::test]
async fn below_the_reserve_uploads_stop_while_the_rest_goes_on() {
    let world = World::new().await;
    world.put("k", &bytes(1, 100_000)).await.unwrap();
    world.disk.limit_space(Some(ByteSize::mib(200).bytes()));
    world.clock.advance(Duration::from_secs(2));
    for size in [10, 100_000] {
        assert!(matches!(world.put("new", &bytes(1, size)).await, Err(ObjectError::Full { .. })));
    }
    assert_eq!(world.read("k").await.unwrap().len(), 100_000);
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.disk.limit_space(None);
    world.clock.advance(Duration::from_secs(2));
    world.put("new", b"x").await.unwrap();
}

#[tokio::test]
async fn what_is_set_for_a_bucket_is_in_force_though_who_set_it_has_gone() {
    let world = World::new().await;
    assert_eq!(world.objects.bucket_settings(&bucket()).await.unwrap().policy, None);
    let set = |settings: &mut BucketSettings| settings.policy = Some("{}".to_owned());
    // Begun, and dropped before its end.
    let _ = world.objects.change_bucket_settings(&bucket(), set).now_or_never();
    while world.objects.bucket_settings(&bucket()).await.unwrap().policy.is_none() {
        tokio::task::yield_now().await;
    }
}
