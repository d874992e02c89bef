//! Multipart uploads.

use md5::{Digest, Md5};

use super::*;
use crate::base::Span;

/// A part just large enough not to be the last.
const PART: usize = PART_LEAST as usize;

async fn put_part(world: &World, upload: UploadId, at: u64, bytes: &[u8]) -> Result<PartInfo, ObjectError> {
    let body = body(bytes);
    world.objects.put_part(&bucket(), &key("k"), upload, number(at), PutExpect::default(), None, body).await
}

async fn complete(world: &World, upload: UploadId, parts: &[&PartInfo]) -> Result<ObjectInfo, ObjectError> {
    let chosen = parts.iter().map(|part| PartChoice { number: part.number, etag: part.etag }).collect();
    world.objects.complete_upload(&bucket(), &key("k"), upload, chosen, None, Condition::Any).await
}

async fn begin(world: &World) -> UploadId {
    let metadata = Metadata { content_type: Some("video/mp4".to_owned()), ..Metadata::default() };
    world.objects.create_upload(&bucket(), &key("k"), metadata).await.unwrap()
}

#[tokio::test]
async fn parts_join_into_one_object_with_a_tag_of_tags() {
    let world = World::new().await;
    let upload = begin(&world).await;
    let (one, two) = (bytes(1, PART), bytes(2, 1_000));
    // Out of order, one of them twice, one left out.
    put_part(&world, upload, 30, &bytes(9, 200)).await.unwrap();
    let second = put_part(&world, upload, 30, &two).await.unwrap();
    put_part(&world, upload, 7, &bytes(8, 50)).await.unwrap();
    let first = put_part(&world, upload, 1, &one).await.unwrap();
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));

    let info = complete(&world, upload, &[&first, &second]).await.unwrap();
    let digests: Vec<u8> = [&one, &two].iter().flat_map(Md5::digest).collect();
    assert_eq!(info.etag, Etag { md5: Md5::digest(digests).into(), parts: 2 });
    assert_eq!(info.metadata.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(complete(&world, upload, &[&first, &second]).await.unwrap(), info, "asked again");

    world.collect_garbage().await;
    assert_eq!(world.files().len(), 3, "two parts, and which they are");
    let whole = [one, two.clone()].concat();
    assert!(world.read("k").await.unwrap() == whole);
    let seam = RangeSpec::FromTo(PART as u64 - 5, PART as u64 + 4);
    let middle = world.objects.get(&bucket(), &key("k"), Some(seam)).await.unwrap();
    assert_eq!(collect(middle.body).await.unwrap(), &whole[PART - 5..PART + 5]);
    let end = world.objects.get(&bucket(), &key("k"), Some(RangeSpec::Last(1_001))).await.unwrap();
    assert_eq!(collect(end.body).await.unwrap(), &whole[whole.len() - 1_001..]);
    let part = world.objects.get_part(&bucket(), &newest("k"), number(30)).await.unwrap();
    assert_eq!((part.parts, part.range.start), (2, PART as u64));
    assert!(collect(part.body).await.unwrap() == two);
    let none = world.objects.get_part(&bucket(), &newest("k"), number(7)).await;
    assert!(matches!(none, Err(ObjectError::NoSuchPart { number: 7 })));

    world.put("k", b"over").await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn wrong_completions_are_refused_and_the_upload_goes_on() {
    let world = World::new().await;
    let upload = begin(&world).await;
    let small = put_part(&world, upload, 1, &bytes(1, 100)).await.unwrap();
    let last = put_part(&world, upload, 2, &bytes(2, 100)).await.unwrap();
    assert!(matches!(complete(&world, upload, &[]).await, Err(ObjectError::InvalidPartOrder)));
    assert!(matches!(complete(&world, upload, &[&last, &small]).await, Err(ObjectError::InvalidPartOrder)));
    assert!(matches!(complete(&world, upload, &[&last, &last]).await, Err(ObjectError::InvalidPartOrder)));
    let too_small = complete(&world, upload, &[&small, &last]).await;
    assert!(matches!(too_small, Err(ObjectError::EntityTooSmall { number: 1, size: 100, .. })), "{too_small:?}");
    let never = PartInfo { number: number(9), ..last.clone() };
    assert!(matches!(complete(&world, upload, &[&never]).await, Err(ObjectError::InvalidPart { number: 9 })));
    let other = PartInfo { etag: small.etag, ..last.clone() };
    assert!(matches!(complete(&world, upload, &[&other]).await, Err(ObjectError::InvalidPart { number: 2 })));
    complete(&world, upload, &[&last]).await.unwrap();
    let unknown = UploadId(crate::base::Id128::from_bytes([1; 16]));
    assert!(matches!(complete(&world, unknown, &[&last]).await, Err(ObjectError::NoSuchUpload)));
    assert!(matches!(put_part(&world, upload, 1, b"late").await, Err(ObjectError::NoSuchUpload)));
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let world = World::new().await;
    let upload = begin(&world).await;
    for at in 1..=3 {
        put_part(&world, upload, at, &bytes(1, 20)).await.unwrap();
    }
    world.objects.abort_upload(&bucket(), &key("k"), upload).await.unwrap();
    assert!(matches!(put_part(&world, upload, 4, b"late").await, Err(ObjectError::NoSuchUpload)));
    let again = world.objects.abort_upload(&bucket(), &key("k"), upload).await;
    assert!(matches!(again, Err(ObjectError::NoSuchUpload)));
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn parts_of_an_object_being_read_wait_for_their_reader() {
    let world = World::new().await;
    let upload = begin(&world).await;
    let (one, two) = (bytes(1, 100_000), bytes(2, 900_000));
    put_part(&world, upload, 1, &one).await.unwrap();
    put_part(&world, upload, 2, &two).await.unwrap();
    join_small(&world, upload).await;
    let found = world.objects.get(&bucket(), &key("k"), None).await.unwrap();
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.collect_garbage().await;
    assert!(collect(found.body).await.unwrap() == [one, two].concat());
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn more_parts_than_one_row_of_the_manifest_read_from_anywhere() {
    // Manifests of objects with thousands of parts: written as completion writes them, with parts of a few bytes.
    let world = World::new().await;
    let upload = begin(&world).await;
    let count = index::MANIFEST_PARTS as u64 + 10;
    let mut whole = Vec::new();
    for at in 1..=count {
        let part = bytes(at as u8, 3);
        whole.extend_from_slice(&part);
        put_part(&world, upload, at, &part).await.unwrap();
    }
    join_small(&world, upload).await;
    assert!(world.read("k").await.unwrap() == whole);
    for first in [0, 1, 5, 766, 767, 768, 769, 790] {
        let found = world.objects.get(&bucket(), &key("k"), Some(RangeSpec::From(first))).await.unwrap();
        assert_eq!(collect(found.body).await.unwrap(), &whole[first as usize..], "{first}");
    }
    let part = world.objects.get_part(&bucket(), &newest("k"), number(count)).await.unwrap();
    assert_eq!(collect(part.body).await.unwrap(), &whole[whole.len() - 3..]);
    world.objects.delete(&bucket(), &key("k"), Condition::Any).await.unwrap();
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn parts_and_uploads_are_listed_in_pages() {
    let world = World::new().await;
    let upload = begin(&world).await;
    let mut all = Vec::new();
    for at in [5, 1, 300, 2] {
        all.push(put_part(&world, upload, at, &bytes(1, at as usize)).await.unwrap());
    }
    all.sort_by_key(|part| part.number);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = world.objects.list_parts(&bucket(), &key("k"), upload, after, 3).await.unwrap();
        listed.extend(page.parts);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, all);

    let mut uploads = vec![("k".to_owned(), upload)];
    for name in ["k", "a/1", "a/2", "b", "k/x"] {
        let id = world.objects.create_upload(&bucket(), &key(name), Metadata::default()).await.unwrap();
        uploads.push((name.to_owned(), id));
    }
    uploads.sort();
    for max_uploads in 1..=7 {
        let (mut listed, mut next) = (Vec::new(), (None, None));
        loop {
            let (after_key, after_upload) = next;
            let query = UploadQuery { after_key, after_upload, max_uploads, ..UploadQuery::default() };
            let page = world.objects.list_uploads(&bucket(), query).await.unwrap();
            assert!(page.uploads.len() <= max_uploads);
            listed.extend(page.uploads.into_iter().map(|upload| (upload.key, upload.upload)));
            let Some((key, upload)) = page.next else { break };
            next = (Some(key), upload);
        }
        assert_eq!(listed, uploads, "{max_uploads}");
    }
    let query = UploadQuery { delimiter: Some("/".to_owned()), max_uploads: 10, ..UploadQuery::default() };
    let page = world.objects.list_uploads(&bucket(), query).await.unwrap();
    assert_eq!((page.common_prefixes, page.uploads.len()), (vec!["a/".to_owned(), "k/".to_owned()], 3));
}

#[tokio::test]
async fn uploads_nobody_finishes_expire() {
    let world = World::new().await;
    let old = begin(&world).await;
    put_part(&world, old, 1, b"x").await.unwrap();
    world.clock.advance(Span::days(6).duration());
    let young = begin(&world).await;
    assert_eq!(world.objects.sweep().unwrap().expired_uploads, 0);
    world.clock.advance(Span::days(1).duration());
    assert_eq!(world.objects.sweep().unwrap().expired_uploads, 1);
    world.collect_garbage().await;
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    assert!(matches!(put_part(&world, old, 2, b"y").await, Err(ObjectError::NoSuchUpload)));
    put_part(&world, young, 1, b"y").await.unwrap();
}

/// Completes an upload whose parts are smaller than S3 lets them be, so that a test can have many.
async fn join_small(world: &World, upload: UploadId) {
    let bucket = world.objects.open_bucket(&bucket()).await.unwrap();
    let (open, at) = (bucket.clone(), index::upload_key(bucket.id, "k", upload.0));
    let row = world.store.read_blocking(|tx| uploads::upload_row(tx, &open, &at)).unwrap();
    let parts = world.store.read_blocking(|tx| uploads::scan_parts(tx, upload.0, 0, 10_000)).unwrap();
    let choice = |(number, part): &(u16, index::PartRow)| PartChoice {
        number: super::number(u64::from(*number)),
        etag: Etag { md5: part.md5, parts: 0 },
    };
    let chosen: Vec<PartChoice> = parts.iter().map(choice).collect();
    let joined = parts::Joined::new(upload.0, &parts, &chosen, 0).unwrap();
    let done = world.objects.commit_joined(&bucket, &key("k"), upload.0, row, joined, None, Condition::Any).await;
    assert_eq!(done.unwrap().unwrap().size, parts.iter().map(|(_, part)| part.size).sum::<u64>());
}
