//! Multipart uploads.

use http::StatusCode;

use super::*;
use crate::s3::checksum::Algorithm;

const LEAST: usize = 5 << 20;

async fn start(world: &World) -> String {
    let reply = world.send(Ask::new("POST", "/photos/big?uploads").header("x-amz-meta-n", "1")).await;
    reply.all("UploadId")[0].to_owned()
}

async fn part(world: &World, upload: &str, number: u32, bytes: Bytes) -> String {
    let target = format!("/photos/big?partNumber={number}&uploadId={upload}");
    let reply = world.send(Ask::new("PUT", &target).body(bytes)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.header("etag").to_owned()
}

fn complete(upload: &str, parts: &[(u32, &str)]) -> Ask {
    let parts: Vec<String> = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let document = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.concat());
    Ask::new("POST", &format!("/photos/big?uploadId={upload}")).body(document)
}

#[tokio::test]
async fn parts_become_one_object() {
    let world = World::with_bucket().await;
    let upload = start(&world).await;
    let listed = world.get("/photos?uploads&prefix=big").await;
    assert_eq!((listed.all("Key"), listed.all("UploadId")), (vec!["big"], vec![upload.as_str()]));
    let second = part(&world, &upload, 2, Bytes::from_static(b"tail")).await;
    let first = part(&world, &upload, 1, Bytes::from(vec![b'a'; LEAST])).await;
    let parts = world.get(&format!("/photos/big?uploadId={upload}")).await;
    assert_eq!((parts.all("PartNumber"), parts.all("Size")), (vec!["1", "2"], vec!["5242880", "4"]));
    let reply = world.send(complete(&upload, &[(1, &first), (2, &second)])).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.all("Location"), ["http://localhost:9000/photos/big"]);
    assert!(reply.all("ETag")[0].ends_with("-2&quot;"), "{}", reply.text);
    let head = world.send(Ask::new("HEAD", "/photos/big")).await;
    assert_eq!((head.header("content-length"), head.header("x-amz-meta-n")), ("5242884", "1"));
    let asked = Ask::new("GET", "/photos/big?attributes").header("x-amz-object-attributes", "ObjectSize,ObjectParts");
    let told = world.send(asked).await;
    assert_eq!((told.all("ObjectSize"), told.all("PartsCount")), (vec!["5242884"], vec!["2"]));
    assert_eq!((told.all("PartNumber"), told.all("Size")), (vec!["1", "2"], vec!["5242880", "4"]));
    let page = |marker: &str| {
        let ask = Ask::new("GET", "/photos/big?attributes").header("x-amz-object-attributes", "ObjectParts");
        ask.header("x-amz-max-parts", "1").header("x-amz-part-number-marker", marker)
    };
    for (marker, number, next, truncated) in [("0", "1", vec!["1"], "true"), ("1", "2", vec![], "false")] {
        let told = world.send(page(marker)).await;
        assert_eq!((told.all("PartNumber"), told.all("NextPartNumberMarker")), (vec![number], next), "{}", told.text);
        assert_eq!((told.all("IsTruncated"), told.all("MaxParts")), (vec![truncated], vec!["1"]));
    }
    assert_eq!(world.send(page("2")).await.all("PartNumber").len(), 0);
    assert_eq!(world.send(page("x")).await.error().1, "InvalidArgument");
    let tail = world.get("/photos/big?partNumber=2").await;
    assert_eq!((tail.status, tail.text.as_str(), tail.header("x-amz-mp-parts-count")), (206, "tail", "2"));
    assert_eq!(world.get("/photos?uploads").await.all("UploadId").len(), 0);
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_and_the_upload_goes_on() {
    let world = World::with_bucket().await;
    let upload = start(&world).await;
    let first = part(&world, &upload, 1, Bytes::from_static(b"small")).await;
    let second = part(&world, &upload, 2, Bytes::from_static(b"tail")).await;
    let other = "\"00000000000000000000000000000000\"";
    for (parts, code) in [
        (vec![(1, first.as_str()), (2, &second)], "EntityTooSmall"),
        (vec![(2, &second), (1, &first)], "InvalidPartOrder"),
        (vec![(1, &first), (3, &second)], "InvalidPart"),
        (vec![(1, other)], "InvalidPart"),
        (vec![], "MalformedXML"),
    ] {
        let reply = world.send(complete(&upload, &parts)).await;
        assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, code));
    }
    assert_eq!(world.send(complete(&upload, &[(1, &first)])).await.status, 200);
    assert_eq!(world.get("/photos/big").await.text, "small");
}

#[tokio::test]
async fn an_upload_given_up_is_gone() {
    let world = World::with_bucket().await;
    let upload = start(&world).await;
    let target = format!("/photos/big?uploadId={upload}");
    assert_eq!(world.send(Ask::new("DELETE", &target)).await.status, 204);
    for reply in [world.get(&target).await, world.send(complete(&upload, &[(1, "\"\"")])).await] {
        assert!(matches!(reply.error().1, "NoSuchUpload" | "InvalidPart"), "{}", reply.text);
    }
    assert_eq!(world.get("/photos/big?uploadId=nonsense").await.error().1, "NoSuchUpload");
}

#[tokio::test]
async fn checksums_of_parts_become_one_of_the_object() {
    let world = World::with_bucket().await;
    let upload = start(&world).await;
    let mut sum = Algorithm::Crc32.start();
    sum.update(b"hello");
    let value = sum.finish();
    let target = format!("/photos/big?partNumber=1&uploadId={upload}");
    let reply = world.send(Ask::new("PUT", &target).body("hello").header("x-amz-checksum-crc32", &value)).await;
    let etag = reply.header("etag").to_owned();
    assert_eq!(reply.header("x-amz-checksum-crc32"), value);
    let wrong = complete(&upload, &[(1, &etag)]).header("x-amz-checksum-type", "FULL_OBJECT");
    let reply = world.send(wrong.header("x-amz-checksum-crc32", "AAAAAA==")).await;
    assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "BadDigest"));
    let right = complete(&upload, &[(1, &etag)]).header("x-amz-checksum-type", "FULL_OBJECT");
    let reply = world.send(right.header("x-amz-checksum-crc32", &value)).await;
    assert_eq!((reply.all("ChecksumCRC32"), reply.all("ChecksumType")), (vec![value.as_str()], vec!["FULL_OBJECT"]));
    let asked = Ask::new("GET", "/photos/big?attributes").header("x-amz-object-attributes", "ObjectParts");
    assert_eq!(world.send(asked).await.all("ChecksumCRC32"), [value.as_str()]);
}

#[tokio::test]
async fn a_part_may_be_copied() {
    let world = World::with_bucket().await;
    world.put("/photos/source", "0123456789").await;
    let upload = start(&world).await;
    let copy = Ask::new("PUT", &format!("/photos/big?partNumber=1&uploadId={upload}"))
        .header("x-amz-copy-source", "/photos/source")
        .header("x-amz-copy-source-range", "bytes=2-5");
    let reply = world.send(copy).await;
    let etag = reply.all("ETag")[0].replace("&quot;", "\"");
    assert_eq!(world.send(complete(&upload, &[(1, &etag)])).await.status, 200);
    assert_eq!(world.get("/photos/big").await.text, "2345");
}
