//! Buckets, listings, health.

use http::StatusCode;

use super::*;

#[tokio::test]
async fn a_bucket_lives_from_put_to_delete() {
    let world = World::new();
    assert_eq!(world.send(Ask::new("HEAD", "/photos")).await.status, 404);
    assert_eq!(world.send(Ask::new("PUT", "/photos/")).await.header("location"), "/photos");
    assert_eq!(world.send(Ask::new("PUT", "/photos")).await.status, 200);
    assert_eq!(world.send(Ask::new("HEAD", "/photos")).await.header("x-amz-bucket-region"), "us-east-1");
    let list = world.get("/").await;
    assert_eq!((list.all("Name"), list.all("CreationDate").len()), (vec!["photos"], 1));
    world.put("/photos/a", "x").await;
    let full = world.send(Ask::new("DELETE", "/photos")).await;
    assert_eq!(full.error(), (StatusCode::CONFLICT, "BucketNotEmpty"));
    assert_eq!(world.send(Ask::new("DELETE", "/photos/a")).await.status, 204);
    assert_eq!(world.send(Ask::new("DELETE", "/photos")).await.status, 204);
    assert_eq!(world.get("/photos").await.error(), (StatusCode::NOT_FOUND, "NoSuchBucket"));
}

#[tokio::test]
async fn names_that_break_the_rules_are_told_so() {
    let world = World::new();
    for name in ["ab", "Photos", "192.168.5.4", "a_b"] {
        let reply = world.send(Ask::new("PUT", &format!("/{name}"))).await;
        assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "InvalidBucketName"), "{name}");
    }
}

#[tokio::test]
async fn a_bucket_for_another_region_is_refused() {
    let world = World::new();
    let document = |region: &str| {
        format!(
            "<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    let reply = world.send(Ask::new("PUT", "/photos").body(document("mars-1"))).await;
    assert_eq!(reply.error(), (StatusCode::BAD_REQUEST, "IllegalLocationConstraintException"));
    assert_eq!(world.send(Ask::new("PUT", "/photos").body(document("us-east-1"))).await.status, 200);
}

#[tokio::test]
async fn what_stock_tools_ask_first_is_answered_truly() {
    let world = World::with_bucket().await;
    assert!(
        world
            .get("/photos?location")
            .await
            .text
            .ends_with("<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"></LocationConstraint>")
    );
    for (target, part) in [
        ("versioning", "<VersioningConfiguration "),
        ("acl", "<Permission>FULL_CONTROL</Permission>"),
        ("encryption", "<SSEAlgorithm>AES256</SSEAlgorithm>"),
        ("uploads", "<IsTruncated>false</IsTruncated>"),
    ] {
        let reply = world.get(&format!("/photos?{target}")).await;
        assert!(reply.status == 200 && reply.text.contains(part), "{target}: {}", reply.text);
    }
    for (target, code) in [
        ("policy", "NoSuchBucketPolicy"),
        ("cors", "NoSuchCORSConfiguration"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("tagging", "NoSuchTagSet"),
    ] {
        let reply = world.get(&format!("/photos?{target}")).await;
        assert_eq!(reply.error(), (StatusCode::NOT_FOUND, code));
    }
    let reply = world.get("/photos?inventory").await;
    assert_eq!(reply.error(), (StatusCode::NOT_IMPLEMENTED, "NotImplemented"));
}

#[tokio::test]
async fn the_host_may_name_the_bucket() {
    let world = World::with_bucket().await;
    world.put("/photos/a/b", "x").await;
    let reply = world.send(Ask::new("GET", "/a/b").header("host", "photos.localhost:9000")).await;
    assert_eq!(reply.text, "x");
}

async fn filled() -> World {
    let world = World::with_bucket().await;
    for key in ["a", "b/1", "b/2", "c%20d", "e%3Cf"] {
        assert_eq!(world.put(&format!("/photos/{key}"), "x").await.status, 200);
    }
    world
}

#[tokio::test]
async fn both_listings_roll_up_and_page() {
    let world = filled().await;
    let page = world.get("/photos?delimiter=%2F&max-keys=2").await;
    assert_eq!(page.all("Key"), ["a"]);
    assert_eq!(page.all("Prefix"), ["", "b/"]);
    assert_eq!((page.all("IsTruncated"), page.all("NextMarker")), (vec!["true"], vec!["b/"]));
    let rest = world.get("/photos?delimiter=%2F&marker=b%2F").await;
    assert_eq!((rest.all("Key"), rest.all("IsTruncated")), (vec!["c d", "e&lt;f"], vec!["false"]));

    let page = world.get("/photos?list-type=2&max-keys=3").await;
    assert_eq!((page.all("Key"), page.all("KeyCount")), (vec!["a", "b/1", "b/2"], vec!["3"]));
    assert_eq!(page.all("Owner").len(), 0);
    let token = page.all("NextContinuationToken")[0];
    let rest = world.get(&format!("/photos?list-type=2&fetch-owner=true&continuation-token={token}")).await;
    assert_eq!((rest.all("Key").len(), rest.all("Owner").len()), (2, 2));
    let after = world.get("/photos?list-type=2&start-after=b%2F2&prefix=").await;
    assert_eq!(after.all("Key"), ["c d", "e&lt;f"]);
    let none = world.get("/photos?list-type=2&max-keys=0").await;
    assert_eq!((none.all("KeyCount"), none.all("IsTruncated")), (vec!["0"], vec!["false"]));
}

#[tokio::test]
async fn keys_are_encoded_when_asked() {
    let world = filled().await;
    let page = world.get("/photos?encoding-type=url&prefix=c").await;
    assert_eq!((page.all("Key"), page.all("EncodingType")), (vec!["c%20d"], vec!["url"]));
    assert_eq!(world.get("/photos?encoding-type=xml").await.error().1, "InvalidArgument");
}

#[tokio::test]
async fn versions_are_listed_though_there_is_one_each() {
    let world = filled().await;
    let page = world.get("/photos?versions&max-keys=1").await;
    assert_eq!((page.all("Key"), page.all("VersionId")), (vec!["a"], vec!["null"]));
    assert_eq!(page.all("NextKeyMarker"), ["a"]);
    let rest = world.get("/photos?versions&key-marker=a").await;
    assert_eq!(rest.all("Version").len(), 4);
}

#[tokio::test]
async fn a_malformed_page_request_is_told_so() {
    let world = World::with_bucket().await;
    for query in ["max-keys=x", "max-keys=-1", "list-type=2&continuation-token=%21"] {
        assert_eq!(world.get(&format!("/photos?{query}")).await.error().1, "InvalidArgument", "{query}");
    }
}

#[tokio::test]
async fn health_is_told_without_a_key() {
    let world = World::new();
    for path in ["live", "ready", "cluster", "cluster/read"] {
        let reply = world.call(Ask::new("GET", &format!("/minio/health/{path}")).unsigned()).await;
        assert_eq!((reply.status, reply.header("x-minio-server-status")), (200, "online"));
    }
    assert_eq!(world.call(Ask::new("GET", "/minio/health/x").unsigned()).await.status, 403);
}
