//! Storing, reading, copying and removing objects.

use http::StatusCode;

use super::*;

/// What the test clock shows.
const THEN: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

#[tokio::test]
async fn an_object_comes_back_with_all_that_was_said_about_it() {
    let world = World::with_bucket().await;
    let put = Ask::new("PUT", "/photos/dir/caf%C3%A9.html")
        .body("<h1>hi</h1>")
        .header("content-type", "text/html")
        .header("cache-control", "max-age=5")
        .header("content-encoding", "gzip")
        .header("content-disposition", "inline")
        .header("x-amz-meta-Author", "me")
        .header("x-amz-tagging", "a=b&c=d%20e");
    let reply = world.send(put).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let etag = reply.header("etag").to_owned();
    assert!(etag.len() == 34 && etag.starts_with('"'));
    for method in ["GET", "HEAD"] {
        let reply = world.send(Ask::new(method, "/photos/dir/caf%C3%A9.html")).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, if method == "GET" { "<h1>hi</h1>" } else { "" }));
        for (name, value) in [
            ("etag", etag.as_str()),
            ("content-length", "11"),
            ("content-type", "text/html"),
            ("cache-control", "max-age=5"),
            ("content-encoding", "gzip"),
            ("content-disposition", "inline"),
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("accept-ranges", "bytes"),
            ("x-amz-meta-author", "me"),
            ("x-amz-tagging-count", "2"),
            ("x-amz-server-side-encryption", "AES256"),
            ("content-security-policy", "sandbox"),
            ("x-content-type-options", "nosniff"),
            ("server", "Mainstay"),
        ] {
            assert_eq!(reply.header(name), value, "{method} {name}");
        }
        assert_eq!(reply.header("x-amz-request-id").len(), 16);
    }
    let tags = world.get("/photos/dir/caf%C3%A9.html?tagging").await;
    assert_eq!((tags.all("Key"), tags.all("Value")), (vec!["a", "c"], vec!["b", "d e"]));
}

#[tokio::test]
async fn a_missing_object_is_a_404_with_a_document_only_for_get() {
    let world = World::with_bucket().await;
    let reply = world.get("/photos/none").await;
    assert_eq!(reply.error(), (StatusCode::NOT_FOUND, "NoSuchKey"));
    assert_eq!(
        (reply.all("Resource"), reply.all("RequestId")),
        (vec!["/photos/none"], vec![reply.header("x-amz-request-id")])
    );
    assert_eq!(world.send(Ask::new("HEAD", "/photos/none")).await.text, "");
}

#[tokio::test]
async fn ranges_are_served_and_those_outside_refused() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "0123456789").await;
    for (range, status, text, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=5-99", 206, "56789", "bytes 5-9/10"),
        ("bytes=1-2,4-5", 200, "0123456789", ""),
        ("nonsense", 200, "0123456789", ""),
    ] {
        let reply = world.send(Ask::new("GET", "/photos/a").header("range", range)).await;
        let got = (reply.status, reply.text.as_str(), reply.header("content-range"));
        assert_eq!(got, (status, text, content_range), "{range}");
    }
    let reply = world.send(Ask::new("GET", "/photos/a").header("range", "bytes=10-")).await;
    assert_eq!(reply.error(), (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
    assert_eq!(reply.all("ActualObjectSize"), ["10"]);
}

#[tokio::test]
async fn conditions_on_reading_are_kept() {
    let world = World::with_bucket().await;
    let etag = world.put("/photos/a", "x").await.header("etag").to_owned();
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", "\"00000000000000000000000000000000\"", 412),
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "*", 304),
        ("if-modified-since", THEN, 304),
        ("if-unmodified-since", THEN, 200),
        ("if-unmodified-since", "Wed, 31 Dec 2025 00:00:00 GMT", 412),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = world.send(Ask::new(method, "/photos/a").header(name, value)).await;
            assert_eq!(reply.status, status, "{method} {name}: {value}");
        }
    }
    let resumed = Ask::new("GET", "/photos/a").header("range", "bytes=0-0").header("if-range", "\"other\"");
    assert_eq!(world.send(resumed).await.status, 200);
}

