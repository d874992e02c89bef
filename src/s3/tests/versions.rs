//! Versioning and tags as clients see them.

use super::*;

const ENABLED: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

async fn versioned() -> World {
    let world = World::with_bucket().await;
    assert!(!world.get("/photos?versioning").await.text.contains("Status"));
    assert_eq!(world.put("/photos?versioning", ENABLED).await.status, 200);
    assert_eq!(world.get("/photos?versioning").await.all("Status"), ["Enabled"]);
    world
}

#[tokio::test]
async fn a_version_is_read_by_its_id_until_it_is_deleted_by_it() {
    let world = versioned().await;
    let first = world.put("/photos/a", "first").await.header("x-amz-version-id").to_owned();
    let second = world.put("/photos/a", "second").await.header("x-amz-version-id").to_owned();
    let old = world.get(&format!("/photos/a?versionId={first}")).await;
    assert_eq!((old.text.as_str(), old.header("x-amz-version-id")), ("first", first.as_str()));
    let deleted = world.send(Ask::new("DELETE", "/photos/a")).await;
    assert_eq!((deleted.status, deleted.header("x-amz-delete-marker")), (204, "true"));
    let marker = deleted.header("x-amz-version-id").to_owned();
    let gone = world.get("/photos/a").await;
    assert_eq!(gone.error(), (StatusCode::NOT_FOUND, "NoSuchKey"));
    assert_eq!((gone.header("x-amz-delete-marker"), gone.header("x-amz-version-id")), ("true", marker.as_str()));
    let named = world.get(&format!("/photos/a?versionId={marker}")).await;
    assert_eq!(named.error(), (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"));
    let listed = world.get("/photos?versions").await;
    assert_eq!(listed.all("VersionId"), [marker.as_str(), &second, &first]);
    assert_eq!(listed.all("IsLatest"), ["true", "false", "false"]);
    let page = world.get("/photos?versions&max-keys=2").await;
    let (key, id) = (page.all("NextKeyMarker")[0], page.all("NextVersionIdMarker")[0]);
    let rest = world.get(&format!("/photos?versions&key-marker={key}&version-id-marker={id}")).await;
    assert_eq!(rest.all("VersionId"), [first.as_str()]);
    let alone = world.get(&format!("/photos?versions&version-id-marker={id}")).await;
    assert_eq!(alone.error(), (StatusCode::BAD_REQUEST, "InvalidArgument"));
    let back = world.send(Ask::new("DELETE", &format!("/photos/a?versionId={marker}"))).await;
    assert_eq!((back.status, back.header("x-amz-delete-marker")), (204, "true"));
    assert_eq!(world.get("/photos/a").await.text, "second");
    let copied = Ask::new("PUT", "/photos/a").header("x-amz-copy-source", &format!("/photos/a?versionId={first}"));
    let copied = world.send(copied).await;
    assert_eq!((copied.status, copied.header("x-amz-copy-source-version-id")), (200, first.as_str()));
    assert_eq!(world.get("/photos/a").await.text, "first");
}

#[tokio::test]
async fn many_versions_go_in_one_request() {
    let world = versioned().await;
    let id = world.put("/photos/a", "a").await.header("x-amz-version-id").to_owned();
    world.put("/photos/b", "b").await;
    let document = format!(
        "<Delete><Object><Key>a</Key><VersionId>{id}</VersionId></Object><Object><Key>b</Key></Object>\
         <Object><Key>c</Key><VersionId>x</VersionId></Object></Delete>"
    );
    let reply = world.send(Ask::new("POST", "/photos?delete").body(document)).await;
    assert_eq!((reply.all("VersionId"), reply.all("DeleteMarker")), (vec![id.as_str(), "x"], vec!["true"]));
    assert_eq!((reply.all("DeleteMarkerVersionId").len(), reply.all("Code")), (1, vec!["NoSuchVersion"]));
    let listed = world.get("/photos?versions").await;
    assert_eq!(listed.all("Key"), ["b", "b"]);
}

#[tokio::test]
async fn versioning_takes_two_states_and_no_second_factor() {
    let world = versioned().await;
    let put = async |document: &'static str| world.put("/photos?versioning", document).await;
    let mfa =
        "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>";
    assert_eq!(put(mfa).await.error(), (StatusCode::NOT_IMPLEMENTED, "NotImplemented"));
    let other = put("<VersioningConfiguration><Status>On</Status></VersioningConfiguration>").await;
    assert_eq!(other.error().1, "IllegalVersioningConfigurationException");
    let suspended = put("<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>").await;
    assert_eq!(suspended.status, 200);
    assert_eq!(world.get("/photos?versioning").await.all("Status"), ["Suspended"]);
    assert_eq!(world.put("/photos/a", "a").await.header("x-amz-version-id"), "null");
    let delete = Ask::new("DELETE", "/photos/a?versionId=null").header("x-amz-mfa", "device 123456");
    assert_eq!(world.send(delete).await.error().1, "NotImplemented");
}

#[tokio::test]
async fn tags_are_set_read_and_taken_away_and_bad_ones_refused() {
    let world = World::with_bucket().await;
    world.put("/photos/a", "a").await;
    let etag = world.get("/photos/a").await.header("etag").to_owned();
    let tags = "<Tagging><TagSet><Tag><Key>k &amp; l</Key><Value>v</Value></Tag></TagSet></Tagging>";
    assert_eq!(world.put("/photos/a?tagging", tags).await.status, 200);
    assert_eq!(world.get("/photos/a?tagging").await.all("Key"), ["k &amp; l"]);
    let head = world.get("/photos/a").await;
    assert_eq!(
        (head.header("x-amz-tagging-count"), head.header("etag"), head.text.as_str()),
        ("1", etag.as_str(), "a")
    );
    for bad in [
        "<Tagging><TagSet><Tag><Key></Key><Value>v</Value></Tag></TagSet></Tagging>",
        "<Tagging><TagSet><Tag><Key>a</Key><Value/></Tag><Tag><Key>a</Key><Value/></Tag></TagSet></Tagging>",
    ] {
        assert_eq!(world.put("/photos/a?tagging", bad).await.error().1, "InvalidTag");
    }
    assert_eq!(world.put("/photos/a?tagging", "<Tagging/>").await.error().1, "MalformedXML");
    assert_eq!(world.put("/photos/none?tagging", tags).await.error().1, "NoSuchKey");
    assert_eq!(world.send(Ask::new("DELETE", "/photos/a?tagging")).await.status, 204);
    assert!(world.get("/photos/a?tagging").await.all("Key").is_empty());
}
