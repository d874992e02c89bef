//! A bucket takes the files its rules allow, whichever way they come, and what it refuses is not there.

use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const HTML: &[u8] = b"<!doctype html><script>alert(1)</script>";

async fn limited(wanted: Vec<BucketSet>) -> World {
    let world = World::new().await;
    world.objects.set_bucket(&bucket(), wanted).await.unwrap();
    world
}

fn types(list: &[&str]) -> BucketSet {
    BucketSet::Types(list.iter().map(|text| text.parse().unwrap()).collect())
}

fn typed(media: &str) -> Metadata {
    Metadata { content_type: Some(media.to_owned()), ..Metadata::default() }
}

/// `head`, and so many bytes behind it.
fn file(head: &[u8], more: usize) -> Vec<u8> {
    [head, &bytes(1, more)].concat()
}

async fn put(world: &World, name: &str, media: &str, bytes: &[u8]) -> Result<ObjectInfo, ObjectError> {
    world.objects.put(&bucket(), &key(name), typed(media), PutExpect::default(), body(bytes)).await
}

/// A body that must not be read.
fn unread() -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    stream::poll_fn(|_| panic!("it is read"))
}

async fn is_empty(world: &World) -> bool {
    let listed = world.objects.list(&bucket(), ListQuery { max_keys: 10, ..ListQuery::default() }).await.unwrap();
    listed.objects.is_empty() && world.files().is_empty()
}

#[tokio::test]
async fn a_file_in_disguise_is_refused_however_its_bytes_come() {
    let world = limited(vec![types(&["image/*"])]).await;
    for size in [0, 9_000, 700_000] {
        let refused = put(&world, "k", "image/png", &file(HTML, size)).await;
        assert!(matches!(refused, Err(ObjectError::NotTaken(FileFault::Disguised { found: "text/html", .. }))));
        assert!(matches!(put(&world, "k", "text/html", HTML).await, Err(ObjectError::NotTaken(_))));
        assert!(matches!(put(&world, "k", "", HTML).await, Err(ObjectError::NotTaken(_))));
    }
    // Byte by byte.
    let drops: Vec<_> = HTML.iter().map(|byte| Ok(Bytes::copy_from_slice(&[*byte]))).collect();
    let name = bucket();
    let slow = world.objects.put(&name, &key("k"), typed("image/png"), PutExpect::default(), stream::iter(drops)).await;
    assert!(matches!(slow, Err(ObjectError::NotTaken(_))));
    while !is_empty(&world).await {
        tokio::task::yield_now().await;
    }
    for size in [0, 9_000, 700_000] {
        put(&world, "k", "image/png", &file(PNG, size)).await.unwrap();
    }
}

#[tokio::test]
async fn a_disguise_is_refused_before_the_rest_is_read() {
    let world = limited(vec![types(&["image/*"])]).await;
    let body = body(&file(HTML, 2_000)).chain(unread());
    let name = bucket();
    let refused = world.objects.put(&name, &key("k"), typed("image/png"), PutExpect::default(), body).await;
    assert!(matches!(refused, Err(ObjectError::NotTaken(_))));
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_its_bytes_come() {
    let world = limited(vec![BucketSet::MaxFile(Some(1000))]).await;
    let expect = PutExpect { length: Some(1001), ..PutExpect::default() };
    let (name, never) = (bucket(), unread());
    let refused = world.objects.put(&name, &key("k"), Metadata::default(), expect, never).await;
    assert!(matches!(refused, Err(ObjectError::TooLarge { limit: 1000 })));
    // Not announced, it is noticed when it comes.
    assert!(matches!(world.put("k", &bytes(1, 1001)).await, Err(ObjectError::TooLarge { limit: 1000 })));
    world.put("k", &bytes(1, 1000)).await.unwrap();
}

#[tokio::test]
async fn names_and_copies_are_held_to_the_rules_too() {
    let world = World::new().await;
    put(&world, "page.html", "text/html", HTML).await.unwrap();
    put(&world, "picture.png", "image/png", &file(PNG, 50)).await.unwrap();
    let other: BucketName = "pictures".parse().unwrap();
    world.objects.create_bucket(&other).await.unwrap();
    let ends = BucketSet::Extensions(vec!["png".parse().unwrap()]);
    world.objects.set_bucket(&other, vec![types(&["image/png"]), ends]).await.unwrap();
    let copy = async |from: &str, to: &str, metadata| {
        let source = CopySource { bucket: bucket(), target: newest(from), etag: None, range: None };
        world.objects.copy(&source, &other, &key(to), metadata, Condition::Any).await
    };
    let disguise = CopyMetadata::Replace(typed("image/png"));
    for (from, to, metadata) in [
        ("page.html", "a.png", CopyMetadata::Keep),
        ("page.html", "a.png", disguise),
        ("picture.png", "a.jpg", CopyMetadata::Keep),
    ] {
        assert!(matches!(copy(from, to, metadata).await, Err(ObjectError::NotTaken(_))), "{from} to {to}");
    }
    copy("picture.png", "a.png", CopyMetadata::Keep).await.unwrap();
}

#[tokio::test]
async fn an_upload_in_parts_is_looked_into_and_measured_as_a_whole() {
    let world = limited(vec![types(&["image/png"]), BucketSet::MaxFile(Some(6 << 20))]).await;
    let name = bucket();
    let begin = async |media| world.objects.create_upload(&name, &key("k"), typed(media)).await;
    assert!(matches!(begin("text/html").await, Err(ObjectError::NotTaken(_))));
    let upload = begin("image/png").await.unwrap();
    let part = async |number, bytes: Vec<u8>| {
        let (to, body) = (key("k"), body(&bytes));
        world.objects.put_part(&name, &to, upload, super::number(number), PutExpect::default(), None, body).await
    };
    assert!(matches!(part(1, file(HTML, 9_000)).await, Err(ObjectError::NotTaken(_))));
    let complete = async |chosen: Vec<(u64, Etag)>| {
        let choices = chosen.into_iter().map(|(at, etag)| PartChoice { number: number(at), etag }).collect();
        world.objects.complete_upload(&name, &key("k"), upload, choices, None, Condition::Any).await
    };
    // A later part may become the first.
    let disguised = part(2, file(HTML, 9_000)).await.unwrap().etag;
    assert!(matches!(complete(vec![(2, disguised)]).await, Err(ObjectError::NotTaken(_))));
    let first = part(1, file(PNG, 5 << 20)).await.unwrap().etag;
    let large = part(2, bytes(1, 2 << 20)).await.unwrap().etag;
    assert!(
        matches!(complete(vec![(1, first), (2, large)]).await, Err(ObjectError::TooLarge { limit }) if limit == 6 << 20)
    );
    assert!(matches!(world.read("k").await, Err(ObjectError::NoSuchKey)));
    let small = part(2, bytes(1, 500)).await.unwrap().etag;
    complete(vec![(1, first), (2, small)]).await.unwrap();
}

#[tokio::test]
async fn what_was_there_before_a_rule_stays() {
    let world = World::new().await;
    world.put("k", HTML).await.unwrap();
    world.objects.set_bucket(&bucket(), vec![types(&["image/png"]), BucketSet::MaxFile(Some(1))]).await.unwrap();
    assert_eq!(world.read("k").await.unwrap(), HTML);
    let many = BucketSet::Extensions(vec!["png".parse().unwrap(); 25]);
    let refused = world.objects.set_bucket(&bucket(), vec![many]).await;
    assert!(matches!(refused, Err(ObjectError::TooManyRules { limit: 24 })));
}