#[tokio::test]
async fn a_conditional_put_does_not_overwrite() {
    let world = World::with_bucket().await;
    let create = || Ask::new("PUT", "/photos/lock").body("1").header("if-none-match", "*");
    let etag = world.send(create()).await.header("etag").to_owned();
    assert_eq!(world.send(create()).await.error(), (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"));
    let swap = |etag: &str| Ask::new("PUT", "/photos/lock").body("2").header("if-match", etag);
    assert_eq!(world.send(swap(&etag)).await.status, 200);
    assert_eq!(world.send(swap(&etag)).await.status, 412);
    assert_eq!(world.get("/photos/lock").await.text, "2");
}

#[tokio::test]
async fn presigned_addresses_replace_headers() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "x").await;
    let target =
        "/photos/a?response-content-type=text%2Fhtml&response-content-disposition=attachment%3B%20filename%3D%22b%22";
    let reply = world.call(Ask::new("GET", target).presigned(&[])).await;
    assert_eq!(reply.header("content-type"), "text/html");
    assert_eq!(reply.header("content-disposition"), "attachment; filename=\"b\"");
    assert_eq!(reply.header("content-security-policy"), "sandbox");
}

#[tokio::test]
async fn a_presigned_put_with_the_checksum_of_nothing_in_its_query_works() {
    let world = World::with_bucket().await;
    let target = "/photos/a?x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-amz-meta-by=me";
    let reply = world.call(Ask::new("PUT", target).body("hello").presigned(&[])).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(world.get("/photos/a").await.header("x-amz-meta-by"), "me");
    let wrong = Ask::new("PUT", "/photos/b?x-amz-checksum-crc32=AAAAAQ%3D%3D").body("hello").presigned(&[]);
    assert_eq!(world.call(wrong).await.error(), (StatusCode::BAD_REQUEST, "BadDigest"));
}

#[tokio::test]
async fn metadata_and_tags_are_capped() {
    let world = World::with_bucket().await;
    let put = |name: &str, value: &str| Ask::new("PUT", "/photos/a").body("x").header(name, value);
    let reply = world.send(put("x-amz-meta-a", &"v".repeat(2048))).await;
    assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "MetadataTooLarge"));
    assert_eq!(world.send(put("x-amz-meta-a", &"v".repeat(2047))).await.status, 200);
    for tags in ["a=1&a=2", "=1", &format!("a={}", "v".repeat(257)), "a&b&c&d&e&f&g&h&i&j&k"] {
        assert_eq!(world.send(put("x-amz-tagging", tags)).await.error().1, "InvalidArgument", "{tags}");
    }
}

#[tokio::test]
async fn a_key_too_long_is_told_so() {
    let world = World::with_bucket().await;
    let reply = world.put(&format!("/photos/{}", "k".repeat(1025)), "x").await;
    assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "KeyTooLongError"));
}

#[tokio::test]
async fn a_copy_keeps_or_replaces_metadata() {
    let world = World::with_bucket().await;
    world.send(Ask::new("PUT", "/photos/a%20b").body("x").header("x-amz-meta-n", "1")).await;
    let copy = |to: &str| Ask::new("PUT", to).header("x-amz-copy-source", "photos/a%20b");
    assert_eq!(world.send(copy("/photos/kept")).await.all("ETag").len(), 1);
    assert_eq!(world.get("/photos/kept").await.header("x-amz-meta-n"), "1");
    let replaced = copy("/photos/new").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-n", "2");
    world.send(replaced).await;
    assert_eq!(world.get("/photos/new").await.header("x-amz-meta-n"), "2");
    assert_eq!(world.send(copy("/photos/a%20b")).await.error().1, "InvalidRequest");
    let stale = copy("/photos/c").header("x-amz-copy-source-if-none-match", "*");
    assert_eq!(world.send(stale).await.error().1, "PreconditionFailed");
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let world = World::with_bucket().await;
    for key in ["a", "b", "c"] {
        world.put(&format!("/photos/{key}"), "x").await;
    }
    let document = "<Delete><Object><Key>a</Key></Object><Object><Key>nothing</Key></Object>\
                    <Object><Key>b</Key><VersionId>7</VersionId></Object></Delete>";
    let reply = world.send(Ask::new("POST", "/photos?delete").body(document)).await;
    assert_eq!(reply.all("Deleted"), ["<Key>a</Key>", "<Key>nothing</Key>"]);
    assert_eq!(reply.all("Code"), ["NoSuchVersion"]);
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let reply = world.send(Ask::new("POST", "/photos?delete").body(quiet)).await;
    assert_eq!((reply.status, reply.all("Deleted").len()), (200, 0));
    assert_eq!(world.get("/photos").await.all("Key"), ["c"]);
}

#[tokio::test]
async fn a_deletion_that_is_no_document_deletes_nothing() {
    let world = World::with_bucket().await;
    let many = format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1001));
    for document in ["<Delete/>", "<Delete><Object/></Delete>", "<Remove/>", "", &many] {
        let reply = world.send(Ask::new("POST", "/photos?delete").body(document.to_owned())).await;
        assert_eq!(reply.error().1, "MalformedXML", "{}", document.get(..30).unwrap_or(document));
    }
}
