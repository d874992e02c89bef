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
        ("requestPayment", "<Payer>BucketOwner</Payer>"),
        ("accelerate", "<AccelerateConfiguration "),
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
async fn what_cannot_be_another_way_may_be_set_to_what_it_is_and_to_nothing_else() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "x").await;
    let encryption = |rest: &str| {
        format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>{rest}\
             </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        )
    };
    let acl = |grantee: &str, permission: &str| {
        format!(
            "<AccessControlPolicy><AccessControlList><Grant><Grantee>{grantee}</Grantee>\
             <Permission>{permission}</Permission></Grant></AccessControlList></AccessControlPolicy>"
        )
    };
    let group = "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>";
    for (target, document, status, code) in [
        ("/photos?encryption", encryption("<SSEAlgorithm>AES256</SSEAlgorithm>"), 200, ""),
        ("/photos?encryption", encryption("<SSEAlgorithm>aws:kms</SSEAlgorithm>"), 501, "NotImplemented"),
        ("/photos?encryption", "<ServerSideEncryptionConfiguration/>".to_owned(), 400, "MalformedXML"),
        ("/none?encryption", encryption("<SSEAlgorithm>AES256</SSEAlgorithm>"), 404, "NoSuchBucket"),
        ("/photos?acl", acl("<ID>mainstay</ID>", "FULL_CONTROL"), 200, ""),
        ("/photos/a?acl", acl("<ID>mainstay</ID>", "FULL_CONTROL"), 200, ""),
        ("/photos/a?acl", acl("<ID>mainstay</ID>", "READ"), 501, "NotImplemented"),
        ("/photos/a?acl", acl(group, "FULL_CONTROL"), 501, "NotImplemented"),
        ("/photos/none?acl", acl("<ID>mainstay</ID>", "FULL_CONTROL"), 404, "NoSuchKey"),
        ("/photos/a?acl", String::new(), 400, "MalformedXML"),
        ("/photos?notification", "<NotificationConfiguration/>".to_owned(), 200, ""),
        (
            "/photos?notification",
            "<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>".to_owned(),
            501,
            "NotImplemented",
        ),
    ] {
        let reply = world.send(Ask::new("PUT", target).body(document.clone())).await;
        assert_eq!((reply.status, reply.error().1), (status, code), "{target} {document}");
    }
    for (name, value, status) in [
        ("x-amz-acl", "private", 200),
        ("x-amz-acl", "public-read", 501),
        ("x-amz-grant-read", "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"", 501),
    ] {
        for target in ["/photos?acl", "/photos/a?acl"] {
            assert_eq!(
                world.send(Ask::new("PUT", target).header(name, value)).await.status,
                status,
                "{target} {value}"
            );
        }
    }
    assert_eq!(world.send(Ask::new("DELETE", "/photos?encryption")).await.status, 204);
    assert!(world.get("/photos?encryption").await.text.contains("AES256"));
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
